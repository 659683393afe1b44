"""SSA workbooks by state and county, the stacked forms, and real figures. The workbooks are
invented, in SSA's layout.
"""

from __future__ import annotations

import io

import polars as pl
import pytest
import xlsxwriter

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

OASDI = "ssa/oasdi_sc22.xlsx"
SSI = "ssa/ssi_sc22.xlsx"
STACKED = "ssa/ssi_c16.xlsx"
ZIP = "ssa/oasdi_zip05_combined_new.csv"
OASDI_HEADS = [
    "Total",
    "Retired workers",
    "Spouses",
    "Children",
    "Widow(er)s and parents",
    "Children",
    "Disabled workers",
    "Spouses",
    "Children",
    "Men",
    "Women",
]
OASDI_GROUPS = [
    "",
    "Retirement",
    "",
    "",
    "Survivors",
    "",
    "Disability",
    "",
    "",
    "Aged 65 or older",
    "",
]
SSI_HEADS = [
    "Total",
    "Aged",
    "Blind and disabled",
    "Under 18",
    "18–64",
    "65 or older",
    "SSI recipients also receiving OASDI",
    "Amount of payments (thousands of dollars)",
]


def book(sheets: dict[str, list[list[object]]]) -> bytes:
    buffer = io.BytesIO()
    with xlsxwriter.Workbook(buffer, {"in_memory": True}) as workbook:
        for name, rows in sheets.items():
            page = workbook.add_worksheet(name)
            for r, row in enumerate(rows):
                for c, value in enumerate(row):
                    if value not in (None, ""):
                        page.write(r, c, value)
    return buffer.getvalue()


def oasdi_counties(
    state: str, table: int, rows: list[list[object]], month: str = "December\u00a02022"
) -> list[list[object]]:
    """Rows 0 to 3 titles and headings, from row 4 the figures, then footnotes."""
    kind = "Number of beneficiaries" if table == 4 else "Amount of benefits (thousands of dollars)"
    return [
        [f"Table {table}."],
        [f"{kind}, by state and county, {month}"],
        ["County", "", "ANSI code", *OASDI_GROUPS],
        ["", "", "", *OASDI_HEADS],
        *rows,
        [],
        ["SOURCE: SYNTHETIC"],
    ]


def oasdi_states(table: int, rows: list[list[object]]) -> list[list[object]]:
    return [
        [f"Table {table}. By state, December 2022 SYNTHETIC"],
        ["State or area", *OASDI_GROUPS],
        ["", *OASDI_HEADS],
        *rows,
        [],
        ["a. SYNTHETIC footnote"],
    ]


def ssi_counties(
    rows: list[list[object]], heads: list[str] = SSI_HEADS, month: str = "December 2022"
) -> list[list[object]]:
    return [
        ["Table 3."],
        [f"By county, {month}"],
        ["SYNTHETIC"],
        ["County", "", "ANSI code", *heads],
        [],
        *rows,
        ["a. Less than $500."],
    ]


def numbers(start: int, count: int = 11) -> list[int]:
    return [start + n for n in range(count)]


def oasdi_book(**changes: list[list[object]]) -> bytes:
    total4, total5 = (
        ["", "Total, Rhode Island", 44, *numbers(300)],
        ["", "Total, Rhode Island", 44, *numbers(3000)],
    )
    sheets = {
        "Table 1": [["Population shares"]],
        "Table 2": oasdi_states(
            2,
            [
                ["All areas", *numbers(900)],
                ["Rhode Island", *numbers(300)],
                ["Outlying areas"],
                ["Guam a", *numbers(10)],
                ["Foreign countries", *numbers(5)],
            ],
        ),
        "Table 3": oasdi_states(
            3,
            [
                ["All areas", *numbers(9000)],
                ["Rhode Island", *numbers(3000)],
                ["Foreign countries", *numbers(50)],
            ],
        ),
        "Table 4 - Rhode Island": oasdi_counties(
            "Rhode Island",
            4,
            [
                total4,
                ["Bristol", "", 44001, *numbers(100)],
                ["Kent", "", 44003, 200, "(X)", *numbers(202, 9)],
            ],
        ),
        "Table 5 - Rhode Island": oasdi_counties(
            "Rhode Island",
            5,
            [total5, ["Bristol", "", 44001, *numbers(1000)], ["Kent", "", 44003, *numbers(2000)]],
        ),
        "Table 4 - Alabama": oasdi_counties(
            "Alabama",
            4,
            [
                ["", "Total, Alabama", 1, *numbers(70)],
                ["Counties"],
                ["Autauga", "", 1001, *numbers(40)],
                ["Independent cities"],
            ],
        ),
        "Table 5 - Alabama": oasdi_counties(
            "Alabama",
            5,
            [["", "Total, Alabama", 1, *numbers(70)], ["Autauga", "", 1001, *numbers(40)]],
        ),
    }
    return book(sheets | changes)


