"""The one call: what it takes, what it refuses and in which words, and that its results tell the
truth about themselves.
"""

import dataclasses

import numpy as np
import pytest

import calibration_core
from benchmarks.messages import inflated_margin, met, schools, situations, survey
from calibration_core import METHODS, CalibrationProblem, calibrate, settings_of
from calibration_core.errors import GeocalError, InfeasibleError, ProblemError, SettingsError

EXACT = ("linear", "raking", "entropy")


def test_the_public_names_are_there_and_others_are_not():
    for name in (
        "CalibrationProblem",
        "CalibrationResult",
        "CalibrationWarning",
        "METHODS",
        "advise",
        "calibrate",
        "settings_of",
    ):
        assert name in calibration_core.__all__ and getattr(calibration_core, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        calibration_core.nothing  # noqa: B018


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_frozen_settings_and_says_what_it_is_for(method):
    assert len(METHODS[method]) > 10
    try:
        settings = settings_of(method)
    except SettingsError as error:
        assert "records" in str(error), "only a number of records may have no default"
        return
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.tolerance = 1.0


@pytest.mark.parametrize("method", METHODS)
def test_every_method_refuses_a_setting_it_does_not_have(method):
    with pytest.raises(SettingsError, match=f"'{method}' has no setting 'nonsense'"):
        calibrate(survey(), method, nonsense=1)


MESSAGES = [
    ("one margin inflated by 5 %, strict", InfeasibleError, ["sex", "age", "5.00 %"]),
    (
        "a target that no record contributes to, strict",
        InfeasibleError,
        ["age: 85+, abroad", "340"],
    ),
    (
        "infeasible bounds on an invented api_linear, strict",
        InfeasibleError,
        ["0.9", "1.1", "narrowest"],
    ),
    (
        "NaN in the matrix",
        ProblemError,
        ["1 of 1,400", "'income'", "record 12", "nothing is dropped"],
    ),
    ("NaN in the targets", ProblemError, ["targets[3]", "age: 18-34", "NaN"]),
    ("NaN in the weights", ProblemError, ["initial_weights[3]", "NaN"]),
    ("a negative weight", ProblemError, ["initial_weights[77]", "-2.5", ">= 0"]),
    ("all weights zero", ProblemError, ["zero", "initial_weights=None"]),
    (
        "a standard error of zero",
        ProblemError,
        ["standard_errors[0]", "sex: female", "small error"],
    ),
    ("the matrix transposed", ProblemError, ["7 target names", "200 rows", "Transpose"]),
    ("one target too few", ProblemError, ["(6,)", "7 rows", "200 columns"]),
    ("one weight too few", ProblemError, ["(199,)", "200 columns"]),
    ("targets as text", ProblemError, ["targets is not numeric", "many"]),
    ("a matrix of text", ProblemError, ["<U1"]),
    ("a vector for a matrix", ProblemError, ["(200,)", "matrix[None, :]"]),
    ("two targets of one name", ProblemError, ["'age: 65+'", "unique"]),
    ("one name too few", ProblemError, ["6 target names", "7 rows"]),
    ("one string for all names", ProblemError, ["'targets'", "list"]),
    ("bounds the wrong way round", ProblemError, ["2 to 0.5", "every record", "Exchange"]),
    ("one bound only", ProblemError, ["ratio_bounds is 2", "(0.5, 2.0)"]),
    ("bounds that exclude each other", ProblemError, ["record 0", "10000", "Widen"]),
    ("misspelt setting", SettingsError, ["max_iteration'", "'max_iterations'?"]),
    ("setting out of range", SettingsError, ["tolerance is -1", "0.01"]),
    ("unknown compromise", SettingsError, ["'best'", "'minimax'"]),
    ("wrong type of problem", ProblemError, ["ndarray", "CalibrationProblem(matrix, targets"]),
    ("bounds for a method without", ProblemError, ["'raking' holds none", "raking_bounded"]),
    (
        "no bounds for a method with",
        ProblemError,
        ["'logit' was given no bounds", "ratio_bounds=(low, high)"],
    ),
    (
        "logit bounds that leave out one",
        SettingsError,
        ["1.1 to 2", "low < 1 < high", "truncated_linear"],
    ),
    ("amounts for ipf", ProblemError, ["income", "raking"]),
    ("more records than there are", SettingsError, ["500", "200"]),
]
SITUATIONS = {s.title: s for s in situations()}


@pytest.mark.parametrize(
    ("title", "kind", "words"), MESSAGES, ids=lambda x: x if isinstance(x, str) else ""
)
def test_an_error_says_what_was_found_where_and_what_to_do(title, kind, words):
    with pytest.raises(kind) as raised:
        SITUATIONS[title].run()
    text = str(raised.value)
    assert [w for w in words if w not in text] == [], text
    assert raised.value.found and (raised.value.expected or raised.value.remedy)
    assert ".." not in text.replace(" ...", "") and "?." not in text


def test_nothing_that_a_new_user_may_try_ends_in_a_foreign_error_or_warning():
    for situation in situations():
        text = met(situation)
        assert (
            "UNEXPECTED" not in text and "ACCEPTED" not in text and "python warning" not in text
        ), (situation.title, text)


@pytest.mark.parametrize(
    ("name", "ours"),
    [
        ("greg", "linear"),
        ("chi_square", "linear"),
        ("rakeing", "raking"),
        ("ebal", "entropy"),
        ("adam", "gradient"),
        ("L0", "hard_concrete"),
    ],
)
def test_names_that_others_use_lead_to_ours(name, ours):
    with pytest.raises(SettingsError, match=f"Did you mean '{ours}'"):
        calibrate(survey(), name)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"max_iterations": "10"}, "whole number"),
        ({"max_iterations": 2.5}, "whole number"),
        ({"max_iterations": True}, "whole number"),
        ({"tolerance": "1e-9"}, "a number"),
        ({"tolerance": float("nan")}, "above 0"),
        ({"strict": 1}, "True or False"),
        ({"compromise": 3}, "'least_squares' or 'minimax'"),
    ],
)
def test_a_setting_of_the_wrong_type_is_refused_in_words(settings, says):
    with pytest.raises(SettingsError, match=says):
        calibrate(survey(), **settings)


