"""The advice follows the paper's table, quotes the problem's own figures, and what it says applies
does run.
"""

import numpy as np
import pytest
from scipy import sparse

from benchmarks.messages import inflated_margin
from benchmarks.problems import margins_and_amounts
from calibration_core import METHODS, CalibrationProblem, advise, calibrate
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.problem_figures import figures_of

SPARSE = ("hybrid", "cross_category", "hard_concrete", "reweighted_l1", "random_subset")


def mixed(**fields):
    return margins_and_amounts(600, margins=4, levels=5, amounts=3).change(**fields)


def categorical(margins=4, **fields):
    return margins_and_amounts(600, margins=margins, levels=3, amounts=0).change(**fields)


def hierarchy(counties=12):
    """Persons and income of counties, states and the nation: three levels, states and nation being
    sums.
    """
    rng = np.random.default_rng(0)
    n = 600
    county = np.r_[np.arange(counties), rng.integers(0, counties, n - counties)]
    income = np.round(rng.gamma(2.0, 1e4, n))
    rows, groups = [], []
    for variable, values in (("persons", np.ones(n)), ("income", income)):
        for level, code in (("county", county), ("state", county // 4), ("nation", county * 0)):
            rows.append(np.eye(code.max() + 1)[:, code] * values)
            groups += [f"{variable} {level}"] * (code.max() + 1)
    a, d = np.vstack(rows), rng.gamma(4.0, 10.0, n)
    return CalibrationProblem(a, 1.02 * (a @ d), d, groups=groups)


def test_figures_of_margins_and_amounts():
    f = figures_of(mixed())
    assert (f.targets, f.records, f.margins, f.amounts, f.totals, f.loose_counts) == (
        23,
        600,
        (5, 5, 5, 5),
        3,
        0,
        0,
    )
    assert f.rank == 20 and f.depth == 1 and not f.conflicts and not f.categorical_only
    assert f.weights_given and f.weights_vary and f.weight_variation == pytest.approx(0.5, abs=0.1)
    assert f.negative_entries and f.ratio_range is None and f.records_asked is None
    matrix = mixed().matrix.target_major().toarray()
    assert f.density == pytest.approx((matrix != 0).mean())


def test_figures_of_the_linear_method_are_those_it_has():
    for seed in range(3):
        p = margins_and_amounts(300, margins=3, amounts=3, seed=seed)
        for problem in (p, p.change(q=np.random.default_rng(seed).uniform(0.5, 2, 300))):
            ratios, f = calibrate(problem, "linear").ratios, figures_of(problem)
            assert f.linear_ratios == pytest.approx((ratios.min(), ratios.max()), rel=1e-6)
            assert f.linear_negative == (ratios < 0).sum()


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_array])
def test_margins_are_found_without_names_and_in_any_form(form):
    p = categorical()
    bare = CalibrationProblem(form(p.matrix.target_major().toarray()), p.targets, p.start)
    assert figures_of(bare).margins == (3, 3, 3, 3)


def test_rows_of_a_margin_need_not_stand_together_if_their_group_says_so():
    p = categorical()
    assert figures_of(p.take_targets(np.random.default_rng(3).permutation(12))).margins == (
        3,
        3,
        3,
        3,
    )


def test_an_incomplete_margin_is_no_margin():
    f = figures_of(categorical().take_targets(np.arange(1, 12)))
    assert f.margins == (3, 3, 3) and f.loose_counts == 2 and f.categorical_only


def test_nested_rows_and_their_depth_are_found():
    f = figures_of(hierarchy())
    assert f.margins == (12, 3) and f.totals == 1 and f.depth == 3
    assert f.nested_rows == 2 * (3 + 1)
    assert figures_of(hierarchy().take_targets(np.arange(12))).depth == 1


TABLE = [
    ("few margins", categorical(), {}, {"ipf", "linear"}),
    ("design weights worth keeping, amounts", mixed(), {}, {"linear", "raking", "entropy"}),
    (
        "the same within bounds",
        mixed(ratio_bounds=(0.3, 3.0)),
        {},
        {"truncated_linear", "logit", "raking_bounded"},
    ),
    ("conflict", inflated_margin(), {}, {"gradient"}),
    ("exactly k, categories", categorical(), {"records": 120}, {"cross_category"}),
    ("exactly k, amounts", mixed(), {"records": 120}, {"hybrid"}),
    ("exactly k, conflict", inflated_margin(), {"records": 60}, {"hybrid"}),
    ("many margins", categorical(margins=14), {}, {"raking", "linear"}),
]


