"""Inclusion probabilities: proportional to weights, at most one, summing to a whole number.

Belongs here: that one rule, which every draw of this library starts from. Does not belong here: the
compiled pass behind it (``loops.py``), how many an area gets (``allocation.py``), draws.
"""

from __future__ import annotations

import numpy as np

from calibration_core.errors import BudgetError
from calibration_core.sampling.loops import capped


def inclusion_probabilities(weights: np.ndarray, count: int) -> np.ndarray:
    """(records,) float64: probabilities proportional to ``weights``, capped at one, that sum to
    ``count``; exactly zero where the weight is, exactly one where the share reaches 1 - 1e-9.

    Records whose share reaches one are certain; the rest share what remains (Tille, Sampling
    Algorithms, 2006, section 2.10).

    Parameters
    ----------
    weights : (records,) float64 >= 0.
    count : whole number of records wanted.

    Raises BudgetError if fewer than ``count`` records have positive weight.
    """
    weights = np.array(weights, dtype=np.float64)
    positive = int((weights > 0).sum())
    if positive < count:
        raise BudgetError(
            f"{count:,} records are asked for, but only {positive:,} of {weights.size:,} have a"
            " positive weight",
            expected=f"at most {positive:,}",
            remedy="Ask for fewer records, or give the others a positive initial weight",
        )
    probability = np.zeros(weights.size)
    capped(weights, int(count), probability)
    return probability
