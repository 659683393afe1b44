"""Damped Newton on the dual of a flat calibration problem: one variable a target, exact or relaxed.

    minimise_w  sum_i (d_i / q_i) phi(w_i / d_i) + sum_j psi_j(a_j.w - b_j)

has the convex dual, with u = A' y and w_i = d_i G(q_i u_i),

    F(y) = sum_i (d_i / q_i) H(q_i u_i) - b.y + sum_j (ridge_j y_j^2 / 2 + band_j |y_j|).

Its gradient is A w - b + ridge y (+ band sign y), its Hessian A diag(d G') A' + diag(ridge). psi is
the constraint itself where ridge and band are zero; a squared residual over 2 ridge_j where ridge_j
is positive; free inside +-band_j and squared (or hard) outside, where band_j is. Bands make F
non-smooth on y_j = 0; there the step is taken on the variables that want to move, each within its
sign (projected Newton on an orthant, Andrew and Gao, ICML 2007, with the full Hessian of the free
variables).

Any other convex psi whose conjugate is smooth can be given as a ``Slack`` instead of a ridge.

Belongs here: the iteration. Does not belong here: the factor of its Hessian
(``damped_factor.py``), distances, dependent rows, what to do when it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, cast

import numpy as np

from calibration_core.common import newton as rules
from calibration_core.common.distances import ExponentialDistance
from calibration_core.common.settings import Number, Rule, check
from calibration_core.flat.solve.damped_factor import DampedFactor, damped_factor
from calibration_core.flat.solve.dual_problem import DualProblem, KnownRows, Ridge

# Rounding of F relative to the size of its terms: 45 units in the last place.
_NOISE = 1e-14
# A target whose curvature is this small a fraction of the one at ratios of one counts as flat:
# every record of it sits on a bound.
_FLAT = 1e-14
# Ratios that are exponential in u may honestly become tiny; only what would overflow is flat.
_FLAT_EXPONENTIAL = 1e-100
# Halvings of a step before it is given up: damping asks for a better one sooner.
_HALVINGS, _HALVINGS_DAMPED = 14, 5
# A flat target's borrowed curvature falls to this fraction at each step that leaves it flat, so
# that its steps grow.
_FLATTER = 0.1


@dataclass(frozen=True)
class DualSettings:
    """Knobs of the iteration.

    Attributes
    ----------
    tolerance : largest |gradient_j| / scale_j at which it stops; it then takes one more step, so
        that it ends well below.
    max_iterations : Newton and chord steps in all.
    chord_rate : a factorisation is used again while a step cuts the largest gradient to below this
        fraction; 0 never reuses.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "tolerance": Number(above=0, below=1),
        "max_iterations": Number(least=1, whole=True),
        "chord_rate": Number(least=0, below=1),
    }

    tolerance: float = 1e-9
    max_iterations: int = 100
    chord_rate: float = 0.05

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True, eq=False)
class DualSolution:
    """Multipliers y (targets,), weights (records,), fitted totals, the largest scaled gradient, and
    how it went.
    """

    multipliers: np.ndarray
    weights: np.ndarray
    fitted: np.ndarray
    gradient: float
    converged: bool
    iterations: int
    factorisations: int
    trace: tuple[float, ...]
    value: float


@dataclass(frozen=True, eq=False)
class _State:
    y: np.ndarray
    u: np.ndarray
    ratio: np.ndarray
    weights: np.ndarray
    fitted: np.ndarray
    gradient: np.ndarray
    value: float
    largest: float


