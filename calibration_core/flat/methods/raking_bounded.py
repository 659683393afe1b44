"""Kullback-Leibler calibration with weights held between bounds.

    minimise sum_i (1 / q_i) [w_i log(w_i / d_i) - w_i + d_i]  subject to A w = b, low_i <= w_i /
    d_i <= high_i;   w_i = d_i clip(exp(q_i u_i), low_i, high_i)

Deville and Sarndal, JASA 87 (1992) 376-382, the exponential distance restricted as in case 7.
Weights sit on the bounds where they bind and follow the exponential elsewhere. A lower bound under
zero is the same as zero.

Belongs here: this method. Does not belong here: the course all exact methods share
(``flat/solve/exact.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.distances import BoundedRaking
from calibration_core.flat.methods._bounds import ratio_limits
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings."""


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Calibrate. Raises ProblemError if the problem has no bounds; InfeasibleError in
    strict mode.
    """
    low, high = ratio_limits(problem, "raking_bounded", floor=0.0)
    return calibrate_exactly(
        problem, "raking_bounded", BoundedRaking(low.clip(min=0.0), high), settings, progress
    )
