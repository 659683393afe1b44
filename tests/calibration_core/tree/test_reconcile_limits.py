"""Reconciliation where values are missing, exact, contradictory, or nothing is left for them.

Belongs here: those edges, and what is refused. Does not belong here: the answer in general
(``test_reconcile.py``).
"""

import numpy as np
import pytest

from calibration_core.errors import ContradictionError, ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import reconcile_tree
from tests.calibration_core.tree.reconcile_case import INF, estimates_of, tree_of


def test_one_suppressed_sibling_is_determined_and_two_are_not():
    tree = GeographyTree.from_leaves(["state", "county"], [["44"] * 3, ["a", "b", "c"]])
    top = (np.array([[100.0]]), np.array([[4.0]]))
    one = reconcile_tree(
        tree,
        [top[0], np.array([[30.0], [50.0], [np.nan]])],
        [top[1], np.array([[1.0], [2.0], [INF]])],
    )
    assert one.values[1][2, 0] == pytest.approx(20.0)
    assert one.variances[1][2, 0] == pytest.approx(4.0 + 1.0 + 2.0)
    assert np.isnan(one.adjustments[1][2, 0])
    two = reconcile_tree(
        tree, [top[0], np.array([[30.0], [0.0], [0.0]])], [top[1], np.array([[1.0], [INF], [INF]])]
    )
    assert two.values[1][0, 0] == 30.0
    assert np.isnan(two.values[1][1:, 0]).all()
    assert np.isinf(two.variances[1][1:, 0]).all()


def test_nothing_left_for_two_suppressed_siblings_means_zero():
    """100 in all, 60 and 45 known, two suppressed: these are zero and the known ones share the
    excess of 5.
    """
    tree = GeographyTree.from_leaves(["state", "county"], [["44"] * 4, ["a", "b", "c", "d"]])
    y = [np.array([[100.0]]), np.array([[60.0], [45.0], [0.0], [0.0]])]
    v = [np.array([[0.0]]), np.array([[1.0], [4.0], [INF], [INF]])]
    result = reconcile_tree(tree, y, v)
    assert result.values[1][:, 0] == pytest.approx([59.0, 41.0, 0.0, 0.0])
    assert result.pinned[0] == 2
    free = reconcile_tree(tree, y, v, nonnegative=[False])
    assert np.isnan(free.values[1][2:, 0]).all()


def test_suppressed_parts_of_two_suppressed_counties_are_zero_where_nothing_is_left():
    """The state's 10 is used up by the known tracts of counties that are not
    themselves published.
    """
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"], [["44"] * 4, ["a", "a", "b", "b"], ["a1", "a2", "b1", "b2"]]
    )
    y = [np.array([[10.0]]), np.zeros((2, 1)), np.array([[6.0], [0.0], [5.0], [0.0]])]
    v = [np.array([[0.0]]), np.full((2, 1), INF), np.array([[1.0], [INF], [1.0], [INF]])]
    result = reconcile_tree(tree, y, v)
    assert result.values[2][:, 0] == pytest.approx([5.5, 0.0, 4.5, 0.0])
    assert result.values[1][:, 0] == pytest.approx([5.5, 4.5])


def test_contradicting_exact_values_are_named():
    tree = GeographyTree.from_leaves(["state", "county"], [["44", "44"], ["44001", "44003"]])
    with pytest.raises(
        ContradictionError,
        match=(
            r"state 44 is exact at 10, but its exact parts sum to 9 \(county 44001 4, county"
            r" 44003 5\)"
        ),
    ):
        reconcile_tree(
            tree,
            [np.array([[10.0]]), np.array([[4.0], [5.0]])],
            [np.zeros((1, 1)), np.zeros((2, 1))],
        )


def test_a_contradiction_over_two_levels_names_the_published_parts_and_the_variable():
    """County a is not published, so what contradicts the state is a's tracts and county b."""
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"], [["44"] * 3, ["a", "a", "b"], ["a1", "a2", "b1"]]
    )
    y = [np.array([[10.0]]), np.array([[0.0], [5.0]]), np.array([[3.0], [4.0], [9.0]])]
    v = [np.zeros((1, 1)), np.array([[INF], [0.0]]), np.array([[0.0], [0.0], [1.0]])]
    with pytest.raises(
        ContradictionError,
        match=(
            r"exact parts sum to 12 \(tract a1 3, tract a2 4, county b 5\)\. Where: persons; 1 such"
        ),
    ):
        reconcile_tree(tree, y, v, names=["persons"])


def test_exact_values_that_leave_less_than_nothing_are_a_contradiction():
    tree = GeographyTree.from_leaves(["state", "county"], [["44"] * 3, ["a", "b", "c"]])
    y, v = (
        [np.array([[10.0]]), np.array([[8.0], [5.0], [1.0]])],
        [np.zeros((1, 1)), np.array([[0.0], [0.0], [INF]])],
    )
    assert reconcile_tree(tree, y, v, nonnegative=[False]).values[1][2, 0] == pytest.approx(-3.0)
    with pytest.raises(
        ContradictionError,
        match=(
            r"sum to 13 \(county a 8, county b 5 and 1 held at zero because they may not be"
            r" negative\)"
        ),
    ):
        reconcile_tree(tree, y, v)


def test_a_negative_exact_value_is_refused_where_none_may_be():
    tree = GeographyTree.from_leaves(["county"], [["a", "b"]])
    with pytest.raises(ContradictionError, match="county b is exact at -2 and may not be negative"):
        reconcile_tree(tree, [np.array([[1.0], [-2.0]])], [np.array([[1.0], [0.0]])])


def test_too_few_rounds_are_told():
    tree = tree_of(1, 4)
    y = [np.array([[1.0]]), np.array([[1.0]]), np.array([[-1.0], [0.1], [0.2], [5.0]])]
    v = [np.full(a.shape, 1e-4 if a.size == 1 else 1.0) for a in y]
    assert reconcile_tree(tree, y, v).converged
    early = reconcile_tree(tree, y, v, max_rounds=1)
    assert not early.converged
    assert early.values[2].min() < 0
    assert "stopped before it settled" in early.summary()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param(
            lambda y, v: v[1].__setitem__((0, 0), -1.0), "negative or NaN", id="negative variance"
        ),
        pytest.param(
            lambda y, v: v[1].__setitem__((0, 0), np.nan), "negative or NaN", id="NaN variance"
        ),
        pytest.param(
            lambda y, v: y[1].__setitem__((0, 0), np.nan), "not finite", id="NaN estimate"
        ),
        pytest.param(lambda y, v: y.__setitem__(1, y[1][:1]), "shape", id="wrong shape"),
        pytest.param(
            lambda y, v: (
                y.__setitem__(1, y[1].repeat(2, axis=1)),
                v.__setitem__(1, v[1].repeat(2, axis=1)),
            ),
            "shape",
            id="more variables",
        ),
        pytest.param(lambda y, v: y.pop(), "per level", id="missing level"),
    ],
)
def test_malformed_input_is_refused(change, words):
    tree = tree_of(2, 2)
    y, v = estimates_of(np.random.default_rng(0), tree, missing=0.0, exact=0.0)
    change(y, v)
    with pytest.raises(ProblemError, match=words):
        reconcile_tree(tree, y, v)
