"""Labels: aligned where both sides have them, refused where they disagree; masks are never ignored.

Belongs here: pandas, polars and masked input of ``CalibrationProblem``. Does not belong here:
tables of persons with named margins (``test_from_margins.py``).
"""

import subprocess
import sys

import numpy as np
import pytest

from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import ProblemError
from calibration_core.flat import labels

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

PEOPLE = ["ann", "bob", "cy", "dee", "eve", "fay"]
MATRIX = pd.DataFrame(
    [[1, 0, 1, 0, 0, 1], [0, 1, 0, 1, 1, 0], [10, 20, 0, 5, 7, 3]],
    index=["sex:F", "sex:M", "income"],
    columns=PEOPLE,
    dtype=float,
)
TARGETS = pd.Series({"sex:F": 30.0, "sex:M": 40.0, "income": 500.0})
WEIGHTS = pd.Series([9.0, 11.0, 8.0, 12.0, 10.0, 13.0], index=PEOPLE)


def shuffled(series, seed=1):
    return series.sample(frac=1, random_state=seed)


def reference(**fields) -> CalibrationProblem:
    return CalibrationProblem(
        MATRIX.to_numpy(),
        TARGETS.to_numpy(),
        WEIGHTS.to_numpy(),
        target_names=list(MATRIX.index),
        **fields,
    )


def same(problem: CalibrationProblem, other: CalibrationProblem) -> None:
    assert problem.target_names == other.target_names and problem.groups == other.groups
    np.testing.assert_array_equal(problem.matrix.target_major(), other.matrix.target_major())
    for name in ("targets", "initial_weights", "standard_errors", "q", "cells"):
        np.testing.assert_array_equal(getattr(problem, name), getattr(other, name), err_msg=name)
    for one, two in zip(problem.limits, other.limits, strict=True):
        np.testing.assert_array_equal(one, two)


def test_every_labelled_field_is_put_in_the_order_of_the_matrix():
    q, cells = pd.Series(np.arange(1.0, 7), PEOPLE), pd.Series(list("aabbcc"), PEOPLE)
    low, high = pd.Series(np.linspace(0.3, 0.5, 6), PEOPLE), pd.Series(np.linspace(3, 5, 6), PEOPLE)
    errors = pd.Series({"sex:F": 1.0, "sex:M": 2.0, "income": 3.0})
    plain = reference(
        q=q.to_numpy(),
        cells=cells.to_numpy(),
        ratio_bounds=(low.to_numpy(), high.to_numpy()),
        standard_errors=errors.to_numpy(),
    )
    for seed in range(4):
        labelled = CalibrationProblem(
            MATRIX,
            shuffled(TARGETS, seed),
            shuffled(WEIGHTS, seed + 1),
            q=shuffled(q, seed + 2),
            cells=shuffled(cells, seed + 3),
            ratio_bounds=(shuffled(low, seed + 4), shuffled(high, seed + 5)),
            standard_errors=shuffled(errors, seed + 6),
        )
        same(labelled, plain)
        assert list(labelled.record_labels) == PEOPLE


def test_rows_that_pandas_sorts_otherwise_than_the_targets():
    """The report that this is for: F and M exchanged, converged and wrong."""
    people = pd.DataFrame({"sex": ["M", "F", "M", "F", "M"], "w": [1.0, 2.0, 3.0, 4.0, 5.0]})
    rows = pd.get_dummies(people.sex).T
    result = calibrate(CalibrationProblem(rows, pd.Series({"M": 700.0, "F": 300.0}), people.w))
    assert result.converged
    assert result.weights[(people.sex == "M").to_numpy()].sum() == pytest.approx(700)
    assert result.problem.target_names == ("F", "M")


def test_mappings_go_by_name():
    same(
        CalibrationProblem(MATRIX, {"income": 500.0, "sex:M": 40.0, "sex:F": 30.0}, WEIGHTS),
        reference(),
    )
    names = list(MATRIX.index)
    by_name = CalibrationProblem(
        MATRIX.to_numpy(), dict(shuffled(TARGETS)), WEIGHTS.to_numpy(), target_names=names
    )
    same(by_name, reference())


