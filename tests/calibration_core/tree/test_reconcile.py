"""Reconciliation against hand calculation, dense solves on random trees, and a generic non-negative
solver.
"""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import nnls
from scipy.stats import kstest

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import reconcile_tree
from tests.calibration_core.tree.reconcile_case import INF, estimates_of, incidence, tree_of

NAMES = ("nation", "state", "county", "tract", "block")


def random_tree(rng: np.random.Generator, levels: int, tops: int = 1) -> GeographyTree:
    """Unequal branching of one to four, areas of one parent scattered over the list, one or more
    areas at the top.
    """
    parents, count = [np.empty(0, dtype=np.int64)], tops
    for _ in range(levels - 1):
        branching = rng.integers(1, 5, size=count) if count < 30 else rng.integers(1, 3, size=count)
        parents.append(rng.permutation(np.repeat(np.arange(count), branching)))
        count = parents[-1].size
    geoids = tuple(
        tuple(f"{NAMES[d]}{i:03d}" for i in range(max(p.size, tops if d == 0 else 0)))
        for d, p in enumerate(parents)
    )
    return GeographyTree(NAMES[:levels], geoids, tuple(parents))


def dense(tree: GeographyTree, y, v) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """(value, variance, determined) per level by equality-constrained least squares on the
    written-out system: exact rows are met through their null space, the rest is a pseudo-inverse. A
    node is determined if its row lies in the span of the rows there are.
    """
    rows, values, variances = (
        np.vstack([incidence(tree, d) for d in range(len(y))]),
        np.concatenate(y)[:, 0],
        np.concatenate(v)[:, 0],
    )
    exact, known = variances == 0, np.isfinite(variances) & (variances > 0)
    start, basis = np.zeros(rows.shape[1]), np.eye(rows.shape[1])
    if exact.any():
        start = np.linalg.pinv(rows[exact], rcond=1e-10) @ values[exact]
        _, size, right = np.linalg.svd(rows[exact])
        basis = right[int((size > 1e-10).sum()) :].T
    error = np.sqrt(variances[known])
    design = rows[known] @ basis / error[:, None]
    # What exact rows settle leaves rounding here, and a pseudo-inverse takes rounding at its word.
    design[np.abs(design) < 1e-12] = 0.0
    inverse = np.linalg.pinv(design, rcond=1e-10)
    z = inverse @ ((values[known] - rows[known] @ start) / error)
    answers = []
    for depth in range(len(y)):
        matrix = incidence(tree, depth)
        row = matrix @ basis
        determined = np.abs(row - row @ inverse @ design).max(axis=1, initial=0.0) < 1e-8
        answers.append((matrix @ start + row @ z, ((row @ inverse) ** 2).sum(axis=1), determined))
    return answers


