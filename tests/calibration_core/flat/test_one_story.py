"""Status, warnings, diagnosis and advice say the same thing, decided once by the caller's
tolerance.

Belongs here: verdicts that could contradict one another. Does not belong here: what each finding
says (``test_conflicts.py``).
"""

import numpy as np
import pytest

from calibration_core import CalibrationProblem, advise, calibrate, diagnose
from calibration_core.flat.conflicts.precheck import IMPOSSIBLE

EXACT = (
    "raking",
    "linear",
    "entropy",
    "ipf",
    "truncated_linear",
    "raking_bounded",
    "logit",
    "trim",
)
BOUNDED = ("truncated_linear", "raking_bounded", "logit", "trim")
POPULATION = 1e8


def two_margins(off: float, rare: float = 100.0, **fields) -> CalibrationProblem:
    """Sex and region of 10^8 persons; regions sum to ``off`` (relative) more. One
    region is rare.
    """
    rng = np.random.default_rng(7)
    sex, region = rng.integers(0, 2, 200), rng.integers(0, 4, 200)
    matrix = np.array([*(sex == k for k in range(2)), *(region == k for k in range(4))], float)
    share = np.array([0.2, 0.3, 0.5 - rare / POPULATION, rare / POPULATION])
    targets = np.r_[0.49, 0.51, share] * POPULATION
    # The whole disagreement sits in the largest region.
    targets[4] += off * POPULATION
    names = ("sex:F", "sex:M", *(f"region:{k}" for k in range(4)))
    design = np.full(200, POPULATION / 200)
    return CalibrationProblem(matrix, targets, design, target_names=names, **fields)


def told(result) -> set[str]:
    return {w.code for w in result.warnings}


def one_story(result, diagnosis) -> None:
    """Nothing that a result says contradicts anything else that is said of the same problem."""
    impossible = "cannot all be met" in result.status or "cannot be met" in result.status
    assert result.converged == bool(result.targets_met.all()), result.status
    assert impossible == (diagnosis.feasible is False and not result.converged), result.status
    if result.converged:
        assert result.status == "every target is met"
        assert not told(result) & (
            IMPOSSIBLE | {"feasible", "targets_missed", "smallest_relaxation"}
        )
        assert diagnosis.feasible is not False
    if impossible:
        assert "feasible" not in told(result)
        assert told(result) & (IMPOSSIBLE | {"smallest_relaxation"})
    if "feasible" in told(result):
        assert diagnosis.feasible is True and "although weights exist" in result.status
    for text in (*(w.message for w in result.warnings), *(w.message for w in diagnosis.findings)):
        assert not ("do exist" in text and impossible)


@pytest.mark.parametrize("method", EXACT)
@pytest.mark.parametrize("tolerance", [1e-9, 1e-7, 1e-5])
@pytest.mark.parametrize("off", [0.0, 1e-10, 1e-9, 3e-9, 1e-8, 1e-7, 1e-6, 1e-4])
def test_margins_that_are_off_by_a_person_or_so(method, tolerance, off):
    bounds = {"weight_bounds": (0.0, 1e7)} if method in BOUNDED else {}
    problem = two_margins(off, **bounds)
    result = calibrate(problem, method, tolerance=tolerance)
    diagnosis = diagnose(problem, tolerance=tolerance)
    one_story(result, diagnosis)
    # Half of the disagreement falls to each margin.
    assert result.converged == (off / 2 <= tolerance), result.status
    if result.converged:
        assert not diagnosis.minimax_error


@pytest.mark.parametrize("off", [1e-8, 1e-6])
def test_one_person_in_a_hundred_million_is_named_by_all(off):
    problem = two_margins(off)
    result, diagnosis, advice = calibrate(problem, "raking"), diagnose(problem), advise(problem)
    one_story(result, diagnosis)
    for found in (result.warnings, diagnosis.findings, advice.figures.conflicts):
        (named,) = [w for w in found if w.code == "margin_totals_disagree"]
        assert "margin 'sex'" in named.message.lower() and "margin 'region'" in named.message
        assert named.size == pytest.approx(off, rel=1e-4)
    assert diagnosis.minimax_error == pytest.approx(off / 2, rel=0.01)


def test_a_tolerance_that_covers_the_disagreement_shares_it_out_among_all_targets():
    """A rare category is not asked to carry what the whole population is off by."""
    problem = two_margins(1e-6, rare=10.0)
    result = calibrate(problem, "raking", tolerance=1e-6)
    assert result.converged and result.targets_met.all()
    assert result.relative_errors.max() <= 0.6e-6
    assert not calibrate(problem, "raking", tolerance=1e-7).converged


def random_problem(seed: int) -> tuple[CalibrationProblem, str]:
    """Margins, amounts and bounds, feasible or not, by chance."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(6, 40))
    codes = rng.integers(0, 3, size=(2, n))
    rows = [code == k for code in codes for k in range(3)]
    rows += [np.exp(rng.normal(size=n)) * 10.0 ** rng.integers(-3, 6)]
    matrix = np.array(rows, dtype=float)
    design = rng.gamma(3.0, 5.0, n)
    weights = design * np.exp(rng.normal(size=n) * 0.8) * (rng.random(n) < 0.9)
    targets = matrix @ weights
    if rng.random() < 0.5:
        targets *= np.exp(rng.normal(size=7) * rng.choice([1e-11, 1e-9, 1e-6, 0.05]))
    bounded = rng.random() < 0.5
    fields = {"ratio_bounds": (0.3, float(rng.choice([1.5, 4.0, 20.0])))} if bounded else {}
    method = str(rng.choice(BOUNDED[:3] if bounded else ["raking", "linear", "entropy"]))
    return CalibrationProblem(matrix, targets, design, **fields), method


@pytest.mark.parametrize("seed", range(60))
def test_no_contradiction_on_problems_by_chance(seed):
    problem, method = random_problem(seed)
    result = calibrate(problem, method, compromise="least_squares")
    if method == "linear":
        # Its weights may be negative, which diagnose's may not.
        assert result.converged == bool(result.targets_met.all())
        return
    one_story(result, diagnose(result.problem))


@pytest.mark.parametrize("method", ["raking", "truncated_linear", "linear", "logit"])
def test_a_solver_that_was_stopped_early_does_not_blame_the_targets(method):
    """One step is not enough, yet weights exist: that is what is said, and another method named."""
    rng = np.random.default_rng(3)
    code = rng.integers(0, 3, 80)
    matrix = np.vstack([np.eye(3)[:, code], np.exp(rng.normal(size=80))])
    design = rng.gamma(3.0, 5.0, 80)
    targets = matrix @ (design * np.exp(rng.normal(size=80)))
    bounds = {"ratio_bounds": (0.02, 60.0)} if method in BOUNDED else {}
    problem = CalibrationProblem(matrix, targets, design, **bounds)
    result = calibrate(problem, method, max_iterations=1)
    one_story(result, diagnose(problem))
    if not result.converged:
        (warning,) = result.warned("feasible")
        assert f"use {method}" not in warning.message and "Raise max_iterations" in warning.message


def test_strict_refuses_only_what_is_not_met():
    from calibration_core.errors import InfeasibleError

    assert calibrate(two_margins(1e-9), "raking", strict=True).converged
    with pytest.raises(InfeasibleError, match="no weights meet both"):
        calibrate(two_margins(1e-8), "raking", strict=True)
