"""The unit in which weights, records or targets are written does not matter, nor how far prior
weights are from targets; scales that are next to nothing give a result that names them.
"""

import numpy as np
import pytest

from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.reconcile.area_shares import calibrate_shares
from calibration_core.tree.reconcile.share_problem import AreaSharesProblem, AreaSharesSettings
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

from .test_tree_properties import HIERARCHIES, as_pairs, random_pool

FACTORS = (1e-8, 1e-4, 2.0**-20, 3.0, 2.0**20, 1e4, 1e8)
SETTINGS = {
    "exponential": TreeNewtonSettings(),
    "logit": TreeNewtonSettings(ratio_bounds=(0.05, 20.0)),
    "hold_total": TreeNewtonSettings(hold_total=True),
}
HELD = ("exponential", "logit", "hold_total")


def rewritten(problem, *, weights=1.0, targets=1.0, records=1.0):
    """The problem with its numbers multiplied."""
    old = problem.targets
    new = make_targets(
        problem.tree,
        [d * records for d in old.designs],
        [b * targets for b in old.values],
        [s * targets for s in old.scales],
    )
    if isinstance(problem, PoolProblem):
        prior = problem.record_prior * weights
        return PoolProblem(problem.tree, new, prior, problem.group, problem.leaf_prior)
    prior = problem.prior_weight * weights
    return PairProblem(problem.tree, new, problem.leaf, problem.record, prior)


def problem_of(form: str, seed: int = 1):
    pool = random_pool(seed, HIERARCHIES[-1])
    return pool if form == "pool" else as_pairs(pool)


def is_power_of_two(factor: float) -> bool:
    return np.frexp(factor)[0] == 0.5


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("link", HELD)
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_weights_targets_and_scales_in_another_unit_give_the_same_answer_in_it(form, link, factor):
    problem, settings = problem_of(form), SETTINGS[link]
    one = calibrate_tree(problem, settings)
    other = calibrate_tree(rewritten(problem, weights=factor, targets=factor), settings)
    assert other.converged and other.tau == one.tau
    assert np.allclose(other.weights / factor, one.weights, rtol=1e-9, atol=1e-9)
    assert other.prior_unit / factor == pytest.approx(one.prior_unit)
    for a, b in zip(other.fitted, one.fitted, strict=True):
        assert np.allclose(a / factor, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())
    if is_power_of_two(factor):
        assert np.array_equal(other.weights / factor, one.weights)


@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_variables_in_another_unit_give_the_same_weights(form, factor):
    problem, settings = problem_of(form), SETTINGS["exponential"]
    one = calibrate_tree(problem, settings)
    other = calibrate_tree(rewritten(problem, records=factor, targets=factor), settings)
    assert np.allclose(other.weights, one.weights, rtol=1e-9, atol=1e-9)
    half = calibrate_tree(rewritten(problem, records=factor, weights=1 / factor), settings)
    assert np.allclose(half.weights * factor, one.weights, rtol=1e-9, atol=1e-9)
    if is_power_of_two(factor):
        assert np.array_equal(other.weights, one.weights)


@pytest.mark.parametrize("factor", [1e-8, 1e-3, 1e3, 1e8])
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_prior_weights_far_from_targets_are_brought_to_them_and_told(form, factor):
    # Shares against persons, thousands against persons, weights of one per record.
    problem = problem_of(form, seed=2)
    near = calibrate_tree(problem, SETTINGS["exponential"])
    far = calibrate_tree(rewritten(problem, weights=factor), SETTINGS["exponential"])
    assert far.converged
    for b, s, a, c in zip(
        problem.targets.values, problem.targets.scales, far.fitted, near.fitted, strict=True
    ):
        used = np.isfinite(s)
        assert np.abs((a - b)[used] / s[used]).max() < 3 * np.abs((c - b)[used] / s[used]).max() + 2
    (told,) = far.warned("prior_far_from_targets")
    assert told.size == pytest.approx(1 / factor, rel=0.5)
    assert not near.warned("prior_far_from_targets")


