"""Charts as PNG bytes, drawn by altair and rendered by vl-convert: no browser, no network.

Belongs here: the look of charts and the few charts that asset metadata shows. Does not belong here:
the figures themselves (``pipeline/reports/fit.py``) or where a chart is stored.

Every function takes ``synthetic``: a chart of made-up data says SYNTHETIC in its title.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import altair

LEVELS = ("nation", "state", "county", "tract")
LEVEL_COLOURS = ("#444444", "#b3541e", "#2f7f6f", "#3b6fb6")
SCALE_FACTOR = 2.0
WIDTH, HEIGHT = 460, 300
LARGEST_ERROR = 10.0  # where the axis of relative errors ends
# 0.2 and not 200m: below one, SI prefixes read as millions.
PLAIN_BELOW_ONE = "datum.value < 1 ? format(datum.value, '~g') : format(datum.value, '~s')"
TWO_SETS = ("dense", "selected")
TWO_COLOURS = ("#999999", "#b3541e")


def _title(text: str, subtitle: str, synthetic: bool) -> dict[str, Any]:
    return {
        "text": text + (" · SYNTHETIC" if synthetic else ""),
        "subtitle": subtitle,
        "anchor": "start",
        "subtitleColor": "#666666",
        "fontSize": 14,
    }


def render(chart: altair.Chart | altair.LayerChart | altair.VConcatChart) -> bytes:
    """The chart as PNG bytes at twice its nominal size."""
    import vl_convert

    styled = chart.configure_view(stroke=None).configure_axis(
        grid=True, gridColor="#eeeeee", domainColor="#999999", labelFontSize=11, titleFontSize=11
    )
    return vl_convert.vegalite_to_png(vl_spec=styled.to_json(), scale=SCALE_FACTOR)


def _shown(frame: pl.DataFrame, limit: int, by: str) -> pl.DataFrame:
    """At most ``limit`` rows, evenly spaced along ``by``, with the first and the last of each
    level: a chart of 10,000 marks is no clearer than one of 2,000, but one without its extremes
    would hide the worst errors.
    """
    if frame.height <= limit:
        return frame
    ordered = frame.sort(by, *(name for name in frame.columns if name != by))
    of_level = pl.int_range(pl.len()).over("level")
    is_end = ordered.select(
        ((of_level == 0) | (of_level == pl.len().over("level") - 1)).alias("end")
    )["end"]
    ends, rest = ordered.filter(is_end), ordered.filter(~is_end)
    room = max(0, limit - ends.height)
    keep = pl.int_range(rest.height, eager=True) * room // max(1, rest.height)
    return pl.concat([ends, rest.filter(keep.is_first_distinct()).head(room)]).sort(
        by, *(name for name in frame.columns if name != by)
    )


def _level_colours(alt: Any, shown: pl.DataFrame) -> Any:
    """The colour of each level, the same in every chart; the legend lists the levels that have a
    point.
    """
    held = set(shown["level"].to_list())
    pairs = [
        (level, colour)
        for level, colour in zip(LEVELS, LEVEL_COLOURS, strict=True)
        if level in held
    ]
    if not pairs:
        return alt.value(LEVEL_COLOURS[0])
    return alt.Color(
        "level:N",
        scale=alt.Scale(
            domain=[level for level, _ in pairs], range=[colour for _, colour in pairs]
        ),
        title=None,
    )


def _steps(low: float, high: float) -> list[float]:
    """1, 2, 5, 10, ... between two ends, or powers of ten where there are many: the marks of a log
    axis. Vega would draw a line at every whole number.
    """
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    within = (1, 2, 5) if len(decades) < 6 else (1,)
    return [
        value
        for decade in decades
        for value in (10.0**decade * step for step in within)
        if low <= value <= high
    ]


def fit_scatter(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 2000) -> bytes:
    """Fitted against aimed-at totals, both on log axes, coloured by level.

    fit : columns ``level``, ``value`` (target) and ``fitted``, in each target's unit; rows not
        above zero are left out of
    the chart (logarithm) and counted in its subtitle, and so is a draw of ``limit`` of the others.
    """
    import altair as alt

    positive = fit.filter((pl.col("value") > 0) & (pl.col("fitted") > 0)).select(
        "level", "value", "fitted"
    )
    hidden = fit.height - positive.height
    shown = _shown(positive, limit, "value")
    drawn = (
        f"{shown.height:,} of {positive.height:,} targets drawn"
        if shown.height < positive.height
        else f"{positive.height:,} targets"
    )
    subtitle = drawn + (f"; {hidden:,} at zero are not shown" if hidden else "")
    low, high = (
        (float(positive["value"].min() or 1.0), float(positive["value"].max() or 10.0))
        if positive.height
        else (1.0, 10.0)
    )
    axes = {"type": "log", "domain": [low / 1.5, high * 1.5], "nice": False}
    points = (
        alt.Chart(alt.Data(values=shown.to_dicts()))
        .mark_circle(size=16, opacity=0.55)
        .encode(
            x=alt.X(
                "value:Q",
                scale=alt.Scale(**axes),
                title="target",
                axis=alt.Axis(format="~s", tickCount=6),
            ),
            y=alt.Y(
                "fitted:Q",
                scale=alt.Scale(**axes),
                title="fitted",
                axis=alt.Axis(format="~s", tickCount=6),
            ),
            color=_level_colours(alt, shown),
        )
    )
    line = (
        alt.Chart(alt.Data(values=[{"v": low}, {"v": high}]))
        .mark_line(color="#bbbbbb", strokeWidth=1)
        .encode(x="v:Q", y="v:Q")
    )
    return render(
        (line + points).properties(
            width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic)
        )
    )


def error_curves(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 400) -> bytes:
    """Share of targets (y) whose absolute relative error is at most x, one curve a level.

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
                _shown(part, limit, "error")
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
        alt.Chart(alt.Data(values=shown.to_dicts()))
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
            color=_level_colours(alt, shown),
        )
    )
    return render(
        chart.properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic))
    )


