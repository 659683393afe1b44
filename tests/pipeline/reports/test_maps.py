"""Maps: which figures, where tiles lie, boundaries from files, what a picture says."""

from __future__ import annotations

import json
import struct

import polars as pl
import pytest

from pipeline.errors import ProfileError, SourceFileError, SourceLayoutError
from pipeline.reports.boundaries import on_a_plane, read_boundaries
from pipeline.reports.map_rows import (
    MapFigures,
    fit_figures,
    key_of_text,
    short_name,
    variable_figures,
)
from pipeline.reports.maps import as_file, boundary_map, fit_tiles, tile_map
from pipeline.reports.tile_grid import WIDER, WIDTH, tile_grid

TRACTS = ("44001000100", "44001000200", "44003000100")
SQUARE = [[[0.0, 40.0], [1.0, 40.0], [1.0, 41.0], [0.0, 41.0], [0.0, 40.0]]]


def fit_rows(*rows: tuple) -> pl.DataFrame:
    columns = ["level", "geoid", "value", "fitted", "margin_standard_error", "role"]
    return pl.DataFrame(rows, orient="row", schema=columns).with_columns(unit=pl.lit("persons"))


def drawn() -> MapFigures:
    rows = [("county", "44001", 0.01), ("county", "44003", 0.05)]
    rows += [("tract", tract, 0.1 * n) for n, tract in enumerate(TRACTS)]
    frame = pl.DataFrame(rows, orient="row", schema=["level", "geoid", "figure"])
    legends = {"county": "median relative error", "tract": "mean error, in margins"}
    return MapFigures(frame, "Fit of RI", legends, {"county": ".1%", "tract": ".2f"})


def test_fit_is_in_margins_where_they_are_published_and_relative_elsewhere():
    found = fit_figures(
        fit_rows(
            ("tract", TRACTS[0], 100.0, 110.0, 10.0 / 1.645, "calibrate"),
            ("tract", TRACTS[0], 100.0, 103.0, 10.0 / 1.645, "calibrate"),
            ("tract", TRACTS[0], 100.0, 900.0, 1.0, "evidence"),
            ("tract", TRACTS[1], 100.0, None, 1.0, "dropped"),
            ("county", "44001", 100.0, 102.0, None, "calibrate"),
            ("county", "44001", 0.2, 5.0, None, "calibrate"),
            ("state", "44", 100.0, 150.0, None, "calibrate"),
        ),
        "RI",
    )
    figures = {geoid: figure for _, geoid, figure in found.rows.iter_rows()}
    assert figures == {"44001": pytest.approx(0.02), TRACTS[0]: pytest.approx((1.0 + 0.3) / 2)}
    assert found.legends["tract"] == "mean error, in published 90 % margins"
    assert found.legends["county"] == "median relative error"


def test_a_variable_is_the_sum_of_weights_times_records():
    weights = pl.DataFrame(
        {
            "household_id": ["a", "b", "a"],
            "tract": list(TRACTS),
            "county": [t[:5] for t in TRACTS],
            "weight": [2.0, 10.0, 5.0],
        }
    )
    units = pl.DataFrame(
        {"household_id": ["a", "b"], "persons|total": [3.0, 4.0], "persons|veteran": [1.0, 0.0]}
    )
    words = {
        ("persons", "veteran"): ("Veterans", "persons"),
        ("persons", "total"): ("All", "persons"),
    }
    key, whole = ("persons", "veteran"), ("persons", "total")
    found = variable_figures(weights, units, key, None, "RI", words)
    assert dict(found.rows.select("geoid", "figure").iter_rows()) == {
        "44001": 2.0,
        "44003": 5.0,
        TRACTS[0]: 2.0,
        TRACTS[1]: 0.0,
        TRACTS[2]: 5.0,
    }
    assert found.title == "Veterans, RI" and found.legends["tract"] == "persons"
    share = variable_figures(weights, units, key, whole, "RI", words)
    figures = dict(share.rows.select("geoid", "figure").iter_rows())
    assert figures["44001"] == pytest.approx(2.0 / 46.0) and figures[TRACTS[2]] == pytest.approx(
        1 / 3
    )
    assert share.legends["tract"] == "share of all" and share.forms["tract"] == ".1%"
    with pytest.raises(ProfileError, match="measures persons/veterans") as stop:
        variable_figures(weights, units, key_of_text("persons/veterans"), None, "RI", words)
    assert "persons/veteran" in stop.value.expected
    assert key_of_text("persons") == ("persons", "total")