def test_two_children_by_hand():
    """y = (10; 4, 4), v = (1; 1, 3): the sum 8 has variance 4, so the parent moves to 10 - 1/5 * 2
    = 9.6 and 1.6 is shared 1 : 3.
    """
    tree = GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["a", "b"]])
    result = reconcile_tree(
        tree,
        [np.array([[10.0]]), np.array([[4.0], [4.0]])],
        [np.array([[1.0]]), np.array([[1.0], [3.0]])],
    )
    assert result.values[0][0, 0] == pytest.approx(9.6)
    assert result.values[1][:, 0] == pytest.approx([4.4, 5.2])
    assert result.variances[0][0, 0] == pytest.approx(0.8)
    assert result.variances[1][:, 0] == pytest.approx([1 - 1 / 5, 3 - 9 / 5])
    assert result.adjustments[1][:, 0] == pytest.approx([0.4, 1.2 / np.sqrt(3)])
    assert result.chi_square[0] == pytest.approx(0.4**2 + 0.4**2 + 1.2**2 / 3)
    assert result.chi_square[0] == pytest.approx(2.0**2 / 5)
    assert result.degrees_of_freedom[0] == 1


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.integers(1, 2),
    st.sampled_from([0.0, 0.15, 0.4]),
    st.sampled_from([0.0, 0.1, 0.4]),
)
def test_equals_a_dense_solve_on_random_trees(seed, levels, tops, missing, exact):
    """Values, variances and what is determined at all, to 1e-10, for one to five levels."""
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, levels, tops)
    y, v = estimates_of(rng, tree, missing=missing, exact=exact)
    result = reconcile_tree(tree, y, v, nonnegative=[False])
    scale = max(float(np.abs(np.concatenate(y)).max()), 1.0)
    for depth, (value, variance, determined) in enumerate(dense(tree, y, v)):
        assert np.array_equal(np.isfinite(result.variances[depth][:, 0]), determined)
        assert np.array_equal(np.isfinite(result.values[depth][:, 0]), determined)
        assert (
            np.abs(result.values[depth][:, 0] - value)[determined].max(initial=0.0) <= 1e-10 * scale
        )
        assert (
            np.abs(result.variances[depth][:, 0] - variance)[determined].max(initial=0.0)
            <= 1e-10 * 9.0
        )


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_chi_square_is_the_sum_of_squared_adjustments_and_counts_redundant_estimates(seed, levels):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, levels)
    y, v = estimates_of(rng, tree, missing=0.2, exact=0.0)
    result = reconcile_tree(tree, y, v, nonnegative=[False])
    known = np.isfinite(np.concatenate(v)[:, 0])
    rows = np.vstack([incidence(tree, d) for d in range(levels)])[known]
    assert result.degrees_of_freedom[0] == known.sum() - (
        np.linalg.matrix_rank(rows) if known.any() else 0
    )
    assert result.chi_square[0] == pytest.approx(
        sum(np.nansum(a**2) for a in result.adjustments), rel=1e-9, abs=1e-9
    )


def test_chi_square_has_its_distribution():
    """4,000 draws of honest errors, each a variable of one call: mean and spread of the chi-square,
    and uniform p-values.
    """
    rng = np.random.default_rng(20)
    tree = random_tree(rng, 5)
    truth = rng.gamma(2.0, 500.0, size=len(tree.leaves))
    y, v = [], []
    for depth in range(5):
        total = incidence(tree, depth) @ truth
        variance = rng.choice([0.0, 1.0, 25.0, INF], p=[0.1, 0.4, 0.4, 0.1], size=total.size)
        error = np.where(np.isfinite(variance), np.sqrt(variance), 0.0)
        y.append(total[:, None] + error[:, None] * rng.normal(size=(total.size, 4000)))
        v.append(np.repeat(variance[:, None], 4000, axis=1))
    result = reconcile_tree(tree, y, v, nonnegative=np.zeros(4000, dtype=bool))
    freedom = result.degrees_of_freedom[0]
    assert freedom > 10
    assert result.chi_square.mean() == pytest.approx(freedom, abs=4 * np.sqrt(2 * freedom / 4000))
    assert kstest(result.p_values, "uniform").pvalue > 0.01
    honest = [
        a / np.sqrt(1 - np.where(b > 0, u / b, 0.0))
        for a, u, b in zip(result.adjustments[1:2], result.variances[1:2], v[1:2], strict=True)
    ]
    moved = honest[0][np.isfinite(v[1][:, 0]) & (v[1][:, 0] > 0)]
    assert moved.std() == pytest.approx(1.0, abs=0.03)


def test_levels_that_disagree_are_told_by_level():
    """Counties 20 standard errors above the state, tracts in line with counties: the state's row
    says so, the counties' does not.
    """
    rng = np.random.default_rng(1)
    tree = tree_of(6, 5)
    tracts = rng.gamma(5.0, 100.0, size=(30, 1))
    counties = tree.sum_leaves(tracts, 1)
    y = [
        counties.sum(axis=0, keepdims=True) - 20 * np.sqrt(6.0 + 1),
        counties + rng.normal(size=(6, 1)),
        tracts + rng.normal(size=(30, 1)),
    ]
    result = reconcile_tree(tree, y, [np.ones(a.shape) for a in y])
    assert result.level_chi_square[0, 0] > 100
    assert result.level_degrees_of_freedom[:, 0].tolist() == [1, 6, 0]
    assert result.level_chi_square[1, 0] < 30
    assert result.p_values[0] < 1e-20
    assert "chi-square over degrees of freedom" in result.summary()


