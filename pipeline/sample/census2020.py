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
from pipeline.sample.residence import Residence, staying
from pipeline.sample.surveys import year_factor

CENSUS_YEARS_BEFORE = 2.25  # 1 April 2020 to mid-2022
_RACES = range(6)
# For rent; rented, not occupied; for sale; sold, not occupied; seasonal; the rest is other vacant.
_VACANT_SHARES = {150: 0.25, 151: 0.03, 152: 0.12, 153: 0.04, 154: 0.35}


class _Census:
    """Counts by tract of the persons and households that lived there then (``kept``)."""

    def __init__(self, population: Population, kept: Residence) -> None:
        self.population, self.kept = population, kept

    def persons(self, mask: np.ndarray) -> np.ndarray:
        return self.kept.by_tract(self.population.count_by_unit(mask)).astype(np.int64)

    def households(self, mask: np.ndarray) -> np.ndarray:
        return self.kept.by_tract(mask & self.population.is_household).astype(np.int64)

    def units_with(self, mask: np.ndarray) -> np.ndarray:
        """Mask over units that hold a person of ``mask``."""
        return self.population.count_by_unit(mask) > 0

    def median_age(self, mask: np.ndarray) -> list[str]:
        """The mean of the two middle ages, plus half a year of being past a birthday."""
        age = self.population.persons["age"]
        counts = [self.persons(mask & (age == years)) for years in range(int(age.max()) + 1)]
        below = np.cumsum(counts, axis=0)
        people = below[-1]
        middle = [(below <= place).sum(axis=0) for place in ((people - 1) // 2, people // 2)]
        ages = (middle[0] + middle[1]) / 2.0 + 0.5
        return [
            f"{years:.1f}" if n else "-666666666.0" for years, n in zip(ages, people, strict=True)
        ]


def _age_block(c: _Census, start: int, mask: np.ndarray) -> dict[int, np.ndarray]:
    """Total, 18 five-year ages, and the selected ages 16+, 18+, 21+, 62+, 65+: 24 columns."""
    a = c.population.persons["age"]
    group = np.minimum(a // 5, 17)
    fives = [mask & (group == i) for i in range(18)]
    selected = [mask & (a >= lower) for lower in (16, 18, 21, 62, 65)]
    return {start + i: c.persons(m) for i, m in enumerate((mask, *fives, *selected))}


def _tallies(race: np.ndarray, age: np.ndarray) -> list[np.ndarray]:
    """Alone or in combination: people of two races are counted as white and, by turns, black, AIAN,
    Asian, NHPI or other.
    """
    several = race == 6
    partner = np.where(several, np.array([1, 1, 5, 3, 1, 5, 2, 5, 1, 4])[age % 10], -1)
    return [(race == 0) | several, *((race == i) | (partner == i) for i in range(1, 6))]


def _vacant(population: Population, households: np.ndarray) -> np.ndarray:
    settings = population.settings
    units = np.round(households / (1 - settings.vacant_share)).astype(int)
    return settings.stream("vacant2020").binomial(units, settings.vacant_share)


def dp1_columns(population: Population, kept: Residence) -> dict[str, list[str]]:
    """``DP1_0001C`` to ``DP1_0160C`` as text, one entry per tract."""
    c = _Census(population, kept)
    p = population.persons
    a, female = p["age"], p["female"]
    everyone = np.ones(len(a), dtype=bool)
    counts = _age_block(c, 1, everyone) | _age_block(c, 25, ~female) | _age_block(c, 49, female)
    counts |= _races(c, everyone) | _relationships(c) | _households(c)
    texts = {number: [str(v) for v in values] for number, values in counts.items()}
    texts |= {73: c.median_age(everyone), 74: c.median_age(~female), 75: c.median_age(female)}
    texts |= _housing(c, counts[132])
    return {f"DP1_{number:04d}C": texts[number] for number in sorted(texts)}


def _races(c: _Census, everyone: np.ndarray) -> dict[int, np.ndarray]:
    p = c.population.persons
    race, hispanic = p["race"], p["hispanic"]
    masks = {76: everyone, 77: race != 6, 84: race == 6, 92: everyone, 95: everyone}
    masks |= {78 + i: race == i for i in _RACES} | {93: hispanic, 94: ~hispanic}
    for start, origin in ((96, hispanic), (104, ~hispanic)):
        masks |= {start: origin} | {start + 1 + i: origin & (race == i) for i in range(7)}
    tallies = [c.persons(mask) for mask in _tallies(race, p["age"])]
    made = {number: c.persons(mask) for number, mask in masks.items()}
    return made | {85: np.sum(tallies, axis=0)} | {86 + i: t for i, t in enumerate(tallies)}


def _housing(c: _Census, occupied: np.ndarray) -> dict[int, list[str]]:
    """Housing units by occupancy and tenure, kinds of vacant units, and the two vacancy rates."""
    vacant = _vacant(c.population, occupied)
    kinds = {n: np.floor(share * vacant).astype(int) for n, share in _VACANT_SHARES.items()}
    owned = c.population.units["owner"]
    owner, renter = c.households(owned), c.households(~owned)
    d = {147: occupied + vacant, 148: occupied, 149: vacant, **kinds}
    d |= {155: vacant - sum(kinds.values()), 158: occupied, 159: owner, 160: renter}
    with np.errstate(divide="ignore", invalid="ignore"):
        of_owners = np.nan_to_num(100.0 * d[152] / (owner + d[152] + d[153]))
        of_renters = np.nan_to_num(100.0 * d[150] / (renter + d[150] + d[151]))
    rates = {156: [f"{v:.1f}" for v in of_owners], 157: [f"{v:.1f}" for v in of_renters]}
    return rates | {number: [str(v) for v in values] for number, values in d.items()}


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
    couple = {133: spouse, 134: spouse & own, 135: partner & ~spouse, 136: partner & ~spouse & own}
    masks = {132: population.is_household} | couple
    for start, sex in ((137, ~female), (141, female)):
        masks |= {
            start: single & sex,
            start + 1: alone & sex,
            start + 2: alone & sex & old_head,
            start + 3: single & sex & own,
        }
    masks |= {145: minor, 146: old}
    return {n: c.households(mask) for n, mask in masks.items()}


def pl_columns(population: Population, kept: Residence) -> dict[str, list[str]]:
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
    masks: dict[str, np.ndarray] = {}
    for by_race, by_origin, universe in (("P1", "P2", adult | True), ("P3", "P4", adult)):
        there = universe & ~hispanic
        masks |= {f"{by_race}_001N": universe, f"{by_origin}_001N": universe}
        masks |= {f"{by_race}_{3 + i:03d}N": universe & (race == i) for i in range(7)}
        masks |= {f"{by_origin}_002N": universe & hispanic, f"{by_origin}_003N": there}
        masks |= {f"{by_origin}_{5 + i:03d}N": there & (race == i) for i in range(7)}
    kind = {name: gq == i for i, name in enumerate(GQ_KINDS)}
    none = np.zeros(len(race), dtype=bool)
    inside, outside = kind["nursing"] | kind["prison"], kind["dorm"] | kind["barracks"]
    institutional = (inside, kind["prison"], none, kind["nursing"], none)
    others = (outside, kind["dorm"], kind["barracks"], none)
    groups = (gq >= 0, *institutional, *others)
    masks |= {f"P5_{i:03d}N": mask for i, mask in enumerate(groups, start=1)}
    d |= {name: c.persons(mask) for name, mask in masks.items()}
    return {name: [str(v) for v in d[name]] for name in sorted(d)}


def write_census2020(folder: Folder, population: Population) -> None:
    """``tracts_census2020_{count,plrd}_retrieved_data.json`` for every state."""
    g, settings = population.geography, population.settings
    rng = settings.stream("census2020")
    share = np.minimum(year_factor(population, CENSUS_YEARS_BEFORE), 1.0)
    lives = population.residence
    kept = lives.left(staying(rng, lives.times, share[lives.tract]))
    parts = {"count": dp1_columns(population, kept), "plrd": pl_columns(population, kept)}
    for part, columns in parts.items():
        for state in settings.states:
            rows = np.flatnonzero(g.state == state.fips)
            rows = rows[np.argsort(g.tract[rows])]
            names = [str(n) if part == "count" else str(n).replace(";", ",") for n in g.name]
            table = [["GEO_ID", "NAME", *columns]] + [
                [f"1400000US{g.tract[i]}", names[i], *(v[i] for v in columns.values())]
                for i in rows
            ]
            name = f"tracts_census2020_{part}_retrieved_data.json"
            place = f"acs_tables/{state.postal.lower()}_tracts"
            folder.text(f"{place}/{name}", json.dumps(table))
