"""What every column of the published ACS tables counts, as numbers of units of the true population.

Belongs here: table and column definitions (universes, classes), written from the tables' shells and
independently of ``data_specs``. Does not belong here: sampling (``surveys.py``), text
(``acs_files.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from pipeline.sample.composition import RELATIONSHIPS
from pipeline.sample.people import EMPLOYMENT, RACES, SCHOOLS
from pipeline.sample.population import Population

B01001_LOWER = np.array(
    [0, 5, 10, 15, 18, 20, 21, 22, 25, 30, 35, 40, 45, 50, 55, 60, 62, 65, 67, 70, 75, 80, 85]
)
B17001_LOWER = np.array([0, 5, 6, 12, 15, 16, 18, 25, 35, 45, 55, 65, 75])
B19001_UPPER = np.array([10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 75, 100, 125, 150, 200]) * 1000
S1901_UPPER = np.array([10, 15, 25, 35, 50, 75, 100, 150, 200]) * 1000


@dataclass(frozen=True)
class Count:
    """Persons, households or dollars: ``x`` per unit. ``base`` is the column whose share the
    percentage is; None: a universe of its own.
    """

    x: np.ndarray
    base: str | None = None


@dataclass(frozen=True)
class Ratio:
    """A mean or a percentage: sum of ``top`` over sum of ``bottom`` times ``scale``.
    ``percent_only``: published in PE, not in E.
    """

    top: np.ndarray
    bottom: np.ndarray
    decimals: int
    scale: float = 1.0
    percent_only: bool = False


@dataclass(frozen=True)
class Median:
    """The median of ``values`` over elements in ``universe``; ``unit`` says whose weight each
    element carries.
    """

    values: np.ndarray
    unit: np.ndarray
    universe: np.ndarray
    decimals: int = 0


Column = Count | Ratio | Median


class Counter:
    """Counts of persons and households by unit, from masks over the true population."""

    def __init__(self, population: Population) -> None:
        self.population = population
        self.p = population.persons
        self.u = population.units
        self.unit = self.p["unit"]
        self.size = population.unit_count
        self.household = population.is_household
        self.income_factor = 1.0

    def persons(self, mask: np.ndarray) -> np.ndarray:
        return np.bincount(self.unit[mask], minlength=self.size).astype(float)

    def households(self, mask: np.ndarray | None = None) -> np.ndarray:
        return (self.household if mask is None else self.household & mask).astype(float)

    def dollars(self, name: str) -> np.ndarray:
        """Aggregate of an income over household members of 15 and over."""
        keep = (self.p["age"] >= 15) & self.household[self.unit]
        return (
            np.bincount(self.unit[keep], weights=self.p[name][keep], minlength=self.size)
            * self.income_factor
        )

    def any_person(self, mask: np.ndarray) -> np.ndarray:
        return self.persons(mask) > 0

    def income(self) -> np.ndarray:
        return self.u["household_income"] * self.income_factor


def household_kinds(population: Population) -> dict[str, np.ndarray]:
    """Masks over units: family, married, male_family, female_family, nonfamily, alone. A family
    holds a relative of the reference person.
    """
    s = population.skeleton
    relatives = (
        np.bincount(s.unit[np.isin(s.relationship, [1, 3, 4, 5])], minlength=population.unit_count)
        > 0
    )
    household, size = population.is_household, population.unit_size
    spouse = np.bincount(s.unit[s.relationship == 1], minlength=population.unit_count) > 0
    female = s.female[population.head]
    family = household & relatives
    return {
        "family": family,
        "married": family & spouse,
        "male_family": family & ~spouse & ~female,
        "female_family": family & ~spouse & female,
        "nonfamily": household & ~family,
        "alone": household & (size == 1),
    }


def classes(values: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Index of the class of each value: 0 below ``upper[0]``, ..., len(upper) at or above the last
    bound.
    """
    return np.searchsorted(upper, values, side="right")


def profile_columns(population: Population, income_factor: float) -> dict[str, Column]:
    """The columns of the five-year profiles DP02 to DP05 that the tract files hold, keyed by code
    without suffix (2022 numbering).
    """
    c = Counter(population)
    c.income_factor = income_factor
    return _dp02(c) | _dp03(c) | _dp04(c) | _dp05(c)


def _shares(
    columns: dict[str, Column],
    table: str,
    base: int,
    members: dict[int, np.ndarray],
    counter: Callable[[np.ndarray], np.ndarray],
) -> None:
    for number, mask in members.items():
        columns[f"{table}_{number:04d}"] = Count(counter(mask), f"{table}_{base:04d}")


