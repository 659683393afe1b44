"""What selection lost, from weights to the stored table, the JSON and the terminal."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest

from calibration_core.common.area_weights import TableWeights
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.select.pool import Pool
from pipeline.assets.common import PROJECT_ROOT
from pipeline.io_manager import encode, write_atomic
from pipeline.reports import loss_rows
from pipeline.reports import selection_report as report
from pipeline.reports.loss_points import income_points
from pipeline.reports.show import selection_loss
from pipeline.reports.show_loss import loss_lines, print_loss
from pipeline.settings import RunEnvironment
from pipeline.stored import content_digest
from pipeline.vocabulary import design_columns, key_of
from pipeline.weights.table import StoredWeights

TREE = GeographyTree.from_leaves(
    ["state", "county", "tract"],
    [["44"] * 3, ["44001", "44001", "44003"], ["44001000100", "44001000200", "44003000100"]],
)
UNITS = pl.DataFrame(
    {
        "household_id": ["a", "b", "c", "d"],
        "cell": [0, 0, 1, 2],
        "order": [0.0, 30e3, 60e3, 90e3],
        "persons|total": [1.0, 2.0, 3.0, 4.0],
        "persons|poor": [1.0, 0.0, 0.0, 0.0],
        "usd_household_income|total": [0.0, 30e3, 60e3, 90e3],
        "usd_wages|total": [0.0, 30e3, 20e3, 90e3],
        "usd_wages|agi_1_9999": [0.0, 1.0, 0.0, 0.0],
        "usd_ssi|households": [5e3, 0.0, 0.0, 0.0],
    }
)
DENSE = np.array([[10.0, 10.0, 10.0, 10.0], [5.0, 5.0, 0.0, 10.0], [2.0, 4.0, 6.0, 8.0]])
CELLS = pl.DataFrame(
    {
        "cell": [0, 1, 2],
        "label": ["small, young", "small, old", "large, young"],
        "size": ["small", "small", "large"],
        "age": ["young", "old", "young"],
    }
)
# Cell 1 is lost in the first tract.
LEAF, RECORD, WEIGHTS = (
    np.array([0, 0, 1, 1, 1, 2, 2, 2]),
    np.array([1, 3, 0, 1, 3, 0, 2, 3]),
    np.array([20.0, 20.0, 5.0, 5.0, 10.0, 6.0, 6.0, 8.0]),
)
WRITTEN = np.nonzero(DENSE)
STORED = StoredWeights(TableWeights(DENSE), LEAF, RECORD, WEIGHTS)
NO_TARGETS = make_targets(
    TREE, [np.zeros((4, 0))] * 3, *([np.zeros((size, 0)) for size in TREE.sizes] for _ in "vs")
)
POOL = Pool(
    TREE, NO_TARGETS, DENSE, UNITS["cell"].to_numpy(), UNITS["order"].to_numpy(), np.zeros((4, 0))
)
UNIT_OF = {
    key_of(name): "usd" if name.startswith("usd") else "persons"
    for name in design_columns(UNITS.columns)
}


def targets() -> pl.DataFrame:
    rows = [
        ("state", "44", "persons", "poor", "poverty", "persons", 20.0, 20.0, "validation"),
        ("county", "44001", "persons", "poor", "poverty", "persons", 10.0, 10.0, "validation"),
        ("county", "44003", "persons", "poor", "poverty", "persons", 0.0, 0.0, "validation"),
        (
            "tract",
            "44001000100",
            "usd_ssi",
            "households",
            "benefits",
            "usd",
            None,
            100e3,
            "validation",
        ),
        (
            "tract",
            "44001000200",
            "usd_ssi",
            "households",
            "benefits",
            "usd",
            None,
            None,
            "validation",
        ),
        (
            "tract",
            "44001000100",
            "persons",
            "total",
            "population",
            "persons",
            100.0,
            100.0,
            "calibrate",
        ),
        (
            "tract",
            "44001000100",
            "households",
            "owner",
            "tenure",
            "households",
            9.0,
            9.0,
            "dropped",
        ),
        (
            "tract",
            "44001000100",
            "households",
            "owner",
            "tenure",
            "households",
            9.0,
            9.0,
            "validation",
        ),
        ("nation", "", "persons", "poor", "poverty", "persons", 1e3, 1e3, "validation"),
    ]
    names = [
        "level",
        "geoid",
        "variable",
        "domain",
        "family",
        "unit",
        "value",
        "published_value",
        "role",
    ]
    return pl.DataFrame(rows, schema=names, orient="row")


def whole(leaf=LEAF, record=RECORD, weights=WEIGHTS) -> pl.DataFrame:
    stored = StoredWeights(TableWeights(DENSE), leaf, record, weights)
    _, table = loss_rows.measured_loss(POOL, UNITS, CELLS, stored, UNIT_OF)
    return pl.concat([table, loss_rows.held_out_rows(targets(), TREE, UNITS, stored)])


def row(table: pl.DataFrame, measure: str, geoid: str = "44", variable: str = "") -> dict:
    found = table.filter(
        (pl.col("measure") == measure)
        & (pl.col("geoid") == geoid)
        & (pl.col("variable") == variable)
    )
    assert found.height == 1, (measure, geoid, variable)
    return found.row(0, named=True)


def test_amounts_over_everybody_are_the_continuous_variables_or_else_the_order():
    assert loss_rows.amount_columns(UNITS, UNIT_OF) == [
        "usd_household_income|total",
        "usd_wages|total",
        "usd_ssi|households",
    ]
    counts = UNITS.select("household_id", "cell", "order", "persons|total")
    assert loss_rows.amount_columns(counts, UNIT_OF) == ["order"]


def test_the_table_has_each_measure_of_each_area_once():
    table = whole()
    assert dict(table.schema) == report.SCHEMA
    assert not table.select("measure", "level", "geoid", "variable").is_duplicated().any()
    assert not any(
        table[name].is_nan().any() for name in ("dense", "selected", "difference", "reference")
    ), "no figure is null, never NaN"
    assert row(table, "uncovered_share", "44001000100")["difference"] == pytest.approx(0.25)
    assert row(table, "cell_distance", "44001000100")["difference"] == pytest.approx(0.25)
    ess = row(table, "ess", "44001000100")
    assert (ess["dense"], ess["selected"], ess["difference"]) == (
        pytest.approx(4.0),
        pytest.approx(2.0),
        pytest.approx(-2.0),
    )
    assert (
        row(table, "pairs")["selected"] == 8
        and row(table, "pairs_without_dense_weight")["selected"] == 0
    )
    share = row(table, "cell_share", variable="small, old")
    assert (share["dense"], share["selected"]) == (pytest.approx(16 / 80), pytest.approx(6 / 80))
    positive = row(table, "positive_share", variable="usd_ssi|households")
    assert (positive["dense"], positive["selected"], positive["unit"]) == (
        pytest.approx(17 / 80),
        pytest.approx(11 / 80),
        "share",
    )
    assert row(table, "quantile_50", variable="usd_ssi|households")["selected"] == 5e3


def test_shares_of_categories_are_those_of_their_cells():
    table = whole()
    small = row(table, "category_share", variable="size: small")
    assert (small["dense"], small["selected"]) == (pytest.approx(52 / 80), pytest.approx(42 / 80))
    for name in ("size", "age"):
        of_class = table.filter(
            (pl.col("measure") == "category_share") & pl.col("variable").str.starts_with(name)
        )
        assert of_class["selected"].sum() == pytest.approx(1.0)
    summary = report.loss_summary(table)
    assert summary["cells"][-1]["cell"] == "small, young", (
        "36 of 80 under both: the smallest difference comes last"
    )
    assert [abs(r["difference"]) for r in summary["categories"]] == pytest.approx([10 / 80] * 4)
    assert dict(loss_lines(summary))["furthest cell"].endswith(" selected")


def test_cells_of_one_name_or_of_none_keep_their_number():
    alike = CELLS.with_columns(label=pl.Series(["small", "small", None]))
    _, table = loss_rows.measured_loss(POOL, UNITS, alike, STORED, UNIT_OF)
    assert table.filter(pl.col("measure") == "cell_share")["variable"].to_list() == [
        "small (cell 0)",
        "small (cell 1)",
        "cell 2",
    ]


def test_dense_weights_written_out_differ_in_nothing():
    table = whole(*WRITTEN, DENSE[WRITTEN])
    assert table["difference"].drop_nulls().abs().max() < 1e-9
    assert set(report.held_out_errors(table)["median_moved"].drop_nulls()) == {0.0}


def test_held_out_targets_are_those_kept_for_validation_that_the_records_express():
    held = whole().filter(pl.col("measure") == "held_out")
    assert held.select("level", "geoid", "variable").rows() == [
        ("state", "44", "persons|poor"),
        ("county", "44001", "persons|poor"),
        ("county", "44003", "persons|poor"),
        ("tract", "44001000100", "usd_ssi|households"),
    ], (
        "no calibrated, dropped, unpublished or national target, and none the candidates have no"
        " column for"
    )
    assert held["dense"].to_list() == [17.0, 15.0, 2.0, 50e3]
    assert held["selected"].to_list() == [11.0, 5.0, 6.0, 0.0]
    assert held["reference"].to_list() == [20.0, 10.0, 0.0, 100e3]


def test_errors_of_held_out_targets():
    errors = report.held_out_errors(whole())
    assert errors["level"].to_list() == ["state", "county", "tract"]
    assert errors["targets"].to_list() == [1, 2, 1]
    assert errors["next_to_zero"].to_list() == [0, 1, 0]
    assert errors["median_error_dense"].to_list() == pytest.approx([0.15, 0.5, 0.5])
    assert errors["median_error_selected"].to_list() == pytest.approx([0.45, 0.5, 1.0])
    assert errors["median_moved"].to_list() == pytest.approx([0.3, 1.0, 0.5])
    families = report.held_out_errors(whole(), ("level", "family"))
    assert families.select("level", "family").rows() == [
        ("state", "poverty"),
        ("county", "poverty"),
        ("tract", "benefits"),
    ]


def test_the_worst_area_has_the_least_sample_size_and_the_largest_distance():
    areas = {
        (r["level"], r["measure"], r["variable"]): r for r in report.by_area(whole()).to_dicts()
    }
    tract = areas["tract", "uncovered_share", ""]
    assert (tract["areas"], tract["worst"], tract["worst_geoid"]) == (
        3,
        pytest.approx(0.25),
        "44001000100",
    )
    least = areas["tract", "ess", ""]
    assert (least["worst"], least["worst_geoid"]) == (pytest.approx(2.0), "44001000100")
    assert areas["tract", "kolmogorov", report.INCOME]["areas"] == 3


def test_an_area_that_lost_all_its_pairs_is_named():
    keep = LEAF != 2
    table = whole(LEAF[keep], RECORD[keep], WEIGHTS[keep])
    summary = report.loss_summary(table)
    assert summary["areas_without_pairs"] == ["44003", "44003000100"]
    assert row(table, "ess", "44003000100")["selected"] is None
    assert (
        next(text for name, text in loss_lines(summary) if name == "areas without a pair")
        == "2, first 44003"
    )


def test_the_income_curve_begins_with_all_that_lies_below():
    points, note = income_points(UNITS, STORED)
    dense, selected = (points.filter(pl.col("weights") == name) for name in ("dense", "selected"))
    assert dense["value"].to_list() == [1e3, 30e3, 60e3, 90e3]
    assert dense["share"].to_list() == pytest.approx([17 / 80, 36 / 80, 52 / 80, 1.0])
    assert selected["share"].to_list() == pytest.approx([11 / 80, 36 / 80, 42 / 80, 1.0])
    assert "78.8% dense" in note and "86.2% selected" in note


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    made = RunEnvironment("sample", tmp_path, tmp_path)
    write_atomic(made.table_path("weights", "RI"), encode(pl.DataFrame({"weight": [1.0]}), {}))
    return made


def store(environment: RunEnvironment, digest: str) -> None:
    write_atomic(
        environment.table_path("selection_report", "RI"),
        encode(whole(), {"inputs": {"weights[RI]": digest}}),
    )


def test_an_older_run_says_what_to_materialise(environment):
    loss = selection_loss(environment, "RI")
    assert list(loss) == ["missing"]
    assert loss["missing"].startswith(
        "There is no selection_report of RI: materialise selection_report of RI"
    )
    store(environment, "of other weights")
    assert "made from other weights" in selection_loss(environment, "RI")["missing"]


def test_the_document_is_json_and_every_key_is_documented(environment):
    store(environment, content_digest(environment.table_path("weights", "RI").read_bytes()))
    loss = json.loads(json.dumps(selection_loss(environment, "RI"), allow_nan=False))
    assert loss["missing"] == ""
    text = (PROJECT_ROOT / "docs" / "dagster.md").read_text()
    keys = {
        *loss,
        *loss["amounts"][0],
        *loss["correlations"],
        *loss["correlations"]["rank"],
        *loss["weights"],
        *loss["weights"]["ess"],
    }
    keys |= {
        *loss["cells"][0],
        *loss["categories"][0],
        *loss["areas"][0],
        *loss["held_out"][0],
        *loss["held_out_families"][0],
        *(r["measure"] for r in loss["areas"]),
    }
    keys -= {f"quantile_{p}" for p in (25, 50, 75, 90)}
    assert not [key for key in sorted(keys) if f"`{key}`" not in text]
    assert loss["weights"]["ess"]["selected"] == pytest.approx(80**2 / (WEIGHTS**2).sum())


def test_the_section_is_printed_or_says_why_not(environment):
    from rich.console import Console

    def printed() -> str:
        console = Console(record=True, width=160, file=io.StringIO())
        print_loss(
            {"synthetic": True, "selection_loss": selection_loss(environment, "RI")}, console
        )
        return console.export_text()

    assert "There is no selection_report of RI" in printed()
    store(environment, content_digest(environment.table_path("weights", "RI").read_bytes()))
    text = printed()
    assert (
        "SYNTHETIC" in text
        and "1 targets nobody fitted (1 next to zero left out)" in text
        and "44001000100" in text
    )
