"""Pairs by simple random sampling: every record with dense weight in a leaf has the same chance
there. What any method must beat.

    starting weight = dense total of the leaf / pairs of the leaf,   then the refit

Belongs here: this method. Does not belong here: the refit.
"""

from __future__ import annotations

import time

import numpy as np

from calibration_core.tree.rivals.refit import refitted
from calibration_core.tree.rivals.task import PairOutcome, PairTask


def run(task: PairTask) -> PairOutcome:
    """Draw without replacement, weigh equally, refit."""
    began = time.perf_counter()
    chosen = []
    for leaf, count in enumerate(task.pairs_per_area):
        generator = np.random.default_rng([task.seed, leaf])
        chosen.append(
            np.sort(
                generator.choice(
                    np.flatnonzero(task.pool.table[leaf] > 0), size=int(count), replace=False
                )
            )
        )
    return refitted(task, "random", chosen, [np.ones(c.size) for c in chosen], began)
