"""Amounts carried to another year stay consistent."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import TargetError
from pipeline.records.units import build_units
from pipeline.records.uprating import AmountFactor, uprate

MEMBERS = {
    "a": [
        {"wages": 1000.0, "social_security": 200.0},
        {"age": 5},
        {"wages": 500.0, "self_employment": -100.0},
    ],
    "b": [{"relationship": "gq_institutional", "ssi": 10.0}],
}


def test_components_totals_households_and_aggregates_move_together(make: Callable) -> None:
    built = build_units(*make(MEMBERS))
    before = {"persons": built.persons, "households": built.households}
    after, applied = uprate(
        before, {"wages": AmountFactor(1.1, "cpi_u 2018 -> 2022", "BLS"), "social_security": 2.0}
    )
    assert after["persons"]["wages"].to_list() == pytest.approx([1100.0, None, 550.0, 0.0])
    assert after["persons"]["total_income"].to_list() == pytest.approx([1500.0, None, 450.0, 10.0])
    home, dorm = after["households"].iter_rows(named=True)
    assert (
        home["household_income"],
        home["aggregate_wages"],
        home["aggregate_total_income"],
    ) == pytest.approx((1950.0, 1650.0, 1950.0))
    assert dorm["household_income"] is None and dorm["aggregate_ssi"] == 10.0
    assert applied.to_dicts()[0] == {
        "column": "wages",
        "factor": 1.1,
        "rule": "cpi_u 2018 -> 2022",
        "source": "BLS",
        "persons": 2,
    }
    assert after["households"].columns == before["households"].columns


def test_the_given_tables_are_untouched_and_no_factors_change_nothing(make: Callable) -> None:
    persons, households = make(MEMBERS)
    copies = persons.clone(), households.clone()
    uprate({"persons": persons, "households": households}, {"wages": 3.0})
    assert persons.equals(copies[0]) and households.equals(copies[1])
    same, applied = uprate({"persons": persons, "households": households}, {})
    assert (
        same["persons"].equals(persons)
        and same["households"].equals(households)
        and applied.height == 0
    )


@pytest.mark.parametrize(("source", "expected"), [("acs_pums_1yr", 100.0), ("cps_asec", 110.0)])
def test_unemployment_compensation_counts_once(
    make: Callable, source: str, expected: float
) -> None:
    """In the ACS it is a part of other income, in the CPS beside it."""
    persons, households = make(
        {"a": [{"other_income": 90.0, "unemployment_compensation": 10.0, "total_income": 100.0}]},
        source=source,
    )
    after, _ = uprate(
        {"persons": persons, "households": households}, {"unemployment_compensation": 2.0}
    )
    assert after["persons"]["total_income"].item() == expected


@given(st.lists(st.floats(0.5, 3.0), min_size=2, max_size=2))
def test_two_steps_are_one_step_of_the_product(factors: list[float]) -> None:
    persons = pl.DataFrame(
        {
            "household_id": ["a"],
            "person_number": [1],
            "source": ["x"],
            "wages": [100.0],
            "ssi": [5.0],
            "total_income": [105.0],
        }
    )
    first, second = factors
    twice = uprate(uprate({"persons": persons}, {"wages": first})[0], {"wages": second})[0][
        "persons"
    ]
    once = uprate({"persons": persons}, {"wages": first * second})[0]["persons"]
    assert twice["total_income"].item() == pytest.approx(once["total_income"].item()) and twice[
        "wages"
    ].item() == pytest.approx(once["wages"].item())


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ({"total_income": 1.1}, "total_income"),
        ({"wage": 1.1}, "wage"),
        ({"wages": 0.0}, "factor of wages is 0.0"),
        ({"wages": float("nan")}, "nan"),
    ],
)
def test_refusals(make: Callable, factors: dict[str, float], words: str) -> None:
    persons, households = make(MEMBERS)
    with pytest.raises(TargetError, match=words):
        uprate({"persons": persons, "households": households}, factors)


def test_tax_units_must_be_built_afterwards(make: Callable) -> None:
    persons, _ = make(MEMBERS)
    with pytest.raises(TargetError, match="first"):
        uprate({"persons": persons, "tax_units": persons}, {"wages": 1.1})
    with pytest.raises(TargetError, match="no persons"):
        uprate({}, {"wages": 1.1})
