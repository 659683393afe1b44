"""The survey's estimates as rows of the target table: which, how carried, how sure."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from pipeline.records.survey_estimates import ESTIMATE_SCHEMA
from pipeline.specs.method import SurveyEvidence
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.targets.evidence import survey_evidence, why_none
from tests.pipeline.targets.test_concept_gap import target, targets
from tests.pipeline.targets.toy_tables import variable

RULE = SurveyEvidence(use=True, scale_share=1.0, least_records=30, carry_error_per_year=0.02)
VARIABLES = [
    variable("persons", "total"),
    variable("persons", "employed", family="work"),
    variable("persons", "rare"),
    variable("persons", "poor"),
    variable("returns", "joint", over="tax_units", unit="returns"),
]
GOAL = targets(
    target("state", "44", "persons", "total", 1100.0),
    target("state", "44", "persons", "poor", 90.0, "validation", "another year"),
    target("county", "44001", "persons", "employed", 10.0),
)


def estimates(error: float | None = 10.0, growth: float | None = 1.1) -> pl.DataFrame:
    rows = [
        ("state", "44", "persons", "total", "persons", 1000.0, 0.0 if error else None, 1000),
        ("state", "44", "persons", "employed", "persons", 500.0, error, 400),
        ("state", "44", "persons", "rare", "persons", 20.0, error, 29),
        ("state", "44", "persons", "poor", "persons", 100.0, error, 80),
        ("state", "44", "returns", "joint", "returns", 200.0, error, 150),
        ("puma", "4400101", "persons", "employed", "persons", 100.0, error, 90),
    ]
    names = [name for name in ESTIMATE_SCHEMA if not name.startswith("carried")]
    grown = pl.lit(growth, pl.Float64)
    table = pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)
    return table.with_columns(
        carried=pl.col("estimate") * grown,
        carried_standard_error=pl.col("standard_error").cast(pl.Float64) * grown,
    ).select(pl.col(name).cast(dtype) for name, dtype in ESTIMATE_SCHEMA.items())


def evidence(table: pl.DataFrame | None = None, rule: SurveyEvidence = RULE, years: int = 4):
    given = estimates() if table is None else table
    return survey_evidence(
        given, GOAL, VARIABLES, rule, state_fips="44", vintage="2018", years=years
    )


def test_only_what_is_asked_untold_and_well_recorded_becomes_evidence() -> None:
    """Told at the state, by whatever role: poor. Too few records: rare. Not asked: returns."""
    made = evidence()
    assert made.schema == pl.Schema(TARGET_SCHEMA)
    assert made.select("level", "geoid", "variable", "domain").rows() == [
        ("state", "44", "persons", "employed")
    ]
    row = made.row(0, named=True)
    assert (row["role"], row["source"], row["family"]) == ("evidence", "survey", "work")
    assert row["reason"] and not row["margin_published"] and row["margin_standard_error"] is None


def test_it_is_the_carried_estimate_and_errs_by_sampling_and_years() -> None:
    row = evidence().row(0, named=True)
    assert row["value"] == pytest.approx(550.0) and row["carry_factor"] == pytest.approx(1.1)
    assert row["standard_error"] == pytest.approx(np.hypot(11.0, 0.02 * 4 * 550.0))
    same_year = evidence(years=0).row(0, named=True)
    assert same_year["standard_error"] == pytest.approx(11.0)
    assert same_year["carry_rule"] == "none"


@pytest.mark.parametrize(
    ("table", "rule"),
    [
        pytest.param(estimates(None), RULE, id="no-standard-errors"),
        pytest.param(estimates(), RULE.model_copy(update={"use": False}), id="not-in-use"),
    ],
)
def test_there_may_be_none(table: pl.DataFrame, rule: SurveyEvidence) -> None:
    made = evidence(table, rule)
    assert made.is_empty() and made.schema == pl.Schema(TARGET_SCHEMA)


def test_row_order_does_not_matter() -> None:
    assert evidence().equals(evidence(estimates().reverse()))


@pytest.mark.parametrize(
    ("table", "rule", "words"),
    [
        pytest.param(estimates(), RULE, "", id="there is some"),
        pytest.param(estimates(None), RULE, "no replicate weights", id="no errors"),
        pytest.param(estimates(growth=None), RULE, "total persons", id="no population"),
        pytest.param(
            estimates(), RULE.model_copy(update={"use": False}), "leaves it out", id="unused"
        ),
    ],
)
def test_where_nothing_is_held_to_the_survey_there_is_a_reason(table, rule, words) -> None:
    said = why_none(table, rule, state_fips="44")
    made = evidence(table, rule)
    assert words in said and bool(said) == made.is_empty()
