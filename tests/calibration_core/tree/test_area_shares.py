"""Area shares against a generic convex solver, what holds whatever the targets, and what is said of
targets that cannot be met.
"""

import itertools

import cvxpy as cp
import numpy as np
import pytest

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.tree.reconcile.area_shares import (
    AreaSharesProblem,
    AreaSharesSettings,
    calibrate_shares,
)
from tests.calibration_core.other_solvers import assert_same_problem

TIGHT = AreaSharesSettings(tau_path=(1.0, 0.1, 0.01), tolerance=1e-10, prior_unit=1.0)


def random_problem(
    seed: int,
    *,
    records: int = 40,
    areas: int = 5,
    variables: int = 3,
    noise: float = 0.05,
    **change,
) -> AreaSharesProblem:
    """Targets are totals of tilted shares, times noise: with noise, areas do not add up to the
    national file.
    """
    rng = np.random.default_rng(seed)
    design, weight = rng.normal(1.0, 1.0, (records, variables)), rng.gamma(2.0, 2.0, records)
    group, share = rng.integers(0, 2, records), rng.dirichlet(np.ones(areas), 2)
    tilted = share[group] * np.exp(0.5 * rng.normal(size=(records, areas)))
    tilted *= (weight / tilted.sum(axis=1))[:, None]
    values = tilted.T @ design * np.exp(noise * rng.normal(size=(areas, variables)))
    content = {
        "design": design,
        "national_weight": weight,
        "values": values,
        "scales": 0.05 * np.abs(values) + 0.01,
        "group": group,
        "prior_share": share,
    }
    return AreaSharesProblem(**(content | change))


def prior_of(problem: AreaSharesProblem) -> np.ndarray:
    return problem.national_weight[:, None] * problem.shares[problem.group]


def objective(problem: AreaSharesProblem, weights: np.ndarray, tau: float) -> float:
    """The primal of the docstring, written out."""
    prior, used = prior_of(problem), np.isfinite(problem.scales)
    positive = (weights > 0) & (prior > 0)
    residual = (weights.T @ problem.design - problem.values)[used] / problem.scales[used]
    return 0.5 * float((residual**2).sum()) + tau * float(
        (weights[positive] * np.log(weights[positive] / prior[positive])).sum()
    )


def generic(problem: AreaSharesProblem, tau: float) -> np.ndarray:
    prior = prior_of(problem)
    inverse = np.where(np.isfinite(problem.scales), 1.0 / problem.scales, 0.0)
    w = cp.Variable(prior.shape)
    able = prior > 0
    loss = 0.5 * cp.sum_squares(
        cp.multiply(inverse, w.T @ problem.design - np.nan_to_num(problem.values))
    ) + tau * cp.sum(cp.kl_div(w[able], prior[able]))
    limits = [cp.sum(w, axis=1) == problem.national_weight] + (
        [w[~able] == 0] if not able.all() else []
    )
    cp.Problem(cp.Minimize(loss), limits).solve(
        solver="CLARABEL", tol_gap_abs=1e-12, tol_gap_rel=1e-12, tol_feas=1e-12
    )
    return w.value


def without(problem: AreaSharesProblem, *places: tuple[int, int]) -> AreaSharesProblem:
    values, scales = problem.values.copy(), problem.scales.copy()
    for place in places:
        values[place], scales[place] = np.nan, np.inf
    return AreaSharesProblem(
        problem.design, problem.national_weight, values, scales, problem.group, problem.prior_share
    )


def shut_out() -> AreaSharesProblem:
    """Records of group 0 cannot be in area 2."""
    share = np.array([[0.2, 0.3, 0.0, 0.4, 0.1], [0.2, 0.2, 0.2, 0.2, 0.2]])
    return random_problem(5, prior_share=share)


