"""Maximum entropy in which every target gives way a little, the less so the more important it is,
with bounds.

    minimise  sum_i [w_i log(w_i / d_i) - w_i + d_i]  +  sum_j mu_j b_j [z_j log z_j - z_j + 1]
    subject to  a_j.w = b_j z_j,   low_i <= w_i <= high_i

z_j is the share of target j that is reached, mu_j its importance: what population synthesis calls
list balancing (Vovsha et al., 94th Annual Meeting of the Transportation Research Board, 2015, paper
15-5237). Its dual is smooth, with slack mu_j b_j exp(-y_j / mu_j), and ``algorithm="newton"`` finds
the optimum. ``algorithm="list_balancing"`` follows the published heuristic instead: one target at a
time, weights cut at the bounds as it goes, importances halved every 100 sweeps. Where bounds bind
it ends elsewhere than at the optimum, and it stops when it stops moving; it is here for those who
must reproduce weights made that way.

Belongs here: both algorithms. Does not belong here: how bounds are made from expansion factors (the
caller's business).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.distances import BoundedRaking, Distance, Raking
from calibration_core.common.settings import Choice, Either, Number, Numbers, Rule, Word, check
from calibration_core.errors import ProblemError
from calibration_core.flat.conflicts import precheck
from calibration_core.flat.level import AtLevel, at_level
from calibration_core.flat.methods._bounds import limits_around_zero
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem
from calibration_core.flat.solve.exact import finish

# The heuristic's own constants: they are part of the answers that are to be reproduced.
_HALVE_EVERY, _LEAST_IMPORTANCE, _LEAST_TARGET, _MOST_RELAXED = 100, 1.0, 0.1, 1e6
_STILL, _STILL_FACTORS, _STUCK = 1e-9, 1e-5, 1e-14


@dataclass(frozen=True, eq=False)
class Settings:
    """Settings of the method.

    Attributes
    ----------
    importance : mu, a number or one per target, > 0: 1,000 holds a target to about a thousandth of
        its multiplier. It is per unit of what a row counts, and for an amount per its usual entry,
        so that it does not depend on the unit in which an amount is written.
    algorithm : "newton" (the optimum) or "list_balancing" (the heuristic).
    master : name of the target that list balancing visits last and whose importance it never
        halves; None for none.
    tolerance : relative error of the relaxed equations a_j.w = b_j z_j at which Newton stops.
    met : relative error under which a target is reported as met.
    max_iterations : Newton steps, or sweeps of the heuristic.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "importance": Either((Number(above=0), Numbers(Number(above=0)))),
        "algorithm": Choice(("newton", "list_balancing")),
        "master": Word(none=True),
        "tolerance": Number(above=0, below=1),
        "met": Number(above=0, below=1),
        "max_iterations": Number(least=1, whole=True),
    }

    importance: float | np.ndarray = 1000.0
    algorithm: str = "newton"
    master: str | None = None
    tolerance: float = 1e-9
    met: float = 5e-3
    max_iterations: int = 10_000

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, eq=False)
class ShareSlack:
    """mu b (exp(-y / mu) - 1) + b y: the conjugate of mu b (z log z - z + 1), less the linear term
    that the targets carry.
    """

    target: np.ndarray
    importance: np.ndarray

    def value(self, y: np.ndarray) -> float:
        return float(
            (
                self.target
                * (self.importance * np.expm1(np.clip(-y / self.importance, -600, 600)) + y)
            ).sum()
        )

    def gradient(self, y: np.ndarray) -> np.ndarray:
        return -self.target * np.expm1(np.clip(-y / self.importance, -600, 600))

    def curvature(self, y: np.ndarray) -> np.ndarray:
        return self.target / self.importance * np.exp(np.clip(-y / self.importance, -600, 600))


