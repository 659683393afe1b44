"""What must not matter to the gradient method, and what it refuses: order, threads, units,
precision, the GPU.

Belongs here: invariances, settings out of range. Does not belong here: the minimum itself
(``test_gradient.py``).
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import sparse

from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import ProblemError, SettingsError
from tests.calibration_core.flat.gradient_case import conflicted


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs", "adam"])
def test_bounds_hold_to_the_digit_and_zero_weights_stay_zero(optimizer):
    problem = conflicted(90)
    start = problem.start.copy()
    start[:5] = 0.0
    low, high = np.full(90, 0.5), np.full(90, 2.5)
    low[:5] = 0.0
    problem = problem.change(
        initial_weights=start, weight_bounds=(low, high), matrix=problem.matrix
    )
    result = calibrate(
        problem,
        "gradient",
        optimizer=optimizer,
        precision="float64" if optimizer == "dual" else "float32",
        max_iterations=100,
    )
    assert (
        (result.weights >= low).all()
        and (result.weights <= high).all()
        and (result.weights[:5] == 0).all()
    )


def test_float32_ends_near_float64_and_is_judged_in_float64():
    problem = conflicted(150).take_targets(range(8))
    exact = calibrate(problem, "gradient", prior_strength=1e-2)
    coarse = calibrate(
        problem,
        "gradient",
        optimizer="adam",
        precision="float32",
        prior_strength=1e-2,
        tolerance=1e-3,
    )
    assert coarse.weights.dtype == np.float64 and coarse.converged
    assert coarse.details["objective"] == pytest.approx(exact.details["objective"], rel=1e-3)


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs", "adam"])
def test_repeating_a_run_repeats_every_bit_and_leaves_the_global_generator_alone(optimizer):
    problem = conflicted(100)
    torch.manual_seed(1)
    state = torch.get_rng_state().clone()
    first = calibrate(problem, "gradient", optimizer=optimizer, loss="huber", max_iterations=50)
    assert torch.equal(state, torch.get_rng_state())
    torch.manual_seed(2)
    second = calibrate(problem, "gradient", optimizer=optimizer, loss="huber", max_iterations=50)
    np.testing.assert_array_equal(first.weights, second.weights)
    assert first.loss_trace == second.loss_trace


@pytest.mark.parametrize("optimizer", ["dual", "adam"])
def test_the_number_of_threads_does_not_show(optimizer):
    problem = conflicted(4000)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            found.append(
                calibrate(
                    problem, "gradient", optimizer=optimizer, prior_strength=1e-4, max_iterations=40
                ).weights
            )
    finally:
        torch.set_num_threads(before)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9)


@pytest.mark.parametrize("optimizer", ["dual", "lbfgs"])
def test_the_order_of_records_and_targets_does_not_matter(optimizer):
    problem = conflicted(70)
    rng = np.random.default_rng(0)
    i, j = rng.permutation(70), rng.permutation(9)
    moved = CalibrationProblem(
        problem.matrix.target_major()[j][:, i], problem.targets[j], problem.start[i]
    )
    a, b = (
        calibrate(
            p,
            "gradient",
            optimizer=optimizer,
            prior_strength=1e-1,
            tolerance=1e-11,
            improvement=0.0,
        )
        for p in (problem, moved)
    )
    np.testing.assert_allclose(a.weights[i], b.weights, rtol=1e-10 if optimizer == "dual" else 1e-4)


def test_splitting_a_record_splits_its_weight():
    problem = conflicted(40)
    a = problem.matrix.target_major()
    split = CalibrationProblem(
        np.hstack([a, a[:, :1]]),
        problem.targets,
        np.concatenate([[0.25 * problem.start[0]], problem.start[1:], [0.75 * problem.start[0]]]),
    )
    one, two = calibrate(problem, "gradient"), calibrate(split, "gradient")
    np.testing.assert_allclose(two.weights[0] + two.weights[-1], one.weights[0], rtol=1e-9)
    np.testing.assert_allclose(two.weights[1:-1], one.weights[1:], rtol=1e-9)


def test_a_target_of_weight_zero_is_looked_at_and_named():
    problem = conflicted()
    omega = np.ones(9)
    omega[[2, 6]] = 0.0
    with_zero = calibrate(problem, "gradient", target_weights=omega, prior_strength=1e-3)
    without = calibrate(
        problem.take_targets(np.flatnonzero(omega)), "gradient", prior_strength=1e-3
    )
    np.testing.assert_allclose(with_zero.weights, without.weights, rtol=1e-10)
    assert (
        with_zero.warned("target_without_weight")[0].targets == ("target 2", "target 6")
        and (with_zero.multipliers[[2, 6]] == 0).all()
    )


def test_the_default_prior_does_not_depend_on_the_units_of_the_weights():
    problem = conflicted()
    thousands = CalibrationProblem(
        problem.matrix.target_major() * 1000.0, problem.targets, problem.start / 1000.0
    )
    np.testing.assert_allclose(
        calibrate(thousands, "gradient").weights * 1000.0,
        calibrate(problem, "gradient").weights,
        rtol=1e-9,
    )


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        pytest.param({"optimizer": "sgd"}, "optimizer is 'sgd'", id="optimizer"),
        pytest.param({"loss": "cube"}, "loss is 'cube'", id="loss"),
        pytest.param({"delta": 0.0}, "delta", id="delta"),
        pytest.param({"loss": "capped", "corner": 2.0}, "corner", id="corner"),
        pytest.param({"scale": "absolute"}, "scale is", id="scale"),
        pytest.param(
            {"target_weights": "counties"}, "target_weights", id="weights by an unknown name"
        ),
        pytest.param(
            {"target_weights": np.ones(4)},
            "target_weights has shape",
            id="weights of another length",
        ),
        pytest.param({"target_weights": -np.ones(9)}, "target_weights", id="negative weights"),
        pytest.param({"prior_strength": -1.0}, "prior_strength", id="prior"),
        pytest.param({"max_iterations": 0}, "max_iterations", id="iterations"),
        pytest.param({"precision": "float16", "optimizer": "adam"}, "precision", id="precision"),
        pytest.param({"device": "cuda"}, "dual was asked for on 'cuda'", id="dual on a GPU"),
        pytest.param(
            {"device": "toaster", "optimizer": "adam"}, "device is 'toaster'", id="device"
        ),
    ],
)
def test_settings_out_of_range_are_refused_in_words(wrong, match):
    with pytest.raises(SettingsError, match=match):
        calibrate(conflicted(), "gradient", **wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_a_machine_without_cuda_says_so(optimizer):
    with pytest.raises(SettingsError, match="no CUDA device"):
        calibrate(conflicted(), "gradient", optimizer=optimizer, device="cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("optimizer", ["lbfgs", "adam"])
def test_the_gpu_finds_what_the_cpu_finds(optimizer):
    problem = conflicted(200)
    problem = problem.change(matrix=sparse.csr_array(problem.matrix.target_major()))
    cpu, gpu = (
        calibrate(
            problem,
            "gradient",
            optimizer=optimizer,
            device=d,
            prior_strength=1e-2,
            max_iterations=60,
        )
        for d in ("cpu", "cuda")
    )
    np.testing.assert_allclose(gpu.weights, cpu.weights, rtol=1e-6)


def test_standard_errors_are_asked_for_where_they_are_missing():
    with pytest.raises(ProblemError, match="needs standard errors"):
        calibrate(conflicted(), "gradient", scale="standard_error")
