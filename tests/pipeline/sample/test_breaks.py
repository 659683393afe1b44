"""Planted errors: each kind is found by the check that it is meant for, and the sample without one
by none."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pipeline.checks import run
from pipeline.checks.of_profile import checks_of_profile
from pipeline.errors import KnownTotalError, ProfileError
from pipeline.sample.breaks import BREAKS, break_sample, listed
from pipeline.sample.generate import generate_sample
from pipeline.sources.registry import read_microdata, read_source
from pipeline.specs.catalog import load_catalog


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    generate_sample(folder)
    return folder


@pytest.fixture(scope="module")
def tables(sample):
    catalog = load_catalog()
    profile = catalog.profile("sample")
    return {
        (source, vintage): read_source(
            catalog.sources[source], vintage, sample, profile.states
        ).frame
        for source, vintages in profile.sources.items()
        for vintage in vintages
        if catalog.sources[source].kind == "published"
    }


def source_of(path: str) -> tuple[str, str]:
    """The source and vintage of a file of the sample."""
    profile = load_catalog().profile("sample")
    marks = {
        "irs/22incy": "irs_county",
        "irs/22in55": "irs_historic_table_2",
        "tracts_acs": "acs5_profile_tracts",
        "census2020": "census2020_dp_tracts",
        "S1901": "acs5_s1901_counties",
        "GROUP_B": "acs1_detailed",
        "pep/": "pep_counties",
        "acs_pums": "acs_pums_1yr",
    }
    source = next(source for mark, source in marks.items() if mark in path)
    return source, profile.sources[source][0]


def found_in(folder: Path, path: str, tables: dict) -> set[str]:
    """Names of what finds fault with the folder: only the broken file is read again."""
    catalog = load_catalog()
    profile, (source, vintage) = catalog.profile("sample"), source_of(path)
    spec, made_up = catalog.sources[source], {"made_up": True}
    fips = list(profile.state_fips)
    try:
        if spec.kind == "microdata":
            geography = read_source(catalog.sources["tract_puma"], "2020", folder, ["RI"]).frame
            survey = read_microdata(spec, vintage, folder, ["RI"])
            results = run.of_survey(survey, source, vintage, "44", tables, geography, **made_up)
        else:
            frame = read_source(spec, vintage, folder, profile.states).frame
            both = {**tables, (source, vintage): frame}
            results = [
                *run.within(source, vintage, frame, None, fips, **made_up),
                *run.between(both, fips, **made_up),
            ]
    except KnownTotalError:
        return {"known_total"}
    return {result.name for result in results if not result.passed}


@pytest.mark.parametrize("kind", BREAKS)
def test_each_kind_is_found_by_its_check(kind, sample, tables, tmp_path):
    folder = tmp_path / "broken"
    shutil.copytree(sample, folder)
    made = break_sample(folder, kind)
    assert (folder / made.path).read_bytes() != (sample / made.path).read_bytes()
    assert made.found_by in found_in(folder, made.path, tables)


def test_the_whole_sample_passes_every_check(sample):
    catalog = load_catalog()
    profile = catalog.profile("sample")
    results = list(checks_of_profile(profile, catalog.sources, sample, profile.states))
    assert [(r.name, r.source, r.words) for r in results if not r.passed] == []
    assert sum(result.judged for result in results) > 10_000


def test_an_unknown_kind_names_those_there_are(tmp_path):
    with pytest.raises(ProfileError, match="no kind of planted error 'nothing'"):
        break_sample(tmp_path, "nothing")
    assert len(listed().splitlines()) == len(BREAKS) >= 20
