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
from typing import ClassVar

import numpy as np

from calibration_core.common.distances import Distance
from calibration_core.common.settings import Choice, Number, Rule, Switch, check
from calibration_core.errors import InfeasibleError
from calibration_core.flat.conflicts import feasibility, precheck, reach, tensions
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.conflicts.precheck import Seen
from calibration_core.flat.implied_zeros import zeros_by_program
from calibration_core.flat.level import AtLevel, at_level
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import ROUNDING, CalibrationResult, CalibrationWarning
from calibration_core.flat.solve import compromise
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem, KnownRows

# Squared relative distance between rows from which on Hessians may be summed in single precision.
_FAR_APART = 1e-3
# A weight this small against its initial weight, both as shares of their sum, adds nothing to any
# total that matters.
_NEGLIGIBLE = 1e-9
# What to use where a method has stopped although weights exist: never the method itself.
_OTHER_METHOD = {
    "linear": "raking",
    "truncated_linear": "raking_bounded",
    "logit": "truncated_linear",
    "raking": "linear",
    "raking_bounded": "truncated_linear",
    "entropy": "linear",
    "ipf": "linear",
    "trim": "truncated_linear",
}


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

    RULES: ClassVar[dict[str, Rule]] = {
        "tolerance": Number(above=0, most=1e-2),
        "max_iterations": Number(least=1, whole=True),
        "strict": Switch(),
        "compromise": Choice(("least_squares", "minimax")),
        "minimax_slack": Number(least=0),
        "least_kappa": Number(least=1e-12, most=1e6),
        "explain": Switch(),
    }

    tolerance: float = 1e-9
    max_iterations: int = 100
    strict: bool = False
    compromise: str = "least_squares"
    minimax_slack: float = 0.01
    least_kappa: float = 1e-8
    explain: bool = True

    def __post_init__(self) -> None:
        check(self)

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
    solver = _Solver(problem, method, distance, settings, progress)
    result = solver.solve()
    return replace(result, seconds=time.perf_counter() - began)


