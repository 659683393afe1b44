"""The ACS public use microdata of the sample: person and housing zips per state, 2022 columns.

Belongs here: the sample's weights and replicate weights, serial numbers, and the archives. Does not
belong here: what a record holds (``pums_records.py``), the population itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.sample.files import Folder, csv_bytes
from pipeline.sample.population import Population
from pipeline.sample.pums_records import housing_frame, person_amounts, person_frame, vacant_frame
from pipeline.sample.settings import StateSetting

REPLICATES = 80
# Units written at once: some 100 MB of columns.
_BLOCK = 100_000


def integer_weights(weight: np.ndarray, size: np.ndarray, total: int) -> np.ndarray:
    """Whole weights of at least 1 near ``weight`` whose sum over persons (``size`` per unit) is
    ``total`` as nearly as whole numbers allow.

    Largest remainders first: each unit's weight is rounded down, then raised by one in the order of
    its remainder while persons remain.
    """
    scaled = weight * total / np.sum(weight * size)
    low = np.maximum(np.floor(scaled), 1.0)
    order = np.argsort(-(scaled - low), kind="stable")
    missing = total - int(np.sum(low * size))
    reach = np.cumsum(size[order]) <= missing
    low[order[reach]] += 1.0
    return low.astype(np.int64)


@dataclass(frozen=True)
class _Factors:
    """Successive differences: the ``matrix`` of signs (80, 80) and the two rows of each unit."""

    matrix: np.ndarray
    first: np.ndarray
    second: np.ndarray

    @classmethod
    def drawn(cls, rng: np.random.Generator, count: int) -> _Factors:
        signs = np.array([1.0] * 40 + [-1.0] * 40)
        matrix = np.stack([rng.permutation(signs) for _ in range(REPLICATES)])
        first = rng.integers(0, REPLICATES, count)
        second = (first + 1 + rng.integers(0, REPLICATES - 1, count)) % REPLICATES
        return cls(matrix, first, second)

    def weights(self, weight: np.ndarray, units: slice) -> np.ndarray:
        factor = self.matrix[self.first[units]] - self.matrix[self.second[units]]
        return np.round(weight[units, None] * (1.0 + 2.0**-1.5 * factor)).astype(np.int64)


def replicate_weights(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    """80 replicate weights by successive differences, shape (units, 80), whole numbers (a few may
    be zero or below, as published).

    Fay and Train: with H a Hadamard matrix, unit i in sorted order gets the factor 1 + 2^-1.5 (H[i,
    r] - H[i+1, r]); here the two rows are drawn at random from an 80 x 80 matrix of signs whose
    columns are balanced.
    """
    return _Factors.drawn(rng, len(weight)).weights(weight, slice(None))


def _replicate_columns(name: str, weights: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({f"{name}{r + 1}": weights[:, r] for r in range(REPLICATES)})


@dataclass(frozen=True)
class SerialNumbers:
    """Numbers of a state's units: above ``first``, one of every ``step`` numbers."""

    first: int
    step: int


def _serials(
    rng: np.random.Generator, household: np.ndarray, numbers: SerialNumbers, year: int
) -> tuple[np.ndarray, int]:
    """Serial numbers of units in random order, and the last number given."""
    n, step = len(household), numbers.step
    number = numbers.first + np.arange(1, n + 1) * step + rng.integers(0, step, n)
    kind = np.where(household, f"{year}HU", f"{year}GQ")
    return np.char.add(kind, np.char.zfill(number.astype(str), 7)), int(number.max())


def write_pums(
    folder: Folder,
    population: Population,
    weight: np.ndarray,
    controls: dict[str, int],
    numbers: Mapping[str, SerialNumbers] | None = None,
) -> None:
    """``csv_p<st>.zip`` and ``csv_h<st>.zip``, members ``psam_p44.csv`` and so on.

    Units of ``weight`` (units,) above 0 are in them. PWGTP adds up to the published state
    population exactly, a reference person has the weight of the household, WGTP is zero for group
    quarters. ``numbers``: by state FIPS; as in the real files, no number should occur in two
    states.
    """
    settings = population.settings
    amounts = person_amounts(population)
    readme = (
        f"ACS {settings.year} 1-year PUMS {settings.label}: invented records in the layout of"
        " the US Census Bureau.\n".encode()
    )
    for place, state in enumerate(settings.states):
        own = (numbers or {}).get(state.fips, SerialNumbers(place * 1_000_000, 7))
        records = _Records.drawn(population, weight, amounts, own, state, controls[state.fips])
        for kind, frames in (("p", records.persons()), ("h", records.housing())):
            lines = (csv_bytes(frame, include_header=i == 0) for i, frame in enumerate(frames))
            folder.archive(
                f"acs_pums/{settings.year}_1yr/csv_{kind}{state.postal.lower()}.zip",
                {f"psam_{kind}{state.fips}.csv": lines, "SYNTHETIC_README.txt": readme},
            )


