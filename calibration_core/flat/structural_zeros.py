"""Records that a target of zero empties: found before solving, because an exponential reaches zero
only at minus infinity.

Where b_j = 0 and no record can contribute less than nothing to it (a_ij >= 0, w_i >= 0), every
record with a_ij > 0 has weight zero in every solution. Setting it so is exact and leaves a problem
with finite multipliers.

Belongs here: finding and setting those zeros. Does not belong here: solving what is left.
"""

from __future__ import annotations

import numpy as np

from calibration_core.common.distances import BoundedRaking, Distance, Raking
from calibration_core.flat.problem import CalibrationProblem
from calibration_core.flat.result import CalibrationWarning


def without_structural_zeros(
    problem: CalibrationProblem, distance: Distance
) -> tuple[CalibrationProblem, tuple[CalibrationWarning, ...]]:
    """The problem with those initial weights set to zero, and a warning that counts them; unchanged
    where there are none.

    Only for exponential distances whose ratios may reach zero on every record concerned: others
    either get there by themselves (truncated linear) or not at all (logit, a positive lower bound),
    in which case the target is out of reach and is reported.
    """
    if not isinstance(distance, (Raking, BoundedRaking)):
        return problem, ()
    zero = np.flatnonzero(problem.targets == 0)
    if zero.size == 0:
        return problem, ()
    part = problem.matrix.take_targets(zero).by_record
    low = part.min(axis=0).toarray().ravel() if problem.matrix.is_sparse else part.min(axis=0)
    one_sided = low >= 0
    emptied = (
        np.asarray((part[:, one_sided] > 0).sum(axis=1)).ravel() > 0
        if one_sided.any()
        else np.zeros(problem.matrix.records, dtype=bool)
    )
    if isinstance(distance, BoundedRaking):
        emptied &= np.broadcast_to(np.asarray(distance.low) <= 0, emptied.shape)
    emptied &= problem.start > 0
    if not emptied.any() or emptied.sum() == np.count_nonzero(problem.start):
        return problem, ()
    names = tuple(problem.target_names[j] for j in zero[one_sided])
    text = (
        f"{int(emptied.sum()):,} records have weight zero in every solution, because a target they"
        f" contribute to is zero ({', '.join(names[:5])})"
    )
    warning = CalibrationWarning("records_emptied", text, names, float(emptied.sum()))
    return problem.change(initial_weights=np.where(emptied, 0.0, problem.start)), (warning,)
