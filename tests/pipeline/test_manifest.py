"""The run manifest, the report of a state that `geocal show` prints, and the tables around them."""

from __future__ import annotations

import hashlib
import io
import json

import dagster as dg
import polars as pl
import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.errors import StoreError
from pipeline.io_manager import encode, file_digest, write_atomic
from pipeline.manifest import build_manifest, read_manifest, write_manifest
from pipeline.reports.show import not_fitted, state_report
from pipeline.reports.show_tables import print_fit, print_state
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment, ensure_instance_home
from pipeline.stored import content_digest
from pipeline.targets.moves import moved
from pipeline.versions import package_versions
from tests.pipeline.toy import toy_definitions

FACTS = {
    "profile": "sample",
    "synthetic": True,
    "target_year": 2022,
    "seed": 7,
    "specs_sha256": "a" * 64,
    "code_sha256": "b" * 12,
}


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def manifest_of(environment: RunEnvironment, state: str, definitions: dg.Definitions) -> dict:
    graph = definitions.resolve_asset_graph()
    assets = {
        key: graph.get(key).is_partitioned
        for key in graph.get_all_asset_keys()
        if key != dg.AssetKey("national_report")
    }
    with dg.DagsterInstance.from_config(str(ensure_instance_home(environment))) as instance:
        return build_manifest(instance, environment, assets, state, FACTS)


def test_a_manifest_names_inputs_versions_and_seconds(environment):
    definitions = toy_definitions(environment)
    run_profile(definitions, environment, ["RI"])
    raw = {"provenance": [{"file": "irs/a.csv", "member": "", "bytes": 3, "sha256": "c" * 64}]}
    write_atomic(environment.table_path("nation"), encode(pl.DataFrame({"total": [10.0]}), raw))
    manifest = manifest_of(environment, "RI", definitions)
    assert {**FACTS, "state": "RI"}.items() <= manifest.items()
    assert manifest["inputs"] == [{**raw["provenance"][0], "tables": ["nation"]}]
    table = manifest["tables"]["weights"]
    assert table["path"] == "weights/state=RI/weights.parquet"
    assert (
        table["sha256"]
        == hashlib.sha256(environment.table_path("weights", "RI").read_bytes()).hexdigest()
    )
    assert table["rows"] == 1
    assert manifest["seconds_by_asset"]["weights"] >= 0
    assert manifest["seconds_total"] == pytest.approx(
        sum(manifest["seconds_by_asset"].values()), abs=0.002
    )
    assert manifest["peak_memory_mb"] > 10
    assert manifest["packages"]["dagster"] == package_versions(["dagster"])["dagster"]


def test_a_manifest_of_one_state_says_nothing_of_another(environment):
    definitions = toy_definitions(environment)
    run_profile(definitions, environment, ["DE"])
    assert "weights" not in manifest_of(environment, "RI", definitions)["tables"]


def test_manifests_are_read_back_and_a_missing_one_says_what_to_run(environment):
    write_manifest(environment, "RI", {"state": "RI"})
    assert read_manifest(environment, "RI") == {"state": "RI"}
    with pytest.raises(StoreError, match="geocal run --profile sample --states DE"):
        read_manifest(environment, "DE")


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b'{"state": "RI", "tab', id="cut short"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[1]\n", id="no object"),
        pytest.param(b"\xff\xfe\x00", id="no text"),
    ],
)
def test_a_damaged_manifest_says_how_to_make_it_anew(environment, content):
    environment.manifests.mkdir(parents=True)
    (environment.manifests / "RI.json").write_bytes(content)
    with pytest.raises(StoreError, match="geocal run --profile sample --states RI") as caught:
        read_manifest(environment, "RI")
    assert caught.value.where.endswith("RI.json")
    assert "cannot be read" in caught.value.found


def test_a_package_that_is_not_installed_is_left_out():
    assert list(package_versions(["polars", "no-such-package-here"])) == ["polars"]


