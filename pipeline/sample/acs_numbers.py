"""How the ACS prints numbers: rounding, and the codes that stand where there is no number.

Belongs here: sentinels, estimates of columns, shares in percent. Does not belong here: the forms
(``acs_profile_files.py``, ``acs_files.py``, ``acs_s1901.py``), what a column counts.
"""

from __future__ import annotations

import numpy as np

from pipeline.sample.acs_columns import Column, Count, Ratio
from pipeline.sample.surveys import Estimate, Survey

NOT_APPLICABLE = "-888888888"
NO_ESTIMATE = "-666666666"
NO_MARGIN = "-222222222"
OPEN_MARGIN = "-333333333"
CONTROLLED = "-555555555"
MEDIAN_TOP = 250000


def estimate(survey: Survey, column: Column) -> Estimate:
    """The survey's estimate of a column, before rounding."""
    if isinstance(column, Count):
        return survey.total(column.x)
    if isinstance(column, Ratio):
        made = survey.ratio(column.top, column.bottom)
        return Estimate(made.value * column.scale, made.error * column.scale)
    return survey.median(column.values, column.unit, column.universe)


def number(value: float, decimals: int, missing: str) -> str:
    if not np.isfinite(value):
        return missing if decimals == 0 else f"{missing}.{'0' * decimals}"
    return f"{value:.{decimals}f}" if decimals else str(round(value))


def percent(part: Estimate, base: Estimate) -> tuple[np.ndarray, np.ndarray]:
    """Share in percent and its standard error, by the Bureau's formula for proportions (for ratios
    where the root would be negative).
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        share = part.value / base.value
        square = part.error**2 - (share * base.error) ** 2
        square = np.where(square < 0, part.error**2 + (share * base.error) ** 2, square)
        error = np.sqrt(square) / base.value
    return 100.0 * share, 100.0 * error
