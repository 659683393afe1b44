"""Tracts of one census under the codes of later counties: Connecticut's planning regions."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceValueError
from pipeline.sources.registry import check_source, read_source
from pipeline.specs.sources import load_source

LIST = "geo/2020_Census_Tract_to_2020_PUMA.txt"
CROSSWALK = "geo/2022tractcrosswalk.csv"
HEAD = "STATEFP,COUNTYFP,TRACTCE,PUMA5CE\n"
ROWS = "09,001,010101,20903\n09,003,400100,20301\n09,001,990000,20903\n44,001,030100,00300\n"
CODES = (
    "tract_fips_2020,Tract_fips_2022,town\n09001010101,09190010101,A\n09003400100,09110400100,B\n"
)


def test_tracts_get_the_code_of_their_region_and_others_keep_theirs(read):
    table = read("tract_puma", "2022", {LIST: HEAD + ROWS, CROSSWALK: "\ufeff" + CODES})
    assert table.frame.rows() == [
        ("09", "09110", "09110400100", "0920301"),
        ("09", "09190", "09190010101", "0920903"),
        ("44", "44001", "44001030100", "4400300"),
    ]
    notes = {note.code: note for note in table.notes}
    assert notes["tracts_recoded"].count == 2
    assert "09001990000" in notes["tracts_of_water"].detail
    assert [p.label for p in table.provenance] == [LIST[4:], CROSSWALK[4:]]


def test_without_the_crosswalk_the_list_is_as_it_was(read):
    table = read("tract_puma", "2022", {LIST: HEAD + ROWS})
    assert "09001010101" in table.frame["tract"].to_list() and not table.notes


@pytest.mark.parametrize(
    ("codes", "says"),
    [
        (CODES.replace("09003400100,", "09003400200,"), r"lacks 1 tract\(s\), first 09003400100"),
        (CODES.replace("09110400100", "9110400100"), "hold no tract codes"),
        (CODES + "09001010101,09110010101,A\n", "twice"),
    ],
    ids=["a tract is missing", "a zero is lost", "one tract in two regions"],
)
def test_a_damaged_crosswalk_is_refused(read, codes, says):
    with pytest.raises(SourceValueError, match=says):
        read("tract_puma", "2022", {LIST: HEAD + ROWS, CROSSWALK: codes})


def test_check_looks_at_both_files(put):
    data = put({LIST: HEAD + ROWS, CROSSWALK: CODES})
    lines = check_source(load_source("tract_puma"), "2022", data, ["RI"])
    assert [line.message for line in lines] == ["4 rows", "2 tracts"]


def test_the_real_list_has_nine_regions(realdata):
    frame = read_source(load_source("tract_puma"), "2022", realdata, ["CT"]).frame
    assert frame.height == 879
    assert frame["county_fips"].n_unique() == 9
    assert frame["county_fips"].min() == "09110"
    before = read_source(load_source("tract_puma"), "2020", realdata, ["CT"]).frame
    assert set(frame["puma"]) == set(before["puma"])
    assert before.filter(pl.col("tract").str.slice(5, 2) == "99").height == 4
