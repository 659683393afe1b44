"""cvxpy with Clarabel: the Kullback-Leibler (or chi-square) problem written out as it stands,
redundant rows left out.

Settings: Clarabel's defaults (1e-8). The problem is written with ratios w/d, which conditions it
better. Belongs here: the call. Does not belong here: judging.
"""

import cvxpy as cp
import numpy as np
import protocol
from scipy import sparse


def prepare(data):
    matrix, targets = data.dense()
    scale = np.maximum(np.abs(targets), 1.0)
    return (
        sparse.csr_matrix((matrix * data.weights[:, None] / scale).T),
        targets / scale,
        data.weights,
        data.task,
        (data.low, data.high),
    )


def solve(prepared):
    matrix, targets, weights, task, (low, high) = prepared
    ratio = cp.Variable(weights.size)
    share = weights / weights.mean()
    if task in ("kl", "margins"):
        objective = cp.sum(cp.multiply(share, cp.kl_div(ratio, np.ones(weights.size))))
    else:
        objective = cp.sum(cp.multiply(share, cp.square(ratio - 1)))
    bounds = [ratio >= low, ratio <= high] if task == "truncated" else []
    problem = cp.Problem(cp.Minimize(objective), [matrix @ ratio == targets, *bounds])
    problem.solve(solver=cp.CLARABEL)
    return ratio.value * weights, problem.status == "optimal"


protocol.serve("cvxpy", prepare, solve)
