"""The tree Newton solver against a generic convex solver, its two forms against each other, and its
invariances.
"""

import cvxpy as cp
import numpy as np
import pytest
import torch

from calibration_core.common.distances import Logit, Raking
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pool_blocks import PoolBlocks
from tests.calibration_core.other_solvers import assert_same_problem

TIGHT = TreeNewtonSettings(tau_path=(1.0, 0.1), tolerance=1e-10, prior_unit=1.0)


def tree_of(counties: int, tracts: int) -> GeographyTree:
    n = counties * tracts
    return GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [["44"] * n, [f"c{i // tracts}" for i in range(n)], [f"t{i:03d}" for i in range(n)]],
    )


def random_problem(
    seed: int, counties: int = 2, tracts: int = 3, records: int = 14, widths=(4, 3, 2)
) -> PoolProblem:
    """Targets are those of tilted weights plus noise, so that levels disagree but the problem is
    not absurd; one target is missing.
    """
    rng = np.random.default_rng(seed)
    tree = tree_of(counties, tracts)
    designs = [rng.poisson(1.0, size=(records, p)).astype(float) for p in widths]
    record_prior, leaf_prior = (
        rng.gamma(2.0, 2.0, size=records),
        rng.dirichlet(np.ones(counties * tracts), size=2).T,
    )
    group = rng.integers(0, 2, records)
    tilted = (
        leaf_prior[:, group]
        * record_prior
        * np.exp(0.4 * rng.normal(size=(counties * tracts, records)))
    )
    values, scales = [], []
    for depth, design in enumerate(designs):
        total = tree.sum_leaves(tilted, depth) @ design
        scale = rng.gamma(2.0, 0.3, size=total.shape) + 0.05
        values.append(total + scale * rng.normal(size=total.shape))
        scales.append(scale)
    scales[1][0, 0] = np.inf
    return PoolProblem(
        tree, make_targets(tree, designs, values, scales), record_prior, group, leaf_prior
    )


def as_pairs(problem: PoolProblem) -> PairProblem:
    prior = problem.prior()
    leaf, record = np.nonzero(prior > 0)
    return PairProblem(problem.tree, problem.targets, leaf, record, prior[leaf, record])


def generic_solution(problem: PoolProblem, tau: float) -> np.ndarray:
    prior = problem.prior()
    w = cp.Variable(prior.shape)
    objective = tau * cp.sum(cp.kl_div(w, prior))
    for depth, (design, value, scale) in enumerate(
        zip(problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True)
    ):
        matrix = np.zeros((problem.tree.sizes[depth], prior.shape[0]))
        matrix[problem.tree.ancestor_of_leaves(depth), np.arange(prior.shape[0])] = 1.0
        inverse = np.where(np.isfinite(scale), 1.0 / scale, 0.0)
        objective += 0.5 * cp.sum_squares(cp.multiply(inverse, (matrix @ w) @ design - value))
    cp.Problem(cp.Minimize(objective)).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return w.value


def primal(problem: PoolProblem, weights: np.ndarray, tau: float) -> float:
    """The objective of problem.py, written out."""
    prior = problem.prior()
    total = tau * float((weights * np.log(weights / prior) - weights + prior).sum())
    for depth, (design, value, scale) in enumerate(
        zip(problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True)
    ):
        used = np.isfinite(scale)
        total += 0.5 * float(
            (
                ((problem.tree.sum_leaves(weights, depth) @ design - value)[used] / scale[used])
                ** 2
            ).sum()
        )
    return total


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize("seed", range(5))
def test_equals_a_generic_convex_solver(seed):
    """Our objective is not above its own, and both solved the same problem."""
    problem = random_problem(seed)
    result = calibrate_tree(problem, TIGHT)
    generic = generic_solution(problem, 0.1)
    assert result.converged
    theirs = np.maximum(generic, 1e-300)
    assert_same_problem(
        primal(problem, result.weights, 0.1), primal(problem, theirs, 0.1), result.weights, theirs
    )


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("bounds", [None, (0.3, 3.0)])
def test_optimality_conditions_hold(seed, bounds):
    """a_j.w - b_j = -tau s_j y_j for every target: the stationarity of the dual, which certifies
    the optimum of a convex problem.
    """
    problem = random_problem(seed)
    result = calibrate_tree(
        problem,
        TreeNewtonSettings(
            tau_path=(1.0, 0.1), tolerance=1e-9, ratio_bounds=bounds, prior_unit=1.0
        ),
    )
    assert result.converged
    assert result.duality_gap < 1e-12
    for residual, multiplier, scale in zip(
        result.residuals, result.multipliers, problem.targets.scales, strict=True
    ):
        used = np.isfinite(scale)
        assert np.allclose((residual / scale)[used], -0.1 * multiplier[used], atol=1e-8)
    if bounds:
        ratio = result.weights / problem.prior()
        assert ratio.min() >= bounds[0] * (1 - 1e-12)
        assert ratio.max() <= bounds[1] * (1 + 1e-12)