def stacked(tree: GeographyTree, y, v) -> tuple[np.ndarray, np.ndarray]:
    """Rows over standard errors; exact rows by Lawson and Hanson's weighting."""
    rows, values, variances = (
        np.vstack([incidence(tree, d) for d in range(len(y))]),
        np.concatenate(y)[:, 0],
        np.concatenate(v)[:, 0],
    )
    known = np.isfinite(variances)
    weight = np.where(
        variances[known] > 0, 1.0 / np.sqrt(np.maximum(variances[known], 1e-300)), 1e6
    )
    return rows[known] * weight[:, None], values[known] * weight


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 10**6),
    st.integers(1, 5),
    st.sampled_from([0.0, 0.1, 0.3]),
    st.sampled_from([0.0, 0.2]),
)
def test_nonnegative_solution_equals_a_generic_solver(seed, levels, missing, exact):
    """Against Lawson and Hanson's NNLS, with estimates low enough that many leaves end at zero;
    every determined value, to rounding.
    """
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, levels)
    truth = rng.gamma(0.5, 2.0, size=len(tree.leaves)) * (rng.random(len(tree.leaves)) < 0.6)
    y, v = estimates_of(rng, tree, missing=missing, exact=exact, noise=3.0, truth=truth)
    result = reconcile_tree(tree, y, v)
    matrix, right = stacked(tree, y, v)
    expected, _ = nnls(matrix, right, maxiter=10_000)
    assert result.converged
    assert np.nanmin(result.values[-1], initial=0.0) >= 0
    assert np.array_equal(result.held[:, 0].sum(), result.pinned[0])
    assert (result.values[-1][result.held] == 0).all()
    tolerance = (1e-10 if not exact else 1e-7) * max(
        float(np.abs(right / np.abs(matrix).max(axis=1, initial=1e-300)).max(initial=1.0)), 1.0
    )
    for depth in range(levels):
        known = np.isfinite(result.values[depth][:, 0])
        assert (
            np.abs(result.values[depth][:, 0] - incidence(tree, depth) @ expected)[known].max(
                initial=0.0
            )
            <= tolerance
        )


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10**6), st.integers(2, 5))
def test_a_leaf_once_held_at_zero_stays_there(seed, levels):
    """The matrix is ultrametric, so the active set only grows: at the answer every held leaf has a
    gradient that is not negative.
    """
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, levels)
    y, v = estimates_of(
        rng,
        tree,
        missing=0.0,
        exact=0.0,
        noise=4.0,
        truth=rng.gamma(0.3, 3.0, size=len(tree.leaves)),
    )
    result = reconcile_tree(tree, y, v)
    gradient = sum(incidence(tree, d).T @ ((result.values[d] - y[d]) / v[d]) for d in range(levels))
    assert np.abs(gradient[~result.held]).max(initial=0.0) < 1e-9
    assert gradient[result.held].min(initial=0.0) > -1e-9


def test_levels_add_up_and_exact_nodes_are_kept():
    tree, rng = tree_of(3, 4), np.random.default_rng(5)
    y, v = estimates_of(rng, tree, missing=0.0, exact=0.0)
    v[0][:] = 0.0
    result = reconcile_tree(tree, y, v)
    assert result.values[0][0, 0] == y[0][0, 0]
    assert np.allclose(incidence(tree, 0) @ result.values[2], result.values[0], rtol=1e-12)
    assert np.allclose(incidence(tree, 1) @ result.values[2], result.values[1], rtol=1e-12)
    assert result.variances[0][0, 0] == 0.0
    assert result.adjustments[0][0, 0] == 0.0


