"""Second-order dual solver for hierarchical calibration: Newton on the block-arrow system, tau
followed downwards.

The problem of ``tree/problem.py`` has the smooth convex dual (divided by tau)

    F(y) = sum_i q_i H(u_i)  -  b' D y  +  tau/2 |y|^2 ,      u = A' D y,   D = diag(1/s),   w_i =
    q_i G(u_i),   G = H' ,

one variable a target, where G is exp for the Kullback-Leibler prior and Deville and Sarndal's logit
when ratios w/q are bounded. Its gradient is D (A w - b) + tau y and its Hessian D A diag(q G') A' D
+ tau I, block-arrow along the tree. At the optimum a_j.w - b_j = -tau s_j y_j. Primal minus dual
objective is half the squared gradient, a bound on the distance to the optimum.

Written-out pairs with bounded ratios are solved nested: every step for the levels above is followed
by the leaves' own small problems, each with its own step length (``leaf_newton.py``), and the line
search looks at F with the leaves eliminated,

    F^(z) = min_x F(x, z) ,   x the leaves' multipliers, z those of the levels above,

whose gradient is that of F along z and whose Hessian is the Schur complement of the arrow. The step
itself is Newton's for x and z together, which is Newton's for z and, for x, its linear predictor;
leaves that this leaves at their optimum cost nothing more. So the number of steps hardly depends on
the number of leaves (nonlinear elimination: Cai and Keyes, SIAM Journal on Scientific Computing 24,
2002; variable projection: Golub and Pereyra, SIAM Journal on Numerical Analysis 10, 1973). Where
the total is held leaves depend on each other, and steps are taken jointly; so they are without
bounds on ratios, where weights answer so steeply that leaves solved alone run away from the levels
above (65 factorisations for 27 on ``benchmarks.nested``), and in a pool, where a pass over all
records for a few leaves would gain nothing.

tau is not chosen by hand: the solver follows ``tau_path`` downwards, each solution warm-starting
the next, and stops at the first tau for which the share of targets of each level within ``inside``
scales reaches ``share`` (a discrepancy principle: fit the targets as closely as their errors
justify, and no closer, so that weights stay as near the prior as possible). Where targets conflict
the shares may be out of reach; then it stops when lowering tau gains less than ``least_gain`` of
the targets.

Belongs here: the iteration. Does not belong here: linear algebra (``arrow.py``), passes over
records (``pool_blocks.py``, ``pair_blocks.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.common.threads import one_thread
from calibration_core.errors import SettingsError
from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.result import Step, TreeNewtonResult, TreeNewtonSettings
from calibration_core.tree.solve.arrow import RankOneDown, inner
from calibration_core.tree.solve.leaf_newton import LeafNewton
from calibration_core.tree.solve.link import HeldTotal, Link, make_link
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pool_blocks import PoolBlocks

__all__ = ["Step", "TreeNewtonResult", "TreeNewtonSettings", "calibrate_tree"]

# A pair below exp(-5) of its prior weight hardly counts.
_NEGLIGIBLE = 5.0
# Within this of the right shift no exponent is cut off that counts.
_FAR = 500.0
# The tolerance of what only leads to the path, against that of the path.
_ROUGHLY = 100.0
# Leaves are solved to this share of the tolerance, or of the gradient before the step where that is
# more.
_LEAVES_WITHIN, _LEAVES_AHEAD = 0.3, 0.03


@one_thread()
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
    SettingsError : ``settings.share`` is neither empty nor one number a level; ``hold_total`` with
        a problem that bounds its pairs' ratios.
    """
    if settings.share and len(settings.share) != len(problem.tree.levels):
        raise SettingsError(
            f"share has {len(settings.share)} entries",
            expected=f"one for each of the levels {', '.join(problem.tree.levels)}",
        )
    if (
        settings.hold_total
        and isinstance(problem, PairProblem)
        and problem.ratio_bounds is not None
    ):
        raise SettingsError(
            "hold_total was asked for, and the problem bounds ratios",
            expected="one of the two",
            remedy="Make the total a target instead",
        )
    return _Run(problem, settings, start, progress).solve()


