"""The records that a method may choose from.

Belongs here: what no method that chooses records may choose. Does not belong here: choosing.
"""

from __future__ import annotations

from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.conflicts.precheck import without
from calibration_core.flat.implied_zeros import implied_zeros
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning
from calibration_core.flat.solve.exact import no_initial_weights


def usable(problem: CalibrationProblem) -> tuple[CalibrationProblem, list[CalibrationWarning]]:
    """The problem with a zero initial weight for every record that can only weigh zero, and what
    is to be said of it.

    A record of zero initial weight is never kept. One that the targets leave no weight
    (``implied_zeros.py``) would be kept in vain.
    """
    low = problem.limits[0].clip(min=0.0)
    found = implied_zeros(problem, low, LEAST_TOLERANCE)
    warnings = [f.warning for f in found if f.records.any()]
    if problem.initial_weights is None:
        warnings.append(no_initial_weights(problem))
    return without(problem, [f.records for f in found]), warnings
