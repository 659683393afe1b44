"""Chi-square calibration with weights held between bounds: truncated linear.

    minimise sum_i (w_i - d_i)^2 / (2 d_i q_i)  subject to A w = b, low_i <= w_i / d_i <= high_i;
    w_i = d_i clip(1 + q_i u_i, low_i, high_i)

Deville and Sarndal, JASA 87 (1992) 376-382, case 7. Bounds may be any, also such that exclude the
initial weight itself; weights sit on them.

Belongs here: this method. Does not belong here: the course all exact methods share
(``flat/solve/exact.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.distances import TruncatedLinear
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
    low, high = ratio_limits(problem, "truncated_linear")
    return calibrate_exactly(
        problem, "truncated_linear", TruncatedLinear(low, high), settings, progress
    )
