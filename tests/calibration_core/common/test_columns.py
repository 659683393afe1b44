"""Columns kept in few bytes: the numbers that went in, and the same answers as by arrays."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from calibration_core.common import memory
from calibration_core.common.columns import (
    Columns,
    column_sums,
    largest_of,
    mean_contribution,
    mean_size,
    rows_of,
    side_by_side,
)
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.multiplier_weights import MultiplierWeights
from calibration_core.tree.problem import PairProblem, PoolProblem, Targets, make_targets
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import JointSettings, SelectionSettings
from calibration_core.tree.solve import blocks
from calibration_core.tree.solve.newton import calibrate_tree

LEAVES, RECORDS = 9, 120
ENTRIES = st.one_of(
    st.integers(0, 300).map(float), st.floats(-1e6, 1e6, allow_nan=False), st.just(-0.0)
)


@given(arrays(np.float64, (7, 5), elements=ENTRIES), st.data())
def test_what_went_in_comes_out(array, data):
    columns = Columns.of(list(array.T), len(array))
    np.testing.assert_array_equal(np.asarray(columns), array)
    np.testing.assert_array_equal(np.signbit(np.asarray(columns)), np.signbit(array))
    chosen = np.array(data.draw(st.lists(st.integers(0, 4), max_size=8)), dtype=np.int64)
    record = np.array(data.draw(st.lists(st.integers(0, 6), max_size=8)), dtype=np.int64)
    view = columns[:, chosen]
    assert view.shape == (7, chosen.size)
    np.testing.assert_array_equal(view[record], array[record][:, chosen])
    np.testing.assert_array_equal(columns[np.ix_(record, chosen)], array[np.ix_(record, chosen)])
    np.testing.assert_array_equal(columns[:, 2], array[:, 2])
    np.testing.assert_array_equal(columns[record[None, :]], array[record[None, :]])
    np.testing.assert_array_equal(side_by_side(view, columns[:, :2])[:], array[:, [*chosen, 0, 1]])
    np.testing.assert_array_equal(largest_of(columns), np.abs(array).max(axis=0))
    np.testing.assert_array_equal(rows_of(columns, np.arange(7)), array)


def test_a_count_takes_a_byte_and_a_column_is_kept_once():
    counts, income = np.arange(1000.0) % 9, np.linspace(0.5, 1e6, 1000)
    columns = Columns.of([counts, income, counts, counts.astype(np.uint8), income], 1000)
    held = columns.store
    assert held.small.nbytes == 1000 and held.large.nbytes == 8000
    assert columns.index.tolist() == [0, 1, 0, 0, 1]


@pytest.mark.parametrize("value", [0.5, 256.0, -1.0, 1e300, np.nan, np.inf, -0.0])
def test_what_a_byte_would_change_is_kept_in_eight(value):
    column = np.array([1.0, value, 3.0])
    columns = Columns.of([column], 3)
    assert columns.store.small.shape[1] == 0
    np.testing.assert_array_equal(columns[:, 0], column)


def test_sums_are_those_of_the_array(monkeypatch):
    monkeypatch.setattr("calibration_core.common.columns._RECORDS", 17)
    rng = np.random.default_rng(1)
    array = np.column_stack([rng.integers(0, 4, 100), rng.normal(0, 1e4, 100), np.zeros(100)])
    columns, weights = Columns.of(list(array.T), 100), rng.uniform(0, 3, 100)
    for power in (1, 2):
        expected = weights @ array**power
        np.testing.assert_allclose(column_sums(weights[None, :], columns, power)[0], expected)
    np.testing.assert_allclose(mean_size(columns), np.abs(array).mean(axis=0))
    having = weights @ (array != 0)
    expected = np.where(having > 0, weights @ np.abs(array) / np.where(having > 0, having, 1), 0)
    np.testing.assert_allclose(mean_contribution(weights, columns), expected)
    np.testing.assert_allclose(mean_contribution(weights, array), expected)


def test_nothing_compares_or_multiplies_the_whole_by_mistake():
    columns = Columns.of([np.ones(3)], 3)
    with pytest.raises(TypeError):
        columns == 0  # noqa: B015
    with pytest.raises(TypeError):
        columns != 0  # noqa: B015
    with pytest.raises(TypeError):
        np.abs(columns)
    with pytest.raises(TypeError):
        np.ones(3) @ columns


def test_an_entry_that_is_not_finite_is_named():
    tree = GeographyTree(("area",), (("a",),), (np.zeros(0, dtype=np.int64),))
    design = Columns.of([np.ones(4), np.array([1.0, 2.0, np.inf, 4.0])], 4)
    with pytest.raises(ProblemError, match="level area, record 2, variable 1"):
        make_targets(tree, [design], [np.zeros((1, 2))], [np.ones((1, 2))])


def state(as_columns: bool) -> tuple[PoolProblem, Columns | np.ndarray]:
    """Three levels whose variables overlap, amounts and counts; and all columns."""
    rng = np.random.default_rng(5)
    names = [f"44{1 + t // 4:03d}{t:06d}" for t in range(LEAVES)]
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"], [["44"] * LEAVES, [n[:5] for n in names], names]
    )
    persons, owner = 1.0 + rng.poisson(1.5, RECORDS), (rng.random(RECORDS) < 0.6).astype(float)
    income, benefit = rng.lognormal(10.8, 0.7, RECORDS), rng.exponential(3e3, RECORDS)
    every = np.column_stack([np.ones(RECORDS), persons, owner, income, benefit])
    known = Columns.of(list(every.T), RECORDS) if as_columns else every
    places = [np.array([1, 3, 4]), np.array([2, 3]), np.array([0, 1, 2])]
    designs = [np.ascontiguousarray(every[:, place]) for place in places]
    used = [known[:, place] for place in places] if as_columns else designs
    group, prior = rng.integers(0, 2, RECORDS), rng.uniform(5, 15, RECORDS)
    share = rng.uniform(0.02, 0.2, (LEAVES, 2))
    blank = [np.zeros((size, d.shape[1])) for size, d in zip(tree.sizes, designs, strict=True)]
    ones = [np.ones_like(a) for a in blank]
    empty = PoolProblem(tree, make_targets(tree, used, blank, ones), prior, group, share)
    plain = PoolProblem(tree, make_targets(tree, designs, blank, ones), prior, group, share)
    values = [found * rng.uniform(0.9, 1.15, found.shape) for found in plain.prior_sums()]
    scales = [0.02 * np.abs(value) for value in values]
    return replace(empty, targets=make_targets(tree, used, values, scales)), known


SETTINGS = TreeNewtonSettings(tau_path=(1.0, 0.1), share=(0.0, 1.0, 1.0), tolerance=1e-9)


@pytest.mark.parametrize("budget", [memory.DEFAULT, 1])
def test_a_state_in_columns_is_solved_and_chosen_from_like_one_in_arrays(budget, monkeypatch):
    monkeypatch.setattr(memory, "_budget", budget)
    answers = []
    for as_columns in (False, True):
        problem, known = state(as_columns)
        dense = calibrate_tree(problem, SETTINGS)
        weights = MultiplierWeights(problem, dense.rates)
        rng = np.random.default_rng(2)
        cell, order = rng.integers(0, 6, RECORDS), rng.random(RECORDS)
        pool = Pool(problem.tree, problem.targets, weights, cell, order, known)
        rules = JointSettings(SelectionSettings(pairs=LEAVES * 8, seed=3, rounds=2), SETTINGS)
        chosen = select_jointly(pool, rules)
        refined = refine_pairs(pool, chosen, rules)
        pairs = PairProblem(
            problem.tree, problem.targets, chosen.leaf, chosen.record, chosen.weight
        )
        answers.append((problem, dense, chosen, refined, pairs))
    (arrays_, dense, chosen, refined, pairs), (columns, dense2, chosen2, refined2, pairs2) = answers
    assert isinstance(columns.targets.designs[0], Columns)
    for a, b in zip(dense.rates, dense2.rates, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-7, atol=1e-12)
    np.testing.assert_array_equal(chosen2.leaf, chosen.leaf)
    np.testing.assert_array_equal(chosen2.record, chosen.record)
    assert refined2.anchored == refined.anchored > 0
    np.testing.assert_allclose(refined2.result.array, refined.result.array, rtol=1e-6)
    for power in (1, 2):
        for one, other in ((arrays_, columns), (pairs, pairs2)):
            for a, b in zip(one.prior_sums(power), other.prior_sums(power), strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-12)


def test_the_same_columns_of_two_levels_are_passed_over_once():
    problem, _ = state(True)
    plain, _ = state(False)
    for targets in (problem.targets, plain.targets):
        held = blocks.TreeBlocks(problem.tree, targets.designs, targets.scales, "cpu")
        assert held.columns == 5 and held.width == 3 and held.beyond == 2
        assert held.shared.tolist() == [1, 2]


def test_targets_take_columns_as_they_are():
    problem, known = state(True)
    assert isinstance(problem.targets, Targets)
    assert all(design.store is known.store for design in problem.targets.designs)


@pytest.mark.parametrize(
    "record",
    [3, -1, slice(2, 9), np.array([1, -2]), np.arange(6).reshape(2, 3), np.arange(50) > 44, [4, 4]],
    ids=str,
)
def test_rows_are_those_that_an_array_gives(record):
    rng = np.random.default_rng(1)
    plain = np.c_[rng.integers(0, 9, 50), rng.normal(size=50), rng.integers(0, 300, 50)]
    columns = Columns.of(list(plain.T), 50)
    assert np.array_equal(columns[record], plain[record])
    with pytest.raises(IndexError):
        columns[np.array([50])]
