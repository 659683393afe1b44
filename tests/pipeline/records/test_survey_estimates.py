"""Survey estimates: each record by its own weight, the error of the replicates, and the published
margins of real tables.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from pathlib import Path

import polars as pl
import pytest

from pipeline import steps
from pipeline.errors import RecordsError
from pipeline.records.assemble import assemble_records
from pipeline.records.survey_estimates import ESTIMATE_SCHEMA, survey_estimates
from pipeline.sources.microdata.replicates import REPLICATE_SCHEMA, REPLICATES, no_replicates
from pipeline.sources.of_profile import read_survey, read_tables
from pipeline.specs.catalog import load_catalog
from pipeline.targets.build import build_targets
from pipeline.vocabulary import TARGET_KEY

TABLES = {
    "persons": pl.DataFrame(
        {
            "household_id": ["b", "a", "b"],
            "person_number": [2, 1, 1],
            "design_weight": [50.0, 10.0, 30.0],
            "wages": [200.0, None, 1000.0],
        }
    ),
    "households": pl.DataFrame(
        {"household_id": ["b", "a"], "design_weight": [31.0, 11.0], "puma": ["4400102", "4400101"]}
    ),
    "tax_units": pl.DataFrame(
        {"household_id": ["a", "b"], "tax_unit": [1, 1], "primary_person": [1, 1]}
    ),
}


@dataclass(frozen=True)
class Variable:
    variable: str
    domain: str = "total"
    over: str | None = "persons"
    where: str | None = None
    value: object = None
    unit: str = "persons"


PERSONS = Variable("persons")
WAGES = Variable("usd_wages", value="wages", unit="usd")
HOUSEHOLDS = Variable("households", over="households", unit="households")
RETURNS = Variable("returns", over="tax_units", unit="returns")
EVERYTHING = [WAGES, RETURNS, PERSONS, HOUSEHOLDS]


def replicates(shift: int = 2) -> pl.DataFrame:
    """The weights above; in replicate 1 person 1 of b has ``shift`` more, his household 5 more."""
    rows = [("a", 0, 11), ("a", 1, 10), ("b", 0, 31), ("b", 1, 30), ("b", 2, 50)]
    frame = pl.DataFrame(
        [(household, number, *[weight] * 80) for household, number, weight in rows],
        schema=REPLICATE_SCHEMA,
        orient="row",
    )
    of_b = pl.col("household_id") == "b"
    extra = pl.when(of_b & (pl.col("person_number") == 1)).then(shift)
    extra = extra.when(of_b & (pl.col("person_number") == 0)).then(5).otherwise(0)
    return frame.with_columns((pl.col("replicate_1") + extra).cast(pl.Int32).alias("replicate_1"))


def found(table: pl.DataFrame, geoid: str, variable: str) -> tuple[float, float | None, int]:
    row = table.row(
        by_predicate=(pl.col("geoid") == geoid) & (pl.col("variable") == variable), named=True
    )
    return row["estimate"], row["standard_error"], row["records"]


def test_estimates_and_errors_are_those_of_each_tables_own_weights() -> None:
    table, notes = survey_estimates(TABLES, replicates(), EVERYTHING, "44")
    assert table.schema == pl.Schema(ESTIMATE_SCHEMA) and not notes[1:]
    one = sqrt(4 / 80)
    assert found(table, "44", "persons") == (90.0, pytest.approx(2 * one), 3)
    assert found(table, "44", "usd_wages") == (40_000.0, pytest.approx(2000 * one), 2)
    assert found(table, "44", "households") == (42.0, pytest.approx(5 * one), 2)
    assert found(table, "44", "returns") == (40.0, pytest.approx(2 * one), 2)
    assert found(table, "4400101", "persons") == (10.0, 0.0, 1)
    assert found(table, "4400102", "persons") == (80.0, pytest.approx(2 * one), 2)
    assert set(table["level"]) == {"state", "puma"}


def test_the_table_is_sorted_and_owes_nothing_to_the_order_of_rows() -> None:
    table, _ = survey_estimates(TABLES, replicates(), EVERYTHING, "44")
    turned = {name: frame.reverse() for name, frame in TABLES.items()}
    other, _ = survey_estimates(turned, replicates().reverse(), EVERYTHING[::-1], "44")
    assert table.equals(other) and table.equals(table.sort(TARGET_KEY))


@pytest.mark.parametrize("absent", [None, no_replicates()], ids=["none", "empty"])
def test_without_replicates_errors_are_null_and_this_is_said(absent) -> None:
    table, notes = survey_estimates(TABLES, absent, [PERSONS], "44")
    assert found(table, "44", "persons") == (90.0, None, 3)
    assert "replicate_weights_absent" in {note.code for note in notes}


def test_what_records_cannot_express_is_named() -> None:
    unasked = [Variable("internet", over=None), PERSONS]
    table, notes = survey_estimates(TABLES, replicates(), unasked, "44")
    assert set(table["variable"]) == {"persons"}
    said = next(note for note in notes if note.code == "not_estimated")
    assert said.count == 1 and "internet/total" in said.detail


def test_a_record_without_replicate_weights_is_refused() -> None:
    some = replicates().filter(pl.col("person_number") != 2)
    with pytest.raises(RecordsError, match="1 rows of persons have no replicate weights"):
        survey_estimates(TABLES, some, [PERSONS], "44")


def test_replicates_are_eighty() -> None:
    assert len(REPLICATES) == 80 and list(REPLICATE_SCHEMA)[2:] == list(REPLICATES)


@pytest.mark.parametrize(
    ("postal", "low", "high"),
    [pytest.param("RI", 1.0, 1.3, id="RI"), pytest.param("VT", 1.4, 1.75, id="VT")],
)
def test_real_errors_are_the_published_margins_of_a_larger_sample(
    realdata: Path, postal: str, low: float, high: float
) -> None:
    """Tables of 2018 rest on more interviews than PUMS keeps, most of all where the ACS samples
    small places heavily, as in Vermont; estimates lie within both errors of each other."""
    catalog = load_catalog()
    profile = catalog.profile("counties_2018")
    as_surveyed = profile.records.model_copy(update={"steps": ()})
    profile = profile.model_copy(update={"records": as_surveyed})
    survey = read_survey(profile, realdata, postal)
    records = assemble_records(catalog, profile, survey.persons, survey.households, None)
    tables = read_tables(catalog, profile, postal, realdata)
    published = build_targets(catalog, profile, tables, ["state"]).frame
    below = published.head(0)
    table, notes = steps.survey_estimates(
        catalog, profile, postal, records.tables, survey.replicate_weights, below, published
    )
    assert "growth_by_one_number" not in {note.code for note in notes}
    both = table.join(published.filter("margin_published"), on=TARGET_KEY).filter(
        (pl.col("margin_standard_error") > 0) & (pl.col("records") >= 60)
    )
    assert both.height >= 90
    ratio = both["standard_error"] / both["margin_standard_error"]
    assert low < ratio.median() < high
    # Of one year, and PUMS is a part of the interviews: single years of age differ
    # by sampling, other figures by next to nothing.
    carried = table.filter((pl.col("level") == "state") & (pl.col("records") >= 60))
    change = (carried["carried"] / carried["estimate"] - 1).abs()
    assert change.median() < 0.02 and change.quantile(0.9) < 0.08
    assert ratio.quantile(0.1) > 0.8 and ratio.quantile(0.9) < 1.3 * high
    error = (pl.col("standard_error") ** 2 + pl.col("margin_standard_error") ** 2).sqrt()
    off = both.select((pl.col("estimate") - pl.col("published_value")) / error).to_series()
    assert sqrt((off**2).mean()) < 1.0
