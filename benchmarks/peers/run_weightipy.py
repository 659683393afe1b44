"""weightipy: rim weighting. It takes no initial weights, so its answer is another one; only how
well it meets the targets can be compared.

Settings: convcrit=1e-9 in place of 0.01, 1,000 sweeps (its default). Belongs here: the call. Does
not belong here: judging.
"""

import protocol
import weightipy as wp


def prepare(data):
    percent = {
        name: {level: 100.0 * value / data.total for level, value in table.items()}
        for name, table in data.controls().items()
    }
    scheme = wp.scheme_from_dict(percent, name="s", rim_params={"convcrit": 1e-9})
    return data.frame(), scheme, data.total / data.records


def solve(prepared):
    frame, scheme, scale = prepared
    return wp.weight(frame, scheme).to_numpy() * scale, None


protocol.serve("weightipy", prepare, solve, note="ignores initial weights")
