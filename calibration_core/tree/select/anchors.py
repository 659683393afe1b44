"""What a sparse solution keeps of the dense one beyond its targets: balance for the draw, anchors
for the refit.

A draw of few pairs errs in everything, also in what has no target. The dense weights are the best
estimate of that, so that

* the draw and its exchanges keep the dense totals of every known variable in every area
  (``balance_of``): of a variable with a target at the finest level in units of the target's scale,
  of any other in units of the standard error that a simple random draw of as many records would
  have, W_t sd_tv / sqrt(k_t), with sd the dense-weighted standard deviation of v in area t;
* the refit, which moves weights towards the targets, holds the dense totals of variables without a
  target of their level, above the finest one, as soft targets (``anchored``): their scale is
  ``strength`` times that standard error, summed in squares over the areas below, and at least half
  of what one pair of mean weight adds.

References: that variance is Cochran, Sampling Techniques, 3rd ed. 1977, section 2.5, without the
finite population correction; soft targets for variables of a larger sample are those of two-phase
calibration (Sarndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 9.7).

Belongs here: rows, goals and scales made from a dense solution. Does not belong here: the draw
(``tree/select/pairs.py``), the solver.
"""

from __future__ import annotations

import numpy as np

from calibration_core.common.threads import map_blocks
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import Targets, make_targets
from calibration_core.tree.select.exchange import Shared
from calibration_core.tree.select.pairs import Balance
from calibration_core.tree.solve.blocks import match_columns

# A soft target is never tighter than this, in the variable's own units: a person, a household, a
# dollar.
_LEAST_SCALE = 1e-3
# Nor than this share of what one pair of mean weight adds: of a rare variable a few pairs cannot
# come nearer, whatever they weigh.
_LUMP = 0.5
# Pairs for each target of an area above the leaves, below which exchanges look at its totals as a
# whole; and the least scale there, in standard errors of a simple random draw.
_FEW, _SHARED_FLOOR = 2.5, 0.1
# Leaves whose weights are looked at together.
_BLOCK = 512


def unique_columns(first: np.ndarray, *others: np.ndarray) -> np.ndarray:
    """(records, new) float64: the columns of ``others`` that neither ``first`` nor one before them
    has.
    """
    parts = [np.ascontiguousarray(a, dtype=np.float64) for a in (first, *others)]
    _, kept = match_columns(parts)
    return (
        np.hstack([part[:, columns] for part, columns in zip(parts[1:], kept[1:], strict=True)])
        if others
        else np.zeros((first.shape[0], 0))
    )