def solve_dual(
    problem: DualProblem,
    settings: DualSettings,
    *,
    multipliers: np.ndarray | None = None,
    rows: KnownRows | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> DualSolution:
    """Minimise F.

    Parameters
    ----------
    problem, settings : F, and the knobs of the iteration.
    multipliers : (targets,) y to start from; None for zeros.
    rows : what is known of A; None for nothing.
    progress : called with (iteration, largest scaled gradient).
    """
    run = _Run(problem, settings, rows or KnownRows(), progress)
    return run.solve(np.zeros(problem.matrix.targets) if multipliers is None else multipliers)


def rounding_of(size: float, value: float, targets: np.ndarray, y: np.ndarray) -> float:
    """The rounding error of F, whose terms are of ``size``: with nearly dependent rows the
    multipliers are large and b.y cancels against the rest of F.
    """
    return _NOISE * (size + abs(value) + float(np.abs(targets) @ np.abs(y)))


@dataclass(eq=False)
class _Steps:
    """Where the iteration stands: its factor and whether that was formed here, the damping of the
    next, and what has been seen.
    """

    factor: DampedFactor | None = None
    fresh: bool = False
    polished: bool = False
    damping: float = 0.0
    steps: int = 0
    trace: list[float] = field(default_factory=list)


class _Run:
    def __init__(self, problem: DualProblem, settings, rows: KnownRows, progress) -> None:
        matrix, start, q = problem.matrix, problem.start, problem.q
        self.matrix, self.b, self.d, self.distance = (
            matrix,
            problem.targets,
            start,
            problem.distance,
        )
        self.scale, self.settings, self.q, self.progress = problem.scale, settings, q, progress
        zero = np.zeros(matrix.targets)
        self.slack = problem.slack or Ridge(zero if problem.ridge is None else problem.ridge)
        self.band = zero if problem.band is None else problem.band
        self.over_q = start if q is None else start / q
        self.banded = bool((self.band > 0).any())
        self.size = float(self.over_q.sum())
        self.gram = rows.gram if q is None else None
        self.active = np.arange(matrix.targets) if rows.active is None else rows.active
        self.idle = np.setdiff1d(np.arange(matrix.targets), self.active)
        self.curvature = (
            matrix.squares(start if q is None else start * q)
            if self.gram is None
            else np.diagonal(self.gram)
        )
        self.flatness = np.ones(self.b.size)
        self.single = rows.single
        self.factorisations = 0

    def evaluate(self, y: np.ndarray) -> _State:
        u = self.matrix.exponents(y)
        if self.q is not None:
            u = u * self.q
        ratio = self.distance.ratio(u)
        weights = self.d * ratio
        fitted = self.matrix.totals(weights)
        gradient = fitted - self.b + self.slack.gradient(y)
        value = (
            float(self.over_q @ self.distance.integral(u, ratio))
            - float(self.b @ y)
            + self.slack.value(y)
        )
        if self.banded:
            value += float(self.band @ np.abs(y))
            gradient = _pseudo_gradient(gradient, y, self.band)
        gradient[self.idle] = 0.0
        largest = float((np.abs(gradient) / self.scale).max()) if gradient.size else 0.0
        return _State(
            y,
            u,
            ratio,
            weights,
            fitted,
            gradient,
            value,
            largest if np.isfinite(largest) else np.inf,
        )

    def solve(self, y: np.ndarray) -> DualSolution:
        state, at = self.evaluate(y), _Steps()
        while at.steps < self.settings.max_iterations:
            if state.largest <= self.settings.tolerance:
                if at.polished or state.largest <= rules.ROUNDING:
                    break
                at.polished = True
            factor = at.factor
            if factor is None:
                factor, at.fresh = self.factorise(state, at.damping), True
            trial, length = self.step(state, factor)
            if trial is None:
                if not self.better_factor(state, factor, at):
                    break
                continue
            if not self.accept(state, trial, length, factor, at):
                break
            state = trial
        return DualSolution(
            state.y,
            state.weights,
            state.fitted,
            state.largest,
            state.largest <= self.settings.tolerance,
            at.steps,
            self.factorisations,
            tuple(at.trace),
            state.value,
        )

    def better_factor(self, state: _State, factor: DampedFactor, at: _Steps) -> bool:
        """After a step that led nowhere: whether a factor of this point, or a damped one, is left
        to try.
        """
        if not at.fresh:
            at.factor = None
            return True
        if state.largest <= self.settings.tolerance or factor.damping >= rules.MOST_DAMPING:
            return False
        more = max(rules.FIRST_DAMPING, rules.DAMPING_STEP * factor.damping)
        at.factor = factor.damped(more)
        return True

    def accept(
        self, state: _State, trial: _State, length: float, factor: DampedFactor, at: _Steps
    ) -> bool:
        """Take note of a step; False where it was the one more at the end and gained nothing."""
        at.steps, at.fresh = at.steps + 1, False
        # Where distances are cut the quadratic model may hold for a short way only; then the next
        # step is asked to be shorter itself.
        at.damping = rules.next_damping(length, factor.damping)
        gain = trial.largest / max(state.largest, 1e-300)
        if state.largest <= self.settings.tolerance and gain >= 1:
            return False
        at.trace.append(trial.largest)
        if self.progress is not None:
            self.progress(at.steps, trial.largest)
        again = gain <= self.settings.chord_rate and factor.damping == 0
        at.factor = factor if again else None
        return True

    def free(self, state: _State) -> np.ndarray:
        """Variables that may move: all, or with bands those off zero and those at zero that the
        gradient pushes out.
        """
        return (
            np.flatnonzero((state.y != 0) | (state.gradient != 0)) if self.banded else self.active
        )

    def factorise(self, state: _State, damping: float) -> DampedFactor:
        self.factorisations += 1
        slope = self.distance.slope(state.u, state.ratio)
        known = self.gram if bool((slope == 1.0).all()) else None
        slope = self.d * slope
        if self.q is not None:
            slope = slope * self.q
        free = self.free(state)
        whole = self.matrix.gram(slope, single=self.single) if known is None else known
        hessian = whole[np.ix_(free, free)]
        slack = self.slack.curvature(state.y)[free]
        hessian[np.diag_indices_from(hessian)] += slack
        floor = _FLAT_EXPONENTIAL if self.distance.exponential else _FLAT
        reference = self.curvature[free] + slack
        flat = np.diagonal(hessian) <= floor * reference
        self.flatness[free] = np.where(flat, np.maximum(_FLATTER * self.flatness[free], floor), 1.0)
        borrowed = np.where(flat, reference * self.flatness[free], np.nan)
        return damped_factor(free, hessian, damping, borrowed=borrowed)

    def step(self, state: _State, factor: DampedFactor) -> tuple[_State | None, float]:
        """The state after a step along the factor's direction and the share of the longest step
        allowed that was taken; (None, 0) if none is better.
        """
        direction = np.zeros_like(state.y)
        direction[factor.free] = -factor.solve(state.gradient[factor.free])
        downhill = float(state.gradient @ direction)
        if not downhill < 0:
            return None, 0.0
        longest = length = rules.step_length(self.rise(state, direction))
        orthant = np.where(state.y != 0, np.sign(state.y), -np.sign(state.gradient))
        noise = rounding_of(self.size, state.value, self.b, state.y)
        for _ in range(_HALVINGS if factor.damping == 0 else _HALVINGS_DAMPED):
            y = state.y + length * direction
            if self.banded:
                y = np.where((self.band > 0) & (y * orthant < 0), 0.0, y)
            trial = self.evaluate(y)
            enough = rules.enough(state.value, trial.value, length * downhill, 0.0)
            # Close to the optimum F moves less than its own rounding error; the gradient still
            # tells.
            flatter = trial.largest <= rules.FLATTER * state.largest
            level = trial.value <= state.value + noise and flatter
            if np.isfinite(trial.value) and np.isfinite(trial.largest) and (enough or level):
                return trial, length / longest
            length *= 0.5
        return None, 0.0

    def rise(self, state: _State, direction: np.ndarray) -> float:
        """Largest rise of log ratio among the records that would then matter; zero where the ratio
        is not exponential in u.
        """
        if not self.distance.exponential:
            return 0.0
        log_ratio = cast(ExponentialDistance, self.distance).log_ratio
        change = self.matrix.exponents(direction)
        if self.q is not None:
            change = change * self.q
        before, after = log_ratio(state.u), log_ratio(state.u + change)
        rise = np.minimum(after - before, after + rules.NEGLIGIBLE)[self.d > 0]
        return max(0.0, float(rise.max(initial=0.0)))


def _pseudo_gradient(gradient: np.ndarray, y: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Steepest slope of F: with the sign of y where y is not zero, else what is left of the
    gradient after the band.
    """
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - band, 0.0)
    return np.where(y != 0, gradient + band * np.sign(y), at_zero)
