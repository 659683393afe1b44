"""``data_specs/donation.yaml``: its columns and traits exist, and what a profile may ask of it."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest
import yaml

from pipeline.errors import ProfileError, SpecError
from pipeline.records.donation import with_household, with_householder
from pipeline.sources.microdata.donor_schema import (
    HOUSEHOLD_ITEMS,
    PERSON_ITEMS,
    DonorHouseholdTable,
    DonorPersonTable,
)
from pipeline.sources.microdata.schema import COMPONENTS, HouseholdTable, PersonTable
from pipeline.specs.base import SPEC_ROOT
from pipeline.specs.catalog import load_catalog
from pipeline.specs.donation import DONATION_PATH, Donor, load_donation

CONTENT = yaml.safe_load(DONATION_PATH.read_text())
SAMPLE = yaml.safe_load((SPEC_ROOT / "profiles" / "sample.yaml").read_text())


def test_items_fill_every_column_that_donors_have_beyond_the_records():
    rules = load_donation()
    filled = {column for item in rules.chosen("all") for column in item.columns}
    assert filled == {*PERSON_ITEMS, *HOUSEHOLD_ITEMS, "unemployment_compensation"}
    for item in rules.items:
        donors = DonorPersonTable if item.level == "person" else DonorHouseholdTable
        assert set(item.columns) <= set(donors.columns()), item.name
        assert not item.carried_as or item.carried_as in COMPONENTS, item.name


def test_traits_and_universes_are_columns_of_records_and_donors():
    rules = load_donation()
    persons, homes = PersonTable.create_empty(), HouseholdTable.create_empty()
    tables = {"person": with_household(persons), "household": with_householder(persons, homes)}
    for item in rules.items:
        table = tables[item.level]
        for cell in item.cells:
            trait = rules.traits.get(cell)
            assert (trait.column if trait else cell) in table.columns, (item.name, cell)
        assert set(pl.sql_expr(item.universe).meta.root_names()) <= set(table.columns), item.name
        assert not item.given or table.schema[item.given] == pl.Boolean
        if item.parts_of:
            named = (*item.parts_of.records, *item.parts_of.less, *item.parts_of.donors)
            assert set(named) <= set(COMPONENTS)


def test_all_leaves_out_what_stands_in_place_of_another():
    rules = load_donation()
    names = [item.name for item in rules.chosen("all")]
    assert "other_income" in names and "other_income_with_unemployment" not in names
    chosen = rules.chosen(["snap", "other_income_with_unemployment"])
    assert [item.name for item in chosen] == ["other_income_with_unemployment", "snap"]


def test_the_year_of_the_donors_dollars_is_the_one_before_the_survey():
    assert load_donation().income_year("cps_asec", "2019") == 2018
    assert Donor(source="cps_asec", vintage="2019").items == ("unemployment_compensation",)


def changed(**more: object) -> dict:
    return {**yaml.safe_load(yaml.safe_dump(CONTENT)), **more}


def with_item(at: int = 0, **more: object) -> dict:
    content = changed()
    content["items"][at] |= more
    return content


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (with_item(level="family"), "items.0.level"),
        (with_item(universe="age >"), "items.0.universe"),
        (with_item(universe="(select 1 from 'file.csv')"), "query"),
        (with_item(columns=[]), "items.0.columns"),
        (with_item(columns=["a", "a"]), "names one twice"),
        (with_item(columns=["a"]), "other_income needs an item that fills unemployment"),
        (with_item(name="snap"), "twice snap"),
        (with_item(instead_of=["nobody"]), "names no item nobody"),
        (with_item(3, columns=["snap_benefits"]), "both fill snap_benefits"),
        (with_item(min_donors=0), "items.0.min_donors"),
        (with_item(why="so"), "items.0.why"),
        (with_item(shares=True), "items.0.shares"),
        (with_item(given="veteran", parts_of=CONTENT["items"][1]["parts_of"]), "exclude"),
        (changed(traits={"a": {"column": "age", "breaks": [3, 2]}}), "must ascend"),
        (changed(limits={"receiving": 0, "dollars": 1, "least_receivers": 1}), "limits.receiving"),
        (changed(surveys={"cps_asec": {"income_lag": 5}}), "surveys.cps_asec.income_lag"),
    ],
)
def test_a_faulty_file_is_refused_with_its_key(tmp_path: Path, content: dict, says: str):
    path = tmp_path / "donation.yaml"
    path.write_text(yaml.safe_dump(content))
    with pytest.raises(SpecError, match=says.replace(".", r"\.")) as caught:
        load_donation(path)
    assert "donation.yaml" in str(caught.value) and "What to do" in str(caught.value)


@pytest.mark.parametrize(
    ("donor", "says"),
    [
        ({"items": ["snap", "lunch"]}, "lunch is no item of donation.yaml"),
        ({"items": "some"}, "items"),
        ({"items": []}, "lends no item"),
        ({"items": ["other_income"]}, "needs an item that fills unemployment_compensation"),
        (
            {"items": ["unemployment_compensation", "other_income_with_unemployment"]},
            "both fill unemployment_compensation",
        ),
        ({"source": "acs_pums_1yr", "vintage": "2022"}, "acs_pums_1yr lends nothing"),
        ({"vintage": "2024"}, "source cps_asec vintage 2024"),
        ({"vintage": "2011"}, "vintage 2011"),
        ({"years": [2022]}, "years"),
    ],
)
def test_a_profile_that_asks_wrongly_is_refused_with_its_key(tmp_path, monkeypatch, donor, says):
    content = yaml.safe_load(yaml.safe_dump(SAMPLE)) | {"id": "own"}
    content["records"]["donor"] |= donor
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump(content))
    monkeypatch.setenv("GEOCAL_PROFILE", str(path))
    with pytest.raises((SpecError, ProfileError), match=says):
        load_catalog().profile("own")
