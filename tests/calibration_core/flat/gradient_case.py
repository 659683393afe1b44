"""Problems with conflicting targets.

Belongs here: those. Does not belong here: tests.
"""

from __future__ import annotations

import numpy as np

from calibration_core import CalibrationProblem


def conflicted(records: int = 60, seed: int = 3, **fields) -> CalibrationProblem:
    """Two margins whose totals disagree, three amounts that are off, and a target of zero on a
    signed row.
    """
    rng = np.random.default_rng(seed)
    rows = [rng.integers(0, 3, records) == k for k in range(3)] + [
        rng.integers(0, 2, records) == k for k in range(2)
    ]
    rows += [rng.lognormal(2.0, 0.7, records) for _ in range(3)] + [rng.normal(size=records)]
    matrix = np.array(rows, dtype=np.float64)
    start = rng.gamma(4.0, 0.5, records)
    targets = matrix @ start * np.exp(rng.normal(size=9) * 0.2)
    targets[8] = 0.0
    return CalibrationProblem(matrix, targets, start, **fields)