def test_a_parent_with_one_child_shares_its_value_and_variance_to_the_last_digit():
    """A county of one tract, the county known a billion times better."""
    tree = GeographyTree.from_leaves(["county", "tract"], [["c"], ["t"]])
    result = reconcile_tree(
        tree, [np.array([[100.0]]), np.array([[90.0]])], [np.array([[1e-9]]), np.array([[1e2]])]
    )
    assert result.values[1][0, 0] == pytest.approx(result.values[0][0, 0], rel=1e-15)
    assert result.variances[1][0, 0] == pytest.approx(1 / (1e9 + 1e-2), rel=1e-12)


def test_variables_do_not_touch_each_other():
    rng = np.random.default_rng(0)
    tree = tree_of(2, 3)
    pairs = [estimates_of(rng, tree, missing=0.2, exact=0.0) for _ in range(2)]
    together = reconcile_tree(
        tree,
        [np.hstack([a, b]) for a, b in zip(pairs[0][0], pairs[1][0], strict=True)],
        [np.hstack([a, b]) for a, b in zip(pairs[0][1], pairs[1][1], strict=True)],
    )
    for i, (y, v) in enumerate(pairs):
        alone = reconcile_tree(tree, y, v)
        assert all(
            np.array_equal(a[:, [i]], b, equal_nan=True)
            for a, b in zip(together.values, alone.values, strict=True)
        )


def test_the_order_of_siblings_does_not_matter():
    rng = np.random.default_rng(3)
    tree = random_tree(rng, 4)
    y, v = estimates_of(rng, tree, missing=0.1, exact=0.1, noise=20.0)
    order = [rng.permutation(size) for size in tree.sizes]
    back = [np.argsort(o) for o in order]
    parents = tuple(
        back[d - 1][tree.parents[d][order[d]]] if d else tree.parents[0] for d in range(4)
    )
    other = GeographyTree(
        tree.levels,
        tuple(tuple(g[i] for i in o) for g, o in zip(tree.geoids, order, strict=True)),
        parents,
    )
    first = reconcile_tree(tree, y, v)
    second = reconcile_tree(
        other,
        [a[o] for a, o in zip(y, order, strict=True)],
        [a[o] for a, o in zip(v, order, strict=True)],
    )
    for depth in range(4):
        assert np.allclose(
            first.values[depth][order[depth]],
            second.values[depth],
            rtol=1e-9,
            atol=1e-9,
            equal_nan=True,
        )
        assert np.allclose(
            first.variances[depth][order[depth]], second.variances[depth], rtol=1e-9, atol=1e-9
        )


def test_many_spans_give_what_one_gives(monkeypatch):
    """Leaves are taken in spans; where spans end does not matter, even with siblings scattered over
    all of them.
    """
    rng = np.random.default_rng(9)
    tree = random_tree(rng, 5)
    y, v = estimates_of(rng, tree, missing=0.1, exact=0.1, noise=30.0)
    whole = reconcile_tree(tree, y, v)
    monkeypatch.setattr("calibration_core.tree.reconcile.sweeps._ENTRIES_AT_A_TIME", 7)
    parts = reconcile_tree(tree, y, v)
    for a, b in zip(
        (*whole.values, *whole.variances), (*parts.values, *parts.variances), strict=True
    ):
        assert np.allclose(a, b, rtol=1e-12, atol=1e-12, equal_nan=True)


def test_memory_is_a_few_times_what_comes_in_and_out():
    rng = np.random.default_rng(2)
    tree, width = tree_of(40, 500), 12
    y = [
        rng.gamma(2.0, 5.0, size=(size, width)) * (20_000 / size) - 3.0 * (size > 40)
        for size in tree.sizes
    ]
    v = [np.full(a.shape, 9.0) for a in y]
    tracemalloc.start()
    result = reconcile_tree(tree, y, v)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.pinned.sum() > 0
    assert peak < 6 * y[-1].nbytes
