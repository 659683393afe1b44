"""Soft targets that anchor a refit to the dense solution.

The refit of few pairs moves weights towards the targets, and would pay for them with figures that
nobody looks at. So the dense totals of variables without a target of their level are soft targets.
Their scale is a strength times the standard error of a simple random draw (``balance.py``), summed
in squares over the areas below; above the finest level it is at least half of what one pair of mean
weight adds. Soft targets for variables of a larger sample are those of two-phase calibration
(Sarndal, Swensson and Wretman, Model Assisted Survey Sampling, 1992, section 9.7).

Belongs here: those targets. Does not belong here: what a draw keeps (``balance.py``), the solver.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from calibration_core.common.columns import mean_contribution, rows_of, side_by_side
from calibration_core.common.threads import one_thread
from calibration_core.tree.problem import Targets, make_targets
from calibration_core.tree.select.balance import totals_and_errors, unique_columns
from calibration_core.tree.select.pool import Pool

# A soft target is never tighter than this share of what one pair of mean weight adds: of a rare
# variable a few pairs cannot come nearer, whatever they weigh.
_LUMP = 0.5


@one_thread()
def anchored(
    pool: Pool,
    pairs_per_area: np.ndarray,
    strength: float,
    *,
    finest: float = 0.0,
    targets: Targets | None = None,
) -> Targets:
    """Targets with soft ones beside them: above the finest level the dense totals of all columns
    that a level's design lacks, at the finest those of the pool's ``anchors``. New columns come
    after those there were.

    Parameters
    ----------
    strength, finest : of soft targets at levels above the finest, and at the finest, in standard
        errors of a simple random draw; 0 adds none.
    targets : those they stand beside, of the pool's designs; None for the pool's.
    """
    tree = pool.tree
    targets = pool.targets if targets is None else targets
    designs, values, scales = list(targets.designs), list(targets.values), list(targets.scales)
    last = len(tree.levels) - 1
    strengths = [strength] * last + [finest]
    if max(strengths) <= 0:
        return targets
    for depth in range(last + 1):
        if strengths[depth] <= 0:
            continue
        others = (
            [pool.attributes[:, pool.anchors]]
            if depth == last
            else [*(d for i, d in enumerate(targets.designs) if i != depth), pool.attributes]
        )
        extra = unique_columns(targets.designs[depth], *others)
        if not extra.shape[1]:
            continue
        totals, errors = totals_and_errors(pool.weights, extra, pairs_per_area)
        above = tree.ancestor_of_leaves(depth)
        goal, spread = (
            np.zeros((tree.sizes[depth], extra.shape[1])),
            np.zeros((tree.sizes[depth], extra.shape[1])),
        )
        np.add.at(goal, above, totals)
        np.add.at(spread, above, errors**2)
        designs[depth] = side_by_side(targets.designs[depth], extra)
        values[depth] = np.hstack([targets.values[depth], goal])
        # Of an area of the finest level what one pair adds is its own, and errors say it.
        least = (
            0.0
            if depth == last
            else (
                _LUMP
                * float(pool.totals.sum())
                / max(int(pairs_per_area.sum()), 1)
                * mean_contribution(pool.by_record, extra)
            )
        )
        soft = np.where(spread > 0, np.maximum(strengths[depth] * np.sqrt(spread), least), np.inf)
        scales[depth] = np.hstack([targets.scales[depth], soft])
    return make_targets(tree, designs, values, scales)


@one_thread()
def toward_dense(pool: Pool) -> Targets:
    """The pool's targets with the dense totals in place of the finest level's values, scales kept.

    The dense solution has weighed these targets against their errors once. A refit of few pairs
    that aims at its totals does not fit the errors again.
    """
    targets = pool.targets
    own, used = targets.designs[-1], np.isfinite(targets.scales[-1])
    totals = pool.weights.each(lambda block: block.weight @ rows_of(own, block.record))
    values = (*targets.values[:-1], np.where(used, totals, targets.values[-1]))
    return replace(targets, values=values)
