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
    low, high = problem.limits
    start = problem.start
    stuck = (start == 0) & ((low > 0) | (high < 0))
    if stuck.any():
        i = int(np.flatnonzero(stuck)[0])
        raise ProblemError(
            f"{int(stuck.sum())} records have an initial weight of zero but a weight bound that"
            " forbids zero",
            where=f"record {i}",
            expected="a positive initial weight",
            remedy="Give it a positive initial weight",
        )
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.where(start > 0, low / start, 0.5), np.where(start > 0, high / start, 2.0)
    if floor is not None:
        low = np.where(np.isneginf(low), floor, low)
    return low, high
