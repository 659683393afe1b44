"""Profiles with choices: what an option changes, and what no option may."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from pipeline.errors import InvariantError, ProfileError, SpecError
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import STATES

NATIONAL = yaml.safe_load((SPEC_ROOT / "profiles" / "us_2022.yaml").read_text())


@pytest.fixture
def us() -> Profile:
    return load_catalog().profile("us_2022")


def test_all_states_are_the_fifty_and_dc(us):
    assert us.states == tuple(state.postal for state in STATES) and len(us.states) == 51


def test_what_the_profile_leaves_open_is_that_of_the_first_options(us):
    assert us.records.vintage == "2022" and not us.records.uprating
    assert us.geography.puma_link_vintage == "2022"
    assert us.finest_level == "tract"


def test_an_option_adds_sources_and_targets_and_replaces_the_rest(us):
    by_need = {choice.need: choice for choice in us.choices}
    county = by_need["tables of tracts"].options[-1]
    older = by_need["records"].options[-1]
    taken = us.taking([county, older])
    assert taken.finest_level == "county" and taken.budget.pairs_per_area == 600
    assert taken.method.dense.stop == "share" and us.method.dense.stop == "risk"
    assert taken.records.vintage == "2018" and taken.records.uprating["ssi"] == "cola"
    assert set(us.targets) < set(taken.targets) and "county_svi_2022" in taken.targets
    assert taken.sources["tract_puma"] == ("2022", "2010")
    assert taken.sources["acs_pums_1yr"] == ("2018",)
    assert taken.of("VT") is taken


def test_a_donor_becomes_that_of_the_records_whichever_are_taken(us):
    by_need = {choice.need: choice for choice in us.choices}
    lender, nobody = by_need["a donor survey"].options
    older = by_need["records"].options[-1]
    assert us.records.donor is None
    for order in ([lender, older], [older, lender]):
        taken = us.taking(order)
        assert taken.records.donor.vintage == "2023" and taken.records.vintage == "2018"
        assert taken.sources["cps_asec"] == ("2023",)
    assert us.taking([nobody, older]).records.donor is None
    assert "proxy" in nobody.costs


def test_open_choices_are_nobodys_profile(us):
    with pytest.raises(InvariantError, match="choices that nobody made"):
        us.of("VT")


def test_every_option_is_looked_at_when_the_profile_is_loaded(us):
    assert len(us.examples) == 1 + sum(len(choice.options) - 1 for choice in us.choices)
    assert all(not example.choices for example in us.examples)


def choice(content: dict, need: str) -> dict:
    return next(c for c in content["choices"] if c["need"] == need)


def silent_costs(content: dict) -> None:
    del choice(content, "records")["options"][1]["costs"]


def state_chooses_states_tables(content: dict) -> None:
    choice(content, "state tables of the ACS, one year")["by"] = "state"
    for option in choice(content, "state tables of the ACS, one year")["options"]:
        option["targets"] = ["state_b01001"]


def unlisted_vintage(content: dict) -> None:
    del choice(content, "records")["options"][1]["sources"]["tract_puma"]


def other_steps(content: dict) -> None:
    choice(content, "records")["options"][1]["records"]["steps"] = ["ssa_benefits"]


def no_source_of_the_nation(content: dict) -> None:
    content["targets"].append("county_irs")


def stated_twice(content: dict) -> None:
    choice(content, "tables of tracts")["options"][2]["targets"] += ["tract_acs5_profile"]


def no_options(content: dict) -> None:
    choice(content, "records")["options"] = []


def a_donor_by_state(content: dict) -> None:
    choice(content, "a donor survey")["by"] = "state"


def a_donor_that_lends_nothing(content: dict) -> None:
    choice(content, "a donor survey")["options"][0]["donor"]["items"] = ["lunch"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (a_donor_by_state, "a donor is one for all states"),
        (a_donor_that_lends_nothing, "lunch is no item"),
        (silent_costs, "say what PUMS of 2018 costs"),
        (state_chooses_states_tables, "which speaks of states"),
        (unlisted_vintage, "uses source tract_puma vintage 2010"),
        (other_steps, "different steps"),
        (no_source_of_the_nation, "no vintage of irs_county"),
        (stated_twice, "acs5_profile_tracts"),
        (no_options, "options"),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_a_faulty_choice_is_refused_by_name(tmp_path, monkeypatch, change, says):
    content = yaml.safe_load(yaml.safe_dump(NATIONAL)) | {"id": "own"}
    change(content)
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("GEOCAL_PROFILE", str(path))
    with pytest.raises((SpecError, ProfileError), match=says):
        load_catalog().profile("own")


def test_a_target_file_may_be_like_another(tmp_path: Path):
    catalog = load_catalog()
    county, tract = catalog.targets["county_svi_2022"], catalog.targets["tract_svi"]
    assert tract.levels == ("tract",) and tract.source == "svi_tracts"
    assert tract.carry == county.carry and tract.period_years == 5
    assert [i.domain for i in tract.items[:2]] == ["total", "total"]
    assert tract.items[2:] == county.items


def own_profile(tmp_path: Path, monkeypatch, text: str) -> Profile:
    path = tmp_path / "own.yaml"
    path.write_text(text)
    monkeypatch.setenv("GEOCAL_PROFILE", str(path))
    return load_catalog().profile("own")


def test_a_profile_may_be_like_another_but_for_a_few_lines(tmp_path, monkeypatch, us):
    text = "id: own\nlike: us_2022\nstates: [VT, NH]\nmethod: {dense: {stop: share}}\n"
    text += 'targets: ["...", county_oasdi]\nsources: {ssa_oasdi_counties: ["2022"]}\n'
    own = own_profile(tmp_path, monkeypatch, text)
    assert own.states == ("VT", "NH") and own.method.dense.stop == "share"
    assert own.choices == us.choices and own.targets == (*us.targets, "county_oasdi")
    assert own.sources == us.sources | {"ssa_oasdi_counties": ("2022",)}
    assert own.title == "Every state in 2022, each from the best of its files at hand"


def test_a_new_year_is_a_line_and_what_lacks_that_year_is_named(tmp_path, monkeypatch):
    with pytest.raises((SpecError, ProfileError), match="2023"):
        own_profile(tmp_path, monkeypatch, "id: own\nlike: us_2022\ntarget_year: 2023\n")


def test_a_profile_like_none_there_is_is_refused(tmp_path, monkeypatch):
    with pytest.raises(SpecError, match="like 'us_1922', which is none"):
        own_profile(tmp_path, monkeypatch, "id: own\nlike: us_1922\n")
