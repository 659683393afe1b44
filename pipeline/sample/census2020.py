"""The 2020 Census of the sample: demographic profile (DP1) and redistricting data (PL) by tract, as
API JSON.

Belongs here: the columns of the two products, counted on the units that already lived there in
2020. Does not belong here: ACS. The counts are complete and without margins; they differ from the
      ACS by the growth of two years.
"""

from __future__ import annotations

import json

import numpy as np

from pipeline.sample.acs_columns import household_kinds
from pipeline.sample.composition import GQ_KINDS, RELATIONSHIPS
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.sample.surveys import year_factor

CENSUS_YEARS_BEFORE = 2.25  # 1 April 2020 to mid-2022
_RACES = range(6)


class _Census:
    """Counts by tract of the persons and households that ``kept`` marks."""

    def __init__(self, population: Population, kept: np.ndarray) -> None:
        self.population, self.kept = population, kept
        p = population.persons
        self.here = kept[p["unit"]]
        self.tract = population.unit_tract[p["unit"]]
        self.count = population.geography.count

    def persons(self, mask: np.ndarray) -> np.ndarray:
        return np.bincount(self.tract[mask & self.here], minlength=self.count)

    def households(self, mask: np.ndarray) -> np.ndarray:
        return np.bincount(
            self.population.unit_tract[mask & self.kept & self.population.is_household],
            minlength=self.count,
        )

    def units_with(self, mask: np.ndarray) -> np.ndarray:
        """Mask over units that hold a person of ``mask``."""
        return (
            np.bincount(self.population.persons["unit"][mask], minlength=self.population.unit_count)
            > 0
        )

    def median_age(self, mask: np.ndarray) -> list[str]:
        age, keep = self.population.persons["age"], mask & self.here
        made = []
        for t in range(self.count):
            ages = age[keep & (self.tract == t)]
            made.append(f"{np.median(ages) + 0.5:.1f}" if len(ages) else "-666666666.0")
        return made


