"""The look of charts: colours, sizes, titles, which marks are drawn, and the picture itself.

Charts are drawn by altair and rendered by vl-convert: no browser, no network. A picture of the UI
is SVG: a fifth of the bytes of a PNG, sharp at any size, and not rasterised during a run. Thousands
of marks are longer as SVG, and are a PNG.

Belongs here: what two or more charts share. Does not belong here: any one chart (``plots.py``,
``loss_plots.py``, ``pipeline/validation/frontier.py``).
"""

from __future__ import annotations

import functools
import json
import math
import re
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

import polars as pl

from pipeline.vocabulary import LEVELS

if TYPE_CHECKING:
    import altair

Asked = ParamSpec("Asked")
Drawn = TypeVar("Drawn")

LEVEL_COLOURS = ("#444444", "#b3541e", "#2f7f6f", "#3b6fb6")
SCALE_FACTOR = 2.0
LONGEST_SVG = 100_000
# The UI shows a picture in its own size, in a dialog of 1,280 pixels at most.
WIDEST_SHOWN = 1200.0
# Texts are measured in Liberation Sans, whose widths these have; others would be cut at the edge.
FONTS = "Arial, 'Liberation Sans', Arimo, Helvetica, sans-serif"
WIDTH, HEIGHT = 460, 300
LARGEST_ERROR = 10.0  # where the axis of relative errors ends
# Two decades beyond the targets: a total of nearly nothing would leave no room for the others.
FURTHEST_FITTED = 100.0
# 0.2 and not 200m: below one, SI prefixes read as millions.
PLAIN_BELOW_ONE = "datum.value < 1 ? format(datum.value, '~g') : format(datum.value, '~s')"
TWO_SETS = ("dense", "selected")
TWO_COLOURS = ("#999999", "#b3541e")


def titled(text: str, subtitle: str, synthetic: bool) -> dict[str, Any]:
    return {
        "text": text + (" · SYNTHETIC" if synthetic else ""),
        "subtitle": subtitle,
        "anchor": "start",
        "subtitleColor": "#666666",
        "fontSize": 14,
    }


def unvalidated(draw: Callable[Asked, Drawn]) -> Callable[Asked, Drawn]:
    """The function with altair's own checks of every part left out: they take longer than drawing,
    and tests hold each chart against the schema.
    """

    @functools.wraps(draw)
    def drawn(*args: Asked.args, **kwargs: Asked.kwargs) -> Drawn:
        from altair.utils import schemapi

        with schemapi.debug_mode(False):
            return draw(*args, **kwargs)

    return drawn


@unvalidated
def render(
    chart: altair.Chart | altair.LayerChart | altair.VConcatChart, scale: float = SCALE_FACTOR
) -> bytes:
    """The chart as the UI shows it, at twice its nominal size or ``scale`` times: SVG, or a PNG of
    the same where SVG would be longer than LONGEST_SVG.
    """
    import vl_convert

    svg = vl_convert.vegalite_to_svg(vl_spec=_document(chart))
    if len(svg) > LONGEST_SVG:
        return vl_convert.svg_to_png(svg, scale=scale)
    return _shown(svg, scale).encode()


@unvalidated
def render_png(chart: altair.Chart | altair.LayerChart | altair.VConcatChart) -> bytes:
    """The chart as the bytes of a PNG file, at twice its nominal size."""
    import vl_convert

    return vl_convert.vegalite_to_png(vl_spec=_document(chart), scale=SCALE_FACTOR)


def _document(chart: Any) -> str:
    return styled(chart).to_json(validate=False, indent=None)


def _shown(svg: str, scale: float) -> str:
    """SVG as a browser is to show it: as large as a PNG, or as wide as there is room, in a font of
    the widths that were measured. Vega numbers gradients through all charts of a process: here,
    from the chart's first.
    """
    numbers: dict[str, int] = {}
    head, rest = svg.split(">", 1)
    width = re.search(r' width="([\d.]+)"', head)
    scale = min(scale, WIDEST_SHOWN / float(width[1])) if width else scale
    head = re.sub(
        r' (width|height)="([\d.]+)"', lambda m: f' {m[1]}="{float(m[2]) * scale:g}"', head
    )
    rest = rest.replace(' font-family="sans-serif"', "")
    rest = re.sub(
        r'(id="|url\(#)gradient_(\d+)',
        lambda m: f"{m[1]}gradient_{numbers.setdefault(m[2], len(numbers))}",
        rest,
    )
    return f'{head} font-family="{FONTS}">{rest}'


def as_data(alt: Any, rows: pl.DataFrame | Sequence[dict[str, Any]]) -> Any:
    """Rows as a chart's data, as one text: altair would copy each of thousands several times."""
    text = rows.write_json() if isinstance(rows, pl.DataFrame) else json.dumps(rows)
    return alt.Data(values=text, format=alt.DataFormat(type="json"))


def styled(chart: altair.Chart | altair.LayerChart | altair.VConcatChart) -> Any:
    """The chart in the look that all have."""
    return chart.configure_view(stroke=None).configure_axis(
        grid=True, gridColor="#eeeeee", domainColor="#999999", labelFontSize=11, titleFontSize=11
    )


def thinned(frame: pl.DataFrame, limit: int, by: str) -> pl.DataFrame:
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


def level_colours(alt: Any, shown: pl.DataFrame) -> Any:
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


def extent(*columns: pl.Series) -> tuple[float, float]:
    """Least and greatest value of the columns, for the ends of an axis; 1 and 10 where there is
    none.
    """
    values = pl.concat([column.cast(pl.Float64) for column in columns]).drop_nulls().to_numpy()
    return (float(values.min()), float(values.max())) if values.size else (1.0, 10.0)


def log_marks(low: float, high: float) -> list[float]:
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
