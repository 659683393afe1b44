"""Exact Kullback-Leibler calibration (raking, multiplicative, exponential tilting), for margins and
amounts alike.

    minimise sum_i (1 / q_i) [w_i log(w_i / d_i) - w_i + d_i]  subject to A w = b;   w_i = d_i
    exp(q_i u_i)

Deville and Sarndal, JASA 87 (1992) 376-382, case 2; Deville, Sarndal and Sautory, JASA 88 (1993).
Weights stay positive. On margins it has the same solution as ``ipf``, reached by Newton's method.

Belongs here: this method. Does not belong here: the course all exact methods share
(``flat/solve/exact.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.distances import Raking
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
            "The problem has bounds and the method 'raking' holds none",
            expected="a problem without bounds",
            remedy="Use raking_bounded, or drop the bounds",
        )
    return calibrate_exactly(problem, "raking", Raking(), settings, progress)
