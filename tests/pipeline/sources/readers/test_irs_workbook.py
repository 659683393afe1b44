"""Historic Table 2 as a workbook: items down, areas and classes across."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import xlsxwriter

from pipeline.errors import SourceLayoutError
from pipeline.sources.registry import read_source
from pipeline.specs.known_totals import FILE
from pipeline.specs.sources import load_source

SPEC = load_source("irs_historic_table_2")
LABELS = [
    (label.capitalize() + (": [7]  Number" if code.isdigit() else " [2]"), code)
    for label, code in SPEC.layout_of("2018").items.items()
]
CLASSES = len(SPEC.strata)


def lines(areas: tuple[str, ...] = ("UNITED STATES ", "RHODE ISLAND", "OTHER AREAS [21]")) -> list:
    """The sheet: item i of area a in class c is 1,000 i + 100 a + c."""
    title = "Table 2.  Individual Income and Tax Data, by State\nand Size, Tax Year 2018"
    head = ["Item"]
    for area in areas:
        head += [area, *[None] * (CLASSES - 1)]
    sheet: list[list] = [[title], ["[Money amounts are in thousands of dollars]"], head]
    for number, (label, code) in enumerate(LABELS, start=1):
        cells = [
            1000 * number + 100 * area + stub
            for area in range(len(areas))
            for stub in range(CLASSES)
        ]
        sheet.append([label, *cells])
        if code.isdigit():
            sheet.append(["    Amount", *(-cell if code == "00900" else cell for cell in cells)])
    return sheet


def book(sheet: list[list]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as workbook:
        page = workbook.add_worksheet("Sheet1")
        for number, line in enumerate(sheet):
            for column, cell in enumerate(line):
                if cell is not None:
                    page.write(number, column, cell)
    return buffer.getvalue()


@pytest.fixture
def read(tmp_path: Path) -> Callable[[list], pl.DataFrame]:
    def made(sheet: list) -> pl.DataFrame:
        path = tmp_path / "irs/18in55cm.xlsx"
        path.parent.mkdir(exist_ok=True)
        (tmp_path / FILE).write_text("# SYNTHETIC\n{}\n")
        path.write_bytes(book(sheet))
        return read_source(SPEC, "2018", tmp_path, []).frame

    return made


def cell(frame: pl.DataFrame, geoid: str, column: str, stratum: str) -> tuple[str, float]:
    found = frame.filter(
        (pl.col("geoid") == geoid) & (pl.col("column") == column) & (pl.col("stratum") == stratum)
    )
    return found["level"][0], found["estimate"].item()


def test_items_areas_and_classes_find_their_places(read: Callable) -> None:
    frame = read(lines())
    assert cell(frame, "", "N1", "0") == ("nation", 1000.0)
    assert cell(frame, "44", "N1", "10") == ("state", 1110.0)
    assert cell(frame, "OA", "MARS1", "3") == ("other", 2203.0)
    wages = next(i for i, (_, code) in enumerate(LABELS, start=1) if code == "00200")
    assert cell(frame, "44", "N00200", "2") == ("state", 1000.0 * wages + 102)
    # Thousands of dollars become dollars; a loss stays one.
    assert cell(frame, "44", "A00200", "2") == ("state", 1000.0 * (1000 * wages + 102))
    assert cell(frame, "44", "A00900", "0")[1] < 0


@pytest.mark.parametrize(
    ("fault", "found"),
    [
        (lambda s: s.pop(3), "0 rows labelled 'number of returns'"),
        (lambda s: s.append(["Number of returns", *range(33)]), "2 rows labelled"),
        (lambda s: s[0].__setitem__(0, "Table 2, Tax Year 2017"), "prints 2017"),
        (lambda s: s[2].__setitem__(12, "RHODESIA"), "area 'RHODESIA'"),
        (lambda s: s[2].__setitem__(23, "RHODE ISLAND"), "area 'RHODE ISLAND'"),
        (lambda s: s[2].__setitem__(0, "Items"), "no row whose first cell"),
    ],
    ids=["item absent", "item twice", "another year", "no state", "state twice", "no header"],
)
def test_faults_are_named(read: Callable, fault: Callable, found: str) -> None:
    sheet = lines()
    fault(sheet)
    with pytest.raises(SourceLayoutError, match=found):
        read(sheet)


def test_a_number_without_its_amount_below_is_refused(read: Callable) -> None:
    sheet = lines()
    first = next(i for i, line in enumerate(sheet) if line[0].strip() == "Amount")
    del sheet[first]
    with pytest.raises(SourceLayoutError, match="below the number of"):
        read(sheet)


def test_real_table_of_2018_has_the_published_returns(realdata: Path) -> None:
    frame = read_source(SPEC, "2018", realdata, []).frame
    assert cell(frame, "", "N1", "0")[1] == 153_455_990
    assert cell(frame, "44", "N1", "0")[1] == 541_700
    parts = frame.filter((pl.col("geoid") == "16") & (pl.col("column") == "A00200"))
    whole = parts.filter(pl.col("stratum") == "0")["estimate"].item()
    assert parts.filter(pl.col("stratum") != "0")["estimate"].sum() == pytest.approx(
        whole, rel=1e-6
    )
