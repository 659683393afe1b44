"""Pairs with probability proportional to dense weight, unbalanced: the list is in random order, so
no cell or variable is spread.

    pi_i = min(1, c d_i), sum pi_i = k of the leaf;  randomised systematic draw (Hartley and Rao,
    Annals of Mathematical Statistics 33,
    1962, 350-374);  starting weight d_i / pi_i (Horvitz and Thompson, JASA 47, 1952, 663-685),
    then the refit

Belongs here: this method. Does not belong here: inclusion probabilities
(``sampling/probabilities.py``), balanced draws (``sampling/``), the refit.
"""

from __future__ import annotations

import time

import numpy as np

from calibration_core.sampling.loops import draw_along
from calibration_core.sampling.probabilities import inclusion_probabilities
from calibration_core.tree.rivals.refit import refitted
from calibration_core.tree.rivals.task import PairOutcome, PairTask


def run(task: PairTask) -> PairOutcome:
    """Draw, weigh by Horvitz and Thompson, refit."""
    began = time.perf_counter()
    chosen, weights = [], []
    for leaf, count in enumerate(task.pairs_per_area):
        probability = inclusion_probabilities(task.pool.table[leaf], int(count))
        generator = np.random.default_rng([task.seed, leaf])
        drawn = randomised_systematic(probability, int(count), generator)
        chosen.append(drawn)
        weights.append(task.pool.table[leaf, drawn] / probability[drawn])
    return refitted(task, "proportional", chosen, weights, began)


def randomised_systematic(
    probability: np.ndarray, count: int, generator: np.random.Generator
) -> np.ndarray:
    """Ascending positions of exactly ``count`` units drawn along a list in random order.

    Parameters
    ----------
    probability : (units,) float64 in [0, 1], summing to ``count``. Units of probability one are in
        every draw.
    """
    path = generator.permutation(probability.size)
    return np.sort(path[draw_along(probability[path], count, generator.random())])
