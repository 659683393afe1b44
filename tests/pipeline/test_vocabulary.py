"""The shared words: one spelling, and the rules that go with it."""

import polars as pl
import pytest

from pipeline import vocabulary as words
from pipeline.specs.catalog import load_catalog


def test_an_area_begins_with_every_area_above_it():
    lengths = [words.GEOID_LENGTH[level] for level in words.LEVELS]
    assert lengths == sorted(lengths) and len(set(lengths)) == len(lengths)
    assert words.levels_below("state") == ["county", "tract"]
    assert words.levels_below("state", ("nation", "state", "county")) == ["county"]
    assert set(words.AREA_COLUMN) == set(words.levels_below("nation"))


@pytest.mark.parametrize("key", sorted(load_catalog().variables))
def test_a_variable_names_a_column_and_the_column_the_variable(key):
    column = words.design_column(key)
    assert words.key_of(column) == key
    assert words.design_columns(["puma", column, "prior_weight"]) == [column]


def test_every_unit_of_a_variable_has_a_smallest_amount():
    assert {v.unit for v in load_catalog().variables.values()} <= set(words.SMALLEST)
    assert set(words.SMALLEST) >= words.SIGNED_UNITS


def test_only_amounts_of_money_may_be_negative():
    """What the sign of a variable was once decided by, its name, agrees with its unit."""
    for variable in load_catalog().variables.values():
        assert (variable.unit in words.SIGNED_UNITS) == variable.variable.startswith("usd_")


def test_the_population_is_a_variable():
    assert words.POPULATION in load_catalog().variables


def test_rows_are_found_by_variable_and_by_area():
    frame = pl.DataFrame(
        {
            "level": ["state", "county", "state"],
            "geoid": ["44", "44001", "10"],
            "variable": ["persons"] * 3,
            "domain": ["total", "total", "age_65_plus"],
        }
    )
    assert frame.filter(words.is_variable(words.POPULATION))["geoid"].to_list() == ["44", "44001"]
    assert frame.filter(words.is_area("state", "44")).height == 1
