"""What a draw and its exchanges keep of the dense solution.

A draw of few pairs errs in everything, also in what has no target. The dense weights are the best
estimate of that, so the dense totals of every known variable are kept in every area. A variable
with a target at the finest level is kept in units of the target's scale. Any other is kept in units
of the standard error that a simple random draw of as many records would have. That is W_t sd_tv /
sqrt(k_t), with sd the dense-weighted standard deviation of v in area t (Cochran, Sampling
Techniques, 3rd ed. 1977, section 2.5, without the finite population correction).

Goals and scales are rounded, so that the last bits of sums and of targets decide nothing.

Belongs here: rows, goals and scales made from a pool. Does not belong here: the draw
(``pairs.py``), soft targets of the refit (``anchors.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.area_weights import AreaWeights, Block, weights_of
from calibration_core.common.columns import Columns, Design, mean_size, rows_of, side_by_side
from calibration_core.common.digits import CHOICE_BITS, SUM_BITS, rounded, rounded_beside
from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.blocks import match_columns

# Pairs for each target of an area above the leaves, below which exchanges look at its totals as a
# whole; and the least scale there, in standard errors of a simple random draw.
_FEW, _SHARED_FLOOR = 2.5, 0.1


@dataclass(frozen=True, eq=False)
class Shared:
    """Totals that several areas add to, kept beside each area's own.

    Attributes
    ----------
    rows : (records, columns) float64 contributions.
    slot : (areas, columns) int64: which total a column of an area adds to; -1 where the area has
        none of it.
    goals, scales : (totals,) float64, scales > 0.
    """

    rows: Design
    slot: np.ndarray
    goals: np.ndarray
    scales: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", _as_rows(self.rows))
        object.__setattr__(self, "slot", np.ascontiguousarray(self.slot, dtype=np.int64))
        object.__setattr__(self, "goals", rounded(self.goals, SUM_BITS))


@dataclass(frozen=True, eq=False)
class Balance:
    """What the draw and the exchanges keep.

    Attributes
    ----------
    rows : (records, variables) float64 contributions.
    goals : (areas, variables) float64 totals to keep: those of the dense weights.
    scales : (areas, variables) float64 > 0: what one unit of error is; inf leaves a variable out in
        that area.
    shared : totals that several areas add to, which exchanges keep too; None for none.

    Raises ProblemError if shapes disagree, or a goal or scale is not usable.
    """

    rows: Design
    goals: np.ndarray
    scales: np.ndarray
    shared: Shared | None = None

    def __post_init__(self) -> None:
        rows = _as_rows(self.rows)
        goals, scales = rounded(self.goals, SUM_BITS), np.asarray(self.scales, dtype=np.float64)
        if goals.ndim != 2 or scales.shape != goals.shape or goals.shape[1] != rows.shape[1]:
            raise ProblemError(
                f"rows {rows.shape}, goals {goals.shape}, scales {scales.shape}",
                where="balance",
                expected="(records, variables), and (areas, variables) for the others",
            )
        used = np.isfinite(scales)
        if np.isnan(scales).any() or (scales <= 0).any() or not np.isfinite(goals[used]).all():
            raise ProblemError(
                "A scale is not positive, or a goal in use is not finite",
                where="balance",
                expected="positive scales (inf to leave a variable out) and finite goals",
            )
        scales = _without_last_bits(scales, rows)
        for name, value in (("rows", rows), ("goals", goals), ("scales", scales)):
            object.__setattr__(self, name, value)


def _as_rows(rows: Design) -> Design:
    return rows if isinstance(rows, Columns) else np.ascontiguousarray(rows, dtype=np.float64)


def _without_last_bits(scales: np.ndarray, rows: Design) -> np.ndarray:
    """(areas, variables) scales, rounded beside what a record adds to their variable on average, so
    that neither its unit nor other areas matter; inf stays inf."""
    typical = mean_size(rows)
    return rounded_beside(scales, np.where(typical > 0, typical, 1.0), CHOICE_BITS)


def unique_columns(first: Design, *others: Design) -> Design:
    """(records, new) float64: the columns of ``others`` that neither ``first`` nor one before them
    has.
    """
    parts = [_as_rows(part) for part in (first, *others)]
    _, kept = match_columns(parts)
    new = [part[:, columns] for part, columns in zip(parts[1:], kept[1:], strict=True)]
    return side_by_side(first[:, :0], *new)


@one_thread()
def totals_and_errors(
    dense: np.ndarray | AreaWeights, rows: Design, pairs_per_area: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Dense totals, and the standard errors a simple random draw of so many records would have,
    both (leaves, variables) float64.
    """
    dense = weights_of(dense)
    totals, errors = np.zeros((2, dense.areas, rows.shape[1]))

    def look(block: Block) -> None:
        weights, here = block.weight, rows_of(rows, block.record)
        sums = np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        total = weights @ here
        mean = total / sums
        variance = np.maximum(weights @ here**2 / sums - mean**2, 0.0)
        # Where a variable hardly varies, its variance is the rounding of a difference.
        variance[variance <= 1e-12 * mean**2] = 0.0
        pairs = np.maximum(pairs_per_area[block.area], 1)[:, None]
        totals[block.area], errors[block.area] = total, sums * np.sqrt(variance / pairs)

    # Fixed blocks with a BLAS of one thread each: the bits do not depend on how many there are.
    dense.map(look)
    return totals, errors


