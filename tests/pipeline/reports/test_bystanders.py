"""The bystander report, from weights to the stored table, the JSON, the terminal and the chart."""

from __future__ import annotations

import io
import json

import numpy as np
import polars as pl
import pytest
from rich.console import Console

from pipeline.assets.bystanders import CHECK, _check
from pipeline.assets.common import PROJECT_ROOT
from pipeline.errors import SpecError, StoreError, TargetError
from pipeline.io_manager import encode, write_atomic
from pipeline.records.expressions import measure
from pipeline.reports.bystander_plot import move_dots
from pipeline.reports.bystander_schema import BYSTANDER_SCHEMA
from pipeline.reports.bystanders import Watched, bystander_report
from pipeline.reports.show import bystander_document, bystanders
from pipeline.reports.show_bystanders import furthest, print_all, print_worst, summary
from pipeline.settings import RunEnvironment
from pipeline.specs.bystanders import load_bystanders
from pipeline.specs.catalog import load_catalog
from pipeline.specs.variables import Variable
from pipeline.stored import content_digest
from pipeline.vocabulary import VALIDATION, is_variable
from pipeline.weights.solve import dense_calibration
from pipeline.weights.table import StoredWeights
from tests.pipeline.weights import toy_state

RULE = {"limit": 2.0, "least_records": 30}
ROW = {"family": "f", "unit": "persons", "over": "persons"}
MORE = [
    Variable(variable="persons", domain="age_70_plus", label="70+", where="age >= 70", **ROW),
    Variable(variable="persons", domain="under_65", label="Under 65", where="age < 65", **ROW),
    Variable(variable="persons", domain="age_80_plus", label="80+", where="age >= 80", **ROW),
    Variable(variable="persons", domain="age_40", label="Forty", where="age = 40", **ROW),
    Variable(
        variable="persons",
        domain="owner",
        label="Owners",
        unit="persons",
        over=None,
        family="f",
        not_expressible="nobody asked",
    ),
]
VARIABLES = {v.key: v for v in [*toy_state.VARIABLES, *MORE]}
HEADINGS = {("persons", "owner"): "Tenure", ("persons", "age_70_plus"): "Age"}


def goal_of(records, official: float | None) -> pl.DataFrame:
    """Targets that ask for 30 % more persons of 65 and over; and, of those of 80 and over, an
    official figure that is only compared with."""
    goal = toy_state.targets(records)
    more = pl.when(is_variable(("persons", "age_65_plus"))).then(1.3).otherwise(1.0)
    goal = goal.with_columns(pl.col("value", "published_value") * more)
    if official is None:
        return goal
    row = goal.filter((pl.col("level") == "state") & is_variable(("persons", "total")))
    row = row.with_columns(
        domain=pl.lit("age_80_plus"),
        role=pl.lit(VALIDATION),
        reason=pl.lit("of another year"),
        value=pl.lit(official),
        published_value=pl.lit(official),
    )
    return pl.concat([goal, row])


def estimates_of(records) -> pl.DataFrame:
    """By design weights, with half the errors of simple sampling; of half the population, carried
    to all of it."""
    units = records["households"].sort("household_id")
    found = measure(records, [v for v in VARIABLES.values() if v.over], units["household_id"])
    totals = units["design_weight"].to_numpy() @ found.matrix / 2
    count = (found.matrix != 0).sum(axis=0)
    return pl.DataFrame(
        {
            "level": ["state"] * totals.size,
            "geoid": ["44"] * totals.size,
            "variable": [key[0] for key in found.expressible],
            "domain": [key[1] for key in found.expressible],
            "unit": ["persons"] * totals.size,
            "estimate": totals,
            "standard_error": 0.5 * totals / np.sqrt(np.maximum(count, 1)),
            "carried": 2 * totals,
            "carried_standard_error": totals / np.sqrt(np.maximum(count, 1)),
            "records": count,
        }
    )


def report_of(records, profile, official=None, estimates=None) -> pl.DataFrame:
    state = toy_state.solvable(records, goal_of(records, official), profile)
    dense = dense_calibration(state).weights
    table = dense.table()
    leaf, record = np.nonzero(table)
    stored = StoredWeights(dense, leaf, record, table[leaf, record])
    measured = measure(records, list(VARIABLES.values()), state.units["household_id"])
    given = estimates_of(records) if estimates is None else estimates
    return bystander_report(state, stored, Watched(VARIABLES, HEADINGS, measured, given))


def row(report: pl.DataFrame, domain: str, variable: str = "persons") -> dict:
    found = report.filter(is_variable((variable, domain))).to_dicts()
    assert len(found) == 1
    return found[0]


@pytest.fixture(scope="module")
def profile():
    return load_catalog().profile("sample")


@pytest.fixture(scope="module")
def report(profile):
    return report_of(toy_state.tables(), profile, official=1e9)


