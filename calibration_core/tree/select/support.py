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

# Candidates that are tried for a target, and those of a block that are looked at where an area has
# many leaves: nearly always the first has a place to take.
_TRIED, _LOOKED_AT = 50, 200
# Pairs whose rows are looked at together.
_PAIRS = 20_000


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
        self.dense, self.designs, self.used = pool.weights, pool.targets.designs, used
        self.above = [pool.tree.ancestor_of_leaves(depth) for depth in range(len(pool.tree.levels))]
        self.counts = []
        for depth, design in enumerate(self.designs):
            count, area = np.zeros(used[depth].shape, dtype=np.int64), self.above[depth][self.leaf]
            for begin in range(0, area.size, _PAIRS):
                some = slice(begin, begin + _PAIRS)
                np.add.at(count, area[some], (design[self.record[some]] != 0).astype(np.int64))
            self.counts.append(count)
        self.drawn = set(zip(self.leaf.tolist(), self.record.tolist(), strict=True))
        self.exchanged = np.zeros(self.leaf.size, dtype=bool)

    def rescue(self, depth: int, area: int, variable: int) -> bool:
        """Give the target a pair; False if no leaf of the area has both a candidate and a pair to
        spare.
        """
        leaves, column = np.flatnonzero(self.above[depth] == area), self.designs[depth][:, variable]
        total, found = self.contributions(leaves, column)
        leaf, candidate, size = found
        finest = len(self.designs) - 1
        if leaves.size == 1:
            missing = self.used[finest][leaves[0]] & (self.counts[finest][leaves[0]] == 0)
            serves = (self.designs[finest][candidate][:, missing] != 0).sum(axis=1)
        else:
            serves = np.zeros(size.size)
        for i in np.lexsort((candidate, leaf, -size, -serves))[:_TRIED]:
            position = self.spare(int(leaf[i]))
            if position is not None:
                self.exchange(position, int(candidate[i]), total / float(column[candidate[i]]))
                return True
        return False

    def contributions(
        self, leaves: np.ndarray, column: np.ndarray
    ) -> tuple[float, tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """The dense total of a variable over some leaves, and its candidates there that are not
        drawn: leaf, record, and the size of what they add. Of each block the largest few.
        """
        block_of, row_of = self.dense.place
        total, found = 0.0, []
        for number in np.unique(block_of[leaves]):
            block = self.dense.read(int(number))
            here = leaves[block_of[leaves] == number]
            having = np.flatnonzero(column[block.record])
            weight = block.weight[row_of[here]][:, having]
            added = weight * column[block.record[having]].astype(np.float64)
            total += float(added.sum())
            size = np.abs(added).ravel()
            if leaves.size > 1 and size.size > _LOOKED_AT:
                order = np.argsort(-size, kind="stable")[:_LOOKED_AT]
            else:
                order = np.arange(size.size)
            row, place = np.unravel_index(order, weight.shape)
            found.append((here[row], block.record[having[place]], size[order]))
        leaf, record, size = (np.concatenate(part) for part in zip(*found, strict=True))
        pairs = zip(leaf.tolist(), record.tolist(), strict=True)
        free = np.fromiter((pair not in self.drawn for pair in pairs), dtype=bool, count=leaf.size)
        free &= size > 0
        return total, (leaf[free], record[free], size[free])

    def spare(self, leaf: int) -> int | None:
        """The pair of a leaf with the smallest dense weight that no target depends on alone and
        that is not itself an exchanged one.
        """
        here = np.flatnonzero((self.leaf == leaf) & ~self.exchanged)
        if here.size < 2:
            return None
        alone = np.zeros(here.size, dtype=bool)
        for depth, design in enumerate(self.designs):
            area = self.above[depth][leaf]
            single = np.flatnonzero(self.used[depth][area] & (self.counts[depth][area] == 1))
            alone |= (design[:, single][self.record[here]] != 0).any(axis=1)
        here = here[~alone]
        # Starting weights tie within a leaf; dense weights are rounded, and of equals the first is
        # taken, so that the last bit of a sum cannot decide.
        if not here.size:
            return None
        dense = self.dense.at(np.full(here.size, leaf), self.record[here])
        return int(here[np.argmin(dense)])

    def exchange(self, position: int, candidate: int, wanted: float) -> None:
        leaf, given_up = int(self.leaf[position]), int(self.record[position])
        for depth, design in enumerate(self.designs):
            comes, goes = design[np.array([candidate, given_up])] != 0
            self.counts[depth][self.above[depth][leaf]] += comes.astype(np.int64) - goes
        self.drawn.discard((leaf, given_up))
        self.drawn.add((leaf, candidate))
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
