"""The refit of a selection: exactly the records kept, targets met or traded off, bounds held.

Belongs here: ``flat/select/refit.py``. Does not belong here: who is kept
(``test_sparse_methods.py``).
"""

from __future__ import annotations

import numpy as np
import pytest

from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import InfeasibleError, ProblemError
from calibration_core.flat.select.refit import refit
from calibration_core.flat.solve.exact import ExactSettings
from tests.calibration_core.flat.sparse_case import FAST, METHODS, invented


def test_fewer_records_than_targets_trade_off_and_say_so():
    problem = invented(300, margins=6, amounts=6, seed=10)
    result = calibrate(problem, "reweighted_l1", records=10)
    assert result.selected.size == 10
    assert result.warned("targets_missed")
    assert not result.details["refit"]["met"]


def test_refit_is_exact_where_the_targets_can_be_met():
    problem = invented(300, seed=11)
    chosen = np.sort(np.random.default_rng(0).choice(300, 120, replace=False))
    fit = refit(problem, chosen, problem.start)
    assert fit.converged and fit.met
    np.testing.assert_array_equal(np.flatnonzero(fit.weights), chosen)
    np.testing.assert_allclose(problem.matrix.totals(fit.weights), problem.targets, rtol=1e-8)
    # Kullback-Leibler: log ratios lie in the span of the columns, up to the one factor.
    log_ratio = np.log(fit.weights[chosen] / problem.start[chosen])
    span = np.column_stack([problem.matrix.by_record[chosen].toarray(), np.ones(120)])
    rest = log_ratio - span @ np.linalg.lstsq(span, log_ratio, rcond=None)[0]
    assert np.abs(rest).max() < 1e-8


def test_refit_does_not_hang_on_the_order_or_form_of_the_selection():
    problem = invented(100, seed=12)
    chosen = np.array([5, 3, 90, 41, 17, 60, 22, 71, 33, 8])
    mask = np.zeros(100, dtype=bool)
    mask[chosen] = True
    np.testing.assert_array_equal(
        refit(problem, chosen, problem.start).weights, refit(problem, mask, problem.start).weights
    )


def test_refit_compromise_is_the_least_squares_of_relative_errors_and_keeps_all():
    cvxpy = pytest.importorskip("cvxpy")
    problem = invented(100, margins=4, amounts=4, seed=13)
    chosen = np.arange(0, 100, 13)
    fit = refit(problem, chosen, problem.start)
    assert fit.converged and not fit.met
    assert (fit.weights[chosen] > 0).all()
    scaled = problem.matrix.by_record[chosen].toarray().T / problem.relative_scale[:, None]
    w = cvxpy.Variable(chosen.size, nonneg=True)
    best = cvxpy.Problem(
        cvxpy.Minimize(cvxpy.sum_squares(scaled @ w - problem.targets / problem.relative_scale))
    ).solve(solver="CLARABEL")
    reached = float(
        ((scaled @ fit.weights[chosen] - problem.targets / problem.relative_scale) ** 2).sum()
    )
    # The refit keeps a trace of the prior, which holds every weight above zero.
    assert reached == pytest.approx(best, rel=1e-3)


def test_refit_holds_bounds_on_the_records_kept():
    problem = invented(200, seed=14, weight_bounds=(1.0, 60.0))
    chosen = np.arange(0, 200, 2)
    fit = refit(problem, chosen, problem.start)
    assert fit.weights[chosen].min() >= 1.0 and fit.weights.max() <= 60.0
    assert not fit.weights[1::2].any()
    assert [w.size for w in fit.warnings if w.code == "bounds_hold_for_kept_records"] == [100.0]
    loose = refit(problem.change(weight_bounds=None), chosen, problem.start)
    assert loose.weights[chosen].max() > 60.0 or loose.weights[chosen].min() < 1.0, (
        "the bounds do not bind: the test shows nothing"
    )


def test_refit_counts_what_it_had_to_fill_in_and_what_is_next_to_nothing():
    problem = invented(60, seed=16)
    starting = problem.start.copy()
    starting[[0, 3]] = 0.0
    fit = refit(problem, np.arange(40), starting)
    assert [w.size for w in fit.warnings if w.code == "zero_starting_weight"] == [2.0]
    assert (fit.weights[:40] > 0).all()
    matrix = np.array([[1.0, 1.0, 1.0], [0.0, 0.0, 1.0]])
    pushed_out = refit(
        CalibrationProblem(matrix, [2.0, 1e-14], np.ones(3)), np.arange(3), np.ones(3)
    )
    assert any(w.code == "negligible_weights" and w.size == 1 for w in pushed_out.warnings)


def test_refit_refuses_what_it_cannot_read():
    problem = invented(20)
    for chosen in (
        np.array([], dtype=int),
        np.array([0, 0]),
        np.array([20]),
        np.array([-1]),
        np.zeros(5, dtype=bool),
        np.array([0.5]),
    ):
        with pytest.raises(ProblemError):
            refit(problem, chosen, problem.start)
    for starting in (np.ones(3), np.full(20, -1.0), np.full(20, np.nan)):
        with pytest.raises(ProblemError):
            refit(problem, np.arange(5), starting)
    with pytest.raises(InfeasibleError):
        refit(
            problem,
            np.arange(2),
            problem.start,
            exact_settings=ExactSettings(strict=True, explain=False),
        )


@pytest.mark.parametrize("method", METHODS)
def test_a_refit_that_stopped_early_is_not_converged(method):
    problem = invented(200, seed=18)
    result = calibrate(
        problem,
        method,
        records=60,
        exact=ExactSettings(max_iterations=1, explain=False),
        **FAST[method],
    )
    assert not result.converged
    assert result.warned("targets_missed")
