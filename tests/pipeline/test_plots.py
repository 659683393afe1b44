"""Charts: real pictures, honest about what they leave out, and labelled where the data are made
up.
"""

from __future__ import annotations

import json
import struct
from typing import Any
from xml.etree import ElementTree

import polars as pl
import pytest

from pipeline.reports import chart_style, loss_plots, plots
from pipeline.vocabulary import LEVELS

PNG = b"\x89PNG\r\n\x1a\n"
FIT = pl.DataFrame(
    {
        "level": ["state", "county", "tract", "tract"],
        "value": [1e6, 1e4, 100.0, 0.0],
        "fitted": [1.01e6, 0.9e4, 140.0, 3.0],
        "weight": [0.5, 2.0, 30.0, 0.0],
    }
)
TWO = pl.DataFrame(
    {
        "weights": ["dense"] * 3 + ["selected"] * 3,
        "value": [1e3, 2e4, 3e5] * 2,
        "share": [0.2, 0.5, 1.0, 0.3, 0.6, 1.0],
    }
)
PAIRS = pl.DataFrame(
    {
        "dense": [0.1, 0.2, 0.3, None],
        "selected": [0.12, 0.0, 0.28, 0.5],
        "kind": ["a", "a", "b", "b"],
    }
)
SIZES = pl.DataFrame(
    {"geoid": ["1", "2", "3"], "ess": [30.0, 40.0, None], "pairs": [60.0, 80.0, 0.0]}
)
CHARTS = {
    "scatter": lambda frame, synthetic: plots.fit_scatter(frame, "Fit", synthetic=synthetic),
    "errors": lambda frame, synthetic: plots.error_curves(frame, "Errors", synthetic=synthetic),
    "histogram": lambda frame, synthetic: plots.histogram(
        frame, "weight", "Weights", "weight", synthetic=synthetic
    ),
    "bars": lambda frame, synthetic: plots.bars(
        frame, "level", "weight", "Bars", "weight", synthetic=synthetic
    ),
}


COMPARISONS = {
    "curves": lambda synthetic, empty: loss_plots.distribution_curves(
        TWO.clear() if empty else TWO, "Income", "dollars", synthetic=synthetic
    ),
    "agreement": lambda synthetic, empty: loss_plots.agreement(
        PAIRS.clear() if empty else PAIRS, "Correlations", "r", "pairs", synthetic=synthetic
    ),
    "log agreement": lambda synthetic, empty: loss_plots.agreement(
        PAIRS.clear() if empty else PAIRS, "Cells", "share", "cells", synthetic=synthetic, log=True
    ),
    "sample sizes": lambda synthetic, empty: loss_plots.sample_sizes(
        SIZES.clear() if empty else SIZES, "ESS", "tract", synthetic=synthetic
    ),
}


def with_rows(part: Any) -> Any:
    """A document with the rows of its data as lists, which are one text there."""
    if isinstance(part, list):
        return [with_rows(each) for each in part]
    if not isinstance(part, dict):
        return part
    if isinstance(part.get("values"), str):
        return part | {"values": json.loads(part["values"])}
    return {name: with_rows(each) for name, each in part.items()}


def words_of(picture: bytes) -> list[str]:
    """The texts of an SVG picture."""
    root = ElementTree.fromstring(picture.decode())
    assert root.tag.endswith("svg")
    return [element.text or "" for element in root.iter() if element.tag.endswith("}text")]


@pytest.fixture
def drawn(monkeypatch) -> list[dict]:
    """The Vega-Lite documents handed to the renderer."""
    documents: list[dict] = []
    render = chart_style.render

    def spy(chart):
        documents.append(with_rows(json.loads(chart.to_json())))
        return render(chart)

    for module in (plots, loss_plots):
        monkeypatch.setattr(module, "render", spy)
    return documents


