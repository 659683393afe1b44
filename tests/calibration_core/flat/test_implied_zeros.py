"""Records that can only weigh zero are found in combinations of rows, set to zero, and named.

Belongs here: implied zeros of every kind. Does not belong here: margins that disagree for everyone
(``test_conflicts.py``).
"""

import numpy as np
import pytest

from calibration_core import METHODS, CalibrationProblem, advise, calibrate, diagnose
from calibration_core.flat.conflicts.reach import box
from calibration_core.flat.implied_zeros import implied_zeros, zeros_by_program

KEEP = {"hard_concrete": {"epochs": 60}}
SPARSE = ("hard_concrete", "reweighted_l1", "random_subset", "cross_category", "hybrid")
BOUNDED = ("truncated_linear", "raking_bounded", "logit")


def codes(seed: int, records: int, *levels: int) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, k, records) for k in levels]


def rows_of(code: np.ndarray, levels) -> list[np.ndarray]:
    return [code == k for k in levels]


def sex_not_stated(records: int = 120, **fields) -> tuple[CalibrationProblem, np.ndarray]:
    """Two sexes add up to the population; a third of the records has none."""
    sex, region = codes(5, records, 3, 4)
    matrix = np.array([*rows_of(sex, range(2)), *rows_of(region, range(4))], float)
    names = ["sex:M", "sex:F", *(f"region:{k}" for k in range(4))]
    targets = [600.0, 400.0, 300.0, 300.0, 200.0, 200.0]
    design = np.random.default_rng(8).gamma(9.0, 1.0, records)
    problem = CalibrationProblem(matrix, targets, design, target_names=names, **fields)
    return problem, sex == 2


def bounds_of(method: str) -> dict:
    return {"ratio_bounds": (0.0, 8.0)} if method in (*BOUNDED, "trim") else {}


@pytest.mark.parametrize("method", METHODS)
def test_records_without_a_category_are_counted_and_their_margin_named(method):
    problem, outside = sex_not_stated(**bounds_of(method))
    keep = {"records": 30} if method in SPARSE else {}
    result = calibrate(problem, method, **keep, **KEEP.get(method, {}))
    texts = [w.message for w in result.warnings]
    assert any(f"{outside.sum()} records" in t and "'sex'" in t and "zero" in t for t in texts), (
        texts
    )
    assert not any("do exist" in t for t in texts)
    if method not in ("linear", "gradient", "relaxed_entropy"):
        assert result.targets_met.all(), result.status
        assert (result.weights[outside] == 0).all() and (result.weights[~outside] >= 0).all()
    if method == "linear":
        assert abs(result.weights[outside].sum()) < 1e-6 and result.converged
        assert not any("only weigh zero" in t for t in texts), "they may be negative here"
    if method in SPARSE:
        assert result.selected.size == 30 and not outside[result.selected].any()


def test_diagnosis_names_them_and_finds_the_rest_feasible():
    problem, outside = sex_not_stated()
    found = diagnose(problem)
    assert found.feasible and found.minimax_error == 0.0
    (named,) = [w for w in found.findings if w.code == "records_emptied"]
    assert named.size == outside.sum() and set(named.targets) >= {"sex:M", "sex:F"}
    assert "margin 'region'" in named.message and "add up to 1,000" in named.message
    assert not advise(problem).figures.conflicts


@pytest.mark.parametrize("method", BOUNDED)
def test_a_lower_bound_that_forbids_it_is_a_conflict(method):
    problem, outside = sex_not_stated(ratio_bounds=(0.2, 8.0))
    result = calibrate(problem, method)
    (named,) = result.warned("lower_bound_above_zero")
    assert not result.converged and "cannot all be met" in result.status
    assert f"lower bounds of {outside.sum()} of them are above zero" in named.message
    assert diagnose(problem).feasible is False


@pytest.mark.parametrize("total", [0.98, 1.0, 1.02])
def test_a_margin_that_leaves_less_or_more_than_nothing(total):
    """Short of the population the records carry the rest; beyond it the targets contradict."""
    problem, outside = sex_not_stated()
    targets = np.array(problem.targets)
    targets[:2] *= total
    changed = problem.change(targets=targets)
    result, found = calibrate(changed, "raking"), diagnose(changed)
    if total < 1:
        assert result.converged and result.weights[outside].sum() == pytest.approx(20.0)
        assert not result.warnings and not found.findings
    if total > 1:
        (named,) = result.warned("part_exceeds_whole")
        assert "add up to 1,020" in named.message and "to 1,000" in named.message
        assert "margin 'sex'" in named.message and "margin 'region'" in named.message
        assert not result.converged and found.feasible is False
        assert named.size == pytest.approx(0.02)


