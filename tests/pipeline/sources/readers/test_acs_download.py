"""Tables as data.census.gov gives them: annotation columns, any order, a trailing blank, levels."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.base import ReadRequest, SourceFile
from pipeline.sources.named import reader_called
from pipeline.specs.sources import load_source

ID = "acs5_tables_download"
DP05 = {f"DP05_{n:04d}": "50" for n in (2, 3, 19, 21, 24)} | {"DP05_0070": "100"}
BEXAR = {"DP02": "DP02_0001", "DP03": "DP03_0051", "DP04": "DP04_0002"}


def _dp05(
    *areas: tuple[str, str], total: str = "100", block: str = "DP05_0070", parts: str = "E EA M MA"
) -> str:
    columns = {"DP05_0001": total, **DP05}
    columns = {block if name == "DP05_0070" else name: value for name, value in columns.items()}
    order = {"E": None, "M": "9", "EA": "null", "MA": "null"}
    head = [f"{name}{part}" for name in columns for part in parts.split()]
    cells = [order[part] or value for value in columns.values() for part in parts.split()]
    lines = [["GEO_ID", "NAME", *head], ["Geography", "Area", *("label" for _ in head)]]
    lines += [[code, name, *cells] for code, name in areas]
    return "".join(",".join(f'"{cell}"' for cell in line) + ",\n" for line in lines)


RI = ("1400000US44001030100", "Census Tract 301; SYNTHETIC")
FILE = "acs_tables/download/ri/ACSDP5Y2021.DP05-Data.csv"


@pytest.mark.parametrize("parts", ["E EA M MA", "M MA EA E", "E M"])
def test_columns_in_any_order_with_annotations_or_without(read, cell, parts):
    frame = read(ID, "2021", {FILE: _dp05(RI, parts=parts)}, ["RI"]).frame
    row = cell(frame, "44001030100", "DP05_0001")
    assert (row["level"], row["estimate"], row["margin_of_error"]) == ("tract", 100.0, 9.0)


def test_every_level_that_the_project_has(read):
    areas = [("0100000US", "US"), ("0400000US44", "RI"), ("0500000US44001", "Bristol"), RI]
    frame = read(ID, "2021", {FILE: _dp05(*areas)}, ["RI"]).frame
    assert set(frame["level"]) == {"nation", "state", "county", "tract"}


def test_one_file_of_several_states_gives_the_states_asked_for_once(read):
    areas = [RI, ("1400000US10001040100", "DE"), ("1400000US50001960100", "VT")]
    path = "acs_tables/download/ACSDP5Y2021.DP05-Data.csv"
    table = read(ID, "2021", {path: _dp05(*areas)}, ["RI", "DE"])
    assert sorted(table.frame["geoid"].unique()) == ["10001040100", "44001030100"]
    assert [n.count for n in table.notes if n.code == "rows_of_other_states"] == [1]


@pytest.mark.parametrize(
    ("code", "words"), [("1500000US440010301001", "block groups"), ("860Z200US02809", "ZCTAs")]
)
def test_another_level_is_told_and_not_taken(read, code, words):
    with pytest.raises(SourceValueError, match=rf"holds 1 row\(s\) of level .*{words}"):
        read(ID, "2021", {FILE: _dp05((code, "SYNTHETIC"))}, ["RI"])
    mixed = read(ID, "2021", {FILE: _dp05(RI, (code, "SYNTHETIC"))}, ["RI"])
    assert mixed.frame["geoid"].unique().to_list() == ["44001030100"]
    assert any(words in note.detail for note in mixed.notes)


def test_no_table_at_all_is_named_with_its_places(read):
    with pytest.raises(SourceFileError, match=r"None of the tables .*DP05.* is there"):
        read(ID, "2021", {"x": "x"}, ["RI"])


def test_the_numbering_of_another_year_is_seen(read):
    with pytest.raises(SourceLayoutError, match="looks like vintage 2022, not 2021"):
        text = _dp05(RI, block="DP05_0072").replace("DP05_0024", "DP05_0070").replace('"50"', '"7"')
        read(ID, "2021", {FILE: text}, ["RI"])


def _published(realdata, name: str, table: str) -> pl.DataFrame:
    path = realdata / "acs_tables" / name
    if not path.exists():
        pytest.skip(f"no {name}")
    spec, year = load_source(ID), path.name.partition("5Y")[2][:4]
    file = SourceFile("table", path, (), None, table)
    return reader_called(spec.reader, spec.id).read(ReadRequest(spec, year, (file,))).frame


@pytest.mark.parametrize("table", BEXAR)
def test_the_publishers_tracts_of_bexar_have_the_countys_households(realdata, table):
    frame = _published(realdata, f"tx_bexar_tracts/ACSDP5Y2021.{table}-Data.csv", table)
    assert frame["geoid"].n_unique() == 375
    assert frame.filter(pl.col("column") == BEXAR[table])["estimate"].sum() == 717_124


def test_the_publishers_tracts_of_bexar_have_its_population(realdata):
    frame = _published(realdata, "tx_bexar_tracts/ACSDP5Y2021.DP05-Data.csv", "DP05")
    assert frame.filter(pl.col("column") == "DP05_0001")["estimate"].sum() == 1_990_522


@pytest.mark.parametrize(
    ("name", "table", "words"),
    [
        ("il_block_groups/ACSDT5Y2022.B01001-Data.csv", "B01001", r"4,623 row.*block groups"),
        ("ny_zcta/ACSDP5Y2022.DP05-Data.csv", "DP05", r"1,826 row.*ZCTAs"),
    ],
)
def test_the_publishers_files_of_other_levels_are_told(realdata, name, table, words):
    with pytest.raises(SourceValueError, match=words):
        _published(realdata, name, table)
