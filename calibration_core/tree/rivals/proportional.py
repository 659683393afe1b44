"""Pairs with probability proportional to dense weight, unbalanced: the list is in random order, so
no cell or variable is spread.

    pi_i = min(1, c d_i), sum pi_i = k of the leaf;  randomised systematic draw (Hartley and Rao,
    Annals of Mathematical Statistics 33,
    1962, 350-374);  starting weight d_i / pi_i (Horvitz and Thompson, JASA 47, 1952, 663-685),
    then the refit

Belongs here: this method. Does not belong here: inclusion probabilities
(``sampling/allocation.py``), balanced draws (``sampling/``), the refit.
"""

from __future__ import annotations

import time

import numpy as np

from calibration_core.sampling.allocation import inclusion_probabilities
from calibration_core.tree.rivals.refit import refitted
from calibration_core.tree.rivals.task import PairOutcome, PairTask


def run(task: PairTask) -> PairOutcome:
    """Draw, weigh by Horvitz and Thompson, refit."""
    began = time.perf_counter()
    chosen, weights = [], []
    for leaf, count in enumerate(task.per_leaf):
        probability = inclusion_probabilities(task.dense[leaf], int(count))
        drawn = randomised_systematic(
            probability, int(count), np.random.default_rng([task.seed, leaf])
        )
        chosen.append(drawn)
        weights.append(task.dense[leaf, drawn] / probability[drawn])
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
    certain = np.flatnonzero(probability >= 1.0)
    open_ = np.flatnonzero((probability > 0) & (probability < 1.0))
    left = count - certain.size
    if left <= 0:
        return certain
    path = generator.permutation(open_)
    course = np.cumsum(probability[path])
    # The end is set to the count itself, so that rounding cannot cost a unit; each step is below
    # one, so no unit is met twice.
    course *= left / course[-1]
    course[-1] = left
    met = np.floor(course + generator.random())
    hit = np.diff(met, prepend=0.0) > 0
    short = left - int(hit.sum())
    if short > 0:
        # A step of one by rounding alone passed two points: the likeliest units not yet met make up
        # for it.
        spare = np.flatnonzero(~hit)
        hit[spare[np.argsort(-probability[path[spare]], kind="stable")[:short]]] = True
    return np.sort(np.concatenate([certain, path[hit]]))
