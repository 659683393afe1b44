"""The exact methods against generic solvers: the same minimum, the same weights, every target met,
every bound held.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from scipy.integrate import quad
from scipy.optimize import minimize

from calibration_core import CalibrationProblem, calibrate
from calibration_core.common.distances import BoundedRaking, Linear, Logit, Raking, TruncatedLinear
from tests.calibration_core.other_solvers import assert_same_problem, price_of

cvxpy = pytest.importorskip("cvxpy")
# Clarabel is asked for more digits than an exponential cone always gives; what it reaches is what
# the tolerance below says.
pytestmark = pytest.mark.filterwarnings("ignore:Solution may be inaccurate")

BOUNDS = (0.4, 2.2)
DISTANCES = {
    "linear": Linear(),
    "truncated_linear": TruncatedLinear(*BOUNDS),
    "raking": Raking(),
    "raking_bounded": BoundedRaking(*BOUNDS),
    "logit": Logit(*BOUNDS),
}
SEEDS = st.integers(0, 1_000_000)
FEW = settings(max_examples=15, deadline=None, derandomize=True)


def problem(seed, *, bounded=False, q=False, records=None, tilt=0.35):
    """A total, a margin of three and an amount; targets are totals of weights tilted by up to about
    exp(tilt), so they can be met.
    """
    rng = np.random.default_rng(seed)
    n = records or int(rng.integers(12, 40))
    code = np.r_[0, 1, 2, rng.integers(0, 3, n - 3)]
    a = np.vstack([np.eye(3)[:, code], np.round(np.exp(rng.normal(3, 1, n)), 2)])
    d = rng.gamma(4.0, 10.0, n)
    true = d * np.clip(np.exp(tilt * rng.normal(size=n)), 0.6, 1.8)
    return CalibrationProblem(
        a,
        a @ true,
        d,
        q=rng.uniform(0.5, 2.0, n) if q else None,
        ratio_bounds=BOUNDS if bounded else None,
    )


def takes_bounds(method):
    return method in ("truncated_linear", "raking_bounded", "logit")


def distance_of(p, method, weights):
    q = np.ones(weights.size) if p.q is None else p.q
    return float((p.start / q) @ DISTANCES[method].value(weights / p.start))


def conic(p, method):
    """The problem as written, given to Clarabel. Weights are in units of the initial ones, targets
    of themselves.
    """
    r = cvxpy.Variable(p.start.size)
    c = p.start / (1.0 if p.q is None else p.q)
    c = c / c.mean()
    low, high = p.limits
    constraints = [(p.matrix.target_major() * p.start / p.targets[:, None]) @ r == 1.0]
    if takes_bounds(method):
        constraints += [r >= low / p.start, r <= high / p.start]
    if method.endswith("linear"):
        cost = 0.5 * cvxpy.sum(cvxpy.multiply(c, cvxpy.square(r - 1)))
    elif method.startswith("raking"):
        cost = cvxpy.sum(cvxpy.multiply(c, cvxpy.kl_div(r, 1.0)))
    else:
        lo, hi = BOUNDS
        scale = (1 - lo) * (hi - 1) / (hi - lo)
        cost = scale * cvxpy.sum(
            cvxpy.multiply(c, cvxpy.kl_div(r - lo, 1 - lo) + cvxpy.kl_div(hi - r, hi - 1))
        )
    cvxpy.Problem(cvxpy.Minimize(cost), constraints).solve(
        solver=cvxpy.CLARABEL, tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return r.value * p.start


@pytest.mark.parametrize("method", DISTANCES)
@pytest.mark.parametrize("q", [False, True], ids=["", "q"])
@FEW
@given(seed=SEEDS)
def test_a_generic_solver_finds_the_same_weights(method, q, seed):
    """No lower distance, but for what Clarabel gains by missing targets and bounds."""
    p = problem(seed, bounded=takes_bounds(method), q=q)
    result = calibrate(p, method)
    assert result.converged
    reference = conic(p, method)
    # What it misses the bounds by is turned into misses of the targets.
    theirs = np.clip(reference, *p.limits)
    assert_same_problem(
        distance_of(p, method, result.weights),
        distance_of(p, method, theirs),
        result.ratios,
        theirs / p.start,
        price=price_of(result.multipliers, p.matrix.totals(theirs) - p.targets),
        scale=float(p.start.sum()),
    )


@FEW
@given(seed=SEEDS)
def test_linear_is_the_regression_estimator_in_closed_form(seed):
    p = problem(seed, q=True)
    a, dq = p.matrix.target_major(), p.start * p.q
    g = 1 + p.q * (a.T @ np.linalg.solve((a * dq) @ a.T, p.targets - a @ p.start))
    np.testing.assert_allclose(calibrate(p, "linear").weights, p.start * g, rtol=1e-9)


@pytest.mark.parametrize("method", DISTANCES)
@pytest.mark.parametrize("seed", range(3))
def test_no_small_feasible_move_lowers_the_distance(method, seed):
    """Optimality without a solver: along the null space of the targets, within the bounds, the
    distance only grows.
    """
    p = problem(seed, bounded=takes_bounds(method))
    weights, a = calibrate(p, method).weights, p.matrix.target_major()
    null = np.linalg.svd(a)[2][np.linalg.matrix_rank(a) :]
    best, rng = distance_of(p, method, weights), np.random.default_rng(seed)
    moves = 0
    for size in (1e-1, 1e-2, 1e-3):
        for _ in range(50):
            step = size * (rng.normal(size=null.shape[0]) @ null)
            value = distance_of(p, method, weights + step)
            moves += np.isfinite(value)
            assert value >= best * (1 - 1e-12)
    assert moves > 0 or (takes_bounds(method) and method != "logit")


@pytest.mark.parametrize("method", DISTANCES)
def test_a_dense_and_a_sparse_matrix_give_the_same_weights(method):
    for seed in range(5):
        p = problem(seed, bounded=takes_bounds(method))
        for form in (sparse.csr_array, sparse.csc_array, sparse.coo_matrix):
            other = p.change(matrix=form(p.matrix.target_major()))
            np.testing.assert_allclose(
                calibrate(other, method).weights, calibrate(p, method).weights, rtol=1e-10
            )


@pytest.mark.parametrize("method", DISTANCES)
@FEW
@given(seed=SEEDS)
def test_converged_means_that_every_target_is_met_and_every_bound_held(method, seed):
    """By arithmetic of its own: exact sums of products in Python."""
    from math import fsum

    p = problem(seed, bounded=takes_bounds(method), tilt=1.0)
    result = calibrate(p, method, explain=False)
    a = p.matrix.target_major()
    gap = max(
        abs(fsum(x * w for x, w in zip(row, result.weights, strict=True)) / b - 1)
        for row, b in zip(a, p.targets, strict=True)
    )
    assert result.converged == (gap < 1e-9)
    assert result.converged, "targets are totals of weights within the bounds"
    if takes_bounds(method):
        low, high = p.limits
        assert (result.weights >= low * (1 - 1e-15)).all() and (
            result.weights <= high * (1 + 1e-15)
        ).all()
    if method.startswith("raking"):
        assert (result.weights > 0).all()


@FEW
@given(seed=SEEDS)
def test_ipf_and_entropy_are_raking_where_they_must_be(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(30, 80))
    codes = [np.r_[np.arange(k), rng.integers(0, k, n - k)] for k in (2, 3)]
    a, d = (
        np.vstack([np.eye(k)[:, c] for k, c in zip((2, 3), codes, strict=True)]),
        rng.gamma(4.0, 10.0, n),
    )
    names = ["sex: f", "sex: m", "age: 1", "age: 2", "age: 3"]
    p = CalibrationProblem(a, a @ (d * np.exp(0.4 * rng.normal(size=n))), d, target_names=names)
    raking = calibrate(p, "raking").weights
    for method in ("ipf", "entropy"):
        result = calibrate(p, method)
        assert result.converged
        np.testing.assert_allclose(result.weights, raking, rtol=1e-7)


def test_entropy_balancing_against_scipy():
    """Two moments and the sum of weights held: the dual minimised by BFGS."""
    rng = np.random.default_rng(4)
    x, d = rng.normal(size=(2, 60)), rng.gamma(4.0, 1.0, 60)
    p = CalibrationProblem(x, np.array([0.2, -0.1]) * d.sum(), d)
    result = calibrate(p, "entropy")
    a = np.vstack([x, np.ones(60)])
    b = np.r_[p.targets, d.sum()]
    y = minimize(
        lambda y: d @ np.exp(a.T @ y) - b @ y,
        np.zeros(3),
        jac=lambda y: a @ (d * np.exp(a.T @ y)) - b,
        method="BFGS",
        options={"gtol": 1e-10},
    ).x
    np.testing.assert_allclose(result.weights, d * np.exp(a.T @ y), rtol=1e-7)
    assert result.weights.sum() == pytest.approx(d.sum(), rel=1e-10)


@pytest.mark.parametrize("method", DISTANCES)
def test_the_functions_of_a_distance_belong_together(method):
    """G = H', G' = slope, H is the integral from 0, phi the Legendre transform of H, phi(1) = 0; by
    quadrature and finite differences.
    """
    distance, h = DISTANCES[method], 1e-6
    u = np.array([-2.3, -0.9, -0.21, 0.0, 0.13, 0.42, 0.77, 1.9])
    ratio = distance.ratio(u)
    up, down = distance.ratio(u + h), distance.ratio(u - h)
    np.testing.assert_allclose(distance.slope(u, ratio), (up - down) / (2 * h), atol=2e-6)
    np.testing.assert_allclose(
        (distance.integral(u + h, up) - distance.integral(u - h, down)) / (2 * h),
        ratio,
        rtol=1e-7,
        atol=1e-8,
    )
    for x, total in zip(u, distance.integral(u, ratio), strict=True):
        wanted = quad(
            lambda t: float(distance.ratio(np.array([t]))[0]), 0.0, x, epsabs=1e-11, limit=200
        )[0]
        assert total == pytest.approx(wanted, abs=1e-7)
    np.testing.assert_allclose(
        distance.integral(u, ratio) + distance.value(ratio), u * ratio, atol=1e-12
    )
    one = np.ones(1)
    assert distance.ratio(0 * one) == pytest.approx(1.0) and distance.value(one) == pytest.approx(
        0.0, abs=1e-14
    )
    assert distance.slope(0 * one, one) == pytest.approx(1.0)


@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded", "logit"])
def test_a_distance_is_infinite_outside_its_bounds_and_its_ratio_never_there(method):
    distance = DISTANCES[method]
    assert np.isinf(distance.value(np.array([BOUNDS[0] - 0.01, BOUNDS[1] + 0.01]))).all()
    ratio = distance.ratio(np.linspace(-500, 500, 10_001))
    assert ratio.min() >= BOUNDS[0] and ratio.max() <= BOUNDS[1]
    assert (np.diff(ratio) >= 0).all() and (
        distance.slope(np.linspace(-500, 500, 10_001), ratio) >= 0
    ).all()
