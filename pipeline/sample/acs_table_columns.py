"""The columns of detailed tables (B01001 and the like) and of S1901, over the true population.

Belongs here: universes and classes, written from the tables' shells and independently of
``data_specs``. Does not belong here: profiles (``acs_profile_columns.py``), sampling, text.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.sample.acs_columns import Column, Count, Counter, Median, classes, household_kinds
from pipeline.sample.population import Population

_B01001_LOWER = (
    *(0, 5, 10, 15, 18, 20, 21, 22, 25, 30, 35, 40),
    *(45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85),
)
_B17001_LOWER = (0, 5, 6, 12, 15, 16, 18, 25, 35, 45, 55, 65, 75)
B19001_UPPER = np.array([10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 75, 100, 125, 150, 200]) * 1000
S1901_UPPER = np.array([10, 15, 25, 35, 50, 75, 100, 150, 200]) * 1000


def detailed_columns(population: Population, table: str, income_factor: float) -> dict[str, Column]:
    """The columns of one detailed table, keyed ``B19001_001`` and so on. Raises KeyError for a
    table that is not modelled.
    """
    made = _TABLES[table](Counter(population, income_factor))
    return {
        f"{table}_{number:03d}": column if isinstance(column, Median) else Count(column)
        for number, column in enumerate(made, start=1)
    }


def _by_class(
    c: Counter, within: np.ndarray, values: np.ndarray, lower: tuple[int, ...]
) -> list[np.ndarray]:
    """Persons ``within``, then those of each class of ``values``."""
    group = classes(values, np.array(lower[1:]))
    return [c.persons(within), *(c.persons(within & (group == i)) for i in range(len(lower)))]


def _b01001(c: Counter) -> list[np.ndarray]:
    a, female = c.p["age"], c.p["female"]
    made = [c.persons(np.ones(len(a), dtype=bool))]
    for sex in (~female, female):
        made += _by_class(c, sex, a, _B01001_LOWER)
    return made


def _b03002(c: Counter) -> list[np.ndarray]:
    """Of two or more races a made-up share (by age) names "some other race" among them."""
    race, hispanic = c.p["race"], c.p["hispanic"]
    with_other = c.p["age"] % 11 < 3
    made = [c.persons(race >= 0)]
    for origin in (~hispanic, hispanic):
        several = origin & (race == 6)
        races = [c.persons(origin & (race == i)) for i in range(6)]
        parts = [c.persons(several & with_other), c.persons(several & ~with_other)]
        made += [c.persons(origin), *races, c.persons(several), *parts]
    return made


def _b11001(c: Counter) -> list[np.ndarray]:
    k = household_kinds(c.population)
    one_parent = (k["male_family"] | k["female_family"], k["male_family"], k["female_family"])
    families = (k["family"], k["married"], *one_parent)
    others = (k["nonfamily"], k["alone"], k["nonfamily"] & ~k["alone"])
    return [c.households(), *(c.households(m) for m in (*families, *others))]


def _b15003(c: Counter) -> list[np.ndarray]:
    adult = c.p["age"] >= 25
    return [c.persons(adult), *(c.persons(adult & (c.p["schl"] == code)) for code in range(1, 25))]


def _b17001(c: Counter) -> list[np.ndarray]:
    ratio, a, female = c.p["poverty_ratio"], c.p["age"], c.p["female"]
    known = ratio >= 0
    made = [c.persons(known)]
    for poor in (known & (ratio < 100), known & (ratio >= 100)):
        made.append(c.persons(poor))
        for sex in (~female, female):
            made += _by_class(c, poor & sex, a, _B17001_LOWER)
    return made


def _b19001(c: Counter) -> list[np.ndarray]:
    group = classes(c.income(), B19001_UPPER)
    return [c.households(), *(c.households(group == i) for i in range(len(B19001_UPPER) + 1))]


def _with(c: Counter, *incomes: str) -> list[np.ndarray]:
    """Households, those in which a person of 15 or more has one of the incomes, and the others."""
    has = np.any([c.p[name] != 0 for name in incomes], axis=0)
    mask = c.any_person((c.p["age"] >= 15) & has)
    return [c.households(), c.households(mask), c.households(~mask)]


def _b22010(c: Counter) -> list[np.ndarray]:
    stamps, disabled = c.u["food_stamps"], c.any_person(c.p["disability"])
    made = [c.households()]
    for group in (stamps, ~stamps):
        made += [c.households(m) for m in (group, group & disabled, group & ~disabled)]
    return made


_TABLES: dict[str, Callable[[Counter], list]] = {
    "B01001": _b01001,
    "B03002": _b03002,
    "B11001": _b11001,
    "B15003": _b15003,
    "B17001": _b17001,
    "B19001": _b19001,
    "B19013": lambda c: [c.median_of_units(c.income(), c.household)],
    "B19025": lambda c: [c.income() * c.household],
    "B19052": lambda c: _with(c, "wages"),
    "B19053": lambda c: _with(c, "self_employment"),
    "B19055": lambda c: _with(c, "social_security"),
    "B19056": lambda c: _with(c, "ssi"),
    "B19065": lambda c: [c.dollars("social_security")],
    "B19066": lambda c: [c.dollars("ssi")],
    "B22010": _b22010,
}
ONE_YEAR_TABLES = tuple(t for t in _TABLES if t != "B11001")
TRACT_TABLES = ("B01001", "B11001", "B19001")
DOLLAR_TABLES = ("B19025", "B19065", "B19066")


def s1901_universes(population: Population) -> tuple[np.ndarray, ...]:
    """Masks over units for the four column groups of S1901: households, families, married-couple
    families, nonfamily households.
    """
    k = household_kinds(population)
    return population.is_household, k["family"], k["married"], k["nonfamily"]


def group_income(population: Population, income_factor: float) -> tuple[np.ndarray, ...]:
    """Income for each column group of S1901: household income, and for families that of the related
    members only.
    """
    s, counter = population.skeleton, Counter(population, income_factor)
    related = np.isin(s.relationship, [0, 1, 3, 4, 5]) & (s.age >= 15)
    family = counter.sum("total_income", related) * income_factor
    whole = counter.income()
    return whole, family, family, whole
