"""Exactly k, whatever k: allocation, inclusion probabilities, and the draw."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.allocation import allocate, inclusion_probabilities
from calibration_core.errors import BudgetError
from calibration_core.geography import GeographyTree
from calibration_core.selection import SelectionSettings, select_pairs
from calibration_core.support import ensure_support


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 2**31), st.integers(1, 8), st.integers(2, 40))
def test_k_is_exact_from_the_smallest_to_the_largest(seed, leaves, records):
    rng = np.random.default_rng(seed)
    dense = rng.gamma(0.2, 3.0, size=(leaves, records)) * (rng.random((leaves, records)) < 0.8)
    dense[:, 0] += 0.1
    pairs = int((dense > 0).sum())
    budget = int(rng.integers(leaves, pairs + 1))
    chosen = select_pairs(dense, rng.integers(0, 4, records), rng.random(records), SelectionSettings(budget, seed=seed, floor=int(rng.integers(1, 5))))
    assert chosen.leaf.size == budget
    assert len(set(zip(chosen.leaf.tolist(), chosen.record.tolist(), strict=True))) == budget
    assert (dense[chosen.leaf, chosen.record] > 0).all()
    assert (chosen.weight > 0).all()
    assert np.allclose(np.bincount(chosen.leaf, chosen.weight, leaves), dense.sum(axis=1))
    assert (chosen.per_leaf >= 1).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.integers(1, 10), st.integers(0, 400))
def test_allocation_sums_exactly_and_keeps_bounds(sizes, floor, extra):
    size = np.array(sizes)
    ceiling = np.full(size.size, 50)
    budget = min(size.size + extra, int(ceiling.sum()))
    share = allocate(budget, size, floor=floor, ceiling=ceiling)
    assert share.sum() == budget
    assert (share <= ceiling).all()
    assert (share >= min(floor, budget // size.size)).all()


def test_allocation_is_proportional_where_nothing_binds():
    assert allocate(100, np.array([1.0, 2.0, 7.0]), floor=1, ceiling=np.full(3, 1000)).tolist() == [10, 20, 70]


def test_nobody_lives_there_nobody_is_drawn():
    dense = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    chosen = select_pairs(dense, np.zeros(3, dtype=int), np.arange(3.0), SelectionSettings(2, seed=1, floor=1))
    assert chosen.per_leaf.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("budget", "words"),
    [pytest.param(1, "k is 1 for 2 areas", id="fewer than areas"), pytest.param(9, "only 6 pairs exist", id="more than pairs")],
)
def test_impossible_budgets_are_refused_with_the_numbers(budget, words):
    with pytest.raises(BudgetError, match=words):
        select_pairs(np.ones((2, 3)), np.zeros(3, dtype=int), np.arange(3.0), SelectionSettings(budget, seed=1, floor=1))


def test_probabilities_cap_at_one_and_sum_to_the_count():
    probability = inclusion_probabilities(np.array([100.0, 1.0, 1.0, 1.0, 1.0]), 3)
    assert probability.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


def test_draws_follow_the_probabilities():
    """Over many seeds each record is drawn about as often as its probability says, so Horvitz-Thompson totals are unbiased."""
    weights = np.array([[5.0, 1.0, 1.0, 2.0, 1.0, 3.0, 0.5, 0.5]])
    category = np.array([0, 1, 0, 1, 0, 1, 0, 1])
    hits = np.zeros(8)
    for seed in range(2000):
        chosen = select_pairs(weights, category, np.arange(8.0), SelectionSettings(4, seed=seed, floor=1))
        hits[chosen.record] += 1
    assert np.abs(hits / 2000 - inclusion_probabilities(weights[0], 4)).max() < 0.04


def test_each_category_gets_its_share_rounded_down_or_up():
    rng = np.random.default_rng(3)
    dense = rng.random((5, 400)) + 0.5
    category = rng.integers(0, 6, 400)
    chosen = select_pairs(dense, category, rng.random(400), SelectionSettings(5 * 40, seed=9, floor=1, power=0.0))
    for leaf in range(5):
        probability = inclusion_probabilities(dense[leaf], int(chosen.per_leaf[leaf]))
        for kind in range(6):
            expected = probability[category == kind].sum()
            got = int((category[chosen.record[chosen.leaf == leaf]] == kind).sum())
            assert np.floor(expected) - 1 <= got <= np.ceil(expected) + 1


def test_the_same_seed_draws_the_same_pairs_and_another_does_not():
    dense = np.random.default_rng(0).random((3, 50)) + 0.1
    draw = [select_pairs(dense, np.zeros(50, dtype=int), np.arange(50.0), SelectionSettings(30, seed=s)).record.tolist() for s in (1, 1, 2)]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]


def test_the_best_of_many_draws_is_better_balanced():
    rng = np.random.default_rng(4)
    dense, design = rng.random((4, 200)) + 0.1, rng.normal(size=(200, 3)) + 2
    errors = []
    for draws in (1, 40):
        chosen = select_pairs(
            dense, np.zeros(200, dtype=int), rng.random(200), SelectionSettings(80, seed=5, draws=draws), balance=design, balance_scale=np.ones((4, 3))
        )
        totals = np.array([chosen.weight[chosen.leaf == t] @ design[chosen.record[chosen.leaf == t]] for t in range(4)])
        errors.append(float(((totals - dense @ design) ** 2).sum()))
    assert errors[1] < errors[0]


def test_lost_categories_are_counted():
    dense = np.array([[10.0, 10.0, 1e-6]])
    chosen = select_pairs(dense, np.array([0, 0, 1]), np.arange(3.0), SelectionSettings(2, seed=0, floor=1))
    assert chosen.categories_lost == 1
    assert chosen.mass_lost == pytest.approx(1e-6 / 20, rel=1e-3)


def rare_problem():
    """Two counties of two tracts; one record of 60 carries a rare trait, with little weight everywhere."""
    rng = np.random.default_rng(11)
    tree = GeographyTree.from_leaves(["county", "tract"], [["a", "a", "b", "b"], ["a1", "a2", "b1", "b2"]])
    dense = rng.random((4, 60)) + 1.0
    dense[:, 59] = 1e-3
    design = np.zeros((60, 2))
    design[:, 0] = 1.0
    design[59, 1] = 2.0
    return tree, dense, [design, design]


def test_a_rare_target_gets_one_pair_back_and_k_stays():
    tree, dense, designs = rare_problem()
    drawn = select_pairs(dense, np.zeros(60, dtype=int), np.arange(60.0), SelectionSettings(40, seed=1, floor=1))
    assert 59 not in drawn.record
    kept = ensure_support(drawn, dense, tree, designs, [np.ones((2, 2), dtype=bool), np.array([[True, False]] * 4)])
    assert kept.leaf.size == 40
    assert len(set(zip(kept.leaf.tolist(), kept.record.tolist(), strict=True))) == 40
    assert kept.rescued == ((0, 0, 1), (0, 1, 1))
    assert kept.without_support == ()
    assert {int(tree.ancestor_of_leaves(0)[t]) for t in kept.leaf[kept.record == 59]} == {0, 1}
    assert (kept.weight > 0).all()
    assert np.allclose(np.bincount(kept.leaf, kept.weight), dense.sum(axis=1))


def test_nothing_is_exchanged_where_every_target_has_a_pair():
    tree, dense, designs = rare_problem()
    drawn = select_pairs(dense, np.zeros(60, dtype=int), np.arange(60.0), SelectionSettings(40, seed=1, floor=1))
    same = ensure_support(drawn, dense, tree, designs, [np.array([[True, False]] * 2), np.array([[True, False]] * 4)])
    assert same.rescued == ()
    assert same.record.tolist() == drawn.record.tolist()
    assert same.weight.tolist() == drawn.weight.tolist()


def test_a_hamlet_is_not_split_into_crumbs_unless_the_budget_asks_for_it():
    dense = np.array([[0.5, 1.5, 1.0] + [0.05] * 37, [30.0] * 40])
    modest = select_pairs(dense, np.zeros(40, dtype=int), np.arange(40.0), SelectionSettings(30, seed=1, floor=20))
    assert modest.per_leaf.tolist() == [4, 26]
    everything = select_pairs(dense, np.zeros(40, dtype=int), np.arange(40.0), SelectionSettings(80, seed=1, floor=20))
    assert everything.per_leaf.tolist() == [40, 40]


def test_leaf_targets_are_rescued_too_and_never_at_the_cost_of_another():
    """Eight rare traits, one record each, in areas of twelve pairs: all get a pair, and no exchange takes away the last of another."""
    rng = np.random.default_rng(2)
    tree = GeographyTree.from_leaves(["county", "tract"], [["a", "a", "b"], ["a1", "a2", "b1"]])
    dense = rng.random((3, 80)) + 0.5
    dense[:, 70:78] = 1e-3
    design = np.zeros((80, 9))
    design[:, 0] = 1.0
    design[np.arange(70, 78), np.arange(1, 9)] = 1.0
    drawn = select_pairs(dense, np.zeros(80, dtype=int), np.arange(80.0), SelectionSettings(36, seed=3, floor=12))
    everything = [np.ones((2, 9), dtype=bool), np.ones((3, 9), dtype=bool)]
    kept = ensure_support(drawn, dense, tree, [design, design], everything)
    assert kept.leaf.size == 36
    assert kept.per_leaf.tolist() == np.bincount(kept.leaf).tolist()
    for leaf in range(3):
        assert (design[kept.record[kept.leaf == leaf]] != 0).any(axis=0).all()
    assert kept.without_support == ()


def test_more_rare_targets_than_pairs_are_reported():
    dense = np.full((1, 6), 1.0)
    design = np.eye(6)
    tree = GeographyTree.from_leaves(["tract"], [["a"]])
    drawn = select_pairs(dense, np.zeros(6, dtype=int), np.arange(6.0), SelectionSettings(3, seed=3, floor=1))
    kept = ensure_support(drawn, dense, tree, [design], [np.ones((1, 6), dtype=bool)])
    assert kept.record.size == 3
    assert len(kept.without_support) == 3
