"""Margins of a table: the doors for notebooks.

Belongs here: ``from_margins`` and ``rake``. Does not belong here: labelled matrices
(``test_labels.py``), what is shown in a notebook (``test_notebook.py``).
"""

import numpy as np
import pytest

from calibration_core import CalibrationProblem, calibrate, diagnose, from_margins, rake
from calibration_core.errors import ProblemError

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")

N = 90
SEX = {"F": 500.0, "M": 400.0}
CROSS = {("F", "young"): 200.0, ("F", "old"): 300.0, ("M", "young"): 150.0, ("M", "old"): 250.0}


def people(seed=0) -> "pd.DataFrame":
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "sex": rng.choice(["F", "M"], N),
            "age": rng.choice(["young", "old"], N),
            "region": rng.integers(1, 4, N),
            "income": rng.lognormal(3, 0.5, N).round(2),
            "weight": rng.gamma(4, 2.5, N),
        },
        index=[f"p{i:02d}" for i in range(N)],
    )


def by_hand() -> CalibrationProblem:
    frame = people()
    sex, age = frame.sex.to_numpy(), frame.age.to_numpy()
    rows = [sex == "F", sex == "M"]
    rows += [(sex == s) & (age == a) for s, a in CROSS]
    rows.append(frame.income.to_numpy())
    return CalibrationProblem(
        np.array(rows, float), [*SEX.values(), *CROSS.values(), 2.2e4], frame.weight.to_numpy()
    )


