"""Bounds for each pair of a PairProblem: weights inside, the optimum that independent solvers find,
the scalar form where all are equal.
"""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest
from scipy.optimize import root
from scipy.special import expit

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from tests.calibration_core.other_solvers import assert_same_problem

TAU = 0.1
TIGHT = TreeNewtonSettings(tau_path=(1.0, TAU), tolerance=1e-11, prior_unit=1.0)


def small_problem(seed: int, levels: int = 3) -> PairProblem:
    """Two counties of three tracts, eight pairs a tract (five in the first); each pair with bounds
    of its own, some of them narrow.
    """
    rng = np.random.default_rng(seed)
    names = [["44"] * 6, ["a", "b"] * 3, [f"t{i}" for i in range(6)]]
    tree = GeographyTree.from_leaves(["state", "county", "tract"][-levels:], names[-levels:])
    leaf = np.repeat(np.arange(6), [5, 8, 8, 8, 8, 8])
    record = rng.integers(0, 20, leaf.size)
    prior = rng.gamma(3.0, 2.0, leaf.size)
    designs, values, scales = [], [], []
    for depth in range(levels):
        design = rng.poisson(1.0, size=(20, 3)).astype(float)
        total = np.zeros((tree.sizes[depth], 3))
        np.add.at(total, tree.ancestor_of_leaves(depth)[leaf], design[record] * prior[:, None])
        designs.append(design)
        values.append(total * (1 + 0.15 * rng.normal(size=total.shape)))
        scales.append(0.03 * total + 0.1)
    bounds = np.column_stack(
        [rng.uniform(0.0, 0.97, leaf.size), 1.0 + rng.gamma(1.0, 0.5, leaf.size) + 0.03]
    )
    return PairProblem(
        tree, make_targets(tree, designs, values, scales), leaf, record, prior, bounds
    )


def rows_and_right(problem: PairProblem) -> tuple[np.ndarray, np.ndarray]:
    """Every target as a row over all pairs, divided by its scale."""
    rows, right, t = [], [], problem.targets
    for depth in range(len(problem.tree.levels)):
        area = problem.tree.ancestor_of_leaves(depth)[problem.leaf]
        for a, j in np.ndindex(t.values[depth].shape):
            rows.append(
                np.where(area == a, t.designs[depth][problem.record, j], 0.0)
                / t.scales[depth][a, j]
            )
            right.append(t.values[depth][a, j] / t.scales[depth][a, j])
    return np.array(rows), np.array(right)


@pytest.mark.parametrize("levels", [1, 2, 3])
@pytest.mark.parametrize("seed", range(3))
def test_weights_equal_those_at_a_root_of_the_dual_gradient(seed, levels):
    problem = small_problem(seed, levels)
    rows, right = rows_and_right(problem)
    low, high = problem.ratio_bounds.T
    steep = (high - low) / ((1 - low) * (high - 1))

    def weights(y):
        return problem.prior_weight * (
            low + (high - low) * expit(steep * (rows.T @ y) + np.log((1 - low) / (high - 1)))
        )

    def hessian(y, tau):
        ratio = weights(y) / problem.prior_weight
        slope = problem.prior_weight * (ratio - low) * (high - ratio) / ((1 - low) * (high - 1))
        return rows @ (slope[:, None] * rows.T) + tau * np.eye(right.size)

    y = np.zeros(right.size)
    for tau in (10.0, 1.0, 0.3, TAU):
        y = root(
            lambda y, tau=tau: rows @ weights(y) - right + tau * y,
            y,
            jac=lambda y, tau=tau: hessian(y, tau),
            options={"xtol": 1e-14},
        ).x
    assert np.abs(rows @ weights(y) - right + TAU * y).max() < 1e-9, (
        "the oracle itself must be at the optimum"
    )
    result = calibrate_tree(problem, TIGHT)
    assert result.converged
    assert np.allclose(result.weights, weights(y), rtol=1e-8)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
def test_a_cone_solver_finds_no_better_weights():
    problem = small_problem(5)
    rows, right = rows_and_right(problem)
    q, (low, high) = problem.prior_weight, problem.ratio_bounds.T
    steep = (high - low) / ((1 - low) * (high - 1))
    w = cp.Variable(q.size)
    below, above = cp.kl_div(w - low * q, (1 - low) * q), cp.kl_div(high * q - w, (high - 1) * q)
    objective = 0.5 * cp.sum_squares(rows @ w - right) + TAU * cp.sum(
        cp.multiply(1 / steep, below + above)
    )
    cp.Problem(cp.Minimize(objective)).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    ours = calibrate_tree(problem, TIGHT).weights

    def at(weights):
        w.value = weights
        return float(objective.value)

    theirs = np.clip(w.value, low * q, high * q)
    assert_same_problem(at(ours), at(theirs), ours, theirs)


@pytest.mark.parametrize("seed", range(3))
def test_weights_stay_inside_bounds_that_targets_push_against(seed):
    problem = small_problem(seed)
    t = problem.targets
    pulled = replace(problem, targets=replace(t, values=tuple(3.0 * v for v in t.values)))
    result = calibrate_tree(pulled, TIGHT)
    ratio, (low, high) = result.weights / problem.prior_weight, problem.ratio_bounds.T
    assert result.converged
    assert (ratio >= low * (1 - 1e-12)).all()
    assert (ratio <= high * (1 + 1e-12)).all()
    assert (ratio > 1 + 0.9 * (high - 1)).mean() > 0.5


@pytest.mark.parametrize("levels", [1, 3])
def test_equal_bounds_are_the_scalar_form(levels):
    """And they, not the settings' own, are what counts."""
    problem = small_problem(1, levels)
    same = replace(problem, ratio_bounds=np.tile([0.3, 2.5], (problem.leaf.size, 1)))
    each = calibrate_tree(same, replace(TIGHT, ratio_bounds=(0.9, 1.1)))
    scalar = calibrate_tree(
        replace(problem, ratio_bounds=None), replace(TIGHT, ratio_bounds=(0.3, 2.5))
    )
    assert np.allclose(each.weights, scalar.weights, rtol=1e-10)


def test_bounds_follow_their_pairs_when_these_are_shuffled():
    problem = small_problem(2)
    order = np.lexsort((np.random.default_rng(0).permutation(problem.leaf.size), problem.leaf))
    other = replace(
        problem,
        record=problem.record[order],
        prior_weight=problem.prior_weight[order],
        ratio_bounds=problem.ratio_bounds[order],
    )
    assert np.allclose(
        calibrate_tree(problem, TIGHT).weights[order],
        calibrate_tree(other, TIGHT).weights,
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    "row", [(1.0, 2.0), (-0.1, 2.0), (0.5, 1.0), (0.5, np.inf), (np.nan, 2.0)], ids=str
)
def test_bounds_that_do_not_enclose_one_are_refused_by_name(row):
    problem = small_problem(0)
    bounds = problem.ratio_bounds.copy()
    bounds[7] = row
    with pytest.raises(ProblemError, match=r"pair 7: record \d+ in leaf t1.*0 <= low < 1 < high"):
        replace(problem, ratio_bounds=bounds)


def test_bounds_of_another_shape_are_refused():
    problem = small_problem(0)
    with pytest.raises(ProblemError, match=r"ratio_bounds has shape \(3, 2\)"):
        replace(problem, ratio_bounds=problem.ratio_bounds[:3])


def test_bounds_and_a_held_total_exclude_each_other():
    with pytest.raises(SettingsError, match="problem bounds ratios"):
        calibrate_tree(small_problem(0), replace(TIGHT, hold_total=True))