def _dp02(c: Counter) -> dict[str, Column]:
    p, a = c.p, c.p["age"]
    home = c.household[c.unit]
    noninstitutional = (p["relationship"] != RELATIONSHIPS.index("gq_institutional")) & (
        p["employment"] != EMPLOYMENT.index("armed_forces")
    )
    d: dict[str, Column] = {
        "DP02_0001": Count(c.households()),
        "DP02_0016": Ratio(c.persons(home), c.households(), 2),
    }
    d["DP02_0037"] = Count(c.persons(p["gave_birth"]))
    d["DP02_0053"] = Count(c.persons(p["school"] >= 1))
    _shares(
        d,
        "DP02",
        53,
        {53 + i: p["school"] == SCHOOLS.index(name) for i, name in enumerate(SCHOOLS) if i},
        c.persons,
    )
    adult = a >= 25
    d["DP02_0059"] = Count(c.persons(adult))
    _shares(
        d, "DP02", 59, {67: adult & (p["schl"] >= 16), 68: adult & (p["schl"] >= 21)}, c.persons
    )
    d["DP02_0071"] = Count(c.persons(noninstitutional))
    _shares(d, "DP02", 71, {72: noninstitutional & p["disability"]}, c.persons)
    d["DP02_0079"] = Count(c.persons(a >= 1))
    _shares(
        d, "DP02", 79, {80: p["moved"] == 0, 82: p["moved"] == 1, 87: p["moved"] == 2}, c.persons
    )
    d["DP02_0095"] = Count(c.persons(p["foreign_born"]))
    _shares(
        d, "DP02", 95, {96: p["naturalized"], 97: p["foreign_born"] & ~p["naturalized"]}, c.persons
    )
    d["DP02_0112"] = Count(c.persons(a >= 5))
    _shares(
        d,
        "DP02",
        112,
        {113: (a >= 5) & ~p["other_language"], 114: (a >= 5) & p["other_language"]},
        c.persons,
    )
    d["DP02_0152"] = Count(c.households())
    _shares(d, "DP02", 152, {153: c.u["computer"], 154: c.u["broadband"]}, c.households)
    return d


def _dp03(c: Counter) -> dict[str, Column]:
    p = c.p
    status = p["employment"]
    over16, working = p["age"] >= 16, status == EMPLOYMENT.index("employed")
    jobless, military, out = status == 1, status == 2, status == 3
    d: dict[str, Column] = {"DP03_0001": Count(c.persons(over16))}
    _shares(
        d,
        "DP03",
        1,
        {2: over16 & ~out, 3: working | jobless, 4: working, 5: jobless, 6: military, 7: out},
        c.persons,
    )
    d["DP03_0008"] = Count(c.persons(working | jobless))
    d["DP03_0009"] = Ratio(
        c.persons(jobless), c.persons(working | jobless), 1, 100.0, percent_only=True
    )
    d["DP03_0018"] = Count(c.persons(p["at_work"]))
    _shares(d, "DP03", 18, {19 + i: p["commute"] == i for i in range(6)}, c.persons)
    travels = p["at_work"] & (p["minutes"] > 0)
    d["DP03_0025"] = Ratio(
        np.bincount(c.unit[travels], weights=p["minutes"][travels], minlength=c.size),
        c.persons(travels),
        1,
    )
    d["DP03_0051"] = Count(c.households())
    d["DP03_0062"] = Median(c.income(), np.arange(c.size), c.household)
    d["DP03_0063"] = Ratio(c.income() * c.household, c.households(), 0)
    return d


def _dp04(c: Counter) -> dict[str, Column]:
    """Housing. Vacant units are no persons' homes, so DP04_0001, 0003, 0004 and 0005 are made by
    ``acs_files`` from DP04_0045 to 0047.
    """
    owner = c.u["owner"]
    pays = c.u["gross_rent"] > 0
    d: dict[str, Column] = {"DP04_0045": Count(c.households())}
    _shares(d, "DP04", 45, {46: owner, 47: ~owner}, c.households)
    d["DP04_0080"] = Count(c.households(owner))
    d["DP04_0089"] = Median(c.u["home_value"], np.arange(c.size), owner)
    d["DP04_0126"] = Count(c.households(pays))
    d["DP04_0134"] = Median(c.u["gross_rent"], np.arange(c.size), pays)
    return d


def _dp05(c: Counter) -> dict[str, Column]:
    p, a = c.p, c.p["age"]
    everyone = np.ones(len(a), dtype=bool)
    race = {name: p["race"] == i for i, name in enumerate(RACES)}
    d: dict[str, Column] = {"DP05_0001": Count(c.persons(everyone))}
    _shares(d, "DP05", 1, {2: ~p["female"], 3: p["female"]}, c.persons)
    d["DP05_0018"] = Median(a + 0.5, c.unit, everyone, decimals=1)
    _shares(d, "DP05", 1, {19: a < 18, 21: a >= 18, 24: a >= 65}, c.persons)
    d["DP05_0033"] = Count(c.persons(everyone))
    alone = {
        36: ~race["two_or_more"],
        37: race["white"],
        38: race["black"],
        39: race["aian"],
        44: race["asian"],
        52: race["nhpi"],
        57: race["other"],
    }
    _shares(d, "DP05", 33, alone | {58: race["two_or_more"]}, c.persons)
    d["DP05_0072"] = Count(c.persons(everyone))
    _shares(d, "DP05", 72, {73: p["hispanic"], 78: ~p["hispanic"]}, c.persons)
    order = ("white", "black", "aian", "asian", "nhpi", "other", "two_or_more")
    _shares(
        d,
        "DP05",
        72,
        {79 + i: ~p["hispanic"] & race[name] for i, name in enumerate(order)},
        c.persons,
    )
    d["DP05_0089"] = Count(c.persons((a >= 18) & p["citizen"]))
    return d


