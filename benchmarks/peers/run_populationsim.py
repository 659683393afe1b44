"""PopulationSim's list balancer, compiled by numba.

Settings: importance 1e9 for every control, so that it relaxes none to speak of; no bounds that
bind; up to 10,000 sweeps (its default). Amounts are divided by their mean size, which suits its
step; the answer does not depend on it. Its own stopping rule. Belongs here: the call. Does not
belong here: judging.
"""

import numpy as np
import protocol
from populationsim.balancing.balancers_numba import np_balancer_numba


def prepare(data):
    matrix, targets = data.dense(first_level_from=data.margins)
    scale = np.ones(targets.size)
    scale[data.margins * data.levels :] = np.abs(data.amounts).mean(axis=0)
    return np.ascontiguousarray((matrix / scale).T), targets / scale, data.weights.copy()


def solve(prepared):
    incidence, targets, weights = prepared
    records, importance = weights.size, np.full(targets.size, 1e9)
    none, all_ = np.zeros(records), np.full(records, float(1 << 31))
    out, _, status = np_balancer_numba(
        records,
        targets.size,
        -1,
        incidence,
        weights,
        none,
        all_,
        np.maximum(targets, 0.1),
        importance,
        10_000,
    )
    return out, status[0]


protocol.serve("populationsim", prepare, solve)
