"""What a reader is told of what selection lost: summaries of the long table of a state.

A row of the table is a measure of one area (``loss_rows.py`` makes them): ``measure, level, geoid,
variable, family, unit, dense, selected, difference, reference``.

Belongs here: the table's columns and measures, and summaries of it. Does not belong here: the
figures' formulas (``calibration_core/tree/select/loss_report.py``), charts and their points
(``plots.py``, ``loss_points.py``), the terminal (``show.py``). Showing a stored result needs no
numerics, so none are imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from pipeline.ordered_sums import mean_in_order
from pipeline.reports.fit import by_level, smallest
from pipeline.vocabulary import LEVEL_RANK, design_column

INCOME = design_column(("usd_household_income", "total"))
BETWEEN = " × "
HELD_OUT = "held_out"
SCHEMA = {
    **dict.fromkeys(("measure", "level", "geoid", "variable", "family", "unit"), pl.String),
    **dict.fromkeys(("dense", "selected", "difference", "reference"), pl.Float64),
}
# Measures between the two sets of weights, with their unit.
DISTANCES = {
    "cell_distance": "share",
    "uncovered_share": "share",
    "pearson_largest": "correlation",
    "pearson_rms": "correlation",
    "rank_largest": "correlation",
    "rank_rms": "correlation",
}
# Measure of the weights -> field of WeightShape, unit.
SHAPES = {
    "pairs": ("count", "pairs"),
    "sum_of_weights": ("total", "households"),
    "ess": ("ess", "pairs"),
    "design_effect": ("design_effect", "ratio"),
    "largest_weight": ("largest", "households"),
    "smallest_weight": ("smallest", "households"),
    "largest_weight_share": ("largest_share", "share"),
    "share_of_top_1pct": ("top_share", "share"),
}


def held_out_errors(table: pl.DataFrame, by: Sequence[str] = ("level",)) -> pl.DataFrame:
    """Held-out targets by level, or level and family: their number, those next to zero (without a
    relative error), the median and mean absolute relative error under both weights, and the median
    of |selected - dense| / published, which is what selection alone did.
    """
    size = pl.when(pl.col("reference").abs() >= smallest()).then(pl.col("reference").abs())
    rows = table.filter(pl.col("measure") == HELD_OUT).with_columns(
        *(
            ((pl.col(name) - pl.col("reference")).abs() / size).alias(f"error_{name}")
            for name in ("dense", "selected")
        ),
        moved=pl.col("difference").abs() / size,
    )
    summed = rows.group_by(list(by)).agg(
        targets=pl.len().cast(pl.Int64),
        next_to_zero=pl.col("moved").null_count().cast(pl.Int64),
        median_error_dense=pl.col("error_dense").median(),
        median_error_selected=pl.col("error_selected").median(),
        mean_error_dense=mean_in_order("error_dense"),
        mean_error_selected=mean_in_order("error_selected"),
        median_moved=pl.col("moved").median(),
    )
    return by_level(summed, *by)


def amounts_table(table: pl.DataFrame) -> pl.DataFrame:
    """A row for each continuous variable of the whole state: Kolmogorov distance, shares with a
    positive amount, means, and the relative difference of each quantile of the positive amounts
    (null where there is none).
    """
    top = of_the_state(table)
    quantiles = [m for m in top["measure"].unique(maintain_order=True) if m.startswith("quantile_")]

    def one(measure: str, **columns: pl.Expr) -> pl.DataFrame:
        return top.filter(pl.col("measure") == measure).select("variable", **columns)

    frame = one("kolmogorov", kolmogorov=pl.col("difference"))
    parts = [
        one(m, **{f"{m}_{side}": pl.col(side) for side in ("dense", "selected")})
        for m in ("positive_share", "mean")
    ]
    for part in [
        *parts,
        *(one(q, **{q: pl.col("selected") / pl.col("dense") - 1}) for q in quantiles),
    ]:
        frame = frame.join(part, on="variable", how="left", maintain_order="left")
    return frame


def weights_table(table: pl.DataFrame) -> pl.DataFrame:
    """Figures of both sets of weights in the whole state: ``measure, unit, dense, selected``."""
    wanted = [*SHAPES, "record_ess", "cells", "pairs_without_dense_weight"]
    return (
        of_the_state(table)
        .filter(pl.col("measure").is_in(wanted))
        .select("measure", "unit", "dense", "selected")
    )


def by_area(table: pl.DataFrame) -> pl.DataFrame:
    """Median and worst area of each level: ``level, measure, variable, areas, median, worst,
    worst_geoid``. The worst has the largest distance or design effect and the least effective
    sample size. Areas without a figure (nobody lives there, or no pair) are not among ``areas``.
    """
    figures = {
        **dict.fromkeys(
            ("cell_distance", "uncovered_share", "pearson_rms", "rank_rms"), ("difference", True)
        ),
        "design_effect": ("selected", True),
    }
    figures |= {"ess": ("selected", False), "kolmogorov": ("difference", True)}
    parts = []
    for measure, (column, large) in figures.items():
        rows = table.filter(
            (pl.col("measure") == measure) & pl.col(column).is_not_null()
        ).with_columns(_value=pl.col(column))
        ordered = rows.sort("_value", "geoid", descending=[large, False])
        parts.append(
            ordered.group_by("level", "measure", "variable", maintain_order=True).agg(
                areas=pl.len().cast(pl.Int64),
                median=pl.col("_value").median(),
                worst=pl.col("_value").first(),
                worst_geoid=pl.col("geoid").first(),
            )
        )
    return by_level(pl.concat(parts))


def correlations_table(table: pl.DataFrame) -> pl.DataFrame:
    """Pearson and rank correlations of the whole state by pair of variables, the largest
    differences first.
    """
    rows = (
        of_the_state(table)
        .filter(pl.col("measure").is_in(["pearson", "rank_correlation"]))
        .select("measure", "variable", "dense", "selected", "difference")
    )
    return rows.sort(
        pl.col("difference").abs(),
        "measure",
        "variable",
        descending=[True, False, False],
        nulls_last=True,
    )


def cells_table(table: pl.DataFrame, measure: str = "cell_share") -> pl.DataFrame:
    """Shares of households by cell (or by value of a class: ``category_share``) of the whole state,
    the largest differences first.
    """
    rows = (
        of_the_state(table)
        .filter(pl.col("measure") == measure)
        .select(cell="variable", dense="dense", selected="selected", difference="difference")
    )
    return rows.sort(pl.col("difference").abs(), "cell", descending=[True, False])


def of_the_state(table: pl.DataFrame) -> pl.DataFrame:
    """Rows of the whole state."""
    top = min(
        table["level"].unique(),
        key=lambda level: LEVEL_RANK.get(level, len(LEVEL_RANK)),
        default="",
    )
    return table.filter(pl.col("level") == top)


def loss_summary(table: pl.DataFrame) -> dict[str, Any]:
    """The document that ``geocal show STATE --json`` has under ``selection_loss``; docs/dagster.md
    describes it.
    """
    top = of_the_state(table)
    distance = dict(
        top.filter(pl.col("measure").is_in(list(DISTANCES)))
        .select("measure", "difference")
        .iter_rows()
    )
    correlations = correlations_table(table)
    document: dict[str, Any] = {
        "missing": "",
        "cell_distance": distance.get("cell_distance"),
        "uncovered_share": distance.get("uncovered_share"),
        "cells": cells_table(table).to_dicts(),
        "categories": cells_table(table, "category_share").rename({"cell": "category"}).to_dicts(),
        "amounts": amounts_table(table).to_dicts(),
        "correlations": {},
        "weights": {row.pop("measure"): row for row in weights_table(table).to_dicts()},
        "areas": by_area(table).to_dicts(),
        "areas_without_pairs": (
            table.filter(
                (pl.col("measure") == "pairs") & (pl.col("dense") > 0) & (pl.col("selected") == 0)
            )["geoid"].to_list()
        ),
        "held_out": held_out_errors(table).to_dicts(),
        "held_out_families": held_out_errors(table, ("level", "family")).to_dicts(),
    }
    for kind, measure in (("pearson", "pearson"), ("rank", "rank_correlation")):
        worst = correlations.filter(pl.col("measure") == measure).head(1)
        document["correlations"][kind] = {
            "rms": distance.get(f"{kind}_rms"),
            "largest": distance.get(f"{kind}_largest"),
            "largest_between": worst["variable"][0].split(BETWEEN) if worst.height else [],
        }
    return document
