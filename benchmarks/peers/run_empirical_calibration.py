"""empirical_calibration: entropy balancing to means, by SciPy's fsolve on the dual.

Settings: objective ENTROPY with the design weights as baseline, autoscale=True (its advice for
numerical stability), exact balance (l2_norm=0). Its weights sum to one; they are multiplied by the
population. Belongs here: the call. Does not belong here: judging.
"""

import empirical_calibration as ec
import protocol


def prepare(data):
    matrix, targets = data.dense(first_level_from=0)
    return matrix, (targets / data.total)[None, :], data.weights, data.total


def solve(prepared):
    matrix, means, weights, total = prepared
    out, success = ec.calibrate(
        matrix, means, baseline_weights=weights, autoscale=True, objective=ec.Objective.ENTROPY
    )
    return out * total, success


protocol.serve("empirical_calibration", prepare, solve)
