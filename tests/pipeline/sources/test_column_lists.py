"""Columns that a vintage is known to have: what is unknown or gone stops with a difference."""

from __future__ import annotations

import shutil

import pytest

from pipeline.errors import SourceLayoutError
from pipeline.sources.registry import check_source, read_source
from pipeline.specs.columns import ColumnLists, load_column_lists
from pipeline.specs.sources import load_source, load_sources

REAL = "irs/22incyallnoagi_ri.csv"


@pytest.fixture
def county(realdata, tmp_path):
    """The county file of Rhode Island in a folder of its own, with a changed header."""

    def write(old: str, new: str):
        path = tmp_path / REAL
        path.parent.mkdir(exist_ok=True)
        text = (realdata / REAL).read_text("latin-1")
        assert old in text
        path.write_text(text.replace(old, new, 1), "latin-1")
        return tmp_path

    return write


def test_a_column_that_is_gone_stops_with_what_is_there_instead(county):
    folder = county("N59663", "N59999")
    with pytest.raises(SourceLayoutError, match=r"gone: N59663.*Against 2012: new"):
        read_source(load_source("irs_county"), "2022", folder, ["RI"])
    (line,) = check_source(load_source("irs_county"), "2022", folder, ["RI"])
    assert not line.ok and "gone: N59663" in line.message


def test_a_carriers_own_column_is_no_column_of_figures(county):
    folder = county("RAC,", "my_column,")
    assert read_source(load_source("irs_county"), "2022", folder, ["RI"]).frame.height


def test_a_vintage_without_a_list_is_compared_with_the_nearest_that_has_one(realdata, tmp_path):
    spec = load_source("irs_historic_table_2")
    new = spec.vintages["2022"].model_copy(
        update={"fingerprint": type(spec.vintages["2022"].fingerprint)()}
    )
    newer = spec.model_copy(update={"vintages": {**spec.vintages, "2023": new}})
    target = tmp_path / "irs/23in55cmcsv.csv"
    target.parent.mkdir()
    shutil.copy(realdata / "irs/22in55cmcsv.csv", target)
    text = target.read_text("latin-1")
    target.write_text(text.replace("N59664", "N59665", 1), "latin-1")
    notes = read_source(newer, "2023", tmp_path).notes
    (note,) = [note for note in notes if note.code == "columns_not_listed"]
    assert "Against 2022: new N59665; gone N59664" in note.detail


def test_lists_are_of_sources_and_vintages_there_are():
    sources = load_sources()
    for source, lists in load_column_lists().items():
        for vintage in (lists.first, *lists.changes):
            assert vintage in sources[source].vintages
            columns = lists.of(vintage)
            assert columns and len(set(columns)) == len(columns)
            assert lists.figures(columns) == list(columns)


def test_changes_follow_one_another():
    lists = ColumnLists(
        pattern="[A-Z]",
        first="2020",
        columns="A B",
        changes={"2021": {"new": "C", "gone": "A"}, "2022": {"gone": "B"}},
    )
    assert [lists.of(year) for year in ("2020", "2021", "2022", "2023")] == [
        ("A", "B"),
        ("B", "C"),
        ("C",),
        None,
    ]
    assert lists.nearest("2023") == "2022" and lists.nearest("2021") == "2020"
