"""`geocal sources` as a shell sees it."""

from __future__ import annotations

import json

from pipeline.specs.sources import load_sources


def test_every_source_is_listed_with_what_it_is_used_for(invoke):
    status, out, err = invoke("sources")
    assert (status, err) == (0, "")
    for name in load_sources():
        assert f"│ {name} " in out
    assert "144 variables" in out
    assert "2010 to 2023" in out


def test_one_source_is_shown_with_files_columns_units_and_uses(invoke):
    status, out, _ = invoke("sources", "ssa_ssi_counties", "--verbose")
    assert status == 0
    for words in (
        "Social Security Administration",
        "public domain",
        "ssa/ssi_sc{yy}.xlsx",
        "https://www.ssa.gov/policy/docs/statcomps/ssi_sc/{year}/",
        "ssi_payments_month",
        "usd_month",
        "persons/ssi",
        "county_ssi",
    ):
        assert words in out


def test_json_holds_all_of_it(invoke):
    status, out, _ = invoke("sources", "svi_counties", "--json")
    (found,) = json.loads(out)
    assert (status, found["id"]) == (0, "svi_counties")
    assert found["licence"] and found["publisher"]
    by_name = {column["name"]: column for column in found["columns"]}
    assert by_name["AGE65"]["variables"] == 1
    assert any(use["columns"] == "AGE65" and use["target"] == "county_svi" for use in found["uses"])
    assert found["profiles"]["rhode_island"] == ["2022"]
    assert len(json.loads(invoke("sources", "--json")[1])) == len(load_sources())


def test_a_name_that_is_none_is_told_with_those_near_it(invoke):
    status, _, err = invoke("sources", "svi_county")
    assert status == 1
    assert "There is no source 'svi_county'" in err
    assert "svi_counties" in err