@pytest.mark.parametrize("name", CHARTS)
def test_a_chart_is_a_picture_and_its_title_tells_made_up_data(name, drawn):
    for synthetic in (True, False):
        words = words_of(CHARTS[name](FIT, synthetic))
        assert drawn[-1]["title"]["text"] in words
        assert ("SYNTHETIC" in drawn[-1]["title"]["text"]) is synthetic


@pytest.mark.parametrize("name", CHARTS)
def test_a_table_without_rows_still_draws(name):
    assert words_of(CHARTS[name](FIT.clear(), False))


def _many(targets: int) -> pl.DataFrame:
    return pl.DataFrame(
        {"level": ["tract"] * targets, "value": [float(i + 1) for i in range(targets)]}
    ).with_columns(fitted=1.1 * pl.col("value"))


def test_a_picture_of_few_marks_is_svg_and_one_of_thousands_the_same_as_png(drawn):
    few = plots.fit_scatter(_many(20), "Fit", synthetic=False)
    many = plots.fit_scatter(_many(1900), "Fit", synthetic=False)
    assert few.startswith(b"<svg") and len(few) <= chart_style.LONGEST_SVG
    assert many.startswith(PNG)
    root = ElementTree.fromstring(few.decode())
    # Both are shown at one size.
    width, height = struct.unpack(">II", many[16:24])
    assert float(root.attrib["width"]) == pytest.approx(width, rel=0.05)
    assert float(root.attrib["height"]) == pytest.approx(height, rel=0.05)


def test_a_wide_picture_is_shown_whole():
    long = pl.DataFrame({"name": ["a name of very many letters " * 3] * 2, "count": [1.0, 2.0]})
    drawn = plots.bars(long, "name", "count", "Bars", "count", synthetic=False)
    wide = plots.fit_scatter(FIT, "Fit of a long title, " * 9, synthetic=False)
    for picture in (drawn, wide):
        root = ElementTree.fromstring(picture.decode())
        left, top, *inside = map(float, root.attrib["viewBox"].split())
        width, height = (float(root.attrib[side]) for side in ("width", "height"))
        assert (left, top) == (0, 0) and width <= chart_style.WIDEST_SHOWN
        assert width / height == pytest.approx(inside[0] / inside[1], rel=1e-3)
    assert width == pytest.approx(chart_style.WIDEST_SHOWN)


def test_a_png_of_the_ui_is_what_a_file_would_have(monkeypatch):
    charts: list[Any] = []
    monkeypatch.setattr(plots, "render", lambda chart: charts.append(chart) or b"")
    plots.fit_scatter(_many(1900), "Fit", synthetic=False)
    assert chart_style.render(charts[0]) == chart_style.render_png(charts[0])


def test_the_same_rows_give_the_same_bytes_whatever_was_drawn_before():
    """Vega counts gradients through all charts of a process."""
    from pipeline.reports.map_rows import MapFigures
    from pipeline.reports.maps import tile_map

    rows = pl.DataFrame(
        {"level": ["county", "tract"], "geoid": ["44001", "44001000100"], "figure": [0.1, 0.2]}
    )
    of_level = {"county": "error", "tract": "error"}
    figures = MapFigures(rows, "Fit", of_level, {"county": ".1%", "tract": ".2f"})
    first, second = (chart_style.render(tile_map(figures, {}, synthetic=True)) for _ in range(2))
    assert first == second and b"url(#gradient_0)" in first


def test_rows_reach_the_chart_whole():
    """Numbers of every size, nulls, and what would break text into pieces."""
    import altair as alt

    frame = pl.DataFrame(
        {"n": [1e-12, 2.5e17, -0.1, None], "t": ['a"b', "Añasco · 1", "</svg>", "\\"]}
    )
    for rows in (frame, frame.to_dicts()):
        data = with_rows(chart_style.as_data(alt, rows).to_dict())
        assert data["values"] == frame.to_dicts()
    assert with_rows(chart_style.as_data(alt, frame.clear()).to_dict())["values"] == []


