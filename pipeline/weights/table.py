"""Weights as stored tables, and stored tables brought back to the arrays they were made from.

Each table has two functions, one for each direction, and the hard rules of the table stand in
them: what is written is sound, and what is read back belongs to the present areas and units.

Belongs here: ``dense_weights``, ``selected_pairs`` and ``weights`` as tables. Does not belong here:
solving (``solve.py``), files (``pipeline/io_manager.py``), fits and other reports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.common.area_weights import AreaWeights, TableWeights
from calibration_core.errors import ProblemError
from calibration_core.tree.multiplier_weights import MultiplierWeights
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.result import TreeNewtonResult
from calibration_core.tree.select.pairs import Selection
from pipeline.errors import InvariantError
from pipeline.invariants import require, require_no_rows
from pipeline.targets.grid import TargetGrid
from pipeline.vocabulary import AREA_COLUMN, COUNTY, DENSE, SELECTED, TRACT, VARIABLE_KEY, WEIGHTS
from pipeline.weights.problem import SolvableState, pool_problem

# No column ``state``: the folder's name holds it (``pipeline/io_manager.py``).
WEIGHTS_SCHEMA = {
    "household_id": pl.String,
    "tract": pl.String,
    "county": pl.String,
    "weight": pl.Float64,
}
DENSE_SCHEMA = {
    "level": pl.String,
    "geoid": pl.String,
    "variable": pl.String,
    "domain": pl.String,
    "rate": pl.Float64,
    "pull": pl.Float64,
    "target": pl.Float64,
    "scale": pl.Float64,
    "fitted": pl.Float64,
    "made_of": pl.String,
}
# Records whose contributions are looked at together.
_RECORDS = 20_000
_REPORT = "Nothing was written; report this with the profile and the state"


@dataclass(frozen=True, eq=False)
class StoredWeights:
    """What was stored of one state.

    Attributes
    ----------
    dense : dense weights of every leaf, made block by block when they are read.
    leaf, record : (k,) int64 places of the selected pairs, sorted.
    weight : (k,) float64 their weights.
    """

    dense: AreaWeights
    leaf: np.ndarray
    record: np.ndarray
    weight: np.ndarray


def dense_table(state: SolvableState, result: TreeNewtonResult) -> pl.DataFrame:
    """DENSE_SCHEMA, a row per fitted target: what determines the dense weights.

    The weight of a unit in an area is its prior times exp(sum of rate x what the unit adds), over
    the variables of the area and of all areas that hold it. ``pull`` is the rate in units of
    1 / scale: by how much the loss falls if the target gives way by one scale.

    Raises InvariantError if a weight would be negative or not finite.
    """
    weights = result.weights
    if isinstance(weights, np.ndarray):
        weights = TableWeights(weights)
    try:
        weights.check()
    except ProblemError as error:
        raise InvariantError(
            "A dense weight is negative or not finite",
            where=f"{DENSE} of {state.postal}",
            expected="finite weights of at least zero",
            remedy=_REPORT,
        ) from error
    targets = state.problem.targets
    columns = {
        "rate": result.rates,
        "pull": result.multipliers,
        "target": targets.values,
        "scale": targets.scales,
        "fitted": result.fitted,
    }
    used = tuple(np.isfinite(scale) for scale in targets.scales)
    rows = state.problem.grid.long(used, **columns)
    return rows.with_columns(made_of=pl.lit(digest_of(state))).select(list(DENSE_SCHEMA))


def stored_dense(state: SolvableState, table: pl.DataFrame) -> AreaWeights:
    """The dense weights that the stored table determines, made when they are read.

    Raises InvariantError if the table was made of other areas, targets, units or pools.
    """
    problem, key = state.problem, ["level", "geoid", *VARIABLE_KEY]
    grid = TargetGrid.of(table, pl.lit(True), problem.tree, problem.grid.keys)
    used = [np.isfinite(scale) for scale in problem.targets.scales]
    same = all(bool((a == b).all()) for a, b in zip(grid.used, used, strict=True))
    same = same and not table.select(key).is_duplicated().any()
    same = same and sum(int(u.sum()) for u in used) == table.height
    found = grid.read(table["target"], 0.0) if same else ()
    same = same and all(
        bool((a == np.where(u, b, 0.0)).all())
        for a, b, u in zip(found, problem.targets.values, used, strict=True)
    )
    same = same and set(table["made_of"].unique()) == {digest_of(state)}
    require(
        same,
        "The stored dense weights were made for other areas, targets or households",
        where=f"{DENSE} of {state.postal}",
        expected="dense weights of the present geography, targets and candidates",
        remedy=f"Materialise {DENSE} of {state.postal} again",
    )
    return MultiplierWeights(pool_problem(state), grid.read(table["rate"], 0.0))


def digest_of(state: SolvableState) -> str:
    """SHA-256 of what dense weights follow from, beside their rates: areas, units with what they
    add, prior weights, pools.
    """
    problem, found = pool_problem(state), hashlib.sha256()
    found.update("\n".join((*problem.tree.leaves, *state.units["household_id"])).encode())
    near = problem.near
    arrays = [problem.record_prior, problem.group, problem.leaf_prior, near.of_leaf]
    for array in (*arrays, *near.record, *near.expansion):
        found.update(np.ascontiguousarray(array).data)
    for design in problem.targets.designs:
        for begin in range(0, design.shape[0], _RECORDS):
            found.update(np.ascontiguousarray(design[begin : begin + _RECORDS]).data)
    return found.hexdigest()


def long_weights(state: SolvableState, dense: AreaWeights, least: float) -> Iterator[pl.DataFrame]:
    """``household_id, area, weight`` of dense weights of at least ``least``, block by block."""
    leaves, ids = np.array(state.leaves), state.units["household_id"]
    for number in range(len(dense.block_areas)):
        block = dense.read(number)
        row, column = np.nonzero(block.weight >= max(least, np.nextafter(0.0, 1.0)))
        yield pl.DataFrame(
            {
                "household_id": ids.gather(block.record[column]),
                "area": leaves[block.area[row]],
                "weight": block.weight[row, column],
            },
            schema={"household_id": pl.String, "area": pl.String, "weight": pl.Float64},
        )


def pairs_table(
    state: SolvableState, chosen: Selection, dense: AreaWeights, pairs: int
) -> pl.DataFrame:
    """``household_id, area, dense_weight, probability, starting_weight``, a row per selected pair.

    Raises InvariantError unless there are exactly ``pairs`` rows and no pair occurs twice.
    """
    table = pl.DataFrame(
        {
            "household_id": state.units["household_id"].gather(chosen.record),
            "area": [state.leaves[i] for i in chosen.leaf],
            "dense_weight": dense.at(chosen.leaf, chosen.record),
            "probability": chosen.probability,
            "starting_weight": chosen.weight,
        }
    )
    require(
        table.height == pairs,
        f"{table.height:,} pairs were drawn",
        where=f"{SELECTED} of {state.postal}",
        expected=f"exactly {pairs:,}",
        remedy=_REPORT,
    )
    key = ["household_id", "area"]
    twice = table.filter(pl.struct(key).is_duplicated())
    require_no_rows(twice, "are drawn twice", table=SELECTED, columns=key, remedy=_REPORT)
    return table


def stored_pairs(state: SolvableState, table: pl.DataFrame) -> PairProblem:
    """The stored pairs as a problem of the core, their starting weights as the prior."""
    indexed = _places(state, table, SELECTED)
    # Writable copies: torch warns of arrays it could write to and must not.
    names = ("leaf", "record", "starting_weight")
    leaf, record, prior = (indexed[name].to_numpy(writable=True) for name in names)
    return PairProblem(state.problem.tree, state.problem.targets, leaf, record, prior)


def weights_table(
    state: SolvableState, pairs: Selection | PairProblem, weights: np.ndarray
) -> pl.DataFrame:
    """The product: a row per pair, sorted; ``tract`` is null where the finest level is the county.

    Raises InvariantError if a weight is not sound.
    """
    finest, ids = state.profile.finest_level, state.units["household_id"]
    area = pl.Series("area", [state.leaves[i] for i in pairs.leaf], dtype=pl.String)
    of_area = state.geography.select(
        area=pl.col(AREA_COLUMN[finest]), county=pl.col(AREA_COLUMN[COUNTY])
    )
    county = dict(of_area.unique().iter_rows())
    frame = pl.DataFrame(
        {
            "household_id": ids.gather(pairs.record),
            "tract": area if finest == TRACT else [None] * len(area),
            "county": [county[each] for each in area],
            "weight": weights,
        },
        schema=WEIGHTS_SCHEMA,
    )
    require_sound_weights(frame, int(pairs.leaf.size), state.postal)
    return frame.sort("county", "tract", "household_id")


def stored_weights(
    state: SolvableState, dense: pl.DataFrame, weights: pl.DataFrame
) -> StoredWeights:
    """Both stored tables as arrays. Raises InvariantError if either is of other areas or units."""
    area = pl.col(state.profile.finest_level)
    pairs = _places(state, weights.with_columns(area=area), WEIGHTS)
    places = (pairs[name].to_numpy() for name in ("leaf", "record", "weight"))
    return StoredWeights(stored_dense(state, dense), *places)


def _places(state: SolvableState, pairs: pl.DataFrame, table: str) -> pl.DataFrame:
    """``pairs`` (household_id, area, ...) with ``leaf`` and ``record``, their places in the
    problem, sorted by both.

    Raises InvariantError if a pair names an area or a household that is no candidate: the table is
    older than the candidates.
    """
    leaves = pl.DataFrame({"area": state.leaves}, schema={"area": pl.String})
    records = state.units.select("household_id").with_row_index("record")
    indexed = (
        pairs.join(leaves.with_row_index("leaf"), on="area", how="left")
        .join(records, on="household_id", how="left")
        .sort("leaf", "record")
    )
    require_no_rows(
        indexed.filter(pl.col("leaf").is_null() | pl.col("record").is_null()),
        "name an area or a household that is no candidate",
        table=table,
        columns=["household_id", "area"],
        remedy=f"{table} is older than the candidates: materialise it again",
    )
    return indexed.with_columns(pl.col("leaf", "record").cast(pl.Int64))


def require_sound_weights(frame: pl.DataFrame, pairs: int, state: str) -> None:
    """Hard rules before anything is written: exactly k rows, each pair once, weights finite and
    positive."""
    faults = []
    if frame.height != pairs:
        faults.append(f"{frame.height:,} pairs for a budget of {pairs:,}")
    if frame.select("household_id", "tract", "county").is_duplicated().any():
        faults.append("a pair occurs twice")
    weight = frame["weight"]
    bad, low = int((~weight.is_finite()).sum()), int((weight <= 0).sum())
    if bad or low:
        faults.append(f"{bad} weights are not finite and {low} are not positive")
    if faults:
        raise InvariantError(
            "; ".join(faults),
            where=f"weights of {state}",
            expected="exactly k distinct pairs with finite, positive weights",
            remedy="Nothing was written; report this with the run manifest",
        )
