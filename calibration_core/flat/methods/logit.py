"""Deville and Sarndal's logit: a smooth distance under which ratios stay strictly between two
bounds.

    w_i = d_i G(q_i u_i),  G(u) = (low (high - 1) + high (1 - low) e^{Au}) / (high - 1 + (1 - low)
    e^{Au}),
    A = (high - low) / ((1 - low)(high - 1)),  low < 1 < high

Deville and Sarndal, JASA 87 (1992) 376-382, case 6. No weight sits on a bound. The bounds must
enclose one.

Belongs here: this method. Does not belong here: the course all exact methods share
(``flat/solve/exact.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

from calibration_core.common.distances import Logit
from calibration_core.flat.methods._bounds import ratio_limits
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationResult
from calibration_core.flat.solve.exact import ExactSettings, calibrate_exactly


@dataclass(frozen=True)
class Settings(ExactSettings):
    """See ExactSettings."""


def run(problem: CalibrationProblem, settings: Settings, progress=None) -> CalibrationResult:
    """Calibrate. Raises ProblemError without bounds, SettingsError if they do not enclose one;
    InfeasibleError in strict mode.
    """
    low, high = ratio_limits(problem, "logit", floor=0.0)
    return calibrate_exactly(problem, "logit", Logit(low, high), settings, progress)
