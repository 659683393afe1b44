"""Exactly k, whatever k: allocation, inclusion probabilities, the draw, and what it lost."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.sampling.allocation import allocate
from calibration_core.sampling.probabilities import inclusion_probabilities
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.select.balance import Balance
from calibration_core.tree.select.lost import lost_cells
from calibration_core.tree.select.pairs import allocate_pairs, select_pairs
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import DESIGNS, SelectionSettings
from tests.calibration_core.state_case import random_problem
from tests.calibration_core.tree.selection_case import plain


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31),
    st.sampled_from(DESIGNS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1.0, math.inf]),
)
def test_k_is_exact_from_the_smallest_to_the_largest(seed, design, balanced, by_class, penalty):
    pool, balance, pairs, floor = random_problem(seed)
    pool = pool if by_class else replace(pool, classes=())
    chosen_by = SelectionSettings(
        pairs, seed, floor=floor, design=design, cell_penalty=penalty, candidates=1 + seed % 8
    )
    chosen = select_pairs(pool, chosen_by, balance=balance if balanced else None)
    dense, leaves = pool.dense, pool.leaves
    counts = chosen.pairs_per_area
    assert chosen.leaf.size == pairs == counts.sum()
    assert (np.bincount(chosen.leaf, minlength=leaves) == counts).all()
    peopled = dense.sum(axis=1) > 0
    assert (counts[peopled] >= 1).all() and (counts[~peopled] == 0).all()
    listed = list(zip(chosen.leaf.tolist(), chosen.record.tolist(), strict=True))
    assert listed == sorted(set(listed))
    assert (dense[chosen.leaf, chosen.record] > 0).all()
    assert (chosen.weight > 0).all() and np.isfinite(chosen.weight).all()
    np.testing.assert_allclose(
        np.bincount(chosen.leaf, chosen.weight, leaves), dense.sum(axis=1), rtol=1e-9
    )
    assert (chosen.probability > 0).all() and (chosen.probability <= 1).all()
    if balanced and penalty == 0:
        assert (chosen.error <= chosen.drawn_error * (1 + 1e-9) + 1e-12).all()
    # Records no draw can leave out are there.
    for leaf in np.flatnonzero(counts):
        certain = np.flatnonzero(inclusion_probabilities(dense[leaf], int(counts[leaf])) >= 1)
        assert set(certain) <= set(chosen.record[chosen.leaf == leaf])
    # Mass of cells without a pair is all counted, and goes to cells that have one.
    mass, count = np.zeros((leaves, pool.cells)), np.zeros((leaves, pool.cells))
    np.add.at(mass.T, pool.cell, dense.T)
    np.add.at(count, (chosen.leaf, pool.cell[chosen.record]), 1)
    gone, lost = (mass > 0) & (count == 0), chosen.lost
    assert lost.count == gone.sum() == lost.moved.shape[0]
    assert lost.mass.sum() == pytest.approx(mass[gone].sum(), rel=1e-9)
    assert lost.share == pytest.approx(mass[gone].sum() / mass.sum(), rel=1e-9)
    assert gone[lost.moved[:, 0], lost.moved[:, 1]].all()
    assert (count[lost.moved[:, 0], lost.moved[:, 2]] > 0).all()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(DESIGNS), st.booleans())
def test_rounded_counts_of_every_category_are_those_expected_rounded(seed, design, balanced):
    pool, balance, pairs, floor = random_problem(seed)
    pool = replace(pool, classes=pool.classes[:2])
    chosen_by = SelectionSettings(pairs, seed, floor=floor, design=design, exchanges=0)
    chosen = select_pairs(pool, chosen_by, balance=balance if balanced else None)
    shape, drawn_from = (pool.leaves, pool.cells), chosen.candidates
    code = drawn_from.place * pool.cells + pool.cell[drawn_from.record]
    expected = np.bincount(code, drawn_from.probability, math.prod(shape)).reshape(shape)
    code = chosen.leaf * pool.cells + pool.cell[chosen.record]
    count = np.bincount(code, minlength=math.prod(shape)).reshape(shape)
    for members in [np.eye(pool.cells, dtype=bool), *pool.classes]:
        wanted, got = expected @ members.T, count @ members.T
        assert (got >= np.floor(wanted + 1e-7) - 1e-9).all()
        assert (got <= np.ceil(wanted - 1e-7) + 1e-9).all()
    assert chosen.rounding_misses == 0
    # Probabilities of the draw without rounding are those of the dense weights.
    for leaf in np.flatnonzero(chosen.pairs_per_area):
        here = chosen.leaf == leaf
        want = inclusion_probabilities(pool.dense[leaf], int(chosen.pairs_per_area[leaf]))
        want = want[chosen.record[here]]
        np.testing.assert_allclose(chosen.probability[here], want, rtol=1e-6)
        assert (chosen.certain[here] == (want >= 1 - 1e-9)).all()


@pytest.mark.parametrize("design", DESIGNS)
def test_an_area_is_drawn_alike_whatever_other_areas_there_are(design):
    """Random numbers come from (seed, number of the area): the first two areas alone are the first
    two of five.
    """
    rng = np.random.default_rng(5)
    dense = rng.lognormal(0, 1, (5, 80))
    cell, order, rows = rng.integers(0, 6, 80), rng.random(80), rng.normal(size=(80, 3)) + 2
    classes = (np.arange(6)[None, :] // 2 == np.arange(3)[:, None],)
    counts = np.array([12, 9, 14, 7, 20])

    def draw(areas):
        pool = Pool.of_one_level(dense[:areas], cell, order, classes=classes)
        balance = Balance(rows, pool.dense @ rows, np.ones((areas, 3)))
        chosen_by = SelectionSettings(int(counts[:areas].sum()), 3, design=design)
        return select_pairs(pool, chosen_by, balance=balance, pairs_per_area=counts[:areas])

    some, all_ = draw(2), draw(5)
    kept = all_.leaf < 2
    assert some.record.tolist() == all_.record[kept].tolist()
    assert some.exchanges.tolist() == all_.exchanges[:2].tolist() and some.exchanges.sum() > 0
    np.testing.assert_allclose(some.weight, all_.weight[kept], rtol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_threads_change_nothing(design):
    pool, balance, _, _ = random_problem(17)
    pairs = int((pool.dense > 0).sum()) // 2
    chosen_by = SelectionSettings(pairs, 1, floor=1, design=design, candidates=4)
    one, two = (
        select_pairs(pool, replace(chosen_by, threads=threads), balance=balance)
        for threads in (1, 3)
    )
    assert one.record.tolist() == two.record.tolist() and one.weight.tolist() == two.weight.tolist()


def test_lost_cells_go_to_the_nearest_cell_that_has_a_pair():
    dense = np.array([[10.0, 4.0, 3.0, 2.0], [0.0, 0.0, 5.0, 5.0]])
    affinity = np.array([[3, 1, 0, 0], [1, 3, 0, 2], [0, 0, 3, 1], [0, 2, 1, 3]])
    pool = plain(dense, np.arange(4), affinity=affinity)
    lost = lost_cells(pool, np.array([0, 0, 1]), np.array([0, 3, 2]))
    assert lost.count == 3 and lost.share == pytest.approx(12.0 / 29.0, rel=1e-3)
    # Cell 1 is nearer to 3 than to 0; 2 to 3; in the second area 2 is all there is.
    assert lost.moved.tolist() == [[0, 1, 3], [0, 2, 3], [1, 3, 2]]
    assert lost.mass == pytest.approx([4.0, 3.0, 5.0], rel=1e-3)


@pytest.mark.parametrize("counts", [np.array([2, 2]), np.array([2, 1, 1])])
def test_pairs_given_for_each_leaf_must_fit(counts):
    with pytest.raises(ProblemError, match="pairs_per_area"):
        select_pairs(plain(np.ones((2, 3))), SelectionSettings(5, 1), pairs_per_area=counts)


def test_pairs_given_for_each_leaf_are_what_each_leaf_gets():
    rng = np.random.default_rng(0)
    dense, counts = rng.random((4, 30)), np.array([1, 30, 0, 7])
    chosen = select_pairs(plain(dense), SelectionSettings(38, 1), pairs_per_area=counts)
    drawn = np.bincount(chosen.leaf, minlength=4)
    assert drawn.tolist() == counts.tolist() == chosen.pairs_per_area.tolist()
    few = plain(dense * (np.arange(30) < 20))
    with pytest.raises(BudgetError):
        select_pairs(few, SelectionSettings(38, 1), pairs_per_area=counts)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pairs", 0),
        ("seed", -1),
        ("floor", 0),
        ("power", -0.5),
        ("power", math.nan),
        ("candidates", 0),
        ("exchanges", -1.0),
        ("cell_penalty", -1.0),
        ("cell_penalty", math.nan),
        ("rounds", -1),
        ("threads", 0),
        ("design", "random"),
        ("rule", "given"),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        SelectionSettings(**{"pairs": 10, "seed": 1} | {name: value})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.integers(1, 10), st.integers(0, 400)
)
def test_allocation_sums_exactly_and_keeps_bounds(sizes, floor, extra):
    size = np.array(sizes)
    ceiling = np.full(size.size, 50)
    pairs = min(size.size + extra, int(ceiling.sum()))
    share = allocate(pairs, size, floor=floor, ceiling=ceiling)
    assert share.sum() == pairs
    assert (share <= ceiling).all()
    assert (share >= min(floor, pairs // size.size)).all()


def test_allocation_is_proportional_where_nothing_binds():
    share = allocate(100, np.array([1.0, 2.0, 7.0]), floor=1, ceiling=np.full(3, 1000))
    assert share.tolist() == [10, 20, 70]


def test_nobody_lives_there_nobody_is_drawn():
    pool = plain(np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]]))
    assert select_pairs(pool, SelectionSettings(2, 1, floor=1)).pairs_per_area.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        pytest.param(1, "k is 1 for 2 areas", id="fewer than areas"),
        pytest.param(9, "only 6 pairs exist", id="more than pairs"),
    ],
)
def test_impossible_budgets_are_refused_with_the_numbers(pairs, words):
    with pytest.raises(BudgetError, match=words):
        select_pairs(plain(np.ones((2, 3))), SelectionSettings(pairs, seed=1, floor=1))


def test_neymans_rule_goes_by_the_finest_targets_and_needs_some():
    """Two areas alike but for the scale of their one target: the tighter one gets more pairs."""
    tree = GeographyTree.from_leaves(["tract"], [["a", "b"]])
    rows = np.arange(40.0)[:, None]
    dense = np.full((2, 40), 3.0)
    targets = make_targets(tree, [rows], [dense @ rows], [np.array([[1.0], [4.0]])])
    pool = Pool(tree, targets, dense, np.zeros(40, dtype=int), np.arange(40.0), rows)
    chosen_by = SelectionSettings(50, 1, floor=1, rule="neyman")
    assert allocate_pairs(pool, chosen_by).pairs_per_area.tolist() == [40, 10]
    with pytest.raises(SettingsError, match="no targets"):
        allocate_pairs(plain(dense), chosen_by)


def test_probabilities_cap_at_one_and_sum_to_the_count():
    probability = inclusion_probabilities(np.array([100.0, 1.0, 1.0, 1.0, 1.0]), 3)
    assert probability.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("by_class", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_draws_follow_the_probabilities(design, by_class):
    """Over many seeds each record is drawn about as often as its probability says, so
    Horvitz-Thompson totals are unbiased; also where the counts of cells were rounded first, and
    some records are certain or nearly so.
    """
    weights = np.array([[9.0, 1.0, 1.0, 2.3, 1.0, 2.0, 0.5, 0.5, 0.4, 0.6]])
    cell = np.array([0, 1, 0, 1, 0, 1, 0, 1, 2, 2])
    classes = (np.array([[True, True, False], [False, False, True]]),) if by_class else ()
    pool = plain(weights, cell, classes=classes)
    rows = np.column_stack([np.ones(10), np.arange(10.0)])
    balance = Balance(rows, np.array([[18.3, 60.0]]), np.ones((1, 2)))
    hits = np.zeros(10)
    for seed in range(1000):
        chosen_by = SelectionSettings(5, seed, floor=1, design=design, exchanges=0, candidates=10)
        hits[select_pairs(pool, chosen_by, balance=balance).record] += 1
    expected = inclusion_probabilities(pool.dense[0], 5)
    assert hits[expected == 1].tolist() == [1000.0]
    assert np.abs(hits / 1000 - expected).max() < 0.05


def test_each_category_gets_its_share_rounded_down_or_up():
    rng = np.random.default_rng(3)
    cell = rng.integers(0, 6, 400)
    pool = Pool.of_one_level(rng.random((5, 400)) + 0.5, cell, rng.random(400))
    chosen = select_pairs(pool, SelectionSettings(5 * 40, seed=9, floor=1, power=0.0))
    for leaf in range(5):
        probability = inclusion_probabilities(pool.dense[leaf], int(chosen.pairs_per_area[leaf]))
        for kind in range(6):
            expected = probability[cell == kind].sum()
            got = int((cell[chosen.record[chosen.leaf == leaf]] == kind).sum())
            assert np.floor(expected) - 1 <= got <= np.ceil(expected) + 1


def test_the_same_seed_draws_the_same_pairs_and_another_does_not():
    pool = plain(np.random.default_rng(0).random((3, 50)) + 0.1)
    draw = [select_pairs(pool, SelectionSettings(30, seed=s)).record.tolist() for s in (1, 1, 2)]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]


def test_a_balanced_draw_errs_less_and_exchanges_less_still():
    rng = np.random.default_rng(4)
    rows = rng.normal(size=(200, 3)) + 2
    zeros = np.zeros(200, dtype=int)
    pool = Pool.of_one_level(rng.random((6, 200)) + 0.1, zeros, rng.random(200))
    balance = Balance(rows, pool.dense @ rows, np.ones((6, 3)))

    def error(design, exchanges):
        chosen_by = SelectionSettings(120, 5, floor=1, design=design, exchanges=exchanges)
        chosen = select_pairs(pool, chosen_by, balance=balance)
        totals = np.zeros((6, 3))
        np.add.at(totals, chosen.leaf, chosen.weight[:, None] * rows[chosen.record])
        found = np.sqrt(((totals - pool.dense @ rows) ** 2).mean(axis=1))
        # Exchanges look at weights rounded to one part in 130,000, and say what they saw: of totals
        # of a few hundred.
        np.testing.assert_allclose(chosen.error, found, rtol=1e-3, atol=2e-3)
        return float((found**2).sum())

    unbalanced, balanced, exchanged = error("systematic", 0), error("cube", 0), error("cube", 8)
    assert balanced < 0.3 * unbalanced and exchanged < 0.01 * balanced


def test_lost_categories_are_counted():
    pool = plain(np.array([[10.0, 10.0, 1e-6]]), np.array([0, 0, 1]))
    lost = select_pairs(pool, SelectionSettings(2, seed=0, floor=1)).lost
    assert lost.count == 1
    assert lost.share == pytest.approx(1e-6 / 20, rel=1e-3)
