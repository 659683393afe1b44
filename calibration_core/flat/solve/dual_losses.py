"""The dual of calibration with a convex loss: Newton within a box.

    minimise_w  f(w) = sum_j omega_j rho(r_j) + tau sum_i (1/q_i) [w_i log(w_i/d_i) - w_i + d_i],
    r = (A w - b) / s,  lo <= w <= hi

Where rho is quadratic with curvature c about 0 and straight at slope g further out (g infinite for
the square), f has the dual

    minimise_y  F(y) = sum_i (d_i/q_i) H(q_i u_i) - b.y + sum_j ridge_j y_j^2 / 2,   |y_j| <= box_j,
    u = A' y,  w_i = d_i G(q_i u_i),

    ridge_j = tau s_j^2 / (c omega_j),   box_j = g omega_j / (tau s_j),

with G = exp, cut at the bounds (Boyd and Vandenberghe, Convex Optimization, 2004, section 5;
Huber's conjugate is the square's, restricted). At the optimum y_j = -omega_j rho'(r_j) / (tau s_j):
positive where a target is undershot and pulls weights up. Newton steps are taken on the multipliers
off their bounds and searched along the projected path (Bertsekas, SIAM J. Control Optim. 20, 1982,
221-246); where there are boxes or bounds, from a point that ``interior_point.py`` has brought
close. f(w) + tau F(y) >= 0 bounds how far f(w) is above its minimum, for any w and any y in the
box.

It differs from ``dual_newton.py`` in the box, in a Hessian that the ridge keeps definite, and in
reporting f itself.

Belongs here: Newton in the box, the optimality gap. Does not belong here: exact constraints
(``dual_newton.py``), capped losses (``majorise.py``), settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common import newton as rules
from calibration_core.common.distances import Distance
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.damped_factor import DampedFactor, damped_factor
from calibration_core.flat.solve.dual_newton import rounding_of
from calibration_core.flat.solve.interior_point import InteriorProblem, interior_point
from calibration_core.flat.solve.losses import TargetLoss

# Projected Newton steps from a point close to the minimum, before something else is tried.
_POLISH = 25
# Gap relative to f at which the interior point method hands over.
_CLOSE = 1e-9
# A factorisation is used again while a step cuts the largest gradient to below this fraction.
_CHORD_RATE = 0.05


@dataclass(frozen=True, eq=False)
class Prior:
    """The prior on the weights: strength tau > 0 and what it measures from.

    Attributes
    ----------
    strength : tau, in loss per unit of Kullback-Leibler divergence (units of the weights).
    start : d (records,).
    distance : Raking, or BoundedRaking with bounds on w/d.
    q : (records,) or None.
    """

    strength: float
    start: np.ndarray
    distance: Distance
    q: np.ndarray | None = None

    @property
    def over_q(self) -> np.ndarray:
        """(records,) d / q."""
        return self.start if self.q is None else self.start / self.q

    @property
    def limits(self) -> tuple[np.ndarray | float, np.ndarray | float]:
        """(low, high) on w/d, each a number or (records,)."""
        return getattr(self.distance, "low", 0.0), getattr(self.distance, "high", np.inf)

    @property
    def bounded(self) -> bool:
        """Whether ratios are bounded beyond being positive."""
        return bool(np.any(np.asarray(self.limits[0]) > 0) or np.any(np.isfinite(self.limits[1])))

    def value(self, weights: np.ndarray) -> float:
        """tau times the divergence of ``weights`` (records,) from the start; inf outside the
        bounds.
        """
        ratio = np.divide(weights, self.start, out=np.ones_like(self.start), where=self.start > 0)
        return self.strength * float(self.over_q @ self.distance.value(ratio))


def optimality_gap(
    matrix: DesignMatrix,
    loss: TargetLoss,
    prior: Prior,
    weights: np.ndarray,
    fitted: np.ndarray,
    multipliers: np.ndarray,
) -> float:
    """f(weights) + tau F(multipliers), which is how far f can be above its minimum; ``loss``
    convex, ``multipliers`` brought into the box.

    Summed as Fenchel and Young pair the terms, each >= 0, so that no digits are lost: a record's
    tau (d/q) [phi(w/d) + H(q u) - (w/d) q u], and a target's omega [rho(r) + rho*(x) - x r] with x
    = -tau s y / omega the slope that its multiplier stands for.
    """
    counts = loss.weights > 0
    omega, r = loss.weights[counts], loss.residuals(fitted)[counts]
    x = -prior.strength * loss.scale[counts] * multipliers[counts] / omega
    x = np.clip(x, -loss.loss.convex.steepest, loss.loss.convex.steepest)
    y = np.zeros_like(multipliers)
    y[counts] = -x * omega / (prior.strength * loss.scale[counts])
    target_terms = loss.loss.value(r) + x * x / (2.0 * loss.loss.convex.curvature) - x * r
    u = matrix.exponents(y)
    if prior.q is not None:
        u = u * prior.q
    ratio = np.divide(weights, prior.start, out=np.ones_like(prior.start), where=prior.start > 0)
    # A weight may lie a rounding error outside its bounds.
    ratio = np.clip(ratio, *prior.limits)
    record_terms = (
        prior.distance.value(ratio)
        + prior.distance.integral(u, prior.distance.ratio(u))
        - ratio * u
    )
    return float(omega @ np.maximum(target_terms, 0.0)) + prior.strength * float(
        prior.over_q @ np.maximum(record_terms, 0.0)
    )


def multipliers_of(loss: TargetLoss, strength: float, fitted: np.ndarray) -> np.ndarray:
    """(targets,) y_j = -omega_j rho'(r_j) / (tau s_j) of convex ``loss`` at ``fitted`` totals."""
    return -loss.forces(fitted) / strength