MARGINS = {"sex": SEX, ("sex", "age"): CROSS, "income": 2.2e4}
FRAMES = {
    "pandas": people,
    "polars": lambda: pl.from_pandas(people()),
    "dictionary": lambda: {name: people()[name].to_numpy() for name in people()},
    "lists": lambda: {name: people()[name].tolist() for name in people()},
    "categories": lambda: people().astype({"sex": "category", "age": "category"}),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_any_table_gives_the_problem_written_by_hand(kind):
    problem, plain = from_margins(FRAMES[kind](), MARGINS, "weight"), by_hand()
    np.testing.assert_array_equal(
        problem.matrix.target_major().toarray(), plain.matrix.target_major()
    )
    np.testing.assert_array_equal(problem.targets, plain.targets)
    np.testing.assert_array_equal(problem.initial_weights, plain.initial_weights)
    assert problem.target_names[:4] == (
        "sex:F",
        "sex:M",
        "sex x age:F x young",
        "sex x age:F x old",
    )
    assert problem.groups == ("sex",) * 2 + ("sex x age",) * 4 + ("income",)


def test_three_lines_give_weights_in_the_order_of_the_table():
    frame = people()
    result = calibrate(
        from_margins(frame, {"sex": SEX, "region": {1: 300, 2: 300, 3: 300}}, "weight")
    )
    frame["calibrated"] = result.weights
    assert result.converged
    assert frame.groupby("sex").calibrated.sum().to_dict() == pytest.approx(SEX)
    assert frame.groupby("region").calibrated.sum().tolist() == pytest.approx([300] * 3)


def test_rake_is_the_same_in_one_call_and_labels_its_weights():
    frame = people().sample(frac=1, random_state=3)
    result = rake(frame, MARGINS, "weight", tolerance=1e-10)
    assert result.converged and result.settings.tolerance == 1e-10
    weights = result.labelled_weights
    assert isinstance(weights, pd.Series) and list(weights.index) == list(frame.index)
    straight = rake(people(), MARGINS, "weight").labelled_weights
    pd.testing.assert_series_equal(weights.sort_index(), straight.sort_index(), rtol=1e-9)
    bounded = rake(people(), {"sex": SEX}, "weight", method="logit", ratio_bounds=(0.2, 5.0))
    assert bounded.method == "logit" and bounded.converged


def test_without_a_frame_labels_are_numbers():
    result = rake({"sex": ["F", "M", "F"]}, {"sex": {"F": 2, "M": 1}})
    assert list(result.labelled_weights.index) == [0, 1, 2]
    assert result.warned("no_initial_weights")


@pytest.mark.parametrize(
    "margin",
    [
        pd.Series(SEX),
        pd.Series(SEX)[::-1],
        people().assign(weight=1).groupby("sex").weight.sum() * 10,
    ],
    ids=["series", "another order", "of a group by"],
)
def test_a_margin_may_be_a_labelled_series(margin):
    problem = from_margins(people(), {"sex": margin}, "weight")
    found = dict(zip(problem.target_names, problem.targets, strict=True))
    assert found == {f"sex:{k}": float(v) for k, v in margin.items()}


def test_a_cross_table_and_a_series_with_two_levels_are_crossed_margins():
    frame = people()
    table = pd.crosstab(frame.sex, frame.age) * 10.0
    stacked = frame.assign(n=10.0).groupby(["sex", "age"]).n.sum()
    for margin in (table, stacked):
        problem = from_margins(frame, {("sex", "age"): margin}, "weight")
        found = dict(zip(problem.target_names, problem.targets, strict=True))
        assert found["sex x age:F x young"] == table.loc["F", "young"] and len(found) == 4
        assert calibrate(problem).converged


def test_shares_are_multiplied_by_the_total():
    problem = from_margins(people(), {"sex": {"F": 0.55, "M": 0.45}}, "weight", total=900)
    assert problem.targets.tolist() == pytest.approx([495, 405])
    as_they_are = calibrate(from_margins(people(), {"sex": {"F": 0.55, "M": 0.45}}, "weight"))
    assert as_they_are.converged
    np.testing.assert_allclose(as_they_are.weights * 900, calibrate(problem).weights, rtol=1e-9)


def blank(value) -> dict:
    frame = people()
    sex = frame.sex.tolist()
    sex[3] = sex[7] = value
    return {"sex": sex, "region": frame.region.tolist(), "weight": frame.weight.tolist()}


@pytest.mark.parametrize("value", [None, float("nan"), "", "X"])
def test_records_without_a_total_are_counted_and_named(value):
    with pytest.raises(ProblemError) as raised:
        from_margins(blank(value), {"sex": SEX}, "weight")
    text = str(raised.value)
    named = "'X' (2)" if value == "X" else "blank (2)"
    assert "2 records have a 'sex' without a total" in text and named in text
    assert "margin 'sex'" in text and "unmatched='keep'" in text


@pytest.mark.parametrize("value", [None, "X"])
def test_kept_records_are_told_of_where_they_can_only_weigh_zero(value):
    region = dict.fromkeys((1, 2, 3), 300.0)
    problem = from_margins(blank(value), {"sex": SEX, "region": region}, "weight", unmatched="keep")
    result = calibrate(problem)
    (named,) = result.warned("records_emptied")
    assert "2 records" in named.message and "'sex'" in named.message
    assert result.converged and result.weights[[3, 7]].tolist() == [0.0, 0.0]
    assert diagnose(problem).feasible
    # A population that is larger leaves them the rest.
    roomy = from_margins(
        blank(value),
        {"sex": SEX, "region": dict.fromkeys((1, 2, 3), 310.0)},
        "weight",
        unmatched="keep",
    )
    assert calibrate(roomy).weights[[3, 7]].sum() == pytest.approx(30)


REFUSED = {
    "no such column": ({"sexe": SEX}, {}, ["no column 'sexe'", "Did you mean 'sex'?"]),
    "no such weights": ({"sex": SEX}, {"weights": "wt"}, ["no column 'wt'"]),
    "other type": ({"region": {"1": 300, "2": 300, "3": 300}}, {}, ["int", "str", "use one type"]),
    "an unknown category": (
        {"sex": {"Female": 500, "M": 400}},
        {},
        ["no record has 'Female'", "'F'"],
    ),
    "a total that is no number": ({"sex": {"F": "many", "M": 1}}, {}, ["'F'", "'many'"]),
    "a missing total": ({"sex": {"F": float("nan"), "M": 1}}, {}, ["'F'", "nan"]),
    "no categories": ({"sex": {}}, {}, ["no category"]),
    "a list": ({"sex": [1, 2]}, {}, ["is a list", "For example"]),
    "words for a total": ({"sex": 900.0}, {}, ["'sex' is not numeric", "a total for each"]),
    "one category for two columns": ({("sex", "age"): SEX}, {}, ["'F'", "tuple of 2"]),
    "shares that do not add up": (
        {"sex": {"F": 0.5, "M": 0.6}},
        {"total": 10.0},
        ["add up to 1.1", "'sex'"],
    ),
    "no total to share": ({"sex": {"F": 0.5, "M": 0.5}}, {"total": -1.0}, ["total is -1"]),
    "no margins": ({}, {}, ["at least one margin"]),
    "an unknown way": ({"sex": SEX}, {"unmatched": "drop"}, ["'refuse' or 'keep'"]),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_words(case):
    margins, options, words = REFUSED[case]
    with pytest.raises(ProblemError) as raised:
        from_margins(people(), margins, **{"weights": "weight", **options})
    assert [w for w in words if w not in str(raised.value)] == [], str(raised.value)


def test_blanks_of_a_numeric_column_are_refused():
    frame = people()
    frame.loc["p05", "income"] = np.nan
    with pytest.raises(ProblemError, match="1 of 90 values of column 'income' are blank"):
        from_margins(frame, {"income": 1e4}, "weight")


def test_columns_of_other_lengths_are_refused():
    with pytest.raises(ProblemError, match=r"Column 'age' has shape \(2,\)"):
        from_margins(
            {"sex": ["F"] * 3, "age": ["a", "b"]}, {"sex": {"F": 3}, "age": {"a": 1, "b": 2}}
        )


def test_fields_of_the_problem_pass_through():
    problem = from_margins(
        people(), {"sex": SEX}, "weight", ratio_bounds=(0.1, 9.0), cells=people().age
    )
    assert problem.bounded and problem.cells.tolist() == people().age.tolist()


def test_weights_may_be_given_as_numbers_or_a_series():
    frame = people()
    shuffled = frame.weight.sample(frac=1, random_state=1)
    for weights in (frame.weight.to_numpy(), frame.weight, shuffled):
        problem = from_margins(frame, {"sex": SEX}, weights)
        np.testing.assert_array_equal(problem.initial_weights, frame.weight)


def test_a_large_table_is_read_in_a_moment():
    """Codes are looked up once per record and margin, without a square of anything."""
    rng = np.random.default_rng(0)
    n = 200_000
    table = {f"m{k}": rng.integers(0, 50, n) for k in range(4)}
    margins = {
        name: {c: float(t) for c, t in enumerate(np.bincount(v))} for name, v in table.items()
    }
    problem = from_margins(table, margins)
    assert problem.size == (200, n) and problem.matrix.stored.nnz == 4 * n
