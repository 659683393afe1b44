"""Soft targets that anchor a refit to the dense solution.

The refit of few pairs moves weights towards the targets, and would pay for them with figures that
nobody looks at. So the dense totals of variables without a target of their level, above the finest
one, are soft targets. Their scale is ``strength`` times the standard error of a simple random draw
(``balance.py``), summed in squares over the areas below, and at least half of what one pair of mean
weight adds. Soft targets for variables of a larger sample are those of two-phase calibration
(Sarndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 9.7).

Belongs here: those targets. Does not belong here: what a draw keeps (``balance.py``), the solver.
"""

from __future__ import annotations

import numpy as np

from calibration_core.common.threads import map_blocks, one_thread
from calibration_core.tree.problem import Targets, make_targets
from calibration_core.tree.select.balance import totals_and_errors, unique_columns
from calibration_core.tree.select.pool import Pool

# A soft target is never tighter than this share of what one pair of mean weight adds: of a rare
# variable a few pairs cannot come nearer, whatever they weigh.
_LUMP = 0.5
# Leaves whose weights are looked at together.
_BLOCK = 512


@one_thread()
def anchored(pool: Pool, pairs_per_area: np.ndarray, strength: float) -> Targets:
    """Targets with soft ones beside them: at every level above the finest, the dense totals of all
    columns its design lacks. New columns come after those there were; ``strength`` 0 adds none.
    """
    tree, targets, dense = pool.tree, pool.targets, pool.dense
    if strength <= 0 or len(tree.levels) == 1:
        return targets
    designs, values, scales = list(targets.designs), list(targets.values), list(targets.scales)
    for depth in range(len(tree.levels) - 1):
        extra = unique_columns(
            targets.designs[depth],
            *(d for i, d in enumerate(targets.designs) if i != depth),
            pool.attributes,
        )
        if not extra.shape[1]:
            continue
        totals, errors = totals_and_errors(dense, extra, pairs_per_area)
        above = tree.ancestor_of_leaves(depth)
        goal, spread = (
            np.zeros((tree.sizes[depth], extra.shape[1])),
            np.zeros((tree.sizes[depth], extra.shape[1])),
        )
        np.add.at(goal, above, totals)
        np.add.at(spread, above, errors**2)
        designs[depth] = np.hstack([targets.designs[depth], extra])
        values[depth] = np.hstack([targets.values[depth], goal])
        lump = (
            float(dense.sum())
            / max(int(pairs_per_area.sum()), 1)
            * _mean_contribution(dense, extra)
        )
        soft = np.where(spread > 0, np.maximum(strength * np.sqrt(spread), _LUMP * lump), np.inf)
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
