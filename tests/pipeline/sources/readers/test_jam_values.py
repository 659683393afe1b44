"""Numbers that only say that a median lies in its first or last class: by hand, and in real files.

Belongs here: medians. Marks of other cells are in ``test_acs_tables.py``.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.sources.registry import read_source
from pipeline.specs.sources import SourceSpec, load_source, load_sources

GROUP = "acs_tables/state_us_2022_1yr/{}/acs-acs1-2022-GROUP_{}_DATA.csv"


def one_table(table: str) -> SourceSpec:
    spec = load_source("acs1_detailed")
    columns = tuple(c for c in spec.columns if (c.name or c.pattern).startswith(table))
    return spec.model_copy(update={"tables": (table,), "columns": columns})


@pytest.fixture
def state_cell(read, cell):
    """The row of Rhode Island's first cell of ``table``, and the notes."""

    def call(table: str, estimate: str, margin: str):
        head = f"GEO_ID,{table}_001E,{table}_001M,NAME,{table}_001EA,{table}_001MA,state"
        rows = {"bystate": f"0400000US44,{estimate},{margin}", "us": "0100000US,70000,90"}
        files = {
            GROUP.format(folder, table): f"{head}\n{row},SYNTHETIC,null,null,44\n"
            for folder, row in rows.items()
        }
        made = read(one_table(table), "2022", files)
        return cell(made.frame, "44", f"{table}_001"), made.notes

    return call


@pytest.mark.parametrize(
    ("estimate", "margin", "expected"),
    [
        pytest.param("250001", "-333333333", (None, None, "not_available"), id="above"),
        pytest.param("2499", "-333333333", (None, None, "not_available"), id="below"),
        pytest.param("250001.0", "", (None, None, "not_available"), id="without a margin"),
        pytest.param('"250,001"', "**", (None, None, "not_available"), id="with a separator"),
        pytest.param('"250,000+"', "***", (None, None, "not_available"), id="in words, above"),
        pytest.param('"2,500-"', "***", (None, None, "not_available"), id="in words, below"),
        pytest.param("240000", "***", (None, None, "not_available"), id="a bound of another year"),
        pytest.param("249000", "1200", (249000.0, 1200.0, "published"), id="a median"),
    ],
)
def test_a_median_of_an_open_class_is_not_available(state_cell, estimate, margin, expected) -> None:
    row, notes = state_cell("B19013", estimate, margin)
    assert (row["estimate"], row["margin_of_error"], row["status"]) == expected
    said = [n for n in notes if n.code == "not_available"]
    assert [n.count for n in said] == ([1] if expected[0] is None else [])


def test_the_note_says_that_it_is_a_jam_value(state_cell) -> None:
    _, notes = state_cell("B19013", "250001", "-333333333")
    (note,) = (n for n in notes if n.code == "not_available")
    assert "jam value" in note.detail
    assert "B19013_001 1" in note.detail


@pytest.mark.parametrize("number", ["2499", "250001"])
def test_the_same_number_of_dollars_in_all_is_a_figure(state_cell, number) -> None:
    row, _ = state_cell("B19065", number, "137")
    assert (row["estimate"], row["status"]) == (float(number), "published")


def test_every_median_of_the_acs_names_its_jam_values() -> None:
    medians = [
        (spec.id, column.label, column.jam_values)
        for spec in load_sources().values()
        if spec.id.startswith("acs") and spec.kind == "published"
        for column in spec.columns
        if column.description.startswith("median")
    ]
    assert len(medians) >= 6
    assert all(values for *_, values in medians), medians


def test_a_county_of_2499_households_keeps_them(realdata: Path) -> None:
    frame = read_source(load_source("acs5_s1901_counties"), "2018", realdata, None).frame
    kept = frame.filter((pl.col("column") == "S1901_C01_001") & (pl.col("estimate") == 2499))
    assert kept["status"].to_list() == ["published"]
