"""Tract-to-PUMA lists: codes, duplicates, the right year, and the real lists."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

PATH = "geo/2020_Census_Tract_to_2020_PUMA.zip"
MEMBER = "2020_Census_Tract_to_2020_PUMA.txt"
HEAD = "STATEFP,COUNTYFP,TRACTCE,PUMA5CE\n"
ROWS = "44,003,020101,00200\n44,001,030100,00300\n10,001,040100,00301\n"


def test_codes_are_joined_and_sorted(read, zipped):
    table = read("tract_puma", "2020", {PATH: zipped({MEMBER: HEAD + ROWS})})
    assert table.frame.rows() == [
        ("10", "10001", "10001040100", "1000301"),
        ("44", "44001", "44001030100", "4400300"),
        ("44", "44003", "44003020101", "4400200"),
    ]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"zip": "2020_Census_Tract_to_2020_PUMA.csv"}, id="csv in a zip"),
        pytest.param({"txt": ""}, id="the publisher's text file"),
    ],
)
def test_both_carriers_are_read_with_a_byte_order_mark(read, zipped, files):
    content = "\ufeff" + HEAD + ROWS
    given = (
        {PATH: zipped({files["zip"]: content})}
        if "zip" in files
        else {PATH.replace(".zip", ".txt"): content}
    )
    assert read("tract_puma", "2020", given).frame.height == 3


@pytest.mark.parametrize(
    "text",
    [(HEAD + ROWS).replace("\n", "\r\n"), HEAD + ROWS + "\n\n", (HEAD + ROWS).rstrip("\n")],
    ids=["crlf", "blank lines at the end", "no last line end"],
)
def test_line_ends_do_not_matter(read, zipped, text):
    table = read("tract_puma", "2020", {PATH: zipped({MEMBER: text})})
    assert table.frame["puma"].to_list() == ["1000301", "4400300", "4400200"]


def test_states_asked_for(read, zipped):
    files = {PATH: zipped({MEMBER: HEAD + ROWS})}
    table = read("tract_puma", "2020", files, ["RI"])
    assert set(table.frame["state_fips"]) == {"44"}
    assert [n.count for n in table.notes] == [1]
    with pytest.raises(SourceValueError, match="no tract of VT"):
        read("tract_puma", "2020", files, ["RI", "VT"])


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param(
            ROWS + "44,001,030100,00300\n",
            r"Tract 44001030100 stands in rows 3 and 5, in PUMA 4400300 and 4400300",
            id="same line twice",
        ),
        pytest.param(
            ROWS + "44,001,030100,00200\n",
            r"rows 3 and 5, in PUMA 4400300 and 4400200",
            id="two PUMAs",
        ),
        pytest.param(
            ROWS + "44,1,030100,00300\n",
            r"COUNTYFP have not 3 digits; the first is '1'.*row 5",
            id="lost zeros",
        ),
        pytest.param(
            ROWS + "44,001,,00300\n", r"TRACTCE have not 6 digits; the first is None", id="blank"
        ),
        pytest.param(ROWS + "03,001,030100,00300\n", "state_is_known", id="no such state"),
    ],
)
def test_faulty_lists(read, zipped, rows, words):
    with pytest.raises(SourceValueError, match=words):
        read("tract_puma", "2020", {PATH: zipped({MEMBER: HEAD + rows})})


def test_damaged_archives_and_other_members(read, zipped):
    whole = zipped({MEMBER: HEAD + ROWS * 1})
    with pytest.raises(SourceFileError, match="zip archive cannot be opened"):
        read("tract_puma", "2020", {PATH: whole[: len(whole) // 2]})
    with pytest.raises(
        SourceLayoutError,
        match=r"0 members end in '2020_.*the archive holds 2010_Census_Tract_to_2010_PUMA.txt",
    ):
        read(
            "tract_puma",
            "2020",
            {PATH: zipped({"2010_Census_Tract_to_2010_PUMA.txt": HEAD + ROWS})},
        )
    with pytest.raises(
        SourceLayoutError, match="Column PUMA5CE is missing; the nearest names there are PUMACE"
    ):
        read(
            "tract_puma", "2020", {PATH: zipped({MEMBER: HEAD.replace("PUMA5CE", "PUMACE") + ROWS})}
        )


def test_counties_of_another_decade_betray_the_list(read, zipped):
    with pytest.raises(SourceLayoutError, match="looks like vintage 2010, not 2020"):
        read("tract_puma", "2020", {PATH: zipped({MEMBER: HEAD + "02,270,000100,00400\n"})})


@pytest.mark.parametrize(
    ("vintage", "tracts", "state_tracts", "pumas"),
    [("2010", 74_091, 244, 7), ("2020", 85_452, 250, 7)],
)
def test_real_lists(realdata, vintage, tracts, state_tracts, pumas):
    frame = read_source(load_source("tract_puma"), vintage, realdata).frame
    assert frame.height == tracts
    ri = frame.filter(pl.col("state_fips") == "44")
    assert ri.height == state_tracts
    assert ri["puma"].n_unique() == pumas
    assert ri.filter(pl.col("puma") == "4400300")["county_fips"].unique().sort().to_list() == [
        "44001",
        "44005",
    ]


def test_a_county_renamed_since_has_its_present_code_and_is_counted(read, zipped):
    rows = "02,270,000100,00400\n44,001,030100,00300\n46,113,940500,00200\n"
    name = "2010_Census_Tract_to_2010_PUMA"
    table = read("tract_puma", "2010", {f"geo/{name}.zip": zipped({f"{name}.txt": HEAD + rows})})
    assert table.frame["tract"].to_list() == ["02158000100", "44001030100", "46102940500"]
    assert [(n.code, n.count) for n in table.notes] == [("counties_recoded", 2)]
    assert "46113 as 46102" in table.notes[0].detail
