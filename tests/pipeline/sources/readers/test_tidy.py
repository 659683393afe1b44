"""A target file of one's own: area codes, measures, and as little else as possible."""

from __future__ import annotations

import pytest

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.specs.sources import SourceSpec

FILE = "own/nurses_2022.csv"


def own(**changes: object) -> SourceSpec:
    parts: dict[str, object] = {
        "id": "nurses",
        "title": "Nurses by county, counted by a team",
        "publisher": "SYNTHETIC",
        "licence": "SYNTHETIC",
        "url": "https://example.org/nurses",
        "documentation": "https://example.org/nurses",
        "coverage": "nation",
        "levels": ("nation", "state", "county"),
        "reader": "tidy_csv",
        "layout": {"geography": "area"},
        "files": ({"paths": ("own/nurses_{year}.csv",)},),
        "vintages": {"2022": {}},
        "columns": ({"name": "nurses", "unit": "persons", "description": "nurses"},),
    }
    return SourceSpec.model_validate(parts | changes)


def test_three_columns_are_enough(read, cell):
    text = "area,nurses\nUS,900\n44,90\n44001,8\n0500000US44003,7\n"
    frame = read(own(), "2022", {FILE: text}).frame
    places = frame.select("level", "geoid", "estimate").rows()
    assert sorted(places) == [
        ("county", "44001", 8.0),
        ("county", "44003", 7.0),
        ("nation", "", 900.0),
        ("state", "44", 90.0),
    ]
    assert cell(frame, "44", "nurses")["name"] is None


def test_margins_stand_in_a_column_of_their_own(read, cell):
    layout = {"geography": "area", "parts": "suffix", "estimate_mark": "E", "margin_mark": "M"}
    columns = ({"name": "n_001", "unit": "persons", "description": "nurses"},)
    text = "area,n_001E,n_001M\n44001,8,3\n"
    frame = read(own(layout=layout, columns=columns), "2022", {FILE: text}).frame
    assert cell(frame, "44001", "n_001")["margin_of_error"] == 3.0


@pytest.mark.parametrize("code", ["4401", "RI", "440010", ""])
def test_a_code_that_is_no_area_is_named(read, code):
    with pytest.raises(SourceValueError, match="no usable area code"):
        read(own(), "2022", {FILE: f"area,nurses\n44001,8\n{code},7\n"})


def test_two_rows_of_one_area_and_an_absent_measure_are_named(read):
    with pytest.raises(SourceValueError, match="44001"):
        read(own(), "2022", {FILE: "area,nurses\n44001,8\n44001,7\n"})
    with pytest.raises(SourceLayoutError, match="nurses"):
        read(own(), "2022", {FILE: "area,doctors\n44001,8\n"})
