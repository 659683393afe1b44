"""Linear programs on problems: the smallest relaxation, the narrowest bounds, tensions of a
compromise, no false alarms.

Belongs here: findings that need a program or a solution. Does not belong here: cheap looks
(test_conflicts.py).
"""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from benchmarks.problems import margins_and_amounts
from calibration_core import CalibrationProblem, calibrate, diagnose
from calibration_core.errors import InfeasibleError
from calibration_core.flat.conflicts import feasibility, precheck, relaxation
from calibration_core.flat.conflicts.agreement import LEAST_TOLERANCE
from calibration_core.flat.conflicts.bounds import uniform
from calibration_core.flat.conflicts.reach import box
from tests.calibration_core.flat.test_conflicts import NAMES, codes, two_margins
from tests.conftest import realdata_folder

ANALYTIC = 0.05 / 2.05


@pytest.fixture(scope="module")
def api() -> CalibrationProblem:
    folder = realdata_folder().parent / "cases"
    if not (folder / "api_linear.json").is_file():
        pytest.skip(f"known answers are not at {folder}")
    spec = json.loads((folder / "api_linear.json").read_text())
    rows = list(csv.DictReader((folder / spec["csv"]).open()))
    names = spec["columns"]["constraints"]
    matrix = np.array([[float(r[c]) for r in rows] for c in names])
    return CalibrationProblem(
        matrix,
        [spec["targets"][c] for c in names],
        [float(r["d"]) for r in rows],
        target_names=names,
    )


def oracle_bounds(problem: CalibrationProblem, low: float | None, high: float | None) -> float:
    """Narrowest bounds by the simplex method, one program for each question: equal widening if both
    ends are given, else the free end.
    """
    a = problem.matrix.target_major() * problem.start / problem.relative_scale[:, None]
    m, n = a.shape
    one, ones, zeros = np.eye(n), np.ones((n, 1)), np.zeros((n, 1))
    # Variables: the ratios, and theta.
    if low is not None and high is not None:
        rows = [np.hstack([-one, -ones]), np.hstack([one, -ones])]
        limits, cost = [np.full(n, -low), np.full(n, high)], 1.0
    elif low is not None:
        rows = [np.hstack([-one, zeros]), np.hstack([one, -ones])]
        limits, cost = [np.full(n, -low), np.zeros(n)], 1.0
    else:
        rows = [np.hstack([-one, ones]), np.hstack([one, zeros])]
        limits, cost = [np.zeros(n), np.full(n, high)], -1.0
    answer = linprog(
        np.r_[np.zeros(n), cost],
        A_ub=np.vstack(rows),
        b_ub=np.concatenate(limits),
        A_eq=np.hstack([a, np.zeros((m, 1))]),
        b_eq=problem.targets / problem.relative_scale,
        bounds=[(0.0, None)] * n + [(None, None)],
        method="highs-ds",
    )
    return float(answer.x[-1])


def small_bounded(seed: int = 3) -> CalibrationProblem:
    rng = np.random.default_rng(seed)
    matrix = np.vstack([np.ones(40), rng.random((2, 40)), rng.random(40) < 0.3])
    start = rng.uniform(5, 15, size=40)
    return CalibrationProblem(
        matrix,
        matrix @ (start * rng.uniform(0.5, 1.7, size=40)),
        start,
        target_names=("n", "x", "y", "z"),
    )


def inflated(records: int = 1200) -> CalibrationProblem:
    problem = margins_and_amounts(records)
    targets = problem.targets.copy()
    targets[5:10] *= 1.05
    return problem.change(targets=targets)


@pytest.mark.parametrize("problem", [two_margins(1.05), inflated()], ids=["by hand", "24 margins"])
def test_an_inflated_margin_under_minimax_is_within_a_tenth_of_a_point(problem):
    result = calibrate(problem, "raking", compromise="minimax")
    assert not result.converged
    assert ANALYTIC - 1e-6 <= result.relative_errors.max() <= ANALYTIC + 0.001
    told = result.warned("margin_totals_disagree")[0]
    assert told.size == pytest.approx(0.05) and result.warned("smallest_relaxation")[
        0
    ].size == pytest.approx(ANALYTIC, abs=1e-5)
    assert "2.44 %" in result.warned("smallest_relaxation")[0].message


