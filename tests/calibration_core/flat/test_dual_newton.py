"""The dual solver reaches the optimum where there is one, also where weights sit on bounds or rows
nearly coincide, and says so only then.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from calibration_core.common.distances import BoundedRaking, Linear, Logit, Raking, TruncatedLinear
from calibration_core.errors import SettingsError
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.solve.dual_newton import DualSettings, solve_dual
from calibration_core.flat.solve.dual_problem import DualProblem
from tests.calibration_core.other_solvers import assert_same_problem, price_of

cvxpy = pytest.importorskip("cvxpy")


def random_problem(seed, records=40, targets=4):
    rng = np.random.default_rng(seed)
    a = np.vstack([np.ones(records), rng.random((targets - 1, records))])
    d = rng.gamma(3.0, 10.0, records)
    return a, d, rng


def least_bound_distance(a, b, d, low, high):
    """How far inside its bounds (in w/d) the most central solution lies; negative or None where
    there is none. By linear programme.
    """
    n, scale = d.size, np.abs(a) @ d
    answer = linprog(
        np.r_[np.zeros(n), -1.0],
        A_eq=np.c_[a * d / scale[:, None], np.zeros(b.size)],
        b_eq=b / scale,
        A_ub=np.vstack([np.c_[np.eye(n), np.ones(n)], np.c_[-np.eye(n), np.ones(n)]]),
        b_ub=np.r_[np.full(n, high), np.full(n, -low)],
        bounds=[(None, None)] * (n + 1),
    )
    return -answer.fun if answer.status == 0 else None


@settings(max_examples=120, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), kind=st.sampled_from(["values", "signed", "indicators"]))
def test_bounded_distances_are_solved_wherever_a_solution_exists(seed, kind):
    """Targets close to the edge of what the bounds can reach put most weights on a bound, where the
    Hessian is singular.
    """
    rng = np.random.default_rng(seed)
    n = int(rng.integers(4, 50))
    m = int(rng.integers(1, min(n, 8) + 1))
    a = {
        "values": rng.random,
        "signed": lambda s: rng.normal(size=s),
        "indicators": lambda s: (rng.random(s) < 0.3) * 1.0,
    }[kind]((m, n))
    a = a[np.abs(a).sum(axis=1) > 0]
    if a.shape[0] == 0 or np.linalg.matrix_rank(a, tol=1e-3) < a.shape[0]:
        return
    d, low, high = rng.gamma(2.0, 10.0, n), float(rng.uniform(0, 0.95)), float(rng.uniform(1.05, 3))
    extreme = np.where(a.T @ rng.normal(size=a.shape[0]) > 0, high, low)
    b = a @ (d * (rng.choice([0.05, 0.01]) + (1 - 0.05) * extreme).clip(low, high))
    inside = least_bound_distance(a, b, d, low, high)
    if inside is None or inside < 1e-5:
        return
    for distance in (TruncatedLinear(low, high), BoundedRaking(low, high), Logit(low, high)):
        found = solve_dual(
            DualProblem(DesignMatrix(a), b, d, distance, np.maximum(np.abs(b), 1e-6)),
            DualSettings(),
        )
        assert found.converged, (type(distance).__name__, inside, found.gradient)
        assert np.abs(a @ found.weights - b).max() <= 1e-8 * max(1.0, np.abs(b).max())
        assert (found.weights >= low * d * (1 - 1e-12)).all() and (
            found.weights <= high * d * (1 + 1e-12)
        ).all()


@pytest.mark.parametrize("apart", [1e-3, 1e-4, 1e-5])
@pytest.mark.parametrize("seed", range(6))
def test_nearly_dependent_rows_do_not_stall_it(apart, seed):
    """Their multipliers are large and cancel, so that F can no longer tell a good step; the
    gradient can.
    """
    a, d, rng = random_problem(seed, 60, 2)
    a = np.vstack([a, a[1] + apart * rng.random(60)])
    b = a @ (d * np.exp(0.3 * rng.normal(size=60)))
    for distance in (Raking(), Logit(0.2, 5.0), TruncatedLinear(0.2, 5.0)):
        found = solve_dual(DualProblem(DesignMatrix(a), b, d, distance, np.abs(b)), DualSettings())
        assert found.converged and found.iterations < 30
        np.testing.assert_allclose(a @ found.weights, b, rtol=2e-9)


_CUT = (TruncatedLinear(0.5, 2.0), BoundedRaking(0.5, 2.0), Logit(0.5, 2.0))


@pytest.mark.parametrize(
    ("distance", "factor"),
    [(Raking(), -1.0), *((d, f) for d in _CUT for f in (-1.0, 0.0, 1e6))],
    ids=lambda x: getattr(type(x), "__name__", ""),
)
def test_out_of_reach_it_stops_without_overflow_and_says_so(distance, factor):
    a, d, _ = random_problem(3)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        found = solve_dual(
            DualProblem(DesignMatrix(a), factor * (a @ d), d, distance, a @ d), DualSettings()
        )
    assert not found.converged
    assert np.isfinite(found.weights).all() and found.gradient > 1e-3


def test_with_a_ridge_the_linear_distance_has_a_closed_form():
    a, d, rng = random_problem(5)
    b, ridge = 1.3 * (a @ d), rng.random(4)
    found = solve_dual(
        DualProblem(DesignMatrix(a), b, d, Linear(), np.abs(b), ridge=ridge), DualSettings()
    )
    y = np.linalg.solve((a * d) @ a.T + np.diag(ridge), b - a @ d)
    np.testing.assert_allclose(found.multipliers, y, rtol=1e-9)
    np.testing.assert_allclose(found.weights, d * (1 + a.T @ y), rtol=1e-10)


@pytest.mark.parametrize("seed", range(4))
def test_bands_leave_targets_free_within_them(seed):
    """Least distance with every total within a band of its target, against a conic solver."""
    a, d, rng = random_problem(seed)
    b = (a @ d) * (1 + 0.1 * rng.normal(size=4))
    band = 0.03 * np.abs(b)
    found = solve_dual(
        DualProblem(DesignMatrix(a), b, d, Linear(), np.abs(b), band=band), DualSettings()
    )
    w = cvxpy.Variable(d.size)
    answer = cvxpy.Problem(
        cvxpy.Minimize(0.5 * cvxpy.sum_squares(cvxpy.multiply(w - d, d**-0.5))),
        [cvxpy.abs(a @ w - b) <= band],
    )
    answer.solve(solver=cvxpy.CLARABEL)
    assert found.converged

    def distance(weights):
        return 0.5 * float(((weights - d) ** 2 / d).sum())

    beyond = np.maximum(np.abs(a @ w.value - b) - band, 0.0)
    assert_same_problem(
        distance(found.weights),
        distance(w.value),
        found.weights,
        w.value,
        price=price_of(found.multipliers, beyond),
        scale=float(d.sum()),
    )
    assert (np.abs(a @ found.weights - b) <= band * (1 + 1e-6)).all()
    inside = np.abs(a @ found.weights - b) < band * (1 - 1e-6)
    assert (found.multipliers[inside] == 0).all()


def test_too_few_iterations_are_not_convergence_and_a_warm_start_finishes():
    a, d, rng = random_problem(7)
    b = a @ (d * np.exp(rng.normal(size=d.size)))
    matrix, seen = DesignMatrix(a), []
    problem = DualProblem(matrix, b, d, Raking(), np.abs(b))
    short = solve_dual(
        problem, DualSettings(max_iterations=2), progress=lambda k, e: seen.append((k, e))
    )
    assert not short.converged and short.iterations == 2 and [k for k, _ in seen] == [1, 2]
    rest = solve_dual(problem, DualSettings(), multipliers=short.multipliers)
    whole = solve_dual(problem, DualSettings())
    assert rest.converged and whole.converged and rest.iterations < whole.iterations
    np.testing.assert_allclose(rest.weights, whole.weights, rtol=1e-9)


@pytest.mark.parametrize("bad", [{"tolerance": 0.0}, {"max_iterations": 0}, {"chord_rate": 1.0}])
def test_its_settings_are_checked(bad):
    with pytest.raises(SettingsError):
        DualSettings(**bad)
