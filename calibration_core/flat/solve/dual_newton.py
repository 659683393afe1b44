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

Belongs here: the iteration and its linear algebra. Does not belong here: distances, dependent rows,
what to do when it fails.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from scipy import linalg

from calibration_core.common import newton as rules
from calibration_core.common.distances import Distance
from calibration_core.errors import SettingsError
from calibration_core.flat.design_matrix import DesignMatrix

# A target whose curvature is this small a fraction of the one at ratios of one counts as flat:
# every record of it sits on a bound.
_FLAT = 1e-14
# Ratios that are exponential in u may honestly become tiny; only what would overflow is flat.
_FLAT_EXPONENTIAL = 1e-100
# Halvings of a step before the Hessian is damped, and of a damped step.
_HALVINGS, _HALVINGS_DAMPED = 14, 5
# A flat target's borrowed curvature falls to this fraction at each step that leaves it flat, so
# that its steps grow.
_FLATTER = 0.1


class Slack(Protocol):
    """The conjugate of a penalty on residuals, a smooth convex function of the multipliers, as
    arrays over (targets,).
    """

    def value(self, y: np.ndarray) -> float:
        """Its sum over targets."""
        ...

    def gradient(self, y: np.ndarray) -> np.ndarray:
        """Its slope."""
        ...

    def curvature(self, y: np.ndarray) -> np.ndarray:
        """Its second derivative, >= 0."""
        ...


@dataclass(frozen=True, eq=False)
class Ridge:
    """ridge_j y_j^2 / 2: squared residuals over 2 ridge_j; zero for a hard constraint."""

    ridge: np.ndarray

    def value(self, y: np.ndarray) -> float:
        return 0.5 * float(self.ridge @ (y * y))

    def gradient(self, y: np.ndarray) -> np.ndarray:
        return self.ridge * y

    def curvature(self, y: np.ndarray) -> np.ndarray:
        return self.ridge


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

    tolerance: float = 1e-9
    max_iterations: int = 100
    chord_rate: float = 0.05

    def __post_init__(self) -> None:
        if not 0 < self.tolerance < 1 or self.max_iterations < 1 or not 0 <= self.chord_rate < 1:
            raise SettingsError(
                f"The dual solver was given {self}",
                expected="0 < tolerance < 1, max_iterations >= 1, 0 <= chord_rate < 1",
            )


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
    matrix: DesignMatrix,
    targets: np.ndarray,
    start: np.ndarray,
    distance: Distance,
    scale: np.ndarray,
    settings: DualSettings,
    *,
    q: np.ndarray | None = None,
    ridge: np.ndarray | None = None,
    band: np.ndarray | None = None,
    slack: Slack | None = None,
    multipliers: np.ndarray | None = None,
    gram: np.ndarray | None = None,
    active: np.ndarray | None = None,
    single: bool = False,
    progress: Callable[[int, float], None] | None = None,
) -> DualSolution:
    """Minimise F.

    Parameters
    ----------
    matrix, targets, start : A, b and d. Rows must be linearly independent wherever ridge is zero.
    distance : G, H and their slope, on the records of ``start``.
    scale : (targets,) > 0: what one unit of relative error is for each target, for the stopping
        rule.
    q, ridge, band : see above; None for ones, zeros, zeros.
    slack : instead of ridge, for penalties that are not squares.
    multipliers : y to start from.
    active : indices of the targets to hold; the multipliers of the others stay zero. None for all.
        Rows need be independent among these.
    single : form Hessians in float32 sums (``DesignMatrix.gram``); right where rows are far from
        dependent. The gradient, which decides where the iteration ends, is in float64 always.
    gram : (targets, targets) A diag(start) A', if it is known already: the Hessian where every
        ratio's slope is one.
    progress : called with (iteration, largest scaled gradient).
    """
    m = matrix.targets
    zero = np.zeros(m)
    run = _Run(
        matrix,
        targets,
        start,
        distance,
        scale,
        settings,
        q,
        slack or Ridge(zero if ridge is None else ridge),
        zero if band is None else band,
        gram,
        active,
        single,
        progress,
    )
    return run.solve(zero if multipliers is None else multipliers)