def test_oasdi_workbook(read, cell):
    table = read("ssa_oasdi_counties", "2022", {OASDI: oasdi_book()})
    frame = table.frame
    assert cell(frame, "44001", "persons_oasdi")["estimate"] == 100
    assert cell(frame, "44001", "oasdi_65_older_women")["estimate"] == 110
    assert cell(frame, "01001", "persons_oasdi")["level"] == "county"
    assert cell(frame, "44001", "benefits_month_total")["estimate"] == 1_000_000
    assert cell(frame, "", "persons_oasdi")["estimate"] == 900
    assert cell(frame, "66", "di_workers")["estimate"] == 16
    assert cell(frame, "FOREIGN", "persons_oasdi")["level"] == "other"
    assert cell(frame, "44001", "persons_oasdi")["row"] == 6
    assert cell(frame, "44001", "persons_oasdi")["file"] == "oasdi_sc22.xlsx:Table 4 - Rhode Island"


def test_a_withheld_cell_is_never_zero(read, cell):
    table = read("ssa_oasdi_counties", "2022", {OASDI: oasdi_book()})
    row = cell(table.frame, "44003", "persons_ret_workers")
    assert (row["estimate"], row["status"]) == (None, "suppressed")
    assert [n.count for n in table.notes if n.code == "suppressed"] == [1]


def test_state_totals_come_from_the_table_of_states_and_differences_are_noted(read, cell):
    other = oasdi_counties(
        "Rhode Island",
        4,
        [
            ["", "Total, Rhode Island", 44, 999, *numbers(301, 10)],
            ["Bristol", "", 44001, *numbers(100)],
        ],
    )
    table = read(
        "ssa_oasdi_counties", "2022", {OASDI: oasdi_book(**{"Table 4 - Rhode Island": other})}
    )
    assert cell(table.frame, "44", "persons_oasdi")["estimate"] == 300
    # Alabama stands in no table of states here: its county sheet's total is used.
    assert cell(table.frame, "01", "persons_oasdi")["estimate"] == 70
    differ = next(n for n in table.notes if n.code == "state_totals_that_differ")
    assert differ.count == 1
    assert "1 differ" in differ.detail


def test_the_year_of_the_title_is_checked_through_a_no_break_space(read):
    old = {
        f"Table {t} - Rhode Island": oasdi_counties(
            "Rhode Island", t, [["Bristol", "", 44001, *numbers(9)]], "December\u00a02021"
        )
        for t in (4, 5)
    }
    with pytest.raises(
        SourceLayoutError, match=r"title prints 2021 and 2022, and vintage 2022 was asked for"
    ):
        read("ssa_oasdi_counties", "2022", {OASDI: oasdi_book(**old)})
    with pytest.raises(SourceLayoutError, match="title prints no year"):
        read(
            "ssa_ssi_counties",
            "2022",
            {
                SSI: book(
                    {
                        "Table 3 - Rhode Island": ssi_counties(
                            [["Bristol", "", 44001, *numbers(1, 8)]], month=""
                        )
                    }
                )
            },
        )


def test_ssi_workbook_with_label_rows_and_less_than_500_dollars(read, cell):
    rows = [
        ["", "Total, Virginia", 51, *numbers(500, 8)],
        ["", "", "Counties"],
        ["Accomack", "", 51001, *numbers(100, 7), "a"],
        ["", "", "Independent cities"],
        ["Alexandria", "", "51510", *["(X)"] * 7, 7],
    ]
    table = read(
        "ssa_ssi_counties", "2022", {SSI: book({"Table 3 - Virginia": ssi_counties(rows)})}
    )
    frame = table.frame
    assert cell(frame, "51", "ssi_payments_month")["estimate"] == 507_000
    assert cell(frame, "51001", "ssi_and_oasdi")["estimate"] == 106
    assert cell(frame, "51001", "ssi_payments_month")["status"] == "suppressed"
    assert cell(frame, "51510", "ssi_total")["status"] == "suppressed"
    assert cell(frame, "51510", "ssi_payments_month")["estimate"] == 7000
    assert next(n.count for n in table.notes if n.code == "label_rows") == 3


