"""`geocal check` compares the areas of all files, not a run after an hour."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from calibration_core.errors import GeocalError
from pipeline.area_check import check_areas
from pipeline.specs.catalog import load_catalog
from tests.pipeline import faults
from tests.pipeline.faults import SAMPLE, Fault, files_profile, small_sample

OF_AREAS = ("tract_without_county", "tract_without_table", "county_without_rows")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("areas")
    small_sample(folder)
    return folder


def found(data: Path) -> dict[str, str | GeocalError]:
    return dict(check_areas(load_catalog(), files_profile(), data, ["RI", "DE"]))


def test_files_that_agree_say_what_they_agree_on(data):
    said = found(data)
    assert set(said) == {"RI", "DE"}
    for text in said.values():
        assert isinstance(text, str) and "areas of level tract" in text and "PUMAs" in text


@pytest.mark.parametrize("name", OF_AREAS)
def test_a_code_that_one_file_alone_has_is_told_before_a_run(data, name):
    fault = next(f for f in faults.FAULTS if f.id == name)
    before = faults.apply(fault, data, SAMPLE)
    try:
        said = found(data)
    finally:
        for path, content in before.items():
            path.write_bytes(content)
    assert isinstance(said["RI"], GeocalError) and isinstance(said["DE"], str)
    assert fault.says[0] in str(said["RI"])


def test_a_tract_that_one_table_alone_lacks_is_told(data):
    path = data / "acs_tables/ri_tracts/tracts_census2020_count_retrieved_data.json"
    before = path.read_text()
    answer = json.loads(before)
    try:
        path.write_text(json.dumps([*answer[:3], *answer[4:]]))
        said = found(data)
    finally:
        path.write_text(before)
    assert isinstance(said["RI"], GeocalError)
    assert "census2020_dp_tracts" in str(said["RI"]) and answer[3][0][-11:] in str(said["RI"])


def test_pumas_of_another_vintage_are_told(data):
    profile = files_profile()
    other = profile.geography.model_copy(update={"puma_link_vintage": "2020"})
    from pipeline.sources.of_profile import read_geography
    from pipeline.weights.areas import require_pumas

    link = read_geography(profile, data, ["RI"]).frame
    with pytest.raises(GeocalError, match=r"1 PUMA\(s\) of the records .* first 4499999"):
        require_pumas(["4499999"], link, profile.model_copy(update={"geography": other}))


def test_the_faults_named_here_are_there():
    assert all(isinstance(f, Fault) for f in faults.FAULTS)
    assert {f.id for f in faults.FAULTS} >= set(OF_AREAS)