def test_an_inflated_margin_under_least_squares_is_blamed_alone():
    result = calibrate(inflated(), "raking")
    error = result.relative_errors
    assert error[5:10].max() < 0.06 and error[:5].max() < 0.005 and error[10:120].max() < 0.005
    (tension,) = result.warned("tension")
    assert tension.size == pytest.approx(0.05, abs=0.003)
    assert (
        tension.message.startswith("'margin 1' (fitted 4.")
        and "below) pulls up against" in tension.message
        and "20 others" in tension.message
    )
    assert tension.message.count("margin 1:") == 0, "the margin, not its five rows"
    (changes,) = result.warned("fewest_changes")
    assert "'margin 1' down by 4.76 %" in changes.message and {
        n.rpartition(":")[0] for n in changes.targets
    } == {"margin 1"}


def test_a_small_conflict_names_both_sides_and_directions():
    result = calibrate(two_margins(1.05), "raking")
    (tension,) = result.warned("tension")
    assert set(tension.targets) == set(NAMES) and tension.size == pytest.approx(0.05, abs=1e-3)
    up, down = tension.message.split(" up against ")
    assert (
        up.startswith("Margin 'age' (fitted")
        and "below" in up
        and down.startswith("margin 'sex' (fitted")
        and "above" in down
    )


def test_separate_conflicts_get_separate_sentences():
    one = two_margins(1.05)
    matrix = np.kron(np.eye(2), one.matrix.target_major())
    names = [f"{county} {n}" for county in ("Kent", "Bristol") for n in NAMES]
    targets = np.concatenate([one.targets, two_margins(0.9).targets])
    result = calibrate(
        CalibrationProblem(matrix, targets, np.full(12, 1000.0), target_names=names), "raking"
    )
    found = result.warned("tension")
    assert sorted(round(w.size, 3) for w in found) == [0.05, 0.111]
    assert all(len({n.split()[0] for n in w.targets}) == 1 for w in found)


@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded", "logit"])
def test_api_bounds_are_too_narrow_and_the_narrowest_are_told(api, method):
    problem = api.change(ratio_bounds=(0.9, 1.1))
    result = calibrate(problem, method)
    assert (
        not result.converged
        and result.ratios.min() >= 0.9 - 1e-9
        and result.ratios.max() <= 1.1 + 1e-9
    )
    theta = oracle_bounds(api, 0.9, 1.1)
    (narrow,) = result.warned("bounds_too_narrow")
    assert narrow.size == pytest.approx(theta, abs=1e-5)
    assert (
        "Bounds 0.9 to 1.1 cannot be met" in narrow.message and "0.4066 to 1.5934" in narrow.message
    )
    assert result.warned("upper_bound_too_low") and result.warned("lower_bound_too_high")
    with pytest.raises(InfeasibleError) as error:
        calibrate(problem, method, strict=True)
    assert str(error.value).startswith("Bounds 0.9 to 1.1 cannot be met")
    assert list(error.value.findings) == [
        w for w in result.warnings if w.code not in ("targets_missed", "tension")
    ]
    # The numbers told are feasible, a little less is not.
    assert calibrate(api.change(ratio_bounds=(0.4066, 1.5934)), "truncated_linear").converged
    assert not calibrate(api.change(ratio_bounds=(0.41, 1.59)), "truncated_linear").converged


def test_each_end_of_the_bounds_matches_another_solver():
    problem = small_bounded()
    bounded = problem.change(ratio_bounds=(0.9, 1.1))
    found = {w.code: w for w in feasibility.explain(bounded, np.arange(4))}
    assert found["bounds_too_narrow"].size == pytest.approx(
        oracle_bounds(problem, 0.9, 1.1), abs=1e-6
    )
    upper = found["upper_bound_too_low"].size
    assert upper == pytest.approx(oracle_bounds(problem, 0.9, None), abs=1e-6)
    assert (
        found["lower_bound_too_high"].size == -np.inf
        and "no lower bound that is not negative suffices" in found["lower_bound_too_high"].message
    )
    other = problem.change(ratio_bounds=(0.99, 1.185))
    lower = {w.code: w.size for w in feasibility.explain(other, np.arange(4))}[
        "lower_bound_too_high"
    ]
    assert lower == pytest.approx(oracle_bounds(problem, None, 1.185), abs=1e-6)
    assert (
        uniform(bounded).ratio
        and "the upper must be at least 1.1798" in found["upper_bound_too_low"].message
    )
    answer = diagnose(bounded)
    assert answer.feasible is False and answer.smallest_bounds[1] == pytest.approx(
        1.1 + found["bounds_too_narrow"].size
    )


