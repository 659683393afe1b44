"""What reconciliation moved: published targets whose reconciled value lies far from what was
published.

Belongs here: the one rule for what counts as moved, for the asset's metadata, `geocal show` and its
JSON alike, and the size at which a state stops. Does not belong here: reconciling
(``reconcile.py``) or printing.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from pipeline.errors import TargetError
from pipeline.specs.profiles import AcceptedMove
from pipeline.vocabulary import CALIBRATE, VARIABLE_KEY

LARGE_MOVE = 2.0
STOPPING_MOVE = 5.0
"""Standard errors. Independent normal errors reach it once in 1.7 million figures; a state has up
to 100,000."""
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

    A standard error is that of the figure in the target year, as reconciliation takes it:
    ``published_standard_error`` (the margin's and, where the figure was carried, the error of
    carrying) and the concept error, in quadrature. A target whose error is zero is exact: it has no
    errors to count in (``adjustment_in_standard_errors`` null) and is listed when it moved by more
    than a millionth of its value.
    """
    return _beyond(targets, LARGE_MOVE)


def _beyond(targets: pl.DataFrame, limit: float) -> pl.DataFrame:
    """Rows that moved by more than ``limit`` standard errors, the largest moves first."""
    move = pl.col("value") - pl.col("published_value")
    concept = pl.col("concept_error").fill_null(0.0)
    error = (pl.col("published_standard_error") ** 2 + concept**2).sqrt()
    size = pl.when(error > 0).then(move / error)
    exact_moved = (error == 0) & (
        move.abs() > LEAST_MOVE * pl.max_horizontal(pl.col("published_value").abs(), pl.lit(1.0))
    )
    rows = targets.with_columns(size.alias("adjustment_in_standard_errors")).filter(
        (size.abs() > limit).fill_null(False) | exact_moved
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


def refuse_large_moves(targets: pl.DataFrame, accepted: Iterable[AcceptedMove], state: str) -> None:
    """Stop a state whose sources contradict each other.

    ``targets`` : the reconciled target table of one state; ``accepted`` : moves that the profile
    takes, by name and reason. Raises TargetError if a figure that calibrates was moved by more than
    ``STOPPING_MOVE`` of its standard errors (an exact one: at all), naming its source and those of
    the same variable at the other levels.
    """
    far = _beyond(targets.filter(pl.col("role") == CALIBRATE), STOPPING_MOVE)
    for move in accepted:
        taken = (pl.col("variable") == move.variable) & (pl.col("domain") == move.domain)
        taken &= pl.col("level") == move.level
        if move.geoids:
            taken &= pl.col("geoid").is_in(list(move.geoids))
        far = far.filter(~taken)
    if far.is_empty():
        return
    first = far.row(0, named=True)
    same = pl.all_horizontal(pl.col(name) == first[name] for name in VARIABLE_KEY)
    others = targets.filter(
        same & (pl.col("level") != first["level"]) & pl.col("published_value").is_not_null()
    )
    against = sorted(
        {f"{level} ({source})" for level, source in others.select("level", "source").iter_rows()}
    )
    listed = "; ".join(
        f"{row['level']} {row['geoid']} {row['variable']}/{row['domain']}"
        f" {row['published_value']:,.0f} to {row['value']:,.0f}"
        for row in far.head(5).iter_rows(named=True)
    )
    size = first["adjustment_in_standard_errors"]
    by = "an exact figure" if size is None else f"{size:+.1f} standard errors"
    raise TargetError(
        f"Reconciling moved {far.height:,} figures of {state} beyond {STOPPING_MOVE:g} standard"
        f" errors, the largest by {by}: {listed}",
        where=(
            f"{first['source']}, {first['level']} {first['geoid']},"
            f" {first['variable']}/{first['domain']}, against"
            f" {', '.join(against) or 'its whole or its categories'}"
        ),
        expected="sources that agree within their errors, the error of carrying included",
        remedy=(
            "Compare the two sources (year, area, concept); leave one out, or state the move under"
            " `accepted_moves` of the profile with its reason"
        ),
    )
