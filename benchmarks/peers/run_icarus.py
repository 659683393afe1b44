"""python-icarus: linear, raking, logit and truncated linear by Newton's method on the expanded
matrix.

Settings: tolerance=1e-9, max_iter=100. A failure to converge is an exception there. Belongs here:
the call. Does not belong here: judging.
"""

import protocol
from pycarus import calibrate

METHODS = {
    "kl": "raking",
    "margins": "raking",
    "linear": "linear",
    "logit": "logit",
    "truncated": "truncated_linear",
}


def prepare(data):
    margins = data.controls() | {f"a{j}": float(v) for j, v in enumerate(data.amount_targets)}
    bounds = [data.low, data.high] if data.task in ("logit", "truncated") else None
    return data.frame(), margins, METHODS[data.task], bounds


def solve(prepared):
    frame, margins, method, bounds = prepared
    weights, result = calibrate(
        frame,
        margins,
        method=method,
        initial_weights_column="d",
        bounds=bounds,
        tolerance=1e-9,
        max_iter=100,
        verbose=False,
    )
    return weights, result.converged


protocol.serve("python-icarus", prepare, solve)
