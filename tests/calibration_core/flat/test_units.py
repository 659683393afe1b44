"""The unit of a target, of an amount, of the weights matters to nothing: same weights, same words,
same advice.

Belongs here: problems written in other units, and targets at another level than the weights.
Does not belong here: the order of records and targets (``test_order.py``).
"""

import re
import warnings

import numpy as np
import pytest

from calibration_core import METHODS, CalibrationProblem, advise, calibrate, diagnose
from calibration_core.flat.methods.entropy import moment_problem

BOUNDED = {"truncated_linear", "logit", "raking_bounded", "trim"}
EXTRA = {
    "hard_concrete": {"epochs": 60},
    "hybrid": {},
    "cross_category": {},
    "random_subset": {},
    "reweighted_l1": {},
}
FACTORS = (1e-12, 1e-8, 1e-3, 1e8, 1e12)
NAMES = ("sex:0", "sex:1", *(f"region:{k}" for k in range(4)), "income", "children")
NUMBER = re.compile(r"[-+]?\d(?:[\d,]*\d)?(?:\.\d+)?(?:e[-+]?\d+)?")


def arrays(records=150, seed=3, conflict=0.0):
    """Two margins, an amount, a count; totals that can be met, or regions that sum to more than
    sexes by ``conflict``.
    """
    rng = np.random.default_rng(seed)
    sex, region = rng.integers(0, 2, records), rng.integers(0, 4, records)
    income = np.round(np.exp(rng.normal(10, 1, records))) * (rng.random(records) < 0.8)
    children = rng.integers(0, 4, records)
    rows = [*(sex == k for k in range(2)), *(region == k for k in range(4)), income, children]
    matrix, design = np.array(rows, dtype=float), rng.gamma(4.0, 25.0, records)
    tilt = np.exp(0.3 * (sex == 0) - 0.2 * (region == 1) + 0.1 * children)
    targets = matrix @ (design * tilt * rng.uniform(0.9, 1.1, records))
    targets[2:6] *= 1.0 + conflict
    return matrix, targets, design


def problem(method, matrix, targets, design, names=NAMES, **fields):
    if method in BOUNDED:
        fields["ratio_bounds"] = (0.4, 2.5) if method == "trim" else (0.3, 3.0)
    if method == "ipf":
        matrix, targets, names = matrix[:6], targets[:6], names[:6]
    return CalibrationProblem(matrix, targets, design, target_names=names, **fields)


def run(method, given):
    keeps = {"records": 40} if method in EXTRA else {}
    return calibrate(given, method, **keeps, **EXTRA.get(method, {}))


def units(name, targets):
    """(factor of each row, factor of the weights) by the name of a test case."""
    which, factor = name.split(" x ")
    rows = np.ones(targets)
    if which == "one amount":
        rows[6 if targets > 6 else 0] = float(factor)
    elif which == "one category":
        rows[2] = float(factor)
    elif which == "rows":
        rows[:] = float(factor)
    return rows, float(factor) if which == "weights" else 1.0


CASES = [
    f"{which} x {f:g}"
    for which in ("rows", "one amount", "one category", "weights")
    for f in FACTORS
]


def words(texts):
    """Texts with every number that is not a plain count replaced: a target is told in
    its own unit.
    """
    return [NUMBER.sub("#", text) for text in texts]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("conflict", [0.0, 0.05], ids=["feasible", "conflict"])
def test_no_unit_changes_weights_or_words(method, conflict):
    matrix, targets, design = arrays(conflict=conflict)
    before = run(method, problem(method, matrix, targets, design))
    for case in CASES:
        rows, weight = units(case, targets.size)
        given = problem(method, matrix * rows[:, None], targets * rows * weight, design * weight)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            after = run(method, given)
        np.testing.assert_allclose(
            after.weights / weight,
            before.weights,
            rtol=1e-6,
            atol=1e-7 * before.weights.max(),
            err_msg=case,
        )
        assert after.converged == before.converged, case
        assert [w.code for w in after.warnings] == [w.code for w in before.warnings], case
        assert words(str(w) for w in after.warnings) == words(str(w) for w in before.warnings), case
        assert words([after.status]) == words([before.status]), case
        sizes = [[w.size for w in r.warnings] for r in (before, after)]
        np.testing.assert_allclose(*sizes, rtol=1e-4, atol=1e-12, equal_nan=True, err_msg=case)


@pytest.mark.parametrize("method", METHODS)
def test_powers_of_two_change_no_bit(method):
    """Where a unit divides without rounding, so does everything that follows."""
    matrix, targets, design = arrays()
    before = run(method, problem(method, matrix, targets, design))
    rows = 2.0 ** np.array([-9, -9, 5, 5, 5, 5, -30, 12])
    given = problem(method, matrix * rows[:, None], targets * rows * 2.0**20, design * 2.0**20)
    np.testing.assert_array_equal(run(method, given).weights / 2.0**20, before.weights)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"logit", "trim", "relaxed_entropy"}))
def test_targets_in_another_level_than_the_weights(method):
    """Shares, thousands or millions against weights in persons: the same weights in that unit, and
    the targets met.
    """
    matrix, targets, design = arrays()
    fields = {"weight_bounds": (0.0, 8.0 * design)} if method in BOUNDED else {}
    plain = problem("" if method in BOUNDED else method, matrix, targets, design, **fields)
    before = run(method, plain)
    assert before.targets_met.all()
    for factor in (1e-8, 1.0 / targets[:2].sum(), 1e-3, 1e3, 1e6, 1e8):
        fields = {"weight_bounds": (0.0, 8.0 * design * factor)} if method in BOUNDED else {}
        given = problem(
            "" if method in BOUNDED else method, matrix, targets * factor, design, **fields
        )
        after = run(method, given)
        assert after.targets_met.all() and after.converged == before.converged, (
            factor,
            after.status,
        )
        np.testing.assert_allclose(
            after.weights / factor,
            before.weights,
            rtol=1e-4,
            atol=1e-5 * before.weights.max(),
            err_msg=f"{factor:g}",
        )