def _age_block(c: _Census, start: int, mask: np.ndarray) -> dict[int, np.ndarray]:
    """Total, 18 five-year ages, and the selected ages 16+, 18+, 21+, 62+, 65+: 24 columns."""
    a = c.population.persons["age"]
    group = np.minimum(a // 5, 17)
    block = {start: c.persons(mask)} | {
        start + 1 + i: c.persons(mask & (group == i)) for i in range(18)
    }
    return block | {
        start + 19 + i: c.persons(mask & (a >= lower))
        for i, lower in enumerate((16, 18, 21, 62, 65))
    }


def _tallies(race: np.ndarray, age: np.ndarray) -> list[np.ndarray]:
    """Alone or in combination: people of two races are counted as white and, by turns, black, AIAN,
    Asian, NHPI or other.
    """
    several = race == 6
    partner = np.where(several, np.array([1, 1, 5, 3, 1, 5, 2, 5, 1, 4])[age % 10], -1)
    return [(race == 0) | several, *((race == i) | (partner == i) for i in range(1, 6))]


def _vacant(population: Population, households: np.ndarray) -> np.ndarray:
    settings = population.settings
    rng = settings.stream("vacant2020")
    return rng.binomial(
        np.round(households / (1 - settings.vacant_share)).astype(int), settings.vacant_share
    )


def dp1_columns(population: Population, kept: np.ndarray) -> dict[str, list[str]]:
    """``DP1_0001C`` to ``DP1_0160C`` as text, one entry per tract."""
    c = _Census(population, kept)
    p = population.persons
    a, female, race, hispanic = p["age"], p["female"], p["race"], p["hispanic"]
    everyone = np.ones(len(a), dtype=bool)
    d: dict[int, np.ndarray | list[str]] = (
        _age_block(c, 1, everyone) | _age_block(c, 25, ~female) | _age_block(c, 49, female)
    )
    d |= {73: c.median_age(everyone), 74: c.median_age(~female), 75: c.median_age(female)}
    d |= {76: c.persons(everyone), 77: c.persons(race != 6), 84: c.persons(race == 6)} | {
        78 + i: c.persons(race == i) for i in _RACES
    }
    tallies = [c.persons(mask) for mask in _tallies(race, a)]
    d |= {85: np.sum(tallies, axis=0)} | {86 + i: t for i, t in enumerate(tallies)}
    d |= {
        92: c.persons(everyone),
        93: c.persons(hispanic),
        94: c.persons(~hispanic),
        95: c.persons(everyone),
    }
    for start, origin in ((96, hispanic), (104, ~hispanic)):
        d |= {start: c.persons(origin)} | {
            start + 1 + i: c.persons(origin & (race == i)) for i in range(7)
        }
    d |= _relationships(c) | _households(c)
    vacant = _vacant(population, np.asarray(d[132]))
    d |= {147: np.asarray(d[132]) + vacant, 148: d[132], 149: vacant}
    left = vacant.copy()
    for number, share in ((150, 0.25), (151, 0.03), (152, 0.12), (153, 0.04), (154, 0.35)):
        d[number] = np.floor(share * vacant).astype(int)
        left = left - d[number]
    d[155] = left
    owner = population.units["owner"]
    d |= {158: d[132], 159: c.households(owner), 160: c.households(~owner)}
    with np.errstate(divide="ignore", invalid="ignore"):
        d[156] = [f"{v:.1f}" for v in np.nan_to_num(100.0 * d[152] / (d[159] + d[152] + d[153]))]
        d[157] = [f"{v:.1f}" for v in np.nan_to_num(100.0 * d[150] / (d[160] + d[150] + d[151]))]
    return {f"DP1_{n:04d}C": [str(v) for v in d[n]] for n in sorted(d)}


def _relationships(c: _Census) -> dict[int, np.ndarray]:
    p, s = c.population.persons, c.population.skeleton
    r, a, female = p["relationship"], p["age"], p["female"]
    same = female == female[c.population.head][s.unit]
    is_ = {name: r == i for i, name in enumerate(RELATIONSHIPS)}
    institutional, other = is_["gq_institutional"], is_["gq_noninstitutional"]
    masks = {
        112: r >= 0,
        113: r <= 6,
        114: is_["reference_person"],
        115: is_["spouse"] & ~same,
        116: is_["spouse"] & same,
        117: is_["unmarried_partner"] & ~same,
        118: is_["unmarried_partner"] & same,
        119: is_["child"],
        120: is_["child"] & (a < 18),
        121: is_["grandchild"],
        122: is_["grandchild"] & (a < 18),
        123: is_["other_relative"],
        124: is_["nonrelative"],
        125: institutional | other,
        126: institutional,
        127: institutional & ~female,
        128: institutional & female,
        129: other,
        130: other & ~female,
        131: other & female,
    }
    return {n: c.persons(mask) for n, mask in masks.items()}


def _households(c: _Census) -> dict[int, np.ndarray]:
    population = c.population
    p = population.persons
    minor, old = c.units_with(p["age"] < 18), c.units_with(p["age"] >= 65)
    own = c.units_with((p["relationship"] == RELATIONSHIPS.index("child")) & (p["age"] < 18))
    spouse, partner = c.units_with(p["relationship"] == 1), c.units_with(p["relationship"] == 2)
    female = p["female"][population.head]
    old_head = p["age"][population.head] >= 65
    single, alone = ~spouse & ~partner, household_kinds(population)["alone"]
    masks = {
        132: population.is_household,
        133: spouse,
        134: spouse & own,
        135: partner & ~spouse,
        136: partner & ~spouse & own,
    }
    for start, sex in ((137, ~female), (141, female)):
        masks |= {
            start: single & sex,
            start + 1: alone & sex,
            start + 2: alone & sex & old_head,
            start + 3: single & sex & own,
        }
    masks |= {145: minor, 146: old}
    return {n: c.households(mask) for n, mask in masks.items()}


def pl_columns(population: Population, kept: np.ndarray) -> dict[str, list[str]]:
    """The redistricting columns H1, P1 to P5 that the tract file holds, as text, one entry per
    tract.
    """
    c = _Census(population, kept)
    p = population.persons
    race, hispanic, gq = p["race"], p["hispanic"], population.skeleton.gq_kind[p["unit"]]
    households = c.households(population.is_household)
    vacant = _vacant(population, households)
    d = {"H1_001N": households + vacant, "H1_002N": households, "H1_003N": vacant}
    adult = p["age"] >= 18
    for table, universe in (("P1", adult | True), ("P3", adult)):
        d |= {f"{table}_001N": c.persons(universe)} | {
            f"{table}_{3 + i:03d}N": c.persons(universe & (race == i)) for i in range(7)
        }
    for table, universe in (("P2", adult | True), ("P4", adult)):
        d |= {
            f"{table}_001N": c.persons(universe),
            f"{table}_002N": c.persons(universe & hispanic),
            f"{table}_003N": c.persons(universe & ~hispanic),
        }
        d |= {
            f"{table}_{5 + i:03d}N": c.persons(universe & ~hispanic & (race == i)) for i in range(7)
        }
    kind = {name: gq == i for i, name in enumerate(GQ_KINDS)}
    none = np.zeros(len(race), dtype=bool)
    groups = (
        gq >= 0,
        kind["nursing"] | kind["prison"],
        kind["prison"],
        none,
        kind["nursing"],
        none,
        kind["dorm"] | kind["barracks"],
        kind["dorm"],
        kind["barracks"],
        none,
    )
    d |= {f"P5_{i:03d}N": c.persons(mask) for i, mask in enumerate(groups, start=1)}
    return {name: [str(v) for v in d[name]] for name in sorted(d)}


def write_census2020(folder: Folder, population: Population) -> None:
    """``tracts_census2020_{count,plrd}_retrieved_data.json`` for every state."""
    g, settings = population.geography, population.settings
    rng = settings.stream("census2020")
    share = np.minimum(year_factor(population, CENSUS_YEARS_BEFORE), 1.0)
    kept = rng.random(population.unit_count) < share[population.unit_tract]
    for part, columns in (
        ("count", dp1_columns(population, kept)),
        ("plrd", pl_columns(population, kept)),
    ):
        for state in settings.states:
            rows = np.flatnonzero(g.state == state.fips)
            rows = rows[np.argsort(g.tract[rows])]
            names = [str(n) if part == "count" else str(n).replace(";", ",") for n in g.name]
            table = [["GEO_ID", "NAME", *columns]] + [
                [f"1400000US{g.tract[i]}", names[i], *(v[i] for v in columns.values())]
                for i in rows
            ]
            folder.text(
                f"acs_tables/{state.postal.lower()}_tracts/tracts_census2020_{part}_retrieved_data.json",
                json.dumps(table),
            )
