"""Hard concrete gates and reweighted L1: formulas against finite differences, Monte Carlo, and a
generic solver.

Belongs here: gates and the L1 path. Does not belong here: what every sparse method promises
(``test_sparse_methods.py``).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch

from calibration_core import CalibrationProblem, calibrate
from calibration_core.common.gates import HardConcrete, TemperatureSchedule, logistic_noise
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.methods import hard_concrete
from calibration_core.flat.solve.compromise import residual_scale
from calibration_core.flat.solve.sparse_l1 import PenalisedLinear, WeightedL1
from tests.calibration_core.flat.sparse_case import invented
from tests.calibration_core.other_solvers import assert_same_problem


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
