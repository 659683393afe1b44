"""Sparse methods over pairs: what all of them promise (k in every leaf, totals, seeds), and what
each is for.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.common.digits import to_choose_by
from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.rivals import (
    PAIR_METHODS,
    PairOutcome,
    PairTask,
    cross_category,
    hard_concrete,
    reweighted_l1,
    run_pair_method,
)
from calibration_core.tree.rivals.task import check_outcome
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree
from tests.calibration_core.tree.pair_task import REFINE, loss_of, make_task

# As registered, but for the number of gradient steps.
METHODS = {
    **PAIR_METHODS,
    "hard_concrete": partial(hard_concrete.run, settings=hard_concrete.Settings(epochs=40)),
}


RANDOM = {"random", "proportional", "cross_category", "hard_concrete"}


every_method = pytest.mark.parametrize("name", sorted(METHODS))


@every_method
@given(
    seed=st.integers(0, 10**6),
    depth=st.integers(1, 3),
    fill=st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
)
@settings(max_examples=15, deadline=None)
def test_every_method_keeps_exactly_the_pairs_asked_for(name, seed, depth, fill):
    task = make_task(seed, depth, fill=fill)
    outcome = METHODS[name](task)
    check_outcome(task, outcome)
    assert outcome.method == name
    assert np.array_equal(
        np.bincount(outcome.leaf, minlength=task.pairs_per_area.size), task.pairs_per_area
    )
    key = outcome.leaf * task.pool.records + outcome.record
    assert (np.diff(key) > 0).all()
    assert (task.pool.dense[outcome.leaf, outcome.record] > 0).all()
    for weights in (outcome.starting, outcome.weights):
        assert np.isfinite(weights).all() and (weights > 0).all()
    start = np.bincount(outcome.leaf, weights=outcome.starting, minlength=task.pairs_per_area.size)
    assert np.allclose(start, task.pool.dense.sum(axis=1), rtol=1e-9)
    if fill == 1.0:
        assert outcome.record.size == (task.pool.dense > 0).sum()


@every_method
def test_the_seed_decides_and_nothing_else(name):
    task = make_task(5, depth=3, records=40, fill=0.2)
    first, second = METHODS[name](task), METHODS[name](task)
    for a in ("leaf", "record", "starting", "weights"):
        assert getattr(first, a).tobytes() == getattr(second, a).tobytes()
    other = METHODS[name](replace(task, seed=6))
    if name in RANDOM:
        assert not np.array_equal(first.record, other.record)
    elif name == "reweighted_l1":
        assert np.array_equal(first.record, other.record)


@every_method
def test_the_choice_does_not_hang_on_the_number_of_threads(name):
    task, before = make_task(9, depth=3, records=40, fill=0.2), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        first = METHODS[name](task)
        torch.set_num_threads(3)
        second = METHODS[name](task)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    assert (
        first.record.tobytes() == second.record.tobytes()
        and first.starting.tobytes() == second.starting.tobytes()
    )


@pytest.mark.parametrize("name", ["random", "proportional", "cross_category"])
def test_a_leaf_draws_the_same_whatever_the_others_ask_for(name):
    task = make_task(8, depth=1, records=30, fill=0.2)
    more = task.pairs_per_area.copy()
    more[1:] += 1
    first, second = METHODS[name](task), METHODS[name](replace(task, pairs_per_area=more))
    assert np.array_equal(first.record[first.leaf == 0], second.record[second.leaf == 0])


def planted(seed: int = 3, records: int = 80, variables: int = 10, support: int = 12) -> PairTask:
    """Targets that ``support`` records a leaf meet exactly, and a dense solution that knows nothing
    of these.
    """
    rng = np.random.default_rng(seed)
    tree = GeographyTree.from_leaves(("state", "county"), [["s"] * 4, list("abcd")])
    design = np.column_stack([np.ones(records), rng.poisson(1.0, (records, variables - 1))])
    truth = np.zeros((4, records))
    for row in truth:
        row[rng.choice(records, support, replace=False)] = rng.gamma(4.0, 25.0, support)
    values = [truth.sum(axis=0, keepdims=True) @ design, truth @ design]
    scales = [0.003 * v + 1.0 for v in values]
    targets = make_targets(tree, [design, design], values, scales)
    problem = PoolProblem(
        tree, targets, np.ones(records), np.zeros(records, dtype=np.int64), np.full((4, 1), 15.0)
    )
    dense = calibrate_tree(problem, TreeNewtonSettings(tau_path=(1.0, 0.01))).weights
    cell, order = np.zeros(records, dtype=np.int64), rng.normal(size=records)
    pool = Pool(tree, targets, dense, cell, order, design)
    refine = replace(REFINE, tau_path=(1.0, 0.1, 0.01))
    return PairTask(pool, np.full(4, support, dtype=np.int64), 1, refine)


@pytest.mark.parametrize(
    "run",
    [partial(hard_concrete.run, settings=hard_concrete.Settings(epochs=1000)), reweighted_l1.run],
    ids=["gates", "l1"],
)
def test_learned_pairs_fit_far_better_than_random_ones(run):
    task = planted()
    random = min(loss_of(task, run_pair_method("random", replace(task, seed=s))) for s in range(8))
    assert loss_of(task, run(task)) < 0.3 * random


def margins_task(pairs: int) -> PairTask:
    """Two crossed categories and a count of persons; cells are the crossing, and the dense weights
    meet every target.
    """
    rng = np.random.default_rng(11)
    records = 120
    a, b = rng.integers(0, 2, records), rng.integers(0, 3, records)
    persons = rng.integers(1, 5, records)
    amounts = rng.lognormal(10.0, 1.0, records)
    design = np.column_stack([a == 0, a == 1, b == 0, b == 1, b == 2, persons, amounts]).astype(
        float
    )
    tree = GeographyTree.from_leaves(("tract",), [["x", "y", "z"]])
    dense = to_choose_by(rng.gamma(2.0, 5.0, (3, records)))
    value = dense @ design
    targets = make_targets(tree, [design], [value], [0.01 * value])
    pool = Pool(tree, targets, dense, (a * 3 + b).astype(np.int64), amounts, design)
    return PairTask(pool, np.full(3, pairs, dtype=np.int64), 4, REFINE)


def test_cross_category_meets_margins_and_counts_where_it_can():
    task = margins_task(24)
    outcome = run_pair_method("cross_category", task)
    design, value = task.pool.targets.designs[0], task.pool.targets.values[0]
    fit = np.zeros(value.shape)
    np.add.at(fit, outcome.leaf, outcome.weights[:, None] * design[outcome.record])
    assert outcome.converged
    assert np.allclose(fit[:, :6], value[:, :6], rtol=1e-5)
    # The amounts are not its business: twenty records at random do not hit them.
    assert np.abs(fit[:, 6] / value[:, 6] - 1).max() > 1e-3
    assert not np.allclose(outcome.starting, outcome.weights)


def test_cross_category_says_what_it_could_not_do():
    task = margins_task(4)
    outcome = run_pair_method("cross_category", task)
    assert not outcome.converged
    assert any(
        "paper's rule would have drawn 18 pairs for a k of 12" in str(w) for w in outcome.warnings
    )
    totals = np.bincount(outcome.leaf, weights=outcome.weights)
    assert np.allclose(totals, task.pool.dense.sum(axis=1), rtol=1e-5)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(SettingsError, match=r"'gradient'.*cross_category, hard_concrete.*random"):
        run_pair_method("gradient", make_task(0))


def test_a_task_asks_for_pairs_that_exist():
    task = make_task(0)
    usable = (task.pool.dense > 0).sum(axis=1)
    with pytest.raises(BudgetError, match="leaf0"):
        replace(task, pairs_per_area=np.where(np.arange(5) == 0, usable + 1, usable))
    with pytest.raises(BudgetError, match="leaf4"):
        replace(task, pairs_per_area=np.where(np.arange(5) == 4, 0, usable))
    with pytest.raises(ProblemError, match="pairs_per_area is float64"):
        replace(task, pairs_per_area=usable.astype(float))


def test_a_method_that_breaks_its_promise_is_caught(monkeypatch):
    task = make_task(2)
    good = run_pair_method("random", task)
    fewer = replace(
        good, **{a: getattr(good, a)[1:] for a in ("leaf", "record", "starting", "weights")}
    )
    monkeypatch.setitem(PAIR_METHODS, "random", lambda _: fewer)
    with pytest.raises(ProblemError, match="another number of pairs"):
        run_pair_method("random", task)
    barred = int(np.flatnonzero(task.pool.dense[0] <= 0)[0])
    monkeypatch.setitem(
        PAIR_METHODS,
        "random",
        lambda _: replace(
            good, record=np.where(np.arange(good.leaf.size) == 0, barred, good.record)
        ),
    )
    with pytest.raises(ProblemError):
        run_pair_method(
            "random",
            replace(task, pairs_per_area=np.where(np.arange(5) == 0, 1, task.pairs_per_area)),
        )


def test_an_outcome_is_sorted_distinct_and_positive():
    one = np.ones(2)
    for leaf, record, weights in [
        ([0, 0], [1, 1], one),
        ([0, 0], [2, 1], one),
        ([1, 0], [0, 1], one),
        ([0, 0], [0, 1], np.array([1.0, 0.0])),
    ]:
        with pytest.raises(ProblemError):
            PairOutcome("x", np.array(leaf), np.array(record), one, weights, 0.0, 0.0, True, "")


@pytest.mark.parametrize(
    "make",
    [
        lambda: hard_concrete.Settings(epochs=0),
        lambda: hard_concrete.Settings(first_share=0.0),
        lambda: hard_concrete.Settings(delta=0.0),
        lambda: reweighted_l1.Settings(margin=1.5),
        lambda: reweighted_l1.Settings(tau=0.0),
        lambda: cross_category.Settings(sweeps=0),
    ],
)
def test_settings_out_of_range(make):
    with pytest.raises(SettingsError):
        make()
