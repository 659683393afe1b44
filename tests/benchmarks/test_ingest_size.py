"""The benchmark of the nation's size, small: files are of the publishers' form and all are read."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from benchmarks import ingest_size
from benchmarks.ingest_files import POPULATION, shares, tracts_of
from benchmarks.ingest_size import KINDS, Read, read_kind, table
from pipeline.specs.states import STATES, state_of

TRACTS = 153


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("nation")
    ingest_size.prepare(place, persons=51, tracts=TRACTS)
    return place


def test_every_state_has_its_share():
    assert list(POPULATION) == sorted(POPULATION, key=lambda code: state_of(code).name)
    assert sum(POPULATION.values()) == pytest.approx(331_449, abs=60)
    assert sum(shares(3_000_000).values()) == pytest.approx(3_000_000, abs=51)
    assert len({code for s in STATES for code in tracts_of(s, 60)}) == 51 * 60


@pytest.mark.parametrize(("kind", "columns", "width"), [("p", 286, 705), ("h", 234, 560)])
def test_pums_are_as_wide_as_the_bureaus(folder, kind, columns, width):
    with zipfile.ZipFile(folder / f"acs_pums/2022_1yr/csv_{kind}ca.zip") as archive:
        lines = archive.read(f"psam_{kind}06.csv").decode().splitlines()
    assert {line.count(",") + 1 for line in lines} == {columns}
    assert sum(map(len, lines[1:])) / len(lines[1:]) == pytest.approx(width, rel=0.03)


def test_the_nations_archive_has_all_states_in_two_members(folder):
    with zipfile.ZipFile(folder / "nation/acs_pums/2022_1yr/csv_pus.zip") as archive:
        names = archive.namelist()
        states = [
            {line.split(",")[6] for line in archive.read(name).decode().splitlines()[1:]}
            for name in names
        ]
    assert names == ["psam_pusa.csv", "psam_pusb.csv"]
    assert states[0] | states[1] == {state.fips for state in STATES}
    assert not states[0] & states[1]


def test_answers_of_the_api_have_eight_columns_per_line(folder):
    header, *rows = json.loads((folder / "acs_tables/ca_tracts/acs5_2022_DP02.json").read_text())
    assert len(header) == 154 * 8 + 5
    assert {len(row) for row in rows} == {len(header)}
    assert len(rows) == shares(TRACTS)["CA"]


@pytest.mark.parametrize("what", KINDS)
def test_every_kind_is_read(folder, what):
    read = read_kind(what, folder)
    assert read.rows > 0
    assert read.files and read.reads
    assert read.peak_gb < ingest_size.LIMIT_GB
    if what == "tracts and PUMAs":
        assert read.rows == sum(shares(TRACTS).values())


def test_the_table_has_a_row_per_kind():
    lines = table([Read("a", 2, 3.4, 5, 6_000, 7.8, 0.9, 1.25)]).splitlines()
    assert lines[-1] == "| a | 2, 3 | 5 | 6,000 | 8 | 0.9 | 1.25 |"
