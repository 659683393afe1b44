"""Chi-square calibration, the generalised regression estimator (GREG).

    minimise sum_i (w_i - d_i)^2 / (2 d_i q_i)  subject to A w = b;   w_i = d_i (1 + q_i u_i), one
    linear system

Deville and Sarndal, JASA 87 (1992) 376-382, case 1. Weights may become negative; the result counts
them.

Belongs here: this method. Does not belong here: the course all exact methods share
(``flat/solve/exact.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.distances import Linear
from calibration_core.errors import ProblemError
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings."""


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Calibrate. Raises ProblemError if the problem has bounds, which this distance cannot hold;
    InfeasibleError in strict mode.
    """
    if problem.bounded:
        raise ProblemError(
            "The problem has bounds and the method 'linear' holds none",
            expected="a problem without bounds",
            remedy="Use truncated_linear, raking_bounded or logit, or drop the bounds",
        )
    return calibrate_exactly(problem, "linear", Linear(), settings, progress)