@pytest.mark.parametrize(
    ("rows", "heads", "error", "words"),
    [
        pytest.param(
            [["Bristol", "", 44001, *numbers(1, 8)]] * 2,
            SSI_HEADS,
            SourceValueError,
            r"GEOID 44001 \(Bristol\) stands in rows 6 and 7",
            id="county twice",
        ),
        pytest.param(
            [["Kent", "", 10001, *numbers(1, 8)]],
            SSI_HEADS,
            SourceValueError,
            "sheet of Rhode Island holds area 10001",
            id="another state's county",
        ),
        pytest.param(
            [["Kent", "", 44003, *numbers(1, 8)], ["Bristol", "", "", *numbers(1, 8)]],
            SSI_HEADS,
            SourceValueError,
            r"figures has no area code \('Bristol'\)",
            id="no code",
        ),
        pytest.param(
            [["Kent", "", 44003, -5, *numbers(1, 7)]],
            SSI_HEADS,
            SourceValueError,
            "negative; the first is '-5'.*column ssi_total",
            id="negative",
        ),
        pytest.param(
            [["Kent", "", 44003, *numbers(1, 8)]],
            [*SSI_HEADS[1:], "Total"],
            SourceLayoutError,
            "Column D is headed 'Aged'",
            id="columns moved",
        ),
        pytest.param(
            [["Kent", "", "", ""]],
            SSI_HEADS,
            SourceLayoutError,
            "no row with an area code",
            id="no data",
        ),
    ],
)
def test_faulty_sheets_are_named(read, rows, heads, error, words):
    with pytest.raises(error, match=words) as caught:
        read(
            "ssa_ssi_counties",
            "2022",
            {SSI: book({"Table 3 - Rhode Island": ssi_counties(rows, heads)})},
        )
    assert "ssi_sc22.xlsx" in str(caught.value)