class _Run:
    def __init__(
        self,
        matrix,
        targets,
        start,
        distance,
        scale,
        settings,
        q,
        slack,
        band,
        gram,
        active,
        single,
        progress,
    ) -> None:
        self.matrix, self.b, self.d, self.distance, self.scale = (
            matrix,
            targets,
            start,
            distance,
            scale,
        )
        self.settings, self.q, self.slack, self.band, self.progress = (
            settings,
            q,
            slack,
            band,
            progress,
        )
        self.over_q = start if q is None else start / q
        self.banded = bool((band > 0).any())
        self.size = float(self.over_q.sum())
        self.gram = gram if q is None else None
        self.active = np.arange(matrix.targets) if active is None else active
        self.idle = np.setdiff1d(np.arange(matrix.targets), self.active)
        self.curvature = (
            matrix.squares(start if q is None else start * q)
            if self.gram is None
            else np.diagonal(self.gram)
        )
        self.flatness = np.ones(self.b.size)
        self.single = single
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
        settings, steps, trace = self.settings, 0, []
        state = self.evaluate(y)
        factor, polished, damping = None, False, 0.0
        while steps < settings.max_iterations:
            if state.largest <= settings.tolerance:
                if polished or state.largest <= rules.ROUNDING:
                    break
                polished = True
            if factor is None:
                factor, fresh = self.factorise(state, damping), True
            trial, length = self.step(state, factor)
            if trial is None:
                if not fresh:
                    factor = None
                    continue
                if state.largest <= settings.tolerance or factor.damping >= rules.MOST_DAMPING:
                    break
                factor = factor.damped(rules.next_damping(0.0, factor.damping))
                continue
            steps, fresh = steps + 1, False
            # Where distances are cut the quadratic model may hold for a short way only; then the
            # next step is asked to be shorter itself.
            damping = rules.next_damping(length, factor.damping)
            gain = trial.largest / max(state.largest, 1e-300)
            if state.largest <= settings.tolerance and gain >= 1:
                break
            state = trial
            trace.append(state.largest)
            if self.progress is not None:
                self.progress(steps, state.largest)
            if gain > settings.chord_rate or factor.damping > 0:
                factor = None
        done = state.largest <= settings.tolerance
        return DualSolution(
            state.y,
            state.weights,
            state.fitted,
            state.largest,
            done,
            steps,
            self.factorisations,
            tuple(trace),
            state.value,
        )

    def free(self, state: _State) -> np.ndarray:
        """Variables that may move: all, or with bands those off zero and those at zero that the
        gradient pushes out.
        """
        return (
            np.flatnonzero((state.y != 0) | (state.gradient != 0)) if self.banded else self.active
        )

    def factorise(self, state: _State, damping: float) -> _Factor:
        self.factorisations += 1
        slope = self.distance.slope(state.u, state.ratio)
        known = self.gram is not None and bool((slope == 1.0).all())
        slope = self.d * slope
        if self.q is not None:
            slope = slope * self.q
        free = self.free(state)
        hessian = (self.gram if known else self.matrix.gram(slope, single=self.single))[
            np.ix_(free, free)
        ]
        slack = self.slack.curvature(state.y)[free]
        hessian[np.diag_indices_from(hessian)] += slack
        floor = _FLAT_EXPONENTIAL if self.distance.exponential else _FLAT
        reference = self.curvature[free] + slack
        flat = np.diagonal(hessian) <= floor * reference
        self.flatness[free] = np.where(flat, np.maximum(_FLATTER * self.flatness[free], floor), 1.0)
        root, scaled = _equilibrated(hessian, flat, reference * self.flatness[free])
        return _Factor(free, root, scaled, 0.0, None).damped(damping)

    def step(self, state: _State, factor: _Factor) -> tuple[_State | None, float]:
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
        # With nearly dependent rows the multipliers are large and b.y cancels against the rest of
        # F.
        noise = 1e-14 * (self.size + abs(state.value) + float(np.abs(self.b) @ np.abs(state.y)))
        for _ in range(_HALVINGS if factor.damping == 0 else _HALVINGS_DAMPED):
            y = state.y + length * direction
            if self.banded:
                y = np.where((self.band > 0) & (y * orthant < 0), 0.0, y)
            trial = self.evaluate(y)
            if rules.better(state, trial, length * downhill, noise):
                return trial, length / longest
            length *= 0.5
        return None, 0.0

    def rise(self, state: _State, direction: np.ndarray) -> float:
        """Largest rise of log ratio among the records that would then matter; zero where the ratio
        is not exponential in u.
        """
        if not self.distance.exponential:
            return 0.0
        change = self.matrix.exponents(direction)
        if self.q is not None:
            change = change * self.q
        before, after = self.distance.log_ratio(state.u), self.distance.log_ratio(state.u + change)
        return max(
            0.0,
            float(
                np.minimum(after - before, after + rules.NEGLIGIBLE)[self.d > 0].max(initial=0.0)
            ),
        )


def _pseudo_gradient(gradient: np.ndarray, y: np.ndarray, band: np.ndarray) -> np.ndarray:
    """Steepest slope of F: with the sign of y where y is not zero, else what is left of the
    gradient after the band.
    """
    at_zero = np.sign(gradient) * np.maximum(np.abs(gradient) - band, 0.0)
    return np.where(y != 0, gradient + band * np.sign(y), at_zero)


@dataclass(frozen=True, eq=False)
class _Factor:
    """Cholesky factor of the equilibrated Hessian of the free variables, damped relative to its
    diagonal (Levenberg and Marquardt).
    """

    free: np.ndarray
    root: np.ndarray
    scaled: np.ndarray
    damping: float
    cholesky: tuple | None

    def damped(self, damping: float) -> _Factor:
        """The same Hessian with at least this much damping, more if it takes more to be positive
        definite.
        """
        least = (x for x in rules.DAMPING if x > damping)
        for trial in (damping, *least):
            try:
                matrix = (
                    self.scaled + trial * np.eye(self.scaled.shape[0]) if trial else self.scaled
                )
                return replace(
                    self,
                    damping=trial,
                    cholesky=linalg.cho_factor(matrix, lower=True, check_finite=False),
                )
            except linalg.LinAlgError:
                continue
        raise SettingsError(
            "The Hessian of the dual is not positive definite however much it is damped",
            remedy="Report this problem; it should not happen",
        )

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        return self.root * linalg.cho_solve(self.cholesky, self.root * gradient)


def _equilibrated(
    hessian: np.ndarray, flat: np.ndarray, reference: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(root, root * hessian * root with ones on the diagonal); a flat variable is given the
    curvature ``reference``.

    Where all records of a target sit on their bounds F is a straight line in its multiplier, and
    the Hessian has no step to offer.
    """
    root = 1.0 / np.sqrt(
        np.where(flat, np.where(reference > 0, reference, 1.0), np.diagonal(hessian))
    )
    scaled = hessian * root[:, None] * root[None, :]
    scaled[np.diag_indices_from(scaled)] = 1.0
    return root, scaled
