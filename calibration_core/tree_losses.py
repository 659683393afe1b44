"""Losses that forgive outliers, on a tree: Huber and capped squares, by majorising them with weighted squares.

    minimise_w  sum_j rho((a_j.w - b_j) / s_j)  +  tau * sum_i [ w_i log(w_i / q_i) - w_i + q_i ]

    huber    rho(r) = r^2 / 2 for |r| <= c, else c |r| - c^2 / 2            convex
    capped   rho(r) = min(r^2, c^2) / 2                                     not convex: a local optimum, named as such

Both are concave functions of r^2, so the square with weight omega_j = rho'(r_j) / r_j lies above rho and touches it at r_j; solving
the weighted problem exactly (tree Newton, scales s_j / sqrt(omega_j), warm start) never raises the objective (Hunter and Lange, The
American Statistician 58, 2004).

Belongs here: the outer iteration. Does not belong here: the inner solve (``tree_newton.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.errors import SettingsError
from calibration_core.problem import PairProblem, PoolProblem
from calibration_core.tree_newton import Step, TreeNewtonResult, TreeNewtonSettings, calibrate_tree


@dataclass(frozen=True)
class RobustLoss:
    """Which loss, where it bends, and when the outer iteration stops.

    Attributes
    ----------
    kind : "huber" or "capped".
    cut : c, in units of the scales s: 1.645 is the 90 % margin where s is a standard error, 1 the whole target where s is its size.
    tolerance : relative fall of the objective in one outer round under which it stops.
    max_rounds : outer rounds.
    """

    kind: str = "huber"
    cut: float = 1.645
    tolerance: float = 1e-9
    max_rounds: int = 200

    def __post_init__(self) -> None:
        if self.kind not in ("huber", "capped"):
            raise SettingsError(f"The loss is {self.kind!r}", expected="'huber' or 'capped'")
        if not self.cut > 0 or not 0 < self.tolerance < 1 or self.max_rounds < 1:
            raise SettingsError(f"cut {self.cut}, tolerance {self.tolerance}, max_rounds {self.max_rounds}", expected="positive numbers, at least one round")

    def value(self, r: np.ndarray) -> np.ndarray:
        """rho(r)."""
        size = np.abs(r)
        if self.kind == "huber":
            return np.where(size <= self.cut, 0.5 * r * r, self.cut * size - 0.5 * self.cut**2)
        return 0.5 * np.minimum(r * r, self.cut**2)

    def weight(self, r: np.ndarray) -> np.ndarray:
        """omega = rho'(r) / r."""
        size = np.abs(r)
        if self.kind == "huber":
            return np.where(size <= self.cut, 1.0, self.cut / np.maximum(size, 1e-300))
        return (size <= self.cut).astype(np.float64)


@dataclass(frozen=True, eq=False)
class RobustTreeResult:
    """The weighted problem's result at the end, and what the outer iteration did.

    Attributes
    ----------
    inner : the last TreeNewtonResult; its residuals are NaN where a capped target had no weight left.
    residuals : per level, (areas, variables) fitted minus target, NaN only where there is no target.
    omega : per level, (areas, variables) final weights of the targets; 0 where a capped target was given up.
    objective_trace : the objective after each outer round; it never rises.
    converged : inner and outer tolerance both met.
    beyond : number of targets per level beyond the cut.
    warnings : facts the caller should show, as text.
    """

    inner: TreeNewtonResult
    residuals: tuple[np.ndarray, ...]
    omega: tuple[np.ndarray, ...]
    objective_trace: tuple[float, ...]
    converged: bool
    beyond: tuple[int, ...]
    warnings: tuple[str, ...]

    @property
    def weights(self) -> np.ndarray:
        """As in ``inner``."""
        return self.inner.weights


def calibrate_tree_robust(
    problem: PoolProblem | PairProblem, settings: TreeNewtonSettings, loss: RobustLoss, *, progress: Callable[[Step], None] | None = None
) -> RobustTreeResult:
    """Solve with a loss that forgives outliers.

    The first round is the plain square over the settings' whole tau path; later rounds stay at the tau it ended on.
    """
    targets, scales = problem.targets, problem.targets.scales
    result = calibrate_tree(problem, settings, progress=progress)
    at_end = replace(settings, tau_path=(result.tau,), share=())
    residuals, trace, settled = _residuals(problem, result), [], False
    trace.append(_objective(residuals, problem, result, loss))
    omega = tuple(np.ones(s.shape) for s in scales)
    for _ in range(loss.max_rounds):
        before = _widened(scales, omega)
        omega = tuple(np.where(np.isfinite(s), loss.weight(np.nan_to_num(r / s)), 1.0) for r, s in zip(residuals, scales, strict=True))
        after = _widened(scales, omega)
        # Multipliers in the problem's own units carry over; those of targets without weight are zero.
        start = tuple(
            np.where(np.isfinite(b), y / a * np.where(np.isfinite(b), b, 0.0), 0.0) for y, a, b in zip(result.multipliers, before, after, strict=True)
        )
        result = calibrate_tree(replace(problem, targets=replace(targets, scales=after)), at_end, start=start, progress=progress)
        residuals = _residuals(problem, result)
        trace.append(_objective(residuals, problem, result, loss))
        if trace[-2] - trace[-1] <= loss.tolerance * max(abs(trace[-1]), 1e-300):
            settled = True
            break
    beyond = tuple(int((np.abs(r / s)[np.isfinite(s)] > loss.cut).sum()) for r, s in zip(residuals, scales, strict=True))
    warnings = [*result.warnings]
    if not settled:
        warnings.append(f"The outer iteration of the {loss.kind} loss was still falling after {loss.max_rounds} rounds.")
    if loss.kind == "capped" and sum(beyond):
        counts = ", ".join(f"{n} at level {level}" for n, level in zip(beyond, problem.tree.levels, strict=True) if n)
        warnings.append(f"Targets beyond the cap, which no longer pull: {counts}. The capped loss is not convex; this is a local optimum.")
    return RobustTreeResult(result, residuals, omega, tuple(trace), settled and result.converged, beyond, tuple(warnings))


def _widened(scales: tuple[np.ndarray, ...], omega: tuple[np.ndarray, ...]) -> tuple[np.ndarray, ...]:
    """s / sqrt(omega); inf where omega is 0."""
    with np.errstate(divide="ignore"):
        return tuple(s / np.sqrt(o) for s, o in zip(scales, omega, strict=True))


def _residuals(problem: PoolProblem | PairProblem, result: TreeNewtonResult) -> tuple[np.ndarray, ...]:
    targets = problem.targets
    return tuple(np.where(np.isfinite(s), f - b, np.nan) for f, b, s in zip(result.fitted, targets.values, targets.scales, strict=True))


def _objective(residuals: tuple[np.ndarray, ...], problem: PoolProblem | PairProblem, result: TreeNewtonResult, loss: RobustLoss) -> float:
    """The objective of the docstring; the prior's part comes with the result."""
    fit = sum(float(loss.value((r / s)[np.isfinite(s)]).sum()) for r, s in zip(residuals, problem.targets.scales, strict=True))
    return fit + result.tau * result.divergence
