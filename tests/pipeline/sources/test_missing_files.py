"""Where a missing file is looked for, and under which names: whole paths, never a placeholder."""

from __future__ import annotations

import json
import re

import pytest

from calibration_core.errors import GeocalError
from pipeline.sources.base import files_to_have
from pipeline.sources.registry import check_source, read_microdata, read_source
from pipeline.specs.addresses import own_name
from pipeline.specs.sources import load_sources

SOURCES = load_sources()
VINTAGES = [(name, vintage) for name, spec in SOURCES.items() for vintage in spec.vintages]


@pytest.mark.parametrize(("name", "vintage"), VINTAGES)
@pytest.mark.parametrize("states", [["RI", "NY"], None])
def test_no_message_of_a_missing_file_shows_a_placeholder(tmp_path, name, vintage, states):
    """Somebody has to look for the file, and no file is called {State}_county.csv."""
    spec = SOURCES[name]
    lines = check_source(spec, vintage, tmp_path, states)
    assert lines or all(file.optional for file in spec.files_of(vintage))
    for line in lines:
        assert not line.ok
        assert not re.search(r"[{}]", line.path + line.message)
    if states and lines:
        with pytest.raises(GeocalError) as caught:
            (read_microdata if spec.kind == "microdata" else read_source)(
                spec, vintage, tmp_path, states[:1]
            )
        assert not re.search(r"[{}]", str(caught.value))


def test_files_of_states_that_may_stand_in_are_named_for_the_states_asked_for(tmp_path):
    (line,) = check_source(SOURCES["svi_counties"], "2022", tmp_path, ["ri", "NY"])
    for name in ("SVI_2022_US_county.csv", "RhodeIsland_county.csv", "NewYork_County.csv"):
        assert f"{name}" in line.message
    assert "Idaho" not in line.message
    (line,) = check_source(SOURCES["svi_counties"], "2022", tmp_path)
    assert "RhodeIsland" not in line.message


@pytest.mark.parametrize(("name", "vintage"), VINTAGES)
def test_every_file_has_an_address_of_its_own_or_says_why_a_person_must_fetch_it(
    tmp_path, name, vintage
):
    """And is kept under the publisher's own name, where the address has one."""
    spec = SOURCES[name]
    at = {}
    for file in files_to_have(spec, vintage, tmp_path, ["RI", "NY"]):
        assert not re.search(r"[{}\s]", file.url)
        assert file.url.startswith("https://")
        if file.by_hand:
            stated = [f.by_hand for f in spec.files_of(vintage)]
            assert file.by_hand in stated or not spec.vintages[vintage].publishers_form
            continue
        assert at.setdefault(file.url, file.path) == file.path
        assert own_name(file.url) in ("", file.path.name)
    assert len(set(at.values())) == len(at)


def test_optional_files_are_to_be_had_and_not_to_be_missed(tmp_path):
    spec = SOURCES["acs_pums_1yr"]
    assert [f.path.name for f in files_to_have(spec, "2022", tmp_path, ["ri"])] == [
        "csv_pri.zip",
        "csv_hri.zip",
    ]
    assert len(check_source(spec, "2022", tmp_path, ["RI"])) == 1


def test_the_nations_file_is_wanted_until_every_state_asked_for_is_there(put):
    spec = SOURCES["svi_counties"]
    folder = put({"acs_tables/svi_counties_2022_state/Idaho_County.csv": "x"})
    names = [f.path.name for f in files_to_have(spec, "2022", folder, ["ID"])]
    assert names == ["Idaho_County.csv"]
    names = [f.path.name for f in files_to_have(spec, "2022", folder, ["ID", "MT"])]
    assert names == ["SVI_2022_US_county.csv"]


def test_answers_of_the_api_per_group_are_read_like_groups_joined_by_hand(tmp_path):
    """Two answers, or one file that holds both: the same cells."""
    spec = SOURCES["acs5_profile_tracts"]
    folder = tmp_path / "acs_tables" / "ri_tracts"
    folder.mkdir(parents=True)
    # Made-up figures know no published totals.
    (tmp_path / "known_totals.yaml").write_text("{}\n")
    key, area = ["GEO_ID", "NAME"], ["1400000US44001030100", "SYNTHETIC"]

    def save(name: str, columns: dict[str, str]) -> None:
        rows = [[*key, *columns], [*area, *columns.values()]]
        (folder / name).write_text(json.dumps(rows))

    def cells() -> list[tuple]:
        frame = read_source(spec, "2022", tmp_path, ["RI"]).frame
        return sorted(frame.select("geoid", "column", "estimate", "margin_of_error").rows())

    needed = {
        group: {
            f"{c.name}{part}": value
            for c in spec.columns
            if c.name and c.required and c.name.startswith(group)
            for part, value in (("E", "7"), ("M", "2"))
        }
        for group in spec.tables
    }
    needed["DP05"] |= {"DP05_0072E": "7", "DP05_0070E": "3"}
    for group in spec.tables:
        save(f"acs5_2022_{group}.json", needed[group])
    alone = cells()
    for group in spec.tables:
        (folder / f"acs5_2022_{group}.json").unlink()
    for role, (one, other) in {
        "pophousing": ("DP04", "DP05"),
        "socialecon": ("DP02", "DP03"),
    }.items():
        save(f"tracts_acs2022_{role}_retrieved_data.json", needed[one] | needed[other])
    assert cells() == alone
    assert len(alone) >= 14
