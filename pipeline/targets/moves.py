"""What reconciliation moved: published targets whose reconciled value lies far from what was
published.

Belongs here: the one rule for what counts as moved, for the asset's metadata, `geocal show` and its
JSON alike. Does not belong here: reconciling (``reconcile.py``) or printing.
"""

from __future__ import annotations

import polars as pl

LARGE_MOVE = 2.0
LEAST_MOVE = 1e-6
MOVED_COLUMNS = (
    "level",
    "geoid",
    "variable",
    "domain",
    "published_value",
    "published_standard_error",
    "margin_standard_error",
    "value",
    "adjustment_in_standard_errors",
    "source",
)


def moved(targets: pl.DataFrame) -> pl.DataFrame:
    """Published targets that reconciliation moved by more than two of their standard errors, the
    largest moves first, then exact ones that moved at all.

    A standard error is the published margin's where there is one, else
    ``published_standard_error``. A target whose published error is zero is exact: it has no errors
    to count in (``adjustment_in_standard_errors`` null) and is listed when it moved by more than a
    millionth of its value.
    """
    move = pl.col("value") - pl.col("published_value")
    # A margin of zero (a controlled figure) says nothing about the year it was carried to; the
    # error of carrying does.
    error = (
        pl.when(pl.col("margin_standard_error") > 0)
        .then("margin_standard_error")
        .otherwise("published_standard_error")
    )
    size = pl.when(error > 0).then(move / error)
    exact_moved = (error == 0) & (
        move.abs() > LEAST_MOVE * pl.max_horizontal(pl.col("published_value").abs(), pl.lit(1.0))
    )
    rows = targets.with_columns(size.alias("adjustment_in_standard_errors")).filter(
        (size.abs() > LARGE_MOVE).fill_null(False) | exact_moved
    )
    ordered = rows.sort(
        pl.col("adjustment_in_standard_errors").abs(),
        "level",
        "geoid",
        "variable",
        "domain",
        descending=[True, False, False, False, False],
        nulls_last=True,
    )
    return ordered.select(MOVED_COLUMNS)