def _fit() -> pl.DataFrame:
    rows = [
        # level, geoid, variable, domain, value, published, se, margin, role, fitted, dense, truth,
        # reason
        (
            "state",
            "44",
            "persons",
            "total",
            100.0,
            101.0,
            0.0,
            False,
            "calibrate",
            101.0,
            100.0,
            98.0,
            "",
        ),
        (
            "tract",
            "44007000101",
            "persons",
            "total",
            50.0,
            50.0,
            10.0,
            True,
            "calibrate",
            60.0,
            50.0,
            55.0,
            "",
        ),
        (
            "tract",
            "44007000102",
            "persons",
            "total",
            50.0,
            50.0,
            1.0,
            True,
            "calibrate",
            55.0,
            51.0,
            45.0,
            "",
        ),
        (
            "tract",
            "44007000102",
            "persons",
            "veteran",
            0.0,
            0.0,
            8.0,
            True,
            "calibrate",
            1.0,
            0.0,
            0.0,
            "",
        ),
        (
            "tract",
            "44007000101",
            "households",
            "owner",
            5.0,
            5.0,
            2.0,
            True,
            "dropped",
            None,
            None,
            None,
            "dropped: no tenure",
        ),
        (
            "tract",
            "44007000102",
            "households",
            "owner",
            6.0,
            6.0,
            2.0,
            True,
            "dropped",
            None,
            None,
            None,
            "dropped: no tenure",
        ),
    ]
    names = [
        "level",
        "geoid",
        "variable",
        "domain",
        "value",
        "published_value",
        "published_standard_error",
        "margin_published",
        "role",
        "fitted",
        "fitted_dense",
        "truth",
    ]
    schema = [*names, "not_fitted_reason"]
    return pl.DataFrame(rows, schema=schema, orient="row").with_columns(
        reason=pl.lit(""),
        family=pl.lit("f"),
        unit=pl.lit("persons"),
        source=pl.lit("s"),
        standard_error=pl.col("published_standard_error"),
        margin_standard_error=pl.when("margin_published").then("published_standard_error"),
        concept_error=pl.lit(0.0),
        treatment=pl.lit("fitted"),
    )


@pytest.fixture
def stored(environment) -> RunEnvironment:
    weights = pl.DataFrame(
        {
            "household_id": ["a", "b", "a"],
            "tract": ["44007000101", "44007000101", "44007000102"],
            "county": ["44007"] * 3,
            "weight": [1.0, 2.0, 1.0],
        }
    )
    data = encode(weights, {**FACTS, "candidate_pairs": 40})
    write_atomic(environment.table_path("weights", "RI"), data)
    write_atomic(
        environment.table_path("fit_report", "RI"),
        encode(_fit(), {**FACTS, "inputs": {"weights[RI]": content_digest(data)}}),
    )
    more = {
        "geocal": "0.1.0",
        "python": "3.11.7",
        "packages": {"polars": "2.1.0"},
        "peak_memory_mb": 300.0,
        "seconds_total": 2.5,
        "seconds_by_asset": {"weights": 2.5},
    }
    write_manifest(
        environment,
        "RI",
        {
            **FACTS,
            **more,
            "tables": {
                "weights": {
                    "materialized": "2026-01-01T00:00:00+00:00",
                    "sha256": file_digest(data),
                }
            },
        },
    )
    return environment


def test_the_report_of_a_state(stored):
    report = state_report(stored, "RI")
    assert (report["k"], report["pairs"], report["records"], report["areas"]) == (3, 40, 2, 2)
    assert report["ess"] == pytest.approx(16 / 6)
    assert list(report["levels"]) == ["state", "tract"]
    tract = report["levels"]["tract"]
    assert tract["fitted"] == 3
    assert tract["share_inside_margin"] == pytest.approx(2 / 3), "60 and 1 lie inside, 55 does not"
    assert tract["median_are"] == pytest.approx(0.15)
    assert tract["worst_are"] == pytest.approx(0.2)
    assert report["dense_levels"]["tract"]["worst_are"] == pytest.approx(0.02)
    assert report["truth_levels"]["state"]["median_are"] == pytest.approx(3 / 98)
    assert report["not_fitted"] == [
        {
            "variable": "households",
            "domain": "owner",
            "reason": "dropped: no tenure",
            "levels": "tract",
            "targets": 2,
        }
    ]
    assert report["seconds_by_asset"] == {"weights": 2.5}
    assert [row["geoid"] for row in report["worst_targets"]] == [
        "44",
        "44007000102",
        "44007000101",
    ], "coarse levels first; tracts by error in standard errors"


