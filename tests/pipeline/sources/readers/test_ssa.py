"""SSA workbooks by state and county, a stacked form, and real figures. The workbooks are
invented, in SSA's layout.
"""

from __future__ import annotations

import io

import polars as pl
import pytest
import xlsxwriter

from pipeline.errors import SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import CodeSpec, SourceSpec, load_source

OASDI = "ssa/oasdi_sc22.xlsx"
SSI = "ssa/ssi_sc22.xlsx"
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


def area(name: str, figures: list[object], column: str = "A") -> list[object]:
    """A row of a table of states: the name in one of its three label columns, then the figures."""
    return [*(name if letter == column else None for letter in "ABC"), *figures]


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
    kind = (
        "Number of beneficiaries" if table == 2 else "Amount of benefits, in thousands of dollars"
    )
    return [
        [f"Table {table}.\n{kind}, by state, December\u00a02022 SYNTHETIC"],
        ["State or area", None, None, *OASDI_GROUPS],
        [None, None, None, *OASDI_HEADS],
        *rows,
        [],
        ["a.", "SYNTHETIC footnote"],
    ]


def ssi_counties(
    rows: list[list[object]], heads: list[str] = SSI_HEADS, month: str = "December 2022"
) -> list[list[object]]:
    return [
        ["SYNTHETIC"],
        [f"Table 3.\nNumber of recipients in state, by county, {month}"],
        ["County", None, "ANSI Code", *heads],
        [],
        [],
        *rows,
        ["a.", "Less than $500."],
    ]


def ssi_states(
    table: int, rows: list[list[object]], inserted: int = 0, year: int = 2022
) -> list[list[object]]:
    """Table 1 or 2 of the SSI workbook; ``inserted`` columns before the figures, as
    carriers put.
    """
    kind = (
        f"Number of recipients by state or other area, December\u00a0{year}"
        if table == 1
        else f"Amount of payments, by state, December\u00a0{year}\n(in thousands of dollars)"
    )
    heads = SSI_HEADS[:7] if table == 1 else SSI_HEADS[:6]
    extra = ["ANSI Code", "Year", "Month"][:inserted]
    return [
        [f"Table {table}.\n{kind}"],
        ["State or area", None, None, *extra, *heads],
        [],
        *([*row[:3], *[7] * inserted, *row[3:]] for row in rows),
        [],
    ]


def eight(start: int) -> list[int]:
    """The figures of a county: recipients by class, with OASDI, and payments."""
    return [*classes(start, 3 * start, 1, 2), start + 6, start + 7]


def classes(aged: int, disabled: int, young: int, old: int) -> list[int]:
    """Total, category and age of SSI recipients that add up."""
    return [aged + disabled, aged, disabled, young, aged + disabled - young - old, old]


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
                area("All areas", numbers(900), "C"),
                area("Rhode Island", numbers(300)),
                ["Outlying areas"],
                area("Guam a", numbers(10), "B"),
                area("Northern Mariana\n   Islands", numbers(4), "B"),
                area("Foreign countries", numbers(5)),
            ],
        ),
        "Table 3": oasdi_states(
            3,
            [
                area("All areas", numbers(9000), "C"),
                area("Rhode Island", numbers(3000)),
                area("Foreign countries", numbers(50)),
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
    assert cell(frame, "69", "persons_oasdi")["estimate"] == 4
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
                            [["Bristol", "", 44001, *eight(4)]], month=""
                        )
                    }
                )
            },
        )


