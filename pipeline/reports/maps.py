"""Pictures of a state by tract and county: a grid of tiles, or boundaries from a file.

A made-up state says SYNTHETIC in its title. Colours run from light to dark, and from orange to blue
where figures are of both signs: both are read by the colour-blind and in grey.

Belongs here: those charts, as PNG, SVG or HTML. Does not belong here: figures (``map_rows.py``),
places (``tile_grid.py``, ``boundaries.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from pipeline.errors import SourceLayoutError
from pipeline.reports.boundaries import Shape, on_a_plane
from pipeline.reports.chart_style import (
    SCALE_FACTOR,
    as_data,
    render,
    render_png,
    styled,
    titled,
    unvalidated,
)
from pipeline.reports.map_rows import MapFigures, fit_figures
from pipeline.reports.tile_grid import TileGrid, tile_grid
from pipeline.vocabulary import COUNTY, GEOID_LENGTH, TRACT

SEQUENTIAL, DIVERGING = "yellowgreenblue", "blueorange"
WITHOUT = "#e4e4e4"
OUTLINE = "#ffffff"
PANEL = 420
SMALL = 100
ENDINGS = (".png", ".svg", ".html")
_PLURAL = {COUNTY: "Counties", TRACT: "Tracts"}
_LETTER, _FIGURE = 5.6, 44.0
_CUT = 0.02
_DARK_FROM = 0.55


@unvalidated
def tile_map(figures: MapFigures, names: Mapping[str, str], *, synthetic: bool) -> Any:
    """The chart of a grid of tiles: a square for each tract, a heading with its own colour and
    figure for each county. ``names`` of counties by GEOID.
    """
    import altair as alt

    rows = {(r["level"], r["geoid"]): r["figure"] for r in figures.rows.iter_rows(named=True)}
    counties: dict[str, list[str]] = {g: [] for level, g in rows if level == COUNTY}
    for level, geoid in rows:
        if level == TRACT:
            counties.setdefault(geoid[: GEOID_LENGTH[COUNTY]], []).append(geoid)
    grid = tile_grid(counties)
    layers = [_tiles(alt, grid, figures, rows)] if grid.tiles else []
    layers += _strips(alt, grid, figures, rows, names)
    tracts = len(grid.tiles)
    many = f"{len(counties):,} counties; places say nothing of distance"
    subtitle = [f"{tracts:,} tracts with a figure, as squares within {many}" if tracts else many]
    if COUNTY in figures.legends and tracts:
        subtitle.append(f"headings: the county's own figure, {figures.legends[COUNTY]}")
    chart = alt.layer(*layers).resolve_scale(color="independent")
    return chart.properties(
        width=grid.width,
        height=grid.height,
        title=titled(figures.title, subtitle, synthetic),  # type: ignore[arg-type]
    )


def _tiles(alt: Any, grid: TileGrid, figures: MapFigures, rows: Mapping[Any, float]) -> Any:
    gap = 1.0 if grid.tiles[0].width > 6 else 0.4
    data = [
        {
            "x": box.x,
            "x2": box.x + box.width - gap,
            "y": box.y + gap,
            "y2": box.y + box.height,
            "tract": box.geoid,
            "figure": rows[TRACT, box.geoid],
        }
        for box in grid.tiles
    ]
    return (
        alt.Chart(as_data(alt, data))
        .mark_rect()
        .encode(
            **_places(alt, grid),
            color=_colour(alt, figures, TRACT),
            tooltip=[alt.Tooltip("tract:N"), alt.Tooltip("figure:Q", format=figures.forms[TRACT])],
        )
    )


def _across(alt: Any, grid: TileGrid) -> Any:
    return alt.Scale(domain=[0, grid.width], nice=False)


def _places(alt: Any, grid: TileGrid) -> dict[str, Any]:
    across = _across(alt, grid)
    down = alt.Scale(domain=[grid.height, 0], nice=False)
    return {
        "x": alt.X("x:Q", scale=across, axis=None),
        "x2": "x2:Q",
        "y": alt.Y("y:Q", scale=down, axis=None),
        "y2": "y2:Q",
    }


def _strips(
    alt: Any,
    grid: TileGrid,
    figures: MapFigures,
    rows: Mapping[Any, float],
    names: Mapping[str, str],
) -> list[Any]:
    """The headings of counties, coloured where a county has a figure, with name and figure."""
    held = [rows[COUNTY, b.geoid] for b in grid.strips if (COUNTY, b.geoid) in rows]
    low, high = (min(held), max(held)) if held else (0.0, 1.0)
    low = min(0.0, low) if figures.from_zero else low
    data = [
        {
            "x": box.x,
            "x2": box.x + box.width - 1,
            "y": box.y,
            "y2": box.y + box.height - 1,
            "county": names.get(box.geoid, box.geoid),
            "name": _fitting(names.get(box.geoid, f"county {box.geoid[2:]}"), box.width),
            "figure": rows.get((COUNTY, box.geoid)),
            "dark": _is_dark(rows.get((COUNTY, box.geoid)), low, high, figures.signed),
        }
        for box in grid.strips
    ]
    form = figures.forms.get(COUNTY, "")
    base = alt.Chart(as_data(alt, data))
    legend = None if grid.tiles else _legend(alt, figures, COUNTY)
    colour = _colour(alt, figures, COUNTY, legend=legend)
    tips = [alt.Tooltip("county:N"), *([alt.Tooltip("figure:Q", format=form)] if form else [])]
    strip = base.mark_rect().encode(
        **_places(alt, grid),
        color=alt.condition("isValid(datum.figure)", colour, alt.value(WITHOUT)),
        tooltip=tips,
    )
    places = _places(alt, grid)
    text_colour = alt.condition("datum.dark", alt.value("white"), alt.value("#222222"))
    label = base.mark_text(align="left", baseline="top", dx=4, dy=3, fontSize=10).encode(
        x=places["x"], y=places["y"], text="name:N", color=text_colour
    )
    layers = [strip, label]
    if form:
        number = base.transform_filter("isValid(datum.figure)").mark_text(
            align="right", baseline="top", dx=-3, dy=3, fontSize=10
        )
        layers.append(
            number.encode(
                x=alt.X("x2:Q", scale=_across(alt, grid), axis=None),
                y=places["y"],
                text=alt.Text("figure:Q", format=form),
                color=text_colour,
            )
        )
    return layers


def _fitting(name: str, width: float) -> str:
    """The name as far as there is room beside the figure."""
    room = max(4, int((width - _FIGURE) / _LETTER))
    return name if len(name) <= room else f"{name[: room - 1]}…"


def _is_dark(figure: float | None, low: float, high: float, signed: bool) -> bool:
    if figure is None:
        return False
    if signed:
        end = max(abs(low), abs(high)) or 1.0
        return abs(figure) / end > _DARK_FROM
    return high > low and (figure - low) / (high - low) > _DARK_FROM


_DEFAULT: Any = object()


def _colour(
    alt: Any, figures: MapFigures, level: str, legend: Any = _DEFAULT, field: str = "figure:Q"
) -> Any:
    """The scale of one level: from its least to its largest figure, but for the outermost two in a
    hundred at each end, which would leave all others one colour; about zero where signs differ.
    """
    of_level = figures.rows.filter(pl.col("level") == level)["figure"]
    low, high = _ends(of_level)
    shown = _legend(alt, figures, level) if legend is _DEFAULT else legend
    if figures.signed:
        end = max(abs(low), abs(high)) or 1.0
        scale = alt.Scale(scheme=DIVERGING, domain=[-end, end], clamp=True)
    else:
        least = min(0.0, low) if figures.from_zero else low
        scale = alt.Scale(scheme=SEQUENTIAL, domain=[least, high], clamp=True)
    return alt.Color(field, scale=scale, legend=shown)


def _ends(values: pl.Series) -> tuple[float, float]:
    if values.is_empty():
        return 0.0, 1.0
    cut = _CUT if values.len() >= 1 / _CUT else 0.0
    low = values.quantile(cut, "nearest")
    high = values.quantile(1 - cut, "nearest")
    least, most = float(low or 0.0), float(high or 0.0)
    return (least, most) if most > least else (least - 0.5, most + 0.5)


def _legend(alt: Any, figures: MapFigures, level: str) -> Any:
    return alt.Legend(
        title=f"{_PLURAL[level]}: {figures.legends[level]}",
        format=figures.forms[level],
        orient="bottom",
        direction="horizontal",
        gradientLength=260,
        gradientThickness=10,
        titleLimit=420,
        titleFontSize=11,
        labelFontSize=10,
    )


@unvalidated
def boundary_map(
    figures: MapFigures,
    shapes: Mapping[str, Shape],
    names: Mapping[str, str],
    *,
    synthetic: bool,
    file: str,
) -> Any:
    """The chart of boundaries, a panel for each level whose areas are in ``shapes``.

    Raises SourceLayoutError where none of the state's areas is.
    """
    import altair as alt

    state = {geoid[:2] for geoid in figures.rows["geoid"]}
    own = {g: s for g, s in shapes.items() if g[:2] in state}
    drawn = [level for level in figures.levels if any(len(g) == GEOID_LENGTH[level] for g in own)]
    if not drawn:
        lengths = sorted({len(g) for g in shapes})
        raise SourceLayoutError(
            f"None of the state's areas is in the file, which has {len(shapes):,} others",
            where=file,
            expected=f"counties or tracts of state {', '.join(sorted(state))}, by GEOID",
            remedy=f"Name a file of that state (GEOIDs here have {lengths} digits)",
        )
    plane = on_a_plane(own)
    panels, notes = [], []
    for level in drawn:
        panel, without, unplaced = _panel(alt, figures, plane, names, level)
        panels.append(panel)
        counts = [f"{without:,} without a figure (grey)"] if without else []
        counts += [f"{unplaced:,} not in the file"] if unplaced else []
        notes += [f"{level}: {', '.join(counts)}"] if counts else []
    chart = alt.hconcat(*panels, spacing=24).resolve_scale(color="independent")
    subtitle = "; ".join(notes) or f"by {' and by '.join(drawn)}"
    return chart.properties(title=titled(figures.title, subtitle, synthetic))


def _panel(
    alt: Any, figures: MapFigures, plane: Mapping[str, Shape], names: Mapping[str, str], level: str
) -> tuple[Any, int, int]:
    """A panel, the number of areas without a figure, and of figures without a boundary."""
    rows = figures.rows.filter(pl.col("level") == level)
    held = dict(rows.select("geoid", "figure").iter_rows())
    areas = {g: s for g, s in plane.items() if len(g) == GEOID_LENGTH[level]}
    features = [
        {
            "type": "Feature",
            "properties": {
                "area": names.get(geoid, geoid),
                "geoid": geoid,
                "figure": held.get(geoid),
            },
            "geometry": {"type": "MultiPolygon", "coordinates": shape},
        }
        for geoid, shape in sorted(areas.items())
    ]
    stroke = 0.6 if len(features) < 1000 else 0.2
    colour = _colour(alt, figures, level, field="properties.figure:Q")
    chart = (
        alt.Chart(as_data(alt, features))
        .mark_geoshape(stroke=OUTLINE, strokeWidth=stroke)
        .encode(
            color=alt.condition("isValid(datum.properties.figure)", colour, alt.value(WITHOUT)),
            tooltip=[
                alt.Tooltip("properties.area:N", title=level),
                alt.Tooltip("properties.geoid:N", title="GEOID"),
                alt.Tooltip("properties.figure:Q", title="figure", format=figures.forms[level]),
            ],
        )
        .project(type="identity", reflectY=True)
        .properties(width=PANEL, height=PANEL)
    )
    return chart, len(areas.keys() - held.keys()), len(held.keys() - areas.keys())


def as_file(chart: Any, ending: str) -> bytes:
    """The chart as the bytes of a file: ``.png`` at twice its size, ``.svg``, or ``.html``, which
    needs no network.
    """
    import vl_convert

    if ending == ".png":
        return render_png(chart)
    if ending == ".svg":
        return vl_convert.vegalite_to_svg(vl_spec=styled(chart).to_json()).encode()
    return styled(chart).to_html(inline=True).encode()


def fit_tiles(fit: pl.DataFrame, state: str, *, synthetic: bool) -> bytes:
    """The fit of a state as a small grid of tiles; the bytes of a picture."""
    # At twice its size the picture of a large state would be a megabyte of an event log.
    scale = SCALE_FACTOR if fit["geoid"].n_unique() < SMALL else 1.0
    return render(tile_map(fit_figures(fit, state), {}, synthetic=synthetic), scale)
