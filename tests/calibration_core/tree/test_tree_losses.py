"""Losses that forgive outliers on a tree: against a cone solver and the conditions of the optimum,
and what they do to outliers.
"""

from dataclasses import replace

import cvxpy as cp
import numpy as np
import pytest

from calibration_core.common.distances import Raking
from calibration_core.common.losses import make_loss
from calibration_core.errors import SettingsError
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.dual_losses import Prior, minimise_dual
from calibration_core.flat.solve.losses import TargetLoss
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.losses import RobustLoss, calibrate_tree_robust
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from tests.calibration_core.other_solvers import assert_same_problem

TAU = 0.1
TIGHT = TreeNewtonSettings(tau_path=(1.0, TAU), tolerance=1e-10, prior_unit=1.0)
CAPPED, HUBER = (
    RobustLoss("capped", cut=2.0, tolerance=1e-8),
    RobustLoss("huber", cut=1.0, tolerance=1e-8),
)


def contaminated(seed: int, share: float = 0.15) -> tuple[PoolProblem, list[np.ndarray]]:
    """State, four counties, twelve tracts, 20 records; targets are within half an error of tilted
    weights, but a share of them is 8 to 20 errors off. Also says which.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [["s"] * 12, [f"c{i // 3}" for i in range(12)], [f"t{i:02d}" for i in range(12)]],
    )
    designs = [rng.poisson(1.0, size=(20, width)).astype(float) for width in (4, 3, 3)]
    record_prior, leaf_prior = rng.gamma(2.0, 2.0, size=20), rng.dirichlet(np.ones(12), size=1).T
    tilted = leaf_prior * record_prior * np.exp(0.3 * rng.normal(size=(12, 20)))
    values, scales, wrong = [], [], []
    for depth, design in enumerate(designs):
        total = tree.sum_leaves(tilted, depth) @ design
        scale = 0.1 * total + 0.1
        off = rng.random(total.shape) < share
        error = np.where(
            off,
            rng.choice([-1, 1], total.shape) * rng.uniform(8, 20, total.shape),
            0.5 * rng.uniform(-1, 1, total.shape),
        )
        values.append(total + scale * error)
        scales.append(np.where(rng.random(total.shape) < 0.05, np.inf, scale))
        wrong.append(off & np.isfinite(scales[-1]))
    problem = PoolProblem(
        tree,
        make_targets(tree, designs, values, scales),
        record_prior,
        np.zeros(20, dtype=np.int64),
        leaf_prior,
    )
    return problem, wrong


def as_pairs(problem: PoolProblem) -> PairProblem:
    leaf, record = np.nonzero(problem.prior() > 0)
    return PairProblem(problem.tree, problem.targets, leaf, record, problem.prior()[leaf, record])


def written_out(problem: PairProblem) -> tuple[np.ndarray, np.ndarray]:
    """Rows and right-hand side of the targets in use, over their scales."""
    rows, right = [], []
    for depth, (design, value, scale) in enumerate(
        zip(problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True)
    ):
        area = problem.tree.ancestor_of_leaves(depth)[problem.leaf]
        for a, j in np.argwhere(np.isfinite(scale)):
            rows.append(np.where(area == a, design[problem.record, j], 0.0) / scale[a, j])
            right.append(value[a, j] / scale[a, j])
    return np.array(rows), np.array(right)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("seed", range(3))
def test_huber_equals_a_cone_solver(seed):
    problem = as_pairs(contaminated(seed)[0])
    rows, right = written_out(problem)
    w = cp.Variable(problem.leaf.size)
    objective = 0.5 * cp.sum(cp.huber(rows @ w - right, HUBER.cut)) + TAU * cp.sum(
        cp.kl_div(w, problem.prior_weight)
    )
    cp.Problem(cp.Minimize(objective)).solve(
        solver="CLARABEL", tol_gap_abs=1e-10, tol_gap_rel=1e-10, tol_feas=1e-10
    )
    theirs = np.maximum(w.value, 1e-300)
    result = calibrate_tree_robust(problem, TIGHT, HUBER)
    assert result.converged

    def at(weights):
        w.value = weights
        return float(objective.value)

    assert result.objective_trace[-1] == pytest.approx(at(result.weights), rel=1e-9)
    assert_same_problem(at(result.weights), at(theirs), result.weights, theirs)


def test_one_delta_and_one_penalty_in_a_tree_and_in_a_flat_problem():
    """The same targets written out, Huber's loss bent at the same place and twice the strength, as
    ``common/losses.py`` says: the same weights, from another solver.
    """
    problem = as_pairs(contaminated(0)[0])
    rows, right = written_out(problem)
    ones = np.ones(right.size)
    loss = TargetLoss(make_loss("huber", delta=HUBER.cut), right, ones, ones)
    tree = calibrate_tree_robust(problem, TIGHT, HUBER)
    prior = Prior(2.0 * tree.inner.strength, problem.prior_weight, Raking())
    flat = minimise_dual(DesignMatrix(rows), loss, prior, tolerance=1e-9)
    assert flat.converged and tree.converged
    np.testing.assert_allclose(tree.weights, flat.weights, rtol=1e-5, atol=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [HUBER, CAPPED], ids=lambda loss: loss.kind)
def test_the_weights_are_those_of_the_loss_and_not_of_its_stand_ins(seed, loss):
    """log(w / q) = -A'psi(r) / tau, to the tolerance; for Huber, convex, that is the optimum."""
    problem = as_pairs(contaminated(seed)[0])
    rows, right = written_out(problem)
    result = calibrate_tree_robust(problem, TIGHT, loss)
    r = rows @ result.weights - right
    psi = (
        np.clip(r, -loss.cut, loss.cut)
        if loss.kind == "huber"
        else np.where(np.abs(r) <= loss.cut, r, 0.0)
    )
    assert result.converged
    assert result.gradient <= loss.tolerance
    assert np.abs(np.log(result.weights / problem.prior_weight) + rows.T @ psi / TAU).max() < 1e-5
    multipliers = np.concatenate(
        [m[np.isfinite(s)] for m, s in zip(result.multipliers, problem.targets.scales, strict=True)]
    )
    assert np.abs(psi + TAU * multipliers).max() <= loss.tolerance
    ratio = result.weights / problem.prior_weight
    objective = float(loss.value(r).sum()) + TAU * float(
        (problem.prior_weight * (ratio * np.log(ratio) - ratio + 1)).sum()
    )
    assert result.objective_trace[-1] == pytest.approx(objective, rel=1e-9)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("loss", [HUBER, CAPPED], ids=lambda loss: loss.kind)
