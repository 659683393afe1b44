"""Choosing and weighing together: a draw, then rounds of refitting the weights and exchanging pairs
at the refitted weights.

After a draw the refit moves the weights of what was drawn; where it cannot meet a target, another
record would. So, ``rounds`` times: refit, and let every pair give its place, with its refitted
weight, to a candidate of its area if the area's totals then come nearer to the dense ones
(``exchange.py``). The starting weights of places stay what they were, so that the last refit begins
from Horvitz-Thompson weights and its prior keeps them even. Before the last round targets that lost
every contributing pair get one back (``support.py``), which exchanges then leave alone, so that the
others can make room for it. What that round itself loses gets one back at the end. k holds
throughout.

The refits between rounds are loose, and exchanges round their weights before they compare pairs.
The first of them follows the whole path of tau; those after it start from its multipliers, at the
tau where it ended.

Belongs here: the rounds, and the last refit. Does not belong here: the draw (``pairs.py``),
exchanges (``exchange.py``), the solver (``tree/solve/newton.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.threads import one_thread
from calibration_core.tree.problem import PairProblem, Targets
from calibration_core.tree.result import TreeNewtonResult
from calibration_core.tree.select.anchors import anchored, toward_dense
from calibration_core.tree.select.balance import Balance, balance_of
from calibration_core.tree.select.lost import lost_cells
from calibration_core.tree.select.pairs import Selection, exchange_pairs, select_pairs
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import JointSettings
from calibration_core.tree.select.support import ensure_support
from calibration_core.tree.select.weight_limits import limited
from calibration_core.tree.solve.newton import calibrate_tree

# Largest scaled gradient at which a refit between rounds ends: weights good to a hundredth of a
# scale choose as well as exact ones.
_LOOSE = 1e-2
# A target below this share of its scale is zero.
_ZERO = 1e-9
# No weight is compared as smaller than this share of the largest.
_LEAST = 1e-12


@dataclass(frozen=True, eq=False)
class RefinedPairs:
    """The weights of selected pairs.

    Attributes
    ----------
    result : of the solver: ``result.weights`` (k,) float64 in the order of the pairs, fitted totals
        and residuals of the caller's own targets only, whatever the refit aimed at, status and
        warnings.
    anchored : how many soft targets there were beside the caller's.
    starting : (k,) float64 the starting weights used, after limits.
    limited : number of pairs whose starting weight a limit changed.
    relaxed_areas : indices of leaves too small for the smallest weight asked.
    """

    result: TreeNewtonResult
    anchored: int
    starting: np.ndarray
    limited: int
    relaxed_areas: tuple[int, ...]


@one_thread()
def select_jointly(
    pool: Pool,
    settings: JointSettings,
    *,
    pairs_per_area: np.ndarray | None = None,
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """Choose exactly k pairs of a record and a leaf that can be weighed well: a balanced draw in
    proportion to dense weight, then rounds of refitting and exchanging.

    Parameters
    ----------
    pool : areas, targets and the dense solution, with a cell and a place in the order for each
        record.
    settings : k, the seed, the draw and the rounds; the solver of the refits.
    pairs_per_area : (leaves,) int64 pairs each leaf gets, summing to k; default: by the rule of
        ``settings.selection``.
    progress : called with a few words after each step.

    Returns
    -------
    Selection : ``leaf`` and ``record`` of every pair, (k,) int64, sorted, with its starting weight;
        what was lost and given back is named. ``refine_pairs`` gives the weights. The same pool and
        settings give the same pairs, however many threads there are.

    Raises
    ------
    ProblemError : shapes disagree. BudgetError : k is below the number of areas with weight, or
        above the number of pairs with positive weight. SettingsError : as ``calibrate_tree``, or
        the rule "neyman" without a target at the finest level.
    """
    say = progress or (lambda text: None)
    options = settings.selection
    # Scales of what has no target depend on the counts, which depend on nothing but dense weights.
    even = np.full(pool.leaves, max(1, options.pairs // pool.leaves), dtype=np.int64)
    balance = balance_of(pool, even if pairs_per_area is None else pairs_per_area)
    drawn = select_pairs(pool, options, balance=balance, pairs_per_area=pairs_per_area)
    say(f"drew {drawn.leaf.size:,} pairs, {int(drawn.exchanges.sum()):,} exchanges")
    if options.rounds and options.exchanges:
        drawn = _rounds(pool, drawn, balance, settings, say)
    drawn = ensure_support(drawn, pool, _worth_a_pair(pool.targets, settings.inside))
    return replace(drawn, lost=lost_cells(pool, drawn.leaf, drawn.record))


@one_thread()
def refine_pairs(
    pool: Pool,
    pairs: Selection | PairProblem,
    settings: JointSettings,
    *,
    start: tuple[np.ndarray, ...] | None = None,
    progress=None,
) -> RefinedPairs:
    """Refit the weights of selected pairs, anchored to the dense totals and within the limits
    asked.

    Parameters
    ----------
    pool : what the pairs were chosen from; its targets are what the weights are to meet.
    pairs : with their starting weights (``weight``), or a PairProblem that holds them
        (``prior_weight``).
    settings : the solver of the refit, the strength of anchors, limits of weights.
    start : multipliers of an earlier refit of the same targets.
    progress : called with a ``Step`` after each step of Newton's method.

    Returns
    -------
    RefinedPairs : read ``result.status`` and ``result.warnings`` before ``result.weights``.

    Raises
    ------
    ProblemError, SettingsError : as ``PairProblem`` and ``calibrate_tree``.
    """
    starting = pairs.prior_weight if isinstance(pairs, PairProblem) else pairs.weight
    leaf, targets = pairs.leaf, pool.targets
    counts = np.bincount(leaf, minlength=pool.leaves)
    bounds = settings.refine.ratio_bounds
    kept = limited(starting, leaf, pool.leaves, settings.limits, bounds)
    aims = toward_dense(pool) if settings.goals == "dense" else targets
    strengths = settings.anchor_strength, settings.anchor_finest
    soft = anchored(pool, counts, strengths[0], finest=strengths[1], targets=aims)
    problem = PairProblem(pool.tree, soft, leaf, pairs.record, kept.weight, kept.ratio_bounds)
    result = calibrate_tree(problem, settings.refine, start=start, progress=progress)
    own = [design.shape[1] for design in targets.designs]
    fitted = tuple(f[:, :n] for f, n in zip(result.fitted, own, strict=True))
    both = zip(fitted, targets.values, targets.scales, strict=True)
    residuals = tuple(np.where(np.isfinite(s), f - b, np.nan) for f, b, s in both)
    trimmed = replace(result, fitted=fitted, residuals=residuals)
    return RefinedPairs(
        trimmed, soft.count - targets.count, kept.weight, kept.changed, kept.relaxed
    )


def _rounds(
    pool: Pool,
    drawn: Selection,
    balance: Balance,
    settings: JointSettings,
    say: Callable[[str], None],
) -> Selection:
    options = settings.selection
    loose = replace(settings.refine, tolerance=max(_LOOSE, settings.refine.tolerance))
    loosely = replace(settings, refine=loose)
    start = None
    for number in range(1, options.rounds + 1):
        if number == options.rounds:
            drawn = ensure_support(drawn, pool, _worth_a_pair(pool.targets, settings.inside))
        result = refine_pairs(pool, drawn, loosely, start=start).result
        start = result.multipliers
        # Few pairs have changed: the path would lead to the same tau in four times the steps.
        loosely = replace(loosely, refine=replace(loose, tau_path=(result.tau,)))
        weights = np.maximum(result.array, _LEAST * max(float(result.array.max()), 1e-300))
        drawn, passed = exchange_pairs(pool, drawn, weights, balance, options)
        drawn = replace(drawn, rounds=number)
        say(f"round {number}: {result.status}, {int(passed.exchanges.sum()):,} exchanges")
    return drawn


def _worth_a_pair(targets: Targets, inside: float) -> list[np.ndarray]:
    """Above the finest level every target must keep a pair; at the finest, those that no pair at
    all would leave outside their margin.
    """
    both = zip(targets.scales, targets.values, strict=True)
    # A value far below its scale is the rounding of a zero.
    used = [np.isfinite(scale) & (np.abs(value) > _ZERO * scale) for scale, value in both]
    used[-1] &= np.abs(targets.values[-1]) > inside * targets.scales[-1]
    return used
