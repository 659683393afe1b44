"""Charts of what selection lost: dense weights beside selected ones.

Every function gives the bytes of a picture, SVG or PNG, and takes ``synthetic``: a chart of made-up
data says SYNTHETIC in its title.

Belongs here: those charts. Does not belong here: the look of charts (``chart_style.py``), the
figures themselves (``loss_points.py``), or where a chart is stored.
"""

from __future__ import annotations

import polars as pl

from pipeline.reports.chart_style import (
    HEIGHT,
    LEVEL_COLOURS,
    TWO_COLOURS,
    TWO_SETS,
    WIDTH,
    as_data,
    extent,
    log_marks,
    render,
    thinned,
    titled,
    unvalidated,
)


@unvalidated
def distribution_curves(
    points: pl.DataFrame, title: str, axis: str, *, synthetic: bool, note: str = ""
) -> bytes:
    """Weighted distribution functions of one variable, a curve for each set of weights, on a log
    axis; below them how far they lie apart.

    points : ``weights`` (``dense`` or ``selected``), ``value`` above zero (the same values for
        both), ``share`` of the weight at or below it.
    What lies left of the first value is in its share.
    """
    import altair as alt

    low, high = extent(points["value"])
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        title=axis,
        axis=alt.Axis(format="~s", values=log_marks(low, high)),
    )
    bare = alt.X(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        title=None,
        axis=alt.Axis(labels=False, values=log_marks(low, high)),
    )
    layers = []
    # The dense curve is wide and below, so that both show where they agree.
    for name, width in zip(TWO_SETS, (4.5, 1.5), strict=True):
        rows = points.filter(pl.col("weights") == name)
        layers.append(
            alt.Chart(as_data(alt, rows))
            .mark_line(interpolate="step-after", strokeWidth=width)
            .encode(
                x=bare,
                y=alt.Y(
                    "share:Q",
                    scale=alt.Scale(domain=[0, 1]),
                    title="share of households",
                    axis=alt.Axis(format="%", tickCount=5),
                ),
                color=alt.Color(
                    "weights:N",
                    scale=alt.Scale(domain=list(TWO_SETS), range=list(TWO_COLOURS)),
                    title=None,
                ),
            )
        )
    apart = (
        points.pivot(on="weights", index="value", values="share")
        if points.height
        else pl.DataFrame()
    )
    gaps = (
        apart.select("value", gap=100 * (pl.col("selected") - pl.col("dense")))
        if set(TWO_SETS) <= set(apart.columns)
        else pl.DataFrame()
    )
    below = (
        alt.Chart(as_data(alt, gaps))
        .mark_area(
            interpolate="step-after",
            color=TWO_COLOURS[1],
            opacity=0.35,
            line={"color": TWO_COLOURS[1], "strokeWidth": 1},
        )
        .encode(
            x=x,
            y=alt.Y(
                "gap:Q",
                title="selected less dense, points",
                axis=alt.Axis(tickCount=4, titleFontSize=10),
            ),
        )
    )
    zero = alt.Chart(alt.Data(values=[{"v": 0}])).mark_rule(color="#999999").encode(y="v:Q")
    panels = alt.vconcat(
        alt.layer(*layers).properties(width=WIDTH, height=HEIGHT - 100),
        (zero + below).properties(width=WIDTH, height=90),
        spacing=6,
        title=titled(title, note, synthetic),
    )
    return render(panels)


