"""How unequal weights are: effective sample size, design effect, the largest weights and their
shares.

Belongs here: figures of a list of weights, given whole or in blocks. Does not belong here: what the
weights reproduce (``tree/totals.py``), or the distributions they stand for
(``weighted_distribution.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields

import numpy as np

TOP_SHARE = 0.01


def effective_sample_size(weights: np.ndarray) -> float:
    """Kish's (sum w)^2 / sum w^2 of weights of any shape; zero where all of them are."""
    square = float((weights**2).sum())
    return float(weights.sum()) ** 2 / square if square > 0 else 0.0


@dataclass(frozen=True, eq=False)
class WeightShape:
    """Figures of the positive weights of each area; every attribute has shape (areas,). Zero
    weights count nowhere.

    Attributes
    ----------
    count : int64 number n of positive weights.
    total : float64 sum of weights.
    ess : float64 effective sample size (sum w)^2 / sum w^2 (Kish, Survey Sampling, 1965, section
        11.7).
    design_effect : float64 1 + cv^2 = n / ess, where cv is the weights' coefficient of variation
        (Kish, J. Official Statistics 8, 1992).
    largest, smallest : float64 weights.
    largest_share : float64 share of the total that the largest weight carries.
    top_share : float64 share of the total that the heaviest 1 % of the weights carry; they are
        round(n / 100), at least one.

    All but ``count`` and ``total`` are NaN in an area without a positive weight.
    """

    count: np.ndarray
    total: np.ndarray
    ess: np.ndarray
    design_effect: np.ndarray
    largest: np.ndarray
    smallest: np.ndarray
    largest_share: np.ndarray
    top_share: np.ndarray

    @classmethod
    def of(cls, areas: Sequence[Callable[[], Iterable[np.ndarray]]]) -> WeightShape:
        """One row per area. Each area is a function that yields its weights in blocks, float64
        >= 0; it is called three times, and at no time is more than a block and two of every hundred
        weights held.
        """
        rows = [_figures(blocks) for blocks in areas]
        columns = zip(*rows, strict=True) if rows else [()] * len(fields(cls))
        return cls(
            *(
                np.array(column, dtype=np.int64 if i == 0 else np.float64)
                for i, column in enumerate(columns)
            )
        )


def _figures(blocks: Callable[[], Iterable[np.ndarray]]) -> tuple[float, ...]:
    count, largest, smallest = 0, 0.0, np.inf
    for block in blocks():
        positive = block[block > 0]
        if positive.size:
            count += positive.size
            largest, smallest = (
                max(largest, float(positive.max())),
                min(smallest, float(positive.min())),
            )
    if not count:
        return (0, 0.0, *[np.nan] * 6)
    # In units of the largest, so that no square leaves the range of floating point.
    total, squares = 0.0, 0.0
    for block in blocks():
        ratio = block / largest
        total += float(ratio.sum())
        squares += float(ratio @ ratio)
    ess = total**2 / squares
    top = _sum_of_largest(blocks(), max(1, round(TOP_SHARE * count))) / largest
    return count, total * largest, ess, count / ess, largest, smallest, 1.0 / total, top / total


def _sum_of_largest(blocks: Iterable[np.ndarray], wanted: int) -> float:
    """Sum of the ``wanted`` largest entries, keeping no more than twice as many and a block."""
    kept, least = np.empty(0), 0.0
    for block in blocks:
        kept = np.concatenate([kept, block[block > least]])
        if kept.size > 2 * wanted:
            kept = np.partition(kept, kept.size - wanted)[-wanted:]
            least = float(kept.min())
    if kept.size > wanted:
        kept = np.partition(kept, kept.size - wanted)[-wanted:]
    return float(np.sort(kept).sum())
