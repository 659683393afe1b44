"""Standard errors of published cells, and how they pass through sums and products.

Belongs here: the four rules a target file can name, and error propagation on arrays. Does not
belong here: which column uses which rule (``data_specs/targets``), or the error of carrying a value
to another year (``carry.py``).

References: Census Bureau, *Understanding and Using ACS Data* (2020), chapter 8: a published margin
is 1.645 standard errors; the error of a sum is the root of the sum of squares; of a product, the
first-order (delta) approximation.
"""

from __future__ import annotations

import numpy as np

from pipeline.specs.targets import StandardErrorRule

MARGIN_90 = 1.645
"""Standard errors in a published 90 % margin; the one place that says so."""


def cell_standard_error(
    rule: StandardErrorRule, value: np.ndarray, margin: np.ndarray, controlled: np.ndarray
) -> np.ndarray:
    """Standard errors of cells, all arrays of one shape; NaN means unknown (variance infinite).

    ``value`` and ``margin`` (90 %) hold NaN where nothing is published; ``controlled`` marks cells
    without sampling error by design. A margin of zero is taken at its word: the cell is exact. A
    cell counted as zero by the ACS has a margin above zero and keeps it.
    """
    missing = np.isnan(value)
    if rule.rule == "acs_margin":
        error = np.where(controlled, 0.0, margin / MARGIN_90)
    elif rule.rule == "relative":
        error = np.maximum(rule.share * np.abs(value), rule.floor)
    elif rule.rule == "rounding":
        error = np.sqrt(rule.unit**2 / 12.0 + (rule.relative * value) ** 2)
    else:
        error = np.zeros_like(value)
    return np.where(missing, np.nan, error)


def sum_standard_error(errors: np.ndarray) -> np.ndarray:
    """Root of the sum of squares over the last axis; NaN if any part is unknown."""
    return np.sqrt(np.sum(errors**2, axis=-1))


def product_standard_error(
    a: np.ndarray, b: np.ndarray, error_a: np.ndarray, error_b: np.ndarray, scale: float = 1.0
) -> np.ndarray:
    """Standard error of ``scale * a * b`` to first order: |scale| sqrt((b s_a)^2 + (a s_b)^2),
    errors taken as independent.
    """
    return abs(scale) * np.sqrt((b * error_a) ** 2 + (a * error_b) ** 2)


def carried_standard_error(
    error: np.ndarray, factor: np.ndarray, carried: np.ndarray, relative_error: float
) -> np.ndarray:
    """The error scales with the factor; the uncertainty of carrying, a share of the carried value,
    is added in quadrature.
    """
    return np.sqrt((error * factor) ** 2 + (relative_error * carried) ** 2)
