"""ipfn on a data frame of records, one margin a dimension.

Settings: convergence_rate=1e-9, rate_tolerance=0 (so that it stops on the error and not on its
change), 500 sweeps (its default). Belongs here: the call. Does not belong here: judging.
"""

import pandas as pd
import protocol
from ipfn import ipfn


def prepare(data):
    frame = data.frame().rename(columns={"d": "total"})
    frame["record"] = range(len(frame))
    aggregates = [pd.Series(table, name="total") for table in data.controls().values()]
    for series, name in zip(aggregates, data.controls(), strict=True):
        series.index.name = name
    return frame, aggregates, [[name] for name in data.controls()]


def solve(prepared):
    frame, aggregates, dimensions = prepared
    out, converged = ipfn.ipfn(
        frame.copy(), aggregates, dimensions, convergence_rate=1e-9, rate_tolerance=0, verbose=1
    ).iteration()
    return out.sort_values("record")["total"].to_numpy(), converged == 1


protocol.serve("ipfn", prepare, solve)
