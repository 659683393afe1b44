"""The gradient method against an independent solver, theory, and its own proof of optimality."""

from __future__ import annotations

import cvxpy
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from calibration_core import CalibrationProblem, calibrate
from calibration_core.common.losses import make_loss
from calibration_core.errors import SettingsError
from calibration_core.flat.solve.losses import TargetLoss, target_scale, target_weights
from tests.calibration_core.flat.gradient_case import conflicted
from tests.calibration_core.other_solvers import assert_same_problem


def oracle(
    problem: CalibrationProblem, rho, tau: float, scale: np.ndarray, omega: np.ndarray
) -> np.ndarray:
    """The minimum by cvxpy, in ratios so that the cone solver sees numbers of about one."""
    d = problem.start
    ratio = cvxpy.Variable(d.size)
    residual = cvxpy.multiply(
        1 / scale, (problem.matrix.target_major() * d) @ ratio - problem.targets
    )
    over_q = d if problem.q is None else d / problem.q
    prior = cvxpy.sum(cvxpy.multiply(over_q, cvxpy.kl_div(ratio, 1.0)))
    bounds = []
    if problem.bounded:
        low, high = problem.limits
        bounds = [ratio >= np.maximum(low, 0) / d, ratio <= high / d]
    cvxpy.Problem(cvxpy.Minimize(omega @ rho(residual) + tau * prior), bounds).solve(
        solver="CLARABEL", tol_gap_abs=1e-13, tol_gap_rel=1e-13, tol_feas=1e-13, tol_ktratio=1e-10
    )
    return ratio.value * d


def assert_solved(problem, result, expected) -> None:
    """The objective of ``result`` is not above the one at another solver's weights,
    which are near.
    """
    d, settings = problem.start, result.settings
    loss = TargetLoss(
        make_loss(settings.loss, delta=settings.delta),
        problem.targets,
        target_scale(
            problem, settings.scale, epsilon=settings.epsilon, relative_size=settings.relative_size
        ),
        target_weights(problem, settings.target_weights),
    )

    def objective(w):
        divergence = (w * np.log(np.maximum(w, 1e-300) / d) - w + d) / (
            1.0 if problem.q is None else problem.q
        )
        prior = result.details["prior_strength"] * float(divergence.sum())
        return float(loss.value(problem.matrix.totals(w))) + prior

    theirs = np.clip(expected, *(end.clip(min=0.0) for end in problem.limits))
    assert result.details["objective"] == pytest.approx(objective(result.weights), rel=1e-9)
    assert_same_problem(objective(result.weights), objective(theirs), result.weights, theirs)


RHO = {"square": cvxpy.square, "huber": lambda r: cvxpy.huber(r, 0.05)}


@pytest.mark.parametrize("bounds", [None, (0.8, 1.3)])
@pytest.mark.parametrize("loss", ["square", "huber"])
def test_the_dual_finds_the_minimum_that_an_independent_solver_finds(loss, bounds):
    omega = np.linspace(0.5, 2.0, 9)
    problem = conflicted(ratio_bounds=bounds, q=np.linspace(0.5, 1.5, 60))
    result = calibrate(
        problem, "gradient", loss=loss, delta=0.05, target_weights=omega, prior_strength=1e-3
    )
    expected = oracle(problem, RHO[loss], 1e-3, problem.relative_scale, omega)
    assert result.converged and result.details["relative_gap"] < 1e-12
    assert_solved(problem, result, expected)
    if bounds:
        assert (np.abs(result.ratios - 0.8) < 1e-12).any() and (
            np.abs(result.ratios - 1.3) < 1e-12
        ).any(), "bounds must bind, or the test shows nothing"


