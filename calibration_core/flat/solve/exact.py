"""Meet every target at the least distance from the initial weights; where that is impossible, say
why and compromise.

The common course of all of Deville and Sarndal's methods: look for conflicts, set dependent rows
aside, solve the dual, check every row (those set aside too), and only then call it converged. A
problem that cannot be met is solved again as a compromise, with ``converged`` false, unless the
caller asked for strictness.

Belongs here: that course. Does not belong here: distances, the iteration, the search for conflicts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.distances import Distance
from calibration_core.errors import InfeasibleError, SettingsError
from calibration_core.flat.conflicts import feasibility, precheck, reach, tensions
from calibration_core.flat.conflicts.margins import contradictions
from calibration_core.flat.constraint_rows import RowStructure, row_structure
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.solve import compromise
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.structural_zeros import without_structural_zeros

# Multipliers and prior start so that a conflict of this relative size between dependent rows is
# rounding, not contradiction.
_AGREES = 1e-9
# Squared relative distance between rows from which on Hessians may be summed in single precision.
_FAR_APART = 1e-3
# A weight this small against its initial weight adds nothing to any total that matters.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True)
class ExactSettings:
    """Settings of the exact methods.

    Attributes
    ----------
    tolerance : relative error under which a target is met; the solver goes on to well below it.
    max_iterations : Newton steps.
    strict : raise InfeasibleError instead of returning a compromise.
    compromise : "least_squares" of the relative residuals (in standard errors where there are any),
        or "minimax", their largest.
    minimax_slack : how far above the smallest possible largest error the minimax compromise may go,
        so that weights stay moderate.
    least_kappa : how little the distance may count against the targets in the least-squares
        compromise, relative to the sum of initial weights. The default all but ignores it; targets
        that are noisy estimates are better not chased so far (1e-4 to 1e-2).
    explain : look for the conflict (linear programs) when targets cannot be met; False saves their
        time.
    """

    tolerance: float = 1e-9
    max_iterations: int = 100
    strict: bool = False
    compromise: str = "least_squares"
    minimax_slack: float = 0.01
    least_kappa: float = 1e-8
    explain: bool = True

    def __post_init__(self) -> None:
        if not 0 < self.tolerance <= 1e-2:
            raise SettingsError(
                f"tolerance is {self.tolerance!r}", expected="above 0, at most 0.01"
            )
        if self.max_iterations < 1 or not self.minimax_slack >= 0:
            raise SettingsError(
                f"max_iterations is {self.max_iterations}, minimax_slack {self.minimax_slack}",
                expected="at least 1, and at least 0",
            )
        if not 1e-12 <= self.least_kappa <= 1e6:
            raise SettingsError(
                f"least_kappa is {self.least_kappa!r}", expected="from 1e-12 to 1e6"
            )
        if self.compromise not in ("least_squares", "minimax"):
            raise SettingsError(
                f"compromise is {self.compromise!r}", expected="'least_squares' or 'minimax'"
            )

    @property
    def dual(self) -> DualSettings:
        """The iteration's own settings."""
        return DualSettings(tolerance=self.tolerance, max_iterations=self.max_iterations)


def calibrate_exactly(
    problem: CalibrationProblem,
    method: str,
    distance: Distance,
    settings: ExactSettings,
    progress: Callable[[int, float], None] | None = None,
) -> CalibrationResult:
    """Solve ``problem`` with ``distance``. Raises InfeasibleError in strict mode, never otherwise
    for an impossible target.
    """
    began = time.perf_counter()
    original = problem
    problem, emptied = without_structural_zeros(problem, distance)
    rows, box = row_structure(problem.matrix, problem.start), reach.box(problem, distance)
    seen = precheck.inspect(problem, rows, box, emptied=int(sum(w.size for w in emptied)))
    blocking = [w for w in seen if w.code in precheck.IMPOSSIBLE]
    harmless = [*emptied, *(w for w in seen if w.code not in precheck.IMPOSSIBLE)]
    present = np.sort(np.concatenate([rows.kept, rows.dependent]))
    found = None
    if not any(w.code in precheck.IMPOSSIBLE_TOGETHER for w in blocking) and _dependent_rows_agree(
        problem, rows
    ):
        found = _exact(problem, distance, rows, settings, progress)
    if found is not None and _met(problem, found.weights, present, settings.tolerance):
        weights, y = found.weights, found.multipliers
        iterations, trace, details, optimal = (
            found.iterations,
            found.trace,
            {"factorisations": found.factorisations},
            True,
        )
        warnings = [*blocking, *harmless]
        if settings.strict and blocking:
            raise _infeasible(warnings)
    else:
        explained = feasibility.explain(problem, present, box) if settings.explain else ()
        # Bounds that are too narrow come first: targets out of reach one at a time follow from
        # them.
        narrow = [w for w in explained if w.code in feasibility.NARROW]
        warnings = [*narrow, *blocking, *(w for w in explained if w not in narrow), *harmless]
        if settings.strict:
            stopped = (
                []
                if blocking or explained
                else [
                    CalibrationWarning(
                        "targets_missed", "The solver found no weights that meet every target"
                    )
                ]
            )
            raise _infeasible(stopped + warnings)
        answer = _compromise(problem, distance, present, box, settings)
        weights, y, trace, details = (
            answer.weights,
            answer.multipliers,
            answer.trace,
            answer.details,
        )
        iterations, optimal = answer.iterations + (found.iterations if found else 0), answer.optimal
    result = CalibrationResult(
        problem=original,
        method=method,
        settings=settings,
        weights=weights,
        converged=False,
        status="",
        iterations=iterations,
        loss_trace=trace,
        multipliers=y,
        tolerance=max(settings.tolerance, 1e-9),
        warnings=tuple(warnings),
        details=details,
    )
    return finish(result, optimal, time.perf_counter() - began)