@pytest.mark.parametrize(
    "rows", [slice(1, None), slice(6, None)], ids=["no full margin", "amounts"]
)
@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded", "linear", "raking"])
def test_a_level_far_off_without_a_margin_that_says_so(method, rows):
    """Where no margin gives the sum of weights there is still an answer, and it is found."""
    matrix, targets, design = arrays()
    for factor in (1e-6, 1e-3, 1e3, 1e6):
        bounds = {"weight_bounds": (0.0, 8.0 * design * factor)} if method in BOUNDED else {}
        names = NAMES[rows]
        part = CalibrationProblem(
            matrix[rows], targets[rows] * factor, design, target_names=names, **bounds
        )
        result = calibrate(part, method)
        assert result.converged and result.targets_met.all(), (factor, result.status)


def test_fourth_moments_in_dollars_and_in_thousands():
    rng = np.random.default_rng(0)

    def draw(n):
        return np.column_stack(
            [rng.normal(45, 10, n), rng.lognormal(10, 1, n), rng.integers(0, 2, n)]
        )

    x, t = draw(400), draw(120)
    answers = []
    for unit in (1.0, 1e-3, 1e-6):
        given = moment_problem(x * [1, unit, 1], t * [1, unit, 1], moments=4)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            answers.append(calibrate(given, "entropy"))
    assert len({a.converged for a in answers}) == 1
    for a in answers[1:]:
        np.testing.assert_allclose(a.weights, answers[0].weights, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("method", ["raking", "linear", "entropy", "gradient"])
def test_incomes_of_ten_thousand_million_and_their_squares(method):
    rng = np.random.default_rng(1)
    income, design = np.exp(rng.normal(10.8, 1.2, 2000)), np.full(2000, 100.0)
    income[:3] = 4e9, 2e9, 1e10
    true = design * np.where(np.arange(2000) < 3, 0.9, rng.uniform(0.8, 1.3, 2000))
    answers = []
    for unit in (1.0, 1e-3, 1e-9):
        matrix = np.array([np.ones(2000), income * unit, (income * unit) ** 2])
        answers.append(calibrate(CalibrationProblem(matrix, matrix @ true, design), method))
        assert answers[-1].converged and answers[-1].targets_met.all(), answers[-1].status
        np.testing.assert_allclose(answers[-1].weights, answers[0].weights, rtol=1e-6)


@pytest.mark.parametrize("conflict", [0.0, 0.05])
def test_advice_and_diagnosis_do_not_know_units(conflict):
    matrix, targets, design = arrays(conflict=conflict)
    for bounds in ({}, {"ratio_bounds": (0.6, 1.5)}, {"ratio_bounds": (0.95, 1.05)}):
        plain = CalibrationProblem(matrix, targets, design, target_names=NAMES, **bounds)
        advice, diagnosis = advise(plain), diagnose(plain)
        for case in CASES:
            rows, weight = units(case, targets.size)
            given = plain.change(
                matrix=matrix * rows[:, None],
                targets=targets * rows * weight,
                initial_weights=design * weight,
            )
            assert words([advise(given).summary()]) == words([advice.summary()]), case
            found = diagnose(given)
            assert found.feasible == diagnosis.feasible, case
            assert found.minimax_error == pytest.approx(
                diagnosis.minimax_error, rel=1e-5, abs=1e-10
            ), case
            assert [w.code for w in found.findings] == [w.code for w in diagnosis.findings], case
            assert words(str(w) for w in found.findings) == words(
                str(w) for w in diagnosis.findings
            ), case


def test_numbers_are_told_in_the_units_that_were_given():
    matrix, targets, design = arrays()
    names = list(NAMES)
    far = targets.copy()
    far[6] = -5e7
    found = diagnose(
        CalibrationProblem(
            matrix * np.r_[1, 1, 1, 1, 1, 1, 1e3, 1][:, None],
            far * np.r_[1, 1, 1, 1, 1, 1, 1e3, 1],
            design,
            target_names=names,
        )
    )
    assert any("-5e+10" in w.message or "-50,000,000,000" in w.message for w in found.findings)
    none = calibrate(
        CalibrationProblem(matrix[:6], targets[:6] * 1e6, target_names=names[:6]), "raking"
    )
    told = none.warned("no_initial_weights")[0]
    assert told.size == pytest.approx(targets[:2].sum() * 1e6 / 150, rel=0.2)
    assert f"{told.size:.6g}" in told.message


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"ipf"}))
def test_a_method_does_not_recommend_itself(method):
    """Whatever goes wrong, the remedy is another one."""
    matrix, targets, design = arrays(records=30)
    for factor in (1e-12, 1e12):
        result = run_few(method, problem(method, matrix, targets * factor, design))
        for w in result.warnings:
            for phrase in (f"use {method}", f"Use {method}", f"or use {method}", f"; {method},"):
                assert phrase not in w.message, w.message


def run_few(method, given):
    keeps = {"records": 20} if method in EXTRA else {}
    return calibrate(given, method, **keeps, **EXTRA.get(method, {}))
