"""Weighted L1 with weights w >= 0, as far along its path as leaves k of them positive.

    minimise_w  p sum_i v_i w_i  +  sum_i (w_i - d_i)^2 / (2 d_i)  +  sum_j (r_j / s_j)^2 / (2
    kappa),   0 <= w_i <= high_i,  r = A w - b

v >= 0 are the L1 weights, p the penalty. The chi-square term makes this an elastic net (Zou and
Hastie, JRSS B 67, 2005): a vertex of the constraints has at most as many positive weights as there
are targets, so that plain L1 cannot keep more. The term loses its say as p grows, and where p is
large the solution is the one of plain L1. The dual has one variable a target,

    w_i = d_i clip(1 + u_i - p v_i, 0, high_i / d_i),   u = A' y,   r_j = -kappa s_j^2 y_j

and is piecewise quadratic: Newton's method on it (``dual_newton``, here a semismooth Newton as in
Li, Sun and Toh, SIAM J. Optim. 28, 2018) ends after finitely many steps. One step costs two
products with the matrix and one square of the targets, whatever the number of records. The solution
is piecewise linear in p, so each one starts from a straight line through the two before.

Belongs here: one penalised solution, and the search for the penalty that leaves k. Does not belong
here: reweighting, the refit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem

# The search ends when the penalty is known to this relative precision: several weights then turn
# zero at once.
_PENALTY_PRECISION = 1e-7
_MOST_SOLUTIONS = 60
# A step to a larger penalty multiplies it by at most this.
_LONGEST_STEP = 3.0


@dataclass(frozen=True, eq=False)
class PenalisedLinear:
    """phi(r) = (r - 1)^2 / 2 + penalty r on 0 <= r <= high: chi-square plus weighted L1, as a
    distance of ``dual_newton``.

    Attributes
    ----------
    penalty : (records,) p v_i >= 0.
    high : number or (records,), upper bound on the ratio.
    """

    exponential: ClassVar[bool] = False
    penalty: np.ndarray
    high: np.ndarray | float = np.inf

    def ratio(self, u: np.ndarray) -> np.ndarray:
        return np.clip(1.0 + u - self.penalty, 0.0, self.high)

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return ((ratio > 0) & (ratio < self.high)).astype(np.float64)

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        # Legendre: H(u) = r u - phi(r) at the ratio that u gives, up to a constant.
        return ratio * (u - self.penalty) - 0.5 * (ratio - 1.0) ** 2

    def value(self, ratio: np.ndarray) -> np.ndarray:
        return 0.5 * (ratio - 1.0) ** 2 + self.penalty * ratio


@dataclass(frozen=True, eq=False)
class Sparse:
    """Outcome of the search.

    Attributes
    ----------
    weights : (records,) float64 >= 0; ``positive`` of them above zero: k if ``reached``, else the
        closest the search came from above, or from below where nothing above was solved.
    multipliers : (targets,).
    penalty : p.
    positive, solutions, iterations : counts.
    reached : exactly k, at a solution that converged; or within the ties of one penalty.
    """

    weights: np.ndarray
    multipliers: np.ndarray
    penalty: float
    positive: int
    solutions: int
    iterations: int
    reached: bool


@dataclass(frozen=True, eq=False)
class _Point:
    penalty: float
    count: int
    weights: np.ndarray
    multipliers: np.ndarray


@dataclass(frozen=True, eq=False)
class WeightedL1:
    """One problem of this form: matrix, targets, d > 0, s, kappa times the sum of d, and upper
    bounds on w.
    """

    matrix: DesignMatrix
    targets: np.ndarray
    start: np.ndarray
    scale: np.ndarray
    kappa: float
    high: np.ndarray
    tolerance: float = 1e-7
    max_iterations: int = 60

    def solve(self, l1_weights: np.ndarray, penalty: float, multipliers: np.ndarray | None = None):
        """The DualSolution at one penalty; l1_weights (records,) are v."""
        ridge = self.kappa / float(self.start.sum()) * self.scale**2
        distance = PenalisedLinear(penalty * l1_weights, self.high / self.start)
        settings = DualSettings(tolerance=self.tolerance, max_iterations=self.max_iterations)
        dual = DualProblem(self.matrix, self.targets, self.start, distance, self.scale, ridge=ridge)
        return solve_dual(dual, settings, multipliers=multipliers)

    def search(
        self,
        l1_weights: np.ndarray,
        keep: int,
        penalty: float,
        multipliers: np.ndarray | None = None,
    ) -> Sparse:
        """The penalty that leaves ``keep`` positive: up in steps until fewer are left, then
        interpolation of log counts in log p.

        Parameters
        ----------
        l1_weights : (records,) v >= 0.
        keep : k, at least 1.
        penalty : p to begin with, above zero; multipliers the y to begin with.
        """
        above: _Point | None = None
        below: _Point | None = None
        last: list[_Point] = []
        p, y, solutions, steps, failed = penalty, multipliers, 0, 0, 0
        while solutions < _MOST_SOLUTIONS and math.isfinite(p) and p > 0:
            found = self.solve(l1_weights, p, y)
            solutions, steps = solutions + 1, steps + found.iterations
            if not found.converged:
                # Too far from where it began: half way back, on a logarithmic scale.
                failed += 1
                if failed > 12:
                    break
                p, y = (
                    (math.sqrt(p * last[-1].penalty), last[-1].multipliers)
                    if last
                    else (p / 30.0, None)
                )
                continue
            point = _Point(p, int((found.weights > 0).sum()), found.weights, found.multipliers)
            last = [*last[-1:], point]
            if point.count >= keep:
                above = point if above is None or point.penalty > above.penalty else above
            else:
                below = point if below is None or point.penalty < below.penalty else below
            if point.count == keep or (
                above and below and below.penalty <= above.penalty * (1 + _PENALTY_PRECISION)
            ):
                break
            p = _next_penalty(above, below, last, keep)
            y = _guess(last, p)
        best = above if above is not None else below
        if best is None:
            return Sparse(
                self.start,
                np.zeros(self.targets.size),
                0.0,
                int(self.start.size),
                solutions,
                steps,
                False,
            )
        tied = (
            above is not None
            and below is not None
            and below.penalty <= above.penalty * (1 + _PENALTY_PRECISION)
        )
        return Sparse(
            best.weights,
            best.multipliers,
            best.penalty,
            best.count,
            solutions,
            steps,
            best.count == keep or tied,
        )


def _next_penalty(
    above: _Point | None, below: _Point | None, last: list[_Point], keep: int
) -> float:
    if above is not None and below is not None and above.penalty < below.penalty:
        share = math.log(above.count / keep) / math.log(above.count / max(below.count, 0.5))
        share = min(max(share, 0.1), 0.9)
        return above.penalty * (below.penalty / above.penalty) ** share
    if above is None:
        return last[-1].penalty / _LONGEST_STEP
    factor = _LONGEST_STEP
    if len(last) == 2 and last[0].count > last[1].count and last[0].penalty < last[1].penalty:
        slope = math.log(last[1].count / last[0].count) / math.log(
            last[1].penalty / last[0].penalty
        )
        # A tenth too far, so that it soon lies between two.
        wanted = 1.1 * math.log(keep / last[1].count) / slope
        factor = math.exp(min(max(wanted, 1e-3), math.log(_LONGEST_STEP)))
    return last[-1].penalty * factor


def _guess(last: list[_Point], penalty: float) -> np.ndarray:
    """Multipliers at ``penalty`` on the straight line through the last two solutions."""
    if len(last) < 2 or last[1].penalty == last[0].penalty:
        return last[-1].multipliers
    share = (penalty - last[0].penalty) / (last[1].penalty - last[0].penalty)
    return last[0].multipliers + share * (last[1].multipliers - last[0].multipliers)
