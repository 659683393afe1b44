"""Rows of a target table as arrays on a tree of areas, and back."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.targets.grid import TargetGrid, area_tree

AREAS = pl.DataFrame(
    {
        "state_fips": ["44"] * 3,
        "county_fips": ["44001", "44001", "44003"],
        "tract": ["44001000200", "44001000100", "44003000100"],
    }
)
LEVELS = ("nation", "state", "county", "tract")
KEYS = [("persons", "total"), ("usd_wages", "total")]
TREE = area_tree(AREAS, LEVELS)


def table() -> pl.DataFrame:
    rows = [
        (level, geoid, *key)
        for level, geoids in zip(TREE.levels, TREE.geoids, strict=True)
        for geoid in geoids
        for key in KEYS
    ]
    frame = pl.DataFrame(rows, schema=["level", "geoid", "variable", "domain"], orient="row")
    return frame.with_columns(value=pl.int_range(1, pl.len() + 1).cast(pl.Float64))


ALL = pl.lit(True)


def test_the_tree_has_the_levels_below_the_nation_in_order():
    assert TREE.levels == ("state", "county", "tract")
    assert TREE.geoids[2] == ("44001000100", "44001000200", "44003000100")
    assert area_tree(AREAS, LEVELS[:3]).geoids[-1] == ("44001", "44003")


@settings(deadline=None)
@given(st.randoms())
def test_values_find_their_places_whatever_the_order_of_rows(random):
    order = list(range(table().height))
    random.shuffle(order)
    frame = table()[order]
    grid = TargetGrid.of(frame, ALL, TREE, [KEYS] * 3)
    plain = TargetGrid.of(table(), ALL, TREE, [KEYS] * 3)
    for mine, theirs in zip(
        grid.read(frame["value"], 0.0), plain.read(table()["value"], 0.0), strict=True
    ):
        assert np.array_equal(mine, theirs)
    assert grid.write(grid.read(frame["value"], 0.0), frame.height).equals(frame["value"])


def test_rows_not_used_and_areas_or_variables_not_held_have_no_place():
    frame = table()
    use = pl.col("variable") == "persons"
    grid = TargetGrid.of(frame, use, TREE, [KEYS, KEYS[:1], KEYS[1:]])
    assert [row.shape for row in grid.rows] == [(1, 2), (2, 1), (3, 1)]
    assert [int(used.sum()) for used in grid.used] == [1, 2, 0]
    assert grid.read(frame["value"], -5.0)[2].tolist() == [[-5.0]] * 3
    back = grid.write(grid.read(frame["value"], 0.0), frame.height)
    held = use & (pl.col("level") != "tract")
    expected = frame.select(pl.when(held).then("value"))["value"]
    assert back.equals(expected)
    stranger = frame.with_columns(geoid=pl.lit("99"))
    assert not any(u.any() for u in TargetGrid.of(stranger, ALL, TREE, [KEYS] * 3).used)


def test_a_null_is_missing_and_a_nan_is_seen():
    frame = table().with_columns(
        value=pl.when(pl.col("level") == "state").then(float("nan")).otherwise(None)
    )
    grid = TargetGrid.of(frame, ALL, TREE, [KEYS] * 3)
    state, county, _ = grid.read(frame["value"], 7.0)
    assert np.isnan(state).all()
    assert (county == 7.0).all()


def test_long_rows_are_in_the_order_of_the_tree_and_named():
    grid = TargetGrid.of(table(), ALL, TREE, [KEYS] * 3)
    frame = grid.long(grid.used, value=grid.read(table()["value"], 0.0))
    assert frame.equals(table())
    assert grid.name(2, 0, 1) == "tract 44001000100 usd_wages total"
    nothing = grid.long([np.zeros_like(u) for u in grid.used], value=grid.rows)
    assert nothing.is_empty() and nothing.columns == [*table().columns[:4], "value"]


def test_an_area_no_level_of_the_tree_knows_is_left_out_of_the_rows():
    frame = pl.concat([table(), table().head(1).with_columns(level=pl.lit("nation"))])
    grid = TargetGrid.of(frame, ALL, TREE, [KEYS] * 3)
    assert sum(int(u.sum()) for u in grid.used) == table().height
    assert grid.write(grid.read(frame["value"], 0.0), frame.height)[-1] is None


def test_keys_must_name_every_level():
    with pytest.raises(IndexError):
        TargetGrid.of(table(), ALL, TREE, [KEYS])
