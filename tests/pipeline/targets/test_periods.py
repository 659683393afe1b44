"""Tables of five years, trends and age groups: carried by hand."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.specs.factors import FACTOR_ADAPTER
from pipeline.specs.targets import CarryRule
from pipeline.targets.carry import Carrier
from tests.pipeline.targets.toy_tables import TOTAL, TRACT, build, cells, only

YEARLY = {"rule": "none", "relative_error_per_year": 0.03, "why": "a test"}
CONTROLLED = (TRACT, "A", 100.0, None, "", "controlled")


def test_a_figure_that_five_years_control_is_not_exact_for_their_last() -> None:
    one = only(build([TOTAL], cells(CONTROLLED), carry=YEARLY))
    five = only(build([TOTAL], cells(CONTROLLED), carry=YEARLY, period_years=5))
    assert (one["value"], one["published_standard_error"]) == (100.0, 0.0)
    # Two years from the middle of 2014 to 2018, 3 % of the value each.
    assert (five["value"], five["published_standard_error"]) == (100.0, pytest.approx(6.0))
    assert (five["margin_standard_error"], five["carry_rule"]) == (0.0, "none")


def test_errors_of_carrying_grow_with_the_years_beside_a_fixed_part() -> None:
    rule = CarryRule(
        rule="none",
        relative_error=0.01,
        relative_error_per_year=0.02,
        share_error_per_year=0.005,
        why="a test",
    )
    assert [rule.error(years) for years in (0, 2, -2, 6)] == pytest.approx([0, 0.05, 0.05, 0.13])
    assert rule.share_error(4) == pytest.approx(0.02)
    assert CarryRule(rule="none", why="a test").share_error(4) is None


def test_a_target_of_five_years_only_that_may_not_be_carried_is_shown_and_not_fitted() -> None:
    item = TOTAL | {"validation_only_when_carried": "a mean of five years is no year's"}
    assert only(build([item], cells(CONTROLLED), carry=YEARLY))["role"] == "calibrate"
    five = only(build([item], cells(CONTROLLED), carry=YEARLY, period_years=5))
    assert (five["role"], five["reason"]) == ("validation", "a mean of five years is no year's")


def test_a_trend_is_the_growth_of_the_columns_own_state_going_on() -> None:
    trend = FACTOR_ADAPTER.validate_python(
        {
            "id": "trend",
            "kind": "trend",
            "title": "t",
            "source": "svi",
            "area": "state",
            "start_vintage": "2014",
            "start_year": 2012,
            "end_vintage": "2018",
            "end_year": 2016,
        }
    )
    # The state's counties add up to 400 and 324: 0.9 in two years.
    tables = {
        ("svi", "2014"): cells(("44001", "U", 100.0, 1.0), ("44003", "U", 300.0, 1.0)),
        ("svi", "2018"): cells(("44001", "U", 124.0, 1.0), ("44003", "U", 200.0, 1.0)),
    }
    carrier = Carrier({"trend": trend}, tables, 2018)
    factors = carrier.factors(("trend",), "county", ["44001", "44003"], 2016, ("U", ""))
    assert factors.tolist() == pytest.approx([0.9, 0.9])
    assert carrier.follows_trend(("trend",))


def test_households_of_the_old_grow_with_the_old_of_their_tract(realdata) -> None:
    from pipeline.sources.registry import read_source
    from pipeline.specs.catalog import load_catalog
    from pipeline.targets.build import build_targets

    catalog = load_catalog()
    wanted = ("tract_census_ages", "tract_census_households")
    profile = catalog.profile("rhode_island").model_copy(update={"targets": wanted})
    tables = {
        (s, v): read_source(catalog.sources[s], v, realdata, ["RI"]).frame
        for s, v in sorted(catalog.required_tables(profile))
    }
    frame = build_targets(catalog, profile, tables, ["tract"], "44").frame
    bands = [f"age_{low}_{low + 4}" for low in range(65, 85, 5)] + ["age_85_plus"]
    persons = frame.filter(pl.col("domain").is_in(bands))
    grown = persons.with_columns(before=pl.col("value") / pl.col("carry_factor"))
    by_tract = grown.group_by("geoid").agg(pl.sum("value"), pl.sum("before"))
    homes = frame.filter(pl.col("domain") == "with_persons_65_plus").join(by_tract, on="geoid")
    homes = homes.filter(pl.col("before") > 0)
    assert homes.height > 240
    ratio = pl.col("value_right") / pl.col("before")
    assert homes.select((pl.col("carry_factor") / ratio - 1).abs().max()).item() < 1e-9
    # Carried with all households of the tract they were 8,000 fewer.
    assert 150_000 < homes["value"].sum() < 154_000
