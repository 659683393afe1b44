"""Real official files end to end, through the assets: Rhode Island to the tract, and states of 2018
to the county.

The thresholds are those the project promises; they are about accuracy, never about speed.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import polars as pl
import pytest

from pipeline.definitions import build_definitions
from pipeline.reports.show import state_report
from pipeline.runs import run_profile
from pipeline.settings import run_environment
from pipeline.specs.catalog import load_catalog


def run(profile: str, states: list[str], data: Path, output: Path) -> dict:
    environment = run_environment(profile, data, output, environ={})
    outcome = run_profile(
        build_definitions(load_catalog().profile(profile), environment), environment, states
    )
    assert outcome.success, [job.failures for job in outcome.jobs]
    return {state: state_report(environment, state) for state in states}


def digest(output: Path, profile: str, state: str) -> str:
    return hashlib.sha256(
        (output / profile / "weights" / f"state={state}" / "weights.parquet").read_bytes()
    ).hexdigest()


@pytest.fixture(scope="module")
def outputs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("real")


@pytest.fixture(scope="module")
def rhode_island(realdata, outputs) -> dict:
    return run("rhode_island", ["RI"], realdata, outputs)["RI"]


def test_rhode_island_keeps_exactly_120_pairs_a_tract(rhode_island):
    assert rhode_island["k"] == 120 * 250
    assert rhode_island["areas"] == 246  # nobody lives in four of the 250
    assert rhode_island["weights"]["smallest_weight"] > 0.01


def test_rhode_island_tracts_lie_inside_the_published_margins(rhode_island):
    dense, selected = rhode_island["dense_levels"]["tract"], rhode_island["levels"]["tract"]
    # Published margins hold 90 %; weights that hold all of them have fitted errors.
    assert 0.98 <= dense["share_inside_published_margin"] <= 0.998
    assert selected["share_inside_published_margin"] >= 0.97
    assert selected["with_published_margin"] >= 8_000


def test_rhode_island_counties_and_state_are_met(rhode_island):
    for level in ("county", "state"):
        assert rhode_island["levels"][level]["median_are"] <= 0.005
    assert rhode_island["levels"]["nation"]["fitted"] == 0


def test_rhode_island_has_the_breadth_promised(rhode_island, outputs):
    fit = pl.read_parquet(
        outputs / "rhode_island" / "fit_report" / "state=RI" / "fit_report.parquet"
    )
    fitted = fit.filter(pl.col("fitted").is_not_null() & pl.col("published_value").is_not_null())
    counts = dict(
        fitted.group_by("level")
        .agg(pl.struct("variable", "domain").n_unique().alias("n"))
        .iter_rows()
    )
    assert counts["tract"] >= 40
    assert counts["county"] >= 20
    assert counts["state"] >= 100
    assert rhode_island["levels"]["nation"]["targets"] >= 100
    assert all(row["reason"] for row in rhode_island["not_fitted"])


def test_published_totals_come_out_of_the_stored_files(rhode_island, outputs):
    """Nothing but the product: weights joined to the selected records must count the people the
    Census Bureau publishes.
    """
    root = outputs / "rhode_island"
    weights = pl.read_parquet(root / "weights" / "state=RI" / "weights.parquet")
    households = pl.read_parquet(
        root / "selected_households" / "state=RI" / "selected_households.parquet"
    ).select("household_id", "persons", "is_group_quarters")
    both = weights.join(households, on="household_id", how="left", validate="m:1")
    people = both.select((pl.col("weight") * pl.col("persons")).sum()).item()
    units = both.filter(~pl.col("is_group_quarters"))["weight"].sum()
    assert people == pytest.approx(
        1_099_498, rel=0.005
    )  # population estimate of July 2022, Vintage 2024
    assert units == pytest.approx(432_219, rel=0.005)  # households, ACS 2018-2022


def test_again_and_with_another_state_between_gives_the_same_bytes(
    rhode_island, realdata, outputs, tmp_path_factory
):
    first = digest(outputs, "rhode_island", "RI")
    run("counties_2018", ["DE"], realdata, outputs)
    assert digest(outputs, "rhode_island", "RI") == first
    again = tmp_path_factory.mktemp("again")
    run("rhode_island", ["RI"], realdata, again)
    assert digest(again, "rhode_island", "RI") == first


@pytest.mark.parametrize("state", ["VT", "WY"])
def test_states_of_2018_are_met_to_the_county(state, realdata, outputs):
    report = run("counties_2018", [state], realdata, outputs)[state]
    assert report["k"] == 600 * report["areas"]
    assert set(report["levels"]) == {"nation", "state", "county"}
    for level in ("county", "state"):
        assert report["levels"][level]["median_are"] <= 0.005
    off = beside_official(outputs / "counties_2018", state)
    assert abs(off["usd_agi", "total"]) < 0.05, "nobody tells it: classes are told"
    assert abs(off["usd_agi", "agi_1000000_plus"]) < 0.05
    for told in ("usd_retirement", "usd_taxable_social_security", "usd_oasdi"):
        assert abs(off[told, "total"]) < 0.02
    assert abs(off["persons", "ssi"]) < 0.03


def beside_official(root: Path, state: str) -> dict[tuple[str, str], float]:
    """Totals of the selected pairs by variable and domain, over the official figure, less 1."""
    report = root / "bystander_report" / f"state={state}" / "bystander_report.parquet"
    figures = pl.read_parquet(report).filter(pl.col("official").is_not_null())
    off = figures.select("variable", "domain", pl.col("selected") / pl.col("official") - 1)
    return {(variable, domain): value for variable, domain, value in off.iter_rows()}


def test_a_state_by_the_national_profile_from_what_is_at_hand(realdata, outputs):
    report = run("us_2022", ["ND"], realdata, outputs)["ND"]
    assert set(report["levels"]) == {"nation", "state", "county"}
    assert report["k"] == 600 * report["areas"] == 600 * 53
    assert report["levels"]["county"]["share_inside_published_margin"] >= 0.98
    for level in ("county", "state"):
        assert report["levels"][level]["median_are"] <= 0.01
    manifest = json.loads((outputs / "us_2022" / "manifests" / "ND.json").read_text())
    taken = {choice["need"]: choice for choice in manifest["choices"]}
    assert taken["tables of tracts"]["option"] == "none, to the county"
    assert taken["tables of tracts"]["costs"] and taken["records"]["without"]
    fit = pl.read_parquet(outputs / "us_2022" / "fit_report" / "state=ND" / "fit_report.parquet")
    assert fit.filter(pl.col("source") == "irs_county")["provenance"].unique().to_list() == [
        "administrative_count"
    ]
