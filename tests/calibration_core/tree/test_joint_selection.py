"""Choosing and weighing together: k through rounds and rescue, the same draw whatever the threads,
refits within limits and near the totals.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from threadpoolctl import threadpool_limits

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, make_targets
from calibration_core.tree.rivals.hybrid import run as run_hybrid
from calibration_core.tree.rivals.task import PairTask
from calibration_core.tree.select.balance import balance_of
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.lost import lost_cells
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import DESIGNS
from calibration_core.tree.select.weight_limits import WeightLimits
from tests.calibration_core.state_case import REFINE, joint, make_state, random_problem


@pytest.fixture(scope="module")
def case():
    return make_state()


def check(pool: Pool, chosen, pairs: int) -> None:
    """What every selection promises."""
    assert chosen.leaf.size == pairs
    listed = list(zip(chosen.leaf.tolist(), chosen.record.tolist(), strict=True))
    assert listed == sorted(set(listed))
    counts = np.bincount(chosen.leaf, minlength=pool.leaves)
    assert counts.tolist() == chosen.pairs_per_area.tolist()
    assert (pool.dense[chosen.leaf, chosen.record] > 0).all()
    assert (chosen.weight > 0).all()
    assert (chosen.probability > 0).all() and (chosen.probability <= 1).all()
    totals = np.bincount(chosen.leaf, chosen.weight, pool.leaves)
    np.testing.assert_allclose(totals, pool.totals, rtol=1e-9)


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("rounds", [0, 2])
def test_k_is_kept_through_rounds_and_rescue(case, design, rounds):
    for pairs in (7, 200, 160 * 7):
        chosen = select_jointly(case, joint(pairs, design=design, rounds=rounds, candidates=5))
        check(case, chosen, pairs)
        assert chosen.rounds == rounds
        lost = lost_cells(case, chosen.leaf, chosen.record)
        assert (chosen.lost.count, chosen.lost.moved.tolist()) == (lost.count, lost.moved.tolist())
        assert chosen.lost.share == pytest.approx(lost.share)
        assert chosen.lost.mass.sum() == pytest.approx(lost.mass.sum())


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(DESIGNS), st.integers(1, 8))
def test_whatever_the_problem_k_pairs_with_positive_weights_within_limits(seed, design, candidates):
    plain, balance, pairs, floor = random_problem(seed)
    dense, rng = plain.dense, np.random.default_rng(seed)
    names = [["a"] * plain.leaves, [f"{t}" for t in range(plain.leaves)]]
    tree = GeographyTree.from_leaves(["county", "tract"], names)
    designs = [balance.rows, balance.rows[:, :3]]
    values = [
        tree.sum_leaves(dense @ d, k) * rng.lognormal(0, 0.1, (tree.sizes[k], d.shape[1]))
        for k, d in enumerate(designs)
    ]
    least = 1e-3 * max(1.0, dense.sum())
    targets = make_targets(tree, designs, values, [np.maximum(0.05 * v, least) for v in values])
    attributes = np.column_stack([balance.rows, rng.random(plain.records)])
    pool = replace(plain, tree=tree, targets=targets, attributes=attributes)
    own = joint(
        pairs,
        seed=seed,
        design=design,
        candidates=candidates,
        rounds=2,
        limits=WeightLimits(0.5, 0.25),
    )
    own = replace(
        own,
        selection=replace(own.selection, floor=floor),
        refine=replace(REFINE, share=(), tau_path=(1.0, 0.1), tolerance=1e-6),
    )
    chosen = select_jointly(pool, own)
    check(pool, chosen, pairs)
    fit = refine_pairs(pool, chosen, own)
    total, count = pool.totals, np.maximum(chosen.pairs_per_area, 1)
    low, high = np.minimum(0.5, total / count / 2), np.maximum(0.25 * total, 2 * total / count)
    weights = fit.result.weights
    assert (weights > 0).all()
    assert (weights >= low[chosen.leaf] * (1 - 1e-9)).all()
    assert (weights <= high[chosen.leaf] * (1 + 1e-9)).all()
    small = (chosen.pairs_per_area > 0) & (total / count / 2 < 0.5)
    assert fit.relaxed_areas == tuple(np.flatnonzero(small))


def test_pairs_given_a_leaf_are_what_each_gets(case):
    per_leaf = np.array([10, 20, 30, 15, 25, 12, 8])
    chosen = select_jointly(case, joint(120), pairs_per_area=per_leaf)
    check(case, chosen, 120)
    assert chosen.pairs_per_area.tolist() == per_leaf.tolist()


def test_the_seed_decides_and_nothing_else(case):
    same, again, other = (select_jointly(case, joint(210, seed=seed)) for seed in (1, 1, 2))
    assert (
        same.record.tolist() == again.record.tolist()
        and same.weight.tolist() == again.weight.tolist()
    )
    assert same.record.tolist() != other.record.tolist()


def test_threads_change_nothing(case):
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(select_jointly(case, joint(140, rounds=2, threads=threads)))
    finally:
        torch.set_num_threads(before)
    one, two = found
    assert one.leaf.tolist() == two.leaf.tolist() and one.record.tolist() == two.record.tolist()
    np.testing.assert_allclose(one.weight, two.weight, rtol=1e-12)


def test_a_draw_without_rounds_does_not_know_what_other_leaves_there_are(case):
    """Refits tie leaves together through the levels above. A draw alone does not: the first
    county's tracts, numbered as they are in the state, are drawn alike with the other county and
    without it.
    """
    per_leaf = np.array([20, 25, 22, 18, 30, 21, 24])
    first = case.tree.parents[2] == 0
    assert first.tolist() == [True] * 3 + [False] * 4
    none = [np.full_like(s, np.inf) for s in case.targets.scales[:2]]
    alone = GeographyTree.from_leaves(
        ["county", "tract"], [[case.tree.geoids[1][0]] * 3, list(case.tree.leaves[:3])]
    )
    values, designs = case.targets.values, case.targets.designs
    few = make_targets(
        alone,
        designs[1:],
        [values[1][:1], values[2][:3]],
        [none[1][:1], case.targets.scales[2][:3]],
    )
    all_ = make_targets(case.tree, designs, values, [*none, case.targets.scales[2]])
    part = replace(case, tree=alone, targets=few, dense=case.dense[:3])
    case = replace(case, targets=all_)
    whole = select_jointly(case, joint(160, rounds=0), pairs_per_area=per_leaf)
    some = select_jointly(part, joint(67, rounds=0), pairs_per_area=per_leaf[:3])
    assert (
        some.record.tolist() == whole.record[whole.leaf < 3].tolist() and some.exchanges.sum() > 0
    )
    np.testing.assert_allclose(some.weight, whole.weight[whole.leaf < 3], rtol=1e-12)


def test_refitted_totals_of_tracts_come_nearer_with_exchanges_and_nearer_still_with_rounds(case):
    """Root mean square distance from the dense totals of all variables, in the scales of the
    balance, at one strength of the prior; over four seeds.
    """
    errors = []
    for options in ({"exchanges": 0.0}, {"rounds": 0}, {"rounds": 3}):
        total = 0.0
        for seed in range(4):
            settings = joint(7 * 15, seed=seed, **options)
            settings = replace(settings, refine=replace(settings.refine, tau_path=(0.3,)))
            chosen = select_jointly(case, settings)
            totals = np.zeros((7, case.attributes.shape[1]))
            np.add.at(
                totals,
                chosen.leaf,
                refine_pairs(case, chosen, settings).result.weights[:, None]
                * case.attributes[chosen.record],
            )
            balance = balance_of(case, np.full(7, 15))
            total += float((((totals - balance.goals) / balance.scales) ** 2).sum())
        errors.append(np.sqrt(total / totals.size / 4))
    assert errors[0] > 1.1 * errors[1] and errors[1] > 1.1 * errors[2]


def test_a_rare_target_gets_its_pair_whatever_the_rounds(case):
    """One record of 160 carries a trait that hardly weighs anything: county targets of it keep a
    pair, and all of it is told once.
    """
    dense = case.dense.copy()
    dense[:, 50] = 1e-3
    rare = np.zeros((160, 1))
    rare[50] = 2.0
    designs = [np.hstack([d, rare]) for d in case.targets.designs[:2]] + [case.targets.designs[2]]
    values = [np.hstack([v, np.full((v.shape[0], 1), 5.0)]) for v in case.targets.values[:2]] + [
        case.targets.values[2]
    ]
    scales = [np.hstack([s, np.ones((s.shape[0], 1))]) for s in case.targets.scales[:2]] + [
        case.targets.scales[2]
    ]
    targets = make_targets(case.tree, designs, values, scales)
    part = replace(case, dense=dense, targets=targets)
    for rounds in (0, 1, 3):
        chosen = select_jointly(part, joint(140, rounds=rounds))
        check(part, chosen, 140)
        assert set(case.tree.ancestor_of_leaves(1)[chosen.leaf[chosen.record == 50]]) == {0, 1}
        assert (0, 0, 7) in chosen.rescued and any(
            key[0] == 1 and key[2] == 7 for key in chosen.rescued
        )
        assert len(set(chosen.rescued)) == len(chosen.rescued) and chosen.without_support == ()


def test_certain_pairs_stay(case):
    """A record with half of a tract's weight is in every draw, through every round."""
    dense = case.dense.copy()
    dense[:, 3] = dense.sum(axis=1)
    chosen = select_jointly(replace(case, dense=dense), joint(140))
    assert set(chosen.leaf[chosen.record == 3]) == set(range(7))


