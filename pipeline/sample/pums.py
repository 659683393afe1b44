"""The ACS public use microdata of the sample: person and housing zips per state, 2022 columns.

Belongs here: the sample's weights and replicate weights, serial numbers, and the archives. Does not
belong here: what a record holds (``pums_records.py``), the population itself.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.sample.files import Folder, csv_bytes
from pipeline.sample.population import Population
from pipeline.sample.pums_records import housing_frame, person_amounts, person_frame, vacant_frame
from pipeline.sample.settings import StateSetting

SERIALS_PER_STATE = 1_000_000
REPLICATES = 80


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


def replicate_weights(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    """80 replicate weights by successive differences, shape (units, 80), whole numbers (a few may
    be zero or below, as published).

    Fay and Train: with H a Hadamard matrix, unit i in sorted order gets the factor 1 + 2^-1.5 (H[i,
    r] - H[i+1, r]); here the two rows are drawn at random from an 80 x 80 matrix of signs whose
    columns are balanced.
    """
    signs = np.array([1.0] * 40 + [-1.0] * 40)
    matrix = np.stack([rng.permutation(signs) for _ in range(REPLICATES)])
    first = rng.integers(0, REPLICATES, len(weight))
    second = (first + 1 + rng.integers(0, REPLICATES - 1, len(weight))) % REPLICATES
    factor = 1.0 + 2.0**-1.5 * (matrix[first] - matrix[second])
    return np.round(weight[:, None] * factor).astype(np.int64)


def _replicate_columns(name: str, weights: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({f"{name}{r + 1}": weights[:, r] for r in range(REPLICATES)})


def _serials(
    rng: np.random.Generator, household: np.ndarray, place: int, year: int
) -> tuple[np.ndarray, int]:
    """Serial numbers of units in random order, and the last number given. As in the real files, no
    number occurs in two states (``place``: which state).
    """
    n = len(household)
    number = place * SERIALS_PER_STATE + np.arange(1, n + 1) * 7 + rng.integers(0, 7, n)
    kind = np.where(household, f"{year}HU", f"{year}GQ")
    return np.char.add(kind, np.char.zfill(number.astype(str), 7)), int(number.max())


def write_pums(
    folder: Folder, population: Population, weight: np.ndarray, controls: dict[str, int]
) -> None:
    """``csv_p<st>.zip`` and ``csv_h<st>.zip``, members ``psam_p44.csv`` and so on.

    Units of ``weight`` (units,) above 0 are in them. PWGTP adds up to the published state population exactly, a
    reference person has the weight of the household, WGTP is zero for group quarters.
    """
    settings = population.settings
    amounts = person_amounts(population)
    readme = (
        f"ACS {settings.year} 1-year PUMS {settings.label}: invented records in the layout of"
        " the US Census Bureau.\n".encode()
    )
    for place, state in enumerate(settings.states):
        frames = _state_frames(population, weight, amounts, place, state, controls[state.fips])
        for kind, frame in zip("ph", frames, strict=True):
            members = {f"psam_{kind}{state.fips}.csv": csv_bytes(frame)}
            folder.archive(
                f"acs_pums/{settings.year}_1yr/csv_{kind}{state.postal.lower()}.zip",
                {**members, "SYNTHETIC_README.txt": readme},
            )


def _state_frames(
    population: Population,
    weight: np.ndarray,
    amounts: dict[str, np.ndarray],
    place: int,
    state: StateSetting,
    total: int,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Person and housing records of one state, whose persons add up to ``total``."""
    settings, g = population.settings, population.geography
    rng = settings.stream(f"pums:{state.postal}")
    units = np.flatnonzero((weight > 0) & (g.state == state.fips)[population.unit_tract])
    # Serial numbers say nothing about where a unit lies: they follow a random order.
    units = units[rng.permutation(len(units))]
    serial, last = _serials(rng, population.is_household[units], place, settings.year)
    order = np.argsort(serial)
    units, serial = units[order], serial[order]
    household = population.is_household[units]
    unit_weight = integer_weights(weight[units], population.unit_size[units], total)

    people, at = population.persons_of(units)
    head = np.concatenate([[True], at[1:] != at[:-1]])
    person_weight = _person_weights(rng, unit_weight[at], head, total)
    unit_replicates = replicate_weights(rng, unit_weight.astype(float))
    ratio = person_weight / unit_weight[at]
    person_replicates = np.round(unit_replicates[at] * ratio[:, None]).astype(np.int64)
    persons = person_frame(population, people, serial[at], state, amounts)
    persons = persons.with_columns(pl.Series("PWGTP", person_weight))

    housing = housing_frame(population, units, serial, state, amounts["PINCP"])
    housing = housing.with_columns(pl.Series("WGTP", np.where(household, unit_weight, 0)))
    count = round(household.sum() * settings.vacant_share / (1 - settings.vacant_share))
    vacant = vacant_frame(population, state, housing, count, last + 1, rng)
    vacant_replicates = replicate_weights(rng, vacant["WGTP"].to_numpy().astype(float))
    replicates = np.concatenate(
        [np.where(household[:, None], unit_replicates, 0), vacant_replicates]
    )
    return (
        persons.hstack(_replicate_columns("PWGTP", person_replicates)),
        pl.concat([housing, vacant]).hstack(_replicate_columns("WGTP", replicates)),
    )


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