def run(
    problem: CalibrationProblem,
    settings: Settings,
    progress: Callable[[int, float], None] | None = None,
) -> CalibrationResult:
    """Calibrate. Raises ProblemError for a negative target or entry (shares of one mean nothing),
    or importances of the wrong length.
    """
    began = time.perf_counter()
    mu = _importance(problem, settings)
    seen = precheck.look(problem, tolerance=settings.met)
    if settings.algorithm == "newton":
        at = _at_level(problem, seen)
        weights, y, trace, optimal, details = _newton(at, mu, settings, progress)
        y = at.given(y)
        details["objective"] = problem.told_weight(objective(at.problem, weights, mu))
    else:
        weights, y, trace, optimal, details = _list_balancing(problem, mu, settings, progress)
        details["objective"] = problem.told_weight(objective(problem, weights, mu))
    result = CalibrationResult(
        problem=problem,
        method="relaxed_entropy",
        settings=settings,
        weights=weights,
        converged=False,
        status="",
        iterations=len(trace),
        loss_trace=tuple(trace),
        multipliers=y,
        tolerance=settings.met,
        warnings=seen.findings,
        details=details,
    )
    return _finish(result, optimal, time.perf_counter() - began)


def objective(problem: CalibrationProblem, weights: np.ndarray, importance: np.ndarray) -> float:
    """The objective of the docstring at any weights, with z_j = a_j.w / b_j; targets of zero are
    left out.
    """
    d = problem.start
    with np.errstate(divide="ignore", invalid="ignore"):
        z = np.where(problem.targets > 0, problem.matrix.totals(weights) / problem.targets, 1.0)
    distance = float(d @ Raking().value(np.divide(weights, d, out=np.ones_like(d), where=d > 0)))
    return distance + float((importance * problem.targets) @ Raking().value(np.maximum(z, 0.0)))


def _importance(problem: CalibrationProblem, settings: Settings) -> np.ndarray:
    mu = np.asarray(settings.importance, dtype=np.float64)
    if mu.ndim and mu.shape != problem.targets.shape:
        raise ProblemError(
            f"importance has shape {mu.shape}",
            expected=f"one number, or ({problem.targets.size},): one a target",
        )
    x = problem.matrix.stored
    values = x.data if problem.matrix.is_sparse else x
    if (problem.targets < 0).any() or (values < 0).any():
        raise ProblemError(
            "A target or a matrix entry is negative",
            expected="counts and amounts >= 0",
            remedy="Use raking or gradient for signed targets",
        )
    if settings.master is not None and settings.master not in problem.target_names:
        raise ProblemError(
            f"There is no target {settings.master!r} to be the master",
            expected=f"one of {', '.join(problem.target_names[:8])} ...",
        )
    return np.broadcast_to(mu, problem.targets.shape) / _usual_entry(problem)


def _usual_entry(problem: CalibrationProblem) -> np.ndarray:
    """(targets,) > 0: the size of an entry of an amount; one for a count."""
    total = problem.matrix.absolute_totals(problem.start)
    square = problem.matrix.squares(problem.start)
    amount = ~problem.matrix.counts & (total > 0)
    return np.divide(square, total, out=np.ones_like(total), where=amount)


def _limits(problem: CalibrationProblem):
    low, high = limits_around_zero(problem)
    return np.maximum(low, 0.0), high


def _at_level(problem: CalibrationProblem, seen: precheck.Seen) -> AtLevel:
    """The problem and its distance, initial weights at the level of the targets."""
    distance: Distance = Raking()
    if problem.bounded:
        low, high = _limits(problem)
        start = np.where(problem.start > 0, problem.start, 1.0)
        distance = BoundedRaking(low / start, high / start)
    return at_level(problem, distance, seen.rows, problem.targets)


def _newton(at: AtLevel, mu, settings, progress):
    problem, distance = at.problem, at.distance
    rows = np.flatnonzero(problem.matrix.totals(problem.start) > 0)
    matrix = (
        problem.matrix if rows.size == problem.targets.size else problem.matrix.take_targets(rows)
    )
    slack = ShareSlack(problem.targets[rows], mu[rows])
    dual = DualSettings(
        tolerance=settings.tolerance, max_iterations=min(settings.max_iterations, 500)
    )
    scale = problem.relative_scale[rows]
    relaxed = DualProblem(
        matrix, problem.targets[rows], problem.start, distance, scale, slack=slack
    )
    found = solve_dual(relaxed, dual, progress=progress)
    y = np.zeros(problem.targets.size)
    y[rows] = found.multipliers
    return found.weights, y, found.trace, found.converged, {"algorithm": "newton"}


