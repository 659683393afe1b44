"""The best compromise where targets cannot all be met: least squares of relative residuals, or the
smallest largest one.

    least squares   minimise the distance + sum_j (r_j / s_j)^2 / (2 kappa),  kappa -> 0
    minimax         minimise the distance subject to |r_j| <= t s_j, t a stated margin above the
    smallest possible

with r = A w - b and s the standard error where targets have one, else the size of the target. Both
go through ``dual_newton``.

Belongs here: the two relaxed problems. Does not belong here: finding out that one is needed
(``exact.py``), saying why (``conflicts/``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.distances import Distance
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.solve.dual_newton import DualSettings, DualSolution, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem

# kappa times the sum of initial weights, followed downwards. At the last one the prior counts for a
# hundred-millionth of the targets.
_KAPPA_PATH = (1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7, 1e-8)
_SETTLED = 1e-6


@dataclass(frozen=True, eq=False)
class Compromise:
    """Weights (records,), multipliers of all rows (targets,), steps, trace, whether its own optimum
    was reached, and figures.
    """

    weights: np.ndarray
    multipliers: np.ndarray
    iterations: int
    trace: tuple[float, ...]
    optimal: bool
    details: dict


def residual_scale(problem: CalibrationProblem) -> np.ndarray:
    """(targets,) s: the standard error where the problem has them, else the size of the target."""
    return (
        problem.standard_errors if problem.standard_errors is not None else problem.relative_scale
    )


def least_squares(
    problem: CalibrationProblem,
    distance: Distance,
    rows: np.ndarray,
    settings: DualSettings,
    least_kappa: float = 1e-8,
) -> Compromise:
    """Least squares of r/s over ``rows`` (indices), then the least distance; the rows may depend on
    one another.

    kappa falls until the fit stops moving or it reaches ``least_kappa`` (times one over the sum of
    initial weights).
    """
    matrix = _part(problem, rows)
    scale, goal = residual_scale(problem)[rows], problem.targets[rows]
    size = float((problem.start if problem.q is None else problem.start / problem.q).sum())
    solutions: list[DualSolution] = []
    before: np.ndarray | None = None
    iterations, trace = 0, list[float]()
    path = [k for k in _KAPPA_PATH if k > least_kappa] + [least_kappa]
    for relative in path:
        ridge = relative / size * scale**2
        y = solutions[-1].multipliers if solutions else None
        dual = DualProblem(matrix, goal, problem.start, distance, scale, problem.q, ridge)
        trial = solve_dual(dual, settings, multipliers=y)
        iterations += trial.iterations
        trace.extend(trial.trace)
        if not trial.converged and solutions:
            # Rounding limits how small kappa can be: the last solution that converged stands.
            break
        kappa = relative
        solutions.append(trial)
        fitted = trial.fitted / scale
        if before is not None and np.abs(fitted - before).max(initial=0.0) <= _SETTLED:
            break
        before = fitted
    # The path is never empty, and its first solution stands whether it converged or not.
    solution = solutions[-1]
    details = {"compromise": "least_squares", "kappa": kappa}
    return Compromise(
        solution.weights,
        _spread(problem, rows, solution.multipliers),
        iterations,
        tuple(trace),
        solution.converged,
        details,
    )


def minimax(
    problem: CalibrationProblem,
    distance: Distance,
    rows: np.ndarray,
    settings: DualSettings,
    smallest: float,
    slack: float,
) -> Compromise:
    """Least distance with every |r_j| <= (1 + slack) smallest s_j over ``rows``; ``smallest`` is
    the least possible largest |r_j| / s_j.
    """
    matrix = _part(problem, rows)
    scale, goal = residual_scale(problem)[rows], problem.targets[rows]
    size = float((problem.start if problem.q is None else problem.start / problem.q).sum())
    width = (1.0 + slack) * smallest
    y: np.ndarray | None = None
    iterations, trace = 0, list[float]()
    for relative in (1.0, 1e-2, 1e-4, 1e-6):
        ridge = relative / size * scale**2 * max(smallest, 1e-6)
        band = width * scale
        dual = DualProblem(matrix, goal, problem.start, distance, scale, problem.q, ridge, band)
        solution = solve_dual(dual, settings, multipliers=y)
        iterations, y = iterations + solution.iterations, solution.multipliers
        trace.extend(solution.trace)
    details = {"compromise": "minimax", "smallest_largest_error": smallest, "allowed_error": width}
    return Compromise(
        solution.weights,
        _spread(problem, rows, solution.multipliers),
        iterations,
        tuple(trace),
        solution.converged,
        details,
    )


def _part(problem: CalibrationProblem, rows: np.ndarray) -> DesignMatrix:
    return (
        problem.matrix if rows.size == problem.matrix.targets else problem.matrix.take_targets(rows)
    )


def _spread(problem: CalibrationProblem, rows: np.ndarray, values: np.ndarray) -> np.ndarray:
    out = np.zeros(problem.matrix.targets)
    out[rows] = values
    return out