def histogram(
    frame: pl.DataFrame, column: str, title: str, axis: str, *, synthetic: bool, bins: int = 40
) -> bytes:
    """How often each size of ``column`` occurs, on a log axis: weights, pairs an area, sizes of
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
        alt.Chart(alt.Data(values=bars))
        .mark_rect(color=LEVEL_COLOURS[3], stroke="white", strokeWidth=0.5)
        .encode(
            x=alt.X(
                "low:Q",
                scale=scale,
                title=axis,
                axis=alt.Axis(labelExpr=PLAIN_BELOW_ONE, values=_steps(*ends)),
            ),
            x2="high:Q",
            y=alt.Y("count:Q", title="rows", axis=alt.Axis(format="~s")),
            y2="none:Q",
        )
    )
    return render(
        chart.properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic))
    )


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
        alt.Chart(alt.Data(values=top.to_dicts()))
        .mark_bar(color=LEVEL_COLOURS[2])
        .encode(
            y=alt.Y(f"{category}:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)),
            x=alt.X(f"{value}:Q", title=axis, axis=alt.Axis(format="~s")),
        )
    )
    return render(
        chart.properties(
            width=WIDTH, height=max(60, 18 * top.height), title=_title(title, subtitle, synthetic)
        )
    )


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

    low, high = (
        (float(points["value"].min()), float(points["value"].max()))
        if points.height
        else (1.0, 10.0)
    )
    x = alt.X(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        title=axis,
        axis=alt.Axis(format="~s", values=_steps(low, high)),
    )
    bare = alt.X(
        "value:Q",
        scale=alt.Scale(type="log", domain=[low, high], nice=False),
        title=None,
        axis=alt.Axis(labels=False, values=_steps(low, high)),
    )
    layers = []
    # The dense curve is wide and below, so that both show where they agree.
    for name, width in zip(TWO_SETS, (4.5, 1.5), strict=True):
        rows = points.filter(pl.col("weights") == name).to_dicts()
        layers.append(
            alt.Chart(alt.Data(values=rows))
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
        apart.select("value", gap=100 * (pl.col("selected") - pl.col("dense"))).to_dicts()
        if set(TWO_SETS) <= set(apart.columns)
        else []
    )
    below = (
        alt.Chart(alt.Data(values=gaps))
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
        title=_title(title, note, synthetic),
    )
    return render(panels)


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
    thinned = _shown(shown, limit, "dense")
    subtitle = (
        f"{thinned.height:,} of {shown.height:,} {points} drawn"
        if thinned.height < shown.height
        else f"{shown.height:,} {points}"
    )
    subtitle += (
        f"; {hidden:,} {'that only one of the two has' if log else 'without a figure'} not shown"
        if hidden
        else ""
    )
    ends = (
        [float(v) for c in ("dense", "selected") for v in (shown[c].min(), shown[c].max())]
        if shown.height
        else [0.1, 1.0]
    )
    low, high = min(ends), max(ends)
    margin = 0.04 * (high - low) or 0.5
    domain = [low / 1.3, high * 1.3] if log else [low - margin, high + margin]
    scale = alt.Scale(type="log" if log else "linear", domain=domain, nice=False)
    marks = {"values": _steps(*domain)} if log else {"tickCount": 6}
    kinds = sorted(shown["level"].unique().to_list())
    colour = (
        alt.Color(
            "level:N", scale=alt.Scale(domain=kinds, range=list(LEVEL_COLOURS[3:0:-1])), title=None
        )
        if len(kinds) > 1
        else alt.value(LEVEL_COLOURS[3])
    )
    dots = (
        alt.Chart(alt.Data(values=thinned.to_dicts()))
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
            width=HEIGHT, height=HEIGHT, title=_title(title, subtitle, synthetic)
        )
    )


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
    middle, most = (
        (float(held["pairs"].median()), float(max(held["pairs"].median(), ess.max())))
        if held.height
        else (0.0, 1.0)
    )
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
            width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic)
        )
    )