@one_thread()
def balance_of(pool: Pool, pairs_per_area: np.ndarray) -> Balance:
    """Rows, goals and scales of every known variable: those with a target at the finest level
    first, then the other distinct columns of the levels above and of the attributes. And the totals
    above the finest level that few pairs stand for.
    """
    own, *above = pool.targets.designs[::-1]
    rows = side_by_side(own, unique_columns(own, *above[::-1], pool.attributes))
    totals, errors = totals_and_errors(pool.weights, rows, pairs_per_area)
    scales = np.where(errors > 0, errors, np.inf)
    scales[:, : own.shape[1]] = pool.targets.scales[-1]
    return Balance(rows, totals, scales, shared_totals(pool, pairs_per_area))


def shared_totals(pool: Pool, pairs_per_area: np.ndarray) -> Shared | None:
    """Targets of areas above the leaves that have fewer than ``_FEW`` pairs for each of them: there
    a refit cannot make up for the errors of a draw, and exchanges must look at the area's totals as
    a whole. Goals are the dense totals; scales those of the targets, at least a tenth of the
    standard error of a simple random draw. None where no area is so.
    """
    tree, targets = pool.tree, pool.targets
    rows, slots, goals, scales, taken = [], [], [], [], 0
    for depth in range(len(tree.levels) - 1):
        above, used = tree.ancestor_of_leaves(depth), np.isfinite(targets.scales[depth])
        pairs = np.bincount(above, pairs_per_area, tree.sizes[depth])
        few = pairs < _FEW * used.sum(axis=1)
        if not few.any():
            continue
        totals, errors = totals_and_errors(pool.weights, targets.designs[depth], pairs_per_area)
        goal, spread = np.zeros(used.shape), np.zeros(used.shape)
        np.add.at(goal, above, totals)
        np.add.at(spread, above, errors**2)
        number = np.where(used & few[:, None], taken + np.arange(used.size).reshape(used.shape), -1)
        taken += used.size
        rows.append(targets.designs[depth])
        slots.append(number[above])
        goals.append(goal.ravel())
        scale = np.maximum(targets.scales[depth], _SHARED_FLOOR * np.sqrt(spread))
        scales.append(
            _without_last_bits(np.where(used, scale, 1.0), targets.designs[depth]).ravel()
        )
    if not rows:
        return None
    return Shared(
        side_by_side(*rows), np.hstack(slots), np.concatenate(goals), np.concatenate(scales)
    )
