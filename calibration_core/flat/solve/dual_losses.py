"""The dual of calibration with a convex loss: Newton within a box, and majorise-minimise for losses
that are capped.

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

A capped loss is the smaller of a convex loss and a constant. With the targets that lie beyond the
cap left out, the convex loss is nowhere below it up to a constant, and equal where it stands;
minimising that can only lower f, and a few such steps settle (Hunter and Lange, Amer. Statist. 58,
2004, 30-37). The result is a local optimum, reached from the minimum of a robust convex loss.

It differs from ``dual_newton.py`` in the box, in a Hessian that the ridge keeps definite, and in
reporting f itself.

Belongs here: Newton in the box, majorising, the optimality gap. Does not belong here: exact
constraints (``dual_newton.py``), settings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from calibration_core.common import newton as rules
from calibration_core.common.distances import Distance
from calibration_core.errors import SettingsError
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.interior_point import InteriorProblem, interior_point
from calibration_core.flat.solve.losses import TargetLoss

# Projected Newton steps from a point close to the minimum, before something else is tried.
_POLISH = 25
# Gap relative to f at which the interior point method hands over.
_CLOSE = 1e-9
# A factorisation is used again while a step cuts the largest gradient to below this fraction.
_CHORD_RATE = 0.05
# Steps of a majorise-minimise iteration; the sets of targets that count are finite in number and
# settle in two to five.
_MAJORISATIONS = 50


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
    x = np.clip(x, -loss.loss.steepest, loss.loss.steepest)
    y = np.zeros_like(multipliers)
    y[counts] = -x * omega / (prior.strength * loss.scale[counts])
    target_terms = loss.loss.value(r) + x * x / (2.0 * loss.loss.curvature) - x * r
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
        self.ridge = prior.strength * loss.scale**2 / (loss.loss.curvature * omega)
        self.box = np.where(counts, loss.loss.steepest * omega / (prior.strength * loss.scale), 0.0)
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
        steps, factor, polished, state = 0, None, False, self.evaluate(y)
        while steps < max_iterations:
            if state.largest <= tolerance:
                if polished or state.largest <= rules.ROUNDING:
                    break
                polished = True
            free = np.flatnonzero((np.abs(state.y) < self.box) | (state.gradient != 0))
            fresh = factor is None or not np.array_equal(free, factor[0])
            if fresh:
                factor = (free, *self.factorise(state, free))
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

    def factorise(self, state: _State, free: np.ndarray):
        """(root, Cholesky) of the Hessian over ``free``, with a unit diagonal and the least damping
        that makes it positive definite.
        """
        self.factorisations += 1
        slope = self.prior.start * self.prior.distance.slope(state.u, state.ratio)
        if self.prior.q is not None:
            slope = slope * self.prior.q
        hessian = self.matrix.gram(slope)[np.ix_(free, free)]
        hessian[np.diag_indices_from(hessian)] += self.ridge[free]
        root = 1.0 / np.sqrt(np.diagonal(hessian))
        scaled = hessian * root[:, None] * root[None, :]
        for damping in rules.DAMPING:
            try:
                return root, linalg.cho_factor(
                    scaled + damping * np.eye(free.size), lower=True, check_finite=False
                )
            except linalg.LinAlgError:
                continue
        raise SettingsError(
            "The Hessian of the dual is not positive definite however much it is damped",
            remedy="Report this problem; it should not happen",
        )

    def step(self, state: _State, factor) -> _State | None:
        free, root, chol = factor
        direction = np.zeros_like(state.y)
        direction[free] = -root * linalg.cho_solve(chol, root * state.gradient[free])
        trial = self.search(state, direction)
        if trial is None:
            # In a corner of the box the projected Newton step need not lead downhill; the projected
            # scaled gradient does.
            direction[free] = -(root**2) * state.gradient[free]
            trial = self.search(state, direction)
        return trial

    def search(self, state: _State, direction: np.ndarray) -> _State | None:
        """The first point along the projected direction that lowers F enough; None
        where none does.
        """
        if not float(state.gradient @ direction) < 0:
            return None
        length = rules.step_length(self.rise(state, direction))
        # With nearly dependent rows the multipliers are large and b.y cancels against the rest of
        # F.
        noise = 1e-14 * (self.size + abs(state.value) + float(np.abs(self.b) @ np.abs(state.y)))
        for _ in range(rules.HALVINGS):
            trial = self.evaluate(np.clip(state.y + length * direction, -self.box, self.box))
            gain = float(state.gradient @ (trial.y - state.y))
            # In a corner of the box a step may gain nothing: F must fall by more than its noise.
            if rules.better(state, trial, min(gain, -noise / rules.SUFFICIENT), noise):
                return trial
            length *= 0.5
        return None

    def rise(self, state: _State, direction: np.ndarray) -> float:
        """Largest rise of log ratio among the records that would then matter."""
        change = self.matrix.exponents(direction)
        if self.prior.q is not None:
            change = change * self.prior.q
        return max(
            0.0,
            float(
                np.minimum(change, state.u + change + rules.NEGLIGIBLE)[self.prior.start > 0].max(
                    initial=0.0
                )
            ),
        )


@dataclass(frozen=True, eq=False)
class Settled:
    """Outcome of ``majorise``: the last inner answer, the convex loss it minimised, the steps, and
    whether the capped set settled.
    """

    answer: object
    loss: TargetLoss
    steps: int
    settled: bool
    monotone: bool


def majorise(loss: TargetLoss, minimise: Callable, objective: Callable) -> Settled:
    """Minimise a loss, capped or not, by convex steps.

    Parameters
    ----------
    loss : what to minimise; a convex loss takes one step.
    minimise : (convex TargetLoss, answer before or None) -> answer, with .fitted (targets,).
    objective : answer -> f of the capped loss.
    """
    convex = replace(loss, loss=loss.loss.beginning)
    answer = minimise(convex, None)
    if loss.loss.convex is loss.loss:
        return Settled(answer, convex, 1, True, True)
    value, counted = objective(answer), None
    for step in range(_MAJORISATIONS):
        convex = loss.majoriser(answer.fitted)
        if counted is not None and np.array_equal(convex.weights, counted):
            return Settled(answer, convex, step + 1, True, True)
        counted = convex.weights
        trial = minimise(convex, answer)
        after = objective(trial)
        if after > value + 1e-9 * abs(value):
            # Only an inner minimisation that was cut short can raise f: the point before stands.
            return Settled(answer, convex, step + 1, False, False)
        answer, value = trial, after
    return Settled(answer, convex, _MAJORISATIONS, False, True)
