"""The narrowest bounds under which all targets can be met, when the asked ones are too narrow.

The box is opened by a number theta, low_i - theta v_i and high_i + theta v_i (or one end alone), v
the initial weights (one for bounds on weights). Let e(theta) be the least error in the opened box:
it is convex, falls, and is zero from the wanted theta on. A program at theta gives multipliers y
with

    e(theta') >= y.b - sum_i max(low_i(theta') u_i, high_i(theta') u_i),   u = A'y,   for every
    theta',

so the root of the right-hand side is the next theta: Newton's method on e, from below, finite for
linear programs (Dinkelbach, Management Science 13, 1967). Each theta on the way is proved too
small.

Belongs here: that search and its words. Does not belong here: the program (``relaxation.py``).
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq

from calibration_core.flat.conflicts import relaxation
from calibration_core.flat.conflicts.relaxation import Program
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning

_WIDEST = 1e9
_MOST_STEPS = 60
# Share of the least error that the multipliers of a step need not prove.
_GAP = 0.5
# Error at which an opening that rounding lets grow no further is the narrowest for all that is
# told.
_CLOSE = 1e-5
# Relative progress under which coarse multipliers give way to those of the program.
_COARSE_GAIN = 3e-3


@dataclass(frozen=True)
class Opening:
    """How far bounds must open.

    Attributes
    ----------
    theta : the least opening found; inf if none suffices.
    complete : whether it is one at which every target can be met; else it is only proved that less
        does not suffice.
    """

    theta: float
    complete: bool


@dataclass(frozen=True)
class Uniform:
    """Bounds that are the same for every record: their ends, and whether they are ratios to the
    initial weight or weights.
    """

    low: float
    high: float
    ratio: bool


def uniform(problem: CalibrationProblem) -> Uniform | None:
    """The bounds of the problem as one pair of numbers; None if it has none, both kinds, or
    different ones for different records.
    """
    given = [b for b in (problem.ratio_bounds, problem.weight_bounds) if b is not None]
    if len(given) != 1:
        return None
    low, high = (x[problem.start > 0] for x in given[0])
    if low.min() != low.max() or high.min() != high.max():
        return None
    return Uniform(float(low[0]), float(high[0]), problem.ratio_bounds is not None)


@dataclass(frozen=True, eq=False)
class _Widening:
    """Bounds that open with theta; the fields are the arguments of ``opening``."""

    program: Program
    low: np.ndarray
    high: np.ndarray
    down: float
    up: float
    unit: np.ndarray

    def box(self, theta: float) -> tuple[np.ndarray, np.ndarray]:
        """The bounds at theta, each (records,)."""
        floor = np.where(self.low >= 0, 0.0, -np.inf)
        opened = theta * self.unit
        return np.maximum(self.low - self.down * opened, floor), self.high + self.up * opened

    def following(self, theta: float, y: np.ndarray) -> float:
        """The least opening beyond theta that multipliers y do not exclude; theta itself if they
        exclude nothing, inf if everything.
        """
        program = self.program
        u, gain = program.matrix.exponents(y), float(y @ program.problem.targets[program.rows])

        def proof(trial: float) -> float:
            a, b = self.box(trial)
            end = np.where(u > 0, b, a)
            return gain - float((np.where(np.isfinite(end), end, 0.0) * u).sum())

        if proof(theta) <= 0:
            return theta
        step = max(1e-6, theta)
        while proof(theta + step) > 0:
            step *= 2.0
            if step > _WIDEST:
                return math.inf
        return brentq(proof, theta, theta + step, xtol=1e-13, rtol=1e-14)


def opening(
    program: Program,
    low: np.ndarray,
    high: np.ndarray,
    down: float,
    up: float,
    unit: np.ndarray,
    deadline: float,
) -> Opening:
    """The least theta >= 0 at which weights in [low - theta down unit, high + theta up unit] meet
    every target.

    Parameters
    ----------
    low, high, unit : (records,) the asked bounds and what one unit of theta opens a record's bounds
        by.
    down, up : 1 or 0: which ends open.
    deadline : ``time.perf_counter()`` at which to stop.

    A lower bound that is not negative never opens below zero.
    """
    widening = _Widening(program, low, high, down, up, unit)
    box, following = widening.box, widening.following
    theta, y, coarse = 0.0, None, program.problem.matrix.records > relaxation.DIRECT
    for _ in range(_MOST_STEPS):
        left = deadline - time.perf_counter()
        if left <= 0:
            return Opening(theta, False)
        if coarse:
            # Any multipliers that prove something move theta on: far from the end the best ones are
            # not worth their time.
            y = relaxation.coarse_multipliers(program, *box(theta), y)
            trial = following(theta, y)
            coarse = math.isfinite(trial) and trial > theta * (1 + _COARSE_GAIN)
            if math.isfinite(trial):
                theta = trial
            continue
        answer = relaxation.least_error(program, *box(theta), gap=_GAP, seconds=left)
        if answer.feasible:
            return Opening(theta, True)
        trial = following(theta, answer.multipliers)
        if not math.isfinite(trial):
            return Opening(math.inf, True)
        if trial <= theta * (1 + 1e-12):
            return Opening(theta, bool(answer.value <= _CLOSE))
        theta = trial
    return Opening(theta, False)


def explain_bounds(
    problem: CalibrationProblem,
    program: Program,
    low: np.ndarray,
    high: np.ndarray,
    deadline: float,
) -> tuple[CalibrationWarning, ...]:
    """Findings on bounds that are too narrow for targets that could be met without them.

    Codes: ``bounds_too_narrow`` (size: the theta by which both ends must open),
    ``upper_bound_too_low`` (size: the least feasible upper end given the lower),
    ``lower_bound_too_high`` (size: the largest feasible lower end given the upper). Where bounds
    differ between records, the sizes are openings in initial weights.
    """
    pair = uniform(problem)
    by_ratio = pair is None or pair.ratio
    # Openings are searched for in units that are about one at the level of the targets.
    unit = np.where(problem.start > 0, problem.start if by_ratio else 1.0, 0.0) * problem.level
    now = time.perf_counter()
    ends = ((1, 1), (0, 1), (1, 0))
    both, upper, lower = (
        opening(program, low, high, *e, unit, now + (deadline - now) * (k + 1) / 3)
        for k, e in enumerate(ends)
    )
    cut: tuple[CalibrationWarning, ...] = ()
    if not (both.complete and upper.complete and lower.complete):
        text = (
            "The search for the narrowest bounds was stopped by its limit of time: narrower ones "
            "than those told are proved infeasible, these may be too"
        )
        cut = (CalibrationWarning("check_incomplete", text),)
    both, upper, lower = (replace(x, theta=x.theta * problem.level) for x in (both, upper, lower))
    if pair is None:
        return _opened(both, upper, lower) + cut
    return _Words(problem, pair).of(both, upper, lower) + cut


class _Words:
    """Openings of bounds that are the same for every record, in the caller's units."""

    def __init__(self, problem: CalibrationProblem, pair: Uniform) -> None:
        self.told = float if pair.ratio else problem.told_weight
        self.pair, self.low, self.high = pair, self.told(pair.low), self.told(pair.high)
        # Four decimals of a ratio; of a weight as many digits of the usual weight.
        usual = 1.0 if pair.ratio else problem.told_weight(float(problem.start.mean()))
        self.step = 1e-4 * 10.0 ** math.floor(math.log10(usual * problem.level))

    def of(self, both: Opening, upper: Opening, lower: Opening) -> tuple[CalibrationWarning, ...]:
        found = (self._both(both), self._upper(upper), self._lower(lower))
        return tuple(w for w in found if w is not None)

    def up(self, x: float) -> str:
        """Rounded up, so that the number said is itself feasible."""
        return f"{math.ceil(x / self.step - 1e-6) * self.step:.10g}"

    def down(self, x: float) -> str:
        return f"{math.floor(x / self.step + 1e-6) * self.step:.10g}"

    def lowered(self, theta: float) -> float:
        """The lower bound after opening by theta; one that was not negative stays so."""
        low = self.pair.low - theta
        return self.told(max(low, 0.0) if self.pair.low >= 0 else low)

    def _both(self, found: Opening) -> CalibrationWarning | None:
        if not math.isfinite(found.theta):
            return None
        kind = "" if self.pair.ratio else " on the weights"
        asked = f"Bounds {self.low:g} to {self.high:g}{kind} cannot be met"
        text = (
            f"{asked}; the narrowest feasible, both ends widened equally, are "
            f"{self.down(self.lowered(found.theta))} to "
            f"{self.up(self.told(self.pair.high + found.theta))}{_hedge(found)}"
        )
        if found.theta == 0:
            text = (
                f"{asked}, though without them every target can be; how far they must widen was "
                "not settled in time"
            )
        return CalibrationWarning("bounds_too_narrow", text, size=self.told(found.theta))

    def _upper(self, found: Opening) -> CalibrationWarning | None:
        given = f"With a lower bound of {self.low:g}"
        if not math.isfinite(found.theta):
            text = f"{given} no upper bound suffices: the lower must come down"
            return CalibrationWarning("upper_bound_too_low", text, size=math.inf)
        if found.theta == 0:
            return None
        least = self.told(self.pair.high + found.theta)
        text = f"{given} the upper must be at least {self.up(least)}{_hedge(found)}"
        return CalibrationWarning("upper_bound_too_low", text, size=least)

    def _lower(self, found: Opening) -> CalibrationWarning | None:
        given = f"With an upper bound of {self.high:g}"
        if not math.isfinite(found.theta):
            none = " that is not negative" if self.pair.low >= 0 else ""
            text = f"{given} no lower bound{none} suffices: the upper must go up"
            return CalibrationWarning("lower_bound_too_high", text, size=-math.inf)
        if found.theta == 0:
            return None
        most = self.down(self.lowered(found.theta))
        text = f"{given} the lower must be at most {most}{_hedge(found)}"
        reached = self.told(self.pair.low - found.theta)
        return CalibrationWarning("lower_bound_too_high", text, size=reached)


def _opened(both: Opening, upper: Opening, lower: Opening) -> tuple[CalibrationWarning, ...]:
    texts = (
        (
            "bounds_too_narrow",
            "The bounds cannot be met; they can if both ends of every record open by",
            "nor if both ends open",
            both,
        ),
        (
            "upper_bound_too_low",
            "They can if every upper bound goes up by",
            "Raising the upper bounds alone does not suffice",
            upper,
        ),
        (
            "lower_bound_too_high",
            "They can if every lower bound comes down by",
            "Lowering the lower bounds alone does not suffice",
            lower,
        ),
    )
    out = []
    for code, words, without, found in texts:
        text = (
            f"{words} {_up(found.theta)} of its initial weight{_hedge(found)}"
            if math.isfinite(found.theta)
            else without
        )
        out.append(CalibrationWarning(code, text, size=found.theta))
    return tuple(out)


def _hedge(found: Opening) -> str:
    return "" if found.complete else ", or wider still (the search was stopped there)"


def _up(x: float) -> str:
    """Rounded up at the fourth decimal, so that the number said is itself feasible."""
    return f"{math.ceil(x * 1e4 - 1e-6) / 1e4:.10g}"
