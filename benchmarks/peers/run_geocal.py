"""This project, by the same protocol: building the problem from a SciPy matrix is part of what is
timed.

TASK is "task/method", for example "kl/raking". Belongs here: our calls. Does not belong here: other
people's.
"""

import sys

import numpy as np
import protocol
from scipy import sparse

from calibration_core import CalibrationProblem, calibrate

TASK, _, METHOD = sys.argv[3].partition("/")
sys.argv[3] = TASK


def prepare(data):
    rows = (data.codes + np.arange(data.margins) * data.levels).T.ravel()
    columns = np.tile(np.arange(data.records), data.margins)
    indicators = sparse.csr_array(
        (np.ones(rows.size), (rows, columns)), shape=(data.margins * data.levels, data.records)
    )
    matrix = (
        sparse.vstack([indicators, sparse.csr_array(data.amounts.T)], format="csr")
        if data.amounts.size
        else indicators
    )
    targets = np.concatenate([data.margin_targets.ravel(), data.amount_targets])
    names = [f"m{j}: {k}" for j in range(data.margins) for k in range(data.levels)] + [
        f"a{j}" for j in range(data.amounts.shape[1])
    ]
    bounds = (data.low, data.high) if TASK in ("truncated", "logit", "bounded_kl") else None
    return matrix, targets, data.weights, names, bounds


def solve(prepared):
    matrix, targets, weights, names, bounds = prepared
    result = calibrate(
        CalibrationProblem(matrix, targets, weights, target_names=names, ratio_bounds=bounds),
        METHOD,
    )
    return result.weights, result.converged


protocol.serve("geocal", prepare, solve)