@dataclass(frozen=True, eq=False)
class BoxSolution:
    """Minimum of F: multipliers y (targets,), weights (records,), fitted totals (targets,), and how
    it went.

    Attributes
    ----------
    gradient : largest |A w - b + ridge y| / s among the multipliers that are not held by their box.
    value : F(y).
    """

    multipliers: np.ndarray
    weights: np.ndarray
    fitted: np.ndarray
    gradient: float
    value: float
    converged: bool
    iterations: int
    factorisations: int


def minimise_dual(
    matrix: DesignMatrix,
    loss: TargetLoss,
    prior: Prior,
    *,
    tolerance: float = 1e-10,
    max_iterations: int = 200,
    multipliers: np.ndarray | None = None,
    report: Callable[[float], None] | None = None,
    measure: TargetLoss | None = None,
) -> BoxSolution:
    """Minimise f for a convex ``loss``.

    Parameters
    ----------
    matrix, loss, prior : A; b, s, omega and rho; tau, d, bounds and q.
    tolerance : largest scaled gradient at which it stops; it then takes one more step, so that it
        ends well below.
    max_iterations : Newton and chord steps in all.
    multipliers : y to start from; brought into the box.
    report : called with f after every step, measured with ``measure`` (a loss that is not convex,
        say) if given.
    """
    run = _BoxNewton(matrix, loss, prior, report, measure or loss)
    smooth, steps = not prior.bounded and not np.isfinite(run.box[run.box > 0]).any(), 0
    if smooth or multipliers is not None:
        y = (
            np.zeros(matrix.targets)
            if multipliers is None
            else np.clip(multipliers, -run.box, run.box)
        )
        solution = run.solve(
            y, tolerance, max_iterations if smooth else min(_POLISH, max_iterations)
        )
        steps = solution.iterations
        if solution.converged or steps >= max_iterations:
            return solution
    inside, more = run.interior(max_iterations - steps)
    steps += more
    polished = run.solve(
        np.clip(inside.multipliers, -run.box, run.box),
        tolerance,
        max(0, min(_POLISH, max_iterations - steps)),
    )

    # Newton from there ends at rounding; where it does not, the point inside stands.
    def gap(s):
        return optimality_gap(matrix, loss, prior, s.weights, s.fitted, s.multipliers)

    best = polished if polished.converged or gap(polished) <= gap(inside) else inside
    return replace(best, iterations=steps + polished.iterations)


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