def _exact(
    problem: CalibrationProblem,
    distance: Distance,
    rows: RowStructure,
    settings: ExactSettings,
    progress,
):
    """Solve for the independent rows; the others follow."""
    return solve_dual(
        problem.matrix,
        problem.targets,
        problem.start,
        distance,
        problem.relative_scale,
        settings.dual,
        q=problem.q,
        gram=rows.gram,
        active=rows.kept,
        single=rows.least_pivot > _FAR_APART,
        progress=progress,
    )


def _compromise(problem, distance, present, box, settings) -> compromise.Compromise:
    if settings.compromise == "minimax":
        smallest = feasibility.minimax_error(problem, present, box)
        if smallest is not None:
            return compromise.minimax(
                problem, distance, present, settings.dual, smallest, settings.minimax_slack
            )
    return compromise.least_squares(problem, distance, present, settings.dual, settings.least_kappa)


def _dependent_rows_agree(problem: CalibrationProblem, rows: RowStructure) -> bool:
    return not contradictions(problem, rows).any()


def _met(
    problem: CalibrationProblem, weights: np.ndarray, rows: np.ndarray, tolerance: float
) -> bool:
    residual = np.abs(problem.matrix.totals(weights) - problem.targets)[rows]
    rounding = 1e-13 * problem.matrix.absolute_totals(np.abs(weights))[rows]
    # Dependent rows inherit the rounding of those they depend on.
    return bool(
        (
            residual
            <= np.maximum(tolerance, _AGREES) * problem.relative_scale[rows] + 10 * rounding
        ).all()
    )


def finish(result: CalibrationResult, optimal: bool, seconds: float) -> CalibrationResult:
    """Complete a result: what was missed and why, negative weights, the status, and whether it may
    call itself converged.
    """
    warnings = list(result.warnings)
    met = result.targets_met
    missed = [result.problem.target_names[j] for j in np.flatnonzero(~met)]
    if missed:
        error = np.abs(result.residuals) / result.problem.relative_scale
        warnings.append(
            CalibrationWarning(
                "targets_missed",
                f"{len(missed)} of {met.size} targets are not met; the largest relative error is"
                f" {100 * error.max():.3g} %"
                f" ({result.problem.target_names[int(error.argmax())]!r})",
                tuple(missed),
                float(error.max()),
            )
        )
        warnings += tensions.explain(result)
    negative = int((result.weights < 0).sum())
    if negative:
        text = (
            f"{negative:,} of {result.weights.size:,} weights are negative, the smallest is"
            f" {result.weights.min():.4g}; truncated_linear, raking or logit keep them positive"
        )
        warnings.append(CalibrationWarning("negative_weights", text, size=float(negative)))
    start = result.problem.start
    tiny = int(
        ((np.abs(result.weights) < _NEGLIGIBLE * start) & (start > 0) & (result.weights != 0)).sum()
    )
    if tiny:
        text = (
            f"{tiny:,} of {result.weights.size:,} weights are under {_NEGLIGIBLE:g} of their"
            " initial weight: the targets want those records out"
        )
        warnings.append(CalibrationWarning("negligible_weights", text, size=float(tiny)))
    if result.problem.initial_weights is None:
        text = (
            f"No initial weights were given: every record started at {result.problem.start[0]:.6g},"
            " which fits the targets best"
        )
        warnings.append(
            CalibrationWarning("no_initial_weights", text, size=float(result.problem.start[0]))
        )
    if not missed:
        status = "every target is met"
    else:
        kind = result.details.get("compromise", "")
        if not optimal:
            status = f"{len(missed)} of {met.size} targets are not met; the solver stopped early"
        elif kind:
            status = (
                f"the targets cannot all be met, {len(missed)} of {met.size} are missed; these"
                f" weights are the {kind.replace('_', '-')} compromise"
            )
        else:
            status = (
                f"{len(missed)} of {met.size} targets cannot be met; these weights meet the others"
            )
    return replace(
        result,
        converged=not missed and optimal,
        status=status,
        warnings=tuple(warnings),
        seconds=seconds,
    )


def _infeasible(findings) -> InfeasibleError:
    first = findings[0]
    more = f" ({len(findings) - 1} more findings are in .findings)" if len(findings) > 1 else ""
    return InfeasibleError(
        first.message.rstrip(".") + more,
        findings=tuple(findings),
        where=", ".join(first.targets[:6]) + (" ..." if len(first.targets) > 6 else ""),
        expected="targets that some weights within the bounds can meet",
        remedy=(
            "Correct the targets or widen the bounds, or leave strict off to get the best"
            " compromise"
        ),
    )