@dataclass(frozen=True, eq=False)
class _State:
    """At one y, per level: totals, residuals and gradient in units of their scales; the dual
    objective F, its sum of q H(u) and the size of the terms it is the difference of; and what u is
    shifted by so that the total of the weights is held (0 where it is not).
    """

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
        self.blocks = (
            PoolBlocks(problem, settings.device)
            if isinstance(problem, PoolProblem)
            else PairBlocks(problem, settings.device)
        )
        self.target = [
            torch.as_tensor(b, dtype=torch.float64, device=self.blocks.device)
            for b in problem.targets.values
        ]
        self.inverse = self.blocks.inverse
        self.used = [i > 0 for i in self.inverse]
        self.y = [torch.zeros_like(b) for b in self.target]
        if start is not None:
            self.y = [
                torch.as_tensor(a, dtype=torch.float64, device=self.blocks.device).clone()
                for a in start
            ]
        self.bounded = settings.ratio_bounds is not None or (
            isinstance(problem, PairProblem) and problem.ratio_bounds is not None
        )
        nested = isinstance(problem, PairProblem) and self.bounded
        self.leaves = (
            LeafNewton(self.blocks, self.target[-1], settings.chord_rate, settings.longest_step)
            if nested
            else None
        )
        automatic = (10.0 * settings.tau_path[0],) if nested and start is None else ()
        self.approach = automatic if settings.approach is None else settings.approach
        self.trace: list[Step] = []
        # The last two solutions along the path: tau, multipliers, shift.
        self.path: list[tuple[float, list[torch.Tensor], float]] = []
        self.factorisations = 0
        self.shift = 0.0

    def evaluate(self, y, tau, shift: float = 0.0) -> _State:
        fitted, potential = self.blocks.evaluate(self.scaled_down(y), self.link_at(shift))
        return self.state(y, tau, fitted, potential, shift)

    def state(self, y, tau, fitted, potential: float, shift: float = 0.0) -> _State:
        if self.settings.hold_total:
            total = self.blocks.prior_total
            share = total / max(potential, 1e-300)
            shift += math.log(share)
            fitted, potential = [f * share for f in fitted], -total * shift
        scaled = [(f - b) * i for f, b, i in zip(fitted, self.target, self.inverse, strict=True)]
        gradient = [r + tau * a for r, a in zip(scaled, y, strict=True)]
        linear = sum(
            float((b * i * a).sum()) for b, i, a in zip(self.target, self.inverse, y, strict=True)
        )
        dual = potential - linear + 0.5 * tau * sum(float((a * a).sum()) for a in y)
        return _State(
            fitted, scaled, gradient, dual, potential, max(abs(potential), abs(linear)), shift
        )

    def link_at(self, shift: float) -> Link:
        """The link, shifted."""
        return HeldTotal(shift) if self.settings.hold_total else self.link

    def settle_shift(self) -> None:
        """The shift at a start that is not 0: first the mean of u, as far as it can be seen from
        here, then what the total says.
        """
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
        for tau in self.approach:
            steps, _, _ = self.descend(tau, _ROUGHLY * settings.path_tolerance, steps)
        for tau in settings.tau_path:
            steps, _, state = self.descend(tau, settings.path_tolerance, steps)
            before, met = met, self.share_met(state.scaled)
            if (
                self.shares_met(state.scaled)
                or met - before < settings.least_gain
                or steps >= settings.max_iterations
            ):
                break
        steps, converged, state = self.descend(tau, settings.tolerance, steps)
        path_met = self.shares_met(state.scaled)
        return self.result(state, tau, steps, converged, path_met, time.perf_counter() - began)

    def share_met(self, scaled) -> float:
        """Share of the targets met, over the levels of which a share is asked; inf-free, rising as
        long as none is asked.
        """
        hit = total = 0
        for wanted, residual, used in zip(
            self.settings.share or (0.0,) * len(scaled), scaled, self.used, strict=True
        ):
            if wanted > 0:
                hit += int((residual[used].abs() <= self.settings.inside).sum())
                total += int(used.sum())
        return hit / total if total else float(len(self.trace))

    def shares_met(self, scaled) -> bool:
        if not self.settings.share:
            return False
        return all(
            self.level_share(r, u) >= w
            for w, r, u in zip(self.settings.share, scaled, self.used, strict=True)
        )

    def level_share(self, residual, used) -> float:
        """Share of one level's targets within ``inside`` scales; 1 where it has none."""
        count = int(used.sum())
        return float((residual[used].abs() <= self.settings.inside).sum()) / count if count else 1.0

    def descend(self, tau: float, tolerance: float, steps: int):
        """Damped Newton with chord steps at one tau until the largest scaled gradient is below
        tolerance.
        """
        state = self.start_at(tau)
        size = _largest(state.gradient)
        factor, kind = None, "start"
        while size > tolerance and steps < self.settings.max_iterations:
            if factor is None:
                factor = self.factorise(state, tau)
                self.factorisations += 1
                kind = "newton"
            direction = [-d for d in factor.solve(state.gradient)]
            accepted, candidate = self.line_search(
                state, direction, tau, max(_LEAVES_WITHIN * tolerance, _LEAVES_AHEAD * size), factor
            )
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
            factor, kind = (
                (factor, "chord")
                if new_size < self.settings.chord_rate * size
                else (None, "newton")
            )
            size = new_size
        self.path = [*self.path[-1:], (tau, self.y, self.shift)]
        return steps, size <= tolerance, state

    def start_at(self, tau: float) -> _State:
        """Where to start at a tau: what there is, or the last two solutions drawn out along log
        tau, where F is lower.
        """
        state = self.evaluate(self.y, tau, self.shift)
        if len(self.path) == 2 and tau < self.path[1][0] < self.path[0][0]:
            (tau0, y0, shift0), (tau1, y1, shift1) = self.path
            ahead = math.log(tau / tau1) / math.log(tau1 / tau0)
            y = [b + ahead * (b - a) for a, b in zip(y0, y1, strict=True)]
            guess = self.evaluate(y, tau, shift1 + ahead * (shift1 - shift0))
            if guess.dual < state.dual:
                self.y, self.shift, state = y, guess.shift, guess
        if not state.dual <= 0.0 and _largest(self.y):
            # F is 0 at y = 0: a start that is worse than none is not used.
            self.y, self.shift = [torch.zeros_like(a) for a in self.y], 0.0
            state = self.evaluate(self.y, tau)
        return state

    def factorise(self, state, tau):
        factor = self.blocks.factor(self.scaled_down(self.y), self.link_at(state.shift), tau)
        if not self.settings.hold_total:
            return factor
        # The matrix is the factor's - g g' / N with g the scaled totals: Sherman and Morrison.
        mean = [f * i for f, i in zip(state.fitted, self.inverse, strict=True)]
        return RankOneDown(factor, mean, self.blocks.prior_total)

    def line_search(self, state, direction, tau, leaf_tolerance: float, factor):
        slope = inner(state.gradient, direction)
        if slope >= 0:
            return False, None
        # What a full step adds to u on average does nothing where the total is held.
        common = (
            inner(state.fitted, self.scaled_down(direction)) / self.blocks.prior_total
            if self.settings.hold_total
            else 0.0
        )
        length = min(
            1.0, self.settings.longest_step / max(self.largest_rise(direction, common), 1e-300)
        )
        for _ in range(40):
            y = [a + length * d for a, d in zip(self.y, direction, strict=True)]
            if self.leaves is None:
                trial = self.evaluate(y, tau, self.shift - length * common)
            else:
                y[-1], fitted, potential = self.leaves.solve(
                    [*y[:-1], self.y[-1]],
                    length * direction[-1],
                    self.link,
                    tau,
                    leaf_tolerance,
                    factor,
                )
                trial = self.state(y, tau, fitted, potential)
            small = 1e-12 * max(1.0, abs(state.dual), self.blocks.prior_total, state.terms)
            if np.isfinite(trial.dual) and trial.dual <= state.dual + 1e-4 * length * slope + small:
                return True, (y, trial)
            length *= 0.5
        return False, None

    def largest_rise(self, direction, common: float) -> float:
        """Largest rise of u, beyond ``common``, a full step would bring to a pair whose weight
        would then matter.

        Only rises can overshoot: a weight on its way to zero, or still next to it after the step,
        does no harm however far it moves. Bounded ratios overshoot nothing, and leaves solved on
        their own look after themselves.
        """
        if self.bounded or self.leaves is not None:
            return 0.0
        return self.blocks.largest_rise(
            self.scaled_down(self.y), self.scaled_down(direction), _NEGLIGIBLE + self.shift, common
        )

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
        # Primal plus tau F collapses to half the squared gradient; written so, it does not suffer
        # cancellation.
        gap = 0.5 * sum(float((g * g).sum()) for g in gradient) / max(abs(primal), 1e-300)
        warnings = []
        if not converged:
            warnings.append(
                f"The solver stopped after {steps} steps with a largest scaled gradient of"
                f" {_largest(gradient):.2e}; the tolerance is {self.settings.tolerance:.0e}."
            )
        if self.settings.share and not path_met:
            reached = ", ".join(
                f"{name} {self.level_share(r, u):.4f} of {w:g} asked"
                for name, r, u, w in zip(
                    self.problem.tree.levels, scaled, self.used, self.settings.share, strict=True
                )
                if w > 0
            )
            warnings.append(
                "The share of targets met stopped rising before it reached what was asked, at tau"
                f" {tau:g}: {reached}."
            )
        status = "converged" if converged else "stopped before convergence"
        residuals = tuple(
            np.where(u.cpu().numpy(), (f - b).cpu().numpy(), np.nan)
            for f, b, u in zip(fitted, self.target, self.used, strict=True)
        )
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
        """Prior distance at the optimum's multipliers, by Legendre: sum of w u - q H(u), and sum of
        w u is that of fitted times D y.
        """
        return inner(state.fitted, self.scaled_down(self.y)) - state.potential


def _largest(per_level) -> float:
    return max((float(a.abs().max()) for a in per_level if a.numel()), default=0.0)