class _Solver:
    """One problem on its course."""

    def __init__(self, problem, method, distance, settings: ExactSettings, progress) -> None:
        self.original, self.method, self.distance = problem, method, distance
        self.settings, self.progress = settings, progress
        self.iterations, self.factorisations = 0, 0
        self.look(problem)

    def look(self, problem: CalibrationProblem) -> None:
        """What is to be seen of ``problem``, and the problem as it is solved."""
        box = reach.box(problem, self.distance)
        self.seen: Seen = precheck.look(problem, box, self.settings.tolerance)
        self.at: AtLevel = at_level(
            self.seen.problem, self.distance, self.seen.rows, self.seen.agreement.targets
        )
        self.rows = self.seen.supported

    def solve(self) -> CalibrationResult:
        found = self.exact(self.at.multipliers) if self.seen.together else None
        if found is None or self.vanishing(found):
            found = self.after_more_zeros() or found
        if found is not None:
            return self.met(found)
        verdict = self.verdict()
        if self.settings.strict and verdict.feasible is not True:
            raise self.refuse(verdict)
        answer = self.compromise()
        if verdict.feasible is not False and self.seen.together:
            # Weights exist, or may: Newton's method from the compromise has the shortest way left.
            found = self.exact(answer.multipliers)
            if found is not None:
                return self.met(found)
            if self.settings.strict:
                raise self.refuse(verdict)
        return self.compromised(answer, verdict)

    def exact(self, multipliers: np.ndarray | None):
        """The solution on the independent rows, which the others follow; None where it fails."""
        problem, rows, agreed = self.at.problem, self.seen.rows, self.seen.agreement
        dual = DualProblem(
            problem.matrix,
            agreed.targets,
            problem.start,
            self.at.distance,
            problem.relative_scale,
            q=problem.q,
        )
        known = KnownRows(rows.gram * self.at.factor, rows.kept, rows.least_pivot > _FAR_APART)
        found = solve_dual(
            dual, self.settings.dual, multipliers=multipliers, rows=known, progress=self.progress
        )
        self.iterations += found.iterations
        self.factorisations += found.factorisations
        residual = np.abs(found.fitted - problem.targets)
        allowed = agreed.tolerance * problem.relative_scale
        if (residual <= allowed)[self.rows].all():
            return found
        # Dependent rows inherit the rounding of those they depend on.
        allowed += 10 * ROUNDING * problem.matrix.absolute_totals(np.abs(found.weights))
        return found if (residual <= allowed)[self.rows].all() else None

    def vanishing(self, found) -> bool:
        """Whether weights tend to zero, which only a proof that they must be zero settles."""
        tiny = _negligible(found.weights, self.at.problem.start) & (self.seen.box[0] <= 0)
        return bool((tiny & (found.weights > 0)).any())

    def after_more_zeros(self):
        """The solution once records are set aside that only a combination of rows empties."""
        if not self.seen.together:
            return None
        low, tolerance = self.seen.box[0], self.seen.agreement.tolerance
        more = zeros_by_program(self.seen.problem, self.rows, low, tolerance)
        if more is None:
            return None
        before = self.seen.findings
        self.look(precheck.without(self.seen.problem, [more.records]))
        fresh = [w for w in self.seen.findings if w not in before and w.code != "zero_weights"]
        self.seen = replace(self.seen, findings=(*fresh, more.warning, *before))
        return self.exact(self.at.multipliers) if self.seen.together else None

    def verdict(self) -> feasibility.Verdict:
        """Whether the targets can be met, as far as that is asked for."""
        if not self.settings.explain:
            feasible = None if self.seen.together else False
            return feasibility.Verdict(feasible, (), self.at.problem.start, np.nan)
        found = feasibility.judge(
            self.seen.problem, self.rows, self.seen.box, tolerance=self.seen.agreement.tolerance
        )
        # What linear algebra has found impossible stays so, however the program rounds.
        return found if self.seen.together else replace(found, feasible=False)

    def findings(self, verdict: feasibility.Verdict) -> list[CalibrationWarning]:
        """Bounds that are too narrow come first: targets out of reach one at a time follow."""
        narrow = [w for w in verdict.findings if w.code in feasibility.NARROW]
        others = [w for w in verdict.findings if w.code not in feasibility.NARROW]
        return [*narrow, *self.seen.blocking, *others, *self.seen.harmless]

    def refuse(self, verdict: feasibility.Verdict) -> InfeasibleError:
        """The error of strict mode."""
        found = self.findings(verdict)
        if not self.seen.blocking and not verdict.findings:
            text = "The solver found no weights that meet every target"
            found.insert(0, CalibrationWarning("targets_missed", text))
        return _infeasible(found)

    def compromise(self) -> compromise.Compromise:
        problem, distance, dual = self.at.problem, self.at.distance, self.settings.dual
        if self.settings.compromise == "minimax":
            smallest = feasibility.minimax_error(self.seen.problem, self.rows, self.seen.box)
            if smallest is not None:
                slack = self.settings.minimax_slack
                return compromise.minimax(problem, distance, self.rows, dual, smallest, slack)
        return compromise.least_squares(
            problem, distance, self.rows, dual, self.settings.least_kappa
        )

    def met(self, found) -> CalibrationResult:
        """Every target that records support is met."""
        if self.settings.strict and self.seen.blocking:
            raise _infeasible(list(self.seen.findings))
        multipliers = self.at.given(found.multipliers)
        details = {"factorisations": self.factorisations}
        result = self.result(found.weights, multipliers, found.trace, details)
        return finish(result, True, feasible=not self.seen.blocking)

    def compromised(self, answer, verdict: feasibility.Verdict) -> CalibrationResult:
        """Not every target is met."""
        self.iterations += answer.iterations
        result = self.result(answer.weights, answer.multipliers, answer.trace, answer.details)
        warnings = self.findings(verdict)
        if verdict.feasible and not result.targets_met.all():
            warnings.insert(0, _exist(self.method, self.original))
        result = replace(result, warnings=tuple(warnings))
        return finish(result, answer.optimal, feasible=verdict.feasible)

    def result(self, weights, multipliers, trace, details: dict) -> CalibrationResult:
        return CalibrationResult(
            problem=self.original,
            method=self.method,
            settings=self.settings,
            weights=weights,
            converged=False,
            status="",
            iterations=self.iterations,
            loss_trace=trace,
            multipliers=multipliers,
            tolerance=max(self.settings.tolerance, LEAST_TOLERANCE),
            warnings=self.seen.findings,
            details=details,
        )


def _exist(method: str, problem: CalibrationProblem) -> CalibrationWarning:
    other = _OTHER_METHOD.get(method, "linear" if not problem.bounded else "truncated_linear")
    text = (
        "Weights that meet every target do exist, a linear program found some, so it is the solver "
        f"that stopped. Raise max_iterations, or use {other}"
    )
    return CalibrationWarning("feasible", text)


