"""The tree of areas: what it accepts, what it refuses, and that its sums add up."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import GeographyError
from calibration_core.tree.geography import GeographyTree

LEVELS = ["state", "county", "tract"]
PATHS = [["44"] * 4, ["44003", "44001", "44003", "44001"], ["44003b", "44001a", "44003a", "44001b"]]
NONE = np.empty(0, dtype=np.int64)


def test_levels_are_sorted_and_parents_follow():
    tree = GeographyTree.from_leaves(LEVELS, PATHS)
    assert tree.geoids == (("44",), ("44001", "44003"), ("44001a", "44001b", "44003a", "44003b"))
    assert tree.parents[2].tolist() == [0, 0, 1, 1]
    assert tree.ancestor_of_leaves(0).tolist() == [0, 0, 0, 0]
    assert tree.sizes == (1, 2, 4)


def test_row_order_does_not_matter():
    order = [2, 0, 3, 1]
    shuffled = [[column[i] for i in order] for column in PATHS]
    first, second = (
        GeographyTree.from_leaves(LEVELS, PATHS),
        GeographyTree.from_leaves(LEVELS, shuffled),
    )
    assert first.geoids == second.geoids
    assert all((a == b).all() for a, b in zip(first.parents, second.parents, strict=True))


def test_sums_add_up_level_by_level():
    tree = GeographyTree.from_leaves(LEVELS, PATHS)
    values = np.array([[1.0], [2.0], [4.0], [8.0]])
    assert tree.sum_leaves(values, 1).ravel().tolist() == [3.0, 12.0]
    assert tree.sum_to_parent(tree.sum_leaves(values, 1), 1).ravel().tolist() == [15.0]
    assert tree.sum_leaves(values, 2).tolist() == values.tolist()
    assert tree.sum_leaves(values, 2) is not values


def random_parents(rng: np.random.Generator, levels: int) -> tuple[np.ndarray, ...]:
    """Every area has at least one child; siblings are scattered over the level, as tracts of a PUMA
    are over a list of counties.
    """
    parents, count = [NONE], int(rng.integers(1, 4))
    for _ in range(levels - 1):
        size = count + int(rng.integers(0, 2 * count + 1))
        parents.append(
            rng.permutation(
                np.concatenate([np.arange(count), rng.integers(0, count, size - count)])
            )
        )
        count = size
    return tuple(parents)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.integers(1, 6), st.sampled_from([(), (1,), (3,), (2, 2)]))
def test_sums_equal_sums_written_out(seed, levels, shape):
    """Any number of levels and branching, unsorted siblings, any number of further axes; whole
    numbers, floats and booleans.
    """
    rng = np.random.default_rng(seed)
    parents = random_parents(rng, levels)
    sizes = [*(int(p.max()) + 1 for p in parents[1:]), parents[-1].size or 2]
    geoids = tuple(tuple(f"{d}-{i}" for i in range(size)) for d, size in enumerate(sizes))
    tree = GeographyTree(tuple(f"level {d}" for d in range(levels)), geoids, parents)
    values = rng.integers(-50, 50, size=(sizes[-1], *shape))
    for depth in range(levels):
        above = tree.ancestor_of_leaves(depth)
        for leaf in (values, values.astype(float), values > 0):
            expected = np.array([leaf[above == area].sum(axis=0) for area in range(sizes[depth])])
            total = tree.sum_leaves(leaf, depth)
            assert total.shape == expected.shape
            assert (total == expected).all()
            assert total.dtype == leaf.dtype or leaf.dtype == bool


def test_sums_are_the_same_to_the_last_bit_whatever_the_order_of_the_rows():
    rng = np.random.default_rng(0)
    tracts, counties = (
        [f"t{i:04d}" for i in range(3000)],
        [f"c{i:02d}" for i in rng.integers(0, 40, 3000)],
    )
    values = dict(zip(tracts, rng.lognormal(0.0, 8.0, 3000), strict=True))
    sums = []
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(3000)
        tree = GeographyTree.from_leaves(
            ["nation", "county", "tract"],
            [[""] * 3000, [counties[i] for i in order], [tracts[i] for i in order]],
        )
        sums.append(tree.sum_leaves(np.array([values[g] for g in tree.leaves]), 0)[0])
    assert sums[0] == sums[1] == sums[2]
    assert sums[0] == pytest.approx(math.fsum(values.values()), rel=1e-14)


@pytest.mark.parametrize(
    "levels",
    [
        ("nation",),
        ("nation", "state"),
        ("nation", "state", "county", "tract"),
        ("puma", "tract", "block group"),
        ("nation", "state", "district"),
    ],
    ids=lambda names: "-".join(names),
)
def test_levels_are_what_they_are_called(levels):
    """Leaf i has the parents i // 2, i // 4, ...; the nation may have an empty GEOID."""
    leaves = 2 ** (len(levels) - 1)
    paths = [
        ["" if depth == 0 else f"{i >> (len(levels) - 1 - depth):02d}" for i in range(leaves)]
        for depth in range(len(levels))
    ]
    tree = GeographyTree.from_leaves(levels, paths)
    assert tree.levels == levels
    assert tree.sizes == tuple(2**d for d in range(len(levels)))
    assert tree.sum_leaves(np.ones(leaves), 0).tolist() == [leaves]