def test_tiles_lie_in_their_county_and_never_over_each_other():
    counties = {
        f"06{c:03d}": [f"06{c:03d}{t:06d}" for t in range(n)]
        for c, n in enumerate((1, 700, 3, 40, 0, 12, 2500, 90))
    }
    many = counties | {f"06{c:03d}": [f"06{c:03d}000001"] for c in range(100, 130)}
    for tracts, width in ((counties, WIDTH), (many, WIDER)):
        grid = tile_grid(tracts)
        assert sorted(t.geoid for t in grid.tiles) == sorted(
            t for each in tracts.values() for t in each
        )
        assert [s.geoid for s in grid.strips] == sorted(tracts)
        assert grid.width <= width
        strips = {s.geoid: s for s in grid.strips}
        for tile in grid.tiles:
            strip = strips[tile.geoid[:5]]
            assert strip.x <= tile.x and tile.x + tile.width <= strip.x + strip.width + 1e-6
            assert tile.y >= strip.y + strip.height and tile.y + tile.height <= grid.height + 1e-6
        corners = [(round(t.x, 3), round(t.y, 3)) for t in grid.tiles]
        assert len(set(corners)) == len(corners)
        for one in grid.strips:
            for other in grid.strips:
                apart = (
                    one.x + one.width <= other.x
                    or other.x + other.width <= one.x
                    or one.y != other.y
                )
                assert one is other or apart
    assert tile_grid(counties) == tile_grid(dict(reversed(counties.items())))


def test_a_picture_names_what_it_shows():
    svg = as_file(tile_map(drawn(), {"44001": "Bristol"}, synthetic=True), ".svg").decode()
    for text in ("Fit of RI · SYNTHETIC", "Bristol", ">county 003<", "5.0%", "Tracts: mean error"):
        assert text in svg, text
    assert "SYNTHETIC" not in as_file(tile_map(drawn(), {}, synthetic=False), ".svg").decode()
    html = as_file(tile_map(drawn(), {}, synthetic=True), ".html").decode()
    assert "SYNTHETIC" in html and "cdn.jsdelivr" not in html


def tile_scale(figures: MapFigures) -> dict:
    """The scale that tiles are coloured by."""
    chart = tile_map(figures, {}, synthetic=False).to_dict()
    return chart["layer"][0]["encoding"]["color"]["scale"]


def test_colours_run_light_to_dark_and_two_ways_where_signs_differ():
    figures = drawn()
    scale = tile_scale(figures)
    assert scale["scheme"] == "yellowgreenblue" and scale["domain"] == pytest.approx([0.0, 0.2])
    above = MapFigures(
        figures.rows.with_columns(pl.col("figure") + 1), "x", figures.legends, figures.forms
    )
    assert tile_scale(above)["domain"] == pytest.approx([1.0, 1.2])
    from_zero = MapFigures(above.rows, "x", above.legends, above.forms, from_zero=True)
    assert tile_scale(from_zero)["domain"] == pytest.approx([0.0, 1.2])
    losses = figures.rows.with_columns(pl.col("figure") - 0.15)
    signed = MapFigures(losses, "x", figures.legends, figures.forms, signed=True)
    scale = tile_scale(signed)
    assert scale["scheme"] == "blueorange" and scale["domain"] == pytest.approx([-0.15, 0.15])


def test_the_map_of_the_ui_is_a_png_that_is_not_large_where_tracts_are_many():
    rows = [("tract", f"44001{n:06d}", 100.0, 100.0 + n, 10.0, "calibrate") for n in range(1500)]
    rows.append(("county", "44001", 100.0, 101.0, None, "calibrate"))
    png = fit_tiles(fit_rows(*rows), "RI", synthetic=True)
    assert png[:8] == b"\x89PNG\r\n\x1a\n" and len(png) < 400_000
    width, height = struct.unpack(">II", png[16:24])
    assert 200 < width < 1000 and 100 < height < 1500


def test_the_map_of_the_ui_is_a_short_svg_where_tracts_are_few():
    rows = [("tract", f"44001{n:06d}", 100.0, 100.0 + n, 10.0, "calibrate") for n in range(60)]
    svg = fit_tiles(fit_rows(*rows), "RI", synthetic=True)
    assert svg.startswith(b"<svg") and b"RI \xc2\xb7 SYNTHETIC" in svg and len(svg) < 40_000


def geojson(folder, features) -> object:
    path = folder / "areas.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


def feature(properties: dict, coordinates=SQUARE, kind="Polygon") -> dict:
    return {
        "type": "Feature",
        "properties": properties,
        "geometry": {"type": kind, "coordinates": coordinates},
    }


def test_geojson_by_any_of_the_usual_ids(tmp_path):
    path = geojson(
        tmp_path,
        [
            feature({"GEOID": "44001"}),
            feature({"GEO_ID": "1400000US44001000100"}),
            feature({"GEOID20": "44003000100"}, [SQUARE, SQUARE], "MultiPolygon"),
            feature({"name": "nobody"}),
            {"type": "Feature", "properties": {"GEOID": "44005"}, "geometry": None},
        ],
    )
    found = read_boundaries(path)
    assert sorted(found) == ["44001", "44001000100", "44003000100"]
    assert len(found["44003000100"]) == 2 and found["44001"][0][0][1] == (1.0, 40.0)


