"""Columns that levels share, and totals that are held: what the nested benchmark rests on."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.blocks import match_columns
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pool_blocks import PoolBlocks
from calibration_core.tree.solve.sparse_records import SparseRecords
from tests.calibration_core.other_solvers import assert_same_problem

# that levels share


def small_tree(shared: bool, seed: int = 0) -> PoolProblem:
    """A nation of two states and five counties; with ``shared`` columns a county's variables are
    among the state's and the nation's.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(
        ("n", "s", "c"), (["n"] * 5, ["a", "a", "b", "b", "b"], list("vwxyz"))
    )
    wide = rng.poisson(0.4, (30, 9)).astype(float)
    designs = (
        [wide[:, [3, 0, 8, 1, 2]], wide[:, [2, 7, 0]], wide[:, :4]]
        if shared
        else [rng.poisson(1.0, (30, p)).astype(float) for p in (2, 3, 4)]
    )
    prior, leaf_prior = rng.gamma(2.0, 1.0, 30), rng.dirichlet(np.ones(5), 1).T
    tilted = leaf_prior * prior * np.exp(0.4 * rng.normal(size=(5, 30)))
    values = [tree.sum_leaves(tilted @ d, depth) for depth, d in enumerate(designs)]
    values = [v * np.exp(0.1 * rng.normal(size=v.shape)) for v in values]
    scales = [0.2 * np.abs(v) + 0.3 for v in values]
    return PoolProblem(
        tree,
        make_targets(tree, designs, values, scales),
        prior,
        np.zeros(30, dtype=np.int64),
        leaf_prior,
    )


def as_pairs(problem: PoolProblem) -> PairProblem:
    prior = problem.prior()
    leaf, record = np.nonzero(prior > 0)
    return PairProblem(problem.tree, problem.targets, leaf, record, prior[leaf, record])


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("tau", [1.0, 0.05])
def test_holding_the_total_minimises_the_log_partition_dual(shared, tau):
    """F(y) = N log(sum q exp(u) / N) - b'Dy + tau/2 |y|^2 for priors of any total N, against SciPy
    on the written-out matrix.
    """
    problem = small_tree(shared)
    t, tree = problem.targets, problem.tree
    prior = problem.prior().ravel()
    total = prior.sum()
    rows = [
        np.outer(tree.ancestor_of_leaves(k) == a, t.designs[k][:, j]).ravel()
        for k in range(3)
        for a in range(tree.sizes[k])
        for j in range(t.designs[k].shape[1])
    ]

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    x, b = np.array(rows).T / flat(t.scales), flat(t.values) / flat(t.scales)

    def value_and_gradient(y):
        w = prior * np.exp(x @ y)
        return (
            total * np.log(w.sum() / total) - b @ y + 0.5 * tau * y @ y,
            total * (w @ x) / w.sum() - b + tau * y,
        )

    found = optimize.minimize(
        value_and_gradient,
        np.zeros(b.size),
        jac=True,
        method="BFGS",
        options={"gtol": 1e-10, "maxiter": 10_000},
    )
    w = prior * np.exp(x @ found.x)
    settings = TreeNewtonSettings(
        tau_path=(1.0, 0.05) if tau < 1 else (1.0,), hold_total=True, tolerance=1e-9, prior_unit=1.0
    )
    for form in (problem, as_pairs(problem)):
        result = calibrate_tree(form, settings)
        assert result.converged and result.weights.sum() == pytest.approx(total, rel=1e-12)
        assert_same_problem(result.trace[-1].dual, found.fun, scale=1.0)
        assert np.abs(result.weights.ravel() - total * w / w.sum()).max() <= 1e-6 * w.max()
        np.testing.assert_allclose(
            flat(result.multipliers), found.x, atol=1e-5 * np.abs(found.x).max()
        )


@pytest.mark.parametrize("products", ["of what is not zero", "formed", "leaf by leaf"])
def test_pool_and_pairs_agree_on_columns_that_levels_share(products, monkeypatch):
    """However products of columns are taken, distinct columns once: the same weights as without any
    sharing of work.
    """
    from calibration_core.tree.solve import (
        dense_records,
        pair_blocks,
        pair_rows,
        record_pool,
        small_matrices,
    )

    problem = small_tree(shared=True)
    sparse, formed = products == "of what is not zero", products == "formed"
    monkeypatch.setattr(record_pool, "is_worth_it", lambda *columns: sparse)
    monkeypatch.setattr(dense_records, "MANY_LEAVES", 1 if formed else 1000)
    monkeypatch.setattr(pair_blocks, "MOST_FILLED", 1.0 if sparse else 0.0)
    monkeypatch.setattr(pair_rows, "STRIP", 2)
    monkeypatch.setattr(small_matrices, "STRIP", 2)
    taken = PoolBlocks(problem).pools.of(0).columns
    assert isinstance(taken, SparseRecords) == sparse
    assert getattr(taken, "formed", formed) == formed
    assert PairBlocks(as_pairs(problem)).listed == sparse
    assert PoolBlocks(problem).beyond == PairBlocks(as_pairs(problem)).beyond == 2
    settings = TreeNewtonSettings(tau_path=(1.0, 0.1), tolerance=1e-10)
    pool, pairs = (
        calibrate_tree(problem, settings).weights,
        calibrate_tree(as_pairs(problem), settings).weights,
    )
    np.testing.assert_allclose(pairs, pool.ravel(), atol=1e-10 * pool.max())
    # A column that differs in its last digit is another column, and the answer hardly moves.
    t = problem.targets
    apart = [d * (1.0 + 1e-15 * k) for k, d in enumerate(t.designs)]
    other = replace(problem, targets=make_targets(problem.tree, apart, t.values, t.scales))
    assert PoolBlocks(other).beyond > 2
    np.testing.assert_allclose(
        calibrate_tree(other, settings).weights, pool, atol=1e-9 * pool.max()
    )
    # Leaves long enough to be batches of their own give the same.
    monkeypatch.setattr(pair_blocks, "_LONG", 1)
    np.testing.assert_allclose(
        calibrate_tree(as_pairs(problem), settings).weights, pairs, atol=1e-10 * pool.max()
    )


def test_matching_columns():
    rng = np.random.default_rng(0)
    a = rng.random((50, 3))
    b = np.stack([a[:, 2], rng.random(50), -a[:, 0], a[:, 0]], axis=1)
    zeros = np.where(rng.random((50, 1)) < 0.5, 0.0, -0.0)
    c = np.concatenate([b[:, [1]], zeros, np.abs(zeros), a[:, [1]]], axis=1)
    index, first = match_columns([a, b, c])
    # Of a: 0 to 2; then b's second and third; then one column of zeros, whatever their signs.
    assert index.tolist() == [2, 3, 4, 0, 3, 5, 5, 1]
    assert first == [[0, 1, 2], [1, 2], [1]]
