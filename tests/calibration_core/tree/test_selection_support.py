"""A target that lost every contributing pair gets one back, and k stays.

Belongs here: ``ensure_support``. Does not belong here: the draw (``test_selection.py``).
"""

import numpy as np

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.select.pairs import select_pairs
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import SelectionSettings
from calibration_core.tree.select.support import ensure_support
from tests.calibration_core.tree.selection_case import plain


def rare_pool() -> Pool:
    """Two counties of two tracts; one record of 60 carries a rare trait, with little weight
    everywhere.
    """
    rng = np.random.default_rng(11)
    dense = rng.random((4, 60)) + 1.0
    dense[:, 59] = 1e-3
    design = np.zeros((60, 2))
    design[:, 0] = 1.0
    design[59, 1] = 2.0
    areas = [["a", "a", "b", "b"], ["a1", "a2", "b1", "b2"]]
    return with_design(dense, design, areas)


def with_design(dense: np.ndarray, design: np.ndarray, areas: list[list[str]]) -> Pool:
    """A pool whose every level has ``design``; values of targets do not matter."""
    tree = GeographyTree.from_leaves(["county", "tract"][-len(areas) :], areas)
    shapes = [(size, design.shape[1]) for size in tree.sizes]
    ones = [np.ones(shape) for shape in shapes]
    targets = make_targets(tree, [design] * len(shapes), ones, ones)
    records = dense.shape[1]
    cell, order = np.zeros(records, dtype=int), np.arange(float(records))
    return Pool(tree, targets, dense, cell, order, np.zeros((records, 0)))


def test_a_rare_target_gets_one_pair_back_and_k_stays():
    pool = rare_pool()
    drawn = select_pairs(pool, SelectionSettings(40, seed=1, floor=1))
    assert 59 not in drawn.record
    used = [np.ones((2, 2), dtype=bool), np.array([[True, False]] * 4)]
    kept = ensure_support(drawn, pool, used)
    assert kept.leaf.size == 40
    assert len(set(zip(kept.leaf.tolist(), kept.record.tolist(), strict=True))) == 40
    assert kept.rescued == ((0, 0, 1), (0, 1, 1))
    assert kept.without_support == ()
    counties = pool.tree.ancestor_of_leaves(0)
    assert {int(counties[t]) for t in kept.leaf[kept.record == 59]} == {0, 1}
    assert (kept.weight > 0).all()
    assert np.allclose(np.bincount(kept.leaf, kept.weight), pool.totals)


def test_nothing_is_exchanged_where_every_target_has_a_pair():
    pool = rare_pool()
    drawn = select_pairs(pool, SelectionSettings(40, seed=1, floor=1))
    same = ensure_support(drawn, pool, [np.array([[True, False]] * n) for n in (2, 4)])
    assert same.rescued == ()
    assert same.record.tolist() == drawn.record.tolist()
    assert same.weight.tolist() == drawn.weight.tolist()


def test_a_hamlet_is_not_split_into_crumbs_unless_the_budget_asks_for_it():
    pool = plain(np.array([[0.5, 1.5, 1.0] + [0.05] * 37, [30.0] * 40]))
    counts = [
        select_pairs(pool, SelectionSettings(pairs, seed=1, floor=20)).pairs_per_area.tolist()
        for pairs in (30, 80)
    ]
    assert counts == [[4, 26], [40, 40]]


def test_leaf_targets_are_rescued_too_and_never_at_the_cost_of_another():
    """Eight rare traits, one record each, in areas of twelve pairs: all get a pair, and no exchange
    takes away the last of another.
    """
    rng = np.random.default_rng(2)
    dense = rng.random((3, 80)) + 0.5
    dense[:, 70:78] = 1e-3
    design = np.zeros((80, 9))
    design[:, 0] = 1.0
    design[np.arange(70, 78), np.arange(1, 9)] = 1.0
    pool = with_design(dense, design, [["a", "a", "b"], ["a1", "a2", "b1"]])
    drawn = select_pairs(pool, SelectionSettings(36, seed=3, floor=12))
    kept = ensure_support(drawn, pool, [np.ones((2, 9), dtype=bool), np.ones((3, 9), dtype=bool)])
    assert kept.leaf.size == 36
    assert kept.pairs_per_area.tolist() == np.bincount(kept.leaf).tolist()
    for leaf in range(3):
        assert (design[kept.record[kept.leaf == leaf]] != 0).any(axis=0).all()
    assert kept.without_support == ()


def test_more_rare_targets_than_pairs_are_reported():
    pool = with_design(np.full((1, 6), 1.0), np.eye(6), [["a"]])
    drawn = select_pairs(pool, SelectionSettings(3, seed=3, floor=1))
    kept = ensure_support(drawn, pool, [np.ones((1, 6), dtype=bool)])
    assert kept.record.size == 3
    assert len(kept.without_support) == 3
