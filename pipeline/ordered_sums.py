"""Sums and means of floating-point columns in a fixed order, so that tables have the same bytes for
any number of threads.

polars adds partial sums of its threads: ``pl.col(x).sum()`` of a whole frame, and a ``group_by`` of
few groups, differ in their last bits between one thread and four (polars 1.x, 400,000 rows). A
column sorted inside the group is added by one thread in that order.

Belongs here: those expressions. Does not belong here: sums of whole numbers and truth values, which
are exact in any order.
"""

from __future__ import annotations

import polars as pl

__all__ = ["mean_in_order", "series_total", "sum_in_order"]


def sum_in_order(column: str | pl.Expr, *by: str) -> pl.Expr:
    """The sum of a column within a group, rows in the order of ``by`` (which tells them apart)."""
    return _of(column).sort_by(*by).sum()


def mean_in_order(column: str | pl.Expr, *by: str) -> pl.Expr:
    """The mean of a column within a group, rows in the order of ``by``; nulls do not count."""
    return _of(column).sort_by(*by).mean()


def series_total(values: pl.Series) -> float:
    """The sum of a column in the order of its rows; nulls do not count."""
    return float(values.drop_nulls().to_numpy().sum())


def _of(column: str | pl.Expr) -> pl.Expr:
    return pl.col(column) if isinstance(column, str) else column