class _BoxNewton:
    """Damped Newton on F within |y| <= box, one factorisation used again while it serves."""

    def __init__(
        self, matrix: DesignMatrix, loss: TargetLoss, prior: Prior, report, measure: TargetLoss
    ) -> None:
        counts = loss.weights > 0
        omega = np.where(counts, loss.weights, 1.0)
        rho = loss.loss.convex
        self.ridge = prior.strength * loss.scale**2 / (rho.curvature * omega)
        self.box = np.where(counts, rho.steepest * omega / (prior.strength * loss.scale), 0.0)
        self.matrix, self.loss, self.prior, self.report, self.measure = (
            matrix,
            loss,
            prior,
            report,
            measure,
        )
        self.b, self.scale, self.over_q = loss.targets, loss.scale, prior.over_q
        self.size = float(self.over_q.sum())
        self.factorisations = 0

    def evaluate(self, y: np.ndarray) -> _State:
        distance = self.prior.distance
        u = self.matrix.exponents(y)
        if self.prior.q is not None:
            u = u * self.prior.q
        ratio = distance.ratio(u)
        weights = self.prior.start * ratio
        fitted = self.matrix.totals(weights)
        gradient = fitted - self.b + self.ridge * y
        value = (
            float(self.over_q @ distance.integral(u, ratio))
            - float(self.b @ y)
            + 0.5 * float(self.ridge @ (y * y))
        )
        held = ((y >= self.box) & (gradient <= 0)) | ((y <= -self.box) & (gradient >= 0))
        gradient = np.where(held, 0.0, gradient)
        largest = float((np.abs(gradient) / self.scale).max())
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

    def solve(self, y: np.ndarray, tolerance: float, max_iterations: int) -> BoxSolution:
        steps, polished, state = 0, False, self.evaluate(y)
        factor: DampedFactor | None = None
        while steps < max_iterations:
            if state.largest <= tolerance:
                if polished or state.largest <= rules.ROUNDING:
                    break
                polished = True
            free = np.flatnonzero((np.abs(state.y) < self.box) | (state.gradient != 0))
            fresh = factor is None or not np.array_equal(free, factor.free)
            if factor is None or fresh:
                factor = self.factorise(state, free)
            trial = self.step(state, factor)
            if trial is None:
                if fresh:
                    break
                factor = None
                continue
            steps += 1
            gain = trial.largest / max(state.largest, 1e-300)
            if state.largest <= tolerance and gain >= 1:
                break
            state = trial
            if self.report is not None:
                self.report(self.objective(state))
            if gain > _CHORD_RATE:
                factor = None
        done = state.largest <= tolerance
        return BoxSolution(
            state.y,
            state.weights,
            state.fitted,
            state.largest,
            state.value,
            done,
            steps,
            self.factorisations,
        )

    def objective(self, state: _State) -> float:
        """f, of the loss it is measured with."""
        divergence = float(self.over_q @ self.prior.distance.value(state.ratio))
        return float(self.measure.value(state.fitted)) + self.prior.strength * divergence

    def interior(self, max_iterations: int) -> tuple[BoxSolution, int]:
        """A point that is proved close to the minimum, weights and multipliers inside all their
        bounds, and the steps it took.
        """
        prior, loss = self.prior, self.loss
        low, high = (np.broadcast_to(x, prior.start.shape) * prior.start for x in prior.limits)
        q = np.ones_like(prior.start) if prior.q is None else prior.q
        problem = InteriorProblem(
            self.matrix, self.b, self.ridge, self.box, self.scale, prior.start, q, low, high
        )
        seen = 0

        def accept(weights: np.ndarray, y: np.ndarray) -> bool:
            nonlocal seen
            fitted, divergence = self.matrix.totals(weights), prior.value(weights)
            if seen and self.report is not None:
                self.report(float(self.measure.value(fitted)) + divergence)
            seen += 1
            value = float(loss.value(fitted)) + divergence
            return optimality_gap(self.matrix, loss, prior, weights, fitted, y) <= _CLOSE * value

        weights, y, steps = interior_point(problem, accept, max_iterations)
        return (
            BoxSolution(
                y, weights, self.matrix.totals(weights), np.nan, np.nan, False, steps, steps
            ),
            steps,
        )

    def factorise(self, state: _State, free: np.ndarray) -> DampedFactor:
        """Of the Hessian over ``free``, with the least damping that makes it positive definite."""
        self.factorisations += 1
        slope = self.prior.start * self.prior.distance.slope(state.u, state.ratio)
        if self.prior.q is not None:
            slope = slope * self.prior.q
        hessian = self.matrix.gram(slope)[np.ix_(free, free)]
        hessian[np.diag_indices_from(hessian)] += self.ridge[free]
        return damped_factor(free, hessian)

    def step(self, state: _State, factor: DampedFactor) -> _State | None:
        direction, free = np.zeros_like(state.y), factor.free
        direction[free] = -factor.solve(state.gradient[free])
        trial = self.search(state, direction)
        if trial is None:
            # In a corner of the box the projected Newton step need not lead downhill; the projected
            # scaled gradient does.
            direction[free] = -(factor.root**2) * state.gradient[free]
            trial = self.search(state, direction)
        return trial

    def search(self, state: _State, direction: np.ndarray) -> _State | None:
        """The first point along the projected direction that lowers F enough; None
        where none does.
        """
        if not float(state.gradient @ direction) < 0:
            return None
        length = rules.step_length(self.rise(state, direction))
        noise = rounding_of(self.size, state.value, self.b, state.y)
        for _ in range(rules.HALVINGS):
            trial = self.evaluate(np.clip(state.y + length * direction, -self.box, self.box))
            gain = float(state.gradient @ (trial.y - state.y))
            enough = trial.value <= state.value - noise and rules.enough(
                state.value, trial.value, gain, 0.0
            )
            # Close to the minimum F moves less than its own rounding error; the gradient still
            # tells.
            flatter = trial.largest <= rules.FLATTER * state.largest
            level = trial.value <= state.value + noise and flatter
            if np.isfinite(trial.value) and np.isfinite(trial.largest) and (enough or level):
                return trial
            length *= 0.5
        return None

    def rise(self, state: _State, direction: np.ndarray) -> float:
        """Largest rise of log ratio among the records that would then matter."""
        change = self.matrix.exponents(direction)
        if self.prior.q is not None:
            change = change * self.prior.q
        rise = np.minimum(change, state.u + change + rules.NEGLIGIBLE)[self.prior.start > 0]
        return max(0.0, float(rise.max(initial=0.0)))