def _list_balancing(problem, mu, settings, progress):
    """Sweeps over single targets, bounds applied after each; the trace is the mean move of a weight
    in a sweep.
    """
    table = problem.matrix.target_major()
    if not problem.matrix.is_sparse:
        entries = [(np.flatnonzero(row), row[row != 0]) for row in table]
    else:
        entries = [
            (table.indices[a:b], table.data[a:b])
            for a, b in zip(table.indptr[:-1], table.indptr[1:], strict=True)
        ]
    master = problem.target_names.index(settings.master) if settings.master is not None else -1
    order = [j for j in range(len(entries)) if j != master] + ([master] if master >= 0 else [])
    low, high = _limits(problem)
    weights, relaxed = problem.start.copy(), np.ones(len(entries))
    # The heuristic's smallest target is one of the caller's weights and counts.
    least = _LEAST_TARGET / problem.weight_unit
    goal, mu = np.maximum(problem.targets, least), np.maximum(mu, _LEAST_IMPORTANCE)
    log_factor, trace, still = np.zeros(len(entries)), [], False
    for sweep in range(settings.max_iterations):
        before, furthest = weights.copy(), 0.0
        softness = 0.5 ** (sweep // _HALVE_EVERY)
        for j in order:
            index, a = entries[j]
            importance = mu[j] if j == master else max(mu[j] * softness, _LEAST_IMPORTANCE)
            part = weights[index]
            total, square = float(part @ a), float(part @ (a * a))
            if total > 0:
                wanted = max(goal[j] * relaxed[j], least)
                gamma = 1.0 - (total - wanted) / (square + wanted / importance)
                moved = part * (gamma if (a == 1.0).all() else gamma**a)
                weights[index] = moved if sweep == 0 else np.clip(moved, low[index], high[index])
                relaxed[j] = min(relaxed[j] * gamma ** (-1.0 / importance), _MOST_RELAXED)
                log_factor[j] += np.log(gamma)
                furthest = max(furthest, abs(gamma - 1.0))
            if sweep == 0:
                weights = np.clip(weights, low, high)
        move = problem.told_weight(np.abs(weights - before).mean())
        trace.append(move)
        if progress is not None:
            progress(sweep + 1, move)
        still = (move < _STILL and furthest < _STILL_FACTORS) or move < _STUCK
        if still:
            break
    return (
        weights,
        log_factor,
        trace,
        False,
        {"algorithm": "list_balancing", "stopped_moving": still, "relaxation": relaxed},
    )


def _finish(result: CalibrationResult, optimal: bool, seconds: float) -> CalibrationResult:
    """Converged means the optimum of the relaxed problem, whose targets are not all meant to be
    met; the heuristic never claims it.
    """
    done = finish(result, optimal, seconds)
    missed = int((~done.targets_met).sum())
    if result.details["algorithm"] == "newton":
        status = (
            "the optimum of the relaxed problem"
            if optimal
            else "the solver stopped before the optimum"
        )
    else:
        still = (
            "the heuristic stopped moving"
            if result.details["stopped_moving"]
            else "the heuristic was still moving when its sweeps ran out"
        )
        status = f"{still}; that is no optimum where bounds bind"
        done = replace(
            done,
            warnings=(
                *done.warnings,
                CalibrationWarning(
                    "heuristic", f"List balancing: {still} after {result.iterations:,} sweeps"
                ),
            ),
        )
    return replace(
        done,
        converged=optimal,
        status=(
            f"{status}; {missed} of {result.problem.targets.size} targets are off by more than"
            f" {result.tolerance:.2%}"
        ),
    )