@pytest.mark.parametrize(
    ("problem", "asked", "best"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_papers_table(problem, asked, best):
    assert advise(problem, **asked).best.method in best


def test_thousands_of_targets_go_to_gradient():
    rng = np.random.default_rng(1)
    a = sparse.random_array(
        (1500, 4000), density=0.004, rng=rng, format="csr", data_sampler=lambda size: np.ones(size)
    )
    d = np.full(4000, 10.0)
    advice = advise(CalibrationProblem(a, np.maximum(a @ d * 1.1, 1.0), d))
    assert advice.best.method == "gradient" and any(
        "1,500 targets" in r for r in advice.best.reasons
    )


def test_every_method_is_ranked_once_best_first_and_those_that_do_not_apply_last():
    for problem, asked in ((mixed(), {}), (mixed(), {"records": 100}), (inflated_margin(), {})):
        ranked = advise(problem, **asked).ranked
        assert sorted(r.method for r in ranked) == sorted(METHODS)
        assert [r.score for r in ranked] == sorted((r.score for r in ranked), reverse=True)
        assert all(r.reasons and all(r.reasons) for r in ranked)
        assert all(bool(r.call) == r.applies for r in ranked)


def test_reasons_quote_the_figures():
    assert "4 margins of 5 levels and 3 amounts" in advise(mixed()).of("ipf").reasons[0]
    assert "120 are asked for" in advise(mixed(), records=120).of("raking").reasons[0]
    assert "0.3 to 3" in advise(mixed(ratio_bounds=(0.3, 3.0))).of("raking").reasons[0]
    assert "5 %" in " ".join(advise(inflated_margin()).best.reasons)
    assert any(
        "k = 15 is below the 20 independent targets" in r
        for r in advise(mixed(), records=15).of("hybrid").reasons
    )


def test_weights_that_turn_negative_cost_linear_its_place():
    rng = np.random.default_rng(2)
    x = rng.random(80)
    far = CalibrationProblem(
        np.vstack([np.ones(80), x]), [80.0, 80 * 0.85], rng.uniform(0.9, 1.1, 80)
    )
    near = far.change(targets=[80.0, 80 * x.mean() * 1.02])
    negative = int((calibrate(far, "linear").weights < 0).sum())
    assert negative > 0 and any(
        f"{negative} of 80 weights would be negative" in r for r in advise(far).of("linear").reasons
    )
    assert advise(far).best.method == "raking" and advise(near).best.method == "linear"


def test_whether_weights_are_worth_keeping_can_be_said():
    assert (
        advise(mixed(), preserve_weights=True).of("linear").score
        > advise(mixed(), preserve_weights=False).of("linear").score
    )
    assert not any("stays" in r for r in advise(mixed(initial_weights=None)).of("raking").reasons)


@pytest.mark.parametrize(
    ("problem", "asked"),
    [
        (categorical(), {}),
        (mixed(), {}),
        (mixed(ratio_bounds=(0.3, 3.0)), {}),
        (inflated_margin(), {}),
        (mixed(initial_weights=None), {}),
    ],
    ids=["margins", "amounts", "bounds", "conflict", "no weights"],
)
def test_what_is_said_to_apply_runs_as_pasted_and_what_is_not_is_refused(problem, asked):
    for r in advise(problem, **asked).ranked:
        if r.applies:
            result = eval(r.call, {"calibrate": calibrate, "problem": problem})
            assert np.isfinite(result.weights).all() and result.method == r.method
        elif r.method not in SPARSE:
            with pytest.raises((ProblemError, SettingsError)):
                calibrate(problem, r.method)


def test_the_first_choice_of_a_problem_that_can_be_met_meets_it():
    for problem in (
        categorical(),
        mixed(),
        mixed(ratio_bounds=(0.3, 3.0)),
        mixed(initial_weights=None),
        hierarchy(),
    ):
        assert eval(
            advise(problem).best.call, {"calibrate": calibrate, "problem": problem}
        ).converged


def test_the_summary_has_the_figures_the_ranking_and_the_call():
    advice = advise(mixed(), records=100)
    text = advice.summary()
    for words in (
        "23 targets (20 independent) x 600 records",
        "4 margins of 5 levels, 3 amounts",
        "100 records to keep",
        "1. hybrid",
        "Do not apply:",
        advice.best.call,
    ):
        assert words in text
    assert str(advice) == text


@pytest.mark.parametrize("records", [0, -1, 601, 2.5, "10", True])
def test_a_number_of_records_that_cannot_be_is_refused(records):
    with pytest.raises(SettingsError, match="whole number from 1 to 600"):
        advise(mixed(), records=records)


def test_what_is_no_problem_is_refused():
    with pytest.raises(ProblemError, match="advise was given a ndarray"):
        advise(np.ones((2, 2)))
    with pytest.raises(ProblemError, match="no initial weights"):
        advise(mixed(initial_weights=None), preserve_weights=True)


def test_the_order_of_records_does_not_matter():
    p = mixed()
    order = np.random.default_rng(5).permutation(600)
    assert [r.method for r in advise(p.take_records(order)).ranked] == [
        r.method for r in advise(p).ranked
    ]
    assert figures_of(hierarchy().take_records(order)).nested_rows == 8
