"""Invented calibration problems that benchmarks share, each from a seed. No file is read, nothing
is real.

Belongs here: generators of problems. Does not belong here: timing, methods, plots.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from calibration_core import CalibrationProblem


def margins_and_amounts(
    records: int, margins: int = 24, levels: int = 5, amounts: int = 6, seed: int = 1
) -> CalibrationProblem:
    """Categorical margins and continuous totals of a skewed population, with targets of a different
    but reachable population.

    ``margins`` x ``levels`` 0/1 rows (each margin partitions the records, so all but one of their
    totals are redundant) and ``amounts`` heavy-tailed rows, some zero-inflated and one signed.
    Design weights are gamma. Targets are the totals of weights tilted by a smooth function of some
    of the variables, so that an exact answer exists at moderate ratios.
    """
    rng = np.random.default_rng(seed)
    latent = rng.normal(size=(records, 3))
    codes = np.empty((margins, records), dtype=np.int64)
    for j in range(margins):
        score = latent @ rng.normal(size=3) * 0.5 + rng.normal(size=records)
        cuts = np.quantile(score, np.sort(rng.dirichlet(np.full(levels, 8.0)).cumsum()[:-1]))
        codes[j] = np.searchsorted(cuts, score)
    rows = (codes + np.arange(margins)[:, None] * levels).ravel()
    columns = np.tile(np.arange(records), margins)
    indicators = sparse.csr_array(
        (np.ones(rows.size), (rows, columns)), shape=(margins * levels, records)
    )
    continuous = np.empty((amounts, records))
    for j in range(amounts):
        values = np.exp(rng.normal(size=records) * 0.8 + latent[:, j % 3] * 0.5 + 8 + j * 0.3)
        if j % 2:
            values[rng.random(records) < 0.4] = 0.0
        if j == amounts - 1:
            values -= values.mean() * 0.3
        continuous[j] = np.round(values)
    matrix = sparse.vstack([indicators, sparse.csr_array(continuous)], format="csr")
    design = rng.gamma(4.0, 25.0, size=records)
    tilt = np.exp(
        0.25 * latent[:, 0] - 0.2 * latent[:, 1] + 0.15 * (codes[0] == 1) - 0.1 * (codes[1] >= 3)
    )
    true = design * tilt * (1.02 / np.average(tilt, weights=design))
    names = [f"margin {j}: {k}" for j in range(margins) for k in range(levels)] + [
        f"amount {j}" for j in range(amounts)
    ]
    return CalibrationProblem(matrix, matrix @ true, design, target_names=names)