def test_an_error_of_drawing_reaches_the_caller():
    import altair as alt

    chart = alt.Chart(alt.Data(values="[{", format=alt.DataFormat(type="json"))).mark_point()
    for draw in (chart_style.render, chart_style.render_png):
        with pytest.raises(ValueError, match="JSON"):
            draw(chart)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("scatter", "1 at zero are not shown"),
        ("errors", "1 targets of zero left out"),
        ("histogram", "1 not above zero are not shown"),
    ],
)
def test_rows_left_out_are_counted(name, said, drawn):
    CHARTS[name](FIT, False)
    assert said in drawn[-1]["title"]["subtitle"]


def test_many_targets_are_thinned_evenly_and_the_ends_stay(drawn):
    many = pl.DataFrame(
        {"level": ["tract"] * 9000, "value": [float(i + 1) for i in range(9000)]}
    ).with_columns(fitted=pl.col("value"))
    plots.fit_scatter(many, "Fit", synthetic=False, limit=300)
    points = next(layer for layer in drawn[-1]["layer"] if layer["mark"]["type"] == "circle")[
        "data"
    ]["values"]
    assert len(points) == 300
    values = [point["value"] for point in points]
    assert min(values) == 1.0
    assert max(values) > 8900
    assert drawn[-1]["title"]["subtitle"] == "300 of 9,000 targets drawn"


def test_no_total_is_drawn_beyond_the_axes_of_a_fit(drawn):
    """Seen in the UI: points among the words below the axis."""
    far = FIT.clear().vstack(
        pl.DataFrame(
            {
                "level": ["state", "county", "tract"],
                "value": [1e6, 1e4, 200.0],
                "fitted": [1e6, 20.0, 1e-7],
                "weight": [1.0, 1.0, 1.0],
            }
        ).select(FIT.columns)
    )
    plots.fit_scatter(far, "Fit", synthetic=False)
    points = next(layer for layer in drawn[-1]["layer"] if layer["mark"]["type"] == "circle")
    low, high = points["encoding"]["y"]["scale"]["domain"]
    fitted = [point["fitted"] for point in points["data"]["values"]]
    assert low < min(fitted) and max(fitted) < high
    assert fitted[1:] == [20.0, 2.0]  # a hundredth of the least target
    assert "1 further off drawn at the edge" in drawn[-1]["title"]["subtitle"]


def _mixed(tracts: int) -> pl.DataFrame:
    """Tracts with errors of 1, 2, ... ten-thousandths, and two counties in their midst."""
    values = [100.0] * tracts + [100.0, 100.0]
    errors = [(i + 1) / 10_000 for i in range(tracts)] + [0.0123, 0.0456]
    return pl.DataFrame(
        {
            "level": ["tract"] * tracts + ["county"] * 2,
            "value": values,
            "fitted": [v * (1 + e) for v, e in zip(values, errors, strict=True)],
        }
    )


def test_an_error_curve_ends_at_the_worst_error_and_begins_at_the_least(drawn):
    plots.error_curves(_mixed(5000), "Errors", synthetic=False, limit=70)
    points = drawn[-1]["data"]["values"]
    for level, least, worst, count in (("tract", 0.0001, 0.5, 70), ("county", 0.0123, 0.0456, 2)):
        curve = [point for point in points if point["level"] == level]
        assert len(curve) == count
        assert min(point["error"] for point in curve) == pytest.approx(least)
        last = max(curve, key=lambda point: (point["error"], point["share"]))
        assert (last["error"], last["share"]) == (pytest.approx(worst), 1.0)


def test_thinning_keeps_the_first_and_last_of_each_level_whatever_the_order_of_rows():
    frame = _mixed(5000)
    shown = chart_style.thinned(frame, 50, "fitted")
    assert shown.height == 50
    for level in ("tract", "county"):
        whole, part = (f.filter(pl.col("level") == level)["fitted"] for f in (frame, shown))
        assert (part.min(), part.max()) == (whole.min(), whole.max())
    assert chart_style.thinned(frame.reverse(), 50, "fitted").equals(shown)


