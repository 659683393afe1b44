"""Parts of the sparse methods over pairs: counts of cells, draws, losses and priors, each against
what it stands for.

Belongs here: one part at a time. Does not belong here: whole methods (``test_pair_methods.py``).
"""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.sampling.probabilities import inclusion_probabilities
from calibration_core.tree.rivals import PairOutcome, cross_category, reweighted_l1
from calibration_core.tree.rivals.pool_descent import TreeLoss
from calibration_core.tree.rivals.proportional import randomised_systematic
from calibration_core.tree.rivals.refit import largest_pairs
from tests.calibration_core.tree.pair_task import loss_of, make_task


@pytest.mark.parametrize(
    ("mass", "room", "count", "rule", "exact"),
    [
        pytest.param(
            [97, 1, 1, 1],
            [50, 50, 50, 50],
            4,
            [3, 1, 1, 1],
            [3, 0, 0, 1],
            id="too many small cells",
        ),
        pytest.param([50, 50, 50], [9, 9, 9], 4, [1, 1, 1], [2, 1, 1], id="all rounded down"),
        pytest.param(
            [90, 10, 0], [2, 9, 0], 6, [5, 1, 0], [2, 4, 0], id="no more records than there are"
        ),
        pytest.param([0, 0], [0, 0], 0, [0, 0], [0, 0], id="empty"),
    ],
)
def test_counts_of_cells(mass, room, count, rule, exact):
    found = cross_category.cell_counts(np.array(mass, dtype=float), np.array(room), count)
    assert [x.tolist() for x in found] == [rule, exact]


def test_amounts_and_negative_rows_are_not_counts():
    design = np.array([[0.0, 1, 0, 0.7, 200], [1, -1, 0, 2, 0], [5, 0, 0, 0, 1]])
    assert cross_category.count_rows(design).tolist() == [0]


@given(
    seed=st.integers(0, 10**6),
    records=st.integers(1, 60),
    spread=st.sampled_from([0.1, 1.0, 3.0]),
    data=st.data(),
)
@settings(max_examples=100, deadline=None)
def test_randomised_systematic_draws_the_count_and_all_certain_units(seed, records, spread, data):
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0.0, spread, records)
    count = data.draw(st.integers(1, records))
    probability = inclusion_probabilities(weights, count)
    drawn = randomised_systematic(probability, count, rng)
    assert drawn.size == count and (np.diff(drawn) > 0).all()
    assert np.isin(np.flatnonzero(probability >= 1), drawn).all()


def test_randomised_systematic_keeps_its_inclusion_probabilities():
    probability = inclusion_probabilities(np.array([50.0, 8, 7, 6, 5, 4, 3, 2, 1, 0]), 4)
    rng, draws = np.random.default_rng(0), 4000
    hits = np.zeros(10)
    for _ in range(draws):
        hits[randomised_systematic(probability, 4, rng)] += 1
    error = np.sqrt(probability * (1 - probability) / draws)
    assert (np.abs(hits / draws - probability) <= 4.5 * error).all()


@pytest.mark.parametrize("delta", [np.inf, 3.0])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_tree_loss_and_its_slopes(depth, delta):
    task = make_task(21, depth)
    loss = TreeLoss(task.pool, delta, torch.float64)
    rng = np.random.default_rng(2)
    weights, way = (
        torch.as_tensor(task.pool.dense * rng.uniform(0.5, 2.0, task.pool.dense.shape)),
        torch.as_tensor(rng.normal(size=task.pool.dense.shape)),
    )
    value, slope = loss.value_and_slope(weights)
    if np.isinf(delta):
        leaf, record = np.nonzero(task.pool.dense)
        kept = weights.numpy()[leaf, record]
        assert value == pytest.approx(
            loss_of(task, PairOutcome("x", leaf, record, kept, kept, 0.0, 0.0, True, "")), rel=1e-9
        )
    step = 1e-4
    along = (
        loss.value_and_slope(weights + step * way)[0]
        - loss.value_and_slope(weights - step * way)[0]
    ) / (2 * step)
    assert along == pytest.approx(float((slope * way).sum()), rel=1e-5)


@given(seed=st.integers(0, 10**6), share=st.floats(0.2, 1.2))
@settings(max_examples=40, deadline=None)
def test_penalised_prior_has_the_count_asked_for_and_the_leaf_totals(seed, share):
    rng = np.random.default_rng(seed)
    weights = rng.lognormal(0.0, 1.5, (3, 40))
    totals = weights.sum(axis=1)
    half, eps = np.full((3, 1), 0.3), np.full((3, 1), 1.0)
    before = reweighted_l1.smooth_count(weights, half)
    prior = reweighted_l1.penalised_prior(weights, eps, share * before, half, totals)
    after = reweighted_l1.smooth_count(prior, half)
    assert np.allclose(prior.sum(axis=1), totals)
    assert (after <= np.maximum(share, 1.0 if share >= 1 else share) * before * (1 + 1e-9)).all()
    if share >= 1:
        assert np.allclose(prior, weights)
    else:
        assert (after >= 0.95 * share * before).all()


def test_largest_pairs_breaks_ties_by_dense_weight_and_raises_the_smallest():
    task = make_task(1, depth=1, records=5)
    pool = replace(task.pool, dense=np.array([[1.0, 3, 2, 0, 5]] * 3))
    task = replace(task, pool=pool, pairs_per_area=np.array([3, 1, 4]))
    weights = np.array([[100.0, 0, 0, 9, 0], [1.0, 1, 1, 1, 1], [1.0, 2, 3, 4, 5]])
    chosen, starting, warnings = largest_pairs(task, weights)
    assert [c.tolist() for c in chosen] == [[0, 1, 4], [4], [0, 1, 2, 4]]
    assert starting[0] == pytest.approx([100.0, 1 / 3, 1 / 3])
    assert len(warnings) == 2 and "2 of 8 pairs were raised" in str(warnings[1])
