"""What must not change, or must change in a known way, when a problem is written differently.
Theory gives every one of these.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import InfeasibleError

METHODS = ("linear", "truncated_linear", "raking", "raking_bounded", "logit")
BOUNDED = ("truncated_linear", "raking_bounded", "logit")
SEEDS = st.integers(0, 1_000_000)
FEW = settings(max_examples=12, deadline=None, derandomize=True)
every_method = pytest.mark.parametrize("method", METHODS)


def problem(seed, method, records=30, **fields):
    """A margin of three levels, an amount and a signed row; the targets are totals of weights
    within the bounds.
    """
    rng = np.random.default_rng(seed)
    code = np.r_[0, 1, 2, rng.integers(0, 3, records - 3)]
    a = np.vstack([np.eye(3)[:, code], np.exp(rng.normal(3, 1, records)), rng.normal(size=records)])
    d = rng.gamma(4.0, 10.0, records)
    true = d * np.clip(np.exp(0.3 * rng.normal(size=records)), 0.5, 1.9)
    bounds = {"ratio_bounds": (0.4, 2.2)} if method in BOUNDED else {}
    return CalibrationProblem(a, a @ true, d, **{**bounds, **fields})


def solve(p, method):
    result = calibrate(p, method)
    assert result.converged, result.summary()
    return result.weights


def dense(p):
    return p.matrix.target_major()


@every_method
@FEW
@given(seed=SEEDS, factor=st.floats(1e-8, 1e8))
def test_the_unit_of_a_target_does_not_matter(method, seed, factor):
    p = problem(seed, method)
    a, b = dense(p), p.targets.copy()
    a[3] *= factor
    b[3] *= factor
    np.testing.assert_allclose(
        solve(p.change(matrix=a, targets=b), method), solve(p, method), rtol=1e-8
    )


@every_method
@FEW
@given(seed=SEEDS)
def test_the_sign_of_a_target_does_not_matter(method, seed):
    p = problem(seed, method)
    a, b = dense(p), p.targets.copy()
    a[3] *= -1
    b[3] *= -1
    np.testing.assert_allclose(
        solve(p.change(matrix=a, targets=b), method), solve(p, method), rtol=1e-8
    )


@every_method
@FEW
@given(seed=SEEDS)
def test_the_order_of_targets_does_not_matter(method, seed):
    p = problem(seed, method)
    order = np.random.default_rng(seed).permutation(5)
    np.testing.assert_allclose(solve(p.take_targets(order), method), solve(p, method), rtol=1e-9)


@every_method
@FEW
@given(seed=SEEDS)
def test_the_order_of_records_only_permutes_the_weights(method, seed):
    p = problem(seed, method, q=np.random.default_rng(seed + 1).uniform(0.5, 2, 30))
    order = np.random.default_rng(seed).permutation(30)
    np.testing.assert_allclose(
        solve(p.take_records(order), method), solve(p, method)[order], rtol=1e-9
    )


@every_method
@FEW
@given(seed=SEEDS, share=st.floats(0.01, 0.99))
def test_a_record_split_in_two_keeps_its_weight(method, seed, share):
    """Two records alike whose initial weights add up to one: both get its ratio, so their weights
    add up to its.
    """
    p = problem(seed, method)
    a, d = dense(p), p.start
    parts = np.r_[share * d[7], (1 - share) * d[7]]
    split = p.change(
        matrix=np.c_[a[:, :7], a[:, [7, 7]], a[:, 8:]],
        initial_weights=np.r_[d[:7], parts, d[8:]],
        ratio_bounds=(0.4, 2.2) if p.bounded else None,
    )
    whole, halves = solve(p, method), solve(split, method)
    np.testing.assert_allclose(halves[7:9] / parts, whole[7] / d[7], rtol=1e-8)
    np.testing.assert_allclose(
        np.r_[halves[:7], halves[7] + halves[8], halves[9:]], whole, rtol=1e-8
    )


@every_method
@FEW
@given(seed=SEEDS)
def test_a_target_that_is_met_already_changes_nothing(method, seed):
    p = problem(seed, method)
    weights = solve(p, method)
    extra = np.random.default_rng(seed).random(30)
    more = CalibrationProblem(
        np.vstack([dense(p), extra]),
        np.r_[p.targets, extra @ weights],
        p.start,
        ratio_bounds=p.ratio_bounds,
    )
    np.testing.assert_allclose(solve(more, method), weights, rtol=1e-7)


@every_method
@FEW
@given(seed=SEEDS)
def test_a_target_implied_by_others_changes_nothing(method, seed):
    """Rank-deficient but consistent: the total of the margin, and twice the amount less it."""
    p = problem(seed, method)
    a = dense(p)
    implied = np.array([[1, 1, 1, 0, 0], [-1, -1, -1, 2, 0]])
    more = CalibrationProblem(
        np.vstack([a, implied @ a]),
        np.r_[p.targets, implied @ p.targets],
        p.start,
        ratio_bounds=p.ratio_bounds,
    )
    result = calibrate(more, method)
    assert result.converged and result.targets_met.all()
    np.testing.assert_allclose(result.weights, solve(p, method), rtol=1e-8)


@every_method
@FEW
@given(seed=SEEDS, factor=st.floats(1e-6, 1e6))
def test_the_unit_of_weights_does_not_matter(method, seed, factor):
    p = problem(seed, method)
    scaled = p.change(targets=p.targets * factor, initial_weights=p.start * factor)
    np.testing.assert_allclose(solve(scaled, method), factor * solve(p, method), rtol=1e-8)


@every_method
@FEW
@given(seed=SEEDS)
def test_targets_that_the_initial_weights_meet_leave_them_as_they_are(method, seed):
    p = problem(seed, method)
    p = p.change(targets=dense(p) @ p.start)
    np.testing.assert_allclose(solve(p, method), p.start, rtol=1e-10)


@every_method
@FEW
@given(seed=SEEDS)
def test_a_record_with_a_tiny_q_hardly_moves(method, seed):
    q = np.ones(30)
    q[11] = 1e-7
    p = problem(seed, method, q=q)
    assert solve(p, method)[11] == pytest.approx(p.start[11], rel=1e-4)
    assert abs(solve(problem(seed, method), method)[11] / p.start[11] - 1) > 1e-5


@every_method
@FEW
@given(seed=SEEDS)
def test_a_record_of_weight_zero_stays_there(method, seed):
    p = problem(seed, method)
    d = p.start.copy()
    d[[4, 9]] = 0.0
    tilt = np.clip(np.exp(0.2 * np.random.default_rng(seed).normal(size=30)), 0.6, 1.8)
    p = p.change(initial_weights=d, targets=dense(p) @ (d * tilt))
    weights = solve(p, method)
    assert (weights[[4, 9]] == 0).all()
    np.testing.assert_allclose(
        np.delete(weights, [4, 9]),
        solve(p.take_records(np.delete(np.arange(30), [4, 9])), method),
        rtol=1e-9,
    )


@every_method
def test_without_initial_weights_all_start_at_the_one_that_fits_best(method):
    p = problem(3, method).change(initial_weights=None)
    result = calibrate(p, method)
    one = np.full(30, result.warned("no_initial_weights")[0].size)
    sums = dense(p) @ np.ones(30)

    def errors(w):
        return (((w * sums - p.targets) / p.targets) ** 2).sum()

    assert errors(one[0]) < min(errors(one[0] * 0.999), errors(one[0] * 1.001))
    assert result.converged
    np.testing.assert_allclose(
        result.weights, calibrate(p.change(initial_weights=one), method).weights, rtol=1e-10
    )


@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded"])
@FEW
@given(seed=SEEDS)
def test_tighter_bounds_never_lower_the_distance(method, seed):
    """The distance the method minimises, on a smaller set; all weights stay within the bounds they
    were given.
    """
    p = problem(seed, method)
    phi = (
        (lambda r: 0.5 * (r - 1) ** 2)
        if method == "truncated_linear"
        else (lambda r: r * np.log(r) - r + 1)
    )
    before = 0.0
    for high in (np.inf, 2.5, 2.2, 2.0, 1.95):
        p = p.change(ratio_bounds=(0.4, high))
        ratio = solve(p, method) / p.start
        assert ratio.max() <= high * (1 + 1e-14) and ratio.min() >= 0.4 * (1 - 1e-14)
        distance = float(p.start @ phi(ratio))
        assert distance >= before * (1 - 1e-10)
        before = distance


@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded"])
def test_bounds_that_do_not_bind_change_nothing(method):
    p = problem(5, method)
    loose = p.change(ratio_bounds=(0.0, 1e6))
    free = {"truncated_linear": "linear", "raking_bounded": "raking"}[method]
    np.testing.assert_allclose(
        solve(loose, method), solve(p.change(ratio_bounds=None), free), rtol=1e-9
    )


def test_weight_bounds_and_ratio_bounds_are_the_same_thing_said_twice():
    p = problem(6, "truncated_linear")
    on_weights = p.change(ratio_bounds=None, weight_bounds=(0.4 * p.start, 2.2 * p.start))
    for method in BOUNDED:
        np.testing.assert_allclose(solve(on_weights, method), solve(p, method), rtol=1e-12)


UNREACHABLE = {
    "margins that disagree": lambda a, b: (
        np.vstack([a, a[:3].sum(axis=0)]),
        np.r_[b, 1.05 * b[:3].sum()],
    ),
    "one target twice, two values": lambda a, b: (np.vstack([a, a[3]]), np.r_[b, 1.01 * b[3]]),
    "no record for it": lambda a, b: (np.vstack([a, np.zeros(30)]), np.r_[b, 10.0]),
    "more than all records": lambda a, b: (a, np.r_[b[:3], a[3].max() * b[:3].sum() * 1.1, b[4]]),
}


@every_method
@pytest.mark.parametrize("why", UNREACHABLE)
@pytest.mark.parametrize("compromise", ["least_squares", "minimax"])
def test_what_no_weights_can_meet_never_counts_as_converged(method, why, compromise):
    for seed in range(3):
        p = problem(seed, method)
        a, b = UNREACHABLE[why](dense(p), p.targets)
        hard = CalibrationProblem(a, b, p.start, ratio_bounds=p.ratio_bounds)
        if method == "linear" and why == "more than all records":
            assert (
                calibrate(hard, method).converged and (calibrate(hard, method).weights < 0).any()
            ), "negative weights can"
            continue
        result = calibrate(hard, method, compromise=compromise)
        missed = np.abs(a @ result.weights / b - 1) > 1e-6
        assert missed.any() and not result.converged
        assert set(result.warned("targets_missed")[0].targets) >= {
            hard.target_names[j] for j in np.flatnonzero(missed)
        }
        assert np.isfinite(result.weights).all()
        with pytest.raises(InfeasibleError) as raised:
            calibrate(hard, method, strict=True)
        assert raised.value.findings
