"""Conflicts found before solving: margins, duplicates, support, reach, and the words for each.

Belongs here: precheck and malformed problems. Does not belong here: linear programs
(test_conflicts_feasibility.py).
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from benchmarks.problems import margins_and_amounts
from calibration_core import CalibrationProblem, calibrate, diagnose
from calibration_core.common.distances import Linear, Raking, TruncatedLinear
from calibration_core.errors import InfeasibleError, ProblemError
from calibration_core.flat.conflicts import precheck, reach

SEX, AGE = np.array([0, 0, 0, 1, 1, 1]), np.array([0, 1, 2, 0, 1, 2])
NAMES = ("sex:F", "sex:M", "age:young", "age:middle", "age:old")


def indicators(*codes):
    return np.vstack([(c == k).astype(float) for c in codes for k in range(c.max() + 1)])


def two_margins(inflate: float = 1.0, **fields) -> CalibrationProblem:
    matrix = indicators(SEX, AGE)
    targets = matrix @ np.array([900.0, 1000, 1100, 950, 1044, 1200])
    targets[2:] *= inflate
    return CalibrationProblem(matrix, targets, np.full(6, 1000.0), target_names=NAMES, **fields)


def codes(findings) -> set[str]:
    return {w.code for w in findings}


def test_agreeing_margins_are_not_worth_a_word():
    assert precheck.inspect(two_margins()) == ()
    assert precheck.inspect(margins_and_amounts(1500)) == (), (
        "24 margins have 23 harmless redundancies"
    )


def test_a_margin_inflated_by_five_percent_is_named_with_its_counterpart():
    found = precheck.inspect(two_margins(1.05))
    assert [w.code for w in found] == ["margin_totals_disagree"]
    message = found[0].message
    for part in (
        "margin 'sex' adds up to 6,194",
        "margin 'age' adds up to 6,503.7",
        "5.00 % more",
        "every record counts once in each",
    ):
        assert part in message[:1].lower() + message[1:]
    assert found[0].size == pytest.approx(0.05) and set(found[0].targets) == set(NAMES)


def test_of_many_margins_the_one_that_disagrees_is_blamed():
    problem = margins_and_amounts(1500)
    targets = problem.targets.copy()
    targets[35:40] *= 0.97
    found = precheck.inspect(problem.change(targets=targets))
    assert [w.code for w in found] == ["margin_totals_disagree"] and found[0].size == pytest.approx(
        0.03
    )
    assert {n.rpartition(":")[0] for n in found[0].targets} == {
        "margin 7",
        "margin 0",
    } and "22 more agree with the former" in found[0].message
    assert "3.00 % less" in found[0].message


def test_a_total_and_a_margin_that_counts_everyone_twice_disagree_in_words():
    matrix = np.vstack([np.ones(6), 2 * indicators(SEX)])
    problem = CalibrationProblem(
        matrix,
        [6000.0, 6600.0, 6600.0],
        np.full(6, 1000.0),
        target_names=("total", "sex:F", "sex:M"),
    )
    (found,) = precheck.inspect(problem)
    assert (
        found.code == "margin_totals_disagree"
        and "arget 'total' is 6,000" in found.message
        and "10.0 % more" in found.message
        and "division by 2" in found.message
    )
    assert precheck.inspect(problem.change(targets=np.array([6000.0, 6000.0, 6000.0]))) == ()


def test_one_cell_that_breaks_a_nested_sum_is_named_not_its_margin():
    cells = SEX * 3 + AGE
    matrix = indicators(SEX, cells)
    names = ("sex:F", "sex:M", *(f"cell:{k}" for k in range(6)))
    targets = matrix @ np.full(6, 100.0)
    # What sex F gains sex M loses, so that the margins agree in total.
    targets[0] += 15.0
    targets[1] -= 15.0
    found = precheck.inspect(CalibrationProblem(matrix, targets, np.ones(6), target_names=names))
    assert codes(found) == {"dependent_targets_disagree"} and len(found) == 2
    female = next(w for w in found if "sex:F" in w.targets)
    assert set(female.targets) == {"sex:F", "cell:0", "cell:1", "cell:2"}
    assert "315" in female.message and "300" in female.message


@pytest.mark.parametrize("factor", [1.0, 2.5])
def test_duplicated_rows_agree_or_not(factor):
    row = np.array([1.0, 0, 3, 0, 2, 0])
    matrix = np.vstack([row, factor * row, np.ones(6)])
    good = CalibrationProblem(
        matrix, [120.0, 120 * factor, 60], np.full(6, 10.0), target_names=("a", "b", "n")
    )
    (found,) = precheck.inspect(good)
    assert (
        found.code == "duplicate_targets"
        and set(found.targets) < {"a", "b"}
        and "harmless" in found.message
    )
    assert calibrate(good, "raking").converged
    bad = good.change(targets=np.array([120.0, 110 * factor, 60]))
    blocking = [w for w in precheck.inspect(bad) if w.code in precheck.IMPOSSIBLE]
    assert len(blocking) == 1 and set(blocking[0].targets) == {"a", "b"}
    assert not calibrate(bad, "raking").converged


def test_unsupported_targets_are_named_with_the_reason():
    matrix = np.vstack([np.ones(4), [0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]])
    problem = CalibrationProblem(
        matrix, [30.0, 5, 7, 0], [10.0, 10, 10, 0], target_names=("n", "rare", "nobody", "zero")
    )
    found = {w.targets: w for w in precheck.inspect(problem)}
    assert (
        "No record contributes" in found[("nobody",)].message
        and "initial weight is zero (1)" in found[("rare",)].message
    )
    assert ("zero",) not in found, "a target of zero without records is met"
    assert found[()].code == "zero_weights" and found[()].size == 1
    result = calibrate(problem, "raking")
    assert not result.converged and result.targets_met.tolist() == [True, False, False, True], (
        "the others are met all the same"
    )
    with pytest.raises(InfeasibleError) as error:
        calibrate(problem, "raking", strict=True)
    assert codes(error.value.findings) == codes(result.warnings) - {"targets_missed", "tension"}


def test_more_findings_than_one_reads_share_a_sentence():
    matrix = np.vstack([np.ones(3), np.zeros((40, 3))])
    found = precheck.inspect(CalibrationProblem(matrix, np.full(41, 3.0), np.ones(3)))
    assert len(found) == 6 and found[-1].size == 35 and len(found[-1].targets) == 35


def test_a_negative_target_of_positive_rows_is_out_of_reach_unless_weights_may_be_negative():
    problem = CalibrationProblem(
        np.array([[1.0, 2, 3], [1, 1, 1]]), [-5.0, 3.0], np.ones(3), target_names=("x", "n")
    )
    (found,) = precheck.inspect(problem)
    assert (
        found.code == "outside_reach"
        and "adds zero or more" in found.message
        and found.targets == ("x",)
    )
    assert precheck.inspect(problem, box=reach.box(problem, Linear())) == ()
    assert not calibrate(problem, "raking").converged
    assert calibrate(problem, "linear").converged


@pytest.mark.parametrize("kind", [np.asarray, sparse.csr_array])
def test_reach_is_the_range_of_single_totals(kind):
    rng = np.random.default_rng(4)
    matrix = rng.normal(size=(4, 7)) * (rng.random((4, 7)) < 0.7)
    matrix[0] = np.abs(matrix[0])
    problem = CalibrationProblem(
        kind(matrix), np.ones(4), rng.uniform(1, 2, size=7), ratio_bounds=(0.5, 3.0)
    )
    low, high = reach.box(problem)
    least, most = reach.reach(problem.matrix, low, high)
    ends = np.array([[(a * low, a * high) for a in [row]] for row in matrix])[:, 0]
    np.testing.assert_allclose(least, ends.min(axis=1).sum(axis=1))
    np.testing.assert_allclose(most, ends.max(axis=1).sum(axis=1))
    least, most = reach.reach(problem.matrix, *reach.box(problem, Raking()))
    assert least[0] == 0 and np.isposinf(most[0])
    signed = (matrix < 0).any(axis=1) & (matrix > 0).any(axis=1)
    assert np.isneginf(least[signed]).all() and np.isposinf(most[signed]).all()
    least, _ = reach.reach(problem.matrix, *reach.box(problem, TruncatedLinear(-1.0, 2.0)))
    assert least[0] < 0


def test_targets_outside_bounds_say_what_can_be_reached():
    problem = two_margins(ratio_bounds=(0.99, 1.05)).change(
        targets=np.array([3000.0, 3194, 1850, 2044, 2300])
    )
    found = precheck.inspect(problem)
    assert {w.targets for w in found} == {("sex:M",), ("age:young",), ("age:old",)} and codes(
        found
    ) == {"outside_reach"}
    assert "1,980 to 2,100" in next(w for w in found if w.targets == ("age:old",)).message
    assert precheck.inspect(problem.change(ratio_bounds=(0.9, 1.2))) == ()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"targets": np.array([1.0, np.nan, 1, 1, 1])},
            ["1 of 5 targets", "nan", "targets[1], 'sex:M'"],
        ),
        (
            {"initial_weights": np.array([1.0, -2, 1, 1, 1, 1])},
            ["1 of 6 initial_weights", "-2", "initial_weights[1]", ">= 0"],
        ),
        (
            {"targets": np.ones(6)},
            ["(6,)", "5 rows (targets) and 6 columns (records)", "Transpose"],
        ),
        ({"initial_weights": np.ones(5)}, ["(5,)", "(6,)", "one number per record"]),
        (
            {"matrix": np.where(np.eye(5, 6) > 0, np.inf, 0.0)},
            ["NaN or infinite", "target 0", "record 0"],
        ),
    ],
)
def test_malformed_problems_say_where(change, words):
    with pytest.raises(ProblemError) as error:
        two_margins().change(**change)
    for word in words:
        assert word.lower() in str(error.value).lower()


def test_strict_raises_with_the_findings_of_the_default():
    problem = two_margins(1.05)
    result = calibrate(problem, "raking")
    with pytest.raises(InfeasibleError) as error:
        calibrate(problem, "raking", strict=True)
    told = [w for w in result.warnings if w.code not in ("targets_missed", "tension")]
    assert list(error.value.findings) == told and "adds up to 6,194" in str(error.value)


def test_diagnose_takes_problems_only():
    with pytest.raises(ProblemError, match="CalibrationProblem"):
        diagnose(np.ones(3))