@pytest.mark.parametrize("kind", ["standard_error", "both"])
def test_scales_built_from_standard_errors(kind):
    errors = np.linspace(0.5, 5.0, 9)
    problem = conflicted(standard_errors=errors)
    scale = (
        errors
        if kind == "standard_error"
        else np.sqrt((0.02 * (np.abs(problem.targets) + 1)) ** 2 + errors**2)
    )
    result = calibrate(
        problem, "gradient", scale=kind, relative_size=0.02, prior_strength=0.1, epsilon=1.0
    )
    assert_solved(problem, result, oracle(problem, cvxpy.square, 0.1, scale, np.ones(9)))


@pytest.mark.parametrize("bounds", [None, (0.7, 1.6)])
@pytest.mark.parametrize("loss", ["square", "huber"])
def test_all_optimisers_reach_the_same_minimum(loss, bounds):
    # Without the target of zero, whose scale of one is a hundredth of the others': Adam takes tens
    # of thousands of steps on it.
    problem = conflicted(200, ratio_bounds=bounds).take_targets(range(8))
    common = {"loss": loss, "delta": 0.1, "prior_strength": 1e-2}
    dual = calibrate(problem, "gradient", **common)
    lbfgs = calibrate(
        problem, "gradient", optimizer="lbfgs", tolerance=1e-9, improvement=0.0, **common
    )
    adam = calibrate(
        problem, "gradient", optimizer="adam", tolerance=1e-3, max_iterations=2000, **common
    )
    assert dual.converged and lbfgs.converged and adam.converged
    least = dual.details["objective"]
    # Steps over the records only tend to a bound, so they are held to the loss, and the weights to
    # what strong convexity makes of it.
    assert least * (1 - 1e-12) <= lbfgs.details["objective"] <= least * (1 + 1e-8)
    assert least * (1 - 1e-12) <= adam.details["objective"] <= least * (1 + 1e-3)
    np.testing.assert_allclose(lbfgs.weights, dual.weights, rtol=2e-3)
    np.testing.assert_allclose(adam.weights, dual.weights, rtol=0.2)


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs"])
def test_weights_are_the_exponentials_of_the_multipliers(optimizer):
    problem = conflicted(100, q=np.linspace(0.5, 2.0, 100))
    result = calibrate(
        problem,
        "gradient",
        optimizer=optimizer,
        prior_strength=1e-2,
        tolerance=1e-11,
        improvement=0.0,
    )
    np.testing.assert_allclose(
        result.weights,
        problem.start * np.exp(problem.q * problem.matrix.exponents(result.multipliers)),
        rtol=1e-9 if optimizer == "dual" else 1e-3,
    )
    missed = np.abs(result.residuals) > 1e-3
    assert (
        missed.any()
        and (np.sign(result.multipliers[missed]) == -np.sign(result.residuals[missed])).all()
    ), "a target undershot pulls up"


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs", "adam"])
def test_sparse_and_dense_agree(optimizer):
    dense = conflicted(80)
    thin = dense.change(matrix=sparse.csr_array(dense.matrix.target_major()))
    assert thin.matrix.is_sparse and not dense.matrix.is_sparse
    # Sums are added in another order; L-BFGS makes the most of such differences, step after step.
    steps = {"dual": 100, "adam": 60, "lbfgs": 12}[optimizer]
    a, b = (
        calibrate(p, "gradient", optimizer=optimizer, max_iterations=steps, prior_strength=1e-2)
        for p in (dense, thin)
    )
    np.testing.assert_allclose(a.weights, b.weights, rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs", "adam"])
def test_a_minimum_is_at_the_target_and_not_at_the_target_less_epsilon(optimizer):
    matrix = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    result = calibrate(
        CalibrationProblem(matrix, [10.0, 3.0], [2.0, 3.0, 5.0]),
        "gradient",
        optimizer=optimizer,
        epsilon=1.0,
    )
    np.testing.assert_allclose(result.fitted, [10.0, 3.0], rtol=1e-4)
    assert result.targets_met.all() and not result.warned("targets_missed")


def test_a_target_of_zero_is_approached_on_the_scale_of_epsilon():
    matrix = np.array([[1.0, 1.0], [1.0, -1.0]])
    result = calibrate(CalibrationProblem(matrix, [10.0, 0.0], [8.0, 2.0]), "gradient")
    np.testing.assert_allclose(result.weights, [5.0, 5.0], rtol=1e-4)
    zero = calibrate(
        CalibrationProblem(np.ones((1, 3)), [0.0], np.ones(3)), "gradient", prior_strength=1e-3
    )
    assert zero.converged and 0 < zero.fitted[0] < 0.1
    with pytest.raises(SettingsError, match="target is zero"):
        calibrate(CalibrationProblem(matrix, [10.0, 0.0], [8.0, 2.0]), "gradient", epsilon=0.0)


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs"])
@settings(max_examples=15, deadline=None)
@given(first=st.floats(0.2, 5.0), second=st.floats(0.2, 5.0), gap=st.floats(-0.3, 0.3))
def test_two_targets_on_one_sum_meet_at_their_weighted_mean(optimizer, first, second, gap):
    goals = 100.0 * np.array([1.0, 1.0 + gap])
    problem = CalibrationProblem(
        np.ones((2, 5)), goals, np.full(5, 18.0), standard_errors=[2.0, 3.0]
    )
    result = calibrate(
        problem,
        "gradient",
        optimizer=optimizer,
        scale="standard_error",
        target_weights=[first, second],
    )
    power = np.array([first / 4.0, second / 9.0])
    np.testing.assert_allclose(result.fitted, power @ goals / power.sum(), rtol=1e-4)


def test_with_one_size_of_scale_huber_splits_a_conflict_at_the_median_and_square_at_the_mean():
    goals = [100.0, 100.5, 101.0, 160.0, 99.5]
    problem = CalibrationProblem(
        np.ones((5, 4)), goals, np.full(4, 25.0), standard_errors=np.ones(5)
    )
    square = calibrate(problem, "gradient", scale="standard_error")
    robust = calibrate(problem, "gradient", scale="standard_error", loss="huber", delta=1e-3)
    assert square.fitted[0] == pytest.approx(np.mean(goals), rel=1e-4)
    assert robust.fitted[0] == pytest.approx(np.median(goals), abs=2e-2)
    assert square.converged and robust.converged


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs"])
@pytest.mark.parametrize("loss", ["capped", "capped_square"])
def test_a_capped_loss_gives_up_an_outlier_that_the_square_follows(loss, optimizer):
    problem = conflicted(120).take_targets(range(8))
    agreed = calibrate(problem, "gradient", prior_strength=1e-3).fitted
    matrix = problem.matrix.target_major()
    # The sixth row once more, with three times its target: no weights can meet both.
    wild = CalibrationProblem(
        np.vstack([matrix, matrix[5]]), np.append(agreed, 3.0 * agreed[5]), problem.start
    )
    square = calibrate(wild, "gradient", prior_strength=1e-4)
    capped = calibrate(
        wild,
        "gradient",
        loss=loss,
        cap=0.2,
        optimizer=optimizer,
        prior_strength=1e-4,
        tolerance=1e-5,
    )
    assert capped.converged and capped.details["local_optimum"]
    assert [w.targets for w in capped.warned("target_beyond_cap")] == [("target 8",)]
    assert capped.relative_errors[:8].max() < 0.005 < 0.15 < square.relative_errors[:8].max()
    assert capped.multipliers[8] == 0.0


def test_majorising_a_capped_loss_never_raises_it():
    """The dual solves each convex step exactly, so f at the ends of the steps must fall, from the
    robust convex start onwards.
    """
    # With this seed a target lies beyond the cap at the start, and letting go of it nearly halves
    # f.
    problem = conflicted(150, seed=7)
    convex = calibrate(problem, "gradient", loss="huber", delta=0.08, prior_strength=1e-3)
    capped = calibrate(problem, "gradient", loss="capped_square", cap=0.08, prior_strength=1e-3)
    d = problem.start

    def at(result):
        w, share = result.weights, result.residuals / problem.relative_scale
        prior = 1e-3 * float((w * np.log(w / d) - w + d).sum())
        return float(np.minimum(share**2, 0.08**2).sum()) + prior

    assert capped.details["monotone"] and capped.details["convex_steps"] >= 2
    assert capped.details["objective"] < 0.7 * at(convex)
    assert capped.details["objective"] == pytest.approx(at(capped), rel=1e-12)
    assert capped.loss_trace[-1] == pytest.approx(at(capped), rel=1e-9)


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_stopping_early_is_said(optimizer):
    problem = conflicted(300)
    result = calibrate(
        problem, "gradient", optimizer=optimizer, max_iterations=7, prior_strength=1e-3
    )
    best = calibrate(problem, "gradient", prior_strength=1e-3)
    assert not result.converged and result.iterations == 7 and len(result.loss_trace) == 7
    assert "stopped after 7 steps" in result.status and "still falling" in result.status
    assert result.warned("not_converged") and "NOT CONVERGED" in result.summary()
    gap = (result.details["objective"] - best.details["objective"]) / result.details["objective"]
    assert 1e-6 < gap <= result.details["relative_gap"], (
        "the proof of the gap must cover the true gap"
    )


def test_the_dual_stopped_early_is_not_converged():
    result = calibrate(conflicted(), "gradient", max_iterations=1, prior_strength=1e-5)
    assert not result.converged and result.warned("not_converged")


@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_without_a_prior_targets_that_can_be_met_are_met(optimizer):
    matrix = conflicted(100).matrix.target_major()[:8]
    start = np.full(100, 2.0)
    problem = CalibrationProblem(matrix, matrix @ (start * np.linspace(0.7, 1.4, 100)), start)
    result = calibrate(
        problem,
        "gradient",
        optimizer=optimizer,
        prior_strength=0.0,
        improvement=0.0,
        tolerance=1e-5,
    )
    assert result.converged and result.multipliers is None
    assert (np.abs(result.residuals) <= 1e-5 * (problem.targets + 1)).all()
    with pytest.raises(SettingsError, match="prior"):
        calibrate(problem, "gradient", prior_strength=0.0)


def test_without_a_prior_a_conflict_is_solved_until_the_forces_cancel():
    problem = CalibrationProblem(np.ones((2, 4)), [100.0, 110.0], np.full(4, 20.0))
    result = calibrate(problem, "gradient", optimizer="lbfgs", prior_strength=0.0)
    s = problem.targets
    assert result.converged and result.fitted[0] == pytest.approx(
        (problem.targets / s**2).sum() / (1 / s**2).sum(), rel=1e-5
    )
    early = calibrate(
        problem,
        "gradient",
        optimizer="adam",
        learning_rate=0.001,
        max_iterations=3,
        prior_strength=0.0,
    )
    assert not early.converged and early.details["force_share"] > 0.1


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 1000),
    low=st.floats(0.0, 1.2),
    room=st.floats(0.01, 3.0),
    loss=st.sampled_from(["square", "huber", "capped"]),
    strength=st.floats(-8, 0),
)
def test_the_dual_is_proved_optimal_under_any_bounds_and_prior(seed, low, room, loss, strength):
    problem = conflicted(80, seed=seed, ratio_bounds=(low, low + room))
    result = calibrate(problem, "gradient", loss=loss, prior_strength=10.0**strength)
    assert result.converged, result.status
    assert (result.ratios >= low - 1e-12).all() and (result.ratios <= low + room + 1e-12).all()


def test_progress_and_trace_hold_the_whole_objective():
    seen: list[tuple[int, float]] = []
    result = calibrate(
        conflicted(), "gradient", progress=lambda i, f: seen.append((i, f)), prior_strength=1e-3
    )
    assert [f for _, f in seen] == list(result.loss_trace) and [i for i, _ in seen] == list(
        range(1, result.iterations + 1)
    )
    assert result.loss_trace[-1] == pytest.approx(result.details["objective"], rel=1e-12)
