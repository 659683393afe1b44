"""The rules that end the path of tau: hand-computed cases, and what holds of any problem."""

import itertools
from dataclasses import replace

import numpy as np
import pytest

from calibration_core.errors import SettingsError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.dual import Dual
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.solve.stopping import effective_parameters
from tests.calibration_core.tree.test_tree_newton import random_problem

PATH = TreeNewtonSettings(
    tau_path=(30.0, 10.0, 3.0, 1.0, 0.3, 0.1), tolerance=1e-10, path_tolerance=1e-6, prior_unit=1.0
)


def one_level(values, scales, records: int = 40, areas: int = 12, seed: int = 0) -> PoolProblem:
    """Areas beside each other; ``values``, ``scales``: (areas, variables)."""
    rng = np.random.default_rng(seed)
    names = [f"a{i:02d}" for i in range(areas)]
    tree = GeographyTree.from_leaves(["area"], [names])
    design = np.column_stack(
        [np.ones(records), rng.integers(0, 2, (records, np.shape(values)[1] - 1))]
    ).astype(float)
    targets = make_targets(tree, [design], [np.asarray(values)], [np.asarray(scales)])
    prior = np.full(records, 100.0 * areas / records)
    return PoolProblem(
        tree, targets, prior, np.zeros(records, dtype=np.int64), np.full((areas, 1), 1.0 / areas)
    )


def noisy(seed: int = 3, areas: int = 40, variables: int = 8, noise: float = 1.0) -> PoolProblem:
    """Targets of tilted weights with an error of one scale each, times ``noise``."""
    rng = np.random.default_rng(seed)
    shape = (areas, variables)
    blank = one_level(np.zeros(shape), np.ones(shape), 200, areas, seed)
    design = blank.targets.designs[0]
    tilt = 0.15 * rng.standard_normal(shape)
    weights = np.exp(tilt @ (design - design.mean(axis=0)).T)
    weights *= 100.0 / weights.sum(axis=1, keepdims=True)
    values = weights @ design + 5.0 * noise * rng.standard_normal(shape)
    targets = make_targets(blank.tree, [design], [values], [np.full(shape, 5.0)])
    return replace(blank, targets=targets)


def test_one_target_spends_what_its_curvature_says():
    # One record of prior 50, contribution 2, target 120, scale 4: at the optimum
    # 2 w - 120 = -tau 4 y with w = 50 exp(2 y / 4), K = w 2^2 / 4^2, p = K / (K + tau).
    tree = GeographyTree.from_leaves(["area"], [["a"]])
    targets = make_targets(tree, [np.array([[2.0]])], [np.array([[120.0]])], [np.array([[4.0]])])
    problem = PoolProblem(tree, targets, np.array([50.0]), np.zeros(1, int), np.ones((1, 1)))
    settings = replace(PATH, tau_path=(1.0,), stop="risk")
    result = calibrate_tree(problem, settings)
    (point,) = result.path
    weight = float(result.weights[0, 0])
    curvature = weight * 4.0 / 16.0
    assert point.parameters == pytest.approx(curvature / (curvature + 1.0), rel=1e-4)
    residual = (2.0 * weight - 120.0) / 4.0
    assert point.squares == pytest.approx(residual**2, rel=1e-4)
    assert point.risk == pytest.approx(residual**2 + 2.0 * point.parameters - 1.0, rel=1e-4)
    assert point.variance == pytest.approx(residual**2 / (1.0 - point.parameters), rel=1e-4)


def test_parameters_are_the_trace_of_what_fitted_totals_answer_to_targets():
    """By differences: move one target of the finest level, see how far its total follows."""
    problem = random_problem(4)
    settings = replace(PATH, tau_path=(1.0,), stop="risk")
    point = calibrate_tree(problem, settings).path[-1]
    spent, step = 0.0, 1e-4
    scales = problem.targets.scales
    for area, variable in np.argwhere(np.isfinite(scales[-1])):
        ends = []
        for sign in (1.0, -1.0):
            values = [value.copy() for value in problem.targets.values]
            values[-1][area, variable] += sign * step
            moved = replace(problem, targets=replace(problem.targets, values=tuple(values)))
            ends.append(calibrate_tree(moved, settings).fitted[-1][area, variable])
        spent += (ends[0] - ends[1]) / (2.0 * step)
    assert point.targets == int(np.isfinite(scales[-1]).sum())
    assert point.parameters == pytest.approx(spent, rel=1e-4)


