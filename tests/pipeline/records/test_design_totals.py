"""Design-weighted totals: every record with its own weight, and what comes of it on
real records.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import RecordsError, TargetError
from pipeline.records.assemble import assemble_records
from pipeline.records.design_totals import TOTALS_SCHEMA, design_totals
from pipeline.sources.base import resolve_files
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.targets.build import build_targets
from pipeline.targets.concept_gap import concept_gaps

# The householder of b weighs 30, so household weights would count 10 + 2 * 30 persons.
TABLES = {
    "persons": pl.DataFrame(
        {
            "household_id": ["a", "b", "b"],
            "person_number": [1, 1, 2],
            "design_weight": [10.0, 30.0, 50.0],
            "age": [70, 40, 12],
            "wages": [None, 1000.0, 200.0],
            "veteran": [True, False, True],
        }
    ),
    "households": pl.DataFrame(
        {"household_id": ["b", "a"], "design_weight": [30.0, 11.0], "income": [1200.0, None]}
    ),
    "tax_units": pl.DataFrame(
        {
            "household_id": ["b", "a", "b"],
            "tax_unit": [1, 1, 2],
            "primary_person": [1, 1, 2],
            "agi": [1000.0, 0.0, 200.0],
        }
    ),
}


@dataclass(frozen=True)
class Variable:
    variable: str
    domain: str = "total"
    over: str | None = "persons"
    where: str | None = None
    value: object = None


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        pytest.param(Variable("persons"), 90.0, id="persons-have-their-own-weight"),
        pytest.param(Variable("persons", where="age < 18"), 50.0, id="a-child-has-his-own-weight"),
        pytest.param(Variable("usd", value="wages"), 30 * 1000.0 + 50 * 200.0, id="amounts"),
        pytest.param(
            Variable("usd", value="wages + 100", where="wages > 0"),
            30 * 1100.0 + 50 * 300.0,
            id="a-sum-is-weighted-whole",
        ),
        pytest.param(Variable("veterans", value="veteran"), 60.0, id="a-condition-as-value"),
        pytest.param(Variable("households", over="households"), 41.0, id="households-have-theirs"),
        pytest.param(
            Variable("usd", over="households", value="income", where="income > 0"),
            36_000.0,
            id="household-amounts",
        ),
        pytest.param(
            Variable("returns", over="tax_units"), 90.0, id="tax-units-have-the-primary-persons"
        ),
        pytest.param(
            Variable("usd", over="tax_units", value="agi"),
            30 * 1000.0 + 50 * 200.0,
            id="amounts-of-tax-units",
        ),
    ],
)
def test_every_record_counts_with_its_own_weight(variable: Variable, expected: float) -> None:
    for tables in (TABLES, {name: table.reverse() for name, table in TABLES.items()}):
        totals, _ = design_totals(tables, [variable])
        assert totals.schema == pl.Schema(TOTALS_SCHEMA)
        assert totals["total"].to_list() == [pytest.approx(expected)]


def test_order_and_notes_are_those_of_the_variables() -> None:
    totals, notes = design_totals(
        TABLES,
        [
            Variable("returns", over="tax_units"),
            Variable("usd", value="wages"),
            Variable("gains", over=None),
        ],
    )
    assert totals.select("variable", "domain").rows() == [("returns", "total"), ("usd", "total")]
    assert [note.count for note in notes] == [1]


def test_a_record_without_a_weight_is_refused() -> None:
    stray = {**TABLES, "tax_units": TABLES["tax_units"].with_columns(primary_person=pl.lit(9))}
    with pytest.raises(RecordsError, match="3 rows of tax_units have no design weight"):
        design_totals(stray, [Variable("returns", over="tax_units")])
    with pytest.raises(TargetError, match="usd / total"):
        design_totals(TABLES, [Variable("usd", value="wagges")])


def test_real_gaps_of_rhode_island_are_growth_and_concepts_not_weights(realdata: Path) -> None:
    catalog = load_catalog()
    profile = catalog.profile("rhode_island")
    # As the survey has them: alignment would close the gaps this test is about.
    plain = profile.records.model_copy(update={"steps": ()})
    profile = profile.model_copy(update={"records": plain})
    files = resolve_files(
        catalog.sources[profile.records.source], profile.records.vintage, realdata, ["RI"]
    )
    survey = read_pums(
        next(f.path for f in files if f.role == "persons"),
        None,
        year=2018,
        state_fips="44",
        source=profile.records.source,
    )
    records = assemble_records(catalog, profile, survey.persons, survey.households, None)
    totals, _ = design_totals(
        records.tables, [v for v in catalog.variables.values() if v.expressible]
    )
    assert totals.filter((pl.col("variable") == "persons") & (pl.col("domain") == "total"))[
        "total"
    ].to_list() == [1_057_315]
    tables = {
        (s, v): read_source(catalog.sources[s], v, realdata, ["RI"]).frame
        for s, v in sorted(catalog.required_tables(profile))
    }
    targets = build_targets(catalog, profile, tables, ["state"]).frame.filter(
        pl.col("geoid") == "44"
    )
    found = {
        (r["variable"], r["domain"]): r
        for r in concept_gaps(totals, targets, 0.25, state_fips="44").iter_rows(named=True)
    }
    assert found["persons", "total"]["record_total"] == pytest.approx(1_099_498)
    assert found["persons", "female_age_10_14"]["gap"] == pytest.approx(0.093, abs=0.005)
    assert found["returns", "total"]["gap"] == pytest.approx(0.004, abs=0.002)
