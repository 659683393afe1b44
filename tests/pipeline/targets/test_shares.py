"""Figures of another year that only share the state's total: by hand."""

from __future__ import annotations

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from pipeline.specs.catalog import load_catalog
from pipeline.targets.shares import SHARE_RULE, ShareRule, scaled_to_state, share_rules
from tests.pipeline.targets.target_rows import row, table

OLD = {"domain": "old"}
RULES = {("county", "persons", "old"): ShareRule(own=0.04, share=0.03)}
COUNTIES = (
    # Standard errors with an own error of carrying of 4 % in them: hypot(3, 0.04 x 100) = 5.
    row("44001", 100.0, 5.0, **OLD),
    row("44003", 300.0, 12.0, carry_rule="population", carry_factor=1.1, **OLD),
)


def test_counties_add_up_to_the_state_and_have_the_error_of_shares() -> None:
    scaled = scaled_to_state(table(*COUNTIES), table(row("44", 480.0, **OLD)), RULES)
    assert scaled["value"].to_list() == pytest.approx([120.0, 360.0])
    assert scaled["published_value"].to_list() == pytest.approx([120.0, 360.0])
    # 1.2 x hypot(3, 0.03 x 100); of the second nothing but carrying was in 12 = 0.04 x 300.
    assert scaled["standard_error"].to_list() == pytest.approx([1.2 * 18**0.5, 1.2 * 9.0])
    assert scaled["carry_rule"].to_list() == [SHARE_RULE, f"population * {SHARE_RULE}"]
    assert scaled["carry_factor"].to_list() == pytest.approx([1.2, 1.32])


@pytest.mark.parametrize(
    "state",
    [
        row("44", 480.0, carry_rule="population", carry_factor=1.2, **OLD),
        row("44", None, None, **OLD),
        row("44", 480.0),
    ],
    ids=["carried itself", "withheld", "another variable"],
)
def test_nothing_is_scaled_without_a_state_figure_of_the_target_year(state: dict) -> None:
    counties = table(*COUNTIES)
    assert_frame_equal(scaled_to_state(counties, table(state), RULES), counties)


def test_a_restated_state_figure_counts_and_a_withheld_county_stops_the_scaling() -> None:
    state = table(row("44", 480.0, carry_rule="restated by 1.2", carry_factor=1.2, **OLD))
    assert scaled_to_state(table(*COUNTIES), state, RULES)["value"].sum() == pytest.approx(480.0)
    held_back = table(*COUNTIES, row("44005", None, None, **OLD))
    assert_frame_equal(scaled_to_state(held_back, state, RULES), held_back)


def test_small_withheld_counties_are_left_half_their_share_of_persons() -> None:
    state = table(row("44", 480.0, **OLD))
    people = [row(g, v) for g, v in (("44001", 500.0), ("44003", 1480.0), ("44005", 20.0))]
    held_back = table(*COUNTIES, row("44005", None, None, **OLD), *people)
    scaled = scaled_to_state(held_back, state, RULES).filter(domain="old")
    # 20 of 2,000 persons live there: 0.5 % of 480 is left to it, and it stays withheld.
    assert scaled["value"].drop_nulls().sum() == pytest.approx(480.0 * 0.995)
    assert scaled.filter(geoid="44005")["value"].item() is None


@pytest.mark.parametrize(
    "persons", [pytest.param(200.0, id="above 3 %"), pytest.param(None, id="persons unknown")]
)
def test_nothing_is_scaled_where_much_may_be_withheld(persons: float | None) -> None:
    state = table(row("44", 480.0, **OLD))
    people = [row(g, v) for g, v in (("44001", 500.0), ("44003", 1480.0), ("44005", persons))]
    held_back = table(*COUNTIES, row("44005", None, None, **OLD), *people)
    assert_frame_equal(scaled_to_state(held_back, state, RULES), held_back)


def test_order_of_rows_does_not_matter() -> None:
    state = table(row("44", 480.0, **OLD))
    there = scaled_to_state(table(*COUNTIES), state, RULES)
    back = scaled_to_state(table(*COUNTIES[::-1]), state, RULES)
    assert_frame_equal(there, back.sort("geoid"))


def test_rules_of_a_profile_are_those_of_items_of_another_year() -> None:
    catalog = load_catalog()
    rules = share_rules(catalog, catalog.profile("counties_2018"))
    # The table of 2014-2018 speaks of 2016.
    assert rules["county", "persons", "age_65_plus"] == ShareRule(own=0.05, share=0.022)
    # Six years from the tax year 2012.
    assert rules["county", "returns", "total"].share == pytest.approx(0.09)
    assert ("county", "persons", "total") not in rules
    tracts = share_rules(catalog, catalog.profile("rhode_island"))
    assert not any(level == "tract" for level, *_ in tracts)
    assert pl.Series([rule.share for rule in tracts.values()]).min() > 0
