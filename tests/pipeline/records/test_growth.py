"""What carries a record to the target year: ages that grow apart, and whom a row grows with."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.growth import Growth, population_growth
from pipeline.records.survey_estimates import survey_estimates
from pipeline.vocabulary import POPULATION
from tests.pipeline.records.test_survey_estimates import HOUSEHOLDS, PERSONS, RETURNS, replicates


@dataclass(frozen=True)
class Group:
    domain: str
    where: str
    variable: str = "persons"
    over: str | None = "persons"
    value: object = None


YOUNG, OLD = Group("young", "age < 65"), Group("old", "age >= 65")
DIVIDED = (YOUNG, OLD)
PEOPLE = pl.DataFrame(
    {
        "household_id": ["b", "a", "b", "c"],
        "person_number": [2, 1, 1, 1],
        "design_weight": [50.0, 10.0, 30.0, 20.0],
        "age": [20, 70, 66, 30],
        "relationship": ["child", "reference_person", "reference_person", "gq_student"],
        "is_group_quarters": [False, False, False, True],
    }
)
# 70 young and 40 old persons become 77 and 60, of 137.
PUBLISHED = {POPULATION: 137.0, ("persons", "young"): 77.0, ("persons", "old"): 60.0}


def grown(growth: Growth) -> list[float]:
    """By household and person."""
    return growth.persons.sort("household_id", "person_number")["growth"].to_list()


def test_each_age_grows_as_published_and_the_population_to_its_total() -> None:
    made = population_growth(PEOPLE, PUBLISHED, DIVIDED)
    assert made is not None and made.groups == 2 and not made.notes
    assert grown(made) == pytest.approx([1.5, 1.5, 1.1, 1.1])
    # Ages say how the population is made up, and the total how many there are.
    twice = population_growth(PEOPLE, {**PUBLISHED, POPULATION: 274.0}, DIVIDED)
    assert grown(twice) == pytest.approx([3.0, 3.0, 2.2, 2.2])


def test_a_household_grows_as_its_householder_and_a_tax_unit_as_its_primary_person() -> None:
    made = population_growth(PEOPLE, PUBLISHED, DIVIDED)
    households = pl.DataFrame({"household_id": ["c", "a", "b"]})
    assert made.of("households", households, PEOPLE) == pytest.approx([1.1, 1.5, 1.5])
    units = pl.DataFrame({"household_id": ["b", "b"], "primary_person": [2, 1]})
    assert made.of("tax_units", units, PEOPLE) == pytest.approx([1.1, 1.5])
    assert made.of("persons", PEOPLE, PEOPLE) == pytest.approx([1.1, 1.5, 1.5, 1.1])


@pytest.mark.parametrize(
    ("published", "groups", "noted"),
    [
        pytest.param(PUBLISHED, (), 0, id="no-groups"),
        pytest.param({POPULATION: 137.0}, DIVIDED, 2, id="ages-not-published"),
        pytest.param({**PUBLISHED, ("persons", "old"): None}, DIVIDED, 1, id="one-age-withheld"),
        pytest.param(
            {**PUBLISHED, ("persons", "oldest"): 5.0},
            (*DIVIDED, Group("oldest", "age > 200")),
            1,
            id="published-and-nobody-of-it",
        ),
    ],
)
def test_without_all_ages_everybody_grows_by_one_number(published, groups, noted) -> None:
    made = population_growth(PEOPLE, published, groups)
    assert grown(made) == pytest.approx([137 / 110] * 4) and made.groups == 1
    assert sum(note.count for note in made.notes) == noted
    assert bool(noted) == ("growth_by_one_number" in {note.code for note in made.notes})


def test_without_a_published_population_nothing_grows() -> None:
    assert population_growth(PEOPLE, {}, DIVIDED) is None
    assert population_growth(PEOPLE, {POPULATION: None}, DIVIDED) is None


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param((YOUNG, Group("old", "age > 66")), id="one-in-none"),
        pytest.param((YOUNG, Group("old", "age >= 20")), id="some-in-both"),
    ],
)
def test_groups_that_do_not_divide_the_population_are_refused(groups) -> None:
    with pytest.raises(RecordsError, match=r"do not divide it.*method\.growth_by"):
        population_growth(PEOPLE, PUBLISHED, groups)


def test_the_order_of_records_changes_no_bit() -> None:
    one = population_growth(PEOPLE, PUBLISHED, DIVIDED).persons
    other = population_growth(PEOPLE.reverse(), PUBLISHED, DIVIDED).persons
    assert one.sort(one.columns).equals(other.sort(one.columns))


def test_estimates_are_carried_row_by_row_and_so_are_their_errors() -> None:
    """Person 1 of b, of 66 years, has 2 more in one replicate, his household 5 more."""
    people = PEOPLE.filter(pl.col("household_id") != "c")
    tables = {
        "persons": people,
        "households": pl.DataFrame(
            {
                "household_id": ["b", "a"],
                "design_weight": [31.0, 11.0],
                "puma": ["4400102", "4400101"],
            }
        ),
        "tax_units": pl.DataFrame(
            {"household_id": ["a", "b"], "tax_unit": [1, 1], "primary_person": [1, 2]}
        ),
    }
    growth = population_growth(
        people, {POPULATION: 115.0, ("persons", "young"): 55.0, ("persons", "old"): 60.0}, DIVIDED
    )
    wanted = [PERSONS, HOUSEHOLDS, RETURNS]
    table, _ = survey_estimates(tables, replicates(), wanted, "44", growth)
    state = table.filter(pl.col("level") == "state").sort("variable")
    names = ("estimate", "carried", "standard_error", "carried_standard_error")
    found = {r["variable"]: tuple(r[n] for n in names) for r in state.to_dicts()}
    one = sqrt(4 / 80)
    assert found["persons"] == pytest.approx((90.0, 115.0, 2 * one, 3 * one))
    assert found["households"] == pytest.approx((42.0, 63.0, 5 * one, 7.5 * one))
    assert found["returns"] == pytest.approx((60.0, 70.0, 0.0, 0.0))
    bare, _ = survey_estimates(tables, replicates(), wanted, "44")
    assert bare["carried"].null_count() == bare.height
    assert np.allclose(bare["estimate"], table["estimate"])
