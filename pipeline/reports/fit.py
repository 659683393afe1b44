"""How well weights reproduce targets: each target with its fitted values, and the summary by level
and by family.

Belongs here: fit figures as tables. Does not belong here: plots, the command line, or solving.

Measures, for targets t, fitted f, published value p and s the published margin / 1.645 (carried
with the value, not widened by the error of carrying):

* absolute relative error |f - t| / |t|. It is not defined for targets below one person, household
  or return, or 1,000 dollars: these are zero, or next to it after reconciliation, and counted
  apart;
* inside the margin: |f - t| <= 1.645 s, and the same against the published value p.

Estimates of the survey itself (role ``evidence``) are no published targets: summaries and lists of
the worst leave them out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from pipeline.ordered_sums import mean_in_order
from pipeline.targets.standard_errors import MARGIN_90
from pipeline.vocabulary import (
    CALIBRATE,
    DESIGN_SEPARATOR,
    EVIDENCE,
    LEVEL_RANK,
    NATION,
    SMALLEST,
    TARGET_KEY,
    TRACT,
    VALIDATION,
    VARIABLE_KEY,
    design_column,
)

if TYPE_CHECKING:
    # For the annotation only: importing it would load torch into every command that just shows a
    # result.
    from pipeline.weights.problem import StateProblem


def smallest() -> pl.Expr:
    """The least amount that counts in the unit of each row (column ``unit``)."""
    return pl.col("unit").replace_strict(SMALLEST, return_dtype=pl.Float64)


def level_rank() -> pl.Expr:
    """0 for rows of the nation, 1 for states and so on; what is no level comes last."""
    return pl.col("level").replace_strict(
        LEVEL_RANK, default=len(LEVEL_RANK), return_dtype=pl.Int64
    )


def by_level(frame: pl.DataFrame, *more: str) -> pl.DataFrame:
    """``frame`` with the coarsest level first, then by ``more``; rows that agree keep
    their order.
    """
    return frame.sort(level_rank(), *more, maintain_order=True)


def fitted_targets(
    targets: pl.DataFrame, problem: StateProblem, fits: dict[str, Sequence[np.ndarray]]
) -> pl.DataFrame:
    """The target table with a column for each entry of ``fits`` (for example ``fitted_dense``,
    ``fitted``), null where a target was not fitted, and ``not_fitted_reason`` ("" where it was).
    """
    frame = targets
    for name, per_level in fits.items():
        column = problem.grid.write(per_level, targets.height)
        frame = frame.with_columns(column.alias(name))
    unsupported = [design_column(key) for key in problem.unsupported]
    last = next(reversed(fits))
    reason = (
        pl.when(pl.col(last).is_not_null())
        .then(pl.lit(""))
        .when(pl.col("role") != CALIBRATE)
        .then(pl.concat_str([pl.col("role"), pl.lit(": "), pl.col("reason").fill_null("")]))
        .when(pl.col("value").is_null())
        .then(pl.lit("no value: suppressed, and not determined by other levels"))
        .when(pl.col("level") == NATION)
        .then(pl.lit("the nation is reached through its states"))
        .when(pl.concat_str(VARIABLE_KEY, separator=DESIGN_SEPARATOR).is_in(unsupported))
        .then(pl.lit("no record of this state contributes to it"))
        .otherwise(pl.lit("these records cannot express it"))
    )
    return frame.with_columns(reason.alias("not_fitted_reason"))


def with_errors(frame: pl.DataFrame, fitted: str = "fitted") -> pl.DataFrame:
    """Add ``residual``, ``absolute_relative_error`` (null for targets next to zero),
    ``inside_margin`` and ``inside_published`` (null without a published margin).
    """
    error = (pl.col(fitted) - pl.col("value")).abs()
    # Null wherever one of the three is: no margin published (a controlled figure has one of zero),
    # nothing fitted, no published value.
    margin = MARGIN_90 * pl.when(pl.col("margin_standard_error") > 0).then("margin_standard_error")
    return frame.with_columns(
        (pl.col(fitted) - pl.col("value")).alias("residual"),
        pl.when(pl.col("value").abs() >= smallest())
        .then(error / pl.col("value").abs())
        .alias("absolute_relative_error"),
        pl.when(pl.col("published_value").is_not_null())
        .then(error <= margin)
        .alias("inside_margin"),
        ((pl.col(fitted) - pl.col("published_value")).abs() <= margin).alias("inside_published"),
    )


def summary_by(frame: pl.DataFrame, fitted: str, by: Sequence[str] = ("level",)) -> pl.DataFrame:
    """One row per level (or level and family): how many targets, how many fitted, shares inside
    margins, error figures.
    """
    rows = with_errors(frame.filter(pl.col("role") != EVIDENCE), fitted)
    fit = pl.col(fitted).is_not_null()
    are = pl.when(fit).then("absolute_relative_error")
    table = rows.group_by(list(by)).agg(
        pl.len().alias("targets"),
        fit.sum().alias("fitted"),
        (pl.col("role") == VALIDATION).sum().alias("validation_only"),
        (fit & pl.col("absolute_relative_error").is_null()).sum().alias("zero_targets"),
        pl.col("inside_margin").is_not_null().sum().alias("with_published_margin"),
        pl.col("inside_margin").mean().alias("share_inside_margin"),
        pl.col("inside_published").mean().alias("share_inside_published_margin"),
        are.median().alias("median_are"),
        mean_in_order(are).alias("mean_are"),
        are.max().alias("worst_are"),
        (are <= 0.01).mean().alias("share_within_1pct"),
        (are <= 0.05).mean().alias("share_within_5pct"),
        (are <= 0.10).mean().alias("share_within_10pct"),
    )
    return by_level(table, *by)


def worst_targets(frame: pl.DataFrame, fitted: str = "fitted", count: int = 20) -> pl.DataFrame:
    """The worst fitted targets of each level, ``count`` in all, coarsest level first.

    Tracts are ranked by error in published standard errors (a target of two persons misses by 1,000
    % in a draw of sixty records, and inside its margin); the levels above by relative error.
    """
    rows = with_errors(frame.filter(pl.col("role") != EVIDENCE), fitted).filter(
        pl.col(fitted).is_not_null() & pl.col("absolute_relative_error").is_not_null()
    )
    in_errors = pl.when(pl.col("margin_standard_error") > 0).then(
        pl.col("residual") / pl.col("margin_standard_error")
    )
    score = (
        pl.when(pl.col("level") == TRACT)
        .then(in_errors.abs().fill_null(0.0))
        .otherwise(pl.col("absolute_relative_error"))
    )
    each = -(-count // max(1, rows["level"].n_unique()))
    return (
        rows.with_columns(
            in_errors.alias("errors_in_se"), score.alias("_score"), level_rank().alias("_order")
        )
        .sort("_order", "_score", *TARGET_KEY[1:], descending=[False, True, False, False, False])
        .group_by("level", maintain_order=True)
        .head(each)
        .select(
            *TARGET_KEY,
            "value",
            fitted,
            "absolute_relative_error",
            "errors_in_se",
            "inside_margin",
            "role",
        )
        .head(count)
    )


def weight_summary(weights: pl.DataFrame) -> dict[str, float | int]:
    """Records kept, pairs, sum of weights, effective sample size (sum w)^2 / sum w^2, design
    effect, extremes, share of the top 1 %.
    """
    w = np.sort(weights["weight"].to_numpy())
    total, squares = float(w.sum()), float((w**2).sum())
    top = max(1, round(0.01 * w.size))
    ess = total**2 / squares
    return {
        "pairs": int(w.size),
        "records": int(weights["household_id"].n_unique()),
        "sum_of_weights": total,
        "ess": ess,
        "design_effect": w.size / ess,
        "smallest_weight": float(w[0]),
        "largest_weight": float(w[-1]),
        "largest_weight_share": float(w[-1]) / total,
        "share_of_top_1pct": float(w[-top:].sum()) / total,
    }
