"""What can be seen before solving. Belongs here: cheap looks at rows, targets and bounds. Does not belong here: linear programs."""

from __future__ import annotations

from calibration_core.calibration_problem import CalibrationProblem
from calibration_core.calibration_result import CalibrationWarning

IMPOSSIBLE = frozenset({"unsupported_target", "margin_totals_disagree", "dependent_targets_disagree", "outside_reach"})
IMPOSSIBLE_TOGETHER = frozenset({"margin_totals_disagree", "dependent_targets_disagree", "outside_reach"})


def inspect(problem: CalibrationProblem) -> tuple[CalibrationWarning, ...]:
    """Findings on the problem as it stands."""
    return ()