def test_every_variable_is_there_once_the_standard_ones_first(report):
    assert report.schema == BYSTANDER_SCHEMA
    assert report["domain"].to_list()[:2] == ["owner", "age_70_plus"]
    keys = report.select("variable", "domain")
    assert sorted(keys.iter_rows()) == sorted(VARIABLES)


def test_what_is_told_implied_observed_untold_and_not_measured(report):
    status = {row["domain"]: row["status"] for row in report.to_dicts()}
    assert status["age_65_plus"] == "told" and status["under_65"] == "implied"
    assert status["age_80_plus"] == "observed" and status["age_70_plus"] == "untold"
    owner = row(report, "owner")
    assert (owner["status"], owner["reason"]) == ("not_measured", "nobody asked")
    assert owner["dense"] is owner["moved_dense"] is owner["bent"] is None
    assert row(report, "age_65_plus")["told_at"] == "state, county, tract"
    assert row(report, "age_80_plus")["reason"] == "of another year"


def test_the_survey_is_carried_to_the_target_year(report):
    people = row(report, "total")
    assert people["survey"] == pytest.approx(people["prior"])
    for each in report.filter(pl.col("standard_error").is_not_null()).to_dicts():
        simple = each["survey"] / max(each["records"], 1) ** 0.5
        assert each["standard_error"] == pytest.approx(0.5 * simple)
        if each["moved_dense"] is not None:
            moved = (each["dense"] - each["survey"]) / each["standard_error"]
            assert each["moved_dense"] == pytest.approx(moved)


def test_an_untold_figure_is_bent_and_the_target_that_pulls_is_named(report):
    old = row(report, "age_70_plus")
    assert old["bent"] == "calibration" and old["moved_dense"] > 3
    assert old["beyond_dense"] == old["moved_dense"]
    first = old["pulls"][0]
    assert (first["variable"], first["domain"], first["source"]) == ("persons", "age_65_plus", "s")
    assert first["told_moved"] == pytest.approx(0.3, abs=0.02)
    assert first["standard_errors"] > 0.7 * old["moved_dense"]


def test_start_pulls_and_rest_add_up_to_the_move(report):
    for domain in ("age_70_plus", "age_80_plus", "age_40"):
        each = row(report, domain)
        pulled = sum(pull["standard_errors"] for pull in each["pulls"])
        assert each["start"] + pulled + each["rest"] == pytest.approx(each["moved_dense"])


def test_a_move_that_an_official_figure_asks_for_is_not_held_against_it(profile, report):
    records = toy_state.tables()
    assert row(report, "age_80_plus")["beyond_dense"] == 0.0, "the figure is far above"
    assert row(report, "age_80_plus")["bent"] == ""
    half = row(report, "age_80_plus")
    middle = (half["survey"] + half["dense"]) / 2
    past = row(report_of(records, profile, official=middle), "age_80_plus")
    assert past["beyond_dense"] == pytest.approx(past["moved_dense"] / 2, rel=1e-3)
    below = row(report_of(records, profile, official=half["survey"] / 2), "age_80_plus")
    assert below["beyond_dense"] == pytest.approx(below["moved_dense"])
    assert below["bent"] == "calibration"


def test_figures_of_few_records_or_without_an_error_are_listed_and_not_judged(profile, report):
    few = row(report, "age_40")
    assert few["records"] < RULE["least_records"] and few["bent"] is None
    assert few["moved_dense"] is not None
    records = toy_state.tables()
    unknown = estimates_of(records).with_columns(
        carried_standard_error=pl.lit(None, dtype=pl.Float64)
    )
    bare = report_of(records, profile, estimates=unknown)
    assert bare["moved_dense"].null_count() == bare.height
    assert row(bare, "under_65")["status"] == "implied"
    assert bare["bent"].null_count() == bare.height


def test_a_figure_that_the_surveys_weights_were_made_to_meet_is_not_judged(profile):
    records = toy_state.tables()
    given = estimates_of(records)
    share = pl.col("carried") / pl.col("records").sqrt()
    for factor, judged in ((0.3, False), (0.4, True)):
        held = given.with_columns(carried_standard_error=factor * share)
        found = row(report_of(records, profile, estimates=held), "age_70_plus")
        assert (found["moved_dense"] is not None) == (found["bent"] is not None) == judged
        assert found["standard_error"] > 0


def test_the_order_of_rows_changes_nothing(profile, report):
    records = toy_state.tables()
    turned = {name: table.reverse() for name, table in records.items()}
    given = estimates_of(records).reverse()
    again = report_of(turned, profile, official=1e9, estimates=given)
    assert again.equals(report)


def test_without_estimates_of_the_target_year_nothing_can_be_compared(profile):
    records = toy_state.tables()
    lacking = estimates_of(records).with_columns(carried=pl.lit(None, dtype=pl.Float64))
    with pytest.raises(TargetError, match="not carried to the target year"):
        report_of(records, profile, estimates=lacking)


