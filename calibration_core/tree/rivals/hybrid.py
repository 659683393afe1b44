"""Ours: cells and totals of the dense solution kept by a balanced draw, exchanges and refits in
turn, and a refit anchored to the dense totals.

Belongs here: the call of ``tree/select/joint.py`` as one method among the others. Does not belong
here: any of its steps.
"""

from __future__ import annotations

import time
from dataclasses import replace

from calibration_core.common.warnings import CalibrationWarning
from calibration_core.tree.rivals.task import PairOutcome, PairTask
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.settings import JointSettings, SelectionSettings


def run(task: PairTask, settings: JointSettings | None = None) -> PairOutcome:
    """Choose and weigh ``task.pairs`` pairs.

    Parameters
    ----------
    settings : default: those of ``SelectionSettings`` and ``JointSettings``, with the task's refit.
        k, seed and refit are always the task's.
    """
    began = time.perf_counter()
    if settings is None:
        settings = JointSettings(SelectionSettings(task.pairs, task.seed), task.refine)
    chosen_by = replace(settings.selection, pairs=task.pairs, seed=task.seed, floor=1)
    joint = replace(settings, selection=chosen_by, refine=task.refine)
    chosen = select_jointly(task.pool, joint, pairs_per_area=task.pairs_per_area)
    selected = time.perf_counter()
    fit = refine_pairs(task.pool, chosen, joint)
    now = time.perf_counter()
    result = fit.result
    warnings = [*result.warnings]
    if chosen.without_support:
        count = len(chosen.without_support)
        text = f"{count:,} targets have no pair that contributes to them."
        warnings.append(CalibrationWarning("unsupported_target", text, size=count))
    return PairOutcome(
        "hybrid",
        chosen.leaf,
        chosen.record,
        fit.starting,
        result.array,
        selected - began,
        now - selected,
        result.converged,
        result.status,
        tuple(warnings),
    )
