"""`--specs DIR` and `--profile PATH`: what a team keeps outside the checkout."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.specs.base import SPEC_ROOT


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """What a command puts into the environment is gone after the test."""
    for name in ("GEOCAL_SPECS", "GEOCAL_PROFILE"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


@pytest.fixture
def team(tmp_path) -> Path:
    folder = tmp_path / "team"
    (folder / "profiles").mkdir(parents=True)
    text = (SPEC_ROOT / "profiles" / "rhode_island.yaml").read_text()
    (folder / "profiles" / "ours.yaml").write_text(text.replace("id: rhode_island", "id: ours"))
    return folder


def test_a_folder_of_ones_own_adds_a_profile(invoke, team):
    listed = json.loads(invoke("profiles", "--specs", str(team), "--json")[1])
    assert {row["id"] for row in listed} >= {"ours", "sample", "us_2022"}


def test_a_profile_by_its_path_is_checked_like_any_other(invoke, team, tmp_path):
    path, data = team / "profiles" / "ours.yaml", tmp_path / "data"
    data.mkdir()
    arguments = ["--data", str(data), "--output", str(tmp_path / "o")]
    status, out, err = invoke("check", "--profile", str(path), *arguments)
    assert status == 1 and "csv_pri.zip" in out
    assert "Missing, acs_pums_1yr 2018" in err and "Faulty" not in err
    assert "0 of" in out and "missing" in out
    # What a later process, such as the UI's, is told.
    status, out, _ = invoke("env", "--profile", str(path), "--specs", str(team), *arguments)
    assert f"GEOCAL_PROFILE={path}" in out and f"GEOCAL_SPECS={team}" in out


def test_what_stands_in_place_of_ours_is_said(invoke, team, tmp_path):
    (team / "sources").mkdir()
    text = (SPEC_ROOT / "sources" / "pep_counties.yaml").read_text()
    (team / "sources" / "pep_counties.yaml").write_text(text)
    (tmp_path / "data").mkdir()
    options = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "o")]
    _, out, err = invoke("check", "--profile", "ours", "--specs", str(team), *options)
    assert "in place of ours: sources/pep_counties" in " ".join((out + err).split())


def test_a_folder_that_is_none_is_refused(invoke, tmp_path):
    status, _, err = invoke("profiles", "--specs", str(tmp_path / "nowhere"))
    assert status == 1 and "no such folder of specifications" in err
    assert os.environ["GEOCAL_SPECS"].endswith("nowhere")


def test_choices_and_missing_files_are_told_in_groups(invoke, tmp_path):
    (tmp_path / "data").mkdir()
    options = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "o")]
    status, out, err = invoke("check", "--profile", "us_2022", "--states", "VT,NH,WY", *options)
    said = " ".join((out + err).split())
    assert status == 1
    assert "tables of tracts of NH, VT, WY: none, to the county. Costs: no tracts." in said
    assert said.count("Missing, acs_pums_1yr 2022: 3 files.") == 1
    assert "csv_pwy.zip" in said and "Faulty" not in said