def test_exchanges_that_end_at_their_limit_are_counted(case):
    assert select_jointly(case, joint(140, rounds=2)).stopped == 0
    few = select_jointly(case, joint(140, rounds=2, exchanges=0.1))
    # Two exchanges of twenty places: each of seven areas could go on, in the draw and in two
    # rounds.
    assert 7 <= few.stopped <= 21 and (few.exchanges <= 6).all()
    assert select_jointly(case, joint(140, exchanges=0.0)).stopped == 0


def test_progress_is_told(case):
    said = []
    select_jointly(case, joint(140, rounds=2), progress=said.append)
    assert len(said) == 3 and "drew 140 pairs" in said[0] and "round 2" in said[2]


def test_refitted_weights_keep_limits_and_come_near_the_totals(case):
    limits = WeightLimits(smallest=8.0, largest_share=0.05)
    settings = joint(210, limits=limits)
    chosen = select_jointly(case, settings)
    # One pair of each tract is made far too heavy, one far too light.
    start = chosen.weight.copy()
    first = np.searchsorted(chosen.leaf, np.arange(7))
    start[first], start[first + 1] = 20 * start[first], 1e-3 * start[first + 1]
    start *= (case.totals / np.bincount(chosen.leaf, start))[chosen.leaf]
    uneven = replace(chosen, weight=start)
    fit = refine_pairs(case, uneven, settings)
    weights, total = fit.result.weights, np.bincount(chosen.leaf, start)
    largest = np.maximum(0.05 * total, 2 * total / chosen.pairs_per_area)[chosen.leaf]
    assert fit.relaxed_areas == () and fit.limited > 0
    np.testing.assert_allclose(np.bincount(chosen.leaf, fit.starting), total, rtol=1e-9)
    assert weights.min() >= 8.0 * (1 - 1e-9) and (weights <= largest * (1 + 1e-9)).all()
    np.testing.assert_allclose(np.bincount(chosen.leaf, weights), total, rtol=0.05)
    free = refine_pairs(case, uneven, joint(210)).result.weights
    assert free.min() < 8.0 and (free > largest).any()
    # A least weight of more than half the mean cannot be asked of a tract.
    tight = refine_pairs(case, uneven, joint(210, limits=WeightLimits(smallest=20.0)))
    mean = total / chosen.pairs_per_area
    assert (
        tight.relaxed_areas == tuple(np.flatnonzero(mean / 2 < 20.0))
        and len(tight.relaxed_areas) > 0
    )
    assert (tight.result.weights >= np.minimum(20.0, mean / 2)[chosen.leaf] * (1 - 1e-9)).all()