@pytest.mark.parametrize(
    ("paths", "words"),
    [
        pytest.param(
            [["44", "44"], ["44001", "44001"], ["a", "a"]],
            "1 tract GEOIDs occur twice, first a",
            id="duplicated leaf",
        ),
        pytest.param(
            [["44", "44"], ["44001", ""], ["a", "b"]],
            "1 leaves have no county, first b",
            id="orphan",
        ),
        pytest.param(
            [["44", "44"], ["44001", None], ["a", "b"]],
            "1 leaves have no county, first b",
            id="null",
        ),
        pytest.param(
            [["44", "44"], ["44001", float("nan")], ["a", "b"]],
            "1 leaves have no county, first b",
            id="NaN",
        ),
        pytest.param(
            [["44", "44"], ["44001", 44003], ["a", "b"]],
            "A GEOID is 44003, a int.*leading zeros",
            id="number",
        ),
        pytest.param(
            [["44", "45"], ["44001", "44001"], ["a", "b"]],
            "county 44001 lies in two areas: 44 and 45",
            id="two parents",
        ),
        pytest.param([[], [], []], "no areas", id="empty"),
        pytest.param([["44"], ["44001", "44003"], ["a", "b"]], "different lengths", id="ragged"),
        pytest.param([["44"], ["44001"]], "3 level names for 2", id="a column short"),
    ],
)
def test_what_is_not_a_tree_is_refused_by_name(paths, words):
    with pytest.raises(GeographyError, match=words):
        GeographyTree.from_leaves(LEVELS, paths)


@pytest.mark.parametrize(
    ("levels", "geoids", "parents", "words"),
    [
        pytest.param(
            ("a", "b"),
            (("1",), ("2", "3")),
            (NONE, np.array([0, 1])),
            "b 3 names parent number 1",
            id="unknown parent",
        ),
        pytest.param(
            ("a", "b"),
            (("1",), ("2", "3")),
            (NONE, np.array([0, -1])),
            "b 3 names parent number -1",
            id="negative parent",
        ),
        pytest.param(
            ("a", "b"),
            (("1", "2"), ("3",)),
            (NONE, np.array([1])),
            "1 areas have no b, first a 1",
            id="childless",
        ),
        pytest.param(
            ("a", "b"),
            (("1",), ("2", "2")),
            (NONE, np.array([0, 0])),
            "1 b GEOIDs occur twice, first 2",
            id="duplicate",
        ),
        pytest.param(
            ("a", "b"),
            (("1",), ("2", "3")),
            (NONE, np.array([0])),
            r"parents of shape \(1,\) for 2 areas",
            id="too few parents",
        ),
        pytest.param(
            ("a", "b"),
            (("1",), ("2",)),
            (NONE, np.array([0.0])),
            "float64 parents",
            id="parents not whole numbers",
        ),
        pytest.param(
            ("a",),
            (("1",),),
            (np.array([0]),),
            "top level a has 1 parents",
            id="parents above the top",
        ),
        pytest.param(
            ("a", "a"),
            (("1",), ("2",)),
            (NONE, np.array([0])),
            "level name occurs twice",
            id="level twice",
        ),
        pytest.param(("a", "b"), (("1",),), (NONE,), "2 level names, 1 lists", id="a level short"),
        pytest.param(("a",), ((),), (NONE,), "no areas", id="empty"),
    ],
)
def test_a_tree_put_together_by_hand_is_checked_too(levels, geoids, parents, words):
    with pytest.raises(GeographyError, match=words):
        GeographyTree(levels, geoids, parents)
