"""Rounding to significant binary digits, so that the last bits of a solution cannot decide what is
chosen by it.

The last bits of dense or refitted weights depend on the processor, those of sums and powers too. A
draw or an exchange that looks at rounded numbers does not, unless a number lies within its own
error of the middle between two rounded ones. Of N numbers with relative error e, rounded to b bits,
about N e 2^b do: so what decides is rounded coarsely (``CHOICE_BITS``).

Belongs here: that rounding. Does not belong here: whole numbers from shares
(``sampling/rounding.py``).
"""

from __future__ import annotations

import numpy as np

# Weights and scales that decide which pair is chosen: to one part in 8,192. A total of a thousand
# weights so rounded errs by a few parts in a million. Dense weights differ between processors by
# 1e-12 or less: among 1.2 million (Rhode Island) one in a hundred runs sees one weight fall the
# other way.
CHOICE_BITS = 12
# Weights of places that records are compared at, to one part in 130,000: they are few (15,000 in
# Rhode Island), and tight totals are made of them.
PLACE_BITS = 16
# Sums of rounded numbers, which differ between processors by a few units of 2^-53.
SUM_BITS = 30


def rounded(values: np.ndarray, bits: int) -> np.ndarray:
    """(any shape) float64: values rounded to so many significant bits, halves to even; exact, so
    the same on every processor. Zeros, infinities and NaN stay what they are."""
    mantissa, exponent = np.frexp(np.asarray(values, dtype=np.float64))
    return np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)


def rounded_beside(values: np.ndarray, typical: float | np.ndarray, bits: int) -> np.ndarray:
    """Values rounded to so many significant bits of their ratio to ``typical`` > 0 (broadcast), so
    that values in another unit round to the same numbers in that unit. Rounding twice is rounding
    once."""
    unit = rounded(np.asarray(typical), SUM_BITS)
    return rounded(values / unit, bits) * unit


def to_choose_by(weights: np.ndarray, bits: int = CHOICE_BITS) -> np.ndarray:
    """Weights >= 0, (n,) or (areas, n) float64, each area's rounded beside their largest: what an
    area chooses by depends neither on other areas nor on the unit of weights."""
    weights = np.asarray(weights, dtype=np.float64)
    if not weights.size:
        return weights.copy()
    most = weights.max(axis=-1, keepdims=True)
    return rounded_beside(weights, np.where((most > 0) & np.isfinite(most), most, 1.0), bits)
