"""leafblower: categorical margins only; ``newton_kl`` is exact Kullback-Leibler by Newton,
``raking`` sweeps.

Settings: convergence to 1e-9 on the largest error, no upper bound on weights that could bind, up to
5,000 iterations. Belongs here: the call. Does not belong here: judging.
"""

import sys

import protocol
from leafblower import harvest

TASK, _, METHOD = sys.argv[3].partition("/")
sys.argv[3] = TASK


def prepare(data):
    shares = {
        name: {level: value / data.total for level, value in table.items()}
        for name, table in data.controls().items()
    }
    return data.frame(), shares, data.weights, data.total / data.records


def solve(prepared):
    frame, shares, weights, scale = prepared
    out = harvest(
        frame,
        shares,
        start_weights=weights,
        method=METHOD,
        max_weight=1e6,
        max_iterations=5000,
        convergence={"absolute": 1e-9},
        attach_weights=False,
    )
    return out["weights"] * scale, out["result"]["status"] == 0


protocol.serve("leafblower", prepare, solve)