def test_random_signs_come_near_the_exact_trace(monkeypatch):
    problem = noisy()
    settings = replace(PATH, tau_path=(1.0,), stop="risk")
    result = calibrate_tree(problem, settings)
    dual = Dual(problem, settings)
    y = [dual.blocks.send(m / dual.units.weight) for m in result.multipliers]
    state = dual.evaluate(y, 1.0)
    monkeypatch.setattr("calibration_core.tree.solve.stopping._ONE_BY_ONE", 10**6)
    exact = effective_parameters(dual, y, state, 1.0)
    assert 0 < exact < result.path[-1].targets == 320
    assert result.path[-1].parameters == pytest.approx(exact, rel=0.03)


def test_parameters_rise_and_squares_fall_as_tau_falls():
    path = calibrate_tree(noisy(), replace(PATH, stop="discrepancy", tau_path=(3.0, 1.0))).path
    path += calibrate_tree(noisy(), replace(PATH, stop="risk", tau_path=(0.3,))).path
    assert all(a.parameters < b.parameters for a, b in itertools.pairwise(path))
    assert all(a.squares > b.squares for a, b in itertools.pairwise(path))


def test_discrepancy_ends_at_the_first_tau_whose_residuals_are_what_errors_leave():
    result = calibrate_tree(noisy(), replace(PATH, stop="discrepancy"))
    *before, last = result.path
    assert result.path_met
    assert before
    assert all(point.variance > 1.0 for point in before)
    assert last.variance <= 1.0
    assert result.tau == last.tau


def test_risk_goes_back_to_its_smallest():
    result = calibrate_tree(noisy(), replace(PATH, stop="risk"))
    risks = [point.risk for point in result.path]
    assert result.path_met
    assert len(risks) >= 2
    assert result.tau == result.path[-2].tau
    assert min(risks) == risks[-2] < risks[-1]
    again = calibrate_tree(noisy(), replace(PATH, tau_path=(result.tau,)))
    assert result.converged
    assert result.weights == pytest.approx(again.weights, rel=1e-6, abs=1e-9)


def test_risk_estimates_the_error_against_the_truth():
    """Over many draws of errors its mean is that of the true mean squared error, in scales."""
    truth, estimated, true = noisy(noise=0.0), [], []
    settings = replace(PATH, tau_path=(1.0,), stop="risk")
    for seed in range(12):
        rng = np.random.default_rng(seed)
        value = truth.targets.values[0]
        drawn = value + 5.0 * rng.standard_normal(value.shape)
        problem = replace(truth, targets=replace(truth.targets, values=(drawn,)))
        result = calibrate_tree(problem, settings)
        estimated.append(result.path[-1].risk)
        true.append(float((((result.fitted[0] - value) / 5.0) ** 2).mean()))
    spread = np.std(np.subtract(estimated, true)) / np.sqrt(12)
    assert abs(np.mean(estimated) - np.mean(true)) < 3.0 * spread + 0.01


def test_smaller_errors_than_scales_end_the_path_earlier():
    """Nothing is gained by fitting what is already within its errors."""
    exact = calibrate_tree(noisy(noise=0.0), replace(PATH, stop="discrepancy"))
    loud = calibrate_tree(noisy(noise=2.0), replace(PATH, stop="discrepancy"))
    assert exact.tau > loud.tau


@pytest.mark.parametrize("stop", ["discrepancy", "risk"])
def test_a_path_that_is_too_short_is_told(stop):
    result = calibrate_tree(noisy(), replace(PATH, stop=stop, tau_path=(30.0, 10.0)))
    assert not result.path_met
    assert result.tau == 10.0
    (warning,) = result.warned("path_ended")
    assert stop in warning.message


def test_the_rule_share_spends_nothing_on_parameters():
    result = calibrate_tree(noisy(), replace(PATH, share=(0.5,)))
    assert np.isnan(result.path[-1].parameters)
    assert result.path[-1].inside[0] >= 0.5


def test_written_out_pairs_have_the_same_path_as_the_pool():
    problem = noisy()
    leaves, records = problem.leaf_prior.shape[0], problem.record_prior.size
    leaf, record = np.divmod(np.arange(leaves * records), records)
    prior = problem.record_prior[record] / leaves
    pairs = PairProblem(problem.tree, problem.targets, leaf, record, prior)
    settings = replace(PATH, stop="risk")
    pool, written = calibrate_tree(problem, settings), calibrate_tree(pairs, settings)
    assert [p.tau for p in pool.path] == [p.tau for p in written.path]
    assert [p.parameters for p in pool.path] == pytest.approx([p.parameters for p in written.path])


def test_an_unknown_rule_is_refused():
    with pytest.raises(SettingsError, match="'guess'"):
        TreeNewtonSettings(stop="guess")
