"""Calibrate exactly the records that a selection kept, and report on it: the last step of every
sparse method.

    minimise_w  sum_{i in S} (1 / q_i) [w_i log(w_i / v_i) - w_i + v_i]   subject to  A_S w_S = b,
    low_i <= w_i <= high_i

where the targets can be met on S; else the least squares of relative residuals with w >= 0
(``compromise.least_squares``), and the least Kullback-Leibler distance among its solutions. The v
are the starting weights of the kept records, brought to the level of the targets by one factor.
Kullback-Leibler weights are positive, so exactly the kept records stay in the file; those whose
weight is next to nothing are counted in a warning, never dropped. The bounds of the problem hold
for the records kept.

Belongs here: that step, and what it reports. Does not belong here: which records are kept
(``methods/``); the solvers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from calibration_core.common.distances import BoundedRaking, Distance, Raking
from calibration_core.errors import BudgetError, ProblemError
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult, CalibrationWarning
from calibration_core.flat.select.cell_allocation import record_budget
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly

# A weight below this fraction of the mean kept weight adds nothing to any total that matters.
_NEGLIGIBLE = 1e-9
# The search for the conflict behind a missed target is for the whole problem: a selection misses
# targets as a matter of course.
QUIETLY = ExactSettings(explain=False)


@dataclass(frozen=True, eq=False)
class Refit:
    """Weights of a refit and what is to be known about them.

    Attributes
    ----------
    weights : (records,) float64 over ALL records of the problem; zero off the selection, positive
        on it.
    converged : the optimum asked for was reached: every target is met, or the compromise is at its
        optimum.
    met : every target is met within the tolerance.
    iterations : Newton steps.
    trace : largest relative gradient after each step.
    warnings : everything that is not as asked.
    multipliers : (targets,) dual values.
    status : the same in words.
    details : figures of the solver.
    """

    weights: np.ndarray
    converged: bool
    met: bool
    iterations: int
    trace: tuple[float, ...]
    warnings: tuple[CalibrationWarning, ...]
    multipliers: np.ndarray | None
    status: str
    details: dict[str, Any] = field(default_factory=dict)


def refit(
    problem: CalibrationProblem,
    selected: np.ndarray,
    starting: np.ndarray,
    *,
    exact_settings: ExactSettings = QUIETLY,
    progress: Callable[[int, float], None] | None = None,
) -> Refit:
    """Calibrate the selected records, and only those.

    Parameters
    ----------
    problem : the whole problem; its targets, bounds and q hold for the records kept.
    selected : (kept,) distinct record indices, or (records,) bool. Their order does not matter.
    starting : (records,) float64 >= 0, weights to stay near; only those of the selected records are
        read. A selected record whose starting weight is zero starts at the smallest positive one,
        which a warning counts.
    exact_settings : tolerance, steps and kind of compromise.
    progress : called with (iteration, largest relative gradient).

    Raises
    ------
    ProblemError : nothing is selected, an index is out of range or twice there, starting weights
        are negative or not finite.
    InfeasibleError : only with ``exact_settings.strict``.
    """
    index = _indices(problem, selected)
    start, warnings = _starting(problem, index, starting)
    kept = problem.take_records(index, initial_weights=start).change(
        ratio_bounds=None, weight_bounds=None
    )
    distance: Distance = Raking()
    bounds: tuple[np.ndarray, np.ndarray] | None = None
    if problem.bounded:
        low, high = (limit[index] for limit in problem.limits)
        bounds = (np.maximum(low, 0.0), high)
        if (high < 0).any():
            raise ProblemError(
                f"{int((high < 0).sum())} kept records must have negative weights by their bounds",
                expected="an upper bound of at least zero",
            )
        kept = kept.change(weight_bounds=bounds)
        distance = BoundedRaking(bounds[0] / start, bounds[1] / start)
        warnings += _bounds_off_selection(problem, index)
    result = calibrate_exactly(kept, "refit", distance, exact_settings, progress)
    weights = np.zeros(problem.matrix.records)
    weights[index] = result.weights if bounds is None else np.clip(result.weights, *bounds)
    # That initial weights were invented is for the method to say: the starting weights here are
    # always given.
    warnings += [
        w for w in result.warnings if w.code not in ("no_initial_weights", "negligible_weights")
    ]
    warnings += _tiny(weights[index])
    met = bool(result.targets_met.all())
    optimal = result.converged or (not met and _compromise_is_optimal(result))
    facts = {**result.details, "starting_level": float(start.sum())}
    return Refit(
        weights,
        optimal,
        met,
        result.iterations,
        result.loss_trace,
        tuple(warnings),
        result.multipliers,
        result.status,
        facts,
    )


def concluded(result: CalibrationResult, fit: Refit) -> CalibrationResult:
    """``result`` of a sparse method with the weights, warnings and figures of its refit.

    It has converged where the choice has, the refit has, and every target is met: a compromise
    among targets is not what was asked for.
    """
    return replace(
        result,
        weights=fit.weights,
        converged=result.converged and fit.converged and fit.met,
        status=f"{result.status}; refit: {fit.status}",
        multipliers=fit.multipliers,
        warnings=result.warnings + fit.warnings,
        details={
            **result.details,
            "refit": {
                **fit.details,
                "converged": fit.converged,
                "met": fit.met,
                "iterations": fit.iterations,
                "trace": fit.trace,
            },
        },
    )


def learned(result: CalibrationResult, chosen: np.ndarray) -> CalibrationResult:
    """``result`` of a sparse method without refit: weights of ``chosen`` records cut at the bounds,
    and targets missed, both in warnings.
    """
    problem, weights, warnings = result.problem, result.weights.copy(), list(result.warnings)
    low, high = problem.limits
    weights[chosen] = np.clip(weights[chosen], low[chosen], high[chosen])
    cut = int((weights != result.weights).sum())
    if cut:
        warnings.append(
            CalibrationWarning(
                "weights_cut_at_bounds",
                f"{cut} learned weights were cut at the bounds; a refit respects them",
                size=float(cut),
            )
        )
    result = replace(result, weights=weights)
    missed, error = ~result.targets_met, np.abs(result.residuals) / problem.relative_scale
    if missed.any():
        text = (
            f"{int(missed.sum())} of {missed.size} targets are not met, the largest relative error"
            f" is {error.max():.3g}: there was no refit"
        )
        warnings.append(
            CalibrationWarning(
                "targets_missed",
                text,
                tuple(problem.target_names[j] for j in np.flatnonzero(missed)),
                float(error.max()),
            )
        )
    return replace(
        result, converged=result.converged and not missed.any(), warnings=tuple(warnings)
    )


def kept_count(
    problem: CalibrationProblem, records: int | None, sparsity: float | None, usable: int
) -> int:
    """k from ``records`` or ``sparsity``, for a problem of which ``usable`` records may be kept.

    Raises SettingsError if neither or both are given, BudgetError if k is more than there are.
    """
    k = record_budget(records, sparsity, problem.matrix.records)
    if k > usable:
        raise BudgetError(
            f"{k:,} records are to be kept, but only {usable:,} of {problem.matrix.records:,} have"
            " a positive initial weight",
            expected=f"records from 1 to {usable:,}",
            remedy="Ask for fewer records, or give more of them a positive initial weight",
        )
    return k


def relative_loss(problem: CalibrationProblem, weights: np.ndarray) -> float:
    """The relative square loss, mean_j ((a_j.w - b_j) / s_j)^2, s as in
    ``compromise.residual_scale``.
    """
    return float(
        np.mean(((problem.matrix.totals(weights) - problem.targets) / residual_scale(problem)) ** 2)
    )


def _indices(problem: CalibrationProblem, selected: np.ndarray) -> np.ndarray:
    index, n = np.asarray(selected), problem.matrix.records
    if index.dtype == bool:
        if index.shape != (n,):
            raise ProblemError(
                f"The mask of selected records has shape {index.shape}", expected=f"({n},)"
            )
        index = np.flatnonzero(index)
    if index.ndim != 1 or index.dtype.kind not in "iu" or index.size == 0:
        raise ProblemError(
            f"The selection has shape {index.shape} and type {index.dtype}",
            expected="at least one record index",
        )
    index = np.sort(index).astype(np.int64)
    if index[0] < 0 or index[-1] >= n or (np.diff(index) == 0).any():
        raise ProblemError(
            f"The selection runs from {index[0]} to {index[-1]}",
            expected=f"distinct record indices from 0 to {n - 1}",
        )
    return index


def _starting(
    problem: CalibrationProblem, index: np.ndarray, starting: np.ndarray
) -> tuple[np.ndarray, list[CalibrationWarning]]:
    """Positive starting weights of the kept records at the level of the targets, and what had to be
    filled in.
    """
    starting = np.asarray(starting, dtype=np.float64)
    if starting.shape != (problem.matrix.records,):
        raise ProblemError(
            f"The starting weights have shape {starting.shape}",
            expected=f"({problem.matrix.records},): one for every record of the problem",
        )
    start = starting[index]
    if not np.isfinite(start).all() or (start < 0).any():
        raise ProblemError(
            "Starting weights of selected records are negative or not finite",
            expected="finite weights >= 0",
        )
    revived = index[problem.start[index] == 0]
    if revived.size:
        raise ProblemError(
            f"{revived.size} selected records have an initial weight of zero",
            where=f"record {problem.told_record(revived[0])}",
            expected="records of positive initial weight: no refit revives one",
            remedy="Select others, or give these a positive initial weight",
        )
    zero, warnings = start <= 0, []
    if zero.any():
        start = np.where(zero, start[~zero].min() if not zero.all() else 1.0, start)
        text = (
            f"{int(zero.sum())} of {index.size} kept records had a starting weight of zero; they"
            " started at the smallest positive one"
        )
        warnings.append(CalibrationWarning("zero_starting_weight", text, size=float(zero.sum())))
    scale = problem.relative_scale
    reached, goal = (
        problem.matrix.take_records(index).totals(start) / scale,
        problem.targets / scale,
    )
    level = float(reached @ goal) / max(float(reached @ reached), 1e-300)
    return start * (level if level > 0 else 1.0), warnings


def _bounds_off_selection(
    problem: CalibrationProblem, index: np.ndarray
) -> list[CalibrationWarning]:
    low = problem.limits[0].copy()
    low[index] = 0.0
    count = int((low > 0).sum())
    if not count:
        return []
    text = (
        f"{count:,} records left out have a lower bound above zero; a sparse file gives them no"
        " weight, and bounds hold for the records kept"
    )
    return [CalibrationWarning("bounds_hold_for_kept_records", text, size=float(count))]


def _tiny(weights: np.ndarray) -> list[CalibrationWarning]:
    zero, tiny = int((weights == 0).sum()), int((weights < _NEGLIGIBLE * weights.mean()).sum())
    out = []
    if zero:
        out.append(
            CalibrationWarning(
                "kept_weight_zero",
                f"{zero} kept records ended with a weight of exactly zero, by their bounds",
                size=float(zero),
            )
        )
    if tiny > zero:
        text = (
            f"{tiny - zero} of {weights.size} kept records have a weight under {_NEGLIGIBLE:g} of"
            " the mean: the fit wants them out"
        )
        out.append(CalibrationWarning("negligible_weights", text, size=float(tiny - zero)))
    return out


def _compromise_is_optimal(result: CalibrationResult) -> bool:
    """Check the optimality conditions of the compromise from its own figures, without asking the
    solver.
    """
    problem, scale = result.problem, residual_scale(result.problem)
    supported = problem.matrix.support > 0
    residual = result.residuals
    if result.details.get("compromise") == "least_squares":
        size = float((problem.start if problem.q is None else problem.start / problem.q).sum())
        gradient = residual + result.details["kappa"] / size * scale**2 * result.multipliers
        # The weights and the multipliers must belong together, too: the refit's weights are a
        # function of them.
        return bool((np.abs(gradient)[supported] <= 1e-6 * scale[supported]).all())
    if result.details.get("compromise") == "minimax":
        return bool(
            (
                np.abs(residual)[supported]
                <= result.details["allowed_error"] * (1 + 1e-3) * scale[supported]
            ).all()
        )
    return False
