"""One state out of the nation's archive of PUMS, piece by piece, as out of the state's own."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from pipeline.errors import RecordsError, SourceFileError, SourceLayoutError, SourceValueError
from pipeline.sources.microdata import acs_pums_files
from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.registry import check_source, read_microdata
from pipeline.specs.sources import load_source
from tests.pipeline.sources.microdata.pums_rows import ADULT, CHILD, text


def household(number: int, state: str = "44", **changed: str) -> list[dict[str, str]]:
    """An adult and a child."""
    own = {"ST": state, "SERIALNO": f"2018HU{number:07}"}
    return [{**ADULT, **own, **changed}, {**CHILD, **own}]


@pytest.fixture(params=[60, 500, 1 << 26], ids=["part of a line", "some lines", "whole"])
def piece(request, monkeypatch) -> int:
    monkeypatch.setattr(acs_pums_files, "PIECE", request.param)
    return request.param


def nation(folder: Path, *, end: str = "\n", **changed: str) -> Path:
    """States 10, 44 and 50 in two members; ``changed`` in the last household of 44."""
    first = [row for n in range(9) for row in household(n, "10")]
    first += [row for n in range(20, 29) for row in household(n)]
    second = [*household(40, **changed), *household(50, "50")]
    path = folder / "csv_pus.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("psam_pusa.csv", text(first))
        file.writestr("psam_pusb.csv", text(second).rstrip("\n") + end)
    return path


@pytest.mark.parametrize("end", ["\n", ""], ids=["last end of line", "none"])
def test_a_state_is_read_as_from_its_own_file(tmp_path, piece, end):
    found = read_pums(nation(tmp_path, end=end), year=2018, state_fips="44")
    own = [row for n in (*range(20, 29), 40) for row in household(n)]
    path = tmp_path / "csv_pri.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("psam_p44.csv", text(own))
    alone = read_pums(path, year=2018, state_fips="44")
    assert found.persons.equals(alone.persons)
    assert found.households.equals(alone.households)
    assert [p.member for p in found.provenance] == ["psam_pusa.csv", "psam_pusb.csv"]
    assert read_pums(nation(tmp_path), year=2018, state_fips="50").persons.height == 2


def test_a_fault_is_named_with_its_line_of_the_file(tmp_path, piece):
    with pytest.raises(SourceValueError, match=r"line 2, column AGEP"):
        read_pums(nation(tmp_path, AGEP="nan"), year=2018, state_fips="44")
    path = nation(tmp_path)
    rows = [*household(1, "10"), *household(2), *household(3, WAGP="x")]
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("psam_pusa.csv", text(rows))
    with pytest.raises(SourceValueError, match=r"psam_pusa\.csv.*line 6, column WAGP"):
        read_pums(path, year=2018, state_fips="44")


def test_a_state_that_is_not_in_it_is_told(tmp_path, piece):
    with pytest.raises(RecordsError, match="A state has no records"):
        read_pums(nation(tmp_path), year=2018, state_fips="06")


def test_a_member_that_is_damaged_is_told(tmp_path, piece):
    path = nation(tmp_path)
    content = path.read_bytes()
    at = content.index(b"2018HU0000028")
    path.write_bytes(content[:at] + b"2018HU0000029" + content[at + 13 :])
    with pytest.raises(SourceFileError, match=r"psam_pusa\.csv is damaged"):
        read_pums(path, year=2018, state_fips="44")


def test_columns_that_are_missing_are_told(tmp_path, piece):
    path = tmp_path / "csv_pus.zip"
    with zipfile.ZipFile(path, "w") as file:
        rows = [{k: v for k, v in row.items() if k != "SCHL"} for row in household(1)]
        file.writestr("psam_pusa.csv", text(rows))
    with pytest.raises(SourceLayoutError, match="SCHL"):
        read_pums(path, year=2018, state_fips="44")


def test_the_nations_archive_stands_in_for_those_of_states(tmp_path):
    folder = tmp_path / "acs_pums" / "2018_1yr"
    folder.mkdir(parents=True)
    nation(folder)
    # Made-up figures know no published totals.
    (tmp_path / "known_totals.yaml").write_text("{}\n")
    spec = load_source("acs_pums_1yr")
    assert read_microdata(spec, "2018", tmp_path, ["RI"]).persons.height == 20
    (line,) = check_source(spec, "2018", tmp_path, ["RI"])
    assert line.ok, line.message
    assert "20 persons" in line.message
