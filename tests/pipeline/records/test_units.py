"""Household attributes from persons, by hand and against ACS tables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.units import build_units
from pipeline.sources.microdata.acs_pums import read_pums

SPOUSE = {"relationship": "spouse", "sex": "female", "marital_status": "married"}


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        pytest.param(
            [{}],
            {
                "household_type": "male_householder",
                "living_alone": True,
                "cohabiting": False,
                "is_family": False,
            },
            id="alone",
        ),
        pytest.param(
            [{}, SPOUSE],
            {
                "household_type": "married_couple",
                "living_alone": False,
                "cohabiting": False,
                "is_family": True,
            },
            id="married",
        ),
        pytest.param(
            [{"sex": "female"}, {"relationship": "unmarried_partner"}],
            {
                "household_type": "female_householder",
                "cohabiting": True,
                "is_family": False,
                "living_alone": False,
            },
            id="cohabiting",
        ),
        pytest.param(
            [
                {"age": 70},
                {"age": 17},
                {"age": 17, "relationship": "grandchild"},
                {"age": 3, "relationship": "nonrelative"},
                {"age": 68, "relationship": "other_relative"},
            ],
            {
                "children_under_18": 3,
                "own_children_under_18": 1,
                "persons_65_plus": 2,
                "adults": 2,
                "is_family": True,
                "householder_age": 70,
            },
            id="ages",
        ),
        pytest.param(
            [{"relationship": "gq_noninstitutional", "age": 20}],
            {
                "household_type": None,
                "living_alone": None,
                "cohabiting": None,
                "is_family": None,
                "is_group_quarters": True,
                "adults": 1,
            },
            id="group-quarters",
        ),
        pytest.param(
            [
                {"social_security": 9000.0, "self_employment": -50.0},
                {"age": 4},
                {"ssi": 100.0, "wages": 20.0},
            ],
            {
                "any_social_security": True,
                "any_ssi": True,
                "any_self_employment": True,
                "any_public_assistance": False,
                "any_earnings": True,
                "earners": 2,
                "workers": 2,
                "aggregate_social_security": 9000.0,
                "aggregate_total_income": 9070.0,
                "any_unemployment": None,
                "aggregate_unemployment_compensation": None,
            },
            id="amounts",
        ),
    ],
)
def test_attributes_by_hand(
    make: Callable, members: list[dict[str, object]], expected: dict[str, object]
) -> None:
    row = build_units(*make({"a": members})).households.row(0, named=True)
    assert {name: row[name] for name in expected} == expected


def test_row_order_of_the_tables_does_not_matter(make: Callable) -> None:
    persons, households = make(
        {"b": [{"wages": 0.1}, {"wages": 0.2}, {"wages": 0.3}], "a": [{}, SPOUSE]}
    )
    plain, reversed_ = (
        build_units(persons, households),
        build_units(persons.reverse(), households.reverse()),
    )
    assert plain.households.equals(reversed_.households) and plain.persons.equals(reversed_.persons)
    assert plain.households["household_id"].to_list() == ["a", "b"]


def test_persons_without_household_and_headless_households_are_refused(make: Callable) -> None:
    persons, households = make({"a": [{}], "b": [{}]})
    with pytest.raises(RecordsError, match="household b"):
        build_units(persons, households.head(1))
    with pytest.raises(RecordsError, match="household b"):
        build_units(persons.head(1), households)
    with pytest.raises(RecordsError, match="exactly one householder"):
        build_units(persons.with_columns(pl.lit("child").alias("relationship")), households)


def test_rhode_island_agrees_with_acs_tables_within_their_margins(realdata: Path) -> None:
    data = read_pums(realdata / "acs_pums/2018_1yr/csv_pri.zip", year=2018, state_fips="44")
    units = build_units(data.persons, data.households)
    homes = units.households.filter(~pl.col("is_group_quarters"))
    weight = homes["design_weight"]
    assert units.households.height == 4_989
    # Estimate and twice the published 90 % margin (PUMS is a subsample): B19053, B19056, B19052,
    # B19066, B19065.
    for column, published, margin in (
        ("any_self_employment", 33_558, 2_663),
        ("any_ssi", 31_864, 3_187),
        ("any_wages", 293_121, 5_880),
    ):
        assert abs(weight.filter(homes[column]).sum() - published) <= 2 * margin, column
    for column, published, margin in (
        ("aggregate_ssi", 321_767_400, 38_869_420),
        ("aggregate_social_security", 2_539_028_500, 82_627_497),
    ):
        assert abs((weight * homes[column]).sum() - published) <= 2 * margin, column
    assert weight.filter(homes["household_type"] == "married_couple").sum() == 173_610
