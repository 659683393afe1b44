"""The frontier as a picture: out-of-sample error against pairs per area, one line per method, with
intervals over seeds.

Belongs here: that chart. Does not belong here: the figures (``measures.py``), the look of charts
(``pipeline/reports/chart_style.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl

from pipeline.reports.chart_style import render_png
from pipeline.validation.families import HoldOutGroup
from pipeline.validation.paired import t_interval
from pipeline.validation.runs import DENSE, Run, Validation
from pipeline.vocabulary import LEVELS

COLOURS = ("#2f6db3", "#d0741c", "#2a8c6e", "#b3262e", "#7a4fa3", "#c2a83e", "#5fa8d3", "#8c564b")
DENSE_COLOUR = "#222222"
PANEL_WIDTH, PANEL_HEIGHT = 210, 150
# A point of a panel apart from its neighbours of the same budget, as a factor on the log axis, so
# that intervals do not hide one another.
DODGE = 1.02


def frontier(found: Validation, figure: str = "median_are") -> bytes:
    """PNG bytes: a panel for each level (rows) and group (columns); states are averaged, the
    interval is Student's t at 95 % over seeds.
    """
    import altair as alt

    points = _points(found.runs, figure)
    methods = [*(name for name in found.settings.methods if name in set(points["method"])), DENSE]
    colours = [*(COLOURS[i % len(COLOURS)] for i in range(len(methods) - 1)), DENSE_COLOUR]
    levels = [level for level in LEVELS if level in set(points["level"])]
    colour = alt.Color(
        "method:N",
        sort=methods,
        title=None,
        scale=alt.Scale(domain=methods, range=colours),
        legend=alt.Legend(orient="top"),
    )
    grid = [
        [_panel(alt, points, level, group, colour, found) for group in found.groups]
        for level in levels
    ]
    if len(found.groups) == 1:
        grid = [[panel for row in grid for panel in row]]
    rows = [
        alt.hconcat(*(panel for panel in row if panel is not None), spacing=22)
        for row in grid
        if any(panel is not None for panel in row)
    ]
    states = sorted({run.postal for run in found.runs})
    what = figure.replace("_are", " absolute relative error").replace("_", " ")
    subtitle = [
        (
            f"{', '.join(states)}: {what} of withheld targets, mean over states and seeds; dashed:"
            " dense, all pairs"
        ),
        (
            f"intervals: 95 %, Student's t over {found.settings.seeds} seeds, cut at the edge of"
            " the panel"
        ),
    ]
    text = f"Held-out error against pairs kept, profile {found.profile.id}" + (
        " · SYNTHETIC" if found.profile.synthetic else ""
    )
    title = alt.TitleParams(
        text, subtitle=subtitle, anchor="start", subtitleColor="#666666", fontSize=14
    )
    return render_png(alt.vconcat(*rows, spacing=18).properties(title=title))


def _points(runs: Sequence[Run], figure: str) -> pl.DataFrame:
    """method, group, level, pairs_per_area (null for dense), error, low, high: mean over states of
    each seed, then over seeds.
    """
    seeds: dict[tuple, dict[int, list[float]]] = {}
    for run in runs:
        for row in run.outside:
            if row["family"] is None and row["level"] in LEVELS and row.get(figure) is not None:
                key = (run.method, run.group, row["level"], run.pairs_per_area)
                seeds.setdefault(key, {}).setdefault(
                    -1 if run.seed is None else run.seed, []
                ).append(row[figure])
    rows = []
    for key, values in seeds.items():
        means = np.array([np.mean(found) for _, found in sorted(values.items())])
        low, high = t_interval(means)
        rows.append((*key, float(means.mean()), low, high))
    schema = {
        "method": pl.String,
        "group": pl.String,
        "level": pl.String,
        "pairs_per_area": pl.Int64,
        "error": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
    }
    return pl.DataFrame(rows, schema=schema, orient="row")


def _panel(
    alt: Any, points: pl.DataFrame, level: str, group: HoldOutGroup, colour: Any, found: Validation
) -> Any:
    """One panel; None where the group has no target at the level."""
    points = points.filter((pl.col("level") == level) & (pl.col("group") == group.id))
    if points.is_empty():
        return None
    sparse = points.filter(pl.col("method") != DENSE).sort("pairs_per_area")
    place = {
        name: i - (len(found.settings.methods) - 1) / 2
        for i, name in enumerate(found.settings.methods)
    }
    shift = pl.col("method").replace_strict(place, return_dtype=pl.Float64)
    sparse = sparse.with_columns(x=pl.col("pairs_per_area") * DODGE**shift)
    # Intervals of two or three seeds are wide: they do not set the scale.
    top = 1.25 * (max(points["error"].drop_nulls(), default=1.0) or 1.0)
    budgets = list(found.settings.pairs_per_area)
    x = alt.X(
        "x:Q",
        title="pairs per area",
        scale=alt.Scale(type="log", nice=False, padding=12),
        axis=alt.Axis(values=budgets, format="d", grid=False),
    )
    y = alt.Y(
        "error:Q",
        title=None,
        scale=alt.Scale(domain=[0, top], nice=False),
        axis=alt.Axis(format="~%", tickCount=5, minExtent=34),
    )
    base = alt.Chart(alt.Data(values=sparse.to_dicts())).encode(x=x, color=colour)
    dense = alt.Chart(alt.Data(values=points.filter(pl.col("method") == DENSE).to_dicts()))
    layers = [
        dense.mark_rule(strokeDash=[5, 4], strokeWidth=1.4).encode(y=y, color=colour),
        base.mark_line(strokeWidth=1.8).encode(y=y),
        base.mark_circle(size=26, opacity=1).encode(y=y),
    ]
    if sparse["low"].null_count() < sparse.height:
        bars = alt.Chart(
            alt.Data(
                values=sparse.filter(pl.col("low").is_not_null())
                .with_columns(pl.col("low", "high").clip(0.0, top))
                .to_dicts()
            )
        )
        layers.insert(
            1,
            bars.mark_rule(strokeWidth=1, opacity=0.6).encode(
                x=x, y=alt.Y("low:Q", title=None), y2="high:Q", color=colour
            ),
        )
    return alt.layer(*layers).properties(
        width=PANEL_WIDTH,
        height=PANEL_HEIGHT,
        title=alt.TitleParams(
            f"{level}: {group.title}", fontSize=12, anchor="start", limit=PANEL_WIDTH
        ),
    )