def test_selection_alone_may_bend_a_figure(report):
    """Judged from the table: dense within the limit, selected not."""
    from pipeline.reports.bystanders import _judged
    from pipeline.specs.method import BystanderRule

    rule = BystanderRule(limit=2.0, least_records=1, blocking=False)
    far = report.filter(is_variable(("persons", "age_70_plus"))).with_columns(
        beyond_dense=pl.lit(1.0), beyond_selected=pl.lit(-3.0)
    )
    assert _judged(far, rule)["bent"].to_list() == ["selection"]


# Shown.


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def store(environment: RunEnvironment, report: pl.DataFrame, digest: str = "") -> None:
    weights = encode(pl.DataFrame({"household_id": ["a"], "weight": [1.0]}), {})
    write_atomic(environment.table_path("weights", "RI"), weights)
    facts = {
        "inputs": {"weights[RI]": digest or content_digest(weights)},
        "synthetic": True,
        **RULE,
    }
    write_atomic(environment.table_path("bystander_report", "RI"), encode(report, facts))


def test_the_document_is_json_and_has_every_figure(environment, report):
    store(environment, report)
    document = bystander_document(environment, "RI")
    assert json.loads(json.dumps(document)) == document
    assert len(document["figures"]) == report.height
    assert document["figures"][1]["pulls"][0]["domain"] == "age_65_plus"
    found = bystanders(environment, "RI")
    assert found["judged"] == document["judged"] == 2
    assert found["bent"] == {"calibration": 1, "selection": 0}
    assert [each["domain"] for each in found["worst"]] == ["age_70_plus", "age_80_plus"]
    assert sum(found["statuses"].values()) == report.height
    page = (PROJECT_ROOT / "docs" / "bystanders.md").read_text(encoding="utf-8")
    names = {*document, *found, *BYSTANDER_SCHEMA, *document["figures"][1]["pulls"][0]}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_a_report_of_other_weights_says_what_to_materialise(environment, report):
    store(environment, report, digest="0" * 64)
    found = bystanders(environment, "RI")
    assert "made from other weights" in found["missing"]
    assert "dg launch --assets bystander_report --partition RI" in found["missing"]
    with pytest.raises(StoreError, match="cannot be shown"):
        bystander_document(environment, "RI")


def printed(show, width: int) -> str:
    console = Console(file=io.StringIO(), width=width)
    show(console)
    return console.file.getvalue()


@pytest.mark.parametrize("width", [80, 140])
def test_it_is_readable_at_any_width_and_says_what_it_is(environment, report, width):
    store(environment, report)
    document = bystander_document(environment, "RI")
    text = printed(lambda c: print_all(document, c, every=True), width)
    assert max(map(len, text.splitlines())) <= width
    assert "SYNTHETIC" in text and "Tenure" in text and "Other measured variables" in text
    words = " ".join(text.split())
    assert "U 70+" in words and "- Owners" in words and "I Under 65" in words
    assert "persons age_65_plus +" in words
    worst = summary(report, RULE)
    text = printed(lambda c: print_worst(worst, "RI", True, c), width)
    assert max(map(len, text.splitlines())) <= width
    assert "1 of 2 untold or observed figures" in " ".join(text.split())
    missing = printed(lambda c: print_worst({"missing": "no report"}, "RI", False, c), width)
    assert "Figures nobody told: no report." in missing


def test_the_check_names_what_is_bent_and_what_pulls(profile, report):
    found = _check(report, profile)
    assert (found.check_name, found.passed) == (CHECK, False)
    text = found.metadata["bent_and_pulled_by"].value
    assert "70+" in text and "persons age_65_plus (s) +" in text
    calm = _check(report.with_columns(bent=pl.lit("")), profile)
    assert calm.passed


def test_the_chart_is_a_picture_also_of_nothing(report):
    for rows in (report, report.clear()):
        picture = move_dots(rows, "RI", 2.0, synthetic=True).decode()
        assert picture.startswith("<svg") and "RI · SYNTHETIC" in picture


def test_furthest_are_judged_and_in_order(report):
    assert furthest(report)["domain"].to_list() == ["age_70_plus", "age_80_plus"]


# The list of standard figures.


def test_the_list_names_variables_and_each_once(tmp_path):
    catalog = load_catalog()
    assert len(load_bystanders(catalog).group_of) >= 100
    file = tmp_path / "bystanders.yaml"
    file.write_text("groups: [{title: A, figures: [persons/nobody]}]")
    with pytest.raises(SpecError, match="No variable is called persons/nobody"):
        load_bystanders(catalog, file)
    file.write_text("groups: [{title: A, figures: [persons/total, persons/total]}]")
    with pytest.raises(SpecError, match="listed twice: persons/total"):
        load_bystanders(catalog, file)
