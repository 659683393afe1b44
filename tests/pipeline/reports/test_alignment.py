"""What steps of the records changed, as figures and on a terminal."""

from __future__ import annotations

import io

import polars as pl
import pytest
from rich.console import Console

from pipeline.records.align import ALIGNMENT_SCHEMA
from pipeline.reports.alignment import alignment_rows, print_alignment, with_gaps

ROWS = [
    ("ssa_benefits", "persons", "oasdi", "persons", True, 1_000.0, 800.0, 1_001.0),
    ("ssa_benefits", "usd_agi", "total", "usd", False, 5e6, 4e6, 4.5e6),
    ("return_income", "usd_partnership", "agi_under_1", "usd", True, -2e6, None, -1e6),
    ("return_income", "usd_rent", "total", "usd", True, None, None, None),
]


@pytest.fixture
def table() -> pl.DataFrame:
    return pl.DataFrame(ROWS, schema=ALIGNMENT_SCHEMA, orient="row")


def test_gaps_are_relative_to_the_size_of_the_published_figure(table) -> None:
    rows = with_gaps(table)
    assert rows["gap_before"].to_list() == pytest.approx([-0.2, -0.2, None, None])
    # From a loss of two millions to one of one: half of it above.
    assert rows["gap_after"].to_list() == pytest.approx([0.001, -0.1, 0.5, None])


def printed(table: pl.DataFrame, every: bool) -> str:
    out = io.StringIO()
    report = {"record_alignment": alignment_rows(table)}
    print_alignment(report, Console(file=out, width=100), every)
    return out.getvalue()


def test_show_prints_steps_and_marks_what_no_step_aims_at(table) -> None:
    text = printed(table, every=False)
    assert "ssa_benefits" in text and "-20.0%" in text and "+0.1%" in text
    assert "usd_agi total (not aimed at)" in text and "5.0 m" in text
    assert "agi_under_1" not in text
    assert "agi_under_1" in printed(table, every=True)


def test_a_profile_without_steps_prints_nothing(table) -> None:
    out = io.StringIO()
    print_alignment({}, Console(file=out), True)
    assert out.getvalue() == ""