@unvalidated
def agreement(
    pairs: pl.DataFrame,
    title: str,
    quantity: str,
    points: str,
    *,
    synthetic: bool,
    log: bool = False,
    number: str = ".2~f",
    limit: int = 2000,
) -> bytes:
    """The same figure under both sets of weights: dense (x) against selected (y), with the line on
    which they agree.

    pairs : ``dense``, ``selected`` and ``kind`` (a colour each). Rows without one of the two are
        left out and counted in the subtitle, as are
    rows not above zero where the axes are logarithmic. ``points`` says what a point is.
    """
    import altair as alt

    finite = pairs.select("dense", "selected", level="kind").drop_nulls()
    shown = finite.filter((pl.col("dense") > 0) & (pl.col("selected") > 0)) if log else finite
    hidden = pairs.height - shown.height
    drawn = thinned(shown, limit, "dense")
    subtitle = (
        f"{drawn.height:,} of {shown.height:,} {points} drawn"
        if drawn.height < shown.height
        else f"{shown.height:,} {points}"
    )
    subtitle += (
        f"; {hidden:,} {'that only one of the two has' if log else 'without a figure'} not shown"
        if hidden
        else ""
    )
    low, high = extent(shown["dense"], shown["selected"])
    margin = 0.04 * (high - low) or 0.5
    domain = [low / 1.3, high * 1.3] if log else [low - margin, high + margin]
    scale = alt.Scale(type="log" if log else "linear", domain=domain, nice=False)
    marks = {"values": log_marks(*domain)} if log else {"tickCount": 6}
    kinds = sorted(shown["level"].unique().to_list())
    colour = (
        alt.Color(
            "level:N", scale=alt.Scale(domain=kinds, range=list(LEVEL_COLOURS[3:0:-1])), title=None
        )
        if len(kinds) > 1
        else alt.value(LEVEL_COLOURS[3])
    )
    dots = (
        alt.Chart(as_data(alt, drawn))
        .mark_circle(size=34, opacity=0.65)
        .encode(
            x=alt.X(
                "dense:Q",
                scale=scale,
                title=f"{quantity}, dense weights",
                axis=alt.Axis(format=number, **marks),
            ),
            y=alt.Y(
                "selected:Q",
                scale=scale,
                title=f"{quantity}, selected weights",
                axis=alt.Axis(format=number, **marks),
            ),
            color=colour,
        )
    )
    line = (
        alt.Chart(alt.Data(values=[{"v": v} for v in domain]))
        .mark_line(color="#bbbbbb", strokeWidth=1)
        .encode(x="v:Q", y="v:Q")
    )
    return render(
        (line + dots).properties(
            width=HEIGHT, height=HEIGHT, title=titled(title, subtitle, synthetic)
        )
    )


@unvalidated
def sample_sizes(
    areas: pl.DataFrame, title: str, what: str, *, synthetic: bool, bins: int = 30
) -> bytes:
    """How many areas have each effective sample size, and how many pairs the median area has.

    areas : ``ess`` and ``pairs`` of each area; those without a pair are left out and counted in the
        subtitle. ``what`` names an area.
    """
    import altair as alt
    import numpy as np

    held = areas.drop_nulls().filter(pl.col("pairs") > 0)
    ess = held["ess"].to_numpy()
    middle = float(np.median(held["pairs"])) if held.height else 0.0
    most = max(middle, float(ess.max())) if held.height else 1.0
    counts, edges = np.histogram(ess, bins=bins, range=(0.0, most))
    bars = [
        {"low": float(a), "high": float(b), "count": int(n), "none": 0}
        for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)
    ]
    subtitle = (
        f"{held.height:,} areas; median {float(np.median(ess)):,.1f}; the line: {middle:,.0f}"
        " pairs, the median"
        if held.height
        else "no area has a pair"
    )
    subtitle += (
        f"; {areas.height - held.height:,} without a pair not shown"
        if areas.height > held.height
        else ""
    )
    chart = (
        alt.Chart(alt.Data(values=[bar for bar in bars if bar["count"]]))
        .mark_rect(color=LEVEL_COLOURS[3], stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "low:Q",
                scale=alt.Scale(domain=[0, most * 1.02], nice=False),
                title=f"effective sample size of a {what}",
                axis=alt.Axis(tickCount=8),
            ),
            x2="high:Q",
            y=alt.Y(
                "count:Q",
                title="areas",
                scale=alt.Scale(domainMin=0),
                axis=alt.Axis(format="~s", tickMinStep=1),
            ),
            y2="none:Q",
        )
    )
    rule = (
        alt.Chart(alt.Data(values=[{"v": middle}]))
        .mark_rule(color=LEVEL_COLOURS[1], strokeWidth=1.5)
        .encode(x="v:Q")
    )
    return render(
        (chart + rule).properties(
            width=WIDTH, height=HEIGHT, title=titled(title, subtitle, synthetic)
        )
    )
