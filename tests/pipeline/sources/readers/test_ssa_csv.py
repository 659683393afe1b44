"""SSA's tables of states saved as CSV files. The files are invented, in SSA's layout."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import SourceLayoutError
from pipeline.sources.registry import read_source
from pipeline.specs.sources import load_source

FOLDER = "ssa/oasdi_states_csv"
PERSONS, DOLLARS = f"{FOLDER}/2022 - Beneficiaries.csv", f"{FOLDER}/2022 - Benefits.csv"
HEADS = (
    "State or area,,,Total,Retirement,,,Survivors,,Disability,,,Aged 65 or older,\r\n"
    ",,,,Retired workers,Spouses,Children,Widow(er)s and parents,Children,Disabled workers,"
    "Spouses,Children,Men,Women\r\n"
)


def table(number: int, what: str, rows: list[str], year: int = 2022, space: str = " ") -> str:
    title = f'"Table {number}.\n{what}, by state or other area, December{space}{year}"' + "," * 13
    ends = ["Outlying areas" + "," * 13, '"SOURCES: invented"' + "," * 13]
    return "\r\n".join([title, HEADS.rstrip("\r\n"), *rows, *ends]) + "\r\n"


def files(year: int = 2022, **more: str) -> dict[str, str]:
    persons = ['Rhode Island,,,"1,000",800,10,20,50,60,40,5,15,300,350']
    dollars = ['Rhode Island,,,"1,500","1,200",8,9,90,70,100,3,20,500,520']
    return {
        PERSONS: table(2, "Number of beneficiaries", persons, year, **more),
        DOLLARS: table(3, "Amount of benefits", dollars, year, **more).replace(
            f'{year}"', f'{year} (in thousands of dollars)"'
        ),
    }


def test_both_tables_are_read_as_the_workbook_is(read, cell) -> None:
    found = read("ssa_oasdi_states", "2022", files()).frame
    assert cell(found, "44", "persons_oasdi")["estimate"] == 1_000
    assert cell(found, "44", "di_children")["estimate"] == 15
    assert cell(found, "44", "benefits_month_65_older_women")["estimate"] == 520_000


def test_a_file_of_an_older_spreadsheet_is_latin_1(read, cell) -> None:
    old = {k: v.encode("latin-1") for k, v in files(space="\u00a0").items()}
    found = read("ssa_oasdi_states", "2022", old).frame
    assert cell(found, "44", "surv_children")["estimate"] == 60


def test_another_year_is_refused(read) -> None:
    with pytest.raises(SourceLayoutError, match="2018"):
        read("ssa_oasdi_states", "2022", files(2018))


def test_a_file_of_another_table_is_refused_by_its_title(read) -> None:
    wrong = files()
    wrong[DOLLARS] = wrong[DOLLARS].replace("Amount of benefits", "Amount of fees")
    with pytest.raises(SourceLayoutError, match="Amount of fees"):
        read("ssa_oasdi_states", "2022", wrong)


@pytest.mark.parametrize(
    ("year", "persons", "dollars"),
    [
        ("2018", 62_906_222, 84_419_840_000),
        ("2022", 65_994_457, 111_421_667_000),
        ("2024", 68_455_973, 125_577_970_000),
    ],
)
def test_real_tables_have_the_published_totals(realdata, cell, year, persons, dollars) -> None:
    found = read_source(load_source("ssa_oasdi_states"), year, realdata).frame
    assert cell(found, "", "persons_oasdi")["estimate"] == persons
    assert cell(found, "", "benefits_month_total")["estimate"] == dollars


@pytest.mark.parametrize(
    ("year", "persons"), [("2005", 48_434_281), ("2010", 54_031_968), ("2017", 61_903_360)]
)
def test_real_tables_of_earlier_years_count_the_nation(realdata, cell, year, persons) -> None:
    found = read_source(load_source("ssa_oasdi_states"), year, realdata).frame
    assert cell(found, "", "persons_oasdi")["estimate"] == persons
    assert found.filter(pl.col("level") == "state")["geoid"].n_unique() == 56