@pytest.mark.parametrize("chart", [plots.fit_scatter, plots.error_curves])
def test_the_legend_lists_levels_with_a_point_in_their_usual_colour(chart, drawn):
    for frame, levels in (
        (FIT, ["state", "county", "tract"]),
        (FIT.filter(pl.col("level") == "tract"), ["tract"]),
    ):
        chart(frame, "Fit", synthetic=False)
        layer = next(
            each for each in drawn[-1].get("layer", [drawn[-1]]) if "color" in each["encoding"]
        )
        scale = layer["encoding"]["color"]["scale"]
        assert scale["domain"] == levels
        assert scale["range"] == [
            chart_style.LEVEL_COLOURS[LEVELS.index(level)] for level in levels
        ]


def test_errors_beyond_the_axis_are_counted(drawn):
    plots.error_curves(
        pl.DataFrame({"level": ["tract"] * 2, "value": [1.0, 1.0], "fitted": [1.5, 30.0]}),
        "Errors",
        synthetic=False,
    )
    assert "1 errors above 1,000 % drawn there" in drawn[-1]["title"]["subtitle"]


@pytest.mark.parametrize("name", COMPARISONS)
def test_a_comparison_is_a_picture_with_or_without_rows_and_tells_made_up_data(name, drawn):
    for synthetic in (True, False):
        words = words_of(COMPARISONS[name](synthetic, False))
        assert drawn[-1]["title"]["text"] in words
        assert ("SYNTHETIC" in drawn[-1]["title"]["text"]) is synthetic
    assert words_of(COMPARISONS[name](False, True))


def test_comparisons_count_what_they_leave_out(drawn):
    loss_plots.agreement(PAIRS, "Correlations", "r", "correlations", synthetic=False)
    assert drawn[-1]["title"]["subtitle"] == "3 correlations; 1 without a figure not shown"
    loss_plots.agreement(PAIRS, "Cells", "share", "cells", synthetic=False, log=True)
    assert drawn[-1]["title"]["subtitle"] == "2 cells; 2 that only one of the two has not shown"
    loss_plots.sample_sizes(SIZES, "ESS", "tract", synthetic=False)
    assert (
        drawn[-1]["title"]["subtitle"]
        == "2 areas; median 35.0; the line: 70 pairs, the median; 1 without a pair not shown"
    )


def test_the_lower_panel_is_the_difference_of_the_curves_in_points(drawn):
    loss_plots.distribution_curves(TWO, "Income", "dollars", synthetic=False)
    found = [
        layer["data"]["values"]
        for layer in drawn[-1]["vconcat"][1]["layer"]
        if "gap" in str(layer["data"]["values"])
    ]
    assert [row["gap"] for row in found[0]] == pytest.approx([10.0, 10.0, 0.0])


@pytest.mark.parametrize("chart", ["histogram", "sample sizes"])
def test_bars_stand_on_the_axis(chart, drawn):
    CHARTS[chart](FIT, False) if chart in CHARTS else COMPARISONS[chart](False, False)
    layer = drawn[-1].get("layer", [drawn[-1]])[0]
    assert layer["encoding"]["y2"]["field"] == "none"
    values = layer["data"]["values"]
    assert all(row["none"] == 0 and row["low"] < row["high"] for row in values)
    assert sum(row["count"] for row in values) == (3 if chart == "histogram" else 2)


def test_marks_of_a_log_axis():
    assert chart_style.log_marks(0.3, 30.0) == pytest.approx([0.5, 1, 2, 5, 10, 20])
    assert chart_style.log_marks(1e-3, 1e6) == pytest.approx([10.0**n for n in range(-3, 7)])
