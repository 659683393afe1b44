"""Second-order dual solver for hierarchical calibration: Newton on the block-arrow system, tau
followed downwards.

The problem of ``tree/problem.py`` has the smooth convex dual (divided by tau)

    F(y) = sum_i q_i H(u_i)  -  b' D y  +  tau/2 |y|^2 ,

    u = A' D y,   D = diag(1/s),   w_i = q_i G(u_i),   G = H' ,

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
2002; variable projection: Golub and Pereyra, SIAM Journal on Numerical Analysis 10, 1973). Steps
are taken jointly where the total is held, for then leaves depend on each other. So they are without
bounds on ratios: weights answer so steeply that leaves solved alone run away from the levels above
(65 factorisations for 27 on ``benchmarks.nested``). In a pool a pass over all records for a few
leaves would gain nothing.

tau is not chosen by hand: the solver follows ``tau_path`` downwards, each solution warm-starting
the next, to where a named rule ends it (``stopping.py``). Targets are fitted as closely as their
errors justify, and no closer, so that weights stay as near the prior as possible. Where targets
conflict the shares asked may be out of reach; then it stops when lowering tau gains less than
``least_gain`` of the targets.

Where prior weights and targets are far apart throughout (shares against persons, say), it sets out
from prior weights times the one factor that brings them together, as nearly as multipliers can.

Belongs here: the iteration. Does not belong here: F (``dual.py``), linear algebra (``arrow.py``),
passes over records (``pool_blocks.py``, ``pair_blocks.py``), what is said of the outcome
(``outcome.py``), rules that end the path (``stopping.py``).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from calibration_core.common import newton as rules
from calibration_core.common.threads import one_thread
from calibration_core.errors import SettingsError
from calibration_core.tree.problem import PairProblem, PoolProblem
from calibration_core.tree.result import PathPoint, Step, TreeNewtonResult, TreeNewtonSettings
from calibration_core.tree.solve.arrow import inner
from calibration_core.tree.solve.dual import Dual, Levels, State, largest
from calibration_core.tree.solve.leaf_newton import LeafNewton
from calibration_core.tree.solve.outcome import FAR_APART, Outcome, put_back, result_of
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.small_matrices import FactorisationError
from calibration_core.tree.solve.stopping import ended_at, path_point

__all__ = ["Step", "TreeNewtonResult", "TreeNewtonSettings", "calibrate_tree"]

# The tolerance of what only leads to the path, against that of the path.
_ROUGHLY = 100.0
# Leaves are solved to this share of the tolerance, or of the gradient before the step where that is
# more.
_LEAVES_WITHIN, _LEAVES_AHEAD = 0.3, 0.03
# Rounding of F against the size of its terms.
_SLACK = 1e-12
# Times that scales are widened at one tau at most; a few bring any float64 scale within limits.
_WIDENINGS = 10


@one_thread()
def calibrate_tree(
    problem: PoolProblem | PairProblem,
    settings: TreeNewtonSettings,
    *,
    start: tuple[np.ndarray, ...] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> TreeNewtonResult:
    """Weights near their prior that reproduce targets at every level of a tree:

        minimise_w   1/2 sum_j ((a_j.w - b_j) / s_j)^2
                     + tau sum_i [ w_i log(w_i / q_i) - w_i + q_i ]

    over pairs i of a record and a leaf; with ratio bounds the divergence of the logit method.

    Parameters
    ----------
    problem : targets, scales s and prior weights q: a ``PoolProblem``, in which every leaf may use
        every record, or a ``PairProblem`` of written-out pairs.
    settings : the path of tau and what ends it, bounds of w / q, tolerances.
    start : multipliers of an earlier result to start from; not used where they are worse than none.
    progress : called with a ``Step`` after each step of Newton's method.

    Returns
    -------
    TreeNewtonResult : read ``converged``, ``status`` and ``warnings`` before the weights. Targets
        that contradict each other are no error: they are shared out by their scales, and
        ``residuals`` has what is missed.

    Raises
    ------
    SettingsError : ``settings.share`` is neither empty nor one number per level; ``hold_total``
        with a problem that bounds its pairs' ratios.
    """
    if settings.share and len(settings.share) != len(problem.tree.levels):
        raise SettingsError(
            f"share has {len(settings.share)} entries",
            expected=f"one for each of the levels {', '.join(problem.tree.levels)}",
        )
    bounds = problem.ratio_bounds if isinstance(problem, PairProblem) else None
    if settings.hold_total and bounds is not None:
        raise SettingsError(
            "hold_total was asked for, and the problem bounds ratios",
            expected="one of the two",
            remedy="Make the total a target instead",
        )
    if isinstance(problem, PoolProblem) and not problem.in_order:
        ordered, order = problem.ordered()
        begin = None if start is None else (*start[:-1], np.asarray(start[-1])[order])
        return put_back(_Run(ordered, settings, begin, progress).solve(), problem, order)
    return _Run(problem, settings, start, progress).solve()


class _Run:
    def __init__(self, problem, settings, start, progress) -> None:
        self.settings, self.progress = settings, progress
        self.dual = dual = Dual(problem, settings)
        self.y, self.cold = dual.nothing(), start is None
        if start is not None:
            self.y = [dual.blocks.send(np.asarray(a) / dual.units.weight) for a in start]
        self.leaves = (
            LeafNewton(dual.blocks, dual.target[-1], settings.chord_rate, settings.longest_step)
            if isinstance(dual.blocks, PairBlocks) and dual.bounded
            else None
        )
        nested = self.leaves is not None
        automatic = (10.0 * settings.tau_path[0],) if nested and start is None else ()
        self.approach = automatic if settings.approach is None else settings.approach
        self.trace: list[Step] = []
        # The last two solutions along the path: tau, multipliers, shift.
        self.path: list[tuple[float, Levels, float]] = []
        self.steps, self.factorisations, self.shift = 0, 0, 0.0

    def solve(self) -> TreeNewtonResult:
        began = time.perf_counter()
        settings = self.settings
        if settings.hold_total and largest(self.y):
            self.shift = self.dual.settled_shift(self.y)
        self.bring_together()
        for tau in self.approach:
            self.descend(tau, _ROUGHLY * settings.path_tolerance)
        tau, points = self.follow_path()
        converged, state = self.descend(tau, settings.tolerance)
        outcome = Outcome(
            tau=tau,
            y=self.y,
            state=state,
            converged=converged,
            path_met=self.path_met(points, state),
            path=tuple(points),
            steps=self.steps,
            factorisations=self.factorisations,
            trace=tuple(self.trace),
        )
        return result_of(self.dual, outcome, time.perf_counter() - began)

    def follow_path(self) -> tuple[float, list[PathPoint]]:
        """tau where the rule of the settings ends the path, the multipliers near its solution; and
        what each tau on the way said of itself.
        """
        settings, points, met = self.settings, [], -math.inf
        for tau in settings.tau_path:
            _, state = self.descend(tau, settings.path_tolerance)
            points.append(path_point(self.dual, self.y, state, tau))
            end = ended_at(points, settings)
            if end is not None:
                return self.back_to(points, end), points
            before, met = met, self.share_met(state)
            stuck = settings.stop == "share" and met - before < settings.least_gain
            if stuck or self.steps >= settings.max_iterations:
                break
        return points[-1].tau, points

    def back_to(self, points: list[PathPoint], end: int) -> float:
        """tau of one of ``points``. Where that is the last but one its solution is taken up again,
        unless scales have changed since.
        """
        tau = points[end].tau
        if end < len(points) - 1 and len(self.path) == 2 and self.path[0][0] == tau:
            self.path = self.path[:1]
            _, self.y, self.shift = self.path[0]
        return tau

    def path_met(self, points: list[PathPoint], state: State) -> bool:
        """Whether the rule of the settings has what it asks for, at the end."""
        if self.settings.stop == "share":
            return self.shares_met(state)
        return ended_at(points, self.settings) is not None

    def bring_together(self) -> None:
        """Where the typical target is many times what prior weights give it, set out from weights
        multiplied by that factor, as nearly as multipliers can.
        """
        dual, tau, factor = self.dual, self.settings.tau_path[0], self.dual.units.factor
        free = self.cold and not dual.bounded and not self.settings.hold_total
        if not free or not max(factor, 1.0 / factor) > FAR_APART:
            return
        self.y = dual.hold_curvature(self.y, tau)
        state = dual.evaluate(self.y, tau)
        hessian = self.factorise(state, tau)
        if hessian is not None:
            # Least squares of u = log factor over the pairs, by their weights.
            pull = [
                math.log(factor) * f * i for f, i in zip(state.fitted, dual.inverse, strict=True)
            ]
            self.y = hessian.solve(pull)

    def share_met(self, state: State) -> float:
        """Share of the targets met, over the levels of which a share is asked; inf-free, rising as
        long as none is asked.
        """
        asked = self.settings.share or (0.0,) * len(state.fitted)
        counts = [n for n, wanted in zip(self.dual.met(state), asked, strict=True) if wanted > 0]
        total = sum(n for _, n in counts)
        return sum(hit for hit, _ in counts) / total if total else float(len(self.trace))

    def shares_met(self, state: State) -> bool:
        """Whether every level has the share asked; a level without targets has."""
        asked = self.settings.share
        return bool(asked) and all(
            hit / n >= wanted if n else True
            for (hit, n), wanted in zip(self.dual.met(state), asked, strict=True)
        )

    def descend(self, tau: float, tolerance: float) -> tuple[bool, State]:
        """Damped Newton with chord steps at one tau until the largest scaled gradient is below
        tolerance, or below what rounding leaves of it.
        """
        self.y = self.dual.hold_curvature(self.y, tau)
        state, factor, fresh, widened = self.start_at(tau), None, True, 0
        while not self.done(state, tolerance) and self.steps < self.settings.max_iterations:
            if factor is None:
                factor, fresh = self.factorise(state, tau), True
                if factor is None:
                    break
            direction = [-d for d in factor.solve(state.gradient)]
            eased = self.ease(direction) if fresh and widened < _WIDENINGS else None
            if eased is not None:
                # Earlier solutions were of other scales.
                self.y, self.path, widened = eased, [], widened + 1
                state, factor = self.start_at(tau), None
                continue
            leaves = max(_LEAVES_WITHIN * tolerance, _LEAVES_AHEAD * state.size)
            found = self.line_search(state, direction, tau, leaves, factor)
            self.steps += 1
            if found is None:
                if fresh:
                    break
                factor = None
                continue
            before, (self.y, state) = state.size, found
            self.shift = state.shift
            self.record(tau, "newton" if fresh else "chord", state)
            fresh = False
            if state.size >= self.settings.chord_rate * before:
                factor = None
        self.path = [*self.path[-1:], (tau, self.y, self.shift)]
        return self.done(state, tolerance), state

    def done(self, state: State, tolerance: float) -> bool:
        """Whether a step more would gain nothing."""
        return state.size <= max(tolerance, self.dual.noise(self.y, state))

    def factorise(self, state: State, tau: float):
        """A factor of the Hessian; None where it is not finite."""
        self.factorisations += 1
        try:
            return self.dual.factorise(self.y, state, tau)
        except FactorisationError:
            return None

    def ease(self, direction: Levels) -> Levels | None:
        """Multipliers after scales were widened that a full step would strain; None without."""
        ahead = [a + d for a, d in zip(self.y, direction, strict=True)]
        return self.dual.slacken(self.y, ahead)

    def start_at(self, tau: float) -> State:
        """Where to start at a tau: what there is, or the last two solutions drawn out along log
        tau, where F is lower.
        """
        dual = self.dual
        state = dual.evaluate(self.y, tau, self.shift)
        if len(self.path) == 2 and tau < self.path[1][0] < self.path[0][0]:
            (tau0, y0, shift0), (tau1, y1, shift1) = self.path
            ahead = math.log(tau / tau1) / math.log(tau1 / tau0)
            y = [b + ahead * (b - a) for a, b in zip(y0, y1, strict=True)]
            guess = dual.evaluate(y, tau, shift1 + ahead * (shift1 - shift0))
            if guess.dual < state.dual:
                self.y, self.shift, state = y, guess.shift, guess
        if not state.dual <= 0.0 and largest(self.y):
            # F is 0 at y = 0: a start that is worse than none is not used.
            self.y, self.shift = dual.nothing(), 0.0
            state = dual.evaluate(self.y, tau)
        return state

    def line_search(
        self, state: State, direction: Levels, tau: float, leaves: float, factor
    ) -> tuple[Levels, State] | None:
        """The first point along the direction where F is low enough; None where none is.
        ``leaves``: the tolerance of those that are solved on their own.
        """
        dual, slope = self.dual, inner(state.gradient, direction)
        if not slope < 0:
            return None
        # What a full step adds to u on average does nothing where the total is held.
        common = (
            inner(state.fitted, dual.scaled_down(direction)) / dual.total
            if self.settings.hold_total
            else 0.0
        )
        length = rules.step_length(self.rise(direction, common), self.settings.longest_step)
        slack = _SLACK * max(1.0, abs(state.dual), dual.total, state.terms)
        for _ in range(rules.HALVINGS):
            y = [a + length * d for a, d in zip(self.y, direction, strict=True)]
            if self.leaves is None:
                trial = dual.evaluate(y, tau, self.shift - length * common)
            else:
                at = [*y[:-1], self.y[-1]]
                y[-1], fitted, potential = self.leaves.solve(
                    at, length * direction[-1], dual.link, dual.strength(tau), leaves, factor
                )
                trial = dual.state(y, tau, fitted, potential)
            if math.isfinite(trial.dual) and rules.enough(
                state.dual, trial.dual, length * slope, slack
            ):
                return y, trial
            length *= 0.5
        return None

    def rise(self, direction: Levels, common: float) -> float:
        """Largest rise of u, beyond ``common``, a full step would bring to a pair whose weight
        would then matter.

        Only rises can overshoot: a weight on its way to zero, or still next to it after the step,
        does no harm however far it moves. Bounded ratios overshoot nothing, and leaves solved on
        their own look after themselves.
        """
        if self.dual.bounded or self.leaves is not None:
            return 0.0
        down = self.dual.scaled_down
        return self.dual.blocks.largest_rise(
            down(self.y), down(direction), rules.NEGLIGIBLE + self.shift, common
        )

    def record(self, tau: float, kind: str, state: State) -> None:
        loss = 0.5 * inner(state.scaled, state.scaled)
        step = Step(tau, kind, state.dual * self.dual.units.weight, loss, state.size)
        self.trace.append(step)
        if self.progress is not None:
            self.progress(step)