def test_a_workbook_that_is_none_or_lacks_its_sheets(read):
    whole = oasdi_book()
    with pytest.raises(SourceFileError, match="workbook cannot be opened"):
        read("ssa_oasdi_counties", "2022", {OASDI: whole[: len(whole) // 2]})
    with pytest.raises(SourceFileError, match="web page"):
        read("ssa_oasdi_counties", "2022", {OASDI: "<html><title>403 Forbidden</title></html>"})
    with pytest.raises(
        SourceLayoutError,
        match=r"no sheet 'Table 4 - \{state\}'; the workbook has 1 sheets: Sheet1",
    ):
        read("ssa_oasdi_counties", "2022", {OASDI: book({"Sheet1": [["December 2022"]]})})


# ------------------------------------------------------------------------------------------------
# stacked forms


def stacked(rows: list[list[object]], year: int = 2017, header: list[str] | None = None) -> bytes:
    header = header or [
        "State",
        "",
        "County",
        "FIPS",
        "Total",
        "Age",
        "Disabled",
        "Under 18",
        "18–64",
        "65 or older",
        "SSI Recipients",
        "Dollar Value",
    ]
    footer = [
        ["Outlying areas"],
        [],
        [f"File available from:\nSSI Recipients by State and County, {year}\nSYNTHETIC"],
    ]
    return book({"SSI": [header, *rows, *footer]})


def test_stacked_zeros_are_withheld_cells(read, cell):
    rows = [
        ["Alabama", "", "Autauga", 1001, 1458, 0, 1397, 215, 1032, 211, 497, 827],
        ["District of Columbia", "", "", 11000, *numbers(20, 8)],
    ]
    table = read("ssa_ssi_counties", "2017", {STACKED: stacked(rows)})
    assert cell(table.frame, "01001", "ssi_aged")["status"] == "suppressed"
    assert cell(table.frame, "01001", "ssi_payments_month")["estimate"] == 827_000
    assert cell(table.frame, "11", "ssi_total")["level"] == "state"
    counted = {n.code: n.count for n in table.notes}
    assert counted["suppressed"] == 1
    assert counted["label_rows"] == 3


def test_the_footer_of_the_stack_tells_its_year(read):
    with pytest.raises(
        SourceLayoutError, match="footer prints 2016, and vintage 2017 was asked for"
    ):
        read(
            "ssa_ssi_counties",
            "2017",
            {STACKED: stacked([["Alabama", "", "Autauga", 1001, *numbers(1, 8)]], 2016)},
        )
    with pytest.raises(SourceLayoutError, match="Column FIPS is missing"):
        read(
            "ssa_ssi_counties",
            "2017",
            {
                STACKED: stacked(
                    [["Alabama", "", "Autauga", 1001, *numbers(1, 8)]],
                    header=["State", "", "County", "Code"],
                )
            },
        )


ZIP_HEAD = (
    ".id,place,zip,place_of_total,total_number,retired_number,disabled_number,widow_number,spouse_number,children_number,"
    "total_benefits,retired_benefits,widow_benefits,age65_benefits,zip_ben\n"
)


def zip_lines(*lines: str) -> str:
    return ZIP_HEAD + "".join(f"{line},10,5,1,1,1,2,9,6,1,7,\n" for line in lines)


def test_zip_lines_are_padded_and_offices_left_out(read, cell):
    text = zip_lines(
        "Alabama,All areas c,,",
        "Rhode Island,All areas c,,",
        'Rhode Island,,,"Total, Rhode Island"',
        "Rhode Island,SYNTHETIC office,,",
        "Rhode Island,,2806,",
        "Massachusetts,,2806,",
    )
    table = read("ssa_oasdi_zip", "2005", {ZIP: text + "Guam" + "," * 14 + "\n"})
    assert cell(table.frame, "02806", "persons_oasdi", "state=44")["level"] == "zip"
    assert cell(table.frame, "02806", "benefits_month_total", "state=25")["estimate"] == 9000
    assert cell(table.frame, "44", "persons_oasdi")["estimate"] == 10
    counted = {n.code: n.count for n in table.notes}
    assert (counted["rows_of_other_levels"], counted["blank_rows"], counted["repeated_rows"]) == (
        1,
        1,
        1,
    )


def test_a_zip_line_given_twice_is_an_error(read):
    with pytest.raises(SourceValueError, match=r"GEOID 02806 .*state=44\) stands in rows 2 and 3"):
        read(
            "ssa_oasdi_zip", "2005", {ZIP: zip_lines("Rhode Island,,2806,", "Rhode Island,,2806,")}
        )


# ------------------------------------------------------------------------------------------------
# real files


def test_real_ssi_counties(realdata):
    table = read_source(load_source("ssa_ssi_counties"), "2017", realdata)
    total = table.frame.filter(pl.col("column") == "ssi_total")
    assert total["estimate"].sum() == 8_227_548
    assert total.filter(pl.col("geoid").str.starts_with("44"))["estimate"].sum() == 33_124
    assert dict(total.group_by("level").len().iter_rows()) == {"county": 3141, "state": 2}
    assert (
        next(n.count for n in table.notes if n.code == "suppressed")
        == table.frame.filter(pl.col("status") == "suppressed").height
        == 2086
    )
    assert table.frame.filter(pl.col("estimate") == 0).is_empty()


def test_real_oasdi_by_zip(realdata, cell):
    frame = read_source(load_source("ssa_oasdi_zip"), "2005", realdata).frame
    assert cell(frame, "", "persons_oasdi")["estimate"] == 48_434_281
    assert cell(frame, "44", "persons_oasdi")["estimate"] == 192_829
    lines = frame.filter((pl.col("stratum") == "state=44") & (pl.col("column") == "persons_oasdi"))
    assert lines["estimate"].sum() == 192_745
    assert lines.height == 85


def test_real_ssi_by_state(realdata, cell):
    frame = read_source(load_source("ssa_ssi_states"), "2024", realdata).frame
    assert cell(frame, "", "ssi_total")["estimate"] == 7_404_820
    assert cell(frame, "", "ssi_payments_year_total")["estimate"] == 63_079_493_000
    parts = sum(
        cell(frame, "44", f"ssi_{part}")["estimate"] for part in ("aged", "blind", "disabled")
    )
    assert cell(frame, "44", "ssi_total")["estimate"] == parts