def test_targets_that_bounds_keep_out_of_reach_are_named():
    problem = rewritten(problem_of("pairs"), weights=1e-3)
    found = calibrate_tree(problem, SETTINGS["logit"])
    (missed,) = found.warned("targets_missed")
    assert found.warned("prior_far_from_targets") and len(missed.targets) == 20
    assert missed.targets[0].split()[0] in problem.tree.levels
    assert (found.weights <= 20 * problem.prior_weight).all()


@pytest.mark.parametrize("size", [1e-2, 1e-4, 1e-6, 1e-8, 1e-12])
@pytest.mark.parametrize("which", ["every level", "the top", "one target"])
@pytest.mark.parametrize("link", ["exponential", "logit"])
@pytest.mark.parametrize("form", ["pool", "pairs"])
def test_contradictions_that_are_all_but_exact_give_a_result_that_names_them(
    form, link, which, size
):
    problem = problem_of(form, seed=2)
    old = problem.targets
    scales = [s.copy() for s in old.scales]
    if which == "every level":
        scales = [s * size for s in scales]
    elif which == "the top":
        scales[0] = scales[0] * size
    else:
        scales[0][0, 0] *= size
        scales[1][:, 0] *= size
    targets = make_targets(problem.tree, old.designs, old.values, scales)
    changed = (
        PoolProblem(problem.tree, targets, problem.record_prior, problem.group, problem.leaf_prior)
        if form == "pool"
        else PairProblem(problem.tree, targets, problem.leaf, problem.record, problem.prior_weight)
    )
    found = calibrate_tree(changed, SETTINGS[link])
    assert np.isfinite(found.weights).all() and (found.weights >= 0).all()
    assert found.converged or found.warned("not_converged")
    # Levels differ by their usual errors, far more than these scales: the misses are named.
    (missed,) = found.warned("targets_missed")
    assert missed.targets and missed.size > 1.645
    for widened in found.warned("scales_widened"):
        assert widened.targets and widened.size > 1


@pytest.mark.parametrize("size", [1e-6, 1e-9, 1e-12])
def test_targets_that_agree_are_met_however_small_their_scales(size):
    pool = random_pool(3, HIERARCHIES[-1], records=60)
    rng = np.random.default_rng(0)
    tilted = pool.prior() * np.exp(0.2 * rng.normal(size=pool.prior().shape))
    values = [pool.tree.sum_leaves(tilted, d) @ x for d, x in enumerate(pool.targets.designs)]
    scales = [size * np.maximum(np.abs(b), 1e-9) for b in values]
    targets = make_targets(pool.tree, pool.targets.designs, values, scales)
    problem = PoolProblem(pool.tree, targets, pool.record_prior, pool.group, pool.leaf_prior)
    found = calibrate_tree(problem, SETTINGS["exponential"])
    for fitted, b in zip(found.fitted, values, strict=True):
        assert np.abs(fitted - b).max() <= 1e-4 * np.abs(b).max()


@pytest.mark.parametrize("factor", FACTORS)
def test_shares_of_areas_in_another_unit_are_the_same(factor):
    rng = np.random.default_rng(0)
    records, areas = 60, 4
    design = np.column_stack([np.ones(records), rng.lognormal(10, 1, records)])
    national = rng.uniform(50, 150, records)
    shares = rng.dirichlet(np.ones(areas), 2)
    group = rng.integers(0, 2, records)
    given = (national[:, None] * shares[group]).T @ design
    values = given * np.exp(0.1 * rng.normal(size=given.shape))
    scales = 0.02 * given

    def solve(unit):
        problem = AreaSharesProblem(
            design, national * unit, values * unit, scales * unit, group, shares
        )
        return calibrate_shares(problem, AreaSharesSettings())

    one, other = solve(1.0), solve(factor)
    assert one.converged and other.converged
    assert np.allclose(other.weights() / factor, one.weights(), rtol=1e-6, atol=1e-9)
    assert np.allclose(other.residuals / factor, one.residuals, rtol=1e-5, atol=1e-5 * scales.max())
