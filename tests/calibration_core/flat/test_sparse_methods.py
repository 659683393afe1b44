"""Sparse methods: exactly k records, learned or drawn, and their refit.

Belongs here: hard_concrete, reweighted_l1, random_subset, and the parts they share (gates, the L1
path, the refit). Does not belong here: cross_category and hybrid.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from calibration_core import CalibrationProblem, calibrate
from calibration_core.common.gates import HardConcrete, TemperatureSchedule, logistic_noise
from calibration_core.errors import BudgetError, InfeasibleError, ProblemError, SettingsError
from calibration_core.flat.methods import hard_concrete
from calibration_core.flat.select.refit import refit
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.exact import ExactSettings
from calibration_core.flat.solve.sparse_l1 import PenalisedLinear, WeightedL1
from tests.calibration_core.other_solvers import assert_same_problem

FAST = {"hard_concrete": {"epochs": 120}, "reweighted_l1": {}, "random_subset": {}}
METHODS = sorted(FAST)


def invented(
    records: int = 60,
    margins: int = 2,
    amounts: int = 2,
    seed: int = 0,
    noise: float = 0.0,
    **fields,
) -> CalibrationProblem:
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, 3, size=(margins, records))
    rows = [(code == level).astype(float) for code in codes for level in range(3)]
    rows += [np.exp(rng.normal(size=records)) * 100 for _ in range(amounts)]
    matrix = sparse.csr_array(np.array(rows))
    design = rng.gamma(4.0, 5.0, size=records)
    targets = matrix @ (design * np.exp(0.2 * rng.normal(size=records)))
    return CalibrationProblem(
        matrix, targets * np.exp(noise * rng.normal(size=targets.size)), design, **fields
    )


def planted(
    records: int = 200, targets: int = 40, support: int = 8, seed: int = 3
) -> tuple[CalibrationProblem, np.ndarray]:
    """Targets met by ``support`` records alone: with far more targets than that, the sparsest
    solution is unique.
    """
    rng = np.random.default_rng(seed)
    matrix = rng.exponential(size=(targets, records))
    truth = np.zeros(records)
    truth[rng.choice(records, support, replace=False)] = rng.uniform(1.0, 4.0, size=support)
    return CalibrationProblem(matrix, matrix @ truth, np.ones(records)), truth


# ---- exactly k -----------------------------------------------------------------------------------
# --------------------------------


@pytest.mark.parametrize("method", METHODS)
@given(data=st.data())
@settings(max_examples=12, deadline=None, derandomize=True)
def test_exactly_k_for_every_k_and_problem(method, data):
    records = data.draw(st.integers(5, 60))
    problem = invented(
        records, seed=data.draw(st.integers(0, 50)), noise=data.draw(st.sampled_from([0.0, 0.05]))
    )
    k = data.draw(st.integers(1, records))
    extra = FAST[method] | ({"epochs": 40} if method == "hard_concrete" else {})
    result = calibrate(problem, method, records=k, **extra)
    assert result.selected.size == k
    assert (result.weights >= 0).all()
    np.testing.assert_array_equal(result.selected, result.details["selected"])


@pytest.mark.parametrize("method", ["hard_concrete", "reweighted_l1"])
@pytest.mark.parametrize("k", [1, 7, 30, 60])
def test_exactly_k_without_refit(method, k):
    result = calibrate(invented(), method, records=k, refit=False, **FAST[method])
    assert result.selected.size == k
    assert "refit" not in result.details


@pytest.mark.parametrize("method", METHODS)
def test_records_of_zero_initial_weight_are_never_kept(method):
    design = np.full(40, 2.0)
    design[::4] = 0.0
    problem = invented(40).change(initial_weights=design)
    extra = {"probability": "weight"} if method == "random_subset" else FAST[method]
    result = calibrate(problem, method, records=30, **extra)
    assert result.selected.size == 30
    assert not result.weights[::4].any()
    with pytest.raises(BudgetError, match="30"):
        calibrate(problem, method, records=31, **extra)


@pytest.mark.parametrize("method", METHODS)
def test_sparsity_and_impossible_budgets(method):
    problem = invented(50)
    assert calibrate(problem, method, sparsity=0.8, **FAST[method]).selected.size == 10
    for wrong in ({"records": 0}, {"records": 5, "sparsity": 0.5}, {"sparsity": 1.0}, {}):
        with pytest.raises(SettingsError):
            calibrate(problem, method, **wrong)
    with pytest.raises(BudgetError):
        calibrate(problem, method, records=51)


# ---- determinism ---------------------------------------------------------------------------------
# --------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_bits_whatever_the_global_generators(method):
    problem = invented(80, seed=4, noise=0.02)
    torch.manual_seed(1)
    np.random.seed(1)
    before = calibrate(problem, method, records=20, **FAST[method]).weights
    torch.manual_seed(2)
    np.random.seed(2)
    state = torch.get_rng_state()
    after = calibrate(problem, method, records=20, **FAST[method]).weights
    np.testing.assert_array_equal(before, after)
    assert torch.equal(state, torch.get_rng_state()), "the global generator was used"


@pytest.mark.parametrize("method", ["hard_concrete", "random_subset"])
def test_another_seed_is_another_draw(method):
    problem = invented(80, seed=4)
    first, second = (
        calibrate(problem, method, records=20, seed=s, **FAST[method]).selected for s in (0, 1)
    )
    assert not np.array_equal(first, second)


def test_gates_do_not_hang_on_the_number_of_threads():
    problem, threads = invented(3000, seed=5), torch.get_num_threads()
    try:
        answers = []
        for count in (1, 2):
            torch.set_num_threads(count)
            answers.append(calibrate(problem, "hard_concrete", records=100, epochs=60).weights)
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(answers[0], answers[1], rtol=1e-9)


def test_random_draw_by_weight_follows_the_weights():
    design = np.array([1.0, 1.0, 1.0, 9.0])
    problem = CalibrationProblem(np.ones((1, 4)), [12.0], design)
    drawn = np.zeros(4)
    for seed in range(400):
        drawn[
            calibrate(problem, "random_subset", records=1, probability="weight", seed=seed).selected
        ] += 1
    assert abs(drawn[3] / 400 - 0.75) < 4 * np.sqrt(0.75 * 0.25 / 400)


# ---- gates ---------------------------------------------------------------------------------------
# --------------------------------


@pytest.mark.parametrize("heat", [0.25, 2 / 3, 1.5])
def test_open_probability_and_mean_agree_with_monte_carlo(heat):
    gates, count = HardConcrete(), 400_000
    noise = logistic_noise(count, torch.Generator().manual_seed(7), torch.float64)
    for odds in (-3.0, -0.5, 0.0, 1.0, 4.0):
        a = torch.tensor([odds], dtype=torch.float64)
        z, _ = gates.sample(a, noise, heat)
        assert float(z.min()) >= 0 and float(z.max()) <= 1
        open_, mean = (z > 0).double(), z
        for sampled, formula in (
            (open_, gates.open_probability(a, heat)[0]),
            (mean, gates.mean(a, heat)),
        ):
            assert (
                abs(float(sampled.mean()) - float(formula))
                < 5 * float(sampled.std()) / np.sqrt(count) + 1e-6
            )


def test_slopes_of_gates_and_penalty_agree_with_finite_differences():
    gates, heat, step = HardConcrete(), 0.5, 1e-6
    a = torch.linspace(-3, 3, 41, dtype=torch.float64)
    noise = logistic_noise(41, torch.Generator().manual_seed(1), torch.float64)
    z, slope = gates.sample(a, noise, heat)
    inside = (z > 1e-4) & (z < 1 - 1e-4)
    numeric = (gates.sample(a + step, noise, heat)[0] - gates.sample(a - step, noise, heat)[0]) / (
        2 * step
    )
    assert inside.sum() > 5 and (~inside).sum() > 5
    torch.testing.assert_close(slope[inside], numeric[inside], rtol=1e-6, atol=1e-8)
    closed = (z == 0) | (z == 1)
    assert not slope[closed].any()
    price = 0.3

    def penalty(x):
        return price * gates.open_probability(x, heat)[0].sum()

    for i in (0, 20, 40):
        nudge = torch.zeros_like(a)
        nudge[i] = step
        numeric = (penalty(a + nudge) - penalty(a - nudge)) / (2 * step)
        torch.testing.assert_close(
            price * gates.open_probability(a, heat)[1][i], numeric, rtol=1e-6, atol=1e-9
        )


def test_slopes_of_the_loss_agree_with_automatic_differentiation():
    problem = invented(30, seed=2)
    products = hard_concrete._Products(problem, np.arange(30), torch.device("cpu"))
    v = torch.randn(
        30, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    ).requires_grad_()
    a = torch.zeros(30, dtype=torch.float64).requires_grad_()
    noise = logistic_noise(30, torch.Generator().manual_seed(3), torch.float64)
    gates = HardConcrete()
    dense = torch.as_tensor(problem.matrix.by_record.toarray().T / residual_scale(problem)[:, None])
    z = gates.sample(a, noise, 0.5)[0]
    loss = ((dense @ (torch.exp(v) * z) - products.goal) ** 2).mean()
    loss.backward()
    with torch.no_grad():
        found, in_v, in_a = hard_concrete.loss_and_slopes(
            products, v.detach(), *gates.sample(a.detach(), noise, 0.5)
        )
    torch.testing.assert_close(found, loss.detach())
    torch.testing.assert_close(in_v, v.grad)
    torch.testing.assert_close(in_a, a.grad)


def test_temperatures_and_stretch():
    schedule = TemperatureSchedule("geometric", 2.0, 0.5)
    assert [schedule.at(x) for x in (0.0, 0.5, 1.0, 3.0)] == pytest.approx([2.0, 1.0, 0.5, 0.5])
    assert TemperatureSchedule("constant", 2.0, 0.5).at(0.0) == 0.5
    for wrong in (
        lambda: TemperatureSchedule("linear"),
        lambda: TemperatureSchedule(start=0.0),
        lambda: HardConcrete(low=0.0),
        lambda: HardConcrete(high=1.0),
    ):
        with pytest.raises(SettingsError):
            wrong()


def test_the_count_is_held_at_k():
    result = calibrate(invented(200, seed=1), "hard_concrete", records=40, epochs=100)
    assert result.details["expected_count"] == pytest.approx(40, rel=1e-6)
    assert len(result.loss_trace) == 100


def test_a_penalty_instead_of_a_count_keeps_fewer_as_it_grows():
    problem = invented(200, seed=1)
    kept = [
        calibrate(problem, "hard_concrete", penalty=p, epochs=400).selected.size
        for p in (1e-5, 1e-3, 1e-2)
    ]
    assert 200 >= kept[0] > kept[1] > kept[2] >= 1
    with pytest.raises(ProblemError, match="No gate"):
        calibrate(problem, "hard_concrete", penalty=1e6, epochs=400)
    with pytest.raises(SettingsError):
        calibrate(problem, "hard_concrete", penalty=1e-3, records=5)


def test_gates_beat_a_random_draw_in_sample_near_the_number_of_targets():
    problem = invented(1500, margins=8, amounts=8, seed=6)
    learned = calibrate(problem, "hard_concrete", records=30, epochs=600)
    drawn = [calibrate(problem, "random_subset", records=30, seed=s) for s in range(5)]

    def loss(r):
        return float(np.mean(r.relative_errors**2))

    assert loss(learned) < 0.2 * min(loss(r) for r in drawn)


# ---- reweighted L1 -------------------------------------------------------------------------------
# --------------------------------


def test_reweighted_l1_recovers_a_planted_sparse_solution():
    problem, truth = planted()
    result = calibrate(problem, "reweighted_l1", records=int((truth > 0).sum()))
    assert result.converged
    np.testing.assert_array_equal(result.selected, np.flatnonzero(truth))
    np.testing.assert_allclose(result.weights[truth > 0], truth[truth > 0], rtol=1e-3)
    drawn = calibrate(problem, "random_subset", records=int((truth > 0).sum()))
    assert np.nanmax(drawn.relative_errors) > 0.05, (
        "a random draw solves it too: the test shows nothing"
    )


def test_one_penalised_solution_agrees_with_a_general_solver():
    cvxpy = pytest.importorskip("cvxpy")
    problem = invented(40, seed=8, noise=0.1)
    d, s = problem.start, residual_scale(problem)
    rng = np.random.default_rng(0)
    v, p, kappa, high = rng.uniform(0.5, 2.0, 40), 1.3, 0.2, np.full(40, 60.0)
    found = WeightedL1(problem.matrix, problem.targets, d, s, kappa, high, tolerance=1e-10).solve(
        v, p
    )
    w = cvxpy.Variable(40)
    dense = problem.matrix.by_record.toarray().T
    fit = cvxpy.sum_squares(cvxpy.multiply(1 / s, dense @ w - problem.targets)) * (
        d.sum() / kappa / 2
    )
    cost = p * (v @ w) + cvxpy.sum(cvxpy.multiply(1 / (2 * d), cvxpy.square(w - d))) + fit
    cvxpy.Problem(cvxpy.Minimize(cost), [w >= 0, w <= high]).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    assert found.converged
    assert 0 < (found.weights == 0).sum() < 40

    def objective(x):
        w.value = x
        return float(cost.value)

    theirs = np.clip(w.value, 0.0, high)
    assert_same_problem(objective(found.weights), objective(theirs), found.weights, theirs)


def test_the_integral_of_the_penalised_distance_has_its_ratio_as_slope():
    distance, u, step = (
        PenalisedLinear(np.array([0.0, 0.5, 2.0]), 3.0),
        np.array([0.3, 0.2, 4.5]),
        1e-6,
    )
    up, down = (distance.integral(u + e, distance.ratio(u + e)) for e in (step, -step))
    np.testing.assert_allclose((up - down) / (2 * step), distance.ratio(u), rtol=1e-6)


def test_plain_l1_does_nothing_where_the_total_is_a_target():
    problem = invented(100, margins=3, seed=9)
    path = WeightedL1(
        problem.matrix,
        problem.targets,
        problem.start,
        residual_scale(problem),
        1e-6,
        np.full(100, np.inf),
    )
    counts = [int((path.solve(np.ones(100), p).weights > 0).sum()) for p in (0.01, 1.0, 5.0)]
    varied = [int((path.solve(1 / problem.start, p).weights > 0).sum()) for p in (20.0, 200.0)]
    assert counts == [counts[0]] * 3
    assert varied[1] < counts[0]


def test_fewer_records_than_targets_trade_off_and_say_so():
    problem = invented(300, margins=6, amounts=6, seed=10)
    result = calibrate(problem, "reweighted_l1", records=10)
    assert result.selected.size == 10
    assert result.warned("targets_missed")
    assert not result.details["refit"]["met"]


# ---- refit ---------------------------------------------------------------------------------------
# --------------------------------


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


@pytest.mark.parametrize("method", METHODS)
def test_every_method_holds_the_bounds(method):
    problem = invented(200, seed=15, weight_bounds=(0.0, 90.0))
    result = calibrate(problem, method, records=80, **FAST[method])
    assert result.weights.max() <= 90.0
    assert result.selected.size == 80


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


# ---- honesty -------------------------------------------------------------------------------------
# --------------------------------


def test_a_choice_that_still_changes_is_not_converged():
    problem = invented(400, margins=6, amounts=6, seed=17, noise=0.05)
    hasty = calibrate(problem, "hard_concrete", records=40, epochs=30, settled=0.0)
    assert not hasty.converged and hasty.warned("selection_not_settled")
    once = calibrate(problem, "reweighted_l1", records=40, rounds=1)
    assert not once.converged and once.warned("selection_not_settled")
    patient = calibrate(problem, "reweighted_l1", records=40)
    assert not patient.warned("selection_not_settled")
    # The choice has settled, but noisy targets cannot all be met: that is not convergence either.
    assert not patient.converged and patient.warned("targets_missed")


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


@pytest.mark.parametrize("method", METHODS)
def test_targets_that_can_be_met_are_met(method):
    result = calibrate(invented(400, seed=19), method, records=150, **FAST[method])
    assert result.targets_met.all()
    assert result.details["refit"]["met"]
