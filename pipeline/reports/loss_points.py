"""Points to draw of what selection lost: incomes, correlations, cells, sample sizes.

Belongs here: from arrays or from the long table (``selection_report.py``) to the columns a chart
takes. Does not belong here: the look of charts (``plots.py``).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.reports.selection_report import INCOME, of_the_state
from pipeline.weights.table import StoredWeights


def income_points(units: pl.DataFrame, stored: StoredWeights) -> tuple[pl.DataFrame, str]:
    """Distribution functions of household income to draw, and a line that says what the picture
    leaves out.

    The records' ``order`` stands in where household income is no variable of the profile.
    """
    values = units[INCOME if INCOME in units.columns else "order"].to_numpy().astype(np.float64)
    of_records = {
        "dense": stored.dense.by_record(),
        "selected": np.bincount(stored.record, stored.weight, minlength=values.size),
    }
    positive = {name: float(w[values > 0].sum() / w.sum()) for name, w in of_records.items()}
    points = distribution_points(values, of_records)
    note = "share of households with at most this income; above zero: " + ", ".join(
        f"{share:.1%} {name}" for name, share in positive.items()
    )
    return points, note


def correlation_points(table: pl.DataFrame) -> pl.DataFrame:
    """``dense, selected, kind`` of every correlation of the whole state."""
    kinds = {"pearson": "Pearson", "rank_correlation": "rank"}
    return (
        of_the_state(table)
        .filter(pl.col("measure").is_in(list(kinds)))
        .select("dense", "selected", kind=pl.col("measure").replace(kinds))
    )


def cell_points(table: pl.DataFrame) -> pl.DataFrame:
    """``dense, selected, kind`` of every cell's share of the whole state."""
    return (
        of_the_state(table)
        .filter(pl.col("measure") == "cell_share")
        .select("dense", "selected", kind=pl.lit("cell"))
    )


def sample_sizes(table: pl.DataFrame, level: str) -> pl.DataFrame:
    """``geoid, ess, pairs`` of the selected weights of each area of a level."""
    rows = table.filter((pl.col("level") == level) & pl.col("measure").is_in(["ess", "pairs"]))
    return rows.pivot(on="measure", index="geoid", values="selected").select(
        "geoid", "ess", "pairs"
    )


def distribution_points(
    values: np.ndarray, weights: dict[str, np.ndarray], *, least: float = 1000.0, points: int = 300
) -> pl.DataFrame:
    """Distribution functions to draw: ``weights`` (name, value, share of the weight at or below
    value) at up to ``points`` values from ``least`` up.

    values : (records,) float64. weights : by name, (records,) float64. What lies below ``least``
        counts in the first share.
    """
    upper = np.unique(values[values > least])
    grid = np.concatenate(
        [
            [least],
            (
                upper[
                    np.unique(
                        np.linspace(0, upper.size - 1, min(points, upper.size)).astype(np.int64)
                    )
                ]
                if upper.size
                else []
            ),
        ]
    )
    order = np.argsort(values, kind="stable")
    at = np.searchsorted(values[order], grid, side="right")
    parts = []
    for name, of_records in weights.items():
        cumulative = np.concatenate([[0.0], np.cumsum(of_records[order])])
        parts.append(
            pl.DataFrame(
                {
                    "weights": [name] * grid.size,
                    "value": grid,
                    "share": cumulative[at] / cumulative[-1],
                }
            )
        )
    return pl.concat(parts)
