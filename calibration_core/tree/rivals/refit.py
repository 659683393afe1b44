"""From chosen pairs and starting weights to an outcome: the refit that every method but the paper's
shares.

    minimise_w   1/2 sum_j ((a_j.w - b_j) / s_j)^2  +  tau * distance(w, starting)       over the
    chosen pairs (``tree/solve/newton.py``)

with the task's own settings, so that methods differ in which pairs they keep and in where weights
start, and in nothing else.

Methods that weigh all pairs of the pool first share ``largest_pairs``.

Belongs here: scaling to leaf totals, the refit. Does not belong here: what makes one pair better
than another.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from calibration_core.common.digits import to_choose_by
from calibration_core.common.warnings import CalibrationWarning
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.rivals.task import PairOutcome, PairTask
from calibration_core.tree.solve.newton import calibrate_tree

# A kept pair starts at no less than this share of its leaf's mean: from next to nothing a refit
# with bounded ratios could not raise it.
_LEAST_START = 0.01


def refitted(
    task: PairTask,
    method: str,
    chosen: Sequence[np.ndarray],
    weights: Sequence[np.ndarray],
    began: float,
    warnings: tuple[CalibrationWarning, ...] = (),
) -> PairOutcome:
    """Refit pairs from their starting weights.

    Parameters
    ----------
    chosen : per leaf, (pairs_per_area,) int64 records ascending.
    weights : per leaf, (pairs_per_area,) float64 > 0 starting weights, of any scale: they are
        scaled to the leaf's dense total.
    began : time.perf_counter() at which the choice began.
    warnings : of the choice; those of the refit follow them.
    """
    leaf, record, starting = side_by_side(task, chosen, weights)
    selected = time.perf_counter()
    fit = calibrate_tree(
        PairProblem(task.pool.tree, task.pool.targets, leaf, record, starting), task.refine
    )
    now = time.perf_counter()
    return PairOutcome(
        method,
        leaf,
        record,
        starting,
        fit.array,
        selected - began,
        now - selected,
        fit.converged,
        fit.status,
        (*warnings, *fit.warnings),
    )


def side_by_side(
    task: PairTask, chosen: Sequence[np.ndarray], weights: Sequence[np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(leaf, record, starting) of all leaves, each (k,): starting weights summing to the dense
    total of every leaf.
    """
    leaf = np.repeat(np.arange(len(chosen), dtype=np.int64), [c.size for c in chosen])
    record = np.concatenate([np.asarray(c, dtype=np.int64) for c in chosen])
    starting = np.concatenate([np.asarray(w, dtype=np.float64) for w in weights])
    kept = np.bincount(leaf, weights=starting, minlength=len(chosen))
    return (
        leaf,
        record,
        starting * np.divide(task.pool.totals, kept, out=np.ones(kept.size), where=kept > 0)[leaf],
    )


def largest_pairs(
    task: PairTask, weights: np.ndarray
) -> tuple[list[np.ndarray], list[np.ndarray], tuple[CalibrationWarning, ...]]:
    """The ``pairs_per_area`` pairs of each leaf with the largest weights, ties by dense weight,
    then by position. Weights are compared rounded, so that a last bit decides nothing.

    Parameters
    ----------
    weights : (leaves, records) float64 >= 0, what a method made of the pool.

    Returns
    -------
    chosen, starting : per leaf, records ascending and their weights, none below a hundredth of the
        leaf's mean.
    warnings : how much of the weight the pairs left out held, and how many of those kept were
        raised.
    """
    chosen, starting, raised, held = [], [], 0, 0.0
    worth = to_choose_by(weights)
    for leaf, count in enumerate(task.pairs_per_area):
        usable = np.flatnonzero(task.pool.table[leaf] > 0)
        order = np.lexsort((usable, -task.pool.table[leaf, usable], -worth[leaf, usable]))
        kept = np.sort(usable[order[: int(count)]])
        weight = weights[leaf, kept]
        held += float(weight.sum())
        least = _LEAST_START * float(weight.mean()) if weight.size and weight.sum() > 0 else 1.0
        raised += int((weight < least).sum())
        chosen.append(kept)
        starting.append(np.maximum(weight, least))
    total = float(weights.sum())
    warnings = []
    if held < total * (1 - 1e-4):
        lost = 1 - held / total
        text = f"Pairs left out still held {lost:.2%} of the weight when the choice was made."
        warnings.append(CalibrationWarning("selection_not_settled", text, size=lost))
    if raised:
        text = (
            f"{raised:,} of {task.pairs:,} pairs were raised to a hundredth of their leaf's mean"
            " weight before the refit."
        )
        warnings.append(CalibrationWarning("negligible_weights", text, size=raised))
    return chosen, starting, tuple(warnings)
