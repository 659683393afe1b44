"""Ours: cells and totals of the dense solution kept by a balanced draw, exchanges and refits in
turn, and a refit anchored to the dense totals.

Belongs here: the call of ``tree/select/joint.py`` as one method among the others. Does not belong
here: any of its steps.
"""

from __future__ import annotations

import time

from calibration_core.tree.rivals.task import PairOutcome, PairTask
from calibration_core.tree.select.joint import JointSettings, refine_pairs, select_jointly
from calibration_core.tree.select.pairs import SelectionSettings


def run(task: PairTask, settings: JointSettings | None = None) -> PairOutcome:
    """Choose and weigh ``task.pairs`` pairs.

    Parameters
    ----------
    settings : default: those of ``SelectionSettings`` and ``JointSettings``, with the task's refit.
        Budget, seed and refit are always the task's.
    """
    began = time.perf_counter()
    options = (
        {}
        if settings is None
        else {
            k: getattr(settings.selection, k)
            for k in ("design", "candidates", "exchanges", "cell_penalty", "rounds", "threads")
        }
    )
    selection = SelectionSettings(task.pairs, task.seed, floor=1, **options)
    extra = (
        {}
        if settings is None
        else {
            "anchor_strength": settings.anchor_strength,
            "limits": settings.limits,
            "inside": settings.inside,
        }
    )
    joint = JointSettings(selection, task.refine, **extra)
    tree, targets = task.pool.tree, task.pool.targets
    chosen = select_jointly(
        tree,
        targets,
        task.dense,
        task.cell,
        task.order,
        task.attributes,
        joint,
        families=task.families,
        affinity=task.affinity,
        per_leaf=task.per_leaf,
    )
    selected = time.perf_counter()
    fit = refine_pairs(tree, targets, task.dense, task.attributes, chosen, joint)
    now = time.perf_counter()
    warnings = [*fit.result.warnings]
    if chosen.without_support:
        warnings.append(
            f"{len(chosen.without_support):,} targets have no pair that contributes to them."
        )
    result = fit.result
    return PairOutcome(
        "hybrid",
        chosen.leaf,
        chosen.record,
        fit.starting,
        result.weights,
        selected - began,
        now - selected,
        result.converged,
        result.status,
        tuple(warnings),
    )
