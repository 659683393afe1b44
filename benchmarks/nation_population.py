"""An invented nation on a real or generated tree of tracts: pools of households, true weights,
published tables that disagree.

Nothing is real but the list of areas, if one is given. Each state is made from (seed, state): a
pool of households with correlated sizes, ages, incomes, tenure and race, and tracts that differ
from one another by a few latent traits. From these follow true totals and published tables of
nation, states, counties and tracts. Each table has its own error, so that levels contradict one
another as real publications do.

Belongs here: that population. Does not belong here: timing or solving (``nation.py``).
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree

TRACT_VARIABLES = 50
COUNTY_EXTRAS, STATE_EXTRAS = 8, 20
# Relative error of a published total above the tracts.
PUBLISHED_ERROR = {"county": 0.005, "state": 0.002, "nation": 0.001}


@dataclass(frozen=True, eq=False)
class StatePool:
    """One state: ``own`` (households, 50) adds to tract variables, ``county_extra`` and
    ``state_extra`` to those published above only.
    """

    state: str
    own: np.ndarray
    county_extra: np.ndarray
    state_extra: np.ndarray
    traits: np.ndarray
    cell: np.ndarray
    income: np.ndarray


def tract_list(
    folder: Path | None, states: int | None, tracts: int | None, seed: int
) -> pl.DataFrame:
    """state, county, tract GEOIDs: the 2020 tract list in ``folder`` (the Census tract-to-PUMA
    file), else an invented one of like size.

    ``states`` keeps the largest so many; ``tracts`` keeps whole states, in a shuffled order, until
    about so many tracts are there.
    """
    path = (
        None
        if folder is None
        else next(iter(sorted(folder.rglob("2020_Census_Tract_to_2020_PUMA*"))), None)
    )
    if folder is not None and path is None:
        raise ProblemError(
            "There is no list of tracts",
            where=str(folder),
            expected="a file 2020_Census_Tract_to_2020_PUMA* somewhere below it",
            remedy=(
                "Name the folder that holds it, or leave the folder out to have the tracts invented"
            ),
        )
    frame = _invented_list(seed) if path is None else _read_list(path)
    sizes = frame.group_by("state").len().sort("len", "state", descending=[True, False])
    if states is not None:
        frame = frame.filter(pl.col("state").is_in(sizes["state"][:states].to_list()))
    if tracts is not None:
        frame = _about(frame, tracts, seed)
    return frame.sort("tract")


def _read_list(path: Path) -> pl.DataFrame:
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            raw = pl.read_csv(archive.read(archive.namelist()[0]), infer_schema_length=0)
    else:
        raw = pl.read_csv(path, infer_schema_length=0)
    state, county, tract = (pl.col(name) for name in ("STATEFP", "COUNTYFP", "TRACTCE"))
    listed = raw.select(state=state, county=state + county, tract=state + county + tract).unique()
    return listed.filter(pl.col("state") < "57")


def _invented_list(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng([seed, 77])
    sizes = np.sort(rng.lognormal(6.9, 0.95, size=51))[::-1]
    sizes = np.maximum(60, (sizes * 85_000 / sizes.sum()).astype(int))
    rows = []
    for index, size in enumerate(sizes):
        counties = np.maximum(1, rng.lognormal(1.8, 1.3, size=max(3, size // 27)).astype(int))
        owner = np.repeat(np.arange(counties.size), counties)[:size]
        owner = np.concatenate([owner, rng.integers(counties.size, size=size - owner.size)])
        state = f"{index + 1:02d}"
        rows += [
            (state, f"{state}{c + 1:03d}", f"{state}{c + 1:03d}{t:06d}")
            for t, c in enumerate(owner)
        ]
    return pl.DataFrame(rows, schema=["state", "county", "tract"], orient="row")


def _about(frame: pl.DataFrame, tracts: int, seed: int) -> pl.DataFrame:
    sizes = dict(frame.group_by("state").len().sort("state").iter_rows())
    order = np.random.default_rng([seed, 5]).permutation(sorted(sizes))
    kept, total = [], 0
    for state in order:
        if total + sizes[state] <= tracts * 1.02:
            kept.append(str(state))
            total += sizes[state]
    if total < 0.8 * tracts:
        # No whole states fit: part of the one nearest above.
        state = min(
            (s for s in sizes if sizes[s] >= tracts - total and s not in kept),
            key=lambda s: (sizes[s], s),
        )
        part = frame.filter(pl.col("state") == state).sort("tract").head(tracts - total)
        return pl.concat([frame.filter(pl.col("state").is_in(kept)), part])
    return frame.filter(pl.col("state").is_in(kept))


def make_pool(state: str, households: int, seed: int) -> StatePool:
    """The pool of one state; the same whatever other states are there."""
    rng = np.random.default_rng([seed, int(state), 1])
    traits = rng.normal(size=(households, 4))
    persons = 1 + rng.poisson(np.exp(0.35 + 0.3 * traits[:, 0]))
    persons = np.minimum(persons, 9)
    age_sex = _split(persons, 18, traits, rng)
    race = _split(persons, 5, traits[:, [2, 1, 0, 3]], rng)
    education = _split(np.maximum(persons - 1, 1), 4, traits[:, [1, 3, 2, 0]], rng)
    log_income = 10.9 + 0.8 * traits[:, 1] + 0.4 * rng.normal(size=households)
    own = np.column_stack(
        [
            np.ones(households),
            persons,
            age_sex,
            _classes(np.minimum(persons, 5) - 1, 5),
            _classes(np.searchsorted(np.linspace(9.4, 12.6, 9), log_income), 10),
            _classes((rng.normal(size=households) + traits[:, 1] > -0.3).astype(int), 2),
            race,
            _classes(
                np.clip(
                    np.round(1.2 + 0.6 * traits[:, 3] + 0.5 * rng.normal(size=households)), 0, 3
                ).astype(int),
                4,
            ),
            education,
        ]
    ).astype(np.float64)
    income = np.round(np.exp(log_income))
    county_extra = np.column_stack(
        [_amount(income, share, rng) for share in (0.9, 0.8, 0.3, 0.25, 0.2, 0.15, 0.1, 0.05)]
    )
    state_extra = np.column_stack(
        [_amount(income, share, rng) for share in np.linspace(0.9, 0.03, STATE_EXTRAS)]
    )
    cell = np.searchsorted([10.3, 11.0, 11.7], log_income) * 5 + np.minimum(persons, 5) - 1
    return StatePool(state, own, county_extra, state_extra, traits, cell.astype(np.int64), income)


def true_weights(pool: StatePool, tree: GeographyTree, span: slice, seed: int) -> np.ndarray:
    """(leaves of the span, households) true weights: tracts tilt the pool by their latent traits,
    counties by part of them.
    """
    leaves, counties = tree.geoids[-1][span], tree.parents[-1][span]
    county = (
        np.stack(
            [
                np.random.default_rng([seed, int(tree.geoids[-2][c]), 2]).normal(size=4)
                for c in counties
            ]
        )
        * 0.35
    )
    draws = np.stack(
        [np.random.default_rng([seed, int(leaf), 3]).normal(size=5) for leaf in leaves]
    )
    tilt = (county + 0.45 * draws[:, :4]) @ pool.traits.T
    weights = np.exp(tilt - tilt.max(axis=1, keepdims=True))
    return weights * (np.exp(7.2 + 0.35 * draws[:, 4]) / weights.sum(axis=1))[:, None]


def published(
    true: np.ndarray, level: str, geoids: tuple[str, ...], seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """(values, standard errors) of a level's table, each (areas, variables): the truth with that
    level's error, never below zero.
    """
    noise = np.stack(
        [
            np.random.default_rng(
                [seed, int(g or 0), {"nation": 10, "state": 11, "county": 12, "tract": 13}[level]]
            ).normal(size=true.shape[1])
            for g in geoids
        ]
    )
    error = (
        1.5 * np.sqrt(np.maximum(true, 4.0))
        if level == "tract"
        else np.maximum(PUBLISHED_ERROR[level] * np.abs(true), 1.0)
    )
    return np.maximum(np.round(true + noise * error), 0.0), error


def _split(
    persons: np.ndarray, kinds: int, traits: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Persons of each kind, (households, kinds): members alike in a household."""
    score = traits @ rng.normal(size=(4, kinds)) * 0.5 + rng.normal(size=kinds)
    share = np.exp(score - score.max(axis=1, keepdims=True))
    share /= share.sum(axis=1, keepdims=True)
    return rng.multinomial(persons, share)


def _classes(code: np.ndarray, kinds: int) -> np.ndarray:
    return (code[:, None] == np.arange(kinds)[None, :]).astype(np.float64)


def _amount(income: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Thousands of dollars of an income that a share of households has."""
    return np.where(
        rng.random(income.size) < share,
        np.round(income * rng.lognormal(-0.7, 0.7, size=income.size) / 1000.0),
        0.0,
    )