def test_ssi_workbook_with_label_rows_and_less_than_500_dollars(read, cell):
    rows = [
        ["", "Total, Virginia", 51, *eight(500)],
        ["", "", "Counties"],
        ["Accomack", "", 51001, *eight(100)[:7], "a"],
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
            [["Bristol", "", 44001, *eight(4)]] * 2,
            SSI_HEADS,
            SourceValueError,
            r"GEOID 44001 \(Bristol\) stands in rows 6 and 7",
            id="county twice",
        ),
        pytest.param(
            [["Kent", "", 10001, *eight(4)]],
            SSI_HEADS,
            SourceValueError,
            "sheet of Rhode Island holds area 10001",
            id="another state's county",
        ),
        pytest.param(
            [["Kent", "", 44003, *eight(4)], ["Bristol", "", "", *eight(4)]],
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
            [["Kent", "", 44003, *eight(4)]],
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


def ssi_book(first: list, second: list | None = None, inserted: int = 0) -> bytes:
    county = ["Bristol", "", 44001, *eight(4)]
    sheets = {"Table 1": ssi_states(1, first, inserted)}
    if second is not None:
        sheets["Table 2"] = ssi_states(2, second, inserted)
    return book(sheets | {"Table 3 - Rhode Island": ssi_counties([county])})


@pytest.mark.parametrize("inserted", [0, 1, 2, 3])
def test_figures_stand_below_their_headings_wherever_columns_were_inserted(read, cell, inserted):
    first = [area("All areas", [*classes(30, 70, 9, 40), 5], "C")]
    first += [area("Rhode Island", [*classes(10, 40, 5, 20), 3])]
    second = [area("Rhode Island", classes(100, 500, 60, 150))]
    table = read("ssa_ssi_counties", "2022", {SSI: ssi_book(first, second, inserted)})
    assert cell(table.frame, "", "ssi_total")["estimate"] == 100
    assert cell(table.frame, "44", "ssi_18_64")["estimate"] == 25
    assert cell(table.frame, "44", "ssi_payments_month")["estimate"] == 600_000
    assert cell(table.frame, "44", "ssi_payments_month_under_18")["estimate"] == 60_000
    noted = [note.count for note in table.notes if note.code == "columns_inserted"]
    assert noted == [inserted] * (2 if inserted else 0)


def test_classes_add_up_but_for_rounding(read, cell):
    whole = [*classes(10, 40, 5, 20), 3]
    off_by_one = [area("Rhode Island", [whole[0] + 2, *whole[1:]])]
    table = read("ssa_ssi_counties", "2022", {SSI: ssi_book(off_by_one)})
    assert cell(table.frame, "44", "ssi_total")["estimate"] == 52
    moved = [area("Rhode Island", [whole[0], 60, *whole[2:]])]
    with pytest.raises(
        SourceValueError, match=r"Rhode Island: ssi_aged 60 \+ ssi_blind_disabled 40"
    ):
        read("ssa_ssi_counties", "2022", {SSI: ssi_book(moved)})


def test_a_sheet_of_another_table_is_refused(read):
    swapped = ssi_states(2, [area("Rhode Island", classes(10, 40, 5, 20))])
    county = ssi_counties([["Bristol", "", 44001, *eight(4)]])
    with pytest.raises(SourceLayoutError, match=r"title is 'Table 2\. Amount of payments"):
        read(
            "ssa_ssi_counties",
            "2022",
            {SSI: book({"Table 1": swapped, "Table 3 - Rhode Island": county})},
        )


def test_a_measure_without_a_heading_is_refused(read):
    heads = ["", *SSI_HEADS[1:]]
    sheets = {"Table 3 - Rhode Island": ssi_counties([["Kent", "", 44003, *eight(4)]], heads)}
    with pytest.raises(SourceLayoutError, match="Column D has no heading"):
        read("ssa_ssi_counties", "2022", {SSI: book(sheets)})


@pytest.mark.parametrize("mark", ["(X)", "a", "--"])
def test_a_county_withheld_in_every_cell_keeps_its_row(read, cell, mark):
    rows = [["Bristol", "", 44001, *eight(4)], ["Kent", "", 44003, *[mark] * 8]]
    table = read(
        "ssa_ssi_counties", "2022", {SSI: book({"Table 3 - Rhode Island": ssi_counties(rows)})}
    )
    assert cell(table.frame, "44003", "ssi_total")["estimate"] is None


def test_recipients_of_no_known_county_are_kept(read, cell):
    rows = [["Bristol", "", 44001, *eight(4)], ["Unknown", "", ". . .", *eight(4)]]
    table = read(
        "ssa_ssi_counties", "2022", {SSI: book({"Table 3 - Rhode Island": ssi_counties(rows)})}
    )
    assert cell(table.frame, "UNKNOWN44", "ssi_total")["level"] == "other"


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
# the stacked form


ZIP_HEAD = (
    ".id,place,zip,place_of_total,total_number,retired_number,disabled_number,widow_number,"
    "spouse_number,children_number,"
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


def test_real_ssi_counties_of_2017(realdata, cell):
    """State and county figures, and a withheld cell is no zero."""
    table = read_source(load_source("ssa_ssi_counties"), "2017", realdata)
    total = table.frame.filter(pl.col("column") == "ssi_total")
    assert dict(total.group_by("level").len().iter_rows()) == {
        "nation": 1,
        "state": 52,
        "county": 3141,
    }
    by_level = dict(total.group_by("level").agg(pl.col("estimate").sum()).iter_rows())
    assert by_level["nation"] == by_level["state"] == 8_227_676
    assert cell(table.frame, "44", "ssi_65_older")["estimate"] == 7_692
    assert cell(table.frame, "44", "ssi_payments_month_65_older")["estimate"] == 3_126_000
    withheld = table.frame.filter(pl.col("status") == "suppressed")
    assert withheld.height == sum(n.count for n in table.notes if n.code == "suppressed") == 2001
    assert withheld["estimate"].null_count() == 2001
    assert not table.frame.filter(pl.col("estimate") == 0).is_empty(), "a true zero stays one"


def test_real_oasdi_by_zip(realdata, cell):
    frame = read_source(load_source("ssa_oasdi_zip"), "2005", realdata).frame
    assert cell(frame, "", "persons_oasdi")["estimate"] == 48_434_281
    assert cell(frame, "44", "persons_oasdi")["estimate"] == 192_829
    lines = frame.filter((pl.col("stratum") == "state=44") & (pl.col("column") == "persons_oasdi"))
    assert lines["estimate"].sum() == 192_745
    assert lines.height == 85


def test_real_ssi_workbook_of_2024(realdata, cell):
    """SSA's own file. The figures were read off Tables 1, 2 and 3 in a spreadsheet, by hand."""
    table = read_source(load_source("ssa_ssi_counties"), "2024", realdata)
    frame = table.frame
    assert cell(frame, "", "ssi_total")["estimate"] == 7_423_856
    assert cell(frame, "44", "ssi_total")["estimate"] == 30_358
    assert cell(frame, "44", "ssi_aged")["estimate"] == 3_357
    assert cell(frame, "44", "ssi_and_oasdi")["estimate"] == 10_446
    assert cell(frame, "11", "ssi_under_18")["estimate"] == 3_333
    assert cell(frame, "69", "ssi_total")["estimate"] == 1_100
    assert cell(frame, "44007", "ssi_65_older")["estimate"] == 7_353
    assert cell(frame, "44", "ssi_total")["file"] == "ssi_sc24.xlsx:Table 1"
    # Table 2 is thousands of dollars for the month of December, not for the year.
    assert cell(frame, "44", "ssi_payments_month")["estimate"] == 21_771_000
    assert cell(frame, "44", "ssi_payments_month_65_older")["estimate"] == 4_826_000
    assert cell(frame, "44001", "ssi_payments_month")["estimate"] == 425_000
    assert cell(frame, "", "ssi_payments_month")["estimate"] == 5_528_062_000
    counted = {note.code: note.count for note in table.notes}
    # All 50 states' totals stand in Table 1 or 2 and in Table 3, and agree in all eight measures.
    assert counted["state_totals_twice"] == 50 * 8
    assert "state_totals_that_differ" not in counted
    states = frame.filter((pl.col("level") == "state") & (pl.col("column") == "ssi_total"))
    assert states.height == 52
    assert states["estimate"].sum() == 7_423_856


def with_vintage(year: str, **layout: object) -> SourceSpec:
    """The SSI spec with another vintage read in the publisher's form, or with a changed layout."""
    spec = load_source("ssa_ssi_counties")
    plain = spec.vintages["2024"]
    return spec.model_copy(
        update={
            "vintages": spec.vintages | {year: plain},
            "layout": spec.layout.model_copy(update=layout),
        }
    )


@pytest.mark.parametrize(
    ("year", "nation", "island", "payments"),
    [("2011", 8_112_773, 32_218, 4_389_872_000), ("2017", 8_227_676, 33_124, 4_754_456_000)],
)
def test_real_workbooks_in_which_a_carrier_inserted_columns(
    realdata, cell, year, nation, island, payments
):
    """Two columns (ANSI code, year) stand before the figures of Tables 1 and 2: found
    by headings.
    """
    table = read_source(with_vintage(year), year, realdata)
    assert cell(table.frame, "", "ssi_total")["estimate"] == nation
    assert cell(table.frame, "44", "ssi_total")["estimate"] == island
    assert cell(table.frame, "", "ssi_payments_month")["estimate"] == payments
    inserted = [note for note in table.notes if note.code == "columns_inserted"]
    assert [note.count for note in inserted] == [2, 2]
    counted = {note.code: note.count for note in table.notes}
    assert counted["state_totals_twice"] == 50 * 8
    assert "state_totals_that_differ" not in counted


def test_a_real_workbook_whose_headings_and_figures_disagree(realdata):
    """2010: the carrier moved the figures of Table 2 and left its headings; codes
    would be totals.
    """
    with pytest.raises(SourceValueError, match="do not add up to the total; the first is Alabama"):
        read_source(with_vintage("2010"), "2010", realdata)


def test_a_real_workbook_with_rows_of_unknown_counties(realdata, cell):
    """2010: a row "Unknown" without code in county sheets, and withheld cells marked b."""
    spec = load_source("ssa_ssi_counties")
    counties = tuple(s for s in spec.layout.sheets if s.holds == "counties")
    mark = CodeSpec(code="b", status="suppressed", meaning="not shown, says the sheet's footnote b")
    spec = with_vintage("2010", sheets=counties)
    spec = spec.model_copy(update={"suppression": (*spec.suppression, mark)})
    frame = read_source(spec, "2010", realdata).frame
    assert cell(frame, "02013", "ssi_total")["status"] == "suppressed"
    assert cell(frame, "UNKNOWN44", "ssi_total")["level"] == "other"
    assert cell(frame, "UNKNOWN44", "ssi_total")["estimate"] == 1
    assert cell(frame, "44", "ssi_total")["estimate"] == 32_809


def test_a_real_workbook_under_another_years_name(realdata):
    """ssi_sc21.xlsx holds December 2018, though a carrier's column says 2021."""
    with pytest.raises(SourceLayoutError, match="title prints 2018, and vintage 2021 was asked"):
        read_source(with_vintage("2021"), "2021", realdata)


def test_a_real_workbook_before_county_codes(realdata):
    """2005: county sheets are named by the state alone and have no codes; that is said."""
    with pytest.raises(SourceLayoutError, match=r"no sheet 'Table 3 - \{state\}'"):
        read_source(with_vintage("2005"), "2005", realdata)
    spec = load_source("ssa_ssi_counties")
    states = tuple(s for s in spec.layout.sheets if s.holds == "states")
    frame = read_source(with_vintage("2005", sheets=states), "2005", realdata).frame
    total = frame.filter((pl.col("column") == "ssi_total") & (pl.col("level") != "nation"))
    assert total["estimate"].sum() == 7_113_879
    assert total.filter(pl.col("geoid") == "UNKNOWN")["estimate"].item() == 182


def test_a_real_table_of_oasdi_by_state(realdata, cell):
    """Table 2 of December 2013, which a carrier left alone in its workbook."""
    spec = load_source("ssa_oasdi_counties")
    name = "ssa/oasdi_states_csv/2013 - Beneficiaries.xlsx"
    spec = spec.model_copy(
        update={
            "vintages": {"2013": spec.vintages["2022"]},
            "layout": spec.layout.model_copy(update={"sheets": spec.layout.sheets[:1]}),
            "files": (spec.files[0].model_copy(update={"paths": (name,)}),),
        }
    )
    frame = read_source(spec, "2013", realdata).frame
    assert cell(frame, "", "persons_oasdi")["estimate"] == 57_978_610
    assert cell(frame, "56", "oasdi_65_older_women")["estimate"] == 38_336
    assert cell(frame, "69", "di_workers")["estimate"] == 244
    assert cell(frame, "FOREIGN", "persons_oasdi")["estimate"] == 605_166
