"""Sparse methods: exactly k records, learned or drawn.

Belongs here: what hard_concrete, reweighted_l1 and random_subset all promise. Does not belong here:
gates and the L1 path (``test_gates.py``), the refit (``test_refit.py``), cross_category and hybrid.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import BudgetError, SettingsError
from tests.calibration_core.flat.sparse_case import FAST, METHODS, invented


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


@pytest.mark.parametrize("method", METHODS)
def test_every_method_holds_the_bounds(method):
    problem = invented(200, seed=15, weight_bounds=(0.0, 90.0))
    result = calibrate(problem, method, records=80, **FAST[method])
    assert result.weights.max() <= 90.0
    assert result.selected.size == 80


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
def test_targets_that_can_be_met_are_met(method):
    result = calibrate(invented(400, seed=19), method, records=150, **FAST[method])
    assert result.targets_met.all()
    assert result.details["refit"]["met"]
