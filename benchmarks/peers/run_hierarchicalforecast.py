"""Nixtla's hierarchicalforecast: MinTrace with one variance a series, dense or sparse, free or
non-negative.

    run_hierarchicalforecast.py DATA OUT FORM/SIGN REPEAT LIMIT     FORM dense or sparse, SIGN free
    or nonnegative

DATA holds ``parent_1``, ``parent_2``, ... (index of each area's parent, level by level), ``y`` and
``v`` (areas top level first, variables). The package estimates variances from residuals in a
sample; two residuals, sqrt(2 v) and 0, give it v in either form. It takes one variance a series, so
variables are reconciled one at a time.

Belongs here: this package's interface. Does not belong here: what is measured and how it is judged
(``protocol.py``, ``benchmarks/reconcile.py``).
"""

import sys
import time
import warnings
from pathlib import Path

import numpy as np
from protocol import finish, peak, reset_peak, resident
from scipy import sparse


def summing_matrix(parents: list[np.ndarray]) -> sparse.csr_matrix:
    """(areas, leaves) ones where a leaf lies in an area, top level first."""
    leaves = parents[-1].size
    index, blocks = np.arange(leaves), [sparse.identity(leaves, format="csr")]
    for parent in reversed(parents):
        index = parent[index]
        blocks.append(sparse.csr_matrix((np.ones(leaves), (index, np.arange(leaves)))))
    return sparse.vstack(blocks[::-1], format="csr")


def main() -> None:
    data, out, argument, repeat, limit = (
        sys.argv[1],
        sys.argv[2],
        sys.argv[3],
        int(sys.argv[4]),
        float(sys.argv[5]),
    )
    form, sign = argument.split("/")
    from hierarchicalforecast.methods import MinTrace, MinTraceSparse

    with np.load(data) as z:
        parents = [
            z[f"parent_{d}"] for d in range(1, sum(name.startswith("parent_") for name in z) + 1)
        ]
        y, v = z["y"], z["v"]
    matrix = summing_matrix(parents)
    matrix = matrix if form == "sparse" else matrix.toarray()
    kind = MinTraceSparse if form == "sparse" else MinTrace
    reset_peak()
    baseline, began, times, answer = resident(), time.perf_counter(), [], np.empty(y.shape)
    try:
        for _ in range(max(repeat, 1)):
            start = time.perf_counter()
            for j in range(y.shape[1]):
                residuals = np.column_stack([np.sqrt(2.0 * v[:, j]), np.zeros(y.shape[0])])
                method = kind("wls_var", nonnegative=sign == "nonnegative")
                found = method.fit_predict(
                    matrix, y[:, [j]], y_insample=residuals, y_hat_insample=np.zeros_like(residuals)
                )
                answer[:, j] = np.asarray(found["mean"]).reshape(-1)
            times.append(time.perf_counter() - start)
            if time.perf_counter() - began + times[-1] > 0.5 * limit:
                break
    except Exception as error:
        finish(
            {"error": f"{type(error).__name__}: {str(error).strip()[:300]}"},
            "hierarchicalforecast",
            "",
        )
        return
    np.save(Path(out), answer)
    finish(
        {
            "seconds": min(times),
            "first": times[0],
            "calls": len(times),
            "claims": None,
            "memory": peak() - baseline,
        },
        "hierarchicalforecast",
        "",
    )


if __name__ == "__main__":
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        main()
