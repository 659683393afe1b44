"""What must not matter to the tree engine: order, start, threads, precision, sizes of weights.

Belongs here: invariances. Does not belong here: the right answer (``test_tree_properties.py``).
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from tests.calibration_core.tree.hierarchy_case import (
    HIERARCHIES,
    LINKS,
    TAU,
    TIGHT,
    Dense,
    as_pairs,
    linked,
    named,
    random_pool,
)


def relabelled(
    problem: PoolProblem, rng: np.random.Generator
) -> tuple[PoolProblem, np.ndarray, np.ndarray]:
    """Records, variables of every level, and areas of every level in another order; the order of
    leaves and of records comes along.
    """
    tree, t = problem.tree, problem.targets
    records = rng.permutation(problem.record_prior.size)
    columns = [rng.permutation(d.shape[1]) for d in t.designs]
    order = [rng.permutation(size) for size in tree.sizes]
    back = [np.argsort(o) for o in order]
    parents = tuple(
        back[d - 1][tree.parents[d][order[d]]] if d else tree.parents[0] for d in range(len(order))
    )
    other = GeographyTree(
        tree.levels,
        tuple(tuple(g[i] for i in o) for g, o in zip(tree.geoids, order, strict=True)),
        parents,
    )
    targets = make_targets(
        other,
        [d[records][:, c] for d, c in zip(t.designs, columns, strict=True)],
        [v[o][:, c] for v, o, c in zip(t.values, order, columns, strict=True)],
        [s[o][:, c] for s, o, c in zip(t.scales, order, columns, strict=True)],
    )
    return (
        PoolProblem(
            other,
            targets,
            problem.record_prior[records],
            problem.group[records],
            problem.leaf_prior[order[-1]],
        ),
        order[-1],
        records,
    )


@named
@linked
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_the_order_of_targets_records_and_siblings_does_not_matter(names, link, form):
    problem = random_pool(3, names)
    other, leaves, records = relabelled(problem, np.random.default_rng(1))
    chosen = replace(TIGHT, **LINKS[link])
    if form == "pool":
        first, second = (
            calibrate_tree(problem, chosen).weights,
            calibrate_tree(other, chosen).weights,
        )
    else:
        first, second = np.zeros(problem.prior().shape), np.zeros(problem.prior().shape)
        for weights, form_of in ((first, as_pairs(problem)), (second, as_pairs(other))):
            shuffled = np.lexsort(
                (np.random.default_rng(2).permutation(form_of.leaf.size), form_of.leaf)
            )
            pairs = PairProblem(
                form_of.tree,
                form_of.targets,
                form_of.leaf,
                form_of.record[shuffled],
                form_of.prior_weight[shuffled],
            )
            weights[pairs.leaf, pairs.record] = calibrate_tree(pairs, chosen).weights
    assert np.abs(first[leaves][:, records] - second).max() <= 1e-9 * first.max()


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(HIERARCHIES), st.sampled_from(sorted(LINKS)))
def test_any_start_leads_to_the_same_answer(seed, names, link):
    """A start with noise on the multipliers, enough to make some weights absurd, changes the way
    and not the end.
    """
    problem = random_pool(seed, names)
    chosen = replace(TIGHT, tau_path=(TAU,), **LINKS[link])
    cold = calibrate_tree(problem, chosen)
    rng = np.random.default_rng(seed)
    start = tuple(m + 0.3 * rng.normal(size=m.shape) for m in cold.multipliers)
    warm = calibrate_tree(problem, chosen, start=start)
    assert cold.converged
    assert warm.converged
    assert np.abs(cold.weights - warm.weights).max() <= 1e-8 * cold.weights.max()


def test_a_start_with_multipliers_of_targets_that_are_not_there_does_no_harm():
    """What a target of no scale once had for a multiplier pulls on nothing, in the weights and in
    the gap.
    """
    problem = random_pool(11, HIERARCHIES[-1])
    assert any(np.isinf(s).any() for s in problem.targets.scales)
    start = tuple(np.where(np.isinf(s), 7.0, 0.0) for s in problem.targets.scales)
    cold, warm = calibrate_tree(problem, TIGHT), calibrate_tree(problem, TIGHT, start=start)
    assert warm.converged
    assert np.abs(cold.weights - warm.weights).max() <= 1e-9 * cold.weights.max()
    assert warm.duality_gap < 1e-12


@linked
def test_single_precision_couplings_do_not_change_the_answer(link):
    """Columns that only levels above have, some of 1e7 dollars and nearly collinear, are coupled in
    single precision in the pool.
    """
    rng = np.random.default_rng(6)
    base = random_pool(6, HIERARCHIES[-1], records=20)
    t = base.targets
    amount = rng.lognormal(14.0, 1.5, 20)
    designs, values, scales = list(t.designs), list(t.values), list(t.scales)
    for depth in (0, 1):
        extra = np.column_stack([amount, amount * (1 + 1e-3 * rng.normal(size=20)), amount**1.1])
        total = base.tree.sum_leaves(base.prior(), depth) @ extra
        designs[depth] = np.column_stack([designs[depth], extra])
        values[depth] = np.column_stack(
            [values[depth], total * (1 + 0.02 * rng.normal(size=total.shape))]
        )
        scales[depth] = np.column_stack([scales[depth], 0.01 * total])
    pool = replace(base, targets=make_targets(base.tree, designs, values, scales))
    chosen = replace(TIGHT, **LINKS[link])
    single, double = calibrate_tree(pool, chosen), calibrate_tree(as_pairs(pool), chosen)
    dense = Dense.of(pool)
    expected = dense.weights(dense.solve(TAU, link), link)
    assert single.converged
    assert np.abs(single.weights.ravel() - expected).max() <= 1e-8 * expected.max()
    assert np.abs(single.weights[pool.prior() > 0] - double.weights).max() <= 1e-8 * expected.max()


@pytest.mark.parametrize("tau", [1.0, 0.1, 0.001])
@pytest.mark.parametrize("target", [1.0, 2.2, 4.0])
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_a_target_that_the_held_total_contradicts_does_not_stop_the_rest(tau, target, form):
    """Two records, the total held at 2, and a target for the same total of ``target``: its
    multiplier runs to a million and adds the same to every u, which means nothing. The other
    target, 1.2 for the first record, is met as if that one were not there.
    """
    tree = GeographyTree.from_leaves(["nation"], [["us"]])
    targets = make_targets(
        tree,
        [np.array([[1.0, 1.0], [1.0, 0.0]])],
        [np.array([[target, 1.2]])],
        [np.array([[0.01, 0.1]])],
    )
    pool = PoolProblem(tree, targets, np.ones(2), np.zeros(2, dtype=np.int64), np.ones((1, 1)))
    problem = pool if form == "pool" else as_pairs(pool)
    result = calibrate_tree(
        problem,
        TreeNewtonSettings(tau_path=(tau,), hold_total=True, tolerance=1e-7, prior_unit=1.0),
    )
    assert result.converged
    assert result.weights.sum() == pytest.approx(2.0, rel=1e-12)
    first = result.weights.ravel()[0]
    assert (first - 1.2) / 0.1 + tau * 0.1 * np.log(first / (2.0 - first)) == pytest.approx(
        0.0, abs=1e-6
    )
    again = calibrate_tree(
        problem,
        TreeNewtonSettings(tau_path=(tau,), hold_total=True, tolerance=1e-7, prior_unit=1.0),
        start=result.multipliers,
    )
    assert again.converged
    assert np.allclose(again.weights, result.weights, rtol=1e-6)


def test_weights_many_orders_of_magnitude_apart_do_not_break_the_factorisation():
    """A start that asks for weights of 1e13 in a pool of a few persons, where single-precision
    couplings leave blocks indefinite.
    """
    for names, seed in ((HIERARCHIES[2], 165), (HIERARCHIES[2], 34), (HIERARCHIES[3], 34)):
        problem = random_pool(seed, names)
        cold = calibrate_tree(problem, TIGHT)
        noise = np.random.default_rng(seed)
        warm = calibrate_tree(
            problem,
            TIGHT,
            start=tuple(m + 0.3 * noise.normal(size=m.shape) for m in cold.multipliers),
        )
        assert warm.converged
        assert np.abs(cold.weights - warm.weights).max() <= 1e-8 * cold.weights.max()


@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_the_number_of_threads_does_not_matter(form):
    problem = random_pool(8, HIERARCHIES[-1], records=60)
    problem = problem if form == "pool" else as_pairs(problem)
    before, answers = torch.get_num_threads(), []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            answers.append(calibrate_tree(problem, TIGHT).weights)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(answers[0], answers[1])