def totals_and_errors(
    dense: np.ndarray, rows: np.ndarray, per_leaf: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Dense totals, and the standard errors a simple random draw of ``per_leaf`` records would
    have, both (leaves, variables) float64.
    """
    totals, errors = (
        np.empty((dense.shape[0], rows.shape[1])),
        np.empty((dense.shape[0], rows.shape[1])),
    )
    squares = rows**2

    def block(begin: int) -> None:
        part = slice(begin, begin + _BLOCK)
        weights = np.asarray(dense[part], dtype=np.float64)
        sums = np.maximum(weights.sum(axis=1, keepdims=True), 1e-300)
        totals[part] = weights @ rows
        mean = totals[part] / sums
        variance = np.maximum(weights @ squares / sums - mean**2, 0.0)
        # Where a variable hardly varies, its variance is the rounding of a difference.
        variance[variance <= 1e-12 * mean**2] = 0.0
        errors[part] = sums * np.sqrt(variance / np.maximum(per_leaf[part], 1)[:, None])

    # Fixed blocks with a BLAS of one thread each: the last bits decide which directions a draw
    # holds, and must not depend on the number of threads.
    map_blocks(block, range(0, dense.shape[0], _BLOCK))
    return totals, errors


def balance_of(
    tree: GeographyTree,
    targets: Targets,
    attributes: np.ndarray,
    dense: np.ndarray,
    per_leaf: np.ndarray,
) -> Balance:
    """Rows, goals and scales of every known variable: those with a target at the finest level
    first, then the other distinct columns of the levels above and of ``attributes``, (records, f)
    float64; and the totals above the finest level that few pairs stand for.
    """
    own, others = (
        targets.designs[-1],
        unique_columns(targets.designs[-1], *targets.designs[:-1], attributes),
    )
    rows = np.hstack([own, others])
    totals, errors = totals_and_errors(dense, rows, per_leaf)
    scales = np.where(errors > 0, errors, np.inf)
    scales[:, : own.shape[1]] = targets.scales[-1]
    return Balance(rows, totals, scales, shared_totals(tree, targets, dense, per_leaf))


def shared_totals(
    tree: GeographyTree, targets: Targets, dense: np.ndarray, per_leaf: np.ndarray
) -> Shared | None:
    """Targets of areas above the leaves that have fewer than ``_FEW`` pairs for each of them: there
    a refit cannot make up for the errors of a draw, and exchanges must look at the area's totals as
    a whole. Goals are the dense totals; scales those of the targets, at least a tenth of the
    standard error of a simple random draw. None where no area is so.
    """
    rows, slots, goals, scales, taken = [], [], [], [], 0
    for depth in range(len(tree.levels) - 1):
        above, used = tree.ancestor_of_leaves(depth), np.isfinite(targets.scales[depth])
        pairs = np.bincount(above, per_leaf, tree.sizes[depth])
        few = pairs < _FEW * used.sum(axis=1)
        if not few.any():
            continue
        totals, errors = totals_and_errors(dense, targets.designs[depth], per_leaf)
        goal, spread = np.zeros(used.shape), np.zeros(used.shape)
        np.add.at(goal, above, totals)
        np.add.at(spread, above, errors**2)
        number = np.where(used & few[:, None], taken + np.arange(used.size).reshape(used.shape), -1)
        taken += used.size
        rows.append(targets.designs[depth])
        slots.append(number[above])
        goals.append(goal.ravel())
        scales.append(
            np.where(
                used, np.maximum(targets.scales[depth], _SHARED_FLOOR * np.sqrt(spread)), 1.0
            ).ravel()
        )
    return (
        Shared(np.hstack(rows), np.hstack(slots), np.concatenate(goals), np.concatenate(scales))
        if rows
        else None
    )


def anchored(
    tree: GeographyTree,
    targets: Targets,
    attributes: np.ndarray,
    dense: np.ndarray,
    per_leaf: np.ndarray,
    strength: float,
) -> Targets:
    """Targets with soft ones beside them: at every level above the finest, the dense totals of all
    columns its design lacks. New columns come after those there were; ``strength`` 0 adds none.
    """
    if strength <= 0 or len(tree.levels) == 1:
        return targets
    designs, values, scales = list(targets.designs), list(targets.values), list(targets.scales)
    for depth in range(len(tree.levels) - 1):
        extra = unique_columns(
            targets.designs[depth],
            *(d for i, d in enumerate(targets.designs) if i != depth),
            attributes,
        )
        if not extra.shape[1]:
            continue
        totals, errors = totals_and_errors(dense, extra, per_leaf)
        above = tree.ancestor_of_leaves(depth)
        goal, spread = (
            np.zeros((tree.sizes[depth], extra.shape[1])),
            np.zeros((tree.sizes[depth], extra.shape[1])),
        )
        np.add.at(goal, above, totals)
        np.add.at(spread, above, errors**2)
        designs[depth] = np.hstack([targets.designs[depth], extra])
        values[depth] = np.hstack([targets.values[depth], goal])
        lump = float(dense.sum()) / max(int(per_leaf.sum()), 1) * _mean_contribution(dense, extra)
        soft = np.where(
            spread > 0,
            np.maximum(np.maximum(strength * np.sqrt(spread), _LUMP * lump), _LEAST_SCALE),
            np.inf,
        )
        scales[depth] = np.hstack([targets.scales[depth], soft])
    return make_targets(tree, designs, values, scales)


def _mean_contribution(dense: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """(variables,) float64: mean size of the contribution of records that have one, by dense
    weight.
    """
    weights = np.zeros(dense.shape[1])
    for begin in range(0, dense.shape[0], _BLOCK):
        weights += np.asarray(dense[begin : begin + _BLOCK], dtype=np.float64).sum(axis=0)
    having, size = map_blocks(
        lambda array: weights @ array, [(rows != 0).astype(np.float64), np.abs(rows)]
    )
    return np.divide(size, having, out=np.zeros(rows.shape[1]), where=having > 0)
