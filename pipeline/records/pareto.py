"""A Pareto distribution cut at both ends, from the count and the sum of a class.

Belongs here: its index from a mean, and the means of parts of it. Does not belong here: who gets
them (``top_tail.py``), or weights.

Between L and H (H may be infinite) with index a, the share above x and the value above which a
share s lies are

    S(x) = (x^-a - H^-a) / (L^-a - H^-a),      Q(s) = (s (L^-a - H^-a) + H^-a)^(-1/a)

and the mean of the part between shares s and t is the integral of Q over it, divided by t - s. The
index is the one whose mean is the class's (Arnold 2015, "Pareto Distributions", chapter 3). For an
open class it is m / (m - L) with the class's mean m.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.errors import RecordsError

_EXPONENT = 500.0
"""Largest power of e that is formed in the search; the mean is then within 1/500 of an end."""
_STEPS = 200
_AWAY = 1e-7
"""Kept from 0 and 1, where the formulas have gaps; moves a mean by less than 1e-6 of itself."""


def pareto_index(low: float, high: float, mean: float) -> float:
    """The index a of a class between ``low`` and ``high`` (dollars; infinity for an open class)
    with ``mean``.

    Raises RecordsError if the mean does not lie inside the class.
    """
    if not low < mean < high:
        raise RecordsError(
            f"The mean of a class is {mean:,.0f} dollars",
            where=f"class from {low:,.0f} to {high:,.0f} dollars",
            expected="a mean inside the class",
            remedy="Check count and sum of the class in the published table",
        )
    if math.isinf(high):
        return mean / (mean - low)
    top = _EXPONENT / math.log(high / low)
    bottom = -top
    for _ in range(_STEPS):
        middle = (bottom + top) / 2
        if part_means(low, high, middle, np.array([0.0, 1.0]))[0] > mean:
            bottom = middle
        else:
            top = middle
    return (bottom + top) / 2


def part_means(low: float, high: float, index: float, shares: np.ndarray) -> np.ndarray:
    """Means of the parts between neighbouring ``shares`` (0 upwards to 1, from the top), dollars,
    float64 (parts,). The first part is the highest.
    """
    a = index if min(abs(index), abs(index - 1)) > _AWAY else index + 2 * _AWAY
    # In units of the lower end, so that powers stay within reach.
    end = 0.0 if math.isinf(high) else (high / low) ** -a
    width = 1.0 - end
    power = 1.0 - 1.0 / a
    reached = (shares * width + end) ** power / (power * width)
    return low * np.diff(reached) / np.diff(shares)
