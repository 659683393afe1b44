"""Weights brought within bounds: trimming, with every total kept or, as plain trimming does, only
their sum.

Keeping totals (the default): weights are cut at the bounds and then moved as little as possible so
that all targets hold again,

    minimise sum_i (w_i - c_i)^2 / (2 c_i)  subject to A w = b, low_i <= w_i <= high_i,   c = d cut
    at the bounds

which is what ReGenesees' ``trimcal`` is for. Without (``keep_totals=False``), what was cut off is
spread over the weights that were not cut, in equal parts or in proportion to them. That is repeated
until none is outside, as ``trimWeights(strict=TRUE)`` of R's survey package does. The sum of
weights is kept and nothing else, and the result says how far the targets moved.

Belongs here: both ways of trimming. Does not belong here: finding good bounds (``conflicts/``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.distances import BoundedRaking, TruncatedLinear
from calibration_core.common.settings import Choice, Rule, Switch, check
from calibration_core.errors import ProblemError
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.methods._bounds import limits_around_zero
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly, finish

_ROUNDS = 100_000


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings.

    Attributes
    ----------
    keep_totals : hold every target; False keeps the sum of weights only.
    distance : "linear" or "raking", the distance to the cut weights when totals are kept.
    spread : "equal" or "proportional": how what was cut off is shared out when totals are not kept.
    repeat : when totals are not kept, go on until no weight is outside; False cuts and shares out
        once, which may push some outside.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        **ExactSettings.RULES,
        "keep_totals": Switch(),
        "distance": Choice(("linear", "raking")),
        "spread": Choice(("equal", "proportional")),
        "repeat": Switch(),
    }

    keep_totals: bool = True
    distance: str = "linear"
    spread: str = "equal"
    repeat: bool = True

    def __post_init__(self) -> None:
        check(self)


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Trim the initial weights to the problem's bounds.

    Raises ProblemError if the problem has no bounds or no initial weights, or (totals not kept) no
    weights within the bounds have the same sum; InfeasibleError in strict mode.
    """
    if not problem.bounded or problem.initial_weights is None:
        raise ProblemError(
            "Trimming needs weights and bounds",
            expected="initial_weights, and weight_bounds=(low, high) on w or ratio_bounds on w/d",
            remedy="Give both",
        )
    low, high = limits_around_zero(problem)
    outside = (problem.start < low) | (problem.start > high)
    cut = CalibrationWarning(
        "weights_cut",
        f"{int(outside.sum()):,} of {outside.size:,} weights were outside the bounds",
        size=float(outside.sum()),
    )
    result = (
        _keeping_totals(problem, settings, progress)
        if settings.keep_totals
        else _keeping_sum(problem, settings)
    )
    return replace(result, warnings=(cut, *result.warnings) if outside.any() else result.warnings)


def _keeping_totals(problem: CalibrationProblem, settings: Settings, progress) -> CalibrationResult:
    low, high = limits_around_zero(problem)
    cut = np.clip(problem.start, low, high)
    working = problem.change(
        initial_weights=cut,
        ratio_bounds=None,
        weight_bounds=(low if np.isfinite(low).all() else np.maximum(low, 0.0), high),
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        a, b = np.where(cut > 0, low / cut, 0.0), np.where(cut > 0, high / cut, 1.0)
    distance = (
        TruncatedLinear(a, b)
        if settings.distance == "linear"
        else BoundedRaking(np.maximum(a, 0.0), b)
    )
    return replace(
        calibrate_exactly(working, "trim", distance, settings, progress), problem=problem
    )


def _keeping_sum(problem: CalibrationProblem, settings: Settings) -> CalibrationResult:
    began = time.perf_counter()
    low, high = limits_around_zero(problem)
    weights, total = problem.start.copy(), float(problem.start.sum())
    if not low.sum() <= total <= high.sum():
        told, least, most = (problem.told_weight(x) for x in (total, low.sum(), high.sum()))
        raise ProblemError(
            f"The weights sum to {told:g}; within the bounds they can sum to no less than "
            f"{least:g} and no more than {most:g}",
            expected="bounds that leave room for the sum",
            remedy="Widen the bounds",
        )
    trace, rounds = [], 0
    while rounds < (_ROUNDS if settings.repeat else 1):
        outside = (weights < low) | (weights > high)
        if not outside.any():
            break
        kept = np.clip(weights, low, high)
        excess = float((weights - kept).sum())
        # A weight of zero is no weight: nothing is shared out to it.
        inside = ~outside & (problem.start > 0)
        if not inside.any():
            weights = kept
            break
        share = (
            np.full(int(inside.sum()), 1.0 / inside.sum())
            if settings.spread == "equal"
            else weights[inside] / weights[inside].sum()
        )
        kept[inside] += excess * share
        weights, rounds = kept, rounds + 1
        trace.append(abs(excess) / total)
        if trace[-1] < 1e-15:
            # What is left to share out is below the rounding of the sum.
            weights = np.clip(weights, low, high)
            break
    held = bool(((weights >= low * (1 - 1e-12)) & (weights <= high * (1 + 1e-12))).all())
    result = CalibrationResult(
        problem=problem,
        method="trim",
        settings=settings,
        weights=weights,
        converged=held,
        status="",
        iterations=rounds,
        loss_trace=tuple(trace),
        tolerance=max(settings.tolerance, LEAST_TOLERANCE),
        details={"sum_kept": abs(float(weights.sum()) - total) <= 1e-9 * total},
    )
    done = finish(result, held, time.perf_counter() - began)
    status = (
        "weights are within the bounds and keep their sum; targets were not held"
        if held
        else "some weights are still outside the bounds"
    )
    return replace(done, converged=held and bool(done.details["sum_kept"]), status=status)