def test_bounds_on_weights_and_bounds_by_record_are_opened_too():
    problem = small_bounded()
    weights = problem.change(weight_bounds=(9.0, 10.0))
    found = {w.code: w for w in feasibility.explain(weights, np.arange(4))}
    assert "Bounds 9 to 10 on the weights cannot be met" in found["bounds_too_narrow"].message
    theta = found["bounds_too_narrow"].size
    wider = problem.change(weight_bounds=(9.0 - theta - 1e-3, 10.0 + theta + 1e-3))
    assert diagnose(wider).feasible is True
    assert (
        diagnose(problem.change(weight_bounds=(9.0 - theta + 1e-3, 10.0 + theta - 1e-3))).feasible
        is False
    )
    mixed = problem.change(ratio_bounds=(np.linspace(0.9, 0.95, 40), 1.02))
    assert "of its initial weight" in feasibility.explain(mixed, np.arange(4))[0].message


def test_conflicting_margins_are_not_blamed_on_bounds():
    problem = two_margins(1.05, ratio_bounds=(0.5, 2.0))
    assert not codes(feasibility.explain(problem, np.arange(5))) & set(feasibility.NARROW)
    assert diagnose(problem).smallest_bounds is None


def test_one_wrong_target_is_named_with_its_change():
    problem = small_bounded()
    matrix = np.vstack([problem.matrix.target_major(), np.ones(40) * 2])
    wrong = CalibrationProblem(
        matrix,
        [*problem.targets, problem.targets[0] * 2.2],
        problem.start,
        target_names=("n", "x", "y", "z", "twice n"),
    )
    (changes,) = [w for w in feasibility.explain(wrong, np.arange(5)) if w.code == "fewest_changes"]
    assert changes.targets == ("twice n",) and changes.size == pytest.approx(1 / 11, rel=2e-2)
    assert "(-9.09 %)" in changes.message


@pytest.mark.parametrize("bounds", [None, (0.75, 1.3), (0.4, 2.0)])
def test_column_generation_agrees_with_the_whole_program(monkeypatch, bounds):
    problem = inflated(900).change(ratio_bounds=bounds)
    rows = np.arange(126)
    whole = relaxation.least_error(relaxation.Program(problem, rows), *box(problem))
    monkeypatch.setattr(relaxation, "DIRECT", 100)
    monkeypatch.setattr(relaxation, "_FREED", 50)
    monkeypatch.setattr(relaxation, "_FREED_A_TARGET", 1)
    grown = relaxation.least_error(relaxation.Program(problem, rows), *box(problem))
    assert whole.complete and grown.complete and grown.value == pytest.approx(whole.value, rel=1e-3)
    assert grown.proved <= whole.value * (1 + 1e-9) and whole.proved == pytest.approx(
        whole.value, rel=1e-6
    )
    low, high = box(problem)
    assert (grown.weights >= low).all() and (grown.weights <= high).all()


def test_a_check_that_is_cut_short_says_so(monkeypatch):
    monkeypatch.setattr(relaxation, "DIRECT", 100)
    monkeypatch.setattr(relaxation, "_solve", lambda *arguments: None)
    problem = inflated(900).change(ratio_bounds=(0.75, 1.3))
    found = {w.code: w for w in feasibility.explain(problem, np.arange(126), seconds=1.0)}
    assert (
        "check_incomplete" in found
        and "900 records x 126 targets" in found["check_incomplete"].message
    )
    assert diagnose(problem, seconds=1.0).smallest_bounds is None
    answer = relaxation.least_error(relaxation.Program(problem, np.arange(126)), *box(problem))
    assert not answer.complete and answer.proved < answer.value


