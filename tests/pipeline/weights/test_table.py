"""Weights as tables and back: what is written is sound, what is read back belongs to the state."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pipeline import steps
from pipeline.errors import InvariantError
from pipeline.specs.catalog import load_catalog
from pipeline.weights.problem import build_problem, pool_problem
from pipeline.weights.table import (
    dense_table,
    digest_of,
    long_weights,
    pairs_table,
    require_sound_weights,
    stored_dense,
    stored_pairs,
    stored_weights,
    weights_table,
)
from tests.pipeline.weights.toy_state import GEOGRAPHY, solve, tables, targets


@pytest.fixture(scope="module")
def solved(profile):
    records = tables()
    return solve(records, targets(records), profile)


def test_what_is_stored_comes_back(solved):
    state, dense, drawn, refined = solved
    stored = dense_table(state, dense)
    whole = dense.weights.table()
    assert (stored_dense(state, stored).table() == whole).all()
    weights = weights_table(state, drawn, refined.result.weights)
    back = stored_weights(state, stored, weights.sample(fraction=1.0, shuffle=True, seed=1))
    assert (back.dense.table() == whole).all()
    for mine, theirs in ((back.leaf, drawn.leaf), (back.record, drawn.record)):
        assert (mine == theirs).all()
    assert (back.weight == refined.result.weights).all()
    pairs = stored_pairs(state, pairs_table(state, drawn, dense.weights, 90))
    assert (pairs.prior_weight == drawn.weight).all()


def test_rows_of_the_table_may_stand_in_any_order(solved):
    state, dense, _, _ = solved
    mixed = dense_table(state, dense).sample(fraction=1.0, shuffle=True, seed=2)
    assert (stored_dense(state, mixed).table() == dense.weights.table()).all()


def test_dense_weights_follow_from_the_rates_of_the_table(solved):
    state, dense, _, _ = solved
    table, prior = dense_table(state, dense), pool_problem(state).prior()
    place = {leaf: i for i, leaf in enumerate(state.leaves)}
    exponent = np.zeros(prior.shape)
    for row in table.iter_rows(named=True):
        adds = state.units[f"{row['variable']}|{row['domain']}"].to_numpy()
        for leaf, i in place.items():
            if leaf.startswith(row["geoid"]):
                exponent[i] += row["rate"] * adds
    np.testing.assert_allclose(dense.weights.table(), prior * np.exp(exponent), rtol=1e-10)


def test_dense_weights_are_of_the_units_as_they_are(solved):
    """A unit that adds one person more gives other weights, so its state has another digest."""
    state, dense, _, _ = solved
    name = "persons|total"
    units = state.units.with_columns(
        pl.when(pl.int_range(pl.len()) == 0).then(pl.col(name) + 1).otherwise(name).alias(name)
    )
    problem = build_problem(state.targets, units, state.geography, state.profile)
    other = replace(state, units=units, problem=problem)
    assert digest_of(other) != digest_of(state)
    with pytest.raises(InvariantError, match="made for other areas, targets or households"):
        stored_dense(other, dense_table(state, dense))


def test_long_rows_hold_every_dense_weight(solved):
    state, dense, _, _ = solved
    rows = pl.concat(list(long_weights(state, dense.weights, 0.0)))
    whole = dense.weights.table()
    assert rows.height == np.count_nonzero(whole)
    assert rows["weight"].sum() == pytest.approx(whole.sum(), rel=1e-12)
    some = pl.concat(list(long_weights(state, dense.weights, 0.5)))
    assert some.height == np.count_nonzero(whole >= 0.5) < rows.height
    row = rows.row(7, named=True)
    record = state.units["household_id"].to_list().index(row["household_id"])
    assert row["weight"] == whole[state.leaves.index(row["area"]), record]


def test_an_area_is_named_by_its_finest_level_and_its_county(solved):
    state, _, drawn, refined = solved
    frame = weights_table(state, drawn, refined.result.weights)
    assert frame.columns == ["household_id", "tract", "county", "weight"]
    counties = dict(GEOGRAPHY.select("tract", "county_fips").iter_rows())
    assert [counties[t] for t in frame["tract"]] == frame["county"].to_list()
    assert frame.equals(frame.sort("county", "tract", "household_id"))


def _other(name):
    return {
        "an area fewer": lambda table: table.filter(pl.col("geoid") != GEOGRAPHY["tract"][0]),
        "an area more": lambda table: pl.concat(
            [table, table.tail(1).with_columns(geoid=pl.lit("44009000100"))]
        ),
        "another target": lambda table: table.with_columns(
            target=pl.when(pl.int_range(pl.len()) == 3).then(-1.0).otherwise("target")
        ),
        "a target twice": lambda table: pl.concat([table, table.head(1)]),
        "other households": lambda table: table.with_columns(made_of=pl.lit("0" * 64)),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["an area fewer", "an area more", "another target", "a target twice", "other households"],
)
@pytest.mark.parametrize(
    "step",
    [
        pytest.param(lambda s, d, p, w: steps.selected_pairs(s, d, 90), id="selected_pairs"),
        pytest.param(lambda s, d, p, w: steps.refined_weights(s, d, p), id="refined_weights"),
        pytest.param(lambda s, d, p, w: steps.fit_of_stored(s, d, w), id="fit_of_stored"),
        pytest.param(
            lambda s, d, p, w: steps.loss_of_stored(load_catalog(), s, d, w), id="loss_of_stored"
        ),
    ],
)
def test_dense_weights_of_other_areas_or_households_are_refused_by_every_step(solved, name, step):
    state, dense, drawn, refined = solved
    table = _other(name)(dense_table(state, dense))
    pairs = pairs_table(state, drawn, dense.weights, 90)
    weights = weights_table(state, drawn, refined.result.weights)
    with pytest.raises(InvariantError, match="made for other areas, targets or households"):
        step(state, table, pairs, weights)


def test_pairs_older_than_the_candidates_are_refused(solved):
    state, dense, drawn, refined = solved
    stranger = pl.col("household_id").replace(
        {state.units["household_id"][int(drawn.record[0])]: "x"}
    )
    pairs = pairs_table(state, drawn, dense.weights, 90).with_columns(household_id=stranger)
    with pytest.raises(InvariantError, match="no candidate"):
        stored_pairs(state, pairs)
    weights = weights_table(state, drawn, refined.result.weights).with_columns(
        tract=pl.lit("44009000100")
    )
    with pytest.raises(InvariantError, match="no candidate"):
        stored_weights(state, dense_table(state, dense), weights)


def test_unsound_tables_are_not_written(solved):
    state, dense, drawn, refined = solved
    for bad in (np.nan, -1.0, np.inf):
        array = dense.weights.table()
        array[0, 0] = bad
        with pytest.raises(InvariantError, match="negative or not finite"):
            dense_table(state, replace(dense, weights=array))
    with pytest.raises(InvariantError, match="90 pairs were drawn"):
        pairs_table(state, drawn, dense.weights, 91)
    with pytest.raises(InvariantError, match="1 weights are not finite"):
        weights_table(state, drawn, np.append(refined.result.weights[1:], np.nan))


def test_hard_rules_refuse_unsound_weights():
    good = pl.DataFrame(
        {
            "household_id": ["a", "b"],
            "tract": ["t", "t"],
            "county": ["c", "c"],
            "weight": [1.0, 2.0],
        }
    )
    require_sound_weights(good, 2, "RI")
    for frame, words in (
        (good.head(1), "1 pairs for a budget of 2"),
        (good.with_columns(weight=pl.lit(float("nan"))), "2 weights are not finite"),
        (good.with_columns(weight=pl.lit(-1.0)), "2 are not positive"),
        (good.with_columns(household_id=pl.lit("a")), "occurs twice"),
    ):
        with pytest.raises(InvariantError, match=words):
            require_sound_weights(frame, 2, "RI")
