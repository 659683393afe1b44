"""Keeping rare targets alive through selection: every target above the leaves that the dense solution met keeps at least one pair.

A draw of k pairs can miss a rare variable altogether (28 persons of one race in a county), and no refit can then reach its
target. Each such target gets one pair back: of the pairs that contribute to it, the one that carries most of it in the dense
solution replaces the drawn pair of the same leaf with the smallest dense weight that was not itself exchanged. k does not change.

Belongs here: the exchange. Does not belong here: the draw itself (``selection.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration_core.geography import GeographyTree
from calibration_core.selection import Selection


def ensure_support(selection: Selection, dense: np.ndarray, tree: GeographyTree, designs: Sequence[np.ndarray], used: Sequence[np.ndarray]) -> Selection:
    """Exchange pairs until every target above the leaves has a contributing pair.

    Parameters
    ----------
    selection : the draw.
    dense : (leaves, records) dense weights.
    designs : per level, top first, (records, variables).
    used : per level, (areas, variables) bool: which targets count.

    Returns
    -------
    The selection after the exchanges, with ``rescued`` and ``without_support`` filled, as (depth, area, variable) each. A rescued pair
    starts with the weight that gives the target its dense total, at most the sum of its leaf's smaller half of weights; the other pairs
    of the leaf are scaled so that the leaf keeps its total.
    """
    leaf, record, weight, probability = selection.leaf.copy(), selection.record.copy(), selection.weight.copy(), selection.probability.copy()
    rescued: list[tuple[int, int, int]] = []
    lost: list[tuple[int, int, int]] = []
    protected = np.zeros(leaf.size, dtype=bool)
    for depth in range(len(tree.levels) - 1):
        design, above = designs[depth], tree.ancestor_of_leaves(depth)
        held = np.zeros(used[depth].shape, dtype=bool)
        np.logical_or.at(held, above[leaf], design[record] != 0)
        for area, variable in zip(*np.nonzero(used[depth] & ~held), strict=True):
            leaves = np.flatnonzero(above == area)
            contribution = dense[leaves] * design[:, variable][None, :]
            total = contribution.sum()
            taken = {(int(t), int(h)) for t, h in zip(leaf, record, strict=True) if above[t] == area}
            order = np.argsort(-np.abs(contribution), axis=None, kind="stable")[:50]
            place = _exchange(leaf, record, dense[leaf, record], protected, leaves, contribution, order, taken)
            key = (int(depth), int(area), int(variable))
            if place is None:
                lost.append(key)
                continue
            position, target_leaf, target_record = place
            same = (leaf == target_leaf) & (np.arange(leaf.size) != position)
            wanted = total / design[target_record, variable]
            limit = np.sort(weight[same])[: max(1, int(same.sum()) // 2)].sum() if same.any() else wanted
            gained = float(np.clip(wanted, weight[position] * 1e-3, max(limit, weight[position])))
            others = float(weight[same].sum())
            if others + weight[position] > gained:
                weight[same] *= (others + weight[position] - gained) / others
            record[position], weight[position], probability[position] = target_record, gained, 1.0
            protected[position] = True
            rescued.append(key)
    order = np.lexsort((record, leaf))
    return replace(
        selection,
        leaf=leaf[order],
        record=record[order],
        weight=weight[order],
        probability=probability[order],
        rescued=tuple(rescued),
        without_support=tuple(lost),
    )


def _exchange(leaf, record, size, protected, leaves, contribution, order, taken) -> tuple[int, int, int] | None:
    """Position to give up, leaf and record to take, for the most contributing pair whose leaf has an unprotected pair to spare.

    ``size`` is each pair's dense weight: starting weights tie within a leaf, and their last bits must not decide.
    """
    for flat in order:
        row, candidate = np.unravel_index(flat, contribution.shape)
        if contribution[row, candidate] == 0 or (int(leaves[row]), int(candidate)) in taken:
            continue
        spare = np.flatnonzero((leaf == leaves[row]) & ~protected)
        if spare.size > 1:
            return int(spare[np.argmin(size[spare])]), int(leaves[row]), int(candidate)
    return None
