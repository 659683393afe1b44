"""Specifications that a team keeps outside the checkout: added to ours, or over them by name."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
import yaml

from pipeline.assets.common import code_version
from pipeline.errors import SpecError
from pipeline.settings import run_environment
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import load_catalog
from pipeline.specs.roots import spec_roots
from pipeline.specs.sources import load_source

OWN_VARIABLE = """
title: of a team
variables:
  - variable: persons
    domain: nurses_of_a_test
    label: Nurses
    unit: persons
    over: persons
    where: "age > 200"
    family: work
"""


def own(folder: Path, kind: str, name: str, text: str) -> Path:
    path = folder / kind / f"{name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def ours(kind: str, name: str) -> str:
    return (SPEC_ROOT / kind / f"{name}.yaml").read_text()


@pytest.fixture
def team(tmp_path, monkeypatch) -> Path:
    folder = tmp_path / "team"
    folder.mkdir()
    monkeypatch.setenv("GEOCAL_SPECS", str(folder))
    return folder


def test_what_a_team_adds_stands_beside_ours(team):
    own(team, "variables", "team", OWN_VARIABLE)
    own(team, "profiles", "ours_again", ours("profiles", "sample").replace("id: sample", "id: x"))
    own(team, "profiles", "x", ours("profiles", "sample").replace("id: sample", "id: x"))
    catalog = load_catalog()
    assert catalog.variables["persons", "nurses_of_a_test"].label == "Nurses"
    assert catalog.variables["persons", "total"].unit == "persons"
    assert catalog.profile("x").title == catalog.profile("sample").title
    assert catalog.overrides() == []
    with pytest.raises(SpecError, match="id is 'x'"):
        catalog.profile("ours_again")


def test_what_a_team_puts_over_ours_is_named(team):
    text = ours("sources", "pep_counties").replace("U.S. Census Bureau", "Bureau of a test")
    path = own(team, "sources", "pep_counties", text)
    entry = OWN_VARIABLE.replace("nurses_of_a_test", "total")
    variables = own(team, "variables", "team", entry)
    catalog = load_catalog()
    assert catalog.sources["pep_counties"].publisher == "Bureau of a test"
    assert load_source("pep_counties").publisher == "Bureau of a test"
    assert catalog.variables["persons", "total"].label == "Nurses"
    said = catalog.overrides()
    assert len(said) == 2
    assert str(path) in said[0] and said[0].startswith("sources/pep_counties")
    assert str(variables) in said[1] and "variable persons/total" in said[1]


def test_a_fault_of_a_teams_file_is_said_to_lie_there(team):
    donor = '{source: cps_asec, vintage: "2023", items: [no]}'
    path = own(team, "profiles", "mine", f"id: mine\nlike: sample\nrecords: {{donor: {donor}}}")
    with pytest.raises(SpecError) as error:
        load_catalog().profile("mine")
    assert str(path) in str(error.value)
    assert load_catalog().roots.shown("profiles", "sample") == "data_specs/profiles/sample.yaml"


def test_of_several_folders_the_last_wins(team, tmp_path, monkeypatch):
    other = tmp_path / "other"
    for folder, word in ((team, "first"), (other, "second")):
        text = ours("sources", "pep_counties").replace("U.S. Census Bureau", word)
        own(folder, "sources", "pep_counties", text)
    monkeypatch.setenv("GEOCAL_SPECS", os.pathsep.join([str(team), str(other)]))
    assert load_catalog().sources["pep_counties"].publisher == "second"
    assert len(load_catalog().overrides()) == 2


def test_twice_in_one_folder_is_still_a_fault(team):
    own(team, "variables", "a", OWN_VARIABLE)
    own(team, "variables", "b", OWN_VARIABLE)
    with pytest.raises(SpecError, match="declared twice"):
        load_catalog().variables["persons", "nurses_of_a_test"]


def test_a_profile_anywhere_by_its_path(tmp_path, monkeypatch):
    path = tmp_path / "mine.yaml"
    path.write_text(ours("profiles", "sample").replace("id: sample", "id: mine"))
    environment = run_environment(str(path), tmp_path, tmp_path, {})
    assert environment.profile == "mine" and environment.root == tmp_path / "mine"
    assert "mine" not in load_catalog().profiles
    monkeypatch.setenv("GEOCAL_PROFILE", str(path))
    assert load_catalog().profile("mine").target_year == 2022
    # A code location, or the UI's process, finds it again.
    assert environment.variables()["GEOCAL_PROFILE"] == str(path)


def test_a_changed_file_of_a_team_makes_assets_stale(team):
    path = own(team, "targets", "own", "id: own\n")
    code_version.cache_clear()
    before, unconcerned = code_version("data_specs/targets"), code_version("data_specs/factors")
    path.write_text("id: own\ntitle: other\n")
    code_version.cache_clear()
    assert code_version("data_specs/targets") != before
    assert code_version("data_specs/factors") == unconcerned
    code_version.cache_clear()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda folder: None, "nothing"),
        (lambda folder: (folder / "sourcs").mkdir(), "sourcs"),
        (lambda folder: (folder / "pep.yaml").write_text("id: pep"), "pep.yaml"),
        (lambda folder: shutil.rmtree(folder), "no such folder"),
    ],
    ids=["empty", "a folder's name misspelt", "a file in no folder", "none"],
)
def test_a_folder_that_nobody_would_read_is_refused(team, make, says):
    make(team)
    with pytest.raises(SpecError, match=says):
        spec_roots()


def test_every_kind_of_ours_has_a_place_in_a_folder_of_a_team():
    kinds = {path.name for path in SPEC_ROOT.iterdir() if path.is_dir()}
    from pipeline.specs.roots import FOLDERS

    assert kinds - {"__pycache__"} == set(FOLDERS)
    assert yaml.safe_load((SPEC_ROOT / "categories.yaml").read_text())["groups"]
