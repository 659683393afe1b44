"""What records borrowed, on a terminal."""

from __future__ import annotations

import io

import polars as pl
import pytest
from rich.console import Console

from pipeline.records.donation_table import DONATION_SCHEMA, far_from_donors
from pipeline.reports.donation import SHOWN, donation_rows, print_donation

COMMON = {"item": "retirement", "level": "person", "status": "donated", "far": False}
SUMS = {
    **{"nation_universe": 1000.0, "nation_base": 5e6, "nation_receiving": 250.0},
    **{"nation_dollars": 1e6, "after_universe": 100.0, "after_base": 4e5},
    **{"after_receiving": 20.0, "after_dollars": 1e5, "receiving_gap": -0.2, "dollars_gap": 0.25},
}
ROWS = [
    {**COMMON, **SUMS, "column": "pensions"},
    {**COMMON, **SUMS, "column": "annuities", "far": True, "dollars_gap": 0.75},
    {**COMMON, "column": "alimony", "status": "absent"},
]


@pytest.fixture
def table() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=DONATION_SCHEMA)


def printed(report: dict, every: bool, width: int = 120) -> str:
    out = io.StringIO()
    print_donation(report, Console(file=out, width=width), every)
    return out.getvalue()


def test_the_longest_names_and_largest_figures_fit_into_eighty_columns(table):
    large = table.head(1).with_columns(
        column=pl.lit("unemployment_compensation"),
        far=pl.lit(True),
        after_dollars=pl.lit(98_765_432_100.0),
        state_universe=pl.lit(10.0),
        state_receiving=pl.lit(10.0),
        dollars_gap=pl.lit(-0.75),
    )
    text = printed({"record_donation": donation_rows(large)}, every=True, width=80)
    (line,) = [
        line for line in text.splitlines() if "unemployment_comp" in line and "WARN" not in line
    ]
    assert "* unemployment_compensation " in line and "98,765.4 m" in line and "-75%" in line
    assert "100.0%" in line and "…" not in text


def test_a_line_per_column_with_shares_and_dollars_by_base(table):
    text = printed({"record_donation": donation_rows(table)}, every=False)
    (line,) = [line for line in text.splitlines() if line.strip().startswith("pensions")]
    assert line.split() == ["pensions", "25.0%", "20.0%", "0.1", "m", "+25%"]
    assert "* annuities" in text and "alimony" in text.split("Not in the donor's file: ")[1]


def test_what_is_far_from_the_donors_is_a_warning_with_its_numbers(table):
    text = printed({"record_donation": donation_rows(table)}, every=True)
    (warning,) = [line for line in text.splitlines() if "WARNING" in line]
    assert "annuities" in warning and "receivers -20%" in warning
    (words,) = far_from_donors(table)
    assert words.startswith("annuities is far from the donors of the nation")
    assert "dollars differ by +75%" in words and "(20 of 100 receive; donors 250 of 1,000)" in words


def test_records_that_borrow_nothing_print_nothing():
    assert printed({}, every=True) == ""


def test_metadata_shows_columns_of_the_table():
    assert set(SHOWN) <= set(DONATION_SCHEMA)
