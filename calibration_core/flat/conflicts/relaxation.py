"""How near weights in a box can come to all targets at once: one linear program, exact or with a
proved gap.

    e = min sum_f t_f + epsilon sum_j |z_j|   subject to   A w + s z = b,  |z_j| <= t_f(j),  low <=
    w <= high

One family f of all targets gives the smallest possible largest error, one family a margin the
margins that have to give. By duality, for every y with sum_{j in f} max(0, s_j |y_j| - epsilon) <=
1,

    e >= y.b - sum_i max(low_i u_i, high_i u_i),   u = A'y,

so any y proves a bound, whatever solver it came from; "infeasible" is only ever said with such a
proof. Up to ``DIRECT`` records the program goes to HiGHS (Huangfu and Hall, Math. Prog. Comp. 10,
2018) whole. Beyond, it is solved by column generation (Dantzig and Wolfe, Operations Research 8,
1960): records rest at weights of the least-squares compromise, those that the multipliers say would
gain most are freed, until the bound meets the value or time is up.

Belongs here: that program. Does not belong here: words, the search for bounds (``bounds.py``).
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from calibration_core.common.distances import BoundedRaking, Linear, Raking, TruncatedLinear
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.solve import compromise
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem

# Records up to which the whole program is handed over (measured: seconds at this size with 126
# targets).
DIRECT = 8_000
# Records freed in a round of column generation: this many at least, or this many a target.
_FREED, _FREED_A_TARGET = 500, 8
# Gap between value and bound at which the answer is complete, relative to the value, and as a share
# of the tolerance within which targets count as met.
GAP, _GAP_OF_TOLERANCE = 1e-4, 0.1
# HiGHS's feasibility tolerances: the least it takes. Its usual 1e-7 is more than a person in 10^8.
_SHARP = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
# Errors under which weights of a program are worth polishing, and how often.
_NEARLY_MET, _POLISHES = 1e-5, 3
# kappa (see ``flat/solve/compromise.py``) of multipliers that only have to prove something.
_COARSE = 1e-4


@dataclass(frozen=True, eq=False)
class Relaxation:
    """Outcome.

    Attributes
    ----------
    value : sum of t_f that ``weights`` need.
    proved : no weights in the box need less.
    complete : value and proof agree to the gap asked for.
    weights : (records,).
    errors : (rows,) z = (target - fitted) / s.
    multipliers : (rows,) y, in units of one over the target's.
    feasible : whether every target can be met within the tolerance; None where neither is shown.
    """

    value: float
    proved: float
    complete: bool
    weights: np.ndarray
    errors: np.ndarray
    multipliers: np.ndarray
    feasible: bool | None


class Program:
    """The targets ``rows`` (indices) of a problem, scaled: weights in units of the initial ones at
    the level of the targets, rows by their largest entry. Targets within ``tolerance`` are met.
    """

    def __init__(
        self, problem: CalibrationProblem, rows: np.ndarray, tolerance: float = LEAST_TOLERANCE
    ) -> None:
        self.problem, self.rows = problem, np.asarray(rows)
        # What a target may miss, in units of s: the tolerance is relative to the target itself.
        share = (problem.relative_scale / compromise.residual_scale(problem))[self.rows]
        self.slack = max(tolerance, LEAST_TOLERANCE) * share
        self.matrix = problem.matrix.take_targets(self.rows)
        live = problem.start > 0
        self.unit = np.where(live, problem.start, 1.0) * problem.level
        scaled = sparse.csr_array(
            sparse.diags_array(self.unit) @ sparse.csr_array(self.matrix.by_record)
        )
        top = np.zeros(self.rows.size)
        np.maximum.at(top, scaled.indices, np.abs(scaled.data))
        self.top = np.where(top > 0, top, 1.0)
        self.by_record = sparse.csr_array(scaled @ sparse.diags_array(1.0 / self.top))
        self.goal = problem.targets[self.rows] / self.top
        self.scale = compromise.residual_scale(problem)[self.rows] / self.top
        lowest = np.zeros(self.rows.size)
        np.minimum.at(lowest, self.by_record.indices, self.by_record.data)
        self.rising = lowest >= 0

    def bound(
        self,
        y: np.ndarray,
        low: np.ndarray,
        high: np.ndarray,
        families: np.ndarray,
        epsilon: float,
        value: float,
    ) -> float:
        """What multipliers y (scaled) prove; ``value`` is a value already reached, which limits
        weights that have no upper bound.
        """
        y = self.normalised(y, families, epsilon)
        u = self.by_record @ y
        rounding = 1e-11 * (abs(self.by_record) @ np.abs(y))
        end = np.where(u > 0, high, low)
        endless = np.flatnonzero(~np.isfinite(end) & (np.abs(u) > rounding))
        if endless.size:
            if (u[endless] < 0).any() or low.min() < 0:
                return 0.0
            end = end.copy()
            end[endless] = self._implied(endless, value)
            if not np.isfinite(end[endless]).all():
                return 0.0
        total = np.where(np.isfinite(end), end, 0.0) * u
        noise = 1e-14 * (float(np.abs(total).sum()) + float(np.abs(y * self.goal).sum()))
        return max(0.0, float(y @ self.goal) - float(total.sum()) - noise)

    def _implied(self, records: np.ndarray, value: float) -> np.ndarray:
        """Upper bounds on weights that rows of non-negative entries imply, all weights being
        non-negative.
        """
        room = np.where(self.rising, np.maximum(self.goal + value * self.scale, 0.0), np.inf)
        part = self.by_record[records]
        positive = part.data > 0
        with np.errstate(divide="ignore"):
            limit = np.where(
                positive, room[part.indices] / np.where(positive, part.data, 1.0), np.inf
            )
        out = np.full(records.size, np.inf)
        np.minimum.at(out, np.repeat(np.arange(records.size), np.diff(part.indptr)), limit)
        return out

    def normalised(self, y: np.ndarray, families: np.ndarray, epsilon: float) -> np.ndarray:
        size = self.scale * np.abs(y)
        over = np.bincount(families, np.maximum(size - epsilon, 0.0)).max(initial=0.0)
        # Shrinking y by 1 / over shrinks max(0, s |y| - epsilon) at least as much.
        return y / max(over, 1.0)

    def errors(self, x: np.ndarray) -> np.ndarray:
        """(rows,) z of weights x (scaled)."""
        return (self.goal - self.by_record.T @ x) / self.scale


def least_error(
    program: Program,
    low: np.ndarray,
    high: np.ndarray,
    families: np.ndarray | None = None,
    *,
    epsilon: float = 0.0,
    gap: float = GAP,
    seconds: float = 60.0,
) -> Relaxation:
    """Solve it.

    Parameters
    ----------
    program : targets and matrix.
    low, high : (records,) bounds on the weights, -inf and inf allowed.
    families : (rows,) integers f(j), 0 to F - 1; None for one family of all.
    epsilon : cost of each |z_j| beside its family's t.
    gap : share of the value that may stay unproved; only column generation stops early for it.
    seconds : wall-clock limit; what is known by then is returned, with ``complete`` false.
    """
    deadline = time.perf_counter() + seconds
    if families is None:
        families = np.zeros(program.rows.size, dtype=np.int64)
    search = _Search(program, low / program.unit, high / program.unit, families, epsilon, gap)
    search.run(deadline)
    return search.answer()


class _Search:
    """One program on its way: weights x and what they need, multipliers y and what they prove."""

    def __init__(self, program: Program, low, high, families, epsilon: float, gap: float) -> None:
        self.program, self.low, self.high = program, low, high
        self.families, self.epsilon, self.gap = np.asarray(families), epsilon, gap
        self.records = low.size
        self.value, self.proved = np.inf, 0.0
        if self.records <= DIRECT:
            self.free, y = np.arange(self.records), np.zeros(program.rows.size)
            self.reach(np.clip(1.0, low, high))
        else:
            x, y = _rest(program, low, high)
            self.reach(x)
            self.free = np.zeros(0, dtype=np.int64)
        self.best_y = y
        self.prove(y)
        self.batch = max(_FREED, _FREED_A_TARGET * program.rows.size)
        if self.records > DIRECT and not self.met:
            self.free = self.gainers(y)

    def reach(self, x: np.ndarray) -> None:
        """Take weights if they need no more."""
        errors = self.program.errors(x)
        value = _value(errors, self.families, self.epsilon)
        if value <= self.value:
            self.x, self.errors, self.value = x, errors, value

    def prove(self, y: np.ndarray) -> None:
        """Take multipliers if they prove as much."""
        bound = self.program.bound(y, self.low, self.high, self.families, self.epsilon, self.value)
        if bound >= self.proved:
            self.proved, self.best_y = bound, y

    @property
    def met(self) -> bool:
        return bool((np.abs(self.errors) <= self.program.slack).all())

    def near(self, gap: float, share: float) -> bool:
        """Whether value and proof are as near to one another as that."""
        return self.value - self.proved <= gap * self.value + share * self.program.slack.min()

    def run(self, deadline: float) -> None:
        while not self.met and not self.near(self.gap, _GAP_OF_TOLERANCE) and self.free.size:
            left = deadline - time.perf_counter()
            if left <= 0:
                break
            answer = _solve(self, left)
            # Out of time: what the compromise reaches and proves is worth more than nothing.
            x, y = answer if answer is not None else _rest(self.program, self.low, self.high)
            self.reach(x)
            for _ in range(_POLISHES if self.value <= _NEARLY_MET and not self.met else 0):
                self.reach(_polished(self.program, self.x, self.low, self.high))
            self.prove(y)
            if self.free.size == self.records or answer is None:
                break
            grown = self.gainers(y)
            if grown.size == self.free.size:
                break
            self.free = grown

    def gainers(self, y: np.ndarray) -> np.ndarray:
        """The free records and a batch of those beyond whose move to the end that y asks for would
        gain most.
        """
        u = self.program.by_record @ y
        with np.errstate(invalid="ignore"):
            gain = np.where(u > 0, (self.high - self.x) * u, (self.low - self.x) * u)
        gain = np.where(np.abs(u) > 1e-12, gain, 0.0)
        gain[self.free] = -1.0
        # Of records that gain alike the ones of large share first; without a gain none is added,
        # unless nothing is free yet.
        order = np.argsort(-gain, kind="stable")[: self.batch]
        if self.free.size:
            order = order[gain[order] > 0]
        return np.sort(np.concatenate([self.free, order]))

    def answer(self) -> Relaxation:
        program = self.program
        complete = self.met or self.near(max(self.gap, 10 * GAP), 10 * _GAP_OF_TOLERANCE)
        y = program.normalised(self.best_y, self.families, self.epsilon) / program.top
        weights = self.x * program.unit
        feasible = True if self.met else False if self.proved > program.slack.max() else None
        return Relaxation(self.value, self.proved, complete, weights, self.errors, y, feasible)


def _value(errors: np.ndarray, families: np.ndarray, epsilon: float) -> float:
    size = np.abs(errors)
    largest = np.zeros(int(families.max(initial=-1)) + 1)
    np.maximum.at(largest, families, size)
    return float(largest.sum() + epsilon * size.sum())


def _solve(search: _Search, seconds: float):
    """The program with the weights of ``search.free`` to choose and the others as they are: (x, y),
    or None if HiGHS ran out of time.
    """
    program, free, families = search.program, search.free, search.families
    m, k, f = program.rows.size, free.size, int(families.max()) + 1
    out = search.x.copy()
    out[free] = 0.0
    goal = program.goal - program.by_record.T @ out
    spread = sparse.diags_array(program.scale)
    own = sparse.csr_array((np.ones(m), (np.arange(m), families)), shape=(m, f))
    # Columns: weights, positive and negative parts of z, t. Rows: targets; z+ + z- <= t.
    equal = sparse.hstack(
        [program.by_record[free].T, spread, -spread, sparse.csr_array((m, f))], format="csc"
    )
    below = sparse.hstack(
        [sparse.csr_array((m, k)), sparse.eye_array(m), sparse.eye_array(m), -own], format="csc"
    )
    ends = np.column_stack([search.low[free], search.high[free]])
    deadline = time.perf_counter() + max(seconds, 0.1)
    # At its sharpest tolerances HiGHS may give up on a badly scaled problem; its usual ones do.
    for sharp in (_SHARP, {}):
        answer = linprog(
            np.concatenate([np.zeros(k), np.full(2 * m, search.epsilon), np.ones(f)]),
            A_ub=below,
            b_ub=np.zeros(m),
            A_eq=equal,
            b_eq=goal,
            bounds=np.vstack([ends, np.tile([0.0, np.inf], (2 * m + f, 1))]),
            method="highs",
            options={"time_limit": max(deadline - time.perf_counter(), 0.1), **sharp},
        )
        if answer.x is not None and answer.eqlin is not None and answer.eqlin.marginals is not None:
            out[free] = np.clip(answer.x[:k], search.low[free], search.high[free])
            return out, np.asarray(answer.eqlin.marginals)
    return None


def _polished(program: Program, x: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Weights whose last digits of error are taken out by the least move of those inside bounds."""
    room = np.minimum(np.minimum(x - low, high - x), 1.0)
    moves = np.where(room > 0, room, 0.0) ** 2
    part = sparse.diags_array(np.sqrt(moves)) @ program.by_record
    size = np.sqrt(np.asarray(part.multiply(part).sum(axis=0)).ravel())
    size = np.where(size > 0, size, 1.0)
    scaled = (part @ sparse.diags_array(1.0 / size)).toarray()
    left = program.goal - program.by_record.T @ x
    step = np.linalg.lstsq(scaled.T, left / size, rcond=1e-10)[0]
    return np.clip(x + np.sqrt(moves) * step, low, high)


