"""Charts as PNG bytes, drawn by altair and rendered by vl-convert: no browser, no network.

Belongs here: the look of charts and the few charts that asset metadata shows. Does not belong here: the
figures themselves (``pipeline/reports/fit.py``) or where a chart is stored.

Every function takes ``synthetic``: a chart of made-up data says SYNTHETIC in its title.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import polars as pl

if TYPE_CHECKING:
    import altair

LEVELS = ("nation", "state", "county", "tract")
LEVEL_COLOURS = ("#444444", "#b3541e", "#2f7f6f", "#3b6fb6")
SCALE_FACTOR = 2.0
WIDTH, HEIGHT = 460, 300
LARGEST_ERROR = 10.0  # where the axis of relative errors ends


def _title(text: str, subtitle: str, synthetic: bool) -> dict[str, Any]:
    return {"text": text + (" · SYNTHETIC" if synthetic else ""), "subtitle": subtitle, "anchor": "start", "subtitleColor": "#666666", "fontSize": 14}


def render(chart: altair.Chart | altair.LayerChart | altair.HConcatChart) -> bytes:
    """The chart as PNG bytes at twice its nominal size."""
    import vl_convert

    styled = chart.configure_view(stroke=None).configure_axis(grid=True, gridColor="#eeeeee", domainColor="#999999", labelFontSize=11, titleFontSize=11)
    return vl_convert.vegalite_to_png(vl_spec=styled.to_json(), scale=SCALE_FACTOR)


def _shown(frame: pl.DataFrame, limit: int, by: str) -> pl.DataFrame:
    """At most ``limit`` rows, evenly spaced along ``by``, with the first and the last of each level: a chart of 10,000 marks is no clearer than
    one of 2,000, but one without its extremes would hide the worst errors."""
    if frame.height <= limit:
        return frame
    ordered = frame.sort(by, *(name for name in frame.columns if name != by))
    of_level = pl.int_range(pl.len()).over("level")
    is_end = ordered.select(((of_level == 0) | (of_level == pl.len().over("level") - 1)).alias("end"))["end"]
    ends, rest = ordered.filter(is_end), ordered.filter(~is_end)
    room = max(0, limit - ends.height)
    keep = pl.int_range(rest.height, eager=True) * room // max(1, rest.height)
    return pl.concat([ends, rest.filter(keep.is_first_distinct()).head(room)]).sort(by, *(name for name in frame.columns if name != by))


def _level_colours(alt: Any, shown: pl.DataFrame) -> Any:
    """The colour of each level, the same in every chart; the legend lists the levels that have a point."""
    held = set(shown["level"].to_list())
    pairs = [(level, colour) for level, colour in zip(LEVELS, LEVEL_COLOURS, strict=True) if level in held]
    if not pairs:
        return alt.value(LEVEL_COLOURS[0])
    return alt.Color("level:N", scale=alt.Scale(domain=[level for level, _ in pairs], range=[colour for _, colour in pairs]), title=None)


def fit_scatter(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 2000) -> bytes:
    """Fitted against aimed-at totals, both on log axes, coloured by level.

    fit : columns ``level``, ``value`` (target) and ``fitted``, in each target's unit; rows not above zero are left out of
    the chart (logarithm) and counted in its subtitle, and so is a draw of ``limit`` of the others.
    """
    import altair as alt

    positive = fit.filter((pl.col("value") > 0) & (pl.col("fitted") > 0)).select("level", "value", "fitted")
    hidden = fit.height - positive.height
    shown = _shown(positive, limit, "value")
    drawn = f"{shown.height:,} of {positive.height:,} targets drawn" if shown.height < positive.height else f"{positive.height:,} targets"
    subtitle = drawn + (f"; {hidden:,} at zero are not shown" if hidden else "")
    low, high = (float(positive["value"].min() or 1.0), float(positive["value"].max() or 10.0)) if positive.height else (1.0, 10.0)
    axes = {"type": "log", "domain": [low / 1.5, high * 1.5], "nice": False}
    points = (
        alt.Chart(alt.Data(values=shown.to_dicts()))
        .mark_circle(size=16, opacity=0.55)
        .encode(
            x=alt.X("value:Q", scale=alt.Scale(**axes), title="target", axis=alt.Axis(format="~s", tickCount=6)),
            y=alt.Y("fitted:Q", scale=alt.Scale(**axes), title="fitted", axis=alt.Axis(format="~s", tickCount=6)),
            color=_level_colours(alt, shown),
        )
    )
    line = alt.Chart(alt.Data(values=[{"v": low}, {"v": high}])).mark_line(color="#bbbbbb", strokeWidth=1).encode(x="v:Q", y="v:Q")
    return render((line + points).properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic)))


def error_curves(fit: pl.DataFrame, title: str, *, synthetic: bool, limit: int = 400) -> bytes:
    """Share of targets (y) whose absolute relative error is at most x, one curve a level.

    fit : columns ``level``, ``value`` and ``fitted``; targets of zero have no relative error and are counted in the subtitle, as are
    errors above 1,000 %, which are drawn there. Of a level with more than ``limit`` targets ``limit`` points are drawn, its ends among them.
    """
    import altair as alt

    errors = fit.filter(pl.col("value") != 0).select("level", error=((pl.col("fitted") - pl.col("value")) / pl.col("value")).abs())
    beyond = errors.filter(pl.col("error") > LARGEST_ERROR).height
    errors = errors.with_columns(pl.col("error").clip(1e-7, LARGEST_ERROR))
    curves = errors.sort("level", "error").with_columns(share=(pl.int_range(1, pl.len() + 1) / pl.len()).over("level"))
    shown = pl.concat([_shown(part, limit, "error") for part in curves.partition_by("level", maintain_order=True)]) if curves.height else curves
    zero = fit.height - errors.height
    subtitle = "share of targets with at most this absolute relative error" + (f"; {zero:,} targets of zero left out" if zero else "")
    subtitle += f"; {beyond:,} errors above 1,000 % drawn there" if beyond else ""
    chart = (
        alt.Chart(alt.Data(values=shown.to_dicts()))
        .mark_line(interpolate="step-after", strokeWidth=1.8)
        .encode(
            x=alt.X(
                "error:Q", scale=alt.Scale(type="log"), title="absolute relative error", axis=alt.Axis(format="~%", values=[10.0**n for n in range(-7, 2)])
            ),
            y=alt.Y("share:Q", scale=alt.Scale(domain=[0, 1]), title=None, axis=alt.Axis(format="%")),
            color=_level_colours(alt, shown),
        )
    )
    return render(chart.properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic)))


def histogram(frame: pl.DataFrame, column: str, title: str, axis: str, *, synthetic: bool, bins: int = 40) -> bytes:
    """How often each size of ``column`` occurs, on a log axis: weights, pairs an area, sizes of change.

    frame : ``column`` numeric; rows that are null or not above zero are left out and counted in the subtitle.
    """
    import altair as alt
    import numpy as np

    values = frame[column].drop_nulls().to_numpy().astype(np.float64)
    positive = values[values > 0]
    counts, edges = np.histogram(np.log10(positive), bins=bins) if positive.size else (np.zeros(1), np.array([0.0, 1.0]))
    bars = [{"low": float(10**a), "high": float(10**b), "count": int(n)} for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True)]
    hidden = frame.height - positive.size
    subtitle = f"{positive.size:,} rows" + (f"; {hidden:,} not above zero are not shown" if hidden else "")
    chart = (
        alt.Chart(alt.Data(values=bars))
        .mark_bar(color=LEVEL_COLOURS[3])
        .encode(
            x=alt.X("low:Q", scale=alt.Scale(type="log"), title=axis, axis=alt.Axis(format="~s", tickCount=7)),
            x2="high:Q",
            y=alt.Y("count:Q", title="rows", axis=alt.Axis(format="~s")),
        )
    )
    return render(chart.properties(width=WIDTH, height=HEIGHT, title=_title(title, subtitle, synthetic)))


def bars(frame: pl.DataFrame, category: str, value: str, title: str, axis: str, *, synthetic: bool, limit: int = 20) -> bytes:
    """Horizontal bars, the largest ``limit`` rows of ``value`` by ``category`` (rows per file, cells by status, largest changes)."""
    import altair as alt

    top = frame.select(category, value).sort(value, category, descending=[True, False]).head(limit)
    subtitle = f"largest {top.height} of {frame.height:,}" if frame.height > limit else f"{frame.height:,} rows"
    chart = (
        alt.Chart(alt.Data(values=top.to_dicts()))
        .mark_bar(color=LEVEL_COLOURS[2])
        .encode(y=alt.Y(f"{category}:N", sort=None, title=None, axis=alt.Axis(labelLimit=260)), x=alt.X(f"{value}:Q", title=axis, axis=alt.Axis(format="~s")))
    )
    return render(chart.properties(width=WIDTH, height=max(60, 18 * top.height), title=_title(title, subtitle, synthetic)))
