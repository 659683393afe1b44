"""Rhode Island's records after the steps, against SSA and the IRS before any calibration."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import polars as pl
import pytest

from pipeline import steps
from pipeline.records.assemble import assemble_records
from pipeline.sources.of_profile import read_survey, read_tables
from pipeline.specs.catalog import load_catalog


class AlignedRecords(NamedTuple):
    """The survey's persons, and what the steps made of their totals."""

    persons: pl.DataFrame
    alignment: pl.DataFrame


@pytest.fixture(scope="module")
def made(request) -> AlignedRecords:
    realdata: Path = request.getfixturevalue("realdata")
    catalog = load_catalog()
    profile = catalog.profile("rhode_island")
    tables = read_tables(catalog, profile, "RI", realdata)
    targets = steps.national_targets(catalog, profile, tables)[0].frame
    survey = read_survey(profile, realdata, "RI")
    made = assemble_records(catalog, profile, survey.persons, survey.households, None, targets)
    return AlignedRecords(survey.persons, made.alignment)


@pytest.fixture(scope="module")
def table(made) -> pl.DataFrame:
    return made.alignment


def gap(table: pl.DataFrame, step: str, variable: str, domain: str, when: str = "after") -> float:
    row = table.row(
        by_predicate=(pl.col("step") == step)
        & (pl.col("variable") == variable)
        & (pl.col("domain") == domain),
        named=True,
    )
    return row[when] / row["published"] - 1


@pytest.mark.parametrize(
    ("variable", "domain", "limit"),
    [
        ("persons", "oasdi", 0.005),
        ("persons", "ssi_age_18_64", 0.005),
        ("usd_oasdi", "total", 1e-9),
        ("usd_ssi", "age_65_plus", 1e-9),
    ],
)
def test_benefits_are_those_of_ssa(table, variable, domain, limit) -> None:
    assert abs(gap(table, "ssa_benefits", variable, domain)) <= limit


def test_children_with_ssi_err_by_half_of_one_weight_at_most(made) -> None:
    """Few receive it, and each stands for many: 3,594 by SSA."""
    children = made.persons.filter(pl.col("age") < 18)
    row = made.alignment.row(by_predicate=pl.col("domain") == "ssi_age_under_18", named=True)
    assert abs(row["after"] - row["published"]) <= children["design_weight"].max() / 2
    assert abs(row["before"] / row["published"] - 1) > 0.5


def test_benefits_of_the_calendar_year_are_december_without_the_next_adjustment(table) -> None:
    row = table.filter((pl.col("variable") == "usd_oasdi") & (pl.col("domain") == "total"))
    # 405,624 thousand dollars in December 2022, 8.7 % of adjustment first paid in January 2023.
    assert row["published"][0] == pytest.approx(405_624_000 * 12 / 1.087)


def test_taxable_benefits_come_nearer_though_nothing_aims_at_them(table) -> None:
    key = ("usd_taxable_social_security", "total")
    before = gap(table, "ssa_benefits", *key, when="before")
    assert before < -0.4 < -0.25 < gap(table, "ssa_benefits", *key)
    assert abs(gap(table, "top_tail", *key)) < 0.12


def test_income_of_returns_is_that_of_the_irs(table) -> None:
    assert abs(gap(table, "top_tail", "usd_agi", "total")) < 0.03
    assert abs(gap(table, "top_tail", "usd_agi", "agi_1000000_plus")) < 1e-6
    assert abs(gap(table, "top_tail", "returns", "agi_1000000_plus")) < 0.03
    assert abs(gap(table, "return_income", "usd_retirement", "total")) < 1e-3
    assert abs(gap(table, "return_income", "usd_partnership", "agi_200000_499999")) < 1e-3
