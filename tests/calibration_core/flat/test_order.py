"""The order of records and of targets changes nothing: not which records a seed draws, nor weights.

Belongs here: permutations of one problem. Does not belong here: units (``test_units.py``).
"""

import numpy as np
import pytest

from calibration_core import METHODS, CalibrationProblem, calibrate
from calibration_core.flat.standard_form import standard_form

BOUNDED = {"truncated_linear", "logit", "raking_bounded", "trim"}
SPARSE = {
    "hard_concrete": {"epochs": 80},
    "reweighted_l1": {},
    "random_subset": {},
    "cross_category": {"draws": 3},
    "hybrid": {},
}
NAMES = [*(f"sex:{k}" for k in range(2)), *(f"region:{k}" for k in range(4)), "income", "children"]
RECORDS = 140


def arrays(seed=11, twins=False):
    """Margins, an amount and a count; with ``twins`` every record is there twice."""
    rng = np.random.default_rng(seed)
    sex, region = rng.integers(0, 2, RECORDS), rng.integers(0, 4, RECORDS)
    income = np.exp(rng.normal(10, 1, RECORDS))
    children = rng.integers(0, 4, RECORDS)
    rows = [*(sex == k for k in range(2)), *(region == k for k in range(4)), income, children]
    matrix, design = np.array(rows, float), rng.gamma(4.0, 25.0, RECORDS)
    targets = matrix @ (design * rng.uniform(0.7, 1.4, RECORDS))
    if twins:
        matrix, design = np.hstack([matrix, matrix]), np.r_[design, design] / 2
    return matrix, targets, design


def permuted(method, matrix, targets, design, row, column, named=True, **fields):
    """The problem with its rows and columns in another order; fields of records are
    put in it too.
    """
    if method in BOUNDED:
        fields["ratio_bounds"] = (0.5 - 0.1 * (design > 100), np.full(design.size, 2.5))
    if method == "ipf":
        row = row[row < 6]
    fields = {
        k: tuple(end[column] for end in v) if isinstance(v, tuple) else v[column]
        for k, v in fields.items()
    }
    names = [NAMES[j] for j in row] if named else None
    return CalibrationProblem(
        matrix[np.ix_(row, column)], targets[row], design[column], target_names=names, **fields
    )


def orders(records, targets=8, count=3):
    rng = np.random.default_rng(0)
    return [(rng.permutation(targets), rng.permutation(records)) for _ in range(count)]


def run(method, problem, seed=5):
    keep = {"records": 45, **SPARSE[method]} if method in SPARSE else {}
    if method in SPARSE and method != "reweighted_l1":
        keep["seed"] = seed
    return calibrate(problem, method, **keep)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_weights_do_not_depend_on_the_order(method, named):
    matrix, targets, design = arrays()
    q = None if method == "ipf" else np.linspace(0.5, 1.5, RECORDS)
    fields = {} if q is None else {"q": q}
    plain = permuted(
        method, matrix, targets, design, np.arange(8), np.arange(RECORDS), named, **fields
    )
    before = run(method, plain)
    for row, column in orders(RECORDS):
        after = run(method, permuted(method, matrix, targets, design, row, column, named, **fields))
        np.testing.assert_allclose(
            after.weights, before.weights[column], rtol=1e-8, atol=1e-9 * before.weights.max()
        )
        if method in SPARSE:
            np.testing.assert_array_equal(after.selected, np.flatnonzero(before.weights[column]))
            np.testing.assert_array_equal(after.details["selected"], after.selected)
        if before.multipliers is not None and "q" not in fields:
            row = row[row < 6] if method == "ipf" else row
            margins = np.flatnonzero(row >= 6)
            np.testing.assert_allclose(
                after.multipliers[margins], before.multipliers[row[margins]], rtol=1e-4, atol=1e-9
            )
        for name in ("probability",):
            if name in before.details:
                np.testing.assert_allclose(
                    after.details[name], before.details[name][column], rtol=1e-9
                )


@pytest.mark.parametrize("method", sorted(SPARSE))
def test_another_seed_draws_other_records(method):
    """Or the test above shows nothing."""
    if method == "reweighted_l1":
        pytest.skip("it draws nothing")
    matrix, targets, design = arrays()
    problem = permuted(method, matrix, targets, design, np.arange(8), np.arange(RECORDS))
    first, second = (run(method, problem, seed).selected for seed in (1, 2))
    assert np.intersect1d(first, second).size < 45