def finish(
    result: CalibrationResult, optimal: bool, seconds: float = 0.0, *, feasible: bool | None = None
) -> CalibrationResult:
    """Complete a result: what was missed and why, negative weights, the status, and whether it may
    call itself converged.

    Parameters
    ----------
    result, optimal : weights, and whether they are the optimum of what was solved.
    feasible : whether weights exist that meet every target; None where that is not known.
    """
    warnings, problem = list(result.warnings), result.problem
    missed = np.flatnonzero(~result.targets_met)
    if missed.size:
        warnings += [targets_missed(result, missed), *tensions.explain(result)]
    warnings += _odd_weights(result)
    if problem.initial_weights is None:
        warnings.append(no_initial_weights(problem))
    return replace(
        result,
        converged=optimal and missed.size == 0,
        status=_status(result, missed.size, optimal, feasible),
        warnings=tuple(warnings),
        seconds=seconds,
    )


def targets_missed(
    result: CalibrationResult, missed: np.ndarray, why: str = "are not met"
) -> CalibrationWarning:
    """The warning that counts and names missed targets (indices), and says how far the worst is."""
    problem = result.problem
    error = np.abs(result.residuals) / problem.relative_scale
    worst = missed[int(error[missed].argmax())]
    text = (
        f"{missed.size} of {problem.targets.size} targets {why}; the largest relative error is "
        f"{100 * error[worst]:.3g} % ({problem.target_names[worst]!r})"
    )
    names = tuple(problem.target_names[j] for j in missed)
    return CalibrationWarning("targets_missed", text, names, float(error[worst]))


def no_initial_weights(problem: CalibrationProblem) -> CalibrationWarning:
    """The warning that says what weight every record started at."""
    start = problem.told_weight(problem.start[0])
    text = (
        f"No initial weights were given: every record started at {start:.6g}, which fits the "
        "targets best"
    )
    return CalibrationWarning("no_initial_weights", text, size=start)


def _odd_weights(result: CalibrationResult) -> list[CalibrationWarning]:
    """Weights that are negative, or next to nothing."""
    weights, start, out = result.weights, result.problem.start, []
    negative = int((weights < 0).sum())
    if negative:
        least = result.problem.told_weight(weights.min())
        keeps = "a lower bound of zero keeps"
        if not result.problem.bounded:
            keeps = "raking, or truncated_linear with a lower bound of zero, keeps"
        text = (
            f"{negative:,} of {weights.size:,} weights are negative, the smallest is {least:.4g}; "
            f"{keeps} them positive"
        )
        out.append(CalibrationWarning("negative_weights", text, size=float(negative)))
    tiny = _negligible(weights, start) & (weights != 0)
    if tiny.any():
        count = int(tiny.sum())
        text = (
            f"{count:,} of {weights.size:,} weights are under {_NEGLIGIBLE:g} of their initial "
            "weight: the targets want those records out"
        )
        out.append(CalibrationWarning("negligible_weights", text, size=float(count)))
    return out


def _negligible(weights: np.ndarray, start: np.ndarray) -> np.ndarray:
    """(records,) bool: weights that are next to nothing beside their initial weight."""
    share = float(np.abs(weights).sum()) / float(start.sum())
    return (np.abs(weights) < _NEGLIGIBLE * share * start) & (start > 0)


def _status(result: CalibrationResult, missed: int, optimal: bool, feasible: bool | None) -> str:
    """One sentence that agrees with ``feasible``."""
    count = f"{missed} of {result.problem.targets.size}"
    if missed == 0:
        return "every target is met"
    kind = result.details.get("compromise", "").replace("_", "-")
    these = f"these weights are the {kind} compromise"
    if feasible:
        return (
            f"the solver stopped early: {count} targets are not met, although weights exist that "
            "meet all of them"
        )
    if not kind and optimal:
        return f"{count} targets cannot be met; these weights meet the others"
    if not optimal:
        impossible = "the targets cannot all be met, and " if feasible is False else ""
        return f"{impossible}the solver stopped early: {count} targets are not met"
    if feasible is False:
        return f"the targets cannot all be met, {count} are missed; {these}"
    return f"{count} targets are missed; {these}"


def _infeasible(findings: list[CalibrationWarning]) -> InfeasibleError:
    first = findings[0]
    more = f" ({len(findings) - 1} more findings are in .findings)" if len(findings) > 1 else ""
    return InfeasibleError(
        first.message.rstrip(".") + more,
        findings=tuple(findings),
        where=", ".join(first.targets[:6]) + (" ..." if len(first.targets) > 6 else ""),
        expected="targets that some weights within the bounds can meet",
        remedy=(
            "Correct the targets or widen the bounds, or leave strict off to get the best "
            "compromise"
        ),
    )
