"""Columns of a survey file: absent ones are null, and a repeated key is named with its line."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import SourceValueError
from pipeline.sources.files import read_raw
from pipeline.sources.microdata.columns import LINE, SurveyColumns, yes_no


def columns(folder: Path, text: str) -> SurveyColumns:
    path = folder / "survey.csv"
    path.write_text(text)
    return SurveyColumns.read(read_raw(path), ("HOME", "LINE"), ("ASKED", "AMOUNT"))


def test_an_optional_column_that_the_file_has_not_is_null_on_every_line(tmp_path: Path) -> None:
    read = columns(tmp_path, "HOME,LINE,ASKED\n1,1,2\n1,2,1\n")
    assert read.has("ASKED") and not read.has("AMOUNT") and read.absent == {"AMOUNT"}
    assert read.number("AMOUNT", low=0).to_list() == [None, None]
    assert read.coded("AMOUNT", yes_no([1], [2]), dtype=pl.Boolean).to_list() == [None, None]
    kept = read.filter(read.integer("LINE") == 2)
    assert kept.absent == {"AMOUNT"} and kept.frame.height == 1


def test_a_required_column_may_not_be_blank(tmp_path: Path) -> None:
    with pytest.raises(SourceValueError, match=r"AMOUNT .*line 2, column AMOUNT"):
        columns(tmp_path, "HOME,LINE\n1,1\n").number("AMOUNT", nullable=False)


def test_the_first_repeated_key_is_named_with_its_line_and_their_number(tmp_path: Path) -> None:
    read = columns(tmp_path, "HOME,LINE\n1,1\n1,2\n1,2\n2,1\n1,2\n")
    read.filter(read.integer("HOME") == 2).require_each_once("HOME", "LINE")
    with pytest.raises(SourceValueError) as caught:
        read.require_each_once("HOME", "LINE")
    said = str(caught.value)
    assert "HOME 1 and LINE 2 appears twice (2 repeated lines)" in said
    assert "line 4, column HOME and LINE" in said


@pytest.mark.parametrize("value", ["nan", "NaN", "inf", "-inf", "1e400", "abc", "3000000000"])
@pytest.mark.parametrize("how", ["integer", "coded"])
def test_what_is_no_whole_number_is_named_with_its_line(
    tmp_path: Path, value: str, how: str
) -> None:
    read = columns(tmp_path, f"HOME,LINE,ASKED\n1,1,2\n1,2,{value}\n")
    ask = {
        "integer": lambda: read.integer("ASKED"),
        "coded": lambda: read.coded("ASKED", yes_no([1], [2]), dtype=pl.Boolean),
    }
    with pytest.raises(SourceValueError, match=r"ASKED is '.*line 3, column ASKED"):
        ask[how]()


def test_a_file_in_parts_is_the_file(tmp_path, monkeypatch):
    path = tmp_path / "p.csv"
    rows = [f"{i},{i % 7},{'' if i == 5 else i * 3}" for i in range(50)]
    path.write_text("\n".join(["HOME,LINE,WHOLE", *rows]) + "\n")
    asked = ("HOME", "LINE"), ()
    whole = SurveyColumns.read(read_raw(path), *asked, whole=("WHOLE", "ABSENT"))
    monkeypatch.setattr("pipeline.sources.microdata.columns._PIECE", 60)
    parts = SurveyColumns.read(read_raw(path), *asked, whole=("WHOLE", "ABSENT"))
    assert parts.frame.equals(whole.frame)
    assert parts.frame["WHOLE"].dtype == pl.Int32 and parts.absent == {"ABSENT"}
    assert parts.frame[LINE].to_list() == list(range(2, 52))
    path.write_text(path.read_text().replace("47,5,141", "47,5,141.5"))
    with pytest.raises(SourceValueError, match="line 49, column WHOLE"):
        SurveyColumns.read(read_raw(path), *asked, whole=("WHOLE",))