def kinds() -> dict[str, tuple[CalibrationProblem, np.ndarray]]:
    """Problems by what empties records, and the records emptied."""
    out = {}
    county, sex, age = codes(1, 150, 6, 2, 3)
    state = county // 3
    # Nested: the counties of state 1 that have targets exhaust it; county 5 has none.
    matrix = np.array([*rows_of(state, range(2)), *rows_of(county, range(5))], float)
    names = ["state:0", "state:1", *(f"county:{k}" for k in range(5))]
    nested = CalibrationProblem(matrix, [300, 200, 90, 90, 120, 110, 90], target_names=names)
    out["nested margins"] = nested, county == 5
    # A row within another with the same target.
    young, small = age == 0, (age == 0) & (sex == 0)
    matrix = np.array([young, small, age == 1, np.ones(150)], float)
    names = ["young", "young women", "middle", "all"]
    inside = CalibrationProblem(matrix, [100, 100, 150, 400], target_names=names)
    out["a row within another"] = inside, young & ~small
    # Persons: whoever stated no sex, household by household.
    rng = np.random.default_rng(2)
    people = rng.integers(1, 5, 150)
    men = rng.integers(0, people + 1)
    unstated = rng.integers(0, people - men + 1) * (rng.random(150) < 0.4)
    matrix = np.array([people, men, people - men - unstated], float)
    design = np.full(150, 2.0)
    stated = unstated == 0
    targets = matrix @ (design * stated * rng.uniform(0.8, 1.2, 150))
    names = ["persons", "persons by sex:M", "persons by sex:F"]
    counts = CalibrationProblem(matrix, targets, design, target_names=names)
    out["counts of persons"] = counts, ~stated
    # Single rows: a target of zero.
    matrix = np.array([sex == 0, age == 2, np.ones(150)], float)
    zero = CalibrationProblem(matrix, [150, 0, 300], target_names=["women", "old", "all"])
    out["a target of zero"] = zero, age == 2
    # A chain: old people are emptied first, and then nobody is left of one county but they.
    matrix = np.array([*rows_of(age, range(2)), np.ones(150), sex == 0, (sex == 0) & (county < 3)])
    names = ["age:0", "age:1", "all", "women", "women in the south"]
    chain = CalibrationProblem(matrix.astype(float), [120, 180, 300, 150, 150], target_names=names)
    out["one after another"] = chain, (age == 2) | ((sex == 0) & (county >= 3))
    # In thousands, and in units of a half.
    factor = np.array([1e-3, 1e-3, *[0.5] * 5])
    scaled = nested.change(
        matrix=nested.matrix.target_major() * factor[:, None], targets=nested.targets * factor
    )
    out["other units"] = scaled, county == 5
    return out


@pytest.mark.parametrize("kind", kinds())
def test_kinds_of_implied_zeros(kind):
    problem, emptied = kinds()[kind]
    found = implied_zeros(problem, box(problem)[0], 1e-9)
    np.testing.assert_array_equal(np.any([f.records for f in found], axis=0), emptied)
    result = calibrate(problem, "raking")
    assert result.converged and (result.weights[emptied] == 0).all(), result.status
    assert sum(w.size for w in result.warned("records_emptied")) == emptied.sum()
    assert (result.weights[~emptied] > 0).all()


def test_a_combination_of_three_margins_needs_the_program():
    """No two rows say it: a + b + c - d counts the records twice over, or not at all."""
    rng = np.random.default_rng(4)
    n = 90
    amounts = rng.uniform(1.0, 3.0, (2, n))
    extra = (rng.random(n) < 0.3) * rng.uniform(0.5, 1.0, n)
    # 2 x + y - z is the extra amount, which is never negative; the targets leave none of it.
    matrix = np.vstack([amounts, 2 * amounts[0] + amounts[1] - extra])
    weights = rng.uniform(0.5, 2.0, n) * (extra == 0)
    problem = CalibrationProblem(matrix, matrix @ weights, np.ones(n))
    low = box(problem)[0]
    assert implied_zeros(problem, low, 1e-9) == ()
    found = zeros_by_program(problem, np.arange(3), low, 1e-9)
    np.testing.assert_array_equal(found.records, extra > 0)
    result = calibrate(problem, "raking")
    assert result.converged and (result.weights[extra > 0] == 0).all()
    (named,) = result.warned("records_emptied")
    assert set(named.targets) == {"target 0", "target 1", "target 2"}
    assert named.size == (extra > 0).sum()


@pytest.mark.parametrize("seed", range(25))
def test_nobody_is_emptied_who_can_have_weight(seed):
    """Where weights that are all positive meet the targets, nothing is implied."""
    rng = np.random.default_rng(seed)
    n = int(rng.integers(20, 80))
    margins = [rng.integers(0, k, n) for k in rng.integers(2, 5, 3)]
    rows = [code == k for code in margins for k in range(int(code.max()) + rng.integers(0, 2))]
    rows.append(rng.integers(0, 4, n))
    matrix = np.array(rows, float)
    problem = CalibrationProblem(matrix, matrix @ rng.uniform(0.1, 3.0, n), np.ones(n))
    low = box(problem)[0]
    assert implied_zeros(problem, low, 1e-9) == ()
    assert zeros_by_program(problem, np.arange(len(rows)), low, 1e-9) is None
    assert calibrate(problem, "raking").converged


def test_the_narrowest_bounds_told_are_feasible_when_they_are_given():
    # Two records of 22 can only weigh zero: w/d of 0.9 to 1.1 serve the others, not them.
    sex = np.array([0] * 10 + [1] * 10 + [2] * 2)
    rows = np.array([sex == 0, sex == 1, np.ones(22)], dtype=float)
    names = ["sex:F", "sex:M", "all"]
    problem = CalibrationProblem(rows, [11.0, 11.0, 22.0], np.ones(22), target_names=names)
    told = diagnose(problem)
    low, high = told.smallest_bounds
    assert told.feasible and low == 0.0
    assert diagnose(problem.change(ratio_bounds=(low, high * (1 + 1e-9)))).feasible
