"""Held-out validation without a run: names of groups, measures against answers worked out by hand,
paired statistics.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from calibration_core.common.columns import Columns
from calibration_core.errors import GeocalError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.select.pairs import allocate_pairs
from calibration_core.tree.select.pool import Pool
from pipeline.errors import ProfileError
from pipeline.specs.catalog import load_catalog
from pipeline.targets.grid import TargetGrid
from pipeline.validation.families import hold_out_groups, load_holdout, profile_families
from pipeline.validation.measures import capped_loss, error_rows, target_set
from pipeline.validation.paired import paired_differences, t_interval
from pipeline.validation.runs import Run, ValidationSettings
from pipeline.weights.problem import StateProblem

CATALOG = load_catalog()
SAMPLE = CATALOG.profile("sample")

# One state, two counties, three records; variables persons and dollars at both levels. Record
# priors 10, 20, 5 in two groups, whose shares of the counties are (0.5, 0.5) and (0.25, 0.75).
TREE = GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["44001", "44003"]])
KEYS = (("persons", "total"), ("usd_wages", "total"))
DESIGN = np.array([[1.0, 100_000.0], [3.0, 0.0], [2.0, 5_000.0]])
VALUES = [[70.0, 2e6], [2.0, 1e6], [0.4, 500.0]]


def toy() -> tuple[StateProblem, pl.DataFrame, PoolProblem]:
    frame = pl.DataFrame(
        {
            "level": ["state"] * 2 + ["county"] * 4,
            "geoid": ["44", "44", "44001", "44001", "44003", "44003"],
            "variable": [key[0] for key in KEYS] * 3,
            "domain": ["total"] * 6,
            "family": ["population", "wages"] * 3,
            "unit": ["persons", "usd"] * 3,
            "value": [v for row in VALUES for v in row],
            "margin_standard_error": [10.0, None, 0.0, 1e5, 1.0, None],
        }
    )
    rows = (np.array([[0, 1]]), np.array([[2, 3], [4, 5]]))
    values = [np.array(VALUES[:1]), np.array(VALUES[1:])]
    targets = make_targets(TREE, [DESIGN, DESIGN], values, [np.ones_like(v) for v in values])
    pool = PoolProblem(
        TREE,
        targets,
        np.array([10.0, 20.0, 5.0]),
        np.array([0, 0, 1]),
        np.array([[0.5, 0.25], [0.5, 0.75]]),
    )
    known = Columns.of(list(DESIGN.T), len(DESIGN))
    return StateProblem(TargetGrid(TREE, (KEYS, KEYS), rows), targets, known), frame, pool


def test_every_group_names_families_that_exist_and_says_why():
    held = load_holdout(CATALOG)
    assert {"education", "income", "race", "ssa", "irs"} <= {group.id for group in held.groups}
    assert all(group.why and group.title for group in held.groups)
    for families in (("education", "education_detail"), ("race", "origin")):
        assert any(set(group.families) == set(families) for group in held.groups)


def test_a_group_id_means_the_group_and_a_family_id_that_family_alone():
    irs, fertility = hold_out_groups(["irs", " fertility ", "irs"], CATALOG, SAMPLE)
    assert set(irs.families) >= {"returns", "individuals", "return_amounts"}
    assert fertility.families == ("fertility",)
    for family in profile_families(CATALOG, SAMPLE):
        if family != "population":
            assert hold_out_groups([family], CATALOG, SAMPLE)[0].families


@pytest.mark.parametrize(
    ("names", "profile", "said"),
    [
        pytest.param(
            ["schooling"], "sample", "There is no target family 'schooling'", id="unknown"
        ),
        pytest.param([], "sample", "No family is named", id="none"),
        pytest.param([" "], "sample", "No family is named", id="blank"),
        pytest.param(
            ["population"],
            "sample",
            "cannot be withheld: prior weights are scaled to it",
            id="population",
        ),
        pytest.param(
            ["benefits", "fertility"],
            "counties_2018",
            "has no target of fertility",
            id="not in the profile",
        ),
    ],
)
def test_a_name_that_cannot_be_held_out_is_answered_with_those_that_can(names, profile, said):
    with pytest.raises(ProfileError) as error:
        hold_out_groups(names, CATALOG, CATALOG.profile(profile))
    assert said in str(error.value)
    assert "education" in str(error.value)
    assert "household_type" in str(error.value)


def test_fitted_totals_and_figures_are_those_worked_out_by_hand():
    problem, frame, pool = toy()
    targets = target_set(problem, frame, [np.ones((1, 2), bool), np.ones((2, 2), bool)], pool)
    leaf, record, weight = np.array([0, 0, 1]), np.array([0, 2, 1]), np.array([2.0, 4.0, 6.0])
    fitted = targets.fitted(leaf, record, weight)
    # County 44001: 2 of record 0 and 4 of record 2; county 44003: 6 of record 1; the state is their
    # sum.
    assert fitted.tolist() == [28.0, 220_000.0, 10.0, 220_000.0, 18.0, 0.0]
    # Priors in the counties: 5, 10, 1.25 and 5, 10, 3.75; the largest contribution of one record to
    # persons is 30 in both, 60 in the state.
    assert targets.frame["contribution"].to_list() == [60.0, 1e6, 30.0, 5e5, 30.0, 5e5]
    # Two persons are fewer than one record stands for; 0.4 persons and 500 dollars are next to zero
    # and have no relative error.
    assert targets.frame["degenerate"].to_list() == [False, False, True, False, False, False]
    assert targets.frame["zero"].to_list() == [False, False, False, False, True, True]
    state, county, everything = error_rows(targets, fitted)
    assert state["mean_are"] == pytest.approx((42 / 70 + 0.89) / 2)
    # The margin of 70 persons is 16.45: 42 off is outside; dollars have none.
    assert (state["with_published_margin"], state["share_inside_margin"]) == (1, 0.0)
    assert (county["targets"], county["zero_targets"], county["degenerate_targets"]) == (4, 2, 1)
    assert county["mean_are"] == pytest.approx((4.0 + 0.78) / 2)
    assert county["mean_are_without_degenerate"] == pytest.approx(0.78)
    # A published margin of zero says nothing; the others: 164,500 dollars (780,000 off) and 1.645
    # persons (17.6 off).
    assert (county["with_published_margin"], county["share_inside_margin"]) == (2, 0.0)
    assert everything["targets"] == 6
    assert everything["worst_are"] == pytest.approx(4.0)


@given(st.integers(0, 2**32 - 1))
def test_fitted_totals_are_sums_over_the_pairs_below_each_area(seed):
    rng = np.random.default_rng(seed)
    problem, frame, pool = toy()
    targets = target_set(problem, frame, [np.ones((1, 2), bool), np.ones((2, 2), bool)], pool)
    leaf, record, weight = rng.integers(0, 2, 6), rng.integers(0, 3, 6), rng.gamma(1.0, 5.0, 6)
    for row, fitted in zip(
        targets.frame.iter_rows(named=True), targets.fitted(leaf, record, weight), strict=True
    ):
        column = 0 if row["variable"] == "persons" else 1
        inside = [i for i in range(6) if TREE.leaves[leaf[i]].startswith(row["geoid"])]
        assert fitted == pytest.approx(sum(weight[i] * DESIGN[record[i], column] for i in inside))


def test_figures_by_family_split_those_of_the_level():
    problem, frame, pool = toy()
    targets = target_set(problem, frame, [np.ones((1, 2), bool), np.ones((2, 2), bool)], pool)
    rows = error_rows(targets, np.full(6, 50.0), by_family=True)
    for level in ("state", "county", "all"):
        of = {row["family"]: row["targets"] for row in rows if row["level"] == level}
        assert of[None] == of["population"] + of["wages"]


def test_only_the_marked_targets_are_measured():
    problem, frame, pool = toy()
    use = [np.array([[False, True]]), np.array([[False, False], [True, False]])]
    targets = target_set(problem, frame, use, pool)
    assert targets.frame.select("geoid", "variable").rows() == [
        ("44", "usd_wages"),
        ("44003", "persons"),
    ]
    assert targets.fitted(np.array([1]), np.array([2]), np.array([2.0])).tolist() == [10_000.0, 4.0]


def test_truth_is_scored_where_it_is_known():
    problem, frame, pool = toy()
    truth = frame.filter(pl.col("variable") == "persons").select(
        "level", "geoid", "variable", "domain", truth=pl.Series([20.0, 10.0, 9.0])
    )
    targets = target_set(
        problem, frame, [np.ones((1, 2), bool), np.ones((2, 2), bool)], pool, truth
    )
    state = error_rows(targets, np.array([25.0, 1.0, 1.0, 1.0, 1.0, 1.0]))[0]
    assert (state["with_truth"], state["mean_are_truth"]) == (1, pytest.approx(0.25))
    without = error_rows(
        target_set(problem, frame, [np.ones((1, 2), bool), np.zeros((2, 2), bool)], pool),
        np.ones(2),
    )[0]
    assert "mean_are_truth" not in without


def test_the_capped_loss_weighs_both_bases_alike_and_caps_each_error():
    # Counts 100 (off by 10 %) and 4 (off fourfold, capped at one): weights 10 and 2. Amounts: one,
    # off by 50 %.
    value, fitted, amount = (
        np.array([100.0, 4.0, 1e6]),
        np.array([90.0, 20.0, 5e5]),
        np.array([False, False, True]),
    )
    counts = (10 * 0.1 + 2 * 1.0) / 12
    assert capped_loss(value, fitted, amount) == pytest.approx((counts + 0.5) / 2)
    assert capped_loss(value[:2], fitted[:2], amount[:2]) == pytest.approx(counts)
    assert capped_loss(value, value, amount) == 0.0
    assert capped_loss(value[:0], value[:0], amount[:0]) is None


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=20), st.floats(0.0, 10.0))
def test_the_capped_loss_lies_between_nought_and_one(values, factor):
    value = np.array(values)
    loss = capped_loss(value, factor * value, np.arange(value.size) % 2 == 0)
    assert 0.0 <= loss <= 1.0 + 1e-12


def a_run(
    postal: str,
    group: str,
    method: str,
    pairs: int | None,
    seed: int | None,
    mean: float,
    failure: str = "",
) -> Run:
    row = {"level": "all", "family": None, "targets": 10, "mean_are": mean, "median_are": mean / 2}
    rows = () if failure else (row,)
    return Run(postal, group, method, pairs, seed, 1, 0.0, 0.0, True, "", (), {}, (), rows, failure)


def one(rows: list[dict], **wanted) -> dict:
    found = [row for row in rows if all(row[key] == value for key, value in wanted.items())]
    assert len(found) == 1, found
    return found[0]


def test_a_paired_difference_over_cells_is_the_t_interval_of_cell_means():
    errors = {
        ("RI", "race"): ([0.30, 0.34], [0.20, 0.22]),
        ("RI", "irs"): ([0.10, 0.12], [0.11, 0.09]),
        ("DE", "race"): ([0.5, 0.6], [0.4, 0.4]),
    }
    runs = [
        a_run(*cell, method, 60, seed, value)
        for cell, both in errors.items()
        for method, values in zip(("random", "hybrid"), both, strict=True)
        for seed, value in enumerate(values)
    ]
    row = one(
        paired_differences(runs, "hybrid"),
        scope="all",
        pairs_per_area=60,
        figure="mean_are",
        sample="outside",
    )
    cells = np.array([0.11, 0.01, 0.15])
    reference = stats.ttest_1samp(cells, 0.0).confidence_interval(0.95)
    assert (row["unit"], row["units"], row["reference_lower"], row["unpaired"]) == (
        "cells",
        3,
        3,
        0,
    )
    assert (row["difference"], row["low"], row["high"]) == pytest.approx(
        (cells.mean(), reference.low, reference.high)
    )
    ratio = np.exp(np.mean([np.log(0.32 / 0.21), np.log(0.11 / 0.10), np.log(0.55 / 0.4)]))
    assert row["ratio"] == pytest.approx(ratio)
    assert row["ratio_low"] < ratio < row["ratio_high"]


def test_one_cell_is_judged_over_its_seeds():
    runs = [
        a_run("RI", "race", m, 60, seed, v)
        for m, vs in (("random", (0.3, 0.4, 0.2)), ("hybrid", (0.1, 0.1, 0.1)))
        for seed, v in enumerate(vs)
    ]
    rows = paired_differences(runs, "hybrid")
    for scope in ("all", "cell"):
        row = one(rows, scope=scope, pairs_per_area=60, figure="mean_are")
        assert (row["unit"], row["units"], row["state"]) == ("seeds", 3, "RI")
        assert row["difference"] == pytest.approx(0.2)
        assert (row["low"], row["high"]) == pytest.approx(t_interval(np.array([0.2, 0.3, 0.1])))


def test_dense_stands_beside_every_draw():
    runs = [a_run("RI", "race", "dense", None, None, 0.05)]
    runs += [
        a_run("RI", "race", "hybrid", pairs, seed, 0.1 * (seed + 1))
        for pairs in (20, 60)
        for seed in range(2)
    ]
    row = one(
        paired_differences(runs, "hybrid"),
        scope="all",
        pairs_per_area=20,
        figure="mean_are",
        method="dense",
    )
    assert row["units"] == 2
    assert row["difference"] == pytest.approx(-0.1)
    assert row["reference_lower"] == 0


def test_a_failed_run_is_counted_and_its_partner_is_not_compared_with_nothing():
    runs = [a_run("RI", "race", "hybrid", 60, seed, 0.1) for seed in range(3)]
    runs += [
        a_run("RI", "race", "random", 60, 0, 0.2),
        a_run("RI", "race", "random", 60, 1, 0.2),
        a_run("RI", "race", "random", 60, 2, 0.0, failure="no"),
    ]
    row = one(paired_differences(runs, "hybrid"), scope="all", pairs_per_area=60, figure="mean_are")
    assert (row["units"], row["unpaired"]) == (2, 1)


def test_without_the_reference_there_is_nothing_to_compare_and_one_draw_has_no_interval():
    assert paired_differences([a_run("RI", "race", "random", 60, 0, 0.2)], "hybrid") == []
    single = [a_run("RI", "race", "random", 60, 0, 0.2), a_run("RI", "race", "hybrid", 60, 0, 0.1)]
    row = one(
        paired_differences(single, "hybrid"), scope="all", pairs_per_area=60, figure="mean_are"
    )
    assert (row["difference"], row["low"], row["high"], row["ratio"]) == (
        pytest.approx(0.1),
        None,
        None,
        pytest.approx(2.0),
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param({"methods": ()}, "--methods", id="no method"),
        pytest.param(
            {"methods": ("random", "lasso")},
            "There is no sparse method 'lasso'",
            id="unknown method",
        ),
        pytest.param({"methods": ("random", "random")}, "each once", id="a method twice"),
        pytest.param({"pairs_per_area": ()}, "--pairs-per-area", id="no budget"),
        pytest.param({"pairs_per_area": (20, 0)}, "at least 1", id="a budget of nothing"),
        pytest.param({"pairs_per_area": (20, 20)}, "each once", id="a budget twice"),
        pytest.param({"seeds": 0}, "--seeds", id="no seed"),
    ],
)
def test_settings_that_cannot_be_run_name_the_option(change, said):
    with pytest.raises(GeocalError) as error:
        ValidationSettings(**{"methods": ("random",), **change})
    assert said in str(error.value)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40))
def test_pairs_per_area_add_up_and_leave_no_peopled_area_without_one(seed, budget):
    """Every method of a validation gets the counts that a run of the profile would give."""
    rng = np.random.default_rng(seed)
    dense = rng.gamma(0.3, 20.0, (7, 40)) * (rng.random((7, 40)) < 0.9)
    dense[3] = 0.0
    usable = (dense > 0).sum(axis=1)
    k = min(7 * budget, int(usable.sum()))
    pool = Pool.of_one_level(dense, np.zeros(40, dtype=np.int64), np.zeros(40))
    settings = SAMPLE.method.selection.settings(
        pairs=k, seed=0, floor=SAMPLE.budget.minimum_pairs, threads=1
    )
    counts = allocate_pairs(pool, settings).pairs_per_area
    assert counts.sum() == k
    assert counts[3] == 0
    assert (np.delete(counts, 3) >= 1).all()
    assert (counts <= usable).all()
