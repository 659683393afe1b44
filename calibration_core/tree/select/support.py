"""Keeping rare targets alive through selection: every target worth it keeps at least one
contributing pair.

A draw of k pairs can miss a rare variable altogether (28 persons of one race in a county, the
people over 80 of a tract), and no refit can then reach its target. Each such target gets one pair
back. A candidate that contributes to it takes the place of a drawn pair of the same leaf that no
target depends on alone. The candidate is one that serves the most missing targets of its leaf, then
the one with the largest dense weight; the pair is the one with the smallest dense weight. k does
not change.

Belongs here: the exchange. Does not belong here: the draw itself (``tree/select/pairs.py``), or
which targets are worth it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from calibration_core.tree.select.pairs import Selection
from calibration_core.tree.select.pool import Pool


def ensure_support(selection: Selection, pool: Pool, used: Sequence[np.ndarray]) -> Selection:
    """Exchange pairs until every target in ``used`` has a contributing pair, coarsest level first.

    Parameters
    ----------
    selection : the draw.
    used : per level, (areas, variables) bool: which targets must keep a pair.

    Returns
    -------
    The selection after the exchanges, with ``rescued`` (added to those of an earlier call) and
    ``without_support`` filled, as (depth, area, variable) each. A rescued pair starts with the
    weight that gives the target its dense total, at most the sum of its leaf's smaller half of
    weights; the other pairs of the leaf are scaled so that the leaf keeps its total.
    """
    state = _Exchange(selection, pool, used)
    rescued: list[tuple[int, int, int]] = []
    lost: list[tuple[int, int, int]] = []
    for depth in range(len(pool.tree.levels)):
        for area, variable in zip(
            *np.nonzero(used[depth] & (state.counts[depth] == 0)), strict=True
        ):
            if state.counts[depth][area, variable]:
                continue  # an exchange made for another target has served this one too
            key = (int(depth), int(area), int(variable))
            (rescued if state.rescue(*key) else lost).append(key)
    order = np.lexsort((state.record, state.leaf))
    return replace(
        selection,
        leaf=state.leaf[order],
        record=state.record[order],
        weight=state.weight[order],
        probability=state.probability[order],
        rescued=tuple(dict.fromkeys([*selection.rescued, *rescued])),
        without_support=tuple(lost),
    )


class _Exchange:
    """The pairs as they stand, and for every target how many of them contribute."""

    def __init__(self, selection: Selection, pool: Pool, used: Sequence[np.ndarray]) -> None:
        self.leaf, self.record = selection.leaf.copy(), selection.record.copy()
        self.weight, self.probability = selection.weight.copy(), selection.probability.copy()
        self.dense, self.designs, self.used = pool.dense, pool.targets.designs, used
        self.touches = [design != 0 for design in self.designs]
        self.above = [pool.tree.ancestor_of_leaves(depth) for depth in range(len(pool.tree.levels))]
        self.counts = []
        for depth, touch in enumerate(self.touches):
            count = np.zeros(used[depth].shape, dtype=np.int64)
            np.add.at(count, self.above[depth][self.leaf], touch[self.record].astype(np.int64))
            self.counts.append(count)
        self.drawn = np.zeros(pool.dense.shape, dtype=bool)
        self.drawn[self.leaf, self.record] = True
        self.exchanged = np.zeros(self.leaf.size, dtype=bool)

    def rescue(self, depth: int, area: int, variable: int) -> bool:
        """Give the target a pair; False if no leaf of the area has both a candidate and a pair to
        spare.
        """
        leaves = np.flatnonzero(self.above[depth] == area)
        contribution = np.abs(self.dense[leaves] * self.designs[depth][:, variable][None, :])
        contribution[self.drawn[leaves]] = 0.0
        total = float(self.dense[leaves].sum(axis=0) @ self.designs[depth][:, variable])
        finest = len(self.designs) - 1
        missing = self.used[finest] & (self.counts[finest] == 0)
        serves = (
            (self.touches[finest][None, :, :] & missing[leaves][:, None, :]).sum(axis=2)
            if leaves.size == 1
            else np.zeros(contribution.shape)
        )
        ranked = np.lexsort((-contribution.ravel(), -serves.ravel()))
        for flat in ranked[np.isin(ranked, np.flatnonzero(contribution.ravel() > 0))][:50]:
            row, candidate = np.unravel_index(flat, contribution.shape)
            position = self.spare(int(leaves[row]))
            if position is not None:
                self.exchange(
                    position, int(candidate), total / self.designs[depth][candidate, variable]
                )
                return True
        return False

    def spare(self, leaf: int) -> int | None:
        """The pair of a leaf with the smallest dense weight that no target depends on alone and
        that is not itself an exchanged one.
        """
        here = np.flatnonzero((self.leaf == leaf) & ~self.exchanged)
        if here.size < 2:
            return None
        alone = np.zeros(here.size, dtype=bool)
        for depth, touch in enumerate(self.touches):
            area = self.above[depth][leaf]
            single = self.used[depth][area] & (self.counts[depth][area] == 1)
            alone |= (touch[self.record[here]] & single[None, :]).any(axis=1)
        here = here[~alone]
        # Starting weights tie within a leaf; dense weights are rounded, and of equals the first is
        # taken, so that the last bit of a sum cannot decide.
        return int(here[np.argmin(self.dense[leaf, self.record[here]])]) if here.size else None

    def exchange(self, position: int, candidate: int, wanted: float) -> None:
        leaf, given_up = int(self.leaf[position]), int(self.record[position])
        for depth, touch in enumerate(self.touches):
            area = self.above[depth][leaf]
            self.counts[depth][area] += touch[candidate].astype(np.int64) - touch[given_up].astype(
                np.int64
            )
        self.drawn[leaf, given_up], self.drawn[leaf, candidate] = False, True
        same = (self.leaf == leaf) & (np.arange(self.leaf.size) != position)
        limit = float(np.sort(self.weight[same])[: max(1, int(same.sum()) // 2)].sum())
        gained = float(
            np.clip(abs(wanted), self.weight[position] * 1e-3, max(limit, self.weight[position]))
        )
        others = float(self.weight[same].sum())
        if others + self.weight[position] > gained:
            self.weight[same] *= (others + self.weight[position] - gained) / others
        self.record[position], self.weight[position], self.probability[position] = (
            candidate,
            gained,
            1.0,
        )
        self.exchanged[position] = True