@pytest.mark.filterwarnings("ignore:Solution may be inaccurate")
@pytest.mark.parametrize(
    "problem",
    [
        random_problem(0, noise=0.0),
        random_problem(1),
        without(random_problem(2), (1, 0), (3, 2), (4, 2)),
        shut_out(),
    ],
    ids=["consistent", "areas do not add up", "missing targets", "an area shut out"],
)
def test_equals_a_generic_convex_solver(problem):
    result = calibrate_shares(problem, TIGHT)
    weights, other = result.weights(), generic(problem, 0.01)
    assert result.converged and result.duality_gap < 1e-12
    # Shares that sum to one again: what the other solver misses that by is not to its credit.
    other = np.maximum(other, 0.0)
    other *= (problem.national_weight / other.sum(axis=1))[:, None]
    assert_same_problem(
        objective(problem, weights, 0.01), objective(problem, other, 0.01), weights, other
    )
    assert np.abs(weights.sum(axis=1) / problem.national_weight - 1.0).max() <= 1e-12
    assert (weights[prior_of(problem) == 0] == 0).all() and (weights >= 0).all()


def test_figures_of_the_result_are_those_of_its_weights():
    problem = without(random_problem(3), (0, 1))
    result = calibrate_shares(problem, TIGHT)
    weights, prior = result.weights(), prior_of(problem)
    np.testing.assert_allclose(result.fitted, weights.T @ problem.design, rtol=1e-12)
    assert np.isnan(result.residuals[0, 1]) and np.isnan(result.residuals).sum() == 1
    np.testing.assert_allclose(
        np.nan_to_num(result.residuals),
        np.nan_to_num(weights.T @ problem.design - problem.values),
        atol=1e-12,
    )
    assert result.divergence == pytest.approx((weights * np.log(weights / prior)).sum(), rel=1e-10)
    ratio = weights / prior
    assert result.largest_ratio == pytest.approx(
        ratio.max(), rel=1e-12
    ) and result.at == np.unravel_index(ratio.argmax(), ratio.shape)
    np.testing.assert_allclose(result.weights_of(3), weights[:, 3], rtol=1e-14)
    np.testing.assert_allclose(
        np.concatenate([w for _, w in result.chunks(records=7)]), weights, rtol=1e-14
    )
    # Shifts that move no weight are taken out where every area has a target.
    parts = problem.scales[:, [0, 2]] ** 2 * result.multipliers[:, [0, 2]]
    assert np.abs(parts.sum(axis=0)).max() <= 1e-12 * np.abs(parts).max()


def test_what_no_weights_can_meet_is_spread_and_named():
    """Areas ask for a tenth more than the nation has: every area falls short in proportion to the
    square of its scale.
    """
    problem = random_problem(4, noise=0.0)
    asked = AreaSharesProblem(
        problem.design,
        problem.national_weight,
        problem.values * np.array([1.0, 1.1, 1.0]),
        problem.scales,
        problem.group,
        problem.prior_share,
    )
    settings = AreaSharesSettings(tau_path=(1.0, 1e-2, 1e-4, 1e-6), tolerance=1e-8)
    result = calibrate_shares(asked, settings)
    national = problem.national_weight @ problem.design
    np.testing.assert_allclose(result.discrepancy, [0.0, 0.1 * national[1], 0.0], atol=1e-9)
    assert (
        len(result.warnings) == 1
        and "variable 1" in str(result.warnings[0])
        and "no weights can meet" in str(result.warnings[0])
    )
    spread = problem.scales[:, 1] ** 2 / (problem.scales[:, 1] ** 2).sum()
    np.testing.assert_allclose(result.residuals[:, 1], -0.1 * national[1] * spread, rtol=1e-3)
    assert np.abs(result.residuals[:, [0, 2]]).max() <= 1e-3 * np.abs(result.residuals[:, 1]).max()
    assert calibrate_shares(problem, settings).warnings == ()


def test_order_of_records_areas_and_variables_does_not_matter():
    problem = without(random_problem(6), (2, 1))
    rng = np.random.default_rng(0)
    i, s, j = rng.permutation(40), rng.permutation(5), rng.permutation(3)
    other = AreaSharesProblem(
        problem.design[i][:, j],
        problem.national_weight[i],
        problem.values[s][:, j],
        problem.scales[s][:, j],
        problem.group[i],
        problem.prior_share[:, s],
    )
    weights = calibrate_shares(problem, TIGHT).weights()
    np.testing.assert_allclose(
        calibrate_shares(other, TIGHT).weights(), weights[i][:, s], atol=1e-9 * weights.max()
    )