@dataclass(frozen=True)
class _Records:
    """The records of one state, in blocks: a state of a million households fits no memory whole.

    ``units`` (records,) in the order of ``serial``, with ``unit_weight`` and the factors of their
    replicate weights; ``people`` (persons,), whose units stand at ``at``, with ``person_weight``.
    """

    population: Population
    state: StateSetting
    amounts: dict[str, np.ndarray]
    rng: np.random.Generator
    units: np.ndarray
    serial: np.ndarray
    last: int
    unit_weight: np.ndarray
    factors: _Factors
    people: np.ndarray
    at: np.ndarray
    person_weight: np.ndarray

    @classmethod
    def drawn(
        cls,
        population: Population,
        weight: np.ndarray,
        amounts: dict[str, np.ndarray],
        numbers: SerialNumbers,
        state: StateSetting,
        total: int,
    ) -> _Records:
        """Order, numbers and weights of a state's records, whose persons add up to ``total``."""
        settings, g = population.settings, population.geography
        rng = settings.stream(f"pums:{state.postal}")
        units = np.flatnonzero((weight > 0) & (g.state == state.fips)[population.unit_tract])
        # Serial numbers say nothing about where a unit lies: they follow a random order.
        units = units[rng.permutation(len(units))]
        household = population.is_household[units]
        serial, last = _serials(rng, household, numbers, settings.year)
        order = np.argsort(serial)
        units, serial = units[order], serial[order]
        unit_weight = integer_weights(weight[units], population.unit_size[units], total)

        people, at = population.persons_of(units)
        head = np.concatenate([[True], at[1:] != at[:-1]])
        person_weight = _person_weights(rng, unit_weight[at], head, total)
        factors = _Factors.drawn(rng, len(units))
        return cls(
            population,
            state,
            amounts,
            rng,
            units,
            serial,
            last,
            unit_weight,
            factors,
            people,
            at,
            person_weight,
        )

    def _blocks(self) -> Iterator[slice]:
        for start in range(0, len(self.units), _BLOCK):
            yield slice(start, min(start + _BLOCK, len(self.units)))

    def persons(self) -> Iterator[pl.DataFrame]:
        for block in self._blocks():
            lo, hi = np.searchsorted(self.at, [block.start, block.stop])
            at, people, weight = self.at[lo:hi], self.people[lo:hi], self.person_weight[lo:hi]
            of_unit = self.factors.weights(self.unit_weight, block)
            ratio = weight / self.unit_weight[at]
            replicates = np.round(of_unit[at - block.start] * ratio[:, None]).astype(np.int64)
            frame = person_frame(
                self.population, people, self.serial[at], self.state, self.amounts
            ).with_columns(pl.Series("PWGTP", weight))
            yield frame.hstack(_replicate_columns("PWGTP", replicates))

    def housing(self) -> Iterator[pl.DataFrame]:
        """Housing records, then those of vacant units."""
        population, settings = self.population, self.population.settings
        income = self.amounts["PINCP"]
        held = population.is_household[self.units]
        like = pl.DataFrame()
        for block in self._blocks():
            units, household = self.units[block], held[block]
            frame = housing_frame(population, units, self.serial[block], self.state, income)
            weight = np.where(household, self.unit_weight[block], 0)
            frame = frame.with_columns(pl.Series("WGTP", weight))
            replicates = self.factors.weights(self.unit_weight, block)
            replicates = np.where(household[:, None], replicates, 0)
            like = frame.clear()
            yield frame.hstack(_replicate_columns("WGTP", replicates))
        count = round(held.sum() * settings.vacant_share / (1 - settings.vacant_share))
        vacant = vacant_frame(population, self.state, like, count, self.last + 1, self.rng)
        replicates = replicate_weights(self.rng, vacant["WGTP"].to_numpy().astype(float))
        yield vacant.hstack(_replicate_columns("WGTP", replicates))


def _person_weights(
    rng: np.random.Generator, weight: np.ndarray, head: np.ndarray, total: int
) -> np.ndarray:
    """Person weights: the household's for the reference person, near it for the others, adding up
    to ``total``.
    """
    jitter = np.where(head, 1.0, rng.gamma(100.0, 0.01, len(weight)))
    made = np.maximum(np.round(weight * jitter), 1.0).astype(np.int64)
    others = np.flatnonzero(~head)
    gap = total - int(made.sum())
    while gap and len(others):
        step = np.sign(gap)
        movable = others[made[others] + step >= 1]
        chosen = rng.permutation(movable)[: abs(gap)]
        made[chosen] += step
        gap = total - int(made.sum())
    return made
