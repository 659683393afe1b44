"""Bounds of a problem as ratios to the initial weight. Belongs here: that conversion. Does not
belong here: methods.
"""

from __future__ import annotations

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.flat.problem import CalibrationProblem


def ratio_limits(
    problem: CalibrationProblem, method: str, *, floor: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) on w/d, each (records,); ``floor`` replaces a missing lower bound.

    Raises ProblemError if the problem has no bounds, or a weight bound that forbids zero on a
    record whose initial weight is zero (a ratio cannot move it).
    """
    if not problem.bounded:
        raise ProblemError(
            f"The method {method!r} was given no bounds",
            expected="ratio_bounds=(low, high) on w/d, or weight_bounds on w",
            remedy="Give bounds, or use a method without them (linear, raking)",
        )
    low, high = limits_around_zero(problem)
    start = problem.start
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.where(start > 0, low / start, 0.5), np.where(start > 0, high / start, 2.0)
    if floor is not None:
        low = np.where(np.isneginf(low), floor, low)
    return low, high


def limits_around_zero(problem: CalibrationProblem) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) on the weights, each (records,), zero where the initial weight is: no method
    revives a record. Raises ProblemError where a bound on the weight forbids zero there.
    """
    low, high = problem.limits
    zero = problem.start == 0
    stuck = zero & ((low > 0) | (high < 0))
    if stuck.any():
        raise ProblemError(
            f"{int(stuck.sum())} records have an initial weight of zero but a weight bound that "
            "forbids zero",
            where=f"record {problem.told_record(np.flatnonzero(stuck)[0])}",
            expected="a positive initial weight",
            remedy="Give it a positive initial weight",
        )
    return np.where(zero, 0.0, low), np.where(zero, 0.0, high)
