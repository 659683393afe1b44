"""Passes over what is not zero equal those of whole matrices; when they are asked for."""

import numpy as np
import pytest
import torch

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.solve import sparse_records
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.dense_records import DenseRecords
from calibration_core.tree.solve.sparse_records import SparseRecords, is_worth_it


def columns(rng, records: int, count: int, share: float) -> np.ndarray:
    return np.where(rng.random((records, count)) < share, rng.lognormal(size=(records, count)), 0.0)


def blocks_of(rng, records: int, own: int, above: int, share: float, leaves: int) -> TreeBlocks:
    """A state of two counties whose columns are those above and every second one of the leaves."""
    mine, beyond = columns(rng, records, own, share), columns(rng, records, above, share)
    names = [f"{44000 + 1 + 2 * (t % 2):05d}{t:06d}" for t in range(leaves)]
    tree = GeographyTree.from_leaves(["county", "tract"], [[n[:5] for n in names], names])
    designs = [np.hstack([beyond, mine[:, ::2]]), mine]
    values = [np.ones((size, d.shape[1])) for size, d in zip(tree.sizes, designs, strict=True)]
    targets = make_targets(tree, designs, values, values)
    return TreeBlocks(tree, targets.designs, targets.scales, "cpu")


SIZES = [
    (2, 1, 1, 1, 1.0),
    (47, 90, 7, 12, 0.2),
    (48, 90, 7, 12, 0.2),
    (49, 90, 7, 12, 0.2),
    (100, 40, 5, 0, 0.3),
    (3, 60, 4, 9, 0.02),
    (5, 60, 4, 9, 1.0),
]


@pytest.mark.parametrize(("leaves", "records", "own", "above", "share"), SIZES)
def test_passes_are_those_of_whole_matrices(leaves, records, own, above, share):
    rng = np.random.default_rng(7)
    blocks = blocks_of(rng, records, own, above, share, leaves)
    every = blocks.rows(slice(None))
    sparse, dense = SparseRecords(blocks, every), DenseRecords(blocks, every, leaves)
    half = leaves // 2
    nodes = ((0, 0, half), (1, half, leaves))
    given = torch.as_tensor(rng.random((leaves, records)))
    rates = torch.as_tensor(rng.normal(size=(leaves, blocks.width)))
    higher = torch.as_tensor(rng.normal(size=(2, blocks.distinct)))
    pairs = [
        (each.exponent(rates, higher, [half, leaves - half]), *each.curvature(given))
        for each in (sparse, dense)
    ]
    for mine, other in zip(*pairs, strict=True):
        assert (mine is None) == (other is None)
        if other is not None:
            # Couplings are single precision there.
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6 * float(other.abs().max()))
    torch.testing.assert_close(pairs[0][1], pairs[1][1], rtol=1e-12, atol=1e-12)
    (leaf, held), (leaf_, held_) = (each.totals(given, nodes) for each in (sparse, dense))
    torch.testing.assert_close(leaf, leaf_, rtol=1e-12, atol=1e-12)
    for (node, mine), (node_, other) in zip(held, held_, strict=True):
        assert node == node_
        torch.testing.assert_close(mine, other, rtol=1e-12, atol=1e-12)
    # Of columns that the leaves lack the upper half is enough.
    size = blocks.shared.numel()
    mine, other = sparse.border(given[0]), dense.border(given[0])
    torch.testing.assert_close(mine[:, :size], other[:, :size], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(
        torch.triu(mine[:, size:]), torch.triu(other[:, size:]), rtol=1e-12, atol=1e-12
    )


def test_leaves_do_not_depend_on_who_stands_beside_them():
    rng = np.random.default_rng(8)
    blocks = blocks_of(rng, 80, 6, 9, 0.3, 60)
    sparse = SparseRecords(blocks, blocks.rows(slice(None)))
    slope = torch.as_tensor(rng.random((60, 80)))
    whole = sparse.curvature(slope)
    for t in (0, 47, 48, 59):
        for alone, among in zip(sparse.curvature(slope[t : t + 1]), whole, strict=True):
            assert torch.equal(alone[0], among[t])


def test_asked_for_where_few_products_are_not_zero():
    rng = np.random.default_rng(9)
    few, most = columns(rng, 300, 60, 0.1), columns(rng, 300, 60, 0.9)
    assert is_worth_it(few, 20, 48) and not is_worth_it(most, 20, 48)
    # One leaf takes as long as 48.
    assert not is_worth_it(few, 20, 1)


def test_lists_that_would_be_too_long_are_not_asked_for(monkeypatch):
    """Places in them have 32 bits: a longer list would be read at wrong places."""
    every = columns(np.random.default_rng(9), 300, 60, 0.1)
    count = np.count_nonzero(every)
    monkeypatch.setattr(sparse_records, "_MOST", count + 1)
    assert is_worth_it(every, 20, 48)
    monkeypatch.setattr(sparse_records, "_MOST", count)
    assert not is_worth_it(every, 20, 48)
