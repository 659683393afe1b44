"""Rows of pairs as lists of what is not zero do what they do as matrices; when they are lists."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from calibration_core.common import memory
from calibration_core.common.lists import Lists
from calibration_core.tree import TreeNewtonSettings, calibrate_tree
from calibration_core.tree.problem import PairProblem, make_targets
from calibration_core.tree.solve import pair_blocks
from calibration_core.tree.solve.leaf_systems import LeafSystems
from calibration_core.tree.solve.listed_rows import Both, ListedRows
from calibration_core.tree.solve.pair_blocks import PairBlocks
from calibration_core.tree.solve.pair_rows import MatrixRows
from tests.calibration_core.tree.hierarchy_case import (
    HIERARCHIES,
    LINKS,
    as_pairs,
    linked,
    random_pool,
)

RIDGE = 0.3
# Pairs of a leaf: fewer than variables, somewhat more, many more.
PAIRS = [1, 5, 11, 19, 40]
WIDTH, BEYOND = 9, 14


def rows_of_both(pairs: int, seed: int = 0, leaves: int = 4):
    """Rows of some leaves in both forms, the last pairs of the second leaf missing; every second
    own column is one of those above.
    """
    rng = np.random.default_rng(seed)
    every = np.where(rng.random((30, WIDTH + BEYOND)) < 0.3, rng.lognormal(size=(30, 23)), 0.0)
    shared = np.arange(0, WIDTH, 2)
    above = np.concatenate([shared, np.arange(WIDTH, WIDTH + BEYOND)])
    place = np.full(WIDTH + BEYOND, -1)
    place[above] = np.arange(above.size)
    own = np.where(np.arange(WIDTH + BEYOND) < WIDTH, np.arange(WIDTH + BEYOND), -1)
    index = rng.integers(0, 30, (leaves, pairs)).astype(np.int32)
    index[1, max(1, pairs - 3) :] = -1
    both = Both(Lists.of(every, own), Lists.of(every, place))
    listed = ListedRows(lambda: both, index, WIDTH, above.size)
    found = torch.as_tensor(np.where((index >= 0)[:, :, None], every[index], 0.0))
    at = torch.as_tensor(above), torch.as_tensor(shared)
    return listed, MatrixRows(lambda: found, WIDTH, *at), torch.as_tensor(index >= 0), rng


def close(mine, other):
    torch.testing.assert_close(mine, other, rtol=1e-11, atol=1e-11 * float(other.abs().max()))


@pytest.mark.parametrize("pairs", PAIRS)
def test_every_product_is_that_of_matrices(pairs):
    listed, matrix, _, rng = rows_of_both(pairs)
    above = listed.distinct
    x, z = (torch.as_tensor(rng.normal(size=(4, n))) for n in (WIDTH, above))
    v = torch.as_tensor(rng.random((4, pairs)))
    missing = torch.as_tensor(listed.index < 0)
    for some in (listed, listed.loaded(), listed.take(torch.arange(4))):
        close(some.own_u(x), matrix.own_u(x))
        close(some.above_u(z), matrix.above_u(z))
        close(some.own_totals(v), matrix.own_totals(v))
        close(some.above_totals(v), matrix.above_totals(v))
        close(some.curvature(v), matrix.curvature(v))
        close(some.own(), matrix.own())
        assert not some.own_u(x)[missing].any()
    which = torch.tensor([3, 1])
    close(listed.take(which).own_u(x[which]), matrix.take(which).own_u(x[which]))


@pytest.mark.parametrize("pairs", PAIRS)
def test_what_leaves_take_off_their_parents_is_written_out(pairs):
    """For both forms of rows, and for each of the ways that a number of pairs calls for: the Schur
    complement of the leaves' own variables in the curvature of all, less the curvature itself.
    """
    listed, matrix, here, rng = rows_of_both(pairs, seed=1)
    slope = torch.where(here, torch.as_tensor(rng.lognormal(size=(4, pairs))), 0.0)
    inverse = torch.as_tensor(rng.lognormal(size=(4, WIDTH)))
    nodes = ((2, 0, 1), (5, 1, 4))
    every, own = matrix.find(), matrix.own() * inverse[:, None, :]
    above, total = every[:, :, matrix.above], []
    for t in range(4):
        weighted = slope[t][:, None]
        system = RIDGE * torch.eye(WIDTH, dtype=own.dtype) + own[t].T @ (weighted * own[t])
        cross = own[t].T @ (weighted * above[t])
        left = above[t].T @ (weighted * above[t]) - cross.T @ torch.linalg.solve(system, cross)
        total.append(-torch.triu(left))
    wanted = [(2, total[0]), (5, total[1] + total[2] + total[3])]
    for rows in (listed, matrix):
        systems = LeafSystems.of(rows, inverse, slope, RIDGE)
        assert systems.by_pairs == (pairs < WIDTH)
        found = rows.taken(systems, inverse, slope, nodes)
        for (node, block), (node_, block_) in zip(found, wanted, strict=True):
            assert node == node_
            torch.testing.assert_close(
                torch.triu(block), block_, rtol=1e-9, atol=1e-10 * float(block_.abs().max())
            )


def test_a_leaf_does_not_depend_on_who_stands_beside_it():
    listed, _, here, rng = rows_of_both(12, seed=2)
    slope = torch.where(here, torch.as_tensor(rng.random((4, 12))), 0.0)
    x = torch.as_tensor(rng.normal(size=(4, WIDTH)))
    for t in range(4):
        alone = listed.take(torch.tensor([t]))
        assert torch.equal(alone.own_u(x[[t]])[0], listed.own_u(x)[t])
        assert torch.equal(alone.own_totals(slope[[t]])[0], listed.own_totals(slope)[t])
        assert torch.equal(alone.curvature(slope[[t]])[0], listed.curvature(slope)[t])


def ways(problem: PairProblem, settings: TreeNewtonSettings, monkeypatch):
    """Results with rows as lists, as lists made anew each time, and as matrices."""
    monkeypatch.setattr(pair_blocks, "MOST_FILLED", 1.0)
    assert PairBlocks(problem).listed
    yield calibrate_tree(problem, settings)
    try:
        memory.set_budget(1)
        yield calibrate_tree(problem, settings)
    finally:
        memory.set_budget(None)
    monkeypatch.setattr(pair_blocks, "MOST_FILLED", -1.0)
    assert not PairBlocks(problem).listed
    yield calibrate_tree(problem, settings)


@linked
@pytest.mark.parametrize("names", [HIERARCHIES[0], HIERARCHIES[1], HIERARCHIES[4]], ids="-".join)
def test_the_form_of_rows_does_not_move_the_weights(names, link, monkeypatch):
    problem = as_pairs(random_pool(3, names), np.random.default_rng(0))
    settings = TreeNewtonSettings(
        tau_path=(1.0, 0.1), tolerance=1e-10, prior_unit=1.0, **LINKS[link]
    )
    kept, anew, matrix = ways(problem, settings, monkeypatch)
    assert kept.converged
    assert matrix.converged
    # What is kept for speed alone moves no bit.
    np.testing.assert_array_equal(kept.weights, anew.weights)
    np.testing.assert_allclose(kept.weights, matrix.weights, atol=1e-8 * matrix.weights.max())


def test_rows_are_lists_where_most_of_them_is_zero():
    problem = as_pairs(random_pool(0, HIERARCHIES[4], records=40))
    rng, t = np.random.default_rng(1), problem.targets

    def of(share: float) -> PairBlocks:
        designs = [np.where(rng.random(d.shape) < share, d + 1.0, 0.0) for d in t.designs]
        targets = make_targets(problem.tree, designs, t.values, t.scales)
        return PairBlocks(replace(problem, targets=targets))

    assert of(0.15).listed
    assert not of(0.6).listed
