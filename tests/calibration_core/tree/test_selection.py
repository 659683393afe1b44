"""Exactly k, whatever k: allocation, inclusion probabilities, and the draw."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.sampling.allocation import allocate, inclusion_probabilities
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.select.pairs import Balance, cells_lost, select_pairs
from calibration_core.tree.select.settings import DESIGNS, SelectionSettings
from calibration_core.tree.select.support import ensure_support
from tests.calibration_core.state_case import random_problem


def drawn_from(
    dense, category, order, budget, seed, *, floor=1, balance=None, families=(), **options
):
    return select_pairs(
        dense,
        category,
        order,
        SelectionSettings(budget, seed, floor=floor, **options),
        balance=balance,
        families=families,
    )


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31),
    st.sampled_from(DESIGNS),
    st.booleans(),
    st.booleans(),
    st.sampled_from([0.0, 1.0, math.inf]),
)
def test_k_is_exact_from_the_smallest_to_the_largest(seed, design, balanced, rounded, penalty):
    dense, category, order, balance, families, budget, floor = random_problem(seed)
    chosen = drawn_from(
        dense,
        category,
        order,
        budget,
        seed,
        floor=floor,
        design=design,
        cell_penalty=penalty,
        candidates=1 + seed % 8,
        balance=balance if balanced else None,
        families=families if rounded else (),
    )
    leaves = dense.shape[0]
    assert chosen.leaf.size == budget == chosen.per_leaf.sum()
    assert (np.bincount(chosen.leaf, minlength=leaves) == chosen.per_leaf).all()
    assert (chosen.per_leaf[dense.sum(axis=1) > 0] >= 1).all() and (
        chosen.per_leaf[dense.sum(axis=1) == 0] == 0
    ).all()
    pairs = list(zip(chosen.leaf.tolist(), chosen.record.tolist(), strict=True))
    assert pairs == sorted(set(pairs))
    assert (dense[chosen.leaf, chosen.record] > 0).all()
    assert (chosen.weight > 0).all() and np.isfinite(chosen.weight).all()
    np.testing.assert_allclose(
        np.bincount(chosen.leaf, chosen.weight, leaves), dense.sum(axis=1), rtol=1e-9
    )
    assert (chosen.probability > 0).all() and (chosen.probability <= 1).all()
    assert (
        (chosen.error <= chosen.drawn_error * (1 + 1e-9) + 1e-12).all()
        if balanced and penalty == 0
        else True
    )
    # Records no draw can leave out are there.
    for leaf in np.flatnonzero(chosen.per_leaf):
        certain = np.flatnonzero(
            inclusion_probabilities(dense[leaf], int(chosen.per_leaf[leaf])) >= 1
        )
        assert set(certain) <= set(chosen.record[chosen.leaf == leaf])
    # Mass of cells without a pair is all counted, and goes to cells that have one.
    kinds = int(category.max()) + 1
    mass, count = np.zeros((leaves, kinds)), np.zeros((leaves, kinds))
    np.add.at(mass.T, category, dense.T)
    np.add.at(count, (chosen.leaf, category[chosen.record]), 1)
    lost = (mass > 0) & (count == 0)
    assert chosen.categories_lost == lost.sum() == chosen.moved.shape[0]
    assert chosen.moved_mass.sum() == pytest.approx(mass[lost].sum(), rel=1e-9)
    assert chosen.mass_lost == pytest.approx(mass[lost].sum() / mass.sum(), rel=1e-9)
    assert (
        lost[chosen.moved[:, 0], chosen.moved[:, 1]].all()
        and (count[chosen.moved[:, 0], chosen.moved[:, 2]] > 0).all()
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(DESIGNS), st.booleans())
def test_rounded_counts_of_every_category_are_those_expected_rounded(seed, design, balanced):
    dense, category, order, balance, families, budget, floor = random_problem(seed)
    chosen = drawn_from(
        dense,
        category,
        order,
        budget,
        seed,
        floor=floor,
        design=design,
        exchanges=0,
        families=families[:2],
        balance=balance if balanced else None,
    )
    kinds, leaves = int(category.max()) + 1, dense.shape[0]
    area = np.repeat(np.arange(leaves), np.diff(chosen.candidates.offsets))
    expected = np.bincount(
        area * kinds + category[chosen.candidates.record],
        chosen.candidates.probability,
        leaves * kinds,
    ).reshape(leaves, kinds)
    count = np.bincount(
        chosen.leaf * kinds + category[chosen.record], minlength=leaves * kinds
    ).reshape(leaves, kinds)
    for family in [np.eye(kinds, dtype=bool), *families[:2]]:
        wanted, got = expected @ family.T, count @ family.T
        assert (got >= np.floor(wanted + 1e-7) - 1e-9).all() and (
            got <= np.ceil(wanted - 1e-7) + 1e-9
        ).all()
    assert chosen.rounding_misses == 0
    # Probabilities of the draw without rounding are those of the dense weights.
    for leaf in np.flatnonzero(chosen.per_leaf):
        here = chosen.leaf == leaf
        want = inclusion_probabilities(dense[leaf], int(chosen.per_leaf[leaf]))[chosen.record[here]]
        np.testing.assert_allclose(chosen.probability[here], want, rtol=1e-6)
        assert (chosen.certain[here] == (want >= 1 - 1e-9)).all()


@pytest.mark.parametrize("design", DESIGNS)
def test_an_area_is_drawn_alike_whatever_other_areas_there_are(design):
    """Random numbers come from (seed, number of the area): the first two areas alone are the first
    two of five.
    """
    rng = np.random.default_rng(5)
    dense, category, order, rows = (
        rng.lognormal(0, 1, (5, 80)),
        rng.integers(0, 6, 80),
        rng.random(80),
        rng.normal(size=(80, 3)) + 2,
    )
    families = [np.arange(6)[None, :] // 2 == np.arange(3)[:, None]]
    per_leaf = np.array([12, 9, 14, 7, 20])

    def draw(areas):
        part = dense[:areas]
        options = SelectionSettings(int(per_leaf[:areas].sum()), 3, design=design)
        return select_pairs(
            part,
            category,
            order,
            options,
            balance=Balance(rows, part @ rows, np.ones((areas, 3))),
            families=families,
            per_leaf=per_leaf[:areas],
        )

    some, all_ = draw(2), draw(5)
    kept = all_.leaf < 2
    assert some.record.tolist() == all_.record[kept].tolist()
    assert some.exchanges.tolist() == all_.exchanges[:2].tolist() and some.exchanges.sum() > 0
    np.testing.assert_allclose(some.weight, all_.weight[kept], rtol=1e-12)


@pytest.mark.parametrize("design", DESIGNS)
def test_threads_change_nothing(design):
    dense, category, order, balance, families, _, _ = random_problem(17)
    budget = int((dense > 0).sum()) // 2
    one, two = (
        drawn_from(
            dense,
            category,
            order,
            budget,
            1,
            design=design,
            balance=balance,
            families=families,
            threads=threads,
            candidates=4,
        )
        for threads in (1, 3)
    )
    assert one.record.tolist() == two.record.tolist() and one.weight.tolist() == two.weight.tolist()


def test_cells_lost_go_to_the_nearest_cell_that_has_a_pair():
    dense = np.array([[10.0, 4.0, 3.0, 2.0], [0.0, 0.0, 5.0, 5.0]])
    category, affinity = (
        np.array([0, 1, 2, 3]),
        np.array([[3, 1, 0, 0], [1, 3, 0, 2], [0, 0, 3, 1], [0, 2, 1, 3]]),
    )
    lost, share, moved, mass = cells_lost(
        dense, category, np.array([0, 0, 1]), np.array([0, 3, 2]), affinity
    )
    assert lost == 3 and share == pytest.approx(12.0 / 29.0)
    # Cell 1 is nearer to 3 than to 0; 2 to 3; in the second area 2 is all there is.
    assert moved.tolist() == [[0, 1, 3], [0, 2, 3], [1, 3, 2]] and mass.tolist() == [4.0, 3.0, 5.0]


@pytest.mark.parametrize("per_leaf", [np.array([2, 2]), np.array([2, 1, 1])])
def test_pairs_given_for_each_leaf_must_fit(per_leaf):
    with pytest.raises(ProblemError, match="per_leaf"):
        select_pairs(
            np.ones((2, 3)),
            np.zeros(3, dtype=int),
            np.arange(3.0),
            SelectionSettings(5, 1),
            per_leaf=per_leaf,
        )


def test_pairs_given_for_each_leaf_are_what_each_leaf_gets():
    rng = np.random.default_rng(0)
    dense, per_leaf = rng.random((4, 30)), np.array([1, 30, 0, 7])
    chosen = select_pairs(
        dense, np.zeros(30, dtype=int), rng.random(30), SelectionSettings(38, 1), per_leaf=per_leaf
    )
    assert (
        np.bincount(chosen.leaf, minlength=4).tolist()
        == per_leaf.tolist()
        == chosen.per_leaf.tolist()
    )
    with pytest.raises(BudgetError):
        select_pairs(
            dense * (np.arange(30) < 20),
            np.zeros(30, dtype=int),
            rng.random(30),
            SelectionSettings(38, 1),
            per_leaf=per_leaf,
        )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("design", "lottery"),
        ("rule", "given"),
        ("candidates", 0),
        ("rounds", -1),
        ("cell_penalty", math.nan),
        ("budget", 0),
    ],
)
def test_settings_that_mean_nothing_are_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        SelectionSettings(**{"budget": 10, "seed": 1} | {name: value})


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.floats(0.0, 1e6), min_size=1, max_size=30), st.integers(1, 10), st.integers(0, 400)
)
def test_allocation_sums_exactly_and_keeps_bounds(sizes, floor, extra):
    size = np.array(sizes)
    ceiling = np.full(size.size, 50)
    budget = min(size.size + extra, int(ceiling.sum()))
    share = allocate(budget, size, floor=floor, ceiling=ceiling)
    assert share.sum() == budget
    assert (share <= ceiling).all()
    assert (share >= min(floor, budget // size.size)).all()


def test_allocation_is_proportional_where_nothing_binds():
    assert allocate(100, np.array([1.0, 2.0, 7.0]), floor=1, ceiling=np.full(3, 1000)).tolist() == [
        10,
        20,
        70,
    ]


def test_nobody_lives_there_nobody_is_drawn():
    dense = np.array([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    chosen = select_pairs(
        dense, np.zeros(3, dtype=int), np.arange(3.0), SelectionSettings(2, seed=1, floor=1)
    )
    assert chosen.per_leaf.tolist() == [2, 0]


@pytest.mark.parametrize(
    ("budget", "words"),
    [
        pytest.param(1, "k is 1 for 2 areas", id="fewer than areas"),
        pytest.param(9, "only 6 pairs exist", id="more than pairs"),
    ],
)
def test_impossible_budgets_are_refused_with_the_numbers(budget, words):
    with pytest.raises(BudgetError, match=words):
        select_pairs(
            np.ones((2, 3)),
            np.zeros(3, dtype=int),
            np.arange(3.0),
            SelectionSettings(budget, seed=1, floor=1),
        )


def test_probabilities_cap_at_one_and_sum_to_the_count():
    probability = inclusion_probabilities(np.array([100.0, 1.0, 1.0, 1.0, 1.0]), 3)
    assert probability.tolist() == [1.0, 0.5, 0.5, 0.5, 0.5]


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("design", DESIGNS)
def test_draws_follow_the_probabilities(design, rounded):
    """Over many seeds each record is drawn about as often as its probability says, so
    Horvitz-Thompson totals are unbiased; also where the counts of cells were rounded first, and
    some records are certain or nearly so.
    """
    weights = np.array([[9.0, 1.0, 1.0, 2.3, 1.0, 2.0, 0.5, 0.5, 0.4, 0.6]])
    category = np.array([0, 1, 0, 1, 0, 1, 0, 1, 2, 2])
    families = [np.array([[True, True, False], [False, False, True]])] if rounded else []
    balance = Balance(
        np.column_stack([np.ones(10), np.arange(10.0)]), np.array([[18.3, 60.0]]), np.ones((1, 2))
    )
    hits = np.zeros(10)
    for seed in range(1000):
        chosen = drawn_from(
            weights,
            category,
            np.arange(10.0),
            5,
            seed,
            design=design,
            families=families,
            balance=balance,
            exchanges=0,
            candidates=10,
        )
        hits[chosen.record] += 1
    expected = inclusion_probabilities(weights[0], 5)
    assert hits[expected == 1].tolist() == [1000.0]
    assert np.abs(hits / 1000 - expected).max() < 0.05


def test_each_category_gets_its_share_rounded_down_or_up():
    rng = np.random.default_rng(3)
    dense = rng.random((5, 400)) + 0.5
    category = rng.integers(0, 6, 400)
    chosen = select_pairs(
        dense, category, rng.random(400), SelectionSettings(5 * 40, seed=9, floor=1, power=0.0)
    )
    for leaf in range(5):
        probability = inclusion_probabilities(dense[leaf], int(chosen.per_leaf[leaf]))
        for kind in range(6):
            expected = probability[category == kind].sum()
            got = int((category[chosen.record[chosen.leaf == leaf]] == kind).sum())
            assert np.floor(expected) - 1 <= got <= np.ceil(expected) + 1


def test_the_same_seed_draws_the_same_pairs_and_another_does_not():
    dense = np.random.default_rng(0).random((3, 50)) + 0.1
    draw = [
        select_pairs(
            dense, np.zeros(50, dtype=int), np.arange(50.0), SelectionSettings(30, seed=s)
        ).record.tolist()
        for s in (1, 1, 2)
    ]
    assert draw[0] == draw[1]
    assert draw[0] != draw[2]


def test_a_balanced_draw_errs_less_and_exchanges_less_still():
    rng = np.random.default_rng(4)
    dense, rows = rng.random((6, 200)) + 0.1, rng.normal(size=(200, 3)) + 2
    balance = Balance(rows, dense @ rows, np.ones((6, 3)))
    zeros, order = np.zeros(200, dtype=int), rng.random(200)

    def error(design, exchanges):
        chosen = drawn_from(
            dense, zeros, order, 120, 5, design=design, exchanges=exchanges, balance=balance
        )
        totals = np.zeros((6, 3))
        np.add.at(totals, chosen.leaf, chosen.weight[:, None] * rows[chosen.record])
        found = np.sqrt(((totals - dense @ rows) ** 2).mean(axis=1))
        np.testing.assert_allclose(chosen.error, found, rtol=1e-6, atol=1e-9)
        return float((found**2).sum())

    plain, balanced, exchanged = error("systematic", 0), error("cube", 0), error("cube", 8)
    assert balanced < 0.3 * plain and exchanged < 0.01 * balanced


def test_lost_categories_are_counted():
    dense = np.array([[10.0, 10.0, 1e-6]])
    chosen = select_pairs(
        dense, np.array([0, 0, 1]), np.arange(3.0), SelectionSettings(2, seed=0, floor=1)
    )
    assert chosen.categories_lost == 1
    assert chosen.mass_lost == pytest.approx(1e-6 / 20, rel=1e-3)


def rare_problem():
    """Two counties of two tracts; one record of 60 carries a rare trait, with little weight
    everywhere.
    """
    rng = np.random.default_rng(11)
    tree = GeographyTree.from_leaves(
        ["county", "tract"], [["a", "a", "b", "b"], ["a1", "a2", "b1", "b2"]]
    )
    dense = rng.random((4, 60)) + 1.0
    dense[:, 59] = 1e-3
    design = np.zeros((60, 2))
    design[:, 0] = 1.0
    design[59, 1] = 2.0
    return tree, dense, [design, design]


def test_a_rare_target_gets_one_pair_back_and_k_stays():
    tree, dense, designs = rare_problem()
    drawn = select_pairs(
        dense, np.zeros(60, dtype=int), np.arange(60.0), SelectionSettings(40, seed=1, floor=1)
    )
    assert 59 not in drawn.record
    kept = ensure_support(
        drawn, dense, tree, designs, [np.ones((2, 2), dtype=bool), np.array([[True, False]] * 4)]
    )
    assert kept.leaf.size == 40
    assert len(set(zip(kept.leaf.tolist(), kept.record.tolist(), strict=True))) == 40
    assert kept.rescued == ((0, 0, 1), (0, 1, 1))
    assert kept.without_support == ()
    assert {int(tree.ancestor_of_leaves(0)[t]) for t in kept.leaf[kept.record == 59]} == {0, 1}
    assert (kept.weight > 0).all()
    assert np.allclose(np.bincount(kept.leaf, kept.weight), dense.sum(axis=1))


def test_nothing_is_exchanged_where_every_target_has_a_pair():
    tree, dense, designs = rare_problem()
    drawn = select_pairs(
        dense, np.zeros(60, dtype=int), np.arange(60.0), SelectionSettings(40, seed=1, floor=1)
    )
    same = ensure_support(
        drawn, dense, tree, designs, [np.array([[True, False]] * 2), np.array([[True, False]] * 4)]
    )
    assert same.rescued == ()
    assert same.record.tolist() == drawn.record.tolist()
    assert same.weight.tolist() == drawn.weight.tolist()


def test_a_hamlet_is_not_split_into_crumbs_unless_the_budget_asks_for_it():
    dense = np.array([[0.5, 1.5, 1.0] + [0.05] * 37, [30.0] * 40])
    modest = select_pairs(
        dense, np.zeros(40, dtype=int), np.arange(40.0), SelectionSettings(30, seed=1, floor=20)
    )
    assert modest.per_leaf.tolist() == [4, 26]
    everything = select_pairs(
        dense, np.zeros(40, dtype=int), np.arange(40.0), SelectionSettings(80, seed=1, floor=20)
    )
    assert everything.per_leaf.tolist() == [40, 40]


def test_leaf_targets_are_rescued_too_and_never_at_the_cost_of_another():
    """Eight rare traits, one record each, in areas of twelve pairs: all get a pair, and no exchange
    takes away the last of another.
    """
    rng = np.random.default_rng(2)
    tree = GeographyTree.from_leaves(["county", "tract"], [["a", "a", "b"], ["a1", "a2", "b1"]])
    dense = rng.random((3, 80)) + 0.5
    dense[:, 70:78] = 1e-3
    design = np.zeros((80, 9))
    design[:, 0] = 1.0
    design[np.arange(70, 78), np.arange(1, 9)] = 1.0
    drawn = select_pairs(
        dense, np.zeros(80, dtype=int), np.arange(80.0), SelectionSettings(36, seed=3, floor=12)
    )
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
    drawn = select_pairs(
        dense, np.zeros(6, dtype=int), np.arange(6.0), SelectionSettings(3, seed=3, floor=1)
    )
    kept = ensure_support(drawn, dense, tree, [design], [np.ones((1, 6), dtype=bool)])
    assert kept.record.size == 3
    assert len(kept.without_support) == 3
