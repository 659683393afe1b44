"""Reconciliation against hand calculation, a dense solve, and a generic convex solver."""

import cvxpy as cp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import ContradictionError, ProblemError
from calibration_core.geography import GeographyTree
from calibration_core.reconcile import reconcile

INF = np.inf


def tree_of(counties: int, tracts: int) -> GeographyTree:
    leaves = counties * tracts
    return GeographyTree.from_leaves(
        ["state", "county", "tract"], [["44"] * leaves, [f"c{i // tracts}" for i in range(leaves)], [f"t{i:03d}" for i in range(leaves)]]
    )


def incidence(tree: GeographyTree, depth: int) -> np.ndarray:
    matrix = np.zeros((tree.sizes[depth], len(tree.leaves)))
    matrix[tree.ancestor_of_leaves(depth), np.arange(len(tree.leaves))] = 1.0
    return matrix


def random_estimates(seed: int, tree: GeographyTree, *, missing: bool, spread: float = 1.0):
    rng = np.random.default_rng(seed)
    truth = rng.gamma(2.0, 20.0, size=len(tree.leaves))
    estimates, variances = [], []
    for depth in range(3):
        options = [0.5, 1.0, 9.0, INF] if missing and depth < 2 else [0.5, 1.0, 9.0]
        variance = rng.choice(options, size=tree.sizes[depth])
        estimates.append((incidence(tree, depth) @ truth + spread * rng.normal(size=tree.sizes[depth]) * 2)[:, None])
        variances.append(variance[:, None])
    return estimates, variances


def test_two_children_by_hand():
    """y = (10; 4, 4), v = (1; 1, 3): the sum 8 has variance 4, so the parent moves to 10 - 1/5 * 2 = 9.6 and 1.6 is shared 1 : 3."""
    tree = GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["a", "b"]])
    result = reconcile(tree, [np.array([[10.0]]), np.array([[4.0], [4.0]])], [np.array([[1.0]]), np.array([[1.0], [3.0]])])
    assert result.values[0][0, 0] == pytest.approx(9.6)
    assert result.values[1][:, 0] == pytest.approx([4.4, 5.2])
    assert result.variances[0][0, 0] == pytest.approx(0.8)
    assert result.chi_square[0] == pytest.approx(0.4**2 + 0.4**2 + 1.2**2 / 3)
    assert result.degrees_of_freedom[0] == 1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 5), st.booleans())
def test_equals_dense_weighted_least_squares(seed, counties, tracts, missing):
    """Values and variances equal those of (S' V^-1 S)^-1 on the written-out system, to 1e-10."""
    tree = tree_of(counties, tracts)
    y, v = random_estimates(seed, tree, missing=missing)
    result = reconcile(tree, y, v, nonnegative=[False])
    rows = np.vstack([incidence(tree, d) for d in range(3)])
    precision = np.concatenate([np.where(np.isinf(a[:, 0]), 0.0, 1.0 / a[:, 0]) for a in v])
    covariance = np.linalg.inv(rows.T @ (precision[:, None] * rows))
    leaf = covariance @ rows.T @ (precision * np.concatenate([a[:, 0] for a in y]))
    scale = np.abs(leaf).max()
    for depth in range(3):
        matrix = incidence(tree, depth)
        assert np.abs(result.values[depth][:, 0] - matrix @ leaf).max() <= 1e-10 * scale
        assert np.allclose(result.variances[depth][:, 0], np.diag(matrix @ covariance @ matrix.T), rtol=1e-10)


