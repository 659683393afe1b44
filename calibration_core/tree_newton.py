"""Second-order dual solver for hierarchical calibration: Newton on the block-arrow system, tau followed downwards.

The problem of ``problem.py`` has the smooth convex dual (divided by tau)

    F(y) = sum_i q_i H(u_i)  -  b' D y  +  tau/2 |y|^2 ,      u = A' D y,   D = diag(1/s),   w_i = q_i G(u_i),   G = H' ,

one variable a target, where G is exp for the Kullback-Leibler prior and Deville and Sarndal's logit when ratios w/q are
bounded. Its gradient is D (A w - b) + tau y and its Hessian D A diag(q G') A' D + tau I, block-arrow along the tree. At the
optimum a_j.w - b_j = -tau s_j y_j. Primal minus dual objective is half the squared gradient, a bound on the distance to the optimum.

tau is not chosen by hand: the solver follows ``tau_path`` downwards, each solution warm-starting the next, and stops at the
first tau for which the share of targets of each level within ``inside`` scales reaches ``share`` (a discrepancy principle:
fit the targets as closely as their errors justify, and no closer, so that weights stay as near the prior as possible). Where
targets conflict the shares may be out of reach; then it stops when lowering tau gains less than ``least_gain`` of the targets.

Belongs here: the iteration. Does not belong here: linear algebra (``arrow.py``), passes over records (``pool_blocks.py``, ``pair_blocks.py``).
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.arrow import RankOneDown, inner
from calibration_core.errors import SettingsError
from calibration_core.link import HeldTotal, Link, make_link
from calibration_core.pair_blocks import PairBlocks
from calibration_core.pool_blocks import PoolBlocks
from calibration_core.problem import PairProblem, PoolProblem

# A pair below exp(-5) of its prior weight hardly counts.
_NEGLIGIBLE = 5.0
# Within this of the right shift no exponent is cut off that counts.
_FAR = 500.0


@dataclass(frozen=True)
class TreeNewtonSettings:
    """Knobs of the solver.

    Attributes
    ----------
    tau_path : decreasing prior strengths to follow.
    approach : stronger ones to pass through before, from a cold start; the rule that ends the path does not look at them. Where ratios are
        bounded, or records few, a first step far from the prior is long and crooked, and several short ones take fewer factorisations.
    inside : a target counts as met when |fit - target| <= inside * scale; 1.645 is the 90 % margin.
    share : per level (top first), the share of targets to be met before tau stops falling; 0 asks nothing of that level.
    least_gain : smallest rise of the share met (targets of all levels with a share asked) for which tau goes on falling.
    ratio_bounds : smallest and largest w / q, or None for none.
    hold_total : keep the sum of weights at the sum of the prior exactly: F has N log(sum q exp(u) / N) in place of sum q H(u), and its
        Hessian one rank less (penalised maximum entropy of Leyk, Nagle and Buttenfield, Geographical Analysis 45, 2013). Not with bounds.
    tolerance : largest scaled gradient |a_j.w - b_j + tau s_j y_j| / s_j at the final tau.
    path_tolerance : the same at earlier tau.
    max_iterations : Newton and chord steps in all.
    chord_rate : a factorisation is reused while a step cuts the gradient norm to below this fraction.
    longest_step : largest change of any log weight allowed in one step.
    """

    tau_path: tuple[float, ...] = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
    approach: tuple[float, ...] = ()
    inside: float = 1.645
    share: tuple[float, ...] = ()
    least_gain: float = 0.001
    ratio_bounds: tuple[float, float] | None = None
    hold_total: bool = False
    tolerance: float = 1e-6
    path_tolerance: float = 1e-2
    max_iterations: int = 400
    chord_rate: float = 0.4
    longest_step: float = 5.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        path = (*self.approach, *self.tau_path)
        if not self.tau_path or any(t <= 0 for t in path) or any(a <= b for a, b in itertools.pairwise(path)):
            raise SettingsError(f"approach and tau_path are {path}", expected="positive numbers, strictly decreasing")
        if not 0 < self.chord_rate < 1:
            raise SettingsError(f"chord_rate is {self.chord_rate}", expected="between 0 and 1")
        if self.hold_total and self.ratio_bounds is not None:
            raise SettingsError("hold_total was asked for together with ratio_bounds", expected="one of the two", remedy="Make the total a target instead")
        if self.tolerance <= 0 or self.path_tolerance <= 0 or self.max_iterations < 1 or self.longest_step <= 0 or self.inside <= 0:
            raise SettingsError("A tolerance, limit or step is not positive", expected="positive numbers")


@dataclass(frozen=True)
class Step:
    """One entry of the trace: loss is 1/2 sum of squared scaled residuals; gradient is the largest scaled gradient."""

    tau: float
    kind: str
    dual: float
    loss: float
    gradient: float


@dataclass(frozen=True)
class TreeNewtonResult:
    """Outcome of a hierarchical calibration.

    Attributes
    ----------
    weights : (leaves, records) for a PoolProblem, (pairs,) for a PairProblem; float64 >= 0.
    multipliers : per level, (areas, variables), in units of 1 / scale.
    fitted, residuals : per level, (areas, variables): totals of the weights, and fitted minus target (NaN where no target).
    converged : gradient tolerance met at the final tau. ``status`` says so in words.
    path_met : whether the shares asked were reached; when False the smallest tau of the path was used.
    tau, iterations, factorisations, trace, seconds : as they were.
    duality_gap : primal minus dual objective at the final tau, relative to the primal.
    divergence : the distance of the weights from the prior, without tau.
    warnings : facts the caller should show, as text.
    """

    weights: np.ndarray
    multipliers: tuple[np.ndarray, ...]
    fitted: tuple[np.ndarray, ...]
    residuals: tuple[np.ndarray, ...]
    converged: bool
    status: str
    path_met: bool
    tau: float
    iterations: int
    factorisations: int
    trace: tuple[Step, ...]
    duality_gap: float
    divergence: float
    seconds: float
    warnings: tuple[str, ...]

    @property
    def effective_sample_size(self) -> float:
        """Kish's (sum w)^2 / sum w^2 over all pairs."""
        total = float(self.weights.sum())
        return total**2 / float((self.weights**2).sum()) if total > 0 else 0.0

    def summary(self) -> str:
        """One paragraph for people."""
        last = self.trace[-1] if self.trace else None
        return (
            f"{self.status}; tau {self.tau:g}, {self.iterations} steps, {self.factorisations} factorisations, {self.seconds:.2f} s; "
            f"largest scaled gradient {last.gradient if last else float('nan'):.2e}, relative duality gap {self.duality_gap:.2e}, ESS {self.effective_sample_size:,.0f}"
        )


