"""Sheets of one workbook that are read at once: which of them is at fault, and columns of their
own. The workbooks are invented, in SSA's layout.
"""

from __future__ import annotations

import re

import pytest

from calibration_core.errors import GeocalError
from tests.pipeline.sources.readers.test_ssa import SSI, SSI_HEADS, book, eight, ssi_counties

AUTAUGA = ["Autauga", "", 1001, *eight(40)]
BRISTOL = ["Bristol", "", 44001, *eight(4)]
KENT = ["Kent", "", 44003, *eight(9)]


def two_states(second: list[list[object]], heads: list[str] = SSI_HEADS) -> bytes:
    return book(
        {
            "Table 3 - Rhode Island": ssi_counties(second, heads),
            "Table 3 - Alabama": ssi_counties([AUTAUGA, ["Unknown", "", "", *eight(2)]]),
        }
    )


def test_states_stand_in_order_each_with_its_own_sheet_rows_and_notes(read, cell) -> None:
    withheld = ["Kent", "", 44003, *["(X)"] * 8]
    table = read("ssa_ssi_counties", "2022", {SSI: two_states([BRISTOL, withheld])})
    frame = table.frame
    assert frame["geoid"].unique(maintain_order=True).to_list() == [
        *("01001", "UNKNOWN01", "44001", "44003")
    ]
    assert frame["column"].to_list()[:3] == ["ssi_total", "ssi_total", "ssi_aged"]
    assert cell(frame, "44003", "ssi_total")["file"] == "ssi_sc22.xlsx:Table 3 - Rhode Island"
    assert cell(frame, "44003", "ssi_total")["row"] == 7
    said = [str(note) for note in table.notes if note.code == "suppressed"]
    assert len(said) == 1 and "Table 3 - Rhode Island: 8 estimate cell(s)" in said[0]


def test_a_sheet_may_have_its_own_columns(read, cell) -> None:
    other = [[*row[:3], 2022, *row[3:]] for row in (BRISTOL, KENT)]
    table = read("ssa_ssi_counties", "2022", {SSI: two_states(other, ["Year", *SSI_HEADS])})
    assert cell(table.frame, "44003", "ssi_aged")["estimate"] == 9
    assert cell(table.frame, "01001", "ssi_aged")["estimate"] == 40
    assert [note.count for note in table.notes if note.code == "columns_inserted"] == [1]


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        pytest.param([BRISTOL] * 2, "44001 .* stands in rows 6 and 7; 2 rows in all", id="twice"),
        pytest.param([BRISTOL, AUTAUGA], "sheet of Rhode Island holds area 01001", id="alien"),
        pytest.param([["Kent", "", "", ""]], "no row with an area code", id="no data"),
        pytest.param(
            [BRISTOL, ["Kent", "", 44003, "x", *eight(9)[1:]]],
            "1 estimate cell.*Rhode Island, column ssi_total .*, row 7, area 44003",
            id="no number",
        ),
        pytest.param(
            [BRISTOL, ["Kent", "", 44003, 99, *eight(9)[1:]]],
            "1 row.s. whose classes.*Rhode Island, row 7, column D",
            id="no sum",
        ),
        pytest.param(
            [BRISTOL, ["Kent", "", "", *eight(9)]], "no area code .*Island, row 7", id="no code"
        ),
    ],
)
def test_the_sheet_at_fault_is_named_among_others(read, rows, words) -> None:
    with pytest.raises(GeocalError) as caught:
        read("ssa_ssi_counties", "2022", {SSI: two_states(rows)})
    said = " ".join(str(caught.value).split())
    assert "Rhode Island" in said and "Alabama" not in said
    assert re.search(words, said)