def coarse_multipliers(
    program: Program, low: np.ndarray, high: np.ndarray, before: np.ndarray | None
) -> np.ndarray:
    """(rows,) multipliers of a least-squares compromise that is neither taken far nor solved well:
    cheap, and any multipliers prove something.

    ``before`` are those of a like box, to start from.
    """
    problem = program.problem
    scale, goal = compromise.residual_scale(problem)[program.rows], problem.targets[program.rows]
    distance = _distance(program, low / program.unit, high / program.unit)
    ridge = _COARSE / float(problem.start.sum()) * scale**2
    settings = DualSettings(tolerance=1e-3, max_iterations=25)
    dual = DualProblem(program.matrix, goal, problem.start, distance, scale, ridge=ridge)
    return solve_dual(dual, settings, multipliers=before).multipliers


def _distance(program: Program, low: np.ndarray, high: np.ndarray):
    """A distance whose weights fill the box (low and high in units of the program's weights)."""
    live = program.problem.start > 0
    low, high = low * program.problem.level, high * program.problem.level
    if np.isneginf(low[live]).all() and np.isposinf(high[live]).all():
        return Linear()
    if not low[live].any() and np.isposinf(high[live]).all():
        return Raking()
    if (low >= 0).all() and np.isfinite(high[live]).all():
        return BoundedRaking(np.where(live, low, 0.5), np.where(live, high, 2.0))
    return TruncatedLinear(np.where(live, low, 0.5), np.where(live, high, 2.0))


def _rest(program: Program, low: np.ndarray, high: np.ndarray):
    """Weights in the box (scaled) and multipliers (scaled) of the least-squares compromise: where
    column generation begins.
    """
    settings = DualSettings(tolerance=1e-9, max_iterations=60)
    answer = compromise.least_squares(
        program.problem, _distance(program, low, high), program.rows, settings
    )
    y = answer.multipliers[program.rows] * program.top
    total = float((program.scale * np.abs(y)).sum())
    return np.clip(answer.weights / program.unit, low, high), y / total if total > 0 else y