@pytest.mark.parametrize("method", sorted(SPARSE))
def test_twins_may_change_places_and_nothing_else_does(method):
    matrix, targets, design = arrays(twins=True)
    n = design.size
    kept = []
    for row, column in [(np.arange(8), np.arange(n)), *orders(n, count=2)]:
        result = run(method, permuted(method, matrix, targets, design, row, column))
        weights = np.zeros(n)
        weights[column] = result.weights
        kept.append(np.sort(np.stack([weights[: n // 2], weights[n // 2 :]]), axis=0))
    for other in kept[1:]:
        np.testing.assert_allclose(other, kept[0], rtol=1e-7, atol=1e-9 * kept[0].max())


def test_cells_bounds_and_scale_tell_records_apart():
    """Records that agree in what they add differ in these, and are told apart by them."""
    matrix, design = np.ones((1, 60)), np.ones(60)
    cells = np.arange(60) % 7
    high = 2.0 + np.arange(60) / 60
    column = np.random.default_rng(3).permutation(60)
    for fields in ({"cells": cells}, {"q": high}, {"ratio_bounds": (np.zeros(60), high)}):
        moved = {
            k: tuple(x[column] for x in v) if isinstance(v, tuple) else v[column]
            for k, v in fields.items()
        }
        one = calibrate(
            CalibrationProblem(matrix, [90.0], design, **fields), "random_subset", records=20
        )
        two = calibrate(
            CalibrationProblem(matrix, [90.0], design, **moved), "random_subset", records=20
        )
        key = next(iter(fields.values()))
        key = key[1] if isinstance(key, tuple) else key
        np.testing.assert_array_equal(
            np.sort(key[one.selected]), np.sort(key[column][two.selected])
        )


def test_the_standard_form_is_the_same_bytes_whatever_the_order():
    matrix, targets, design = arrays()
    forms = []
    for row, column in [(np.arange(8), np.arange(RECORDS)), *orders(RECORDS)]:
        form = standard_form(permuted("raking", matrix, targets, design, row, column), ordered=True)
        forms.append((form.matrix.stored.tobytes(), form.targets.tobytes(), form.start.tobytes()))
    assert len(set(forms)) == 1


def test_the_coarsest_margin_comes_first():
    """Cells are pooled by their last margin first, so that one is the finest."""
    matrix, targets, design = arrays()
    problem = permuted("raking", matrix, targets, design, np.arange(8)[::-1], np.arange(RECORDS))
    form = standard_form(problem, ordered=True)
    assert form.target_names == (
        "children", "income", "sex:0", "sex:1", *(f"region:{k}" for k in range(4))
    )  # fmt: skip


def test_a_zero_design_weight_is_never_revived():
    """By no method, whatever it starts from."""
    matrix, targets, design = arrays()
    design = np.where(np.arange(RECORDS) % 4 == 0, 0.0, design)
    targets = matrix @ design * np.linspace(0.95, 1.05, 8)
    targets[:6] = (matrix @ design)[:6]
    for method in METHODS:
        problem = permuted(method, matrix, targets, design, np.arange(8), np.arange(RECORDS))
        for seed in (1, 2, 3):
            result = run(method, problem, seed)
            assert (result.weights[::4] == 0).all(), method
            if method in SPARSE:
                assert result.selected.size == 45
    options = {
        "random_subset": {"probability": "weight"},
        "cross_category": {"weights": "dense", "refit": "ipf"},
        "hybrid": {"design": "balanced"},
        "relaxed_entropy": {"algorithm": "list_balancing"},
        "gradient": {"optimizer": "lbfgs"},
        "trim": {"keep_totals": False},
        "reweighted_l1": {"refit": False},
        "hard_concrete": {"refit": False, "epochs": 40},
    }
    for method, more in options.items():
        problem = permuted(method, matrix, targets, design, np.arange(8), np.arange(RECORDS))
        keep = {"records": 45} if method in SPARSE else {}
        result = calibrate(problem, method, **keep, **more)
        assert (result.weights[::4] == 0).all(), (method, more)


@pytest.mark.parametrize("method", sorted(BOUNDED | {"gradient", "relaxed_entropy"}))
def test_a_bound_that_would_revive_one_is_refused(method):
    from calibration_core.errors import ProblemError

    matrix, targets, design = arrays()
    design = np.where(np.arange(RECORDS) == 7, 0.0, design)
    problem = CalibrationProblem(
        matrix, targets, design, weight_bounds=(1.0, 2000.0), target_names=NAMES
    )
    with pytest.raises(ProblemError, match="record 7"):
        calibrate(problem, method)
