"""The plan of a made-up state: how large it is, its counties, PUMAs and kinds of tract.

Belongs here: sizes (``generated_states.yaml``) and the settings that the sample's generator makes a
state's records from. Does not belong here: weights (``generated_residence.py``), files
(``generate_state.py``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from pydantic import Field

from calibration_core.errors import SettingsError
from pipeline.sample.geography import build_geography
from pipeline.sample.pums import SerialNumbers
from pipeline.sample.settings import (
    CountySetting,
    SampleSettings,
    StateSetting,
    SurveySetting,
    load_settings,
)
from pipeline.specs.base import SpecModel, load_yaml
from pipeline.specs.known_totals import load_known_totals
from pipeline.specs.states import BY_POSTAL

# Shares of the kinds of tract where many people live and where few do. Kinds are those of
# ``data_specs/sample.yaml``; neighbours are mostly of one kind.
_URBAN = {
    "suburb": 0.22, "working": 0.21, "barrio": 0.13, "downtown": 0.12, "wealthy": 0.11,
    "deprived": 0.09, "retired": 0.07, "campus": 0.03, "wealthy_retired": 0.02,
}  # fmt: skip
_RURAL = {
    "rural": 0.42, "working": 0.16, "rural_hispanic": 0.11, "suburb": 0.10, "retired": 0.10,
    "wealthy_retired": 0.05, "campus": 0.02, "garrison": 0.02, "deprived": 0.02,
}  # fmt: skip
_SAME_AS_NEIGHBOUR = 0.5
# One tract of so many has no people (water, airports).
_TRACTS_PER_EMPTY = 250
# Standard deviation of the logarithm of county sizes: the largest of 58 has a quarter of all.
_COUNTY_SPREAD = 1.5
# Fewest tracts of a county, where the state's tracts suffice: a county of one tract would be a
# handful of records.
_LEAST_TRACTS = 3
# Largest growth of a county a year. The five-year tables stand two years before the estimates: of
# 58 counties the extremes of a normal spread contradict them by 4 %, 8 standard errors of a
# county of 300 tracts (5.9 at 1.2 % a year), and a run rightly refuses that.
_GROWTH = 0.006
# Codes of counties by which readers tell a file's vintage: those of 2022 that a state must have,
# and older ones that it must not. Other codes are odd numbers.
_COUNTY_CODES = {"AK": (63, 158), "CT": (110, 120, 130, 140, 150, 160, 170, 180, 190), "SD": (102,)}
_OLD_CODES = {"AK": (261,), "SD": (113,), "VA": (515,)}
# A tract's own records: the sample's generator makes eight households of a tract at least.
_LEAST_RECORDS = 12
# More would be more than a fifth of all households, and weights below five.
_MOST_RECORDS = 300


@dataclass(frozen=True)
class Size:
    """How large a state is made; ``records`` are household records of the microdata."""

    postal: str
    tracts: int
    pumas: int
    records: int
    seed: int

    def __post_init__(self) -> None:
        found = f"{self.tracts} tracts, {self.pumas} PUMAs, {self.records} records"
        per_tract = self.records / max(self.tracts, 1)
        if not (1 <= self.pumas <= self.tracts and _LEAST_RECORDS <= per_tract <= _MOST_RECORDS):
            raise SettingsError(
                f"A state of such a size cannot be made: {found}",
                where=f"--tracts, --pumas, --records of {self.postal}",
                expected=f"a PUMA or more, each of a tract or more, and {_LEAST_RECORDS} to"
                f" {_MOST_RECORDS} records for every tract",
                remedy="Ask for other numbers of records, PUMAs or tracts",
            )


class StateFacts(SpecModel):
    """What is real about a state: its numbers of tracts and PUMAs of 2020, region, division."""

    tracts: int = Field(gt=0)
    pumas: int = Field(gt=0)
    region: str
    division: str


class Facts(SpecModel):
    """``benchmarks/generated_states.yaml``."""

    states: dict[str, StateFacts]
    households_per_tract: float = Field(gt=0)
    records_per_thousand: float = Field(gt=0)
    least_records: int
    shares: dict[str, float]
    least_answers: dict[str, int]
    largest_share: float

    def surveys(self, size: Size) -> dict[str, SurveySetting]:
        """The share that answers each survey; of the CPS the share of the records, which stand for
        many households.
        """
        households = size.tracts * self.households_per_tract
        made = {}
        for name, usual in self.shares.items():
            share = max(usual, min(self.least_answers[name] / households, self.largest_share))
            of_records = share * households / size.records if name == "cps" else share
            made[name] = SurveySetting(share=min(of_records, 0.9))
        return made


@cache
def facts() -> Facts:
    """The table of real sizes."""
    return load_yaml(Path(__file__).with_name("generated_states.yaml"), Facts)


def size_of(
    postal: str,
    *,
    tracts: int | None = None,
    pumas: int | None = None,
    records: int | None = None,
    scale: float = 1.0,
    seed: int,
) -> Size:
    """The size asked for; what is not said follows from the real number of tracts times ``scale``.

    Raises SettingsError for a state that there is not and a size that cannot be made.
    """
    known = facts()
    if postal not in known.states:
        raise SettingsError(
            f"There is no state {postal}",
            where="generate_state",
            expected=", ".join(known.states),
            remedy="Name states by their postal codes",
        )
    real = known.states[postal]
    areas = tracts or max(2, round(real.tracts * scale))
    groups = pumas or max(1, round(areas * real.pumas / real.tracts))
    usual = areas * known.households_per_tract * known.records_per_thousand / 1000.0
    least = max(known.least_records, _LEAST_RECORDS * areas)
    return Size(postal, areas, groups, records or max(round(usual), least), seed)


def settings_of(size: Size) -> SampleSettings:
    """Settings for the sample's generator: the state, its counties and PUMAs, the kind of every
    tract, and a scale at which households come to ``size.records``.
    """
    known, state = facts(), BY_POSTAL[size.postal]
    real, base = known.states[size.postal], load_settings()
    rng = np.random.default_rng([size.seed, int(state.fips)])
    counties = _counties(rng, size, state.fips)
    settings = base.model_copy(
        update={
            "seed": size.seed * 100 + int(state.fips),
            "states": (
                StateSetting(
                    postal=size.postal,
                    fips=state.fips,
                    name=state.name,
                    division=real.division,
                    region=real.region,
                ),
            ),
            "counties": counties,
            "surveys": known.surveys(size),
            "odd_tracts": {},
            "controlled_tract": f"{counties[0].fips}010100",
        }
    )
    scale = size.records / (620.0 * size.tracts)
    for _ in range(4):
        made = build_geography(settings.model_copy(update={"scale": scale})).sizes["households"]
        scale = min(scale * size.records / int(made.sum()), 10.0)
    return settings.model_copy(update={"scale": scale})


def _counties(rng: np.random.Generator, size: Size, fips: str) -> tuple[CountySetting, ...]:
    """Counties of very different sizes with whole PUMAs in the large ones, and small counties that
    share a PUMA. As many as the state has, if tracts suffice.
    """
    real = int(load_known_totals()["county_count"].figure("2020", size.postal) or 1)
    empty = size.tracts // _TRACTS_PER_EMPTY
    lived_in = size.tracts - empty
    least = min(2, lived_in)
    count = max(least, min(real, lived_in // (2 * _LEAST_TRACTS)))
    shares = np.exp(_COUNTY_SPREAD * rng.normal(size=count))
    fewest = min(_LEAST_TRACTS, lived_in // count)
    free = lived_in - fewest * count
    tracts = _whole(shares / shares.sum() * free, free) + fewest
    pumas = _pumas(tracts, min(size.pumas, lived_in))
    without = np.bincount(rng.choice(count, empty, p=tracts / lived_in), minlength=count)
    middle = np.median(tracts)
    codes = _county_codes(size.postal, count)
    made = []
    for place in range(count):
        kinds = _kinds(rng, int(tracts[place]), _URBAN if tracts[place] > middle else _RURAL)
        made.append(
            CountySetting(
                fips=f"{fips}{codes[place]:03d}",
                name=f"Made-up {place + 1:03d} County",
                growth=float(np.clip(rng.normal(0.003, 0.006), -_GROWTH, _GROWTH)),
                affluence=float(rng.normal(0.0, 0.15)),
                pumas=pumas[place],
                tracts=kinds,
                empty_tracts=int(without[place]),
            )
        )
    return tuple(made)


def _county_codes(postal: str, count: int) -> list[int]:
    """Ascending codes of ``count`` counties."""
    first = _COUNTY_CODES.get(postal, ())
    others = (n for n in range(1, 1000, 2) if n not in (*first, *_OLD_CODES.get(postal, ())))
    return sorted(itertools.islice(itertools.chain(first, others), count))


def _whole(parts: np.ndarray, total: int) -> np.ndarray:
    """Whole numbers near ``parts`` that add up to ``total``: largest remainders."""
    low = np.floor(parts).astype(np.int64)
    order = np.argsort(low - parts, kind="stable")
    low[order[: total - int(low.sum())]] += 1
    return low


def _pumas(tracts: np.ndarray, wanted: int) -> list[tuple[str, ...]]:
    """Codes of the PUMAs of every county, in its order; ``wanted`` PUMAs in all.

    Small counties join until they have the tracts of a PUMA; a large county has one or more of its
    own, by its tracts. Small counties that are left over share the last PUMA there is.
    """
    usual = tracts.sum() / wanted
    groups, open_group = [[int(c)] for c in np.flatnonzero(tracts >= usual)], list[int]()
    for place in np.flatnonzero(tracts < usual):
        open_group.append(int(place))
        if tracts[open_group].sum() >= 0.9 * usual:
            groups.append(open_group)
            open_group = []
    groups = groups or [open_group]
    while len(groups) > wanted:
        groups.sort(key=lambda group: (-tracts[group].sum(), group))
        groups[-2:] = [groups[-2] + groups[-1]]
    held = np.array([tracts[group].sum() for group in groups])
    alone = np.array([len(group) == 1 for group in groups])
    number = np.ones(len(groups), dtype=np.int64)
    while number.sum() < wanted:
        number[int(np.argmax(np.where(alone & (number < held), held / number, 0.0)))] += 1
    codes: dict[int, tuple[str, ...]] = {}
    first = 101
    for group, count in zip(groups, number, strict=True):
        codes |= dict.fromkeys(group, tuple(f"{first + i:05d}" for i in range(count)))
        first += int(count)
    shared = codes[groups[-1][-1]][-1:]
    return [codes.get(place, shared) for place in range(len(tracts))]


def _kinds(rng: np.random.Generator, count: int, shares: dict[str, float]) -> tuple[str, ...]:
    """Kinds of tracts in the order of their codes: half of them are as the one before."""
    names, chance = list(shares), np.array(list(shares.values()))
    drawn = rng.choice(len(names), count, p=chance / chance.sum())
    same = rng.random(count) < _SAME_AS_NEIGHBOUR
    same[0] = False
    at = np.maximum.accumulate(np.where(same, 0, np.arange(count)))
    return tuple(names[i] for i in drawn[at])


def serial_numbers(size: Size, settings: SampleSettings) -> dict[str, SerialNumbers]:
    """Serial numbers of the state's records, by FIPS code: of the ten million that seven digits
    allow, a part of its own, as large as its share of the nation's tracts. A state of more records
    than that goes on into its neighbour's part.
    """
    known, before = facts(), 0
    whole = sum(state.tracts for state in known.states.values())
    for postal, state in known.states.items():
        if postal == size.postal:
            break
        before += state.tracts
    (own,) = settings.states
    return {own.fips: SerialNumbers(before * 9_000_000 // whole, 1)}


def first_cps_number(size: Size) -> int:
    """The number below those of the state's CPS households: a million for every state."""
    return list(facts().states).index(size.postal) * 1_000_000
