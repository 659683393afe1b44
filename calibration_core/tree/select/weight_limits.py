"""Smallest and largest weights of selected pairs, each area's total kept.

A pair of a hundredth of a household is no household, and one that stands for half a tract is the
tract. Starting weights are brought within limits by moving what lies outside to the pairs that have
room, in proportion to their weights. The refit then keeps every weight within them by bounds on its
ratio to the starting weight (``PairProblem.ratio_bounds``), and totals are targets or stay soft as
ever.

An area may be too small: k pairs of at least ``smallest`` need a total of k times that. Its
smallest weight is then lowered to half its mean weight, and the area is named. A limit that leaves
no room either side of a starting weight keeps a sliver of it, so that the refit has something to
move.

Belongs here: limits on starting weights, bounds made of them. Does not belong here: the refit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.errors import SettingsError

# Starting weights keep this share of distance from a limit, so that a ratio of one is strictly
# inside its bounds.
_ROOM = 0.02


@dataclass(frozen=True)
class WeightLimits:
    """How small and how large the weight of a pair may be.

    Attributes
    ----------
    smallest : weight of any pair, in the unit of weights (households); 0 for none.
    largest_share : of its area's total that one pair may have; 1 for no limit. Where an area has
        few pairs, twice an even share is always allowed.

    Raises
    ------
    SettingsError : a limit that is negative, or a share outside (0, 1].
    """

    smallest: float = 0.0
    largest_share: float = 1.0

    def __post_init__(self) -> None:
        if not self.smallest >= 0 or not 0 < self.largest_share <= 1:
            raise SettingsError(
                f"The smallest weight is {self.smallest}, the largest share {self.largest_share}",
                expected="at least 0, and above 0 and at most 1",
            )


@dataclass(frozen=True, eq=False)
class Limited:
    """Attributes: ``weight`` (k,) float64 starting weights within the limits, totals of areas kept;
    ``ratio_bounds`` (k, 2) float64 for the refit, or None where none were asked; ``changed``: how
    many starting weights a limit moved; ``relaxed``: areas whose smallest weight was lowered.
    """

    weight: np.ndarray
    ratio_bounds: np.ndarray | None
    changed: int
    relaxed: tuple[int, ...]


def limited(
    weight: np.ndarray,
    leaf: np.ndarray,
    leaves: int,
    limits: WeightLimits | None,
    ratio_bounds: tuple[float, float] | None,
) -> Limited:
    """Apply ``limits`` to starting weights.

    Parameters
    ----------
    weight : (k,) float64 > 0; leaf : (k,) int64 area of each.
    ratio_bounds : the bounds every ratio has anyway; None leaves only the limits (and 0 to 1,000
        where there are none).
    """
    if limits is None or (limits.smallest == 0 and limits.largest_share == 1):
        return Limited(weight, None, 0, ())
    total, count = np.bincount(leaf, weight, leaves), np.bincount(leaf, minlength=leaves)
    mean = total / np.maximum(count, 1)
    low = np.minimum(limits.smallest, mean / 2)
    high = np.maximum(limits.largest_share * total, 2 * mean)
    relaxed = np.flatnonzero((count > 0) & (low < limits.smallest))
    new = _within(weight, leaf, leaves, low * (1 + _ROOM), high * (1 - _ROOM))
    wide = ratio_bounds or (0.0, 1000.0)
    bounds = np.column_stack(
        [np.maximum(wide[0], low[leaf] / new), np.minimum(wide[1], high[leaf] / new)]
    )
    return Limited(
        new,
        bounds,
        int((np.abs(new - weight) > 1e-9 * weight).sum()),
        tuple(int(t) for t in relaxed),
    )


def _within(
    weight: np.ndarray, leaf: np.ndarray, leaves: int, low: np.ndarray, high: np.ndarray
) -> np.ndarray:
    """Weights clipped to their area's limits; the rest of the area is scaled, and clipped again,
    until totals are what they were.
    """
    total = np.bincount(leaf, weight, leaves)
    fixed = np.zeros(weight.size, dtype=bool)
    new = weight.astype(np.float64, copy=True)
    for _ in range(200):
        held = np.bincount(leaf[fixed], new[fixed], leaves)
        free = np.bincount(leaf[~fixed], weight[~fixed], leaves)
        new[~fixed] = (weight * ((total - held) / np.where(free > 0, free, 1.0))[leaf])[~fixed]
        under, over = ~fixed & (new < low[leaf]), ~fixed & (new > high[leaf])
        if not under.any() and not over.any():
            break
        # Only the side that lacks, or exceeds, more in an area is fixed in one pass: fixing both
        # could leave no room for the total.
        lack = np.bincount(leaf[under], (low[leaf] - new)[under], leaves)
        excess = np.bincount(leaf[over], (new - high[leaf])[over], leaves)
        low_side = (lack >= excess)[leaf]
        hit = (under & low_side) | (over & ~low_side)
        new[hit] = np.where(under[hit], low[leaf[hit]], high[leaf[hit]])
        fixed |= hit
    return new
