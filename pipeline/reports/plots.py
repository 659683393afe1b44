"""Charts of fits and of distributions, as asset metadata shows them.

Functions give the bytes of a picture, SVG or PNG, or the chart itself, and take ``synthetic``: a
chart of made-up data says SYNTHETIC in its title.

Belongs here: those charts. Does not belong here: the look of charts (``chart_style.py``), the
figures themselves (``pipeline/reports/fit.py``), or where a chart is stored.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import polars as pl

from pipeline.reports.chart_style import (
    FURTHEST_FITTED,
    HEIGHT,
    LARGEST_ERROR,
    LEVEL_COLOURS,
    PLAIN_BELOW_ONE,
    WIDTH,
    as_data,
    extent,
    level_colours,
    log_marks,
    render,
    thinned,
    titled,
    unvalidated,
)

if TYPE_CHECKING:
    import altair


def fit_scatter(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 2000) -> bytes:
    """``fit_chart`` as a picture."""
    return render(fit_chart(fit, title, synthetic=synthetic, limit=limit))


@unvalidated
def fit_chart(
    fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 2000
) -> altair.LayerChart:
    """Fitted against aimed-at totals, both on log axes, coloured by level.

    fit : columns ``level``, ``value`` (target) and ``fitted``, in each target's unit; rows not
        above zero are left out of
    the chart (logarithm) and counted in its subtitle, and so is a draw of ``limit`` of the others.
    Totals more than FURTHEST_FITTED times beyond all targets are drawn there and counted.
    """
    import altair as alt

    positive = fit.filter((pl.col("value") > 0) & (pl.col("fitted") > 0)).select(
        "level", "value", "fitted"
    )
    hidden = fit.height - positive.height
    shown = thinned(positive, limit, "value")
    drawn = (
        f"{shown.height:,} of {positive.height:,} targets drawn"
        if shown.height < positive.height
        else f"{positive.height:,} targets"
    )
    subtitle = drawn + (f"; {hidden:,} at zero are not shown" if hidden else "")
    low, high = extent(positive["value"])
    ends = (low / FURTHEST_FITTED, high * FURTHEST_FITTED)
    beyond = positive.filter(~pl.col("fitted").is_between(*ends)).height
    subtitle += f"; {beyond:,} further off drawn at the edge" if beyond else ""
    shown = shown.with_columns(pl.col("fitted").clip(*ends))
    # A point outside the domain is drawn all the same, over the words of the axis.
    low, high = extent(positive["value"], positive["fitted"].clip(*ends))
    scale = alt.Scale(type="log", domain=[low / 1.5, high * 1.5], nice=False)
    marks = alt.Axis(format="~s", tickCount=6)
    points = (
        alt.Chart(as_data(alt, shown))
        .mark_circle(size=16, opacity=0.55)
        .encode(
            x=alt.X("value:Q", scale=scale, title="target", axis=marks),
            y=alt.Y("fitted:Q", scale=scale, title="fitted", axis=marks),
            color=level_colours(alt, shown),
        )
    )
    line = (
        alt.Chart(alt.Data(values=[{"v": low}, {"v": high}]))
        .mark_line(color="#bbbbbb", strokeWidth=1)
        .encode(x="v:Q", y="v:Q")
    )
    return (line + points).properties(
        width=WIDTH, height=HEIGHT, title=titled(title, subtitle, synthetic)
    )


@unvalidated
def error_curves(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 400) -> bytes:
    """Share of targets (y) whose absolute relative error is at most x, one curve per level.

    fit : columns ``level``, ``value`` and ``fitted``; targets of zero have no relative error and
        are counted in the subtitle, as are
    errors above 1,000 %, which are drawn there. Of a level with more than ``limit`` targets
    ``limit`` points are drawn, its ends among them.
    """
    import altair as alt

    errors = fit.filter(pl.col("value") != 0).select(
        "level", error=((pl.col("fitted") - pl.col("value")) / pl.col("value")).abs()
    )
    beyond = errors.filter(pl.col("error") > LARGEST_ERROR).height
    errors = errors.with_columns(pl.col("error").clip(1e-7, LARGEST_ERROR))
    curves = errors.sort("level", "error").with_columns(
        share=(pl.int_range(1, pl.len() + 1) / pl.len()).over("level")
    )
    shown = (
        pl.concat(
            [
                thinned(part, limit, "error")
                for part in curves.partition_by("level", maintain_order=True)
            ]
        )
        if curves.height
        else curves
    )
    zero = fit.height - errors.height
    subtitle = "share of targets with at most this absolute relative error" + (
        f"; {zero:,} targets of zero left out" if zero else ""
    )
    subtitle += f"; {beyond:,} errors above 1,000 % drawn there" if beyond else ""
    chart = (
        alt.Chart(as_data(alt, shown))
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X(
                "error:Q",
                scale=alt.Scale(type="log"),
                title="absolute relative error",
                axis=alt.Axis(format="~%", values=[10.0**n for n in range(-7, 2)]),
            ),
            y=alt.Y(
                "share:Q", scale=alt.Scale(domain=[0, 1]), title=None, axis=alt.Axis(format="%")
            ),
            color=level_colours(alt, shown),
        )
    )
    return render(
        chart.properties(width=WIDTH, height=HEIGHT, title=titled(title, subtitle, synthetic))
    )


@unvalidated
def histogram(
    frame: pl.DataFrame, column: str, title: str, axis: str, *, synthetic: bool, bins: int = 40
) -> bytes:
    """How often each size of ``column`` occurs, on a log axis: weights, pairs per area, sizes of
    change.

    frame : ``column`` numeric; rows that are null or not above zero are left out and counted in the
        subtitle.
    """
    import altair as alt
    import numpy as np

    values = frame[column].drop_nulls().to_numpy().astype(np.float64)
    positive = values[values > 0]
    counts, edges = (
        np.histogram(np.log10(positive), bins=bins)
        if positive.size
        else (np.zeros(1), np.array([0.0, 1.0]))
    )
    bars = [
        {"low": float(10**a), "high": float(10**b), "count": int(n), "none": 0}
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    hidden = frame.height - positive.size
    subtitle = f"{positive.size:,} rows" + (
        f"; {hidden:,} not above zero are not shown" if hidden else ""
    )
    ends = [bars[0]["low"], bars[-1]["high"]]
    scale = alt.Scale(type="log", domain=ends, nice=False)
    # Both corners of a bar are given: a bar with two ends along x has none along y, and is drawn as
    # a dash.
    chart = (
        alt.Chart(as_data(alt, bars))
        .mark_rect(color=LEVEL_COLOURS[3], stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "low:Q",
                scale=scale,
                title=axis,
                axis=alt.Axis(labelExpr=PLAIN_BELOW_ONE, values=log_marks(*ends)),
            ),
            x2="high:Q",
            y=alt.Y("count:Q", title="rows", axis=alt.Axis(format="~s")),
            y2="none:Q",
        )
    )
    return render(
        chart.properties(width=WIDTH, height=HEIGHT, title=titled(title, subtitle, synthetic))
    )


@unvalidated
def bars(
    frame: pl.DataFrame,
    category: str,
    value: str,
    title: str,
    axis: str,
    *,
    synthetic: bool,
    limit: int = 20,
) -> bytes:
    """Horizontal bars, the largest ``limit`` rows of ``value`` by ``category`` (rows per file,
    cells by status, largest changes).
    """
    import altair as alt

    top = frame.select(category, value).sort(value, category, descending=[True, False]).head(limit)
    subtitle = (
        f"largest {top.height} of {frame.height:,}"
        if frame.height > limit
        else f"{frame.height:,} rows"
    )
    chart = (
        alt.Chart(as_data(alt, top))
        .mark_bar(color=LEVEL_COLOURS[2])
        .encode(
            y=alt.Y(f"{category}:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
            x=alt.X(f"{value}:Q", title=axis, axis=alt.Axis(format="~s")),
        )
    )
    return render(
        chart.properties(
            width=WIDTH, height=max(60, 18 * top.height), title=titled(title, subtitle, synthetic)
        )
    )