def test_topojson_is_the_same_as_geojson(tmp_path):
    """Two squares that share an arc; steps of a tenth of a degree."""
    topology = {
        "type": "Topology",
        "transform": {"scale": [0.1, 0.1], "translate": [-71.0, 41.0]},
        "arcs": [
            [[10, 0], [0, 10]],
            [[10, 10], [-10, 0], [0, -10], [10, 0]],
            [[10, 10], [10, 0], [0, -10], [-10, 0]],
        ],
        "objects": {
            "tracts": {
                "type": "GeometryCollection",
                "geometries": [
                    {"type": "Polygon", "arcs": [[0, 1]], "properties": {"GEOID": TRACTS[0]}},
                    {"type": "MultiPolygon", "arcs": [[[~0, ~2]]], "id": TRACTS[1]},
                ],
            }
        },
    }
    path = tmp_path / "areas.topojson"
    path.write_text(json.dumps(topology))
    found = read_boundaries(path)
    rings = {g: [(round(x, 6), round(y, 6)) for x, y in s[0][0]] for g, s in found.items()}
    assert rings[TRACTS[0]] == [(-70, 41), (-70, 42), (-71, 42), (-71, 41), (-70, 41)]
    assert rings[TRACTS[1]] == [(-70, 42), (-70, 41), (-69, 41), (-69, 42), (-70, 42)]


@pytest.mark.parametrize(
    ("text", "error", "words"),
    [
        pytest.param("{", SourceFileError, "cannot be read", id="torn"),
        pytest.param("[]", SourceLayoutError, "its type is None", id="list"),
        pytest.param('{"type": "FeatureCollection"}', SourceLayoutError, "features", id="empty"),
        pytest.param(
            '{"type": "FeatureCollection", "features": []}',
            SourceLayoutError,
            "no polygon has an id",
            id="none",
        ),
        pytest.param(
            '{"type": "Topology", "arcs": [], "objects": {"a": {"type": "Polygon", '
            '"arcs": [[5]], "properties": {"GEOID": "44001"}}}}',
            SourceLayoutError,
            "IndexError",
            id="arc",
        ),
    ],
)
def test_a_file_that_is_none_is_refused_in_words(tmp_path, text, error, words):
    path = tmp_path / "areas.json"
    path.write_text(text)
    with pytest.raises(error, match=words):
        read_boundaries(path)
    with pytest.raises(SourceFileError, match="cannot be read"):
        read_boundaries(tmp_path / "none.json")


def test_metres_are_not_taken_for_degrees(tmp_path):
    metres = [[[500_000.0, 0.0], [600_000.0, 0.0], [600_000.0, 9.0], [500_000.0, 0.0]]]
    with pytest.raises(SourceLayoutError, match="are no degrees"):
        read_boundaries(geojson(tmp_path, [feature({"GEOID": "44001"}, metres)]))


def test_a_degree_east_shrinks_and_the_date_line_does_not_tear():
    flat = on_a_plane({"44001": [SQUARE]})["44001"][0][0]
    assert flat[1][0] == pytest.approx(0.76, abs=0.01) and flat[2][1] == 41.0
    aleutian = [[[[179.0, 52.0], [179.5, 52.0], [179.0, 52.1]]], [[[-179.0, 52.0], [-178.0, 52.0]]]]
    moved = on_a_plane({"02016": aleutian})["02016"]
    xs = [x for polygon in moved for ring in polygon for x, _ in ring]
    assert max(xs) - min(xs) < 3.0


def test_areas_without_figure_or_boundary_are_counted(tmp_path):
    shapes = read_boundaries(
        geojson(tmp_path, [feature({"GEOID": TRACTS[0]}), feature({"GEOID": "44009999999"})])
    )
    svg = as_file(boundary_map(drawn(), shapes, {}, synthetic=True, file="f"), ".svg").decode()
    assert "1 without a figure (grey), 2 not in the file" in svg and "SYNTHETIC" in svg
    other = read_boundaries(geojson(tmp_path, [feature({"GEOID": "10001"})]))
    with pytest.raises(SourceLayoutError, match="None of the state's areas"):
        boundary_map(drawn(), other, {}, synthetic=True, file="f")


def test_short_names_of_counties():
    names = {
        "Kent County (SYNTHETIC)": "Kent",
        "Orleans Parish, Louisiana": "Orleans",
        "Aleutians West Census Area": "Aleutians West",
        "Capitol Planning Region, Connecticut": "Capitol",
        "District of Columbia": "District of Columbia",
    }
    assert {name: short_name(name) for name in names} == names


def test_the_ui_shows_the_map_beside_the_fit():
    from types import SimpleNamespace

    from pipeline.assets.metadata import of_fit_report
    from tests.pipeline.release.result import fit_table, weights_table

    weights = weights_table("RI")
    state = SimpleNamespace(postal="RI", profile=SimpleNamespace(synthetic=True))
    shown = of_fit_report(state, fit_table("RI", weights, {}), weights)
    assert shown["plot_map"].value.startswith("![Fit of RI, map](data:image/svg+xml;base64,")
