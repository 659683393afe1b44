"""The tree of areas: what it accepts, what it refuses, and that its sums add up."""

import numpy as np
import pytest

from calibration_core.errors import GeographyError
from calibration_core.geography import GeographyTree

LEVELS = ["state", "county", "tract"]
PATHS = [["44"] * 4, ["44003", "44001", "44003", "44001"], ["44003b", "44001a", "44003a", "44001b"]]


def test_levels_are_sorted_and_parents_follow():
    tree = GeographyTree.from_leaves(LEVELS, PATHS)
    assert tree.geoids == (("44",), ("44001", "44003"), ("44001a", "44001b", "44003a", "44003b"))
    assert tree.parents[2].tolist() == [0, 0, 1, 1]
    assert tree.ancestor_of_leaves(0).tolist() == [0, 0, 0, 0]
    assert tree.sizes == (1, 2, 4)


def test_row_order_does_not_matter():
    order = [2, 0, 3, 1]
    shuffled = [[column[i] for i in order] for column in PATHS]
    first, second = GeographyTree.from_leaves(LEVELS, PATHS), GeographyTree.from_leaves(LEVELS, shuffled)
    assert first.geoids == second.geoids
    assert all((a == b).all() for a, b in zip(first.parents, second.parents, strict=True))


def test_sums_add_up_level_by_level():
    tree = GeographyTree.from_leaves(LEVELS, PATHS)
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    assert tree.sum_leaves(values, 1).ravel().tolist() == [3.0, 12.0]
    assert tree.sum_to_parent(tree.sum_leaves(values, 1), 1).ravel().tolist() == [15.0]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        pytest.param([["44", "44"], ["44001", "44001"], ["a", "a"]], "occur twice", id="duplicated leaf"),
        pytest.param([["44", "44"], ["44001", ""], ["a", "b"]], "have no county", id="orphan"),
        pytest.param([["44", "45"], ["44001", "44001"], ["a", "b"]], "lies in two areas", id="two parents"),
        pytest.param([[], [], []], "no areas", id="empty"),
        pytest.param([["44"], ["44001", "44003"], ["a", "b"]], "different lengths", id="ragged"),
    ],
)
def test_what_is_not_a_tree_is_refused_by_name(paths, words):
    with pytest.raises(GeographyError, match=words):
        GeographyTree.from_leaves(LEVELS, paths)
