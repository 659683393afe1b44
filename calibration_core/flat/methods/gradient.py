"""The best trade-off among targets that need not agree: a loss of scaled residuals and a weak
prior.

    minimise_w  sum_j omega_j rho((a_j.w - b_j) / s_j) + tau sum_i (1/q_i) [w_i log(w_i/d_i) - w_i +
    d_i],   w > 0,  lo <= w <= hi

With its defaults (rho the square, omega 1, s_j = |b_j|) the first sum is the relative loss of the
paper, whose s_j = |b_j| + 1 is had with epsilon=1. rho may be Huber's or capped
(``common/losses.py``), s the standard errors, omega anything.

The prior picks one answer among the many that fit alike and keeps it near the initial weights d
(brought to the level of the targets where it is far off: ``flat/level.py``). Its strength tau
defaults to 1e-6 sum(omega) / sum(d/q): the mean divergence of the weights, in which a
ratio of two costs 0.39 and a coefficient of variation of 0.3 about 0.045, then counts a millionth
of the mean squared relative residual. It moves a target that can be met by some millionths of its
size, and it decides where the targets are silent.

Three optimisers for the same problem. "dual" (the default) is second order, one variable a target
(``flat/solve/dual_losses.py``). "lbfgs" and "adam" (``flat/solve/descent.py``) have one a record,
run on a GPU too, take a prior strength of zero, and are there for comparison and for many more
targets than a matrix of targets x targets can hold.

``converged`` means proved: f(w) less the dual value of the multipliers is at most ``tolerance`` of
f(w), so that no weights at all can do better by more. Capped losses are not convex: there it is
proved for the targets that still pull, and that none would join or leave them; a local optimum.
Without prior there is no such proof; then the forces on every weight must cancel to ``tolerance``
of their size, or every residual be below ``tolerance`` of its scale.

Belongs here: this method. Does not belong here: losses, iterations.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from calibration_core.common.distances import BoundedRaking, Raking
from calibration_core.common.losses import LOSSES, make_loss
from calibration_core.common.settings import Choice, Either, Number, Numbers, Rule, Word, check
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.conflicts import precheck
from calibration_core.flat.level import at_level
from calibration_core.flat.methods._bounds import ratio_limits
from calibration_core.flat.methods._gradient_words import status, warnings
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.dual_losses import (
    Prior,
    minimise_dual,
    multipliers_of,
    optimality_gap,
)
from calibration_core.flat.solve.losses import SCALES, TargetLoss, target_scale, target_weights
from calibration_core.flat.solve.majorise import Settled, majorise

OPTIMIZERS = ("dual", "lbfgs", "adam")
# tau relative to the mean loss, where none is asked for; see above.
_PRIOR = 1e-6
_ITERATIONS = {"dual": 200, "lbfgs": 2000, "adam": 1000}
_WINDOW = 100


@dataclass(frozen=True)
class Settings:
    """Settings of ``gradient``.

    Attributes
    ----------
    optimizer : "dual", "lbfgs" or "adam".
    loss : "square", "huber", "capped" or "capped_square".
    delta : where Huber's loss turns from square to straight, in units of s.
    cap : where the capped losses turn flat, in units of s.
    corner : within what, in units of s, the corner of "capped" at zero is rounded.
    scale : s: "relative" (|b| + epsilon), "standard_error", or "both" (the root of the sum of their
        squares).
    epsilon : added to |b|, in the unit each target was given in, as calibration of tax and benefit
        models does with 1. None for nothing: then the scale of a target of zero is what the initial
        weights add to it, and no unit matters.
    relative_size : multiplies |b| + epsilon: 0.01 makes one per cent of a target the unit of its
        residual.
    target_weights : omega: None for ones, one number a target (0: only looked at), "groups" or
        "bases" (see ``losses.target_weights``).
    prior_strength : tau >= 0; None for the default above; 0 only with lbfgs and adam.
    tolerance : see ``converged`` above.
    max_iterations : steps in one minimisation; None for 200 (dual), 2,000 (lbfgs), 1,000 (adam).
    learning_rate : Adam's first step, in log weights; it falls along a cosine to a two-hundredth.
    improvement : lbfgs and adam stop when their last 100 steps lowered the loss by less than this
        share of it.
    device : "cpu", "cuda" or "cuda:<number>", for lbfgs and adam; the dual runs on the CPU.
    precision : "float64" or "float32", for lbfgs and adam. Results are always evaluated in float64.
    met_within : relative error under which the result counts a target as met.
    """

    RULES: ClassVar[dict[str, Rule]] = {
        "optimizer": Choice(OPTIMIZERS),
        "loss": Choice(LOSSES),
        "delta": Number(above=0),
        "cap": Number(above=0),
        "corner": Number(above=0),
        "scale": Choice(SCALES),
        "epsilon": Number(least=0, none=True),
        "relative_size": Number(above=0),
        "target_weights": Either(
            (Choice(("groups", "bases"), none=True), Numbers(Number(least=0)))
        ),
        "prior_strength": Number(least=0, none=True),
        "tolerance": Number(above=0, most=1),
        "max_iterations": Number(least=1, whole=True, none=True),
        "learning_rate": Number(above=0, most=1),
        "improvement": Number(least=0, below=1),
        "device": Word(),
        "precision": Choice(("float64", "float32")),
        "met_within": Number(above=0, most=1),
    }

    optimizer: str = "dual"
    loss: str = "square"
    delta: float = 0.1
    cap: float = 1.0
    corner: float = 1e-3
    scale: str = "relative"
    epsilon: float | None = None
    relative_size: float = 1.0
    target_weights: str | tuple[float, ...] | None = None
    prior_strength: float | None = None
    tolerance: float = 1e-6
    max_iterations: int | None = None
    learning_rate: float = 0.05
    improvement: float = 1e-9
    device: str = "cpu"
    precision: str = "float64"
    met_within: float = 1e-3

    def __post_init__(self) -> None:
        check(self)
        make_loss(self.loss, delta=self.delta, cap=self.cap, corner=self.corner)
        if self.target_weights is not None and not isinstance(self.target_weights, str):
            # As a tuple, settings can be compared and cannot be changed through the caller's array.
            weights = np.asarray(self.target_weights, dtype=np.float64)
            object.__setattr__(self, "target_weights", tuple(weights.tolist()))
        if self.prior_strength == 0 and self.optimizer == "dual":
            raise SettingsError(
                "prior_strength is 0 and the dual needs a prior",
                expected="prior_strength > 0",
                remedy="Use optimizer='lbfgs' or 'adam'",
            )
        if self.optimizer == "dual" and (self.device != "cpu" or self.precision != "float64"):
            raise SettingsError(
                f"The dual was asked for on {self.device!r} in {self.precision}",
                expected="the CPU and float64",
                remedy="Use optimizer='lbfgs' or 'adam'",
            )


def run(
    problem: CalibrationProblem,
    settings: Settings,
    progress: Callable[[int, float], None] | None = None,
) -> CalibrationResult:
    """Calibrate.

    The result's multipliers are y_j = -omega_j rho'(r_j) / (tau s_j), positive where a target is
    undershot; at the optimum w_i = d_i exp(q_i a_i.y), cut at the bounds. They are None without a
    prior. ``loss_trace`` is f after every step.

    Raises
    ------
    ProblemError : the scale needs standard errors that are not there, or an upper bound is
        negative.
    SettingsError : target_weights do not fit the targets; epsilon is 0 with a target of zero; no
        such device.
    """
    began = time.perf_counter()
    solver = _Solver(problem, settings, progress)
    outcome = solver.solve()
    result = solver.conclude(outcome)
    return replace(result, seconds=time.perf_counter() - began)


class _Solver:
    """One problem with its loss and prior, and the answers the three optimisers give to it."""

    def __init__(self, problem: CalibrationProblem, settings: Settings, progress) -> None:
        self.original, self.settings, self.progress = problem, settings, progress
        distance = _distance(problem)
        self.seen = precheck.look(problem, tolerance=settings.met_within)
        if problem.level != 1.0:
            at = at_level(problem, distance, self.seen.rows, problem.targets)
            problem, distance = at.problem, at.distance
        self.problem = problem
        scale = target_scale(
            problem, settings.scale, epsilon=settings.epsilon, relative_size=settings.relative_size
        )
        omega = target_weights(problem, settings.target_weights)
        rho = make_loss(
            settings.loss, delta=settings.delta, cap=settings.cap, corner=settings.corner
        )
        self.loss = TargetLoss(rho, problem.targets, scale, omega)
        start = problem.start
        size = float((start if problem.q is None else start / problem.q).sum()) * problem.level
        tau = _PRIOR * float(omega.sum()) / size
        if settings.prior_strength is not None:
            # Loss per unit of divergence, which is in the unit of weights.
            tau = settings.prior_strength * problem.weight_unit
        self.prior = Prior(tau, start, distance, problem.q)
        self.max_iterations = settings.max_iterations or _ITERATIONS[settings.optimizer]
        self.trace: list[float] = []

    def report(self, value: float) -> None:
        self.trace.append(value)
        if self.progress is not None:
            self.progress(len(self.trace), value)

    def objective(self, answer) -> float:
        """f of what was asked for, in float64."""
        prior = self.prior.value(answer.weights) if self.prior.strength > 0 else 0.0
        return float(self.loss.value(answer.fitted)) + prior

    def solve(self) -> Settled:
        """Minimise by the optimiser asked for, in convex steps if the loss is capped."""
        return majorise(
            self.loss,
            self._by_dual if self.settings.optimizer == "dual" else self._descent(),
            self.objective,
        )

    def _by_dual(self, convex: TargetLoss, before):
        y = None if before is None else before.multipliers
        solution = minimise_dual(
            self.problem.matrix,
            convex,
            self.prior,
            max_iterations=self.max_iterations,
            multipliers=y,
            report=self.report,
            measure=self.loss,
        )
        # Ratio times initial weight may differ from the bound in the last digit.
        return replace(solution, weights=np.clip(solution.weights, *self.problem.limits))

    def _descent(self) -> Callable:
        # Imported here: the dual needs no torch, which is slow to load.
        import torch

        from calibration_core.flat.solve import descent

        settings = self.settings
        device, precision = (
            descent.check_device(settings.device),
            getattr(torch, settings.precision),
        )
        loop = descent.adam if settings.optimizer == "adam" else descent.lbfgs
        limits = self.problem.limits
        even = settings.optimizer == "lbfgs"
        primal = descent.RecordObjective(
            self.problem.matrix, self.loss, self.prior, limits, device, precision, even
        )
        knobs = descent.DescentSettings(
            self.max_iterations, settings.learning_rate, _WINDOW, settings.improvement
        )

        def minimise(convex: TargetLoss, before):
            primal.minimise(convex)
            return loop(
                primal,
                primal.start if before is None else before.variables,
                knobs,
                self.report,
                lambda a: self.shortfall(convex, a)[0],
            )

        return minimise

    def shortfall(self, convex: TargetLoss, answer) -> tuple[bool, float]:
        """Whether ``answer`` is a minimum for the convex loss, to the tolerance, and how far from
        one: relative gap, or uncancelled share of force.
        """
        if self.prior.strength > 0:
            y = getattr(answer, "multipliers", None)
            if y is None:
                y = multipliers_of(convex, self.prior.strength, answer.fitted)
            gap = optimality_gap(
                self.problem.matrix, convex, self.prior, answer.weights, answer.fitted, y
            )
            relative = gap / max(self.objective(answer), 1e-300)
            return relative <= self.settings.tolerance, relative
        forces = convex.forces(answer.fitted)
        matrix, w = self.problem.matrix, answer.weights
        net = matrix.exponents(forces)
        low, high = self.problem.limits
        held = ((w <= low * (1 + 1e-6)) & (net > 0)) | ((w >= high * (1 - 1e-6)) & (net < 0))
        share = float(w @ np.where(held, 0.0, np.abs(net))) / max(
            float(np.abs(forces) @ matrix.absolute_totals(w)), 1e-300
        )
        pulls = convex.weights > 0
        met = bool(
            (np.abs(convex.residuals(answer.fitted))[pulls] <= self.settings.tolerance).all()
        )
        return met or share <= self.settings.tolerance, share

    def conclude(self, outcome: Settled) -> CalibrationResult:
        """The result, with everything the user must know."""
        problem, answer, tau = self.problem, outcome.answer, self.prior.strength
        optimal, shortfall = self.shortfall(outcome.loss, answer)
        y = getattr(answer, "multipliers", None)
        if y is None and tau > 0:
            y = multipliers_of(outcome.loss, tau, answer.fitted)
        value, total = float(self.loss.value(answer.fitted)), self.objective(answer)
        capped = self.loss.loss.convex is not self.loss.loss
        details = {
            "optimizer": self.settings.optimizer,
            "loss": value,
            "objective": total,
            "prior_strength": tau / problem.weight_unit,
            "relative_gap" if tau > 0 else "force_share": shortfall,
            "convex_steps": outcome.steps,
            "monotone": outcome.monotone,
            "local_optimum": capped,
        }
        result = CalibrationResult(
            problem=self.original,
            method="gradient",
            settings=self.settings,
            weights=answer.weights,
            converged=optimal and outcome.settled,
            status=status(outcome, optimal, shortfall, tau > 0, capped),
            iterations=len(self.trace),
            loss_trace=tuple(self.trace),
            multipliers=y,
            tolerance=self.settings.met_within,
            details=details,
        )
        said = warnings(result, self.seen.findings, self.loss, self.settings)
        return replace(result, warnings=said)


def _distance(problem: CalibrationProblem):
    if not problem.bounded:
        return Raking()
    low, high = ratio_limits(problem, "gradient", floor=0.0)
    if (high < 0).any():
        raise ProblemError(
            "An upper bound is negative and this method's weights are not",
            where=f"record {problem.told_record(np.flatnonzero(high < 0)[0])}",
            expected="high >= 0",
        )
    return BoundedRaking(low.clip(min=0.0), high)