def test_settings_of_numpy_types_are_taken():
    result = calibrate(
        survey(), max_iterations=np.int64(50), tolerance=np.float64(1e-8), strict=np.bool_(True)
    )
    assert result.converged and result.settings.max_iterations == 50


@pytest.mark.parametrize("compromise", ["least_squares", "minimax"])
def test_one_margin_inflated_by_five_per_cent(compromise):
    """Both margins are named with the size. Analytic minimax: shares up and down by t with (1 + t)
    = 1.05 (1 - t), t = 2.44 %.
    """
    problem = inflated_margin()
    result = calibrate(problem, compromise=compromise)
    assert not result.converged and "cannot all be met" in result.status
    finding = result.warned("margin_totals_disagree")[0]
    assert set(finding.targets) == set(problem.target_names[:6]) and finding.size == pytest.approx(
        0.05, abs=1e-6
    )
    assert "'sex'" in finding.message and "'age'" in finding.message and "5.00 %" in finding.message
    assert "NOT CONVERGED" in result.summary() and "5.00 %" in result.summary()
    worst = np.nanmax(result.relative_errors)
    if compromise == "minimax":
        assert worst == pytest.approx(0.05 / 2.05, abs=1e-3)
    else:
        assert worst > 0.05 / 2.05


def test_a_target_without_support_is_named_and_the_others_are_met():
    p = survey()
    rows = np.vstack([p.matrix.target_major(), np.zeros(200)])
    empty = CalibrationProblem(
        rows, np.r_[p.targets, 340.0], p.start, target_names=[*p.target_names, "abroad"]
    )
    for method in EXACT:
        result = calibrate(empty, method)
        assert not result.converged and "meet the others" in result.status
        assert result.warned("unsupported_target")[0].targets == ("abroad",)
        assert result.warned("targets_missed")[0].targets == ("abroad",)
        np.testing.assert_allclose(result.weights, calibrate(p, method).weights, rtol=1e-9)


@pytest.mark.parametrize("method", ["truncated_linear", "raking_bounded", "logit"])
def test_infeasible_bounds_are_kept_and_the_smallest_feasible_ones_named(method):
    """The bounds named are feasible, and a hundredth narrower ones are not."""
    problem = schools().change(ratio_bounds=(0.9, 1.1))
    result = calibrate(problem, method)
    assert not result.converged
    assert result.ratios.min() >= 0.9 - 1e-12 and result.ratios.max() <= 1.1 + 1e-12
    first, *_ = result.warnings
    assert "0.9 to 1.1" in first.message and "narrowest" in first.message
    low, high = (float(x) for x in first.message.rsplit(" are ", 1)[1].split(" to "))
    wide, narrow = 1.01 * np.array([low - 1, high - 1]), 0.99 * np.array([low - 1, high - 1])
    assert calibrate(problem.change(ratio_bounds=tuple(1 + wide)), method).converged
    assert not calibrate(problem.change(ratio_bounds=tuple(1 + narrow)), method).converged


def test_a_result_counts_for_itself():
    problem = survey()
    result = calibrate(problem)
    a, w = problem.matrix.target_major(), result.weights
    np.testing.assert_allclose(result.fitted, a @ w, rtol=1e-12)
    np.testing.assert_allclose(
        result.residuals, a @ w - problem.targets, atol=1e-9 * problem.targets.max()
    )
    np.testing.assert_allclose(result.ratios, w / problem.start)
    assert result.effective_sample_size == pytest.approx(w.sum() ** 2 / (w @ w))
    assert result.design_effect == pytest.approx(200 * (w @ w) / w.sum() ** 2)
    assert result.converged and result.targets_met.all() and result.status == "every target is met"
    assert len(result.loss_trace) == result.iterations > 0 and result.seconds > 0
    assert not result.warnings and "NOT" not in result.summary()


def test_progress_is_told_every_step():
    seen = []
    result = calibrate(survey(), progress=lambda step, error: seen.append((step, error)))
    assert [s for s, _ in seen] == list(range(1, result.iterations + 1)) and seen[-1][1] < 1e-9


def test_a_problem_cannot_be_changed_behind_its_back():
    p = survey()
    given = np.array(p.start)
    problem = CalibrationProblem(p.matrix, p.targets, given)
    given[:] = 1.0
    np.testing.assert_array_equal(problem.initial_weights, p.start)
    with pytest.raises(dataclasses.FrozenInstanceError):
        problem.targets = given
    with pytest.raises(ValueError, match="read-only"):
        problem.targets[0] = 1.0


def test_the_same_call_gives_the_same_bits():
    for method in EXACT:
        first, second = calibrate(survey(), method), calibrate(survey(), method)
        assert first.weights.tobytes() == second.weights.tobytes()


def test_every_error_is_a_geocal_error():
    for title, kind, _ in MESSAGES:
        assert issubclass(kind, GeocalError), title