@pytest.mark.parametrize("bounds", [None, (0.2, 5.0)])
def test_pool_and_pairs_agree(bounds):
    problem = random_problem(7)
    settings = TreeNewtonSettings(tau_path=(1.0, 0.1), tolerance=1e-10, ratio_bounds=bounds)
    pool, pairs = calibrate_tree(problem, settings), calibrate_tree(as_pairs(problem), settings)
    assert np.abs(pool.weights.ravel() - pairs.weights).max() <= 1e-10 * pairs.weights.max()


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_block_arrow_solve_equals_a_dense_solve(levels):
    """The factor solves the Hessian assembled entry by entry, for trees of one, two and three
    levels.
    """
    rng = np.random.default_rng(levels)
    full = random_problem(levels)
    names = full.tree.levels[-levels:]
    paths = [
        [full.tree.geoids[d + 3 - levels][i] for i in full.tree.ancestor_of_leaves(d + 3 - levels)]
        for d in range(levels)
    ]
    tree = GeographyTree.from_leaves(names, paths)
    t = full.targets
    problem = PoolProblem(
        tree,
        make_targets(tree, t.designs[-levels:], t.values[-levels:], t.scales[-levels:]),
        full.record_prior,
        full.group,
        full.leaf_prior,
    )
    for blocks in (PoolBlocks(problem), PairBlocks(as_pairs(problem))):
        multipliers = [
            torch.as_tensor(rng.normal(scale=0.02, size=v.shape)) for v in problem.targets.values
        ]
        factor = blocks.factor(multipliers, Raking(), 0.3)
        rows = []
        # With the exponential link the slope of a weight is the weight.
        pair_weights = blocks.weights(multipliers, Raking()).ravel()
        for depth in range(levels):
            above = tree.ancestor_of_leaves(depth)
            for area in range(tree.sizes[depth]):
                for j in range(problem.targets.designs[depth].shape[1]):
                    inverse = 1.0 / problem.targets.scales[depth][area, j]
                    rows.append(
                        (
                            np.outer(above == area, problem.targets.designs[depth][:, j]) * inverse
                        ).ravel()
                    )
        a = np.array(rows)
        hessian = a @ (pair_weights[:, None] * a.T) + 0.3 * np.eye(len(rows))
        rhs = [torch.as_tensor(rng.normal(size=v.shape)) for v in problem.targets.values]
        expected = np.linalg.solve(hessian, np.concatenate([r.numpy().ravel() for r in rhs]))
        got = np.concatenate([x.numpy().ravel() for x in factor.solve(rhs)])
        # The pool couples levels in single precision, which steers the steps and does not enter the
        # gradient.
        assert (
            np.abs(got - expected).max()
            <= (1e-4 if isinstance(blocks, PoolBlocks) else 1e-9) * np.abs(expected).max()
        )


def permuted(problem: PoolProblem, records: np.ndarray, columns: list[np.ndarray]) -> PoolProblem:
    t = problem.targets
    targets = make_targets(
        problem.tree,
        [d[records][:, c] for d, c in zip(t.designs, columns, strict=True)],
        [v[:, c] for v, c in zip(t.values, columns, strict=True)],
        [s[:, c] for s, c in zip(t.scales, columns, strict=True)],
    )
    return PoolProblem(
        problem.tree,
        targets,
        problem.record_prior[records],
        problem.group[records],
        problem.leaf_prior,
    )


def test_order_of_records_and_constraints_does_not_matter():
    problem = random_problem(3)
    rng = np.random.default_rng(0)
    records = rng.permutation(problem.record_prior.size)
    columns = [rng.permutation(d.shape[1]) for d in problem.targets.designs]
    first, second = (
        calibrate_tree(problem, TIGHT),
        calibrate_tree(permuted(problem, records, columns), TIGHT),
    )
    assert np.abs(first.weights[:, records] - second.weights).max() <= 1e-9 * first.weights.max()


def test_a_record_split_in_two_shares_its_weight():
    problem = random_problem(4)
    twice = np.concatenate([[0], np.arange(problem.record_prior.size)])
    halves = problem.record_prior[twice].copy()
    halves[:2] /= 2
    t = problem.targets
    split = PoolProblem(
        problem.tree,
        make_targets(problem.tree, [d[twice] for d in t.designs], t.values, t.scales),
        halves,
        problem.group[twice],
        problem.leaf_prior,
    )
    whole, parts = calibrate_tree(problem, TIGHT), calibrate_tree(split, TIGHT)
    assert np.allclose(parts.weights[:, 0] + parts.weights[:, 1], whole.weights[:, 0], rtol=1e-7)


def test_scaling_a_target_with_its_error_changes_nothing():
    problem = random_problem(6)
    t = problem.targets
    factor = np.array([1000.0, 1.0, 0.01, 5.0])
    scaled = make_targets(
        problem.tree,
        [t.designs[0] * factor, *t.designs[1:]],
        [t.values[0] * factor, *t.values[1:]],
        [t.scales[0] * factor, *t.scales[1:]],
    )
    other = PoolProblem(
        problem.tree, scaled, problem.record_prior, problem.group, problem.leaf_prior
    )
    first, second = calibrate_tree(problem, TIGHT), calibrate_tree(other, TIGHT)
    assert np.abs(first.weights - second.weights).max() <= 1e-9 * first.weights.max()