def test_pairs_as_a_problem_are_refitted_as_the_selection_is(case):
    settings = joint(140, limits=WeightLimits(smallest=5.0))
    chosen = select_jointly(case, settings)
    one = refine_pairs(case, chosen, settings)
    two = refine_pairs(
        case,
        PairProblem(case.tree, case.targets, chosen.leaf, chosen.record, chosen.weight),
        settings,
    )
    assert one.result.weights.tolist() == two.result.weights.tolist()
    assert (one.limited, one.anchored, one.relaxed_areas) == (
        two.limited,
        two.anchored,
        two.relaxed_areas,
    )
    assert one.result.converged and [f.shape for f in one.result.fitted] == [
        v.shape for v in case.targets.values
    ]
    # An earlier refit's multipliers lead to the same weights.
    warm = refine_pairs(case, chosen, settings, start=one.result.multipliers)
    np.testing.assert_allclose(warm.result.weights, one.result.weights, rtol=1e-5)


def test_the_method_hybrid_is_selection_and_refit(case):
    """With the task's pairs a leaf, seed and refit, whatever the settings say of those."""
    per_leaf = np.full(7, 15)
    task = PairTask(case, per_leaf, 9, REFINE)
    settings = joint(
        3, seed=77, rounds=1, candidates=6, anchor_strength=0.5, limits=WeightLimits(smallest=4.0)
    )
    outcome = run_hybrid(task, settings)
    own = replace(settings, selection=replace(settings.selection, pairs=105, seed=9, floor=1))
    chosen = select_jointly(case, own, pairs_per_area=per_leaf)
    fit = refine_pairs(case, chosen, own)
    assert outcome.record.tolist() == chosen.record.tolist()
    assert (
        outcome.starting.tolist() == fit.starting.tolist()
        and outcome.weights.tolist() == fit.result.weights.tolist()
    )
    assert outcome.method == "hybrid" and outcome.converged


def test_threads_of_the_linear_algebra_choose_no_pair():
    # Sums taken by two threads differ in their last bits; a cube that balanced on them drew other
    # pairs.
    case = make_state(3, records=700, tracts=(20, 30))
    chosen = []
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            with threadpool_limits(threads, user_api="blas"):
                drawn = select_jointly(case, joint(1000, rounds=2))
        finally:
            torch.set_num_threads(before)
        chosen.append(drawn)
    one, two = chosen
    assert np.array_equal(one.leaf, two.leaf) and np.array_equal(one.record, two.record)
    assert np.array_equal(one.weight, two.weight)