def test_prior_shares_need_not_sum_to_one_and_records_may_weigh_nothing():
    problem = random_problem(7)
    weight = problem.national_weight.copy()
    weight[:3] = 0.0
    plain = random_problem(7, national_weight=weight)
    scaled = random_problem(
        7, national_weight=weight, prior_share=problem.prior_share * np.array([[3.0], [0.5]])
    )
    one, two = calibrate_shares(plain, TIGHT), calibrate_shares(scaled, TIGHT)
    np.testing.assert_allclose(one.weights(), two.weights(), rtol=1e-9)
    assert (one.weights()[:3] == 0).all() and one.converged


def test_the_prior_stays_as_strong_as_the_targets_allow():
    problem = random_problem(8, noise=0.0)
    loose = AreaSharesSettings(
        tau_path=(1.0, 0.1, 0.01, 0.001), inside=1.0, share=1.0, tolerance=1e-8
    )
    result = calibrate_shares(problem, loose)
    assert result.share_met == 1.0 and result.tau > 0.001
    assert np.abs(result.residuals / problem.scales).max() <= 1.0
    whole = calibrate_shares(problem, AreaSharesSettings(tau_path=loose.tau_path, tolerance=1e-8))
    assert whole.tau == 0.001 and whole.divergence > result.divergence
    hard = calibrate_shares(random_problem(8, noise=1.0), loose)
    assert (
        hard.tau == 0.001
        and hard.share_met < 1.0
        and any("was asked" in str(w) for w in hard.warnings)
    )


def test_an_early_stop_is_not_called_convergence():
    result = calibrate_shares(
        random_problem(9), AreaSharesSettings(tau_path=(0.01,), max_iterations=1)
    )
    assert (
        not result.converged
        and result.iterations == 1
        and "stopped after 1 steps" in str(result.warnings[0])
    )
    assert (
        np.abs(result.weights().sum(axis=1) / random_problem(9).national_weight - 1.0).max()
        <= 1e-12
    )


def test_the_objective_falls_at_every_step_of_one_tau():
    seen = []
    result = calibrate_shares(random_problem(10), TIGHT, progress=seen.append)
    assert tuple(seen) == result.trace and result.products == sum(s.products for s in seen)
    for tau in TIGHT.tau_path:
        dual = [s.dual for s in seen if s.tau == tau]
        assert all(b <= a + 1e-11 * abs(a) for a, b in itertools.pairwise(dual))


def test_columns_of_very_different_size_and_bins_that_never_meet():
    rng = np.random.default_rng(11)
    bins = rng.integers(0, 3, 200)
    design = np.zeros((200, 6))
    design[np.arange(200), bins] = 1.0
    design[np.arange(200), 3 + bins] = np.exp(rng.normal(18.0, 1.0, 200))
    problem = random_problem(11, records=200, variables=6, noise=0.0, design=design)
    share = problem.shares[problem.group] * np.exp(0.3 * rng.normal(size=(200, 5)))
    values = (share * (problem.national_weight / share.sum(axis=1))[:, None]).T @ design
    problem = AreaSharesProblem(
        design, problem.national_weight, values, 0.001 * values, problem.group, problem.prior_share
    )
    result = calibrate_shares(
        problem, AreaSharesSettings(tau_path=(1.0, 0.1, 0.01, 1e-3), tolerance=1e-7)
    )
    assert result.converged and np.abs(result.residuals / values).max() <= 2e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"design": np.full((40, 3), np.nan)}, "design"),
        ({"national_weight": -np.ones(40)}, "national_weight"),
        ({"values": np.ones((5, 2))}, "values"),
        ({"values": np.full((5, 3), np.inf)}, "target in use"),
        ({"scales": np.zeros((5, 3))}, "scale"),
        ({"group": np.full(40, 7)}, "group"),
        ({"prior_share": np.array([[0.0] * 5, [0.2] * 5])}, "no prior share"),
        ({"prior_share": np.ones(5)}, "shape"),
    ],
)
def test_malformed_problems_are_named(change, words):
    with pytest.raises(ProblemError, match=words):
        random_problem(0, **change)


@pytest.mark.parametrize(
    "change",
    [
        {"tau_path": (0.1, 1.0)},
        {"tau_path": ()},
        {"forcing": 1.0},
        {"tolerance": 0.0},
        {"max_products": 0},
        {"share": 2.0},
    ],
)
def test_malformed_settings_are_named(change):
    with pytest.raises(SettingsError):
        AreaSharesSettings(**change)
