"""Losses that forgive outliers, on a tree: Huber and capped squares, each round a problem of
squares for tree Newton.

    minimise_w  sum_j rho(r_j) / 2  +  tau * sum_i [ w_i log(w_i / q_i) - w_i + q_i ],
    r_j = (a_j.w - b_j) / s_j

    huber    rho(r) = r^2 for |r| <= c, else 2 c |r| - c^2        convex
    capped   rho(r) = min(r^2, c^2)                               not convex: a local optimum,
                                                                  named as such

At the optimum of either, psi(r_j) + tau s_j z_j = 0 for every target, with psi the slope of rho / 2
and z_j the target's multiplier in the problem's units; the largest miss of this is what an outer
round is judged by.

Majorising: both losses are concave functions of r^2, so the square with weight omega_j = psi(r_j) /
r_j lies above rho / 2 and touches it at r_j; solving the weighted problem (scales s_j /
sqrt(omega_j), warm start) never raises the objective (Hunter and Lange, The American Statistician
58, 2004). That is slow for Huber, whose true curvature beyond the cut is 0 and not omega. So a
Huber round first replaces targets beyond the cut by squares of the same slope and nearly no
curvature, which is Newton's method on the pieces, and majorises only where that would raise the
objective.

Belongs here: the outer iteration. Does not belong here: rho (``common/losses.py``), the inner solve
(``tree/solve/newton.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.losses import Loss, make_loss
from calibration_core.common.threads import one_thread
from calibration_core.common.warnings import CalibrationWarning
from calibration_core.errors import SettingsError
from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.solve.newton import (
    Step,
    TreeNewtonResult,
    TreeNewtonSettings,
    calibrate_tree,
)

# Scales of targets beyond the cut are multiplied by this in a straightened round, so that their
# curvature is a thousandth.
_STRAIGHT = 30.0
# Rounding: an objective this much higher, relatively, is not higher.
_SAME = 1e-13
# How closely the Huber optimum from which the capped loss starts is found.
_ROUGH = 1e-2


@dataclass(frozen=True)
class RobustLoss:
    """Which loss, where it bends, and when the outer iteration stops.

    Attributes
    ----------
    kind : "huber" or "capped".
    cut : c, in units of the scales s: 1.645 is the 90 % margin where s is a standard error, 1 the
        whole target where s is its size.
    tolerance : largest |psi(r_j) + tau s_j z_j| at the end; the inner solve's own tolerance has to
        be smaller.
    max_rounds : outer rounds.
    """

    kind: str = "huber"
    cut: float = 1.645
    tolerance: float = 1e-5
    max_rounds: int = 100

    def __post_init__(self) -> None:
        if self.kind not in ("huber", "capped"):
            raise SettingsError(f"The loss is {self.kind!r}", expected="'huber' or 'capped'")
        if not 0 < self.cut < np.inf or not self.tolerance > 0 or self.max_rounds < 1:
            raise SettingsError(
                f"cut {self.cut}, tolerance {self.tolerance}, max_rounds {self.max_rounds}",
                expected="positive finite numbers, at least one round",
            )

    @property
    def rho(self) -> Loss:
        """rho, of which the objective holds one half."""
        name = "huber" if self.kind == "huber" else "capped_square"
        return make_loss(name, delta=self.cut, cap=self.cut)

    def value(self, r: np.ndarray) -> np.ndarray:
        """rho(r) / 2."""
        return 0.5 * self.rho.value(r)

    def weight(self, r: np.ndarray) -> np.ndarray:
        """omega = psi(r) / r."""
        return self.rho.majorising(r)


@dataclass(frozen=True, eq=False)
class RobustTreeResult:
    """The last inner result, and what the outer iteration did.

    Attributes
    ----------
    inner : the last TreeNewtonResult. Its weights and fitted totals are the answer; its residuals
        and multipliers are those of the squares of the last round.
    residuals : per level, (areas, variables) fitted minus target, NaN only where there is no
        target.
    multipliers : per level, (areas, variables) in units of 1 / scale, as in a TreeNewtonResult: s_j
        z_j.
    omega : per level, (areas, variables) psi(r) / r: what is left of each target's pull; 0 where a
        capped target was given up.
    gradient : largest |psi(r_j) + tau s_j z_j|.
    objective_trace : the objective after each outer round; it never rises.
    converged : inner and outer tolerance both met.
    beyond : number of targets per level beyond the cut.
    warnings : those of the last inner round, and ``outer_not_converged``, ``targets_beyond_cap``.
    """

    inner: TreeNewtonResult
    residuals: tuple[np.ndarray, ...]
    multipliers: tuple[np.ndarray, ...]
    omega: tuple[np.ndarray, ...]
    gradient: float
    objective_trace: tuple[float, ...]
    converged: bool
    beyond: tuple[int, ...]
    warnings: tuple[CalibrationWarning, ...]

    def warned(self, code: str) -> tuple[CalibrationWarning, ...]:
        """The warnings of one code."""
        return tuple(w for w in self.warnings if w.code == code)

    @property
    def weights(self) -> np.ndarray:
        """As in ``inner``."""
        return self.inner.array

    def summary(self) -> str:
        """One paragraph for people: how it ended, rounds, targets beyond the cut."""
        return (
            f"{'converged' if self.converged else 'stopped before convergence'};"
            f" {len(self.objective_trace) - 1} outer rounds, objective"
            f" {self.objective_trace[0]:.6g} to {self.objective_trace[-1]:.6g}, largest gradient"
            f" {self.gradient:.1e}, {sum(self.beyond):,} targets beyond the cut, ESS"
            f" {self.inner.effective_sample_size:,.0f}"
        )


@one_thread()
def calibrate_tree_robust(
    problem: PoolProblem | PairProblem,
    settings: TreeNewtonSettings,
    loss: RobustLoss,
    *,
    progress: Callable[[Step], None] | None = None,
) -> RobustTreeResult:
    """As ``calibrate_tree``, with a loss that forgives outliers in place of the square.

    The first round is the plain square over the settings' whole tau path; later rounds stay at the
    tau it ended on. The capped loss starts from the Huber optimum of the same cut where that is
    lower.

    Parameters
    ----------
    problem, settings : as ``calibrate_tree``.
    loss : which one, where it bends, and when the outer rounds end.
    progress : called with a ``Step`` after each step of Newton's method, of every round.

    Returns
    -------
    RobustTreeResult : read ``converged``, ``beyond`` and ``warnings`` before the weights.

    Raises
    ------
    SettingsError : the inner tolerance is not smaller than the loss's.
    """
    if settings.tolerance > loss.tolerance:
        raise SettingsError(
            f"The inner tolerance is {settings.tolerance:g}, the outer {loss.tolerance:g}",
            expected="an inner tolerance that is not larger",
        )
    return _Rounds(problem, settings, loss, progress).run()


@dataclass(frozen=True, eq=False)
class _Point:
    """Where a round ended: multipliers z in the problem's units, residuals r in units of the scales
    (0 where no target), the objective.
    """

    result: TreeNewtonResult
    z: tuple[np.ndarray, ...]
    r: tuple[np.ndarray, ...]
    objective: float


class _Rounds:
    def __init__(
        self,
        problem: PoolProblem | PairProblem,
        settings: TreeNewtonSettings,
        loss: RobustLoss,
        progress,
    ) -> None:
        self.problem, self.settings, self.loss, self.progress = problem, settings, loss, progress
        self.targets, self.used = problem.targets, [np.isfinite(s) for s in problem.targets.scales]

    def run(self) -> RobustTreeResult:
        point = self.at(
            calibrate_tree(self.problem, self.settings, progress=self.progress), self.targets.scales
        )
        at_end = replace(self.settings, tau_path=(point.result.tau,), share=())
        if self.loss.kind == "capped":
            point = self.gentler_start(point, at_end)
        return self.result(*self.descend(point, at_end))

    def descend(self, point: _Point, settings: TreeNewtonSettings) -> tuple[_Point, list[float]]:
        """Outer rounds until the gradient is small or the objective falls no more, and the
        objective after each.
        """
        trace = [point.objective]
        while self.gradient(point) > self.loss.tolerance and len(trace) <= self.loss.max_rounds:
            new = self.straightened(point, settings) if self.loss.kind == "huber" else None
            if new is None or new.objective > point.objective + _SAME * abs(point.objective):
                new = self.majorised(point, settings)
            if new.objective > point.objective + _SAME * abs(point.objective):
                break
            point = new
            trace.append(point.objective)
        return point, trace

    def gentler_start(self, point: _Point, settings: TreeNewtonSettings) -> _Point:
        """The Huber optimum of the same cut, if the capped objective is lower there: outliers have
        dragged it less than they drag squares.
        """
        huber = _Rounds(
            self.problem,
            settings,
            replace(
                self.loss, kind="huber", tolerance=max(_ROUGH, self.loss.tolerance), max_rounds=10
            ),
            self.progress,
        )
        start = _Point(point.result, point.z, point.r, huber.objective(point.r, point.result))
        other = huber.descend(start, settings)[0]
        other = replace(other, objective=self.objective(other.r, other.result))
        return other if other.objective < point.objective else point

    def straightened(self, point: _Point, settings: TreeNewtonSettings) -> _Point:
        """One round with targets beyond the cut as squares that have the loss's slope where they
        are: b' = b - s (c K^2 sign(r) - r), s' = K s.
        """
        values, scales = [], []
        for b, s, r, used in zip(
            self.targets.values, self.targets.scales, point.r, self.used, strict=True
        ):
            over = used & (np.abs(r) > self.loss.cut)
            values.append(
                np.where(
                    over,
                    b + np.where(over, s, 0.0) * (r - self.loss.cut * _STRAIGHT**2 * np.sign(r)),
                    b,
                )
            )
            scales.append(np.where(over, _STRAIGHT * s, s))
        return self.solve(point, tuple(values), tuple(scales), settings)

    def majorised(self, point: _Point, settings: TreeNewtonSettings) -> _Point:
        """One round with every target's scale widened to s / sqrt(omega), inf where omega is 0."""
        with np.errstate(divide="ignore"):
            scales = tuple(
                np.where(used, s / np.sqrt(self.loss.weight(r)), s)
                for s, r, used in zip(self.targets.scales, point.r, self.used, strict=True)
            )
        return self.solve(point, self.targets.values, scales, settings)

    def solve(self, point: _Point, values, scales, settings: TreeNewtonSettings) -> _Point:
        start = tuple(
            np.where(np.isfinite(s), z * np.where(np.isfinite(s), s, 0.0), 0.0)
            for z, s in zip(point.z, scales, strict=True)
        )
        squares = replace(self.problem, targets=replace(self.targets, values=values, scales=scales))
        return self.at(
            calibrate_tree(squares, settings, start=start, progress=self.progress), scales
        )

    def at(self, result: TreeNewtonResult, scales) -> _Point:
        z = tuple(
            np.where(np.isfinite(s), y / s, 0.0)
            for y, s in zip(result.multipliers, scales, strict=True)
        )
        r = tuple(
            np.where(used, (f - b) / np.where(used, s, 1.0), 0.0)
            for f, b, s, used in zip(
                result.fitted, self.targets.values, self.targets.scales, self.used, strict=True
            )
        )
        return _Point(result, z, r, self.objective(r, result))

    def objective(self, r, result: TreeNewtonResult) -> float:
        """The objective of the docstring; the prior's part comes with the result."""
        return sum(float(self.loss.value(a).sum()) for a in r) + result.strength * result.divergence

    def multipliers(self, point: _Point) -> tuple[np.ndarray, ...]:
        """s z, 0 where there is no target."""
        return tuple(
            np.where(used, z * np.where(used, s, 0.0), 0.0)
            for z, s, used in zip(point.z, self.targets.scales, self.used, strict=True)
        )

    def gradient(self, point: _Point) -> float:
        missed = (
            np.abs(self.loss.weight(r) * r + point.result.strength * y).max(initial=0.0)
            for r, y in zip(point.r, self.multipliers(point), strict=True)
        )
        return float(max(missed, default=0.0))

    def result(self, point: _Point, trace: list[float]) -> RobustTreeResult:
        loss, levels = self.loss, self.problem.tree.levels
        gradient = self.gradient(point)
        beyond = tuple(int((np.abs(r) > loss.cut).sum()) for r in point.r)
        warnings = [*point.result.warnings]
        if gradient > loss.tolerance:
            text = (
                f"The outer iteration of the {loss.kind} loss stopped after {len(trace) - 1} rounds"
                f" with a gradient of {gradient:.1e}; the tolerance is {loss.tolerance:.0e}."
            )
            warnings.append(CalibrationWarning("outer_not_converged", text, size=gradient))
        if loss.kind == "capped" and any(beyond):
            counts = ", ".join(
                f"{n} at level {level}" for n, level in zip(beyond, levels, strict=True) if n
            )
            text = (
                f"Targets beyond the cap, which no longer pull: {counts}. The capped loss is not"
                " convex; this is a local optimum."
            )
            warnings.append(CalibrationWarning("targets_beyond_cap", text, size=sum(beyond)))
        residuals = tuple(
            np.where(u, f - b, np.nan)
            for f, b, u in zip(point.result.fitted, self.targets.values, self.used, strict=True)
        )
        omega = tuple(loss.weight(r) for r in point.r)
        converged = gradient <= loss.tolerance and point.result.converged
        return RobustTreeResult(
            point.result,
            residuals,
            self.multipliers(point),
            omega,
            gradient,
            tuple(trace),
            converged,
            beyond,
            tuple(warnings),
        )
