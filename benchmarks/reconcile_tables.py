"""The problem of ``benchmarks.reconcile``: the tree of tracts and estimates on it.

Belongs here: reading or inventing the list of tracts, estimates and their variances. Does not
belong here: reconciling them, timing.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree

LEVELS = ("nation", "state", "county", "tract")


LIST = "2020_Census_Tract_to_2020_PUMA*"


MISSING = 0.01


# Relative error of an estimate above the tracts.
PUBLISHED = {"nation": 0.001, "state": 0.005, "county": 0.02}


@dataclass(frozen=True, eq=False)
class Tables:
    """Estimates and variances per level, top first, (areas, variables)."""

    tree: GeographyTree
    y: list[np.ndarray]
    v: list[np.ndarray]


def area_list(folder: Path | None, seed: int) -> pl.DataFrame:
    """state, county, tract of every tract of the list in ``folder``; without one, of a generated
    nation of the same size.
    """
    path = None if folder is None else next(iter(sorted(folder.rglob(LIST))), None)
    if path is None:
        if folder is not None:
            raise SystemExit(
                f"There is no {LIST} in {folder}. Give the folder with the Census list of tracts,"
                " or none for a generated tree."
            )
        return _generated(seed)
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            raw = pl.read_csv(archive.read(archive.namelist()[0]), infer_schema_length=0)
    else:
        raw = pl.read_csv(path, infer_schema_length=0)
    state, county, tract = (pl.col(name) for name in ("STATEFP", "COUNTYFP", "TRACTCE"))
    return (
        raw.select(state=state, county=state + county, tract=state + county + tract)
        .unique()
        .sort("tract")
    )


def _generated(seed: int) -> pl.DataFrame:
    rng = np.random.default_rng([seed, 3])
    counties = rng.multinomial(3_143 - 51, rng.dirichlet(np.full(51, 2.0))) + 1
    tracts = rng.multinomial(85_452 - 3_143, rng.dirichlet(np.full(3_143, 0.4))) + 1
    state = np.repeat(np.arange(51), counties)
    county = [
        f"{s + 1:02d}{c:03d}"
        for s, c in zip(
            state,
            np.arange(3_143) - np.repeat(np.cumsum(counties) - counties, counties),
            strict=True,
        )
    ]
    names = np.repeat(county, tracts)
    number = np.arange(names.size) - np.repeat(np.cumsum(tracts) - tracts, tracts)
    frame = pl.DataFrame({"county": names, "number": number})
    return frame.select(
        state=pl.col("county").str.slice(0, 2),
        county="county",
        tract=pl.col("county") + pl.col("number").cast(pl.String).str.zfill(6),
    )


def about(areas: pl.DataFrame, tracts: int, seed: int) -> pl.DataFrame:
    """States in a shuffled order until so many tracts are there; of the last one its
    first tracts.
    """
    if tracts >= areas.height:
        return areas
    order = np.random.default_rng([seed, 5]).permutation(areas["state"].unique().sort().to_numpy())
    place = {state: i for i, state in enumerate(order)}
    rank = areas["state"].replace_strict(place, return_dtype=pl.Int64)
    return (
        areas.with_columns(rank=rank).sort("rank", "tract").head(tracts).drop("rank").sort("tract")
    )


def make_tables(tree: GeographyTree, variables: int, seed: int) -> Tables:
    """Estimates as the docstring says, without anything missing or exact."""
    rng = np.random.default_rng([seed, tree.sizes[-1]])
    size = 10 ** np.linspace(0.7, 3.5, variables)
    truth = rng.gamma(1.5, size / 1.5, size=(tree.sizes[-1], variables))
    y, v = [], []
    for depth, level in enumerate(tree.levels):
        total = tree.sum_leaves(truth, depth)
        variance = (
            (PUBLISHED[level] * total) ** 2 + 1.0
            if level in PUBLISHED
            else (12.0 / 1.645) ** 2 + 2.0 * total
        )
        y.append(np.maximum(total + np.sqrt(variance) * rng.normal(size=total.shape), 0.0))
        v.append(variance)
    return Tables(tree, y, v)


def with_holes(tables: Tables, seed: int) -> Tables:
    """Some tracts and counties missing, every third variable exact for the nation."""
    rng, v = np.random.default_rng([seed, 9]), [a.copy() for a in tables.v]
    for a in v[2:]:
        a[rng.random(a.shape) < MISSING] = np.inf
    v[0][:, ::3] = 0.0
    return replace(tables, v=v)
