"""The columns of the five-year profiles DP02 to DP05, as numbers of units of the true population.

Belongs here: what each column counts (2022 numbering), written from the tables' shells and
independently of ``data_specs``. Does not belong here: detailed tables (``acs_table_columns.py``),
sampling, text.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.sample.acs_columns import Column, Count, Counter, Median, Ratio
from pipeline.sample.composition import RELATIONSHIPS
from pipeline.sample.people import EMPLOYMENT, RACES, SCHOOLS
from pipeline.sample.population import Population

_DP05_RACES = dict(zip(RACES, (37, 38, 39, 44, 52, 57, 58), strict=True))


class _Profile:
    """The columns of one profile, filled by number. A class of a universe is published with its
    share of the universe.
    """

    def __init__(self, table: str, counter: Counter) -> None:
        self.table, self.counter = table, counter
        self.columns: dict[str, Column] = {}

    def put(self, number: int, column: Column) -> None:
        self.columns[f"{self.table}_{number:04d}"] = column

    def persons(
        self, number: int, universe: np.ndarray, classes: Mapping[int, np.ndarray] | None = None
    ) -> None:
        count = self.counter.persons
        self.put(number, Count(count(universe)))
        for place, mask in (classes or {}).items():
            self.put(place, Count(count(mask), f"{self.table}_{number:04d}"))

    def households(self, number: int, classes: Mapping[int, np.ndarray] | None = None) -> None:
        self.put(number, Count(self.counter.households()))
        for place, mask in (classes or {}).items():
            share = Count(self.counter.households(mask), f"{self.table}_{number:04d}")
            self.put(place, share)


def profile_columns(population: Population, income_factor: float) -> dict[str, Column]:
    """The columns that the tract files hold, keyed by code without suffix."""
    made: dict[str, Column] = {}
    counter = Counter(population, income_factor)
    for table, fill in (("DP02", _dp02), ("DP03", _dp03), ("DP04", _dp04), ("DP05", _dp05)):
        profile = _Profile(table, counter)
        fill(profile, counter)
        made |= profile.columns
    return made


def _dp02(d: _Profile, c: Counter) -> None:
    p, a = c.p, c.p["age"]
    institution = p["relationship"] == RELATIONSHIPS.index("gq_institutional")
    civilian = ~institution & (p["employment"] != EMPLOYMENT.index("armed_forces"))
    schools = {53 + i: p["school"] == i for i in range(1, len(SCHOOLS))}
    adult, born_abroad, speaker = a >= 25, p["foreign_born"], a >= 5
    d.households(1)
    d.put(16, Ratio(c.persons(c.household[c.unit]), c.households(), 2))
    d.persons(37, p["gave_birth"])
    d.persons(53, p["school"] >= 1, schools)
    d.persons(59, adult, {67: adult & (p["schl"] >= 16), 68: adult & (p["schl"] >= 21)})
    d.persons(71, civilian, {72: civilian & p["disability"]})
    d.persons(79, a >= 1, {80: p["moved"] == 0, 82: p["moved"] == 1, 87: p["moved"] == 2})
    d.persons(95, born_abroad, {96: p["naturalized"], 97: born_abroad & ~p["naturalized"]})
    other = p["other_language"]
    d.persons(112, speaker, {113: speaker & ~other, 114: speaker & other})
    d.households(152, {153: c.u["computer"], 154: c.u["broadband"]})


def _dp03(d: _Profile, c: Counter) -> None:
    p, over16 = c.p, c.p["age"] >= 16
    working, jobless, military, out = (p["employment"] == i for i in range(len(EMPLOYMENT)))
    force = working | jobless
    status = {2: over16 & ~out, 3: force, 4: working, 5: jobless, 6: military, 7: out}
    travels = p["at_work"] & (p["minutes"] > 0)
    d.persons(1, over16, status)
    d.persons(8, force)
    d.put(9, Ratio(c.persons(jobless), c.persons(force), 1, 100.0, percent_only=True))
    d.persons(18, p["at_work"], {19 + i: p["commute"] == i for i in range(6)})
    d.put(25, Ratio(c.sum("minutes", travels), c.persons(travels), 1))
    d.households(51)
    d.put(62, c.median_of_units(c.income(), c.household))
    d.put(63, Ratio(c.income() * c.household, c.households(), 0))


def _dp04(d: _Profile, c: Counter) -> None:
    """Housing. Vacant units are no persons' homes, so DP04_0001 to 0005 are made by
    ``acs_profile_files`` from DP04_0045 to 0047.
    """
    owner, pays = c.u["owner"], c.u["gross_rent"] > 0
    d.households(45, {46: owner, 47: ~owner})
    d.put(80, Count(c.households(owner)))
    d.put(89, c.median_of_units(c.u["home_value"], owner))
    d.put(126, Count(c.households(pays)))
    d.put(134, c.median_of_units(c.u["gross_rent"], pays))


def _dp05(d: _Profile, c: Counter) -> None:
    p, a, hispanic = c.p, c.p["age"], c.p["hispanic"]
    everyone = np.ones(len(a), dtype=bool)
    race = {name: p["race"] == i for i, name in enumerate(RACES)}
    sexes = {2: ~p["female"], 3: p["female"]}
    d.persons(1, everyone, sexes | {19: a < 18, 21: a >= 18, 24: a >= 65})
    d.put(18, Median(a + 0.5, c.unit, everyone, decimals=1))
    alone = {number: race[name] for name, number in _DP05_RACES.items()}
    d.persons(33, everyone, {36: ~race["two_or_more"]} | alone)
    not_hispanic = {79 + i: ~hispanic & race[name] for i, name in enumerate(RACES)}
    d.persons(72, everyone, {73: hispanic, 78: ~hispanic} | not_hispanic)
    d.persons(89, (a >= 18) & p["citizen"])