def test_names_come_from_labels_and_compound_labels_are_joined():
    index = pd.MultiIndex.from_tuples([("sex", "F"), ("sex", "M"), ("income", "all")])
    problem = CalibrationProblem(MATRIX.set_axis(index), shuffled(TARGETS.set_axis(index)), WEIGHTS)
    assert problem.target_names == ("sex:F", "sex:M", "income:all")
    assert problem.groups == ("sex", "sex", "income")
    np.testing.assert_array_equal(problem.targets, TARGETS)


def test_a_series_of_targets_beside_a_plain_matrix_gives_the_names():
    problem = CalibrationProblem(MATRIX.to_numpy(), TARGETS, WEIGHTS)
    assert problem.target_names == tuple(TARGETS.index) and list(problem.record_labels) == PEOPLE


def test_numbered_labels_go_by_position_beside_others():
    numbered = pd.DataFrame(MATRIX.to_numpy(), index=MATRIX.index)
    same(CalibrationProblem(numbered, shuffled(TARGETS), WEIGHTS), reference())
    same(CalibrationProblem(MATRIX, TARGETS, WEIGHTS.reset_index(drop=True)), reference())


def test_numbers_that_are_the_same_labels_align():
    """A table that was shuffled keeps its numbers: they are labels, and both sides have them."""
    numbers = pd.Series(WEIGHTS.to_numpy())
    matrix = MATRIX.set_axis(range(6), axis=1)
    same(CalibrationProblem(matrix, TARGETS, shuffled(numbers)), reference())
    mixed = matrix.sample(frac=1, axis=1, random_state=3)
    problem = CalibrationProblem(mixed, TARGETS, numbers)
    np.testing.assert_array_equal(problem.initial_weights, numbers.to_numpy()[list(mixed.columns)])


def test_change_aligns_by_the_names_and_labels_it_has():
    problem = CalibrationProblem(MATRIX, TARGETS, WEIGHTS)
    changed = problem.change(targets=shuffled(TARGETS) * 2, initial_weights=shuffled(WEIGHTS) * 2)
    np.testing.assert_array_equal(changed.targets, 2 * TARGETS)
    np.testing.assert_array_equal(changed.initial_weights, 2 * WEIGHTS)
    part = problem.take_records([4, 1])
    assert list(part.record_labels) == ["eve", "bob"]


