"""County figures of whole states after reconciliation, from real tables."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from pipeline import steps
from pipeline.sources.of_profile import read_geography, read_tables
from pipeline.specs.catalog import load_catalog
from pipeline.targets.moves import refuse_large_moves
from pipeline.targets.reconcile import reconcile_state
from pipeline.targets.shares import share_rules
from pipeline.weights.areas import areas_of

# Before tables of five years were carried: Power, Idaho 4,120 persons of 65 and over; Kauai 19,344;
# Kalawao 124 in a county of 86.
PUBLISHED = {"16077": 1209.0, "15007": 13_438.0, "15005": 12.0}


def reconciled(postal: str, realdata: Path) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Target rows of a state below it, as built, and all of them reconciled."""
    catalog = load_catalog()
    profile = catalog.profile("counties_2018")
    tables = read_tables(catalog, profile, postal, realdata)
    geography = read_geography(profile, realdata, [postal]).frame
    _, national = steps.national_targets(catalog, profile, tables)
    below = steps.state_targets(catalog, profile, tables, postal).frame
    areas = areas_of(geography, postal, profile.geography.vintage)
    groups, shares = catalog.categories.values(), share_rules(catalog, profile)
    made = reconcile_state(below, national.frame, areas, profile.levels, groups, shares)
    return below, made.frame


@pytest.mark.parametrize(("postal", "withheld"), [("MT", 4), ("NE", 12)])
def test_little_is_left_to_counties_whose_returns_are_withheld(
    postal: str, withheld: int, realdata: Path
) -> None:
    # The publisher withholds fewer than 20; what the counties of 2012 miss of the state of 2018 is
    # theirs in proportion and not that of the smallest.
    below, frame = reconciled(postal, realdata)
    heads = pl.col("domain") == "head_of_household"
    built = below.filter(heads & (pl.col("source") == "irs_county"))
    assert built["value"].null_count() == withheld
    assert set(built.filter(pl.col("value").is_null())["status"]) == {"suppressed"}
    assert built.filter(pl.col("value") == 0).is_empty()
    rows = frame.filter(heads)
    state = rows.filter(level="state")["value"].item()
    assert 0 < state - rows.filter(level="county")["value"].sum() < 20 * (withheld + 1)


@pytest.mark.parametrize("postal", ["HI", "ID", "WY"])
def test_no_county_figure_is_moved_beyond_its_errors(postal: str, realdata: Path) -> None:
    _, frame = reconciled(postal, realdata)
    refuse_large_moves(frame, (), postal)
    counties = frame.filter((pl.col("level") == "county") & (pl.col("role") == "calibrate"))
    error = (
        pl.col("published_standard_error") ** 2 + pl.col("concept_error").fill_null(0) ** 2
    ) ** 0.5
    far = counties.filter((pl.col("value") - pl.col("published_value")).abs() > 3 * error)
    assert far.is_empty(), far.select("geoid", "domain", "published_value", "value")
    whole = counties.filter(pl.col("domain") == "total").select("geoid", "variable", whole="value")
    parts = counties.filter(pl.col("unit") != "usd").join(whole, on=["geoid", "variable"])
    assert parts.filter(pl.col("value") > pl.col("whole") * (1 + 1e-6)).is_empty()
    old = counties.filter(pl.col("domain") == "age_65_plus")
    for geoid, value in old.select("geoid", "value").iter_rows():
        if geoid in PUBLISHED:
            # The state's own growth from 2016 to 2018, 6 %, and little else.
            assert 0.95 < value / PUBLISHED[geoid] < 1.15, geoid