def test_lower_tau_fits_closer_and_strays_further():
    problem = random_problem(8)
    losses, distances = [], []
    for tau in (1.0, 0.1, 0.01):
        result = calibrate_tree(problem, TreeNewtonSettings(tau_path=(tau,), tolerance=1e-9))
        losses.append(result.trace[-1].loss)
        ratio = result.weights / problem.prior()
        distances.append(float((problem.prior() * (ratio * np.log(ratio) - ratio + 1)).sum()))
    assert losses == sorted(losses, reverse=True)
    assert distances == sorted(distances)


def test_warm_start_needs_no_steps_and_gives_the_same_weights():
    problem = random_problem(9)
    settings = TreeNewtonSettings(tau_path=(0.1,), tolerance=1e-8)
    first = calibrate_tree(problem, settings)
    again = calibrate_tree(problem, settings, start=first.multipliers)
    assert again.iterations == 0
    assert np.allclose(again.weights, first.weights, rtol=1e-12)


def test_a_stop_before_convergence_is_told():
    result = calibrate_tree(
        random_problem(2), TreeNewtonSettings(tau_path=(0.001,), tolerance=1e-12, max_iterations=2)
    )
    assert not result.converged
    assert "stopped after 2 steps" in result.warnings[0]
    assert result.status == "stopped before convergence"


def test_tau_falls_no_further_than_the_shares_need():
    problem = random_problem(1)
    easy = calibrate_tree(
        problem, TreeNewtonSettings(tau_path=(1.0, 0.1, 0.01), share=(0.0, 0.0, 0.05))
    )
    assert easy.path_met
    assert easy.tau == 1.0


def test_shares_out_of_reach_are_reported():
    tree = GeographyTree.from_leaves(["county"], [["a"]])
    targets = make_targets(
        tree, [np.array([[1.0, 1.0]])], [np.array([[10.0, 20.0]])], [np.array([[0.1, 0.1]])]
    )
    problem = PoolProblem(
        tree, targets, np.array([5.0]), np.zeros(1, dtype=np.int64), np.ones((1, 1))
    )
    result = calibrate_tree(problem, TreeNewtonSettings(tau_path=(1.0, 0.1), share=(1.0,)))
    assert result.converged
    assert not result.path_met
    assert any("county 0.0000 of 1 asked" in w for w in result.warnings)
    assert result.fitted[0] == pytest.approx(np.array([[15.0, 15.0]]), abs=0.1)


@pytest.mark.parametrize("link", [Raking(), Logit(0.05, 10.0), Logit(0.0, 2.0)])
def test_links_start_at_one_and_their_slopes_and_integrals_are_right(link):
    u = torch.linspace(-4.0, 4.0, 401, dtype=torch.float64, requires_grad=True)
    ratio = link.ratio(u)
    (slope,) = torch.autograd.grad(ratio.sum(), u, retain_graph=True)
    (back,) = torch.autograd.grad(link.integral(u, link.ratio(u)).sum(), u)
    assert torch.allclose(slope, link.slope(u, ratio), rtol=1e-9, atol=1e-12)
    assert torch.allclose(back, ratio, rtol=1e-9, atol=1e-12)
    zero = torch.zeros(1, dtype=torch.float64)
    assert float(link.ratio(zero)) == pytest.approx(1.0)
    assert float(link.integral(zero, link.ratio(zero))) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"tau_path": (0.1, 1.0)}, "strictly decreasing"),
        ({"tau_path": ()}, "strictly decreasing"),
        ({"chord_rate": 1.5}, "between 0 and 1"),
        ({"tolerance": 0.0}, "positive"),
    ],
)
def test_settings_are_checked(settings, words):
    with pytest.raises(SettingsError, match=words):
        TreeNewtonSettings(**settings)


def test_bounds_must_enclose_one():
    with pytest.raises(SettingsError, match="0 <= low < 1 < high"):
        calibrate_tree(random_problem(0), TreeNewtonSettings(ratio_bounds=(1.1, 2.0)))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param({"scales": -1.0}, "zero or negative", id="negative scale"),
        pytest.param({"values": np.nan}, "not finite", id="NaN target"),
        pytest.param({"designs": np.inf}, "not finite", id="infinite design"),
    ],
)
def test_malformed_targets_are_refused(change, words):
    t = random_problem(0).targets
    parts = {
        "designs": [a.copy() for a in t.designs],
        "values": [a.copy() for a in t.values],
        "scales": [a.copy() for a in t.scales],
    }
    for name, value in change.items():
        parts[name][2][0, 0] = value
    with pytest.raises(ProblemError, match=words):
        make_targets(random_problem(0).tree, parts["designs"], parts["values"], parts["scales"])


def test_a_negative_prior_is_refused():
    problem = random_problem(0)
    with pytest.raises(ProblemError, match="negative or non-finite"):
        PoolProblem(
            problem.tree, problem.targets, -problem.record_prior, problem.group, problem.leaf_prior
        )