def test_the_report_is_json_and_every_top_key_is_documented(stored):
    report = json.loads(json.dumps(state_report(stored, "RI"), allow_nan=False))
    text = (PROJECT_ROOT / "docs" / "dagster.md").read_text()
    undocumented = [
        key
        for key in [*report, *report["levels"]["tract"], *report["weights"]]
        if f"`{key}`" not in text
    ]
    assert not undocumented


def test_the_printed_report_says_synthetic_and_names_what_was_not_fitted(stored):
    from rich.console import Console

    console = Console(record=True, width=132, file=io.StringIO())
    print_state(state_report(stored, "RI"), console)
    text = console.export_text()
    assert (
        "SYNTHETIC" in text
        and "households owner" in text
        and "no tenure" in text
        and "peak memory 300 MiB" in text
    )


def test_the_printed_fit_says_how_many_targets_have_a_published_margin(stored):
    from rich.console import Console

    console = Console(record=True, width=160, file=io.StringIO())
    print_fit(state_report(stored, "RI"), console)
    tract, state = (
        next(line for line in console.export_text(clear=False).splitlines() if name in line)
        for name in ("tract", "state ")
    )
    assert "66.7 % of 3" in tract
    assert " of " not in state, "no margin is published at this level"


def _moves(**columns: list) -> pl.DataFrame:
    """A fit table of one row a list entry, published value 100."""
    count = len(columns["value"])
    rest = {
        "level": "tract",
        "variable": "persons",
        "domain": "total",
        "published_value": 100.0,
        "source": "s",
    }
    geoids = [f"4400700010{i}" for i in range(count)]
    return pl.DataFrame(
        {"geoid": geoids, **columns}, schema_overrides=dict.fromkeys(columns, pl.Float64)
    ).with_columns(**{k: pl.lit(v) for k, v in rest.items()})


def test_moves_are_counted_in_errors_of_the_figure_and_of_its_concept():
    found = moved(
        _moves(
            value=[121.0, 119.0, 121.0, 119.0, 121.0, 121.0],
            published_standard_error=[10.0, 10.0, 6.0, 6.0, 10.0, None],
            margin_standard_error=[1.0, 1.0, None, None, 0.0, None],
            concept_error=[None, None, 8.0, 8.0, 0.0, 8.0],
        )
    )
    assert [geoid[-1] for geoid in found["geoid"]] == ["0", "2", "4"]
    assert found["adjustment_in_standard_errors"].to_list() == [pytest.approx(2.1)] * 3


def test_an_exact_target_that_moved_at_all_is_listed_without_a_size_and_last():
    found = moved(
        _moves(
            value=[100.001, 100.00001, 200.0],
            published_standard_error=[0.0, 0.0, 10.0],
            margin_standard_error=[0.0, 0.0, 10.0],
            concept_error=[0.0, None, 0.0],
        )
    )
    assert [geoid[-1] for geoid in found["geoid"]] == ["2", "0"]
    assert found["adjustment_in_standard_errors"].to_list() == [10.0, None]


def test_a_move_of_an_exact_target_is_printed_as_exact(stored):
    from rich.console import Console

    report = state_report(stored, "RI")
    assert [row["adjustment_in_standard_errors"] for row in report["moved_by_reconciliation"]] == [
        None
    ], "persons of the state: 101 published, 100 aimed at"
    console = Console(record=True, width=160, file=io.StringIO())
    print_state(report, console)
    assert (
        "exact"
        in console.export_text()
        .split("Moved by reconciliation")[1]
        .split("Weights:")[0]
        .rsplit("state", 1)[1]
    )


def test_a_table_that_vanished_is_named(stored):
    stored.table_path("fit_report", "RI").unlink()
    with pytest.raises(StoreError, match="There is no fit_report of RI"):
        state_report(stored, "RI")


def test_reasons_are_grouped_by_variable():
    assert not_fitted(_fit()).to_dicts() == [
        {
            "variable": "households",
            "domain": "owner",
            "reason": "dropped: no tenure",
            "levels": "tract",
            "targets": 2,
        }
    ]
