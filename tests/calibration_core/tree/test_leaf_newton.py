"""Leaves solved on their own: each at the optimum of its own function, none disturbed by another,
and no claim of convergence without it.
"""

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from calibration_core.common.distances import Logit, Raking
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, make_targets
from calibration_core.tree.solve import leaf_newton
from calibration_core.tree.solve.conditioning import units_of
from calibration_core.tree.solve.leaf_newton import LeafNewton
from calibration_core.tree.solve.link import Link
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.solve.pair_blocks import PairBlocks

TAU = 0.1
linked = pytest.mark.parametrize("link", [Raking(), Logit(0.1, 6.0)], ids=["exponential", "logit"])


def many_leaves(leaves: int, seed: int = 0, crooked: int = 0) -> PairProblem:
    """Tracts in counties of eight, 4 to 12 pairs each; the targets of the first ``crooked`` are far
    from what their pairs add up to.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(
        ["county", "tract"],
        [[f"c{i // 8:03d}" for i in range(leaves)], [f"t{i:05d}" for i in range(leaves)]],
    )
    leaf = np.repeat(np.arange(leaves), rng.integers(4, 13, leaves))
    record, prior = rng.integers(0, 40, leaf.size), rng.gamma(3.0, 2.0, leaf.size)
    own = np.column_stack([np.ones(40), rng.poisson(1.5, 40), rng.lognormal(3.0, 1.0, 40)])
    total = np.zeros((leaves, 3))
    np.add.at(
        total, leaf, own[record] * prior[:, None] * np.exp(0.3 * rng.normal(size=(leaf.size, 1)))
    )
    above = tree.sum_to_parent(total, 1)
    total[:crooked] *= np.array([4.0, 0.2, 3.0])
    targets = make_targets(
        tree, [own, own], [above, total], [0.002 * above + 0.1, 0.05 * total + 0.1]
    )
    return PairProblem(tree, targets, leaf, record, prior)


def leaf_function(problem: PairProblem, leaf: int, above: np.ndarray, link: Link):
    """f_t of one leaf and its gradient, written out."""
    here = problem.leaf == leaf
    rows, q = problem.targets.designs[-1][problem.record[here]], problem.prior_weight[here]
    constant = problem.targets.designs[0][problem.record[here]] @ (
        above / problem.targets.scales[0][problem.tree.parents[1][leaf]]
    )
    target, scale = problem.targets.values[-1][leaf], problem.targets.scales[-1][leaf]

    def value(x: np.ndarray) -> tuple[float, np.ndarray]:
        u = torch.as_tensor(constant + rows @ (x / scale))
        ratio = link.ratio(u)
        gradient = ((q * ratio.numpy()) @ rows - target) / scale + TAU * x
        return (
            float(q @ link.integral(u, ratio).numpy())
            - float(target @ (x / scale))
            + 0.5 * TAU * float(x @ x),
            gradient,
        )

    return value


def solved(
    problem: PairProblem, above: np.ndarray, link: Link, tolerance: float = 1e-9
) -> np.ndarray:
    blocks = PairBlocks(problem)
    leaves = LeafNewton(blocks, torch.as_tensor(problem.targets.values[-1]), 0.4, 5.0)
    y = [torch.as_tensor(above), torch.zeros(problem.targets.values[-1].shape, dtype=torch.float64)]
    return leaves.solve(y, None, link, TAU, tolerance, None)[0].numpy()


@linked
def test_each_leaf_is_at_the_optimum_of_its_own_function(link):
    problem = many_leaves(24, crooked=3)
    above = np.random.default_rng(1).normal(scale=0.2, size=problem.targets.values[0].shape)
    x = solved(problem, above, link)
    for leaf in range(24):
        function = leaf_function(problem, leaf, above[problem.tree.parents[1][leaf]], link)
        assert np.abs(function(x[leaf])[1]).max() < 1e-8
        best = minimize(
            function, np.zeros(3), jac=True, method="BFGS", options={"gtol": 1e-7, "maxiter": 2000}
        )
        assert function(x[leaf])[0] <= best.fun + 1e-9 * max(1.0, abs(best.fun))


@linked
def test_a_leaf_is_solved_alike_among_others_and_alone(link):
    problem = many_leaves(16, crooked=4)
    above = np.random.default_rng(2).normal(scale=0.2, size=problem.targets.values[0].shape)
    together = solved(problem, above, link)
    for leaf in (0, 5, 15):
        here = problem.leaf == leaf
        t, county = problem.targets, problem.tree.parents[1][[leaf]]
        tree = GeographyTree.from_leaves(["county", "tract"], [["c"], ["t"]])
        targets = make_targets(
            tree,
            t.designs,
            [t.values[0][county], t.values[1][[leaf]]],
            [t.scales[0][county], t.scales[1][[leaf]]],
        )
        alone = PairProblem(
            tree,
            targets,
            np.zeros(here.sum(), dtype=np.int64),
            problem.record[here],
            problem.prior_weight[here],
        )
        assert np.allclose(
            solved(alone, above[county], link)[0], together[leaf], rtol=1e-8, atol=1e-8
        )


@pytest.mark.parametrize("bounds", [None, (0.05, 10.0)], ids=["exponential", "logit"])
def test_more_leaves_take_hardly_more_factorisations(bounds):
    """Some leaves are far from their targets in the large problem too, and do not shorten the
    others' steps.
    """
    settings = TreeNewtonSettings(tau_path=(1.0, 0.1, 0.01), ratio_bounds=bounds)
    few, many = (calibrate_tree(many_leaves(n, crooked=n // 8), settings) for n in (16, 512))
    assert few.converged
    assert many.converged
    assert many.factorisations <= 1.5 * few.factorisations


def full_gradient(problem: PairProblem, result) -> float:
    """Largest scaled gradient of all levels, from the weights and multipliers alone."""
    worst = 0.0
    for depth, (design, value, scale) in enumerate(
        zip(problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True)
    ):
        total = np.zeros(value.shape)
        np.add.at(
            total,
            problem.tree.ancestor_of_leaves(depth)[problem.leaf],
            design[problem.record] * result.weights[:, None],
        )
        worst = max(
            worst,
            float(np.abs((total - value) / scale + result.tau * result.multipliers[depth]).max()),
        )
    return worst


@pytest.mark.parametrize("most", [0, 1])
def test_leaves_cut_short_do_not_make_the_result_claim_convergence(monkeypatch, most):
    monkeypatch.setattr(leaf_newton, "_MOST_STEPS", most)
    problem = many_leaves(32, crooked=8)
    for limit in (2, 3, 5, 100):
        result = calibrate_tree(
            problem,
            TreeNewtonSettings(
                tau_path=(0.1,),
                tolerance=1e-8,
                ratio_bounds=(0.05, 10.0),
                max_iterations=limit,
                prior_unit=1.0,
            ),
        )
        assert result.converged == (full_gradient(problem, result) <= 1.1e-8)
        assert result.converged == (result.status == "converged")
    assert result.converged


def test_a_leaf_whose_line_search_fails_is_told(monkeypatch):
    """One leaf's function is made to look worse wherever it goes: it stays, and so does its
    gradient.
    """
    problem = many_leaves(16, crooked=2)
    true_at, unit = leaf_newton._at, units_of(problem, 1.0).weight

    def stuck(leaves, x, tau):
        point = true_at(leaves, x, tau)
        point.value[
            (leaves.target[:, 0] == problem.targets.values[-1][0, 0] / unit) & (x != 0).any(dim=1)
        ] = torch.inf
        return point

    monkeypatch.setattr(leaf_newton, "_at", stuck)
    result = calibrate_tree(
        problem,
        TreeNewtonSettings(
            tau_path=(0.1,), ratio_bounds=(0.05, 10.0), max_iterations=60, prior_unit=1.0
        ),
    )
    assert (result.multipliers[-1][0] == 0).all()
    assert not result.converged
    assert "stopped after" in result.warned("not_converged")[0].message
    assert full_gradient(problem, result) > 1e-3
