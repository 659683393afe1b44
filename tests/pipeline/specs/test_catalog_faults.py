"""Faults in data_specs, one by one: each is refused by name of file and key."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.errors import ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import load_catalog


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    root = tmp_path / "data_specs"
    shutil.copytree(SPEC_ROOT, root)
    return root


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        pytest.param(
            "targets/county_ssi.yaml",
            "domain: ssi,",
            "domain: ssj,",
            "persons/ssj is no variable",
            id="unknown-variable",
        ),
        pytest.param(
            "targets/county_ssi.yaml",
            "source: ssa_ssi_counties",
            "source: ssa_ssi",
            "'ssa_ssi' does not exist",
            id="unknown-source",
        ),
        pytest.param(
            "method.yaml",
            "balanced: [race_by_age",
            "balanced: [race_by_hair",
            "No variable has the family race_by_hair",
            id="unknown-family",
        ),
        pytest.param(
            "method.yaml",
            "growth_by: [male_age",
            "growth_by: [male_ages",
            "No group of categories is called male_ages",
            id="unknown-group",
        ),
        pytest.param(
            "targets/county_ssi.yaml",
            "rule: ssi_recipients",
            "rule: ssi_growth",
            "'ssi_growth' is no factor",
            id="unknown-factor",
        ),
        pytest.param(
            "targets/county_ssi.yaml",
            "levels: [county]",
            "levels: [tract]",
            "has no level tract",
            id="level-the-source-lacks",
        ),
        pytest.param(
            "targets/county_ssi.yaml",
            "id: county_ssi",
            "id: county_ssx",
            "county_ssx",
            id="id-is-not-the-file-name",
        ),
        pytest.param("targets/county_ssi.yaml", "title:", "tilte:", "tilte", id="misspelt-key"),
        pytest.param(
            "profiles/sample.yaml",
            "  - county_ssi",
            "  - county_sso",
            "'county_sso' does not exist",
            id="unknown-target-file",
        ),
        pytest.param(
            "profiles/sample.yaml",
            "states: [RI, DE]",
            "states: [RI, PR]",
            "unknown state postal codes: PR",
            id="outlying-area",
        ),
        pytest.param(
            "profiles/sample.yaml",
            'pep_counties: ["2024"]',
            'pep_counties: ["2017"]',
            "no vintage 2017",
            id="unknown-vintage",
        ),
        pytest.param(
            "profiles/rhode_island.yaml",
            '  pep_age_sex: ["2024"]\n',
            "",
            "needs pep_age_sex 2024",
            id="carry-rule-without-its-table",
        ),
        pytest.param(
            "profiles/rhode_island.yaml",
            "wages: average_wage_index",
            "wages: population",
            "no published series",
            id="uprating-by-a-ratio",
        ),
        pytest.param(
            "profiles/rhode_island.yaml",
            "  - pep_counties",
            "  - pep_counties\n  - tract_b19001",
            "acs5_detailed_tracts",
            id="target-without-its-source",
        ),
        pytest.param(
            "variables/persons_work.yaml",
            "age >= 16 and",
            "age >= 16 andd",
            "not a SQL expression",
            id="broken-sql",
        ),
        pytest.param(
            "categories.yaml",
            "domain: female}",
            "domain: fmale}",
            "persons/fmale",
            id="unknown-category",
        ),
        pytest.param(
            "factors/price_and_wage.yaml",
            "2018: 251.107",
            "2018: -251.107",
            "above zero",
            id="negative-index",
        ),
    ],
)
def test_faults_are_named(copied: Path, file: str, old: str, new: str, message: str) -> None:
    _edit(copied / file, old, new)
    with pytest.raises((SpecError, ProfileError), match=message) as caught:
        load_catalog(copied).check()
    assert caught.value.remedy
    assert caught.value.where


def test_a_variable_stated_by_two_files_is_refused(copied: Path) -> None:
    shutil.copy(
        copied / "targets" / "county_ssi.yaml", copied / "targets" / "county_ssi_again.yaml"
    )
    _edit(copied / "targets" / "county_ssi_again.yaml", "id: county_ssi", "id: county_ssi_again")
    _edit(
        copied / "profiles" / "sample.yaml",
        "  - county_ssi\n",
        "  - county_ssi\n  - county_ssi_again\n",
    )
    with pytest.raises(SpecError, match="stated by county_ssi and by county_ssi_again"):
        load_catalog(copied).check()