def random_problem(seed: int, bounded: bool) -> tuple[CalibrationProblem, np.ndarray]:
    rng = np.random.default_rng(seed)
    n, m = int(rng.integers(12, 60)), int(rng.integers(2, 9))
    matrix = (
        rng.normal(size=(m, n)) * (rng.random((m, n)) < 0.7)
        if seed % 2
        else rng.integers(0, 3, size=(m, n)).astype(float)
    )
    if seed % 3 == 0:
        # Redundant rows: a sum, and a scaled copy.
        matrix = np.vstack([matrix, matrix[0] + matrix[1], -3.0 * matrix[0]])
    start = rng.uniform(0.5, 20, size=n)
    weights = start * rng.uniform(0.6, 1.8, size=n)
    return (
        CalibrationProblem(
            matrix, matrix @ weights, start, ratio_bounds=(0.5, 2.0) if bounded else None
        ),
        weights,
    )


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), bounded=st.booleans())
def test_feasible_problems_raise_no_alarm_and_converge(seed, bounded):
    problem, weights = random_problem(seed, bounded)
    assert not codes(precheck.inspect(problem)) & precheck.IMPOSSIBLE
    for method in (
        ("truncated_linear", "raking_bounded", "logit") if bounded else ("linear", "raking")
    ):
        result = calibrate(problem, method, strict=True)
        assert result.converged and not codes(result.warnings) & (
            precheck.IMPOSSIBLE | {"targets_missed", "tension"}
        )
    rows = np.flatnonzero(problem.matrix.support > 0)
    assert feasibility.minimax_error(problem, rows) <= LEAST_TOLERANCE
    verdict = feasibility.judge(problem, rows)
    assert verdict.feasible and not verdict.findings
    np.testing.assert_allclose(problem.matrix.totals(weights), problem.targets)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.sampled_from([1e-6, 1e-3, 0.2]), bounded=st.booleans())
def test_infeasible_problems_never_converge(seed, size, bounded):
    problem, _ = random_problem(seed, bounded)
    rng = np.random.default_rng(seed)
    # A new row is a combination of others, or out of reach of what the bounds allow for it; its
    # target contradicts that.
    matrix, a = (
        problem.matrix.target_major(),
        rng.integers(1, 4, size=problem.matrix.targets).astype(float),
    )
    scale = float(np.abs(a * problem.targets).max())
    targets = np.append(problem.targets, a @ problem.targets + size * scale)
    wrong = CalibrationProblem(
        np.vstack([matrix, a @ matrix]), targets, problem.start, ratio_bounds=problem.ratio_bounds
    )
    for method in ("truncated_linear", "raking_bounded") if bounded else ("linear", "raking"):
        result = calibrate(wrong, method)
        assert not result.converged and not result.targets_met.all()
        assert result.warned("dependent_targets_disagree") or result.warned(
            "margin_totals_disagree"
        )


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_targets_beyond_the_box_never_converge_and_are_proved_so(seed):
    problem, _ = random_problem(seed, True)
    rng = np.random.default_rng(seed + 1)
    # The support function of the box in a random direction, then 1 % beyond it: infeasible by
    # construction.
    y = rng.normal(size=problem.matrix.targets)
    u = problem.matrix.exponents(y)
    low, high = box(problem)
    corner = np.where(u > 0, high, low)
    targets = problem.matrix.totals(corner) + 0.01 * y / float(y @ y) * float(np.abs(u) @ corner)
    wrong = problem.change(targets=targets)
    answer = relaxation.least_error(
        relaxation.Program(wrong, np.flatnonzero(problem.matrix.support > 0)), low, high
    )
    assert answer.feasible is False and answer.complete
    for method in ("truncated_linear", "raking_bounded", "logit"):
        result = calibrate(wrong, method, explain=method == "logit")
        assert not result.converged and (method != "logit" or result.warned("smallest_relaxation"))


def test_diagnose_says_everything_before_a_solve():
    answer = diagnose(inflated())
    assert answer.feasible is False and answer.minimax_error == pytest.approx(ANALYTIC, abs=1e-5)
    assert (
        "margin_totals_disagree" in codes(answer.findings)
        and answer.findings[0].code in precheck.IMPOSSIBLE
    )
    assert "NOT all targets can be met" in answer.summary() and "2.44 %" in answer.summary()
    fine = diagnose(small_bounded())
    assert fine.feasible is True and fine.minimax_error == 0 and fine.findings == ()
    theta = fine.smallest_bounds[1] - 1
    assert theta == pytest.approx(oracle_bounds(small_bounded(), 1.0, 1.0), abs=1e-6)


def test_bounds_found_by_coarse_steps_are_the_same(monkeypatch):
    problem = margins_and_amounts(600, margins=4, amounts=2).change(ratio_bounds=(0.9, 1.22))
    rows = np.arange(22)
    exact = {
        w.code: w.size for w in feasibility.explain(problem, rows) if w.code in feasibility.NARROW
    }
    monkeypatch.setattr(relaxation, "DIRECT", 100)
    steps = {
        w.code: w.size for w in feasibility.explain(problem, rows) if w.code in feasibility.NARROW
    }
    assert set(exact) == set(steps) == set(feasibility.NARROW)
    for code, size in exact.items():
        assert steps[code] == size or steps[code] == pytest.approx(size, abs=2e-5)