REFUSED = {
    "targets of other names": (
        lambda: CalibrationProblem(MATRIX, TARGETS.rename({"sex:F": "F"}), WEIGHTS),
        ["labels of targets", "'sex:F'", "'F'", "Reindex"],
    ),
    "a target is missing": (
        lambda: CalibrationProblem(MATRIX, TARGETS.drop("income"), WEIGHTS),
        ["1 of the index of the matrix are not in targets", "'income'"],
    ),
    "weights of other people": (
        lambda: CalibrationProblem(MATRIX, TARGETS, WEIGHTS.rename({"ann": "anna"})),
        ["labels of initial_weights", "'ann'", "'anna'"],
    ),
    "a label twice": (
        lambda: CalibrationProblem(
            MATRIX.rename(columns={"bob": "ann"}), TARGETS, shuffled(WEIGHTS.rename({"bob": "ann"}))
        ),
        ["'ann' occurs twice"],
    ),
    "weights shuffled beside a plain matrix": (
        lambda: CalibrationProblem(
            MATRIX.to_numpy(), TARGETS.to_numpy(), shuffled(WEIGHTS.reset_index(drop=True))
        ),
        ["another order", "to_numpy()"],
    ),
    "q in other labels than the weights": (
        lambda: CalibrationProblem(
            MATRIX.to_numpy(), TARGETS.to_numpy(), WEIGHTS, q=WEIGHTS.rename({"ann": "x"})
        ),
        ["labels of q", "'ann'"],
    ),
    "bounds of other people": (
        lambda: CalibrationProblem(
            MATRIX, TARGETS, WEIGHTS, weight_bounds=(0.0, WEIGHTS.rename({"eve": "eva"}) * 5)
        ),
        ["weight_bounds[1]", "'eva'"],
    ),
    "names in another order than the labels": (
        lambda: CalibrationProblem(
            MATRIX, TARGETS, WEIGHTS, target_names=["sex:M", "sex:F", "income"]
        ),
        ["target_names", "'sex:M' stands where 'sex:F' does"],
    ),
    "names in another order than the labels of the targets": (
        lambda: CalibrationProblem(
            MATRIX.to_numpy(), TARGETS, WEIGHTS, target_names=["sex:M", "sex:F", "total"]
        ),
        ["labels of targets", "'income'"],
    ),
    "a frame of records by targets": (
        lambda: CalibrationProblem(MATRIX.T, TARGETS, WEIGHTS),
        ["labels of targets"],
    ),
    "a numbered frame of records by targets": (
        lambda: CalibrationProblem(MATRIX.T.reset_index(drop=True), TARGETS, WEIGHTS),
        ["columns of the matrix", "Transpose"],
    ),
    "a masked target": (
        lambda: CalibrationProblem(MATRIX, np.ma.masked_array(TARGETS, [False, True, False])),
        ["1 of 3 values of targets are masked", "targets[1]"],
    ),
    "masked entries": (
        lambda: CalibrationProblem(np.ma.masked_equal(MATRIX.to_numpy(), 7.0), TARGETS),
        ["masked", "the matrix[2, 4]"],
    ),
    "a masked weight": (
        lambda: CalibrationProblem(MATRIX, TARGETS, np.ma.masked_less(WEIGHTS.to_numpy(), 9.0)),
        ["1 of 6 values of initial_weights are masked", "initial_weights[2]"],
    ),
    "a masked standard error": (
        lambda: reference(standard_errors=np.ma.masked_array([1.0, 2, 3], [1, 0, 0])),
        ["standard_errors[0]"],
    ),
    "a masked bound": (
        lambda: reference(ratio_bounds=(np.ma.masked_array(np.zeros(6), [0, 0, 0, 0, 0, 1]), 3.0)),
        ["ratio_bounds[0]"],
    ),
    "a missing value of a nullable type": (
        lambda: CalibrationProblem(MATRIX, TARGETS, WEIGHTS.astype("Float64").where(WEIGHTS > 8)),
        ["initial_weights"],
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_with_the_place(case):
    build, words = REFUSED[case]
    with pytest.raises(ProblemError) as raised:
        build()
    assert [w for w in words if w not in str(raised.value)] == [], str(raised.value)


def test_a_mask_that_hides_nothing_is_no_mask():
    masked = np.ma.masked_array(WEIGHTS.to_numpy(), np.zeros(6, dtype=bool))
    same(CalibrationProblem(MATRIX, TARGETS, masked), reference())


def test_polars_series_go_by_position_and_missing_values_are_refused():
    same(
        CalibrationProblem(
            MATRIX.to_numpy(),
            pl.Series(TARGETS.to_list()),
            pl.Series(WEIGHTS.to_list()),
            target_names=list(MATRIX.index),
        ),
        reference(),
    )
    with pytest.raises(ProblemError, match="initial_weights"):
        CalibrationProblem(MATRIX.to_numpy(), TARGETS.to_numpy(), pl.Series([1, None, 1, 1, 1, 1]))


def test_frames_of_mixed_types_are_read_as_numbers():
    mixed = pd.concat(
        [pd.get_dummies(pd.Series(list("FMF"))), pd.Series([1.5, 2, 3], name="x")], axis=1
    )
    problem = CalibrationProblem(mixed.T, {"x": 20.0, "M": 4.0, "F": 6.0})
    np.testing.assert_array_equal(
        problem.matrix.target_major(), [[1, 0, 1], [0, 1, 0], [1.5, 2, 3]]
    )


def test_labels_are_recognised_by_what_they_can_do():
    assert labels.labels_of([1, 2]) is None and labels.labels_of((1, 2)) is None
    assert (
        labels.labels_of(np.arange(3)) is None
        and labels.labels_of(pl.DataFrame({"a": [1]})) is None
    )
    assert labels.labels_of({"a": 1}) == ("a",) and labels.labels_of(TARGETS) == tuple(
        TARGETS.index
    )
    assert labels.is_numbering(None) and labels.is_numbering(range(3))
    assert not labels.is_numbering([0, 2, 1]) and labels.is_shuffled_numbering([0, 2, 1])
    assert not labels.is_shuffled_numbering([0, 2, 3])


def test_the_core_imports_no_library_of_frames():
    code = (
        "import sys, numpy as np, calibration_core as c\n"
        "c.calibrate(c.CalibrationProblem(np.ones((1, 3)), [4.0]), 'raking').summary()\n"
        "print(sorted(set(sys.modules) & {'pandas', 'polars', 'pyarrow'}))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"