def test_the_objective_never_rises_and_few_rounds_are_enough(seed, loss):
    result = calibrate_tree_robust(contaminated(seed)[0], TIGHT, loss)
    trace = np.array(result.objective_trace)
    assert (np.diff(trace) <= 1e-12 * trace[:-1]).all()
    assert trace.size <= 15
    assert "outer rounds" in result.summary()


@pytest.mark.parametrize("seed", range(4))
def test_the_capped_loss_gives_outliers_up_and_fits_the_others(seed):
    """With a prior that weighs, targets 8 to 20 errors off end beyond the cap; the rest are fitted
    about as well as if those were not there.
    """
    problem, wrong = contaminated(seed)
    strong = TreeNewtonSettings(tau_path=(10.0,), tolerance=1e-10, prior_unit=1.0)
    result = calibrate_tree_robust(problem, strong, CAPPED)
    scales = problem.targets.scales
    assert (
        np.concatenate(
            [omega[off] == 0 for omega, off in zip(result.omega, wrong, strict=True)]
        ).mean()
        >= 0.8
    )
    kept = [np.isfinite(s) & ~off for s, off in zip(scales, wrong, strict=True)]
    right = replace(
        problem,
        targets=replace(
            problem.targets,
            scales=tuple(np.where(k, s, np.inf) for k, s in zip(kept, scales, strict=True)),
        ),
    )

    def average(residuals) -> float:
        return float(
            np.concatenate(
                [np.abs(r[k] / s[k]) for r, s, k in zip(residuals, scales, kept, strict=True)]
            ).mean()
        )

    without = average(tuple(np.nan_to_num(r) for r in calibrate_tree(right, strong).residuals))
    squares = average(calibrate_tree(problem, strong).residuals)
    assert average(result.residuals) < 0.8 * squares
    assert average(result.residuals) < 1.8 * without
    assert sum(result.beyond) > 0
    assert any("local optimum" in w for w in result.warnings)


def test_no_outliers_means_plain_squares():
    problem, _ = contaminated(1, share=0.0)
    plain = calibrate_tree(problem, TIGHT)
    for kind in ("huber", "capped"):
        result = calibrate_tree_robust(problem, TIGHT, RobustLoss(kind, cut=50.0))
        assert np.array_equal(result.weights, plain.weights)
        assert result.beyond == (0, 0, 0)
        assert len(result.objective_trace) == 1


def test_pool_and_pairs_agree():
    problem, _ = contaminated(2)
    for loss in (HUBER, CAPPED):
        pool, pairs = (
            calibrate_tree_robust(problem, TIGHT, loss),
            calibrate_tree_robust(as_pairs(problem), TIGHT, loss),
        )
        assert np.abs(pool.weights.ravel() - pairs.weights).max() <= 1e-7 * pairs.weights.max()


def test_too_few_rounds_are_told():
    result = calibrate_tree_robust(contaminated(0)[0], TIGHT, replace(HUBER, max_rounds=1))
    assert not result.converged
    assert any("stopped after 1 rounds" in w for w in result.warnings)
    assert "stopped before convergence" in result.summary()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "l1"}, "'huber' or 'capped'"),
        ({"cut": 0.0}, "positive"),
        ({"cut": float("inf")}, "finite"),
        ({"tolerance": 0.0}, "positive"),
        ({"max_rounds": 0}, "one round"),
    ],
)
def test_settings_are_checked(change, words):
    with pytest.raises(SettingsError, match=words):
        RobustLoss(**change)


def test_an_inner_tolerance_above_the_outer_is_refused():
    with pytest.raises(SettingsError, match="not larger"):
        calibrate_tree_robust(contaminated(0)[0], TreeNewtonSettings(tolerance=1e-3), HUBER)