def calibrate_tree(
    problem: PoolProblem | PairProblem,
    settings: TreeNewtonSettings,
    *,
    start: tuple[np.ndarray, ...] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> TreeNewtonResult:
    """Solve a hierarchical calibration problem.

    Parameters
    ----------
    problem : the pool or pair form.
    settings : solver settings.
    start : multipliers of an earlier result to start from; not used where they are worse than none.
    progress : called after each step.

    Raises
    ------
    SettingsError : ``settings.share`` is neither empty nor one number a level.
    """
    if settings.share and len(settings.share) != len(problem.tree.levels):
        raise SettingsError(f"share has {len(settings.share)} entries", expected=f"one for each of the levels {', '.join(problem.tree.levels)}")
    return _Run(problem, settings, start, progress).solve()


@dataclass(frozen=True, eq=False)
class _State:
    """At one y, per level: totals, residuals and gradient in units of their scales; the dual objective F, its sum of q H(u) and the size of
    the terms it is the difference of; and what u is shifted by so that the total of the weights is held (0 where it is not)."""

    fitted: list[torch.Tensor]
    scaled: list[torch.Tensor]
    gradient: list[torch.Tensor]
    dual: float
    potential: float
    terms: float
    shift: float


class _Run:
    def __init__(self, problem, settings, start, progress) -> None:
        self.problem, self.settings, self.progress = problem, settings, progress
        self.link = make_link(settings.ratio_bounds)
        self.blocks = PoolBlocks(problem, settings.device) if isinstance(problem, PoolProblem) else PairBlocks(problem, settings.device)
        self.target = [torch.as_tensor(b, dtype=torch.float64, device=self.blocks.device) for b in problem.targets.values]
        self.inverse = self.blocks.inverse
        self.used = [i > 0 for i in self.inverse]
        self.y = [torch.zeros_like(b) for b in self.target]
        if start is not None:
            self.y = [torch.as_tensor(a, dtype=torch.float64, device=self.blocks.device).clone() for a in start]
        self.trace: list[Step] = []
        self.factorisations = 0
        self.shift = 0.0

    def evaluate(self, y, tau, shift: float = 0.0) -> _State:
        fitted, potential = self.blocks.evaluate(self.scaled_down(y), self.link_at(shift))
        if self.settings.hold_total:
            total = self.blocks.prior_total
            share = total / max(potential, 1e-300)
            shift += math.log(share)
            fitted, potential = [f * share for f in fitted], -total * shift
        scaled = [(f - b) * i for f, b, i in zip(fitted, self.target, self.inverse, strict=True)]
        gradient = [r + tau * a for r, a in zip(scaled, y, strict=True)]
        linear = sum(float((b * i * a).sum()) for b, i, a in zip(self.target, self.inverse, y, strict=True))
        dual = potential - linear + 0.5 * tau * sum(float((a * a).sum()) for a in y)
        return _State(fitted, scaled, gradient, dual, potential, max(abs(potential), abs(linear)), shift)

    def link_at(self, shift: float) -> Link:
        """The link, shifted."""
        return HeldTotal(shift) if self.settings.hold_total else self.link

    def settle_shift(self) -> None:
        """The shift at a start that is not 0: first the mean of u, as far as it can be seen from here, then what the total says."""
        for _ in range(100):
            before, state = self.shift, self.evaluate(self.y, 1.0, self.shift)
            if abs(state.shift - before) < _FAR:
                break
            self.shift = -inner(state.fitted, self.scaled_down(self.y)) / self.blocks.prior_total

    def scaled_down(self, y):
        """D y: multipliers in the problem's own units."""
        return [a * i for a, i in zip(y, self.inverse, strict=True)]

    def solve(self) -> TreeNewtonResult:
        began = time.perf_counter()
        settings = self.settings
        steps, tau, met = 0, settings.tau_path[0], -np.inf
        if settings.hold_total and _largest(self.y):
            self.settle_shift()
        for tau in settings.approach:
            steps, _, _ = self.descend(tau, settings.path_tolerance, steps)
        for tau in settings.tau_path:
            steps, _, state = self.descend(tau, settings.path_tolerance, steps)
            before, met = met, self.share_met(state.scaled)
            if self.shares_met(state.scaled) or met - before < settings.least_gain or steps >= settings.max_iterations:
                break
        steps, converged, state = self.descend(tau, settings.tolerance, steps)
        path_met = self.shares_met(state.scaled)
        return self.result(state, tau, steps, converged, path_met, time.perf_counter() - began)

    def share_met(self, scaled) -> float:
        """Share of the targets met, over the levels of which a share is asked; inf-free, rising as long as none is asked."""
        hit = total = 0
        for wanted, residual, used in zip(self.settings.share or (0.0,) * len(scaled), scaled, self.used, strict=True):
            if wanted > 0:
                hit += int((residual[used].abs() <= self.settings.inside).sum())
                total += int(used.sum())
        return hit / total if total else float(len(self.trace))

    def shares_met(self, scaled) -> bool:
        if not self.settings.share:
            return False
        return all(self.level_share(r, u) >= w for w, r, u in zip(self.settings.share, scaled, self.used, strict=True))

    def level_share(self, residual, used) -> float:
        """Share of one level's targets within ``inside`` scales; 1 where it has none."""
        count = int(used.sum())
        return float((residual[used].abs() <= self.settings.inside).sum()) / count if count else 1.0

    def descend(self, tau: float, tolerance: float, steps: int):
        """Damped Newton with chord steps at one tau until the largest scaled gradient is below tolerance."""
        state = self.evaluate(self.y, tau, self.shift)
        if not state.dual <= 0.0 and _largest(self.y):
            # F is 0 at y = 0: a start that is worse than none is not used.
            self.y, self.shift = [torch.zeros_like(a) for a in self.y], 0.0
            state = self.evaluate(self.y, tau)
        size = _largest(state.gradient)
        factor, kind = None, "start"
        while size > tolerance and steps < self.settings.max_iterations:
            if factor is None:
                factor = self.factorise(state, tau)
                self.factorisations += 1
                kind = "newton"
            direction = [-d for d in factor.solve(state.gradient)]
            accepted, candidate = self.line_search(state, direction, tau)
            steps += 1
            if not accepted:
                if kind == "newton":
                    break
                factor = None
                continue
            self.y, state = candidate
            self.shift = state.shift
            new_size = _largest(state.gradient)
            self.record(tau, kind, state, new_size)
            factor, kind = (factor, "chord") if new_size < self.settings.chord_rate * size else (None, "newton")
            size = new_size
        return steps, size <= tolerance, state

    def factorise(self, state, tau):
        factor = self.blocks.factor(self.scaled_down(self.y), self.link_at(state.shift), tau)
        if not self.settings.hold_total:
            return factor
        # The matrix is the factor's - g g' / N with g the scaled totals: Sherman and Morrison.
        mean = [f * i for f, i in zip(state.fitted, self.inverse, strict=True)]
        return RankOneDown(factor, mean, self.blocks.prior_total)

    def line_search(self, state, direction, tau):
        slope = inner(state.gradient, direction)
        if slope >= 0:
            return False, None
        # What a full step adds to u on average does nothing where the total is held.
        common = inner(state.fitted, self.scaled_down(direction)) / self.blocks.prior_total if self.settings.hold_total else 0.0
        length = min(1.0, self.settings.longest_step / max(self.largest_rise(direction, common), 1e-300))
        for _ in range(40):
            y = [a + length * d for a, d in zip(self.y, direction, strict=True)]
            trial = self.evaluate(y, tau, self.shift - length * common)
            small = 1e-12 * max(1.0, abs(state.dual), self.blocks.prior_total, state.terms)
            if np.isfinite(trial.dual) and trial.dual <= state.dual + 1e-4 * length * slope + small:
                return True, (y, trial)
            length *= 0.5
        return False, None

    def largest_rise(self, direction, common: float) -> float:
        """Largest rise of u, beyond ``common``, a full step would bring to a pair whose weight would then matter.

        Only rises can overshoot: a weight on its way to zero, or still next to it after the step, does no harm however far it moves.
        """
        if self.settings.ratio_bounds is not None:
            return 0.0
        return self.blocks.largest_rise(self.scaled_down(self.y), self.scaled_down(direction), _NEGLIGIBLE + self.shift, common)

    def record(self, tau, kind, state, size) -> None:
        loss = 0.5 * sum(float((r * r).sum()) for r in state.scaled)
        step = Step(tau, kind, state.dual, loss, size)
        self.trace.append(step)
        if self.progress is not None:
            self.progress(step)

    def result(self, state, tau, steps, converged, path_met, seconds) -> TreeNewtonResult:
        fitted, scaled, gradient = state.fitted, state.scaled, state.gradient
        divergence = self.divergence(state)
        primal = 0.5 * sum(float((r * r).sum()) for r in scaled) + tau * divergence
        # Primal plus tau F collapses to half the squared gradient; written so, it does not suffer cancellation.
        gap = 0.5 * sum(float((g * g).sum()) for g in gradient) / max(abs(primal), 1e-300)
        warnings = []
        if not converged:
            warnings.append(
                f"The solver stopped after {steps} steps with a largest scaled gradient of {_largest(gradient):.2e}; the tolerance is {self.settings.tolerance:.0e}."
            )
        if self.settings.share and not path_met:
            reached = ", ".join(
                f"{name} {self.level_share(r, u):.4f} of {w:g} asked"
                for name, r, u, w in zip(self.problem.tree.levels, scaled, self.used, self.settings.share, strict=True)
                if w > 0
            )
            warnings.append(f"The share of targets met stopped rising before it reached what was asked, at tau {tau:g}: {reached}.")
        status = "converged" if converged else "stopped before convergence"
        residuals = tuple(np.where(u.cpu().numpy(), (f - b).cpu().numpy(), np.nan) for f, b, u in zip(fitted, self.target, self.used, strict=True))
        weights = self.blocks.weights(self.scaled_down(self.y), self.link_at(state.shift))
        if self.settings.hold_total:
            weights *= self.blocks.prior_total / weights.sum()
        return TreeNewtonResult(
            weights,
            tuple(a.cpu().numpy() for a in self.y),
            tuple(f.cpu().numpy() for f in fitted),
            residuals,
            converged,
            status,
            path_met,
            tau,
            steps,
            self.factorisations,
            tuple(self.trace),
            float(gap),
            float(divergence),
            seconds,
            tuple(warnings),
        )

    def divergence(self, state) -> float:
        """Prior distance at the optimum's multipliers, by Legendre: sum of w u - q H(u), and sum of w u is that of fitted times D y."""
        return inner(state.fitted, self.scaled_down(self.y)) - state.potential


def _largest(per_level) -> float:
    return max((float(a.abs().max()) for a in per_level if a.numel()), default=0.0)
