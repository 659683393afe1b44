"""What only the CPS asks of the sample's people: parts add up, answers agree with one another."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.sample.lent_items import OTHER_KINDS, LentItems, lent_items
from pipeline.sample.population import Population, build_population
from pipeline.sample.settings import small_settings


@pytest.fixture(scope="module")
def population() -> Population:
    return build_population(small_settings().model_copy(update={"scale": 1.0}))


@pytest.fixture(scope="module")
def lent(population) -> LentItems:
    return lent_items(population)


def test_kinds_of_other_income_and_of_retirement_add_up(population, lent):
    p, x = population.persons, lent.persons
    assert np.array_equal(sum(x[name] for name in OTHER_KINDS), p["other_income"])
    kinds = ("pensions", "annuities", "survivor_benefits", "disability_benefits")
    whole = sum(x[name] for name in (*kinds, "retirement_withdrawals"))
    assert np.array_equal(whole, p["retirement"])
    assert all((x[name] >= 0).all() for name in (*OTHER_KINDS, *kinds))


def test_insurance_of_a_person_does_not_contradict_itself(lent):
    x = lent.persons
    assert np.array_equal(x["health_insurance"], x["private_insurance"] | x["public_insurance"])
    assert not (x["employer_insurance"] & ~x["private_insurance"]).any()
    assert not ((x["medicare"] | x["medicaid"]) & ~x["public_insurance"]).any()
    assert 0.75 < x["health_insurance"].mean() < 0.97


def test_aid_is_for_who_may_have_it(population, lent):
    u, x = population.units, lent.units
    assert np.array_equal(x["snap_benefits"] > 0, u["food_stamps"])
    assert not ((x["public_housing"] | x["rent_subsidy"]) & u["owner"]).any()
    assert not (x["public_housing"] & x["rent_subsidy"]).any()
    assert np.array_equal(x["energy_benefits"] > 0, x["energy_assistance"])
    assert not (x["energy_assistance"] & ~population.is_household).any()


def test_the_items_are_the_same_again_and_leave_the_population_as_it_was(population, lent):
    before = {name: values.copy() for name, values in population.persons.items()}
    again = lent_items(population)
    assert all(np.array_equal(again.persons[n], v) for n, v in lent.persons.items())
    assert all(np.array_equal(again.units[n], v) for n, v in lent.units.items())
    assert all(np.array_equal(before[n], v) for n, v in population.persons.items())