@pytest.mark.parametrize("seed", range(12))
def test_nonnegative_solution_equals_a_generic_solver(seed):
    rng = np.random.default_rng(seed)
    tree = tree_of(int(rng.integers(1, 4)), int(rng.integers(2, 5)))
    truth = rng.gamma(1.0, 2.0, size=len(tree.leaves))
    y, v = [], []
    for depth in range(3):
        y.append(np.abs(incidence(tree, depth) @ truth + 3 * rng.normal(size=tree.sizes[depth]))[:, None] - (depth == 2) * 1.5)
        v.append(rng.choice([0.5, 1.0, 4.0], size=(tree.sizes[depth], 1)))
    if seed % 3 == 0:
        v[0][:] = 0.0
    x = cp.Variable(len(tree.leaves), nonneg=True)
    objective, constraints = 0, []
    for depth in range(3):
        matrix = incidence(tree, depth)
        for node in range(tree.sizes[depth]):
            if v[depth][node, 0] == 0:
                constraints.append(matrix[node] @ x == y[depth][node, 0])
            else:
                objective += cp.square(matrix[node] @ x - y[depth][node, 0]) / v[depth][node, 0]
    cp.Problem(cp.Minimize(objective), constraints).solve(solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13)
    result = reconcile(tree, y, v)
    assert result.converged
    assert result.pinned[0] > 0 or (x.value > 1e-6).all()
    assert np.abs(result.values[2][:, 0] - x.value).max() < 1e-6


def test_levels_add_up_and_exact_nodes_are_kept():
    tree = tree_of(3, 4)
    y, v = random_estimates(5, tree, missing=True)
    v[0][:] = 0.0
    result = reconcile(tree, y, v)
    assert result.values[0][0, 0] == pytest.approx(y[0][0, 0], rel=1e-12)
    assert np.allclose(incidence(tree, 0) @ result.values[2], result.values[0], rtol=1e-12)
    assert np.allclose(incidence(tree, 1) @ result.values[2], result.values[1], rtol=1e-12)
    assert result.variances[0][0, 0] == 0.0


def test_one_suppressed_sibling_is_determined_and_two_are_not():
    tree = GeographyTree.from_leaves(["state", "county"], [["44"] * 3, ["a", "b", "c"]])
    top = (np.array([[100.0]]), np.array([[4.0]]))
    one = reconcile(tree, [top[0], np.array([[30.0], [50.0], [0.0]])], [top[1], np.array([[1.0], [2.0], [INF]])])
    assert one.values[1][2, 0] == pytest.approx(20.0)
    assert one.variances[1][2, 0] == pytest.approx(4.0 + 1.0 + 2.0)
    two = reconcile(tree, [top[0], np.array([[30.0], [0.0], [0.0]])], [top[1], np.array([[1.0], [INF], [INF]])])
    assert two.values[1][0, 0] == 30.0
    assert np.isnan(two.values[1][1:, 0]).all()
    assert np.isinf(two.variances[1][1:, 0]).all()


def test_variables_do_not_touch_each_other():
    tree = tree_of(2, 3)
    pairs = [random_estimates(seed, tree, missing=True) for seed in (1, 2)]
    together = reconcile(
        tree,
        [np.hstack([a, b]) for a, b in zip(pairs[0][0], pairs[1][0], strict=True)],
        [np.hstack([a, b]) for a, b in zip(pairs[0][1], pairs[1][1], strict=True)],
    )
    for i, (y, v) in enumerate(pairs):
        alone = reconcile(tree, y, v)
        assert all(np.array_equal(a[:, [i]], b, equal_nan=True) for a, b in zip(together.values, alone.values, strict=True))


def test_contradicting_exact_values_are_named():
    tree = GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["44001", "44003"]])
    with pytest.raises(ContradictionError, match="state 44 is exact at 10, but its exact parts sum to 9"):
        reconcile(tree, [np.array([[10.0]]), np.array([[4.0], [5.0]])], [np.zeros((1, 1)), np.zeros((2, 1))])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(lambda y, v: v[1].__setitem__((0, 0), -1.0), "negative or NaN", id="negative variance"),
        pytest.param(lambda y, v: y[1].__setitem__((0, 0), np.nan), "not finite", id="NaN estimate"),
        pytest.param(lambda y, v: y.__setitem__(1, y[1][:1]), "shape", id="wrong shape"),
        pytest.param(lambda y, v: y.pop(), "per level", id="missing level"),
    ],
)
def test_malformed_input_is_refused(change, words):
    tree = tree_of(2, 2)
    y, v = random_estimates(0, tree, missing=False)
    change(y, v)
    with pytest.raises(ProblemError, match=words):
        reconcile(tree, y, v)
