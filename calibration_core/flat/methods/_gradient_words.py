"""What the gradient method says of its answer: a status, and everything the user must know.

Belongs here: those words. Does not belong here: the method (``gradient.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from calibration_core.common.warnings import CalibrationWarning, few_names
from calibration_core.flat.conflicts import tensions
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.exact import no_initial_weights, targets_missed
from calibration_core.flat.solve.losses import TargetLoss
from calibration_core.flat.solve.majorise import Settled


def status(outcome: Settled, optimal: bool, shortfall: float, prior: bool, capped: bool) -> str:
    """What was reached, and how it is known.

    Parameters
    ----------
    outcome, optimal, shortfall : the last answer, whether it is a minimum, and how far from one.
    prior, capped : whether there is a prior, and whether the loss is capped.
    """
    proof = f"{shortfall:.2g} of the forces do not cancel"
    if prior:
        proof = f"proved within {shortfall:.2g} of the least possible loss"
    if optimal and outcome.settled:
        local = "a local optimum of the capped loss; among the targets that pull "
        return f"{local if capped else ''}{proof}"
    why = getattr(outcome.answer, "reason", "the Newton iteration stopped early")
    if why == "optimal" or optimal:
        why = "the targets beyond the cap have not settled"
    if prior:
        proof = "how far the loss is from its least is not known"
        if shortfall < 0.5:
            proof = f"known to be within {shortfall:.2g} of the least possible loss"
    return f"{why}; {proof}"


def warnings(
    result: CalibrationResult, seen: tuple[CalibrationWarning, ...], loss: TargetLoss, settings: Any
) -> tuple[CalibrationWarning, ...]:
    """``seen`` before solving, and what is to be known of ``result``, minimised with ``loss``."""
    problem, omega = result.problem, loss.weights
    found = list(seen)
    if not result.converged:
        gap = "relative_gap" if "relative_gap" in result.details else "force_share"
        text = f"The minimum was not reached: {result.status}"
        found.append(CalibrationWarning("not_converged", text, size=result.details[gap]))
    small = np.abs(problem.targets) < (settings.epsilon or 0.0) / problem.total_unit
    told = "targets are smaller than epsilon, so missing them costs little"
    found += _named(problem, "epsilon_above_target", small & (problem.targets != 0), told)
    told = "targets weigh nothing and were only looked at"
    found += _named(problem, "target_without_weight", omega == 0, told)
    beyond = (omega > 0) & (loss.loss.counts(loss.residuals(result.fitted)) == 0)
    told = "targets lie beyond the cap and no longer pull"
    found += _named(problem, "target_beyond_cap", beyond, told)
    missed = np.flatnonzero(~result.targets_met)
    if missed.size:
        why = f"are off by more than {settings.met_within:g} of their size"
        found += [targets_missed(result, missed, why), *tensions.explain(result)]
    if problem.initial_weights is None:
        found.append(no_initial_weights(problem))
    return tuple(found)


def _named(
    problem: CalibrationProblem, code: str, which: np.ndarray, text: str
) -> list[CalibrationWarning]:
    """A warning that counts and names the targets ``which`` (bool), if there are any."""
    index = np.flatnonzero(which)
    if index.size == 0:
        return []
    names = tuple(problem.target_names[j] for j in index)
    text = f"{index.size} of {which.size} {text}: {few_names(names)}"
    return [CalibrationWarning(code, text, names, float(index.size))]
