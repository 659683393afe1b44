"""Leaves that draw on the records of their neighbourhood: the same answers as by written-out pairs,
and as without neighbourhoods where these hold everything.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from calibration_core.common import memory
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.multiplier_weights import MultiplierWeights
from calibration_core.tree.neighbourhoods import Neighbourhoods
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.solve import blocks, dense_records, pool_blocks, record_pool
from calibration_core.tree.solve.newton import calibrate_tree
from calibration_core.tree.totals import pool_totals

LEAVES, RECORDS = 12, 90
SETTINGS = TreeNewtonSettings(tau_path=(1.0, 0.1), share=(0.0, 1.0, 1.0), tolerance=1e-9)


def problem_of(seed: int = 0, parts: int = 3) -> PoolProblem:
    """Three levels; leaves of a neighbourhood do not stand beside each other, neighbourhoods cross
    counties, and some records stand for several.
    """
    rng = np.random.default_rng(seed)
    names = [f"44{1 + t // 5:03d}{t:06d}" for t in range(LEAVES)]
    levels = [["44"] * LEAVES, [name[:5] for name in names], names]
    tree = GeographyTree.from_leaves(["state", "county", "tract"], levels)
    persons, owner = 1.0 + rng.poisson(1.5, RECORDS), (rng.random(RECORDS) < 0.6).astype(float)
    income = rng.lognormal(10.8, 0.7, RECORDS)
    tract = np.column_stack([np.ones(RECORDS), persons, owner])
    designs = [np.column_stack([persons, income]), np.column_stack([income, owner]), tract]
    of_leaf = rng.permutation(np.arange(LEAVES) % parts)
    record = tuple(
        np.sort(rng.choice(RECORDS, int(rng.integers(40, 70)), replace=False)) for _ in range(parts)
    )
    expansion = tuple(np.where(rng.random(r.size) < 0.5, 1.0, 3.0) for r in record)
    near = Neighbourhoods(of_leaf, record, expansion)
    group, prior = rng.integers(0, 2, RECORDS), rng.uniform(5, 15, RECORDS)
    share = rng.uniform(0.02, 0.2, (LEAVES, 2))
    nothing = [np.zeros((size, d.shape[1])) for size, d in zip(tree.sizes, designs, strict=True)]
    ones = [np.ones_like(a) for a in nothing]
    empty = PoolProblem(tree, make_targets(tree, designs, nothing, ones), prior, group, share, near)
    values = [given * rng.uniform(0.9, 1.15, given.shape) for given in empty.prior_sums()]
    scales = [0.02 * np.abs(value) for value in values]
    return replace(empty, targets=make_targets(tree, designs, values, scales))


def written_out(problem: PoolProblem) -> PairProblem:
    prior = problem.prior()
    leaf, record = np.nonzero(prior)
    return PairProblem(problem.tree, problem.targets, leaf, record, prior[leaf, record])


@pytest.mark.parametrize("products", ["of what is not zero", "formed", "leaf by leaf"])
@pytest.mark.parametrize("seed", range(4))
def test_weights_are_those_of_the_pairs_written_out(seed, products, monkeypatch):
    """By products formed for a neighbourhood, leaf by leaf, and by those that are not zero."""
    least = 1 if products == "formed" else 10**9
    monkeypatch.setattr(dense_records, "MANY_LEAVES", least)
    monkeypatch.setattr(pool_blocks, "MANY_LEAVES", least)
    sparse = products == "of what is not zero"
    monkeypatch.setattr(record_pool, "is_worth_it", lambda *columns: sparse)
    problem = problem_of(seed)
    assert not problem.in_order
    found, pairs = calibrate_tree(problem, SETTINGS), calibrate_tree(written_out(problem), SETTINGS)
    assert found.converged and pairs.converged and found.tau == pairs.tau
    table, out = found.weights.table(), np.zeros(problem.prior().shape)
    leaf, record = np.nonzero(problem.prior())
    out[leaf, record] = pairs.weights
    np.testing.assert_allclose(table, out, rtol=1e-5, atol=1e-9)
    for mine, other in zip(found.fitted, pairs.fitted, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-7)
    sums = pool_totals(problem.tree, problem.targets.designs, found.weights)
    for mine, other in zip(found.fitted, sums, strict=True):
        np.testing.assert_allclose(mine, other, rtol=1e-10)


def test_neighbourhoods_of_everything_change_nothing():
    problem = problem_of(1)
    every = tuple(np.arange(RECORDS) for _ in range(3))
    ones = tuple(np.ones(RECORDS) for _ in range(3))
    of_leaf = problem.near.of_leaf
    whole = replace(problem, neighbourhoods=Neighbourhoods(of_leaf, every, ones))
    plain = calibrate_tree(replace(problem, neighbourhoods=None), SETTINGS)
    found = calibrate_tree(whole, SETTINGS)
    np.testing.assert_allclose(found.weights.table(), plain.weights, rtol=1e-6)
    assert found.effective_sample_size == pytest.approx(plain.effective_sample_size, rel=1e-6)


def test_weights_follow_from_rates_with_bounds_and_with_a_total_held():
    problem = replace(problem_of(2), neighbourhoods=None)
    near = replace(problem, neighbourhoods=problem.near)
    for more in ({"ratio_bounds": (0.2, 5.0)}, {"hold_total": True}):
        settings = replace(SETTINGS, **more)
        plain, blocks = calibrate_tree(problem, settings), calibrate_tree(near, settings)
        assert isinstance(blocks.weights, MultiplierWeights)
        np.testing.assert_allclose(blocks.weights.table(), plain.weights, rtol=1e-8)


def test_a_start_is_taken_in_the_order_of_the_leaves():
    problem = problem_of(3)
    first = calibrate_tree(problem, SETTINGS)
    last = replace(SETTINGS, tau_path=(first.tau,))
    again = calibrate_tree(problem, last, start=first.multipliers)
    assert again.converged and again.iterations <= 1 < first.iterations
    np.testing.assert_allclose(again.weights.table(), first.weights.table(), rtol=1e-7)


def test_few_neighbourhoods_are_kept_and_that_changes_nothing(monkeypatch):
    problem = problem_of(0, parts=6)
    before = calibrate_tree(problem, SETTINGS).weights.table()
    monkeypatch.setattr(memory, "_budget", 1)
    assert (calibrate_tree(problem, SETTINGS).weights.table() == before).all()


def test_sums_of_the_prior_are_those_of_the_written_out_prior():
    problem = problem_of(4)
    prior = problem.prior()
    assert problem.prior_total == pytest.approx(prior.sum())
    np.testing.assert_allclose(problem.prior_by_leaf, prior.sum(axis=1))
    for power in (1, 2):
        for depth, sums in enumerate(problem.prior_sums(power)):
            rows = problem.targets.designs[depth] ** power
            np.testing.assert_allclose(sums, problem.tree.sum_leaves(prior, depth) @ rows)
    assert problem.near.pairs == np.count_nonzero(prior)


@pytest.mark.parametrize(
    "change",
    [
        lambda n: {"of_leaf": n.of_leaf + 3},
        lambda n: {"record": (n.record[0][::-1], *n.record[1:])},
        lambda n: {"expansion": (-n.expansion[0], *n.expansion[1:])},
        lambda n: {"expansion": n.expansion[:2]},
    ],
)
def test_neighbourhoods_that_do_not_fit_are_refused(change):
    near = problem_of().near
    with pytest.raises(ProblemError, match=r"neighbourhood"):
        replace(near, **change(near))


def test_records_that_are_not_there_are_refused():
    problem = problem_of()
    near = problem.near
    far = replace(near, record=(np.append(near.record[0][:-1], RECORDS), *near.record[1:]))
    with pytest.raises(ProblemError, match="Neighbourhoods of"):
        replace(problem, neighbourhoods=far)


@pytest.mark.parametrize("form", [lambda p: p, written_out])
def test_couplings_in_single_precision_end_at_the_same_weights(form, monkeypatch):
    problem = form(problem_of())
    exact = calibrate_tree(problem, SETTINGS)
    monkeypatch.setattr(blocks, "_SINGLE", 0)
    single = calibrate_tree(problem, SETTINGS)
    assert single.converged and single.iterations <= exact.iterations + 1
    for a, b in zip(exact.fitted, single.fitted, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-8)
