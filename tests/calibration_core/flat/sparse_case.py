"""Problems that the tests of sparse methods make.

Belongs here: those problems. Does not belong here: tests.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from calibration_core import CalibrationProblem

FAST = {"hard_concrete": {"epochs": 120}, "reweighted_l1": {}, "random_subset": {}}


METHODS = sorted(FAST)


def invented(
    records: int = 60,
    margins: int = 2,
    amounts: int = 2,
    seed: int = 0,
    noise: float = 0.0,
    **fields,
) -> CalibrationProblem:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=(margins, records))
    rows = [(code == level).astype(float) for code in codes for level in range(3)]
    rows += [np.exp(rng.normal(size=records)) * 100 for _ in range(amounts)]
    matrix = sparse.csr_array(np.array(rows))
    design = rng.gamma(4.0, 5.0, size=records)
    targets = matrix @ (design * np.exp(0.2 * rng.normal(size=records)))
    return CalibrationProblem(
        matrix, targets * np.exp(noise * rng.normal(size=targets.size)), design, **fields
    )
