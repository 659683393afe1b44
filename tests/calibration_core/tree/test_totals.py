"""Totals of stored weights: by hand, dense against written-out pairs, and additive
along the tree.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.totals import pair_totals, pool_totals

TREE = GeographyTree.from_leaves(
    ["state", "county", "tract"],
    [["44"] * 3, ["44001", "44001", "44003"], ["44001000100", "44001000200", "44003000100"]],
)


def test_by_hand():
    designs = [np.array([[1.0], [2.0]])] * 3
    weights = np.array([[1.0, 0.0], [2.0, 3.0], [0.0, 4.0]])
    state, county, tract = pool_totals(TREE, designs, weights)
    assert tract.ravel().tolist() == [1.0, 8.0, 8.0]
    assert county.ravel().tolist() == [9.0, 8.0]
    assert state.ravel().tolist() == [17.0]


@given(seed=st.integers(0, 2**32 - 1), records=st.integers(1, 12))
def test_written_out_pairs_agree_with_dense_and_levels_add_up(seed, records):
    random = np.random.default_rng(seed)
    weights = random.random((3, records)) * (random.random((3, records)) < 0.5)
    design = random.normal(size=(records, 4))
    leaf, record = np.nonzero(weights)
    dense = pool_totals(TREE, [design] * 3, weights)
    pairs = pair_totals(TREE, [design] * 3, leaf, record, weights[leaf, record])
    for one, other in zip(dense, pairs, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)
    np.testing.assert_allclose(dense[0][0], dense[2].sum(axis=0), atol=1e-12)


def test_shapes_that_disagree_are_refused():
    with pytest.raises(ProblemError, match=r"\(2, 1\)"):
        pool_totals(TREE, [np.ones((1, 1))] * 3, np.ones((2, 1)))
    with pytest.raises(ProblemError, match="one design per level"):
        pair_totals(TREE, [np.ones((1, 1))], np.zeros(1, int), np.zeros(1, int), np.ones(1))
