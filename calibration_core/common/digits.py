"""Rounding to significant digits, so that the last bits of a solution cannot decide what is chosen
by it.

The last bits of dense or refitted weights depend on the number of threads of the linear algebra and
on the processor; a draw or an exchange that looks at rounded weights does not.

Belongs here: that rounding. Does not belong here: whole numbers from shares
(``sampling/rounding.py``).
"""

from __future__ import annotations

import numpy as np


def significant(values: np.ndarray, digits: int) -> np.ndarray:
    """(any shape) float64: values >= 0 rounded to so many significant digits; zero stays zero."""
    with np.errstate(divide="ignore"):
        exponent = np.floor(np.log10(np.where(values > 0, values, 1.0)))
    factor = 10.0 ** (digits - 1 - exponent)
    return np.where(values > 0, np.round(values * factor) / factor, 0.0)
