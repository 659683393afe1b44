"""A five-year PUMS file: columns that a part of the years leaves blank, in the form that the
dictionary of 2017-2021 describes and on rows of the Bureau's own.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.sources.microdata.acs_pums import read_pums
from pipeline.sources.registry import read_microdata
from pipeline.specs.known_totals import FILE
from pipeline.specs.sources import load_source
from tests.pipeline.sources.microdata.pums_rows import ADULT, archive, counts, read

RENAMED = {"RELP": "RELSHIPP", "JWTR": "JWTRNS"}


def _row(year: int, weeks: dict[str, str], **changes: str) -> dict[str, str]:
    row = {RENAMED.get(name, name): value for name, value in ADULT.items()}
    serial = f"{year}HU000000{year % 10}"
    return {**row, "RELSHIPP": "20", "SERIALNO": serial, "WKW": "", "WKWN": "", **weeks, **changes}


def test_each_year_has_its_weeks_worked(tmp_path: Path) -> None:
    rows = [
        _row(2017, {"WKW": "4"}),
        _row(2018, {"WKW": "6"}),
        _row(2019, {"WKWN": "44"}),
        _row(2020, {}),
        _row(2021, {"WKWN": "52"}, ADJINC="1029928"),
    ]
    data = read(tmp_path, rows, year=2021, period=5)
    assert data.persons["weeks_worked"].to_list() == [27, 1, 44, 0, 52]
    assert counts(data.notes)["weeks_by_class"] == 2


def test_one_column_of_weeks_needs_no_note(tmp_path: Path) -> None:
    assert "weeks_by_class" not in counts(read(tmp_path, [ADULT]).notes)


def test_two_pumas_of_which_only_the_newer_is_taken(tmp_path: Path) -> None:
    both = {"PUMA10": "00101", "PUMA20": "-0009"}
    rows = [
        _row(2021, {"WKWN": "50"}, **both),
        _row(2022, {"WKWN": "50"}, PUMA10="-0009", PUMA20="00103", ADJINC="1042311"),
    ]
    for row in rows:
        del row["PUMA"]
    data = read(tmp_path, rows, year=2022, period=5)
    assert data.persons["puma"].to_list() == [None, "4400103"]
    assert counts(data.notes)["puma_of_other_vintage"] == 1


def test_the_specification_says_how_many_years(tmp_path: Path) -> None:
    folder = tmp_path / "acs_pums" / "2021_5yr"
    folder.mkdir(parents=True)
    (tmp_path / FILE).write_text("# SYNTHETIC\n{}\n")
    rows = [_row(2017, {"WKW": "1"}), _row(2021, {"WKWN": "9"}, ADJINC="1029928")]
    archive(folder, rows)
    data = read_microdata(load_source("acs_pums_5yr"), "2021", tmp_path, ["RI"])
    assert data.persons["weeks_worked"].to_list() == [50, 9]


def test_the_bureaus_rows_of_2012_to_2016_with_a_second_column_of_weeks(
    realdata: Path, tmp_path: Path
) -> None:
    """The file has classes only; a blank WKWN beside them, as from 2019, must not empty them."""
    path = realdata / "acs_pums/ri_2012_2016_5yr_sample/ss16pri_short.csv"
    before = read_pums(path, year=2016, period=5, state_fips="44").persons
    lines = path.read_text(encoding="utf-8").splitlines()
    (tmp_path / "p.csv").write_text(
        "\n".join([f"{lines[0]},WKWN", *(f"{line}," for line in lines[1:])]) + "\n"
    )
    after = read_pums(tmp_path / "p.csv", year=2016, period=5, state_fips="44").persons
    assert after.equals(before)
    assert (before["weeks_worked"] > 0).sum() > 150
