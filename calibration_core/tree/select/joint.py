"""Choosing and weighing together: a draw, then rounds of refitting the weights and exchanging pairs
at the refitted weights.

After a draw the refit moves the weights of what was drawn; where it cannot meet a target, another
record would. So, ``rounds`` times: refit, and let every pair give its place, with its refitted
weight, to a candidate of its area if the area's totals then come nearer to the dense ones
(``tree/select/exchange.py``). The starting weights of places stay what they were, so that the last
refit begins from Horvitz-Thompson weights and its prior keeps them even. Before the last round
targets that lost every contributing pair get one back (``support.py``), which exchanges then leave
alone, so that the others can make room for it; what that round itself loses gets one back at the
end. k holds throughout.

The refits between rounds are loose, and their weights are rounded to eight digits before pairs are
compared: the last bits of a solution depend on the number of threads of the linear algebra, and
must not decide which pair is chosen.

Belongs here: the rounds, and the last refit. Does not belong here: the draw
(``tree/select/pairs.py``), exchanges, the solver (``tree/solve/newton.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.digits import significant
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, Targets
from calibration_core.tree.select.anchors import anchored, balance_of
from calibration_core.tree.select.exchange import exchange
from calibration_core.tree.select.pairs import (
    Balance,
    Selection,
    SelectionSettings,
    cells_lost,
    select_pairs,
)
from calibration_core.tree.select.support import ensure_support
from calibration_core.tree.select.weight_limits import WeightLimits, limited
from calibration_core.tree.solve.newton import TreeNewtonResult, TreeNewtonSettings, calibrate_tree

_LOOSE = 1e-2
_DIGITS = 8


@dataclass(frozen=True)
class JointSettings:
    """Attributes: ``selection``; ``refine``: the solver; ``anchor_strength``: of soft targets at
    the dense totals of what has no target (``anchors.anchored``), 0 for none; ``limits``: smallest
    and largest weights, None for none; ``inside``: a leaf's target is worth a pair where no pair at
    all would leave it further off than so many scales.
    """

    selection: SelectionSettings
    refine: TreeNewtonSettings
    anchor_strength: float = 0.25
    limits: WeightLimits | None = None
    inside: float = 1.645


@dataclass(frozen=True, eq=False)
class RefinedPairs:
    """Attributes: ``result``: of the solver, its levels with the caller's own targets only;
    ``anchored``: how many soft targets there were beside them; ``starting``: (k,) float64 the
    starting weights used, after limits; ``limited``: pairs whose starting weight a limit changed;
    ``relaxed_areas``: areas too small for the smallest weight asked.
    """

    result: TreeNewtonResult
    anchored: int
    starting: np.ndarray
    limited: int
    relaxed_areas: tuple[int, ...]


def select_jointly(
    tree: GeographyTree,
    targets: Targets,
    dense: np.ndarray,
    category: np.ndarray,
    order: np.ndarray,
    attributes: np.ndarray,
    settings: JointSettings,
    *,
    families: Sequence[np.ndarray] = (),
    affinity: np.ndarray | None = None,
    per_leaf: np.ndarray | None = None,
    progress: Callable[[str], None] | None = None,
) -> Selection:
    """Choose exactly k pairs that can be weighed well.

    Parameters
    ----------
    tree, targets : of the refit.
    dense : (leaves, records) float64 >= 0 dense calibrated weights.
    category, order : as ``selection.select_pairs``; so are families, affinity, per_leaf.
    attributes : (records, f) float64 everything known of a record, targeted or not: what the draw
        keeps beside the targets.
    progress : called with a few words after each step.

    Raises
    ------
    ProblemError, BudgetError, SettingsError : as ``select_pairs``, ``calibrate_tree``.
    """
    say = progress or (lambda text: None)
    options = settings.selection
    # Scales of what has no target depend on the counts, which depend on nothing but the dense
    # weights.
    rough = np.full(
        dense.shape[0], max(1, options.budget // max(dense.shape[0], 1)), dtype=np.int64
    )
    balance = balance_of(tree, targets, attributes, dense, rough if per_leaf is None else per_leaf)
    drawn = select_pairs(
        dense,
        category,
        order,
        options,
        balance=balance,
        families=families,
        affinity=affinity,
        per_leaf=per_leaf,
        names=tree.leaves,
    )
    say(f"drew {drawn.leaf.size:,} pairs, {int(drawn.exchanges.sum()):,} exchanges")
    if options.rounds and options.exchanges:
        drawn = _rounds(tree, targets, dense, category, attributes, balance, drawn, settings, say)
    drawn = ensure_support(
        drawn, dense, tree, targets.designs, _worth_a_pair(targets, settings.inside)
    )
    return _with_cells_lost(drawn, dense, category, affinity)


def refine_pairs(
    tree: GeographyTree,
    targets: Targets,
    dense: np.ndarray,
    attributes: np.ndarray,
    selection: Selection | PairProblem,
    settings: JointSettings,
    *,
    start: tuple[np.ndarray, ...] | None = None,
    progress=None,
) -> RefinedPairs:
    """Refit the weights of selected pairs, anchored to the dense totals and within the limits
    asked.

    Parameters
    ----------
    selection : the pairs with their starting weights (``weight``), or a PairProblem that holds them
        (``prior_weight``).
    start : multipliers of an earlier refit of the same targets.
    """
    starting = selection.prior_weight if isinstance(selection, PairProblem) else selection.weight
    leaf, record = selection.leaf, selection.record
    per_leaf = np.bincount(leaf, minlength=len(tree.leaves))
    kept = limited(starting, leaf, len(tree.leaves), settings.limits, settings.refine.ratio_bounds)
    soft = anchored(tree, targets, attributes, dense, per_leaf, settings.anchor_strength)
    problem = PairProblem(tree, soft, leaf, record, kept.weight, kept.ratio_bounds)
    result = calibrate_tree(problem, settings.refine, start=start, progress=progress)
    own = [design.shape[1] for design in targets.designs]
    trimmed = replace(
        result,
        fitted=tuple(f[:, :n] for f, n in zip(result.fitted, own, strict=True)),
        residuals=tuple(r[:, :n] for r, n in zip(result.residuals, own, strict=True)),
    )
    return RefinedPairs(
        trimmed, soft.count - targets.count, kept.weight, kept.changed, kept.relaxed
    )


def _rounds(
    tree,
    targets,
    dense,
    category,
    attributes,
    balance: Balance,
    drawn: Selection,
    settings: JointSettings,
    say,
) -> Selection:
    options = settings.selection
    loose = replace(
        settings, refine=replace(settings.refine, tolerance=max(_LOOSE, settings.refine.tolerance))
    )
    offsets = np.concatenate([[0], np.cumsum(drawn.per_leaf)])
    start, made = None, drawn.exchanges.copy()
    for number in range(options.rounds):
        if number == options.rounds - 1:
            drawn = ensure_support(
                drawn, dense, tree, targets.designs, _worth_a_pair(targets, settings.inside)
            )
        fit = refine_pairs(tree, targets, dense, attributes, drawn, loose, start=start)
        start = fit.result.multipliers
        weights = np.maximum(
            significant(fit.result.weights, _DIGITS),
            1e-12 * max(float(fit.result.weights.max()), 1e-300),
        )
        candidates = drawn.candidates
        passed = exchange(
            offsets,
            drawn.record,
            weights,
            drawn.certain,
            candidates.offsets,
            candidates.record,
            balance.rows,
            balance.goals,
            balance.scales,
            category,
            options.exchange_settings,
            balance.shared,
        )
        made += passed.exchanges
        order = np.lexsort((passed.record, drawn.leaf))
        drawn = replace(
            drawn,
            record=passed.record[order],
            weight=drawn.weight[order],
            probability=drawn.probability[order],
            exchanges=made,
            rounds=number + 1,
            stopped=drawn.stopped + passed.stopped,
        )
        say(f"round {number + 1}: {fit.result.status}, {int(passed.exchanges.sum()):,} exchanges")
    return drawn


def _worth_a_pair(targets: Targets, inside: float) -> list[np.ndarray]:
    """Above the finest level every target must keep a pair; at the finest, those that no pair at
    all would leave outside their margin.
    """
    used = [
        np.isfinite(scale) & (value != 0)
        for scale, value in zip(targets.scales, targets.values, strict=True)
    ]
    used[-1] &= np.abs(targets.values[-1]) > inside * targets.scales[-1]
    return used


def _with_cells_lost(drawn: Selection, dense, category, affinity) -> Selection:
    lost, mass, moved, moved_mass = cells_lost(dense, category, drawn.leaf, drawn.record, affinity)
    return replace(drawn, categories_lost=lost, mass_lost=mass, moved=moved, moved_mass=moved_mass)