def detailed_columns(
    population: Population, table: str, income_factor: float = 1.0
) -> dict[str, Column]:
    """The columns of one detailed table, keyed ``B19001_001`` and so on. Raises KeyError for a
    table that is not modelled.
    """
    c = Counter(population)
    c.income_factor = income_factor
    made = _TABLES[table](c)
    return {
        f"{table}_{number:03d}": column if isinstance(column, Median) else Count(column)
        for number, column in enumerate(made, start=1)
    }


def _b01001(c: Counter) -> list[np.ndarray]:
    a, female = c.p["age"], c.p["female"]
    group = classes(a, B01001_LOWER[1:])
    made = [c.persons(np.ones(len(a), dtype=bool))]
    for sex in (~female, female):
        made += [c.persons(sex)] + [c.persons(sex & (group == i)) for i in range(len(B01001_LOWER))]
    return made


def _b03002(c: Counter) -> list[np.ndarray]:
    race, hispanic = c.p["race"], c.p["hispanic"]
    made = [c.persons(race >= 0)]
    for origin in (~hispanic, hispanic):
        several = c.persons(origin & (race == 6))
        third = c.persons(origin & (race == 6) & (c.p["age"] % 11 < 3))
        made += (
            [c.persons(origin)]
            + [c.persons(origin & (race == i)) for i in range(6)]
            + [several, third, several - third]
        )
    return made


def _b11001(c: Counter) -> list[np.ndarray]:
    k = household_kinds(c.population)
    other = k["male_family"] | k["female_family"]
    order = (
        k["family"],
        k["married"],
        other,
        k["male_family"],
        k["female_family"],
        k["nonfamily"],
        k["alone"],
        k["nonfamily"] & ~k["alone"],
    )
    return [c.households(), *(c.households(m) for m in order)]


def _b15003(c: Counter) -> list[np.ndarray]:
    adult = c.p["age"] >= 25
    return [c.persons(adult), *(c.persons(adult & (c.p["schl"] == code)) for code in range(1, 25))]


def _b17001(c: Counter) -> list[np.ndarray]:
    known, group = c.p["poverty_ratio"] >= 0, classes(c.p["age"], B17001_LOWER[1:])
    made = [c.persons(known)]
    for poor in (known & (c.p["poverty_ratio"] < 100), known & (c.p["poverty_ratio"] >= 100)):
        made.append(c.persons(poor))
        for sex in (~c.p["female"], c.p["female"]):
            made += [c.persons(poor & sex)] + [
                c.persons(poor & sex & (group == i)) for i in range(len(B17001_LOWER))
            ]
    return made


def _b19001(c: Counter) -> list[np.ndarray]:
    group = classes(c.income(), B19001_UPPER)
    return [c.households(), *(c.households(group == i) for i in range(len(B19001_UPPER) + 1))]


def _with(c: Counter, mask: np.ndarray) -> list[np.ndarray]:
    return [c.households(), c.households(mask), c.households(~mask)]


def _earnings(c: Counter, names: tuple[str, ...]) -> np.ndarray:
    asked = c.p["age"] >= 15
    return c.any_person(asked & np.any([c.p[name] != 0 for name in names], axis=0))


def _b22010(c: Counter) -> list[np.ndarray]:
    stamps, disabled = c.u["food_stamps"], c.any_person(c.p["disability"])
    made = [c.households()]
    for group in (stamps, ~stamps):
        made += [
            c.households(group),
            c.households(group & disabled),
            c.households(group & ~disabled),
        ]
    return made


_TABLES: dict[str, Callable[[Counter], list]] = {
    "B01001": _b01001,
    "B03002": _b03002,
    "B11001": _b11001,
    "B15003": _b15003,
    "B17001": _b17001,
    "B19001": _b19001,
    "B19013": lambda c: [Median(c.income(), np.arange(c.size), c.household)],
    "B19025": lambda c: [c.income() * c.household],
    "B19052": lambda c: _with(c, _earnings(c, ("wages", "self_employment"))),
    "B19053": lambda c: _with(c, _earnings(c, ("self_employment",))),
    "B19055": lambda c: _with(c, _earnings(c, ("social_security",))),
    "B19056": lambda c: _with(c, _earnings(c, ("ssi",))),
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
    p, s = population.persons, population.skeleton
    related = np.isin(s.relationship, [0, 1, 3, 4, 5]) & (s.age >= 15)
    family = (
        np.bincount(
            s.unit[related], weights=p["total_income"][related], minlength=population.unit_count
        )
        * income_factor
    )
    whole = population.units["household_income"] * income_factor
    return whole, family, family, whole
