"""Targets of real publications: how many there are, and that they say what was published."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.targets.build import TARGET_KEY, BuiltTargets, build_targets


@pytest.fixture(scope="module")
def rhode_island(realdata: Path) -> tuple[BuiltTargets, BuiltTargets]:
    catalog = load_catalog()
    profile = catalog.profile("rhode_island")
    tables = {
        (s, v): read_source(catalog.sources[s], v, realdata, ["RI"]).frame
        for s, v in sorted(catalog.required_tables(profile))
    }
    return build_targets(catalog, profile, tables, ["nation", "state"]), build_targets(
        catalog, profile, tables, ["county", "tract"], "44"
    )


def value(built: BuiltTargets, geoid: str, name: str, domain: str) -> float:
    return built.frame.row(
        by_predicate=(pl.col("geoid") == geoid)
        & (pl.col("variable") == name)
        & (pl.col("domain") == domain),
        named=True,
    )["value"]


def test_real_rhode_island_has_enough_targets_at_every_level(
    rhode_island: tuple[BuiltTargets, BuiltTargets],
) -> None:
    national, own = rhode_island
    both = pl.concat([national.frame.filter(pl.col("geoid").is_in(["", "44"])), own.frame])
    assert not both.select(TARGET_KEY).is_duplicated().any()
    counts = dict(
        both.filter(pl.col("role") == "calibrate")
        .group_by("level")
        .agg(pl.struct("variable", "domain").n_unique())
        .iter_rows()
    )
    assert counts["tract"] >= 46
    assert counts["county"] >= 20
    assert counts["state"] >= 100
    assert counts["nation"] >= 100
    assert own.frame.filter(pl.col("level") == "tract")["geoid"].n_unique() == 250
    assert national.frame.filter(pl.col("level") == "state")["geoid"].n_unique() == 51


def test_real_figures_are_those_of_the_publications(
    rhode_island: tuple[BuiltTargets, BuiltTargets],
) -> None:
    national, own = rhode_island
    assert value(national, "44", "returns", "total") == 568_360
    assert value(national, "44", "persons", "total") == 1_099_498
    assert value(own, "44001", "persons", "total") == 50_388
    tracts = own.frame.filter((pl.col("level") == "tract") & (pl.col("domain") == "total"))
    assert tracts.filter(pl.col("variable") == "persons")["value"].sum() == 1_094_250
    assert tracts.filter(pl.col("variable") == "households")["value"].sum() == 432_219
    states = national.frame.filter(
        (pl.col("level") == "state")
        & (pl.col("variable") == "returns")
        & (pl.col("domain") == "total")
    )
    assert states["value"].sum() == pytest.approx(value(national, "", "returns", "total"), rel=1e-4)


def test_real_ages_carried_add_up_to_the_population_estimates_and_tract_totals(
    rhode_island: tuple[BuiltTargets, BuiltTargets],
) -> None:
    national, own = rhode_island
    sexes = [value(national, "44", "persons", sex) for sex in ("male", "female")]
    assert sum(sexes) == pytest.approx(1_099_498)
    tracts = own.frame.filter(pl.col("level") == "tract")
    bands = (
        tracts.filter((pl.col("family") == "age") & (pl.col("source") == "census2020_dp_tracts"))
        .group_by("geoid")
        .agg(pl.col("value").sum().alias("ages"))
    )
    totals = (
        tracts.filter((pl.col("variable") == "persons") & (pl.col("domain") == "total"))
        .join(bands, on="geoid")
        .filter(pl.col("value") > 0)
    )
    assert totals.height == 246  # of 250; nobody lives in four, three of them water
    assert (totals["ages"] / totals["value"] - 1).abs().max() < 1e-9
