"""Design rows of the pairs of some leaves of which most entries are zero, as lists of the others.

A household belongs to few of many categories: of the 425 columns that a refit of Rhode Island's
pairs has, 92 of them the tracts' own, a record fills 53. What is computed is that of
``pair_rows.py``; products run along the lists. What a leaf leaves for its parents is taken as

    U' (r T r) U ,   T = I - V' V ,  V = L^-1 B' ,  M = L L' ;   T = tau K^-1  by pairs ,

n x n in the middle, so that nothing is as large as own columns times those above: of a leaf of 120
pairs 3 million products for 22. Where a leaf has many pairs, U' U less the square of L^-1 B' U, as
of matrices.

Sums are taken in the order of the pairs, whatever the other leaves are.

Belongs here: loops along the lists. Does not belong here: the lists (``common/lists.py``), rows
that are mostly not zero, or on a GPU (``pair_rows.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch

from calibration_core.common.compiled import loop, part
from calibration_core.common.lists import Lists
from calibration_core.tree.solve.leaf_systems import LeafSystems
from calibration_core.tree.solve.pair_rows import Nodes, Taken
from calibration_core.tree.solve.small_matrices import left_solve, upper_gram

# Largest share of entries that are not zero. To eliminate a leaf of 120 pairs, 92 own columns and
# 425 above takes 1.2 ms by lists and 3.1 by matrices where an eighth is not zero, 1.7 and 3.2 where
# a quarter is, 2.7 and 3.0 where half is; with 600 pairs, 40 and 100 columns 1.2 and 1.0 at a
# quarter.
MOST_FILLED = 0.25
# Rows and columns turned together: 2 KB.
_TILE = 16


class Both(NamedTuple):
    """Lists of own columns, and of those of the levels above by their place among these."""

    own: Lists
    above: Lists

    @property
    def bytes(self) -> int:
        """Held in memory."""
        return self.own.bytes + self.above.bytes


@dataclass(frozen=True, eq=False)
class ListedRows:
    """Rows as lists.

    Attributes
    ----------
    find : gives the lists: kept, or made anew each time.
    index : (L, n) int32 into the lists' records, -1 where there is no pair.
    width, distinct : p and e.
    """

    find: Callable[[], Both]
    index: np.ndarray
    width: int
    distinct: int

    def loaded(self) -> ListedRows:
        both = self.find()
        return ListedRows(lambda: both, self.index, self.width, self.distinct)

    def take(self, which: torch.Tensor) -> ListedRows:
        return ListedRows(self.find, self.index[which.numpy()], self.width, self.distinct)

    def own_u(self, x: torch.Tensor) -> torch.Tensor:
        return self._u(self.find().own, x)

    def above_u(self, z: torch.Tensor) -> torch.Tensor:
        return self._u(self.find().above, z)

    def own_totals(self, v: torch.Tensor) -> torch.Tensor:
        return self._totals(self.find().own, v, self.width)

    def above_totals(self, v: torch.Tensor) -> torch.Tensor:
        return self._totals(self.find().above, v, self.distinct)

    def _u(self, lists: Lists, rates: torch.Tensor) -> torch.Tensor:
        out = np.empty(self.index.shape)
        _multiply(lists, self.index, _array(rates), out)
        return torch.from_numpy(out)

    def _totals(self, lists: Lists, v: torch.Tensor, width: int) -> torch.Tensor:
        out = np.zeros((self.index.shape[0], width))
        _add(lists, self.index, _array(v), out)
        return torch.from_numpy(out)

    def curvature(self, slope: torch.Tensor) -> torch.Tensor:
        out = np.zeros((self.index.shape[0], self.width, self.width))
        _add_squares(self.find().own, self.index, _array(slope), out)
        lower = torch.from_numpy(out)
        return lower + torch.tril(lower, -1).mT

    def own(self) -> torch.Tensor:
        out = np.zeros((*self.index.shape, self.width))
        _write(self.find().own, self.index, out)
        return torch.from_numpy(out)

    def taken(
        self, systems: LeafSystems, inverse: torch.Tensor, slope: torch.Tensor, nodes: Nodes
    ) -> list[Taken]:
        both, e = self.find(), self.distinct
        few = systems.by_pairs or self._are_few(both.above)
        between = self._between(systems, inverse, slope) if few else None
        if between is None:
            cross = np.zeros((self.index.shape[0], self.width, e))
            _add_cross(both.own, both.above, self.index, _array(slope), cross)
            half = left_solve(systems.lower, torch.from_numpy(cross).mul_(inverse[:, :, None]))
        taken = []
        for node, a, b in nodes:
            if between is not None:
                block = np.zeros((e, e))
                _add_between(both.above, self.index[a:b], _array(between[a:b]), block)
            else:
                block = upper_gram(half[a:b].reshape(-1, e)).numpy()
                _add_above(both.above, self.index[a:b], _array(-slope[a:b]), block)
            taken.append((node, torch.from_numpy(block)))
        return taken

    def _are_few(self, above: Lists) -> bool:
        """Whether the form with n x n takes fewer products than that with the leaves' variables. Of
        92 own columns and 425 above both take as long at 300 pairs, of 40 and 100 at 80.
        """
        n, p, e = self.index.shape[1], self.width, self.distinct
        filled = above.entry.size / max(above.ends.size - 1, 1)
        return n * n * (p + filled) <= p * e * (p + 0.5 * e)

    def _between(
        self, systems: LeafSystems, inverse: torch.Tensor, slope: torch.Tensor
    ) -> torch.Tensor:
        """- r T r, (L, n, n)."""
        n, root = self.index.shape[1], slope.sqrt()
        one = torch.eye(n, dtype=slope.dtype).expand(slope.shape[0], n, n)
        if systems.by_pairs:
            half = torch.linalg.solve_triangular(systems.lower, one, upper=False)
            between = torch.bmm(half.mT, half).mul_(-systems.ridge)
        else:
            rows = self.own().mul_(root[:, :, None]).mul_(inverse[:, None, :])
            half = left_solve(systems.lower, rows.mT)
            between = torch.baddbmm(one, half.mT, half, beta=-1.0)
        return between.mul_(root[:, :, None]).mul_(root[:, None, :])


def _array(values: torch.Tensor) -> np.ndarray:
    return values.contiguous().numpy()


@loop
def _multiply(lists: Lists, index: np.ndarray, rates: np.ndarray, out: np.ndarray) -> None:
    """out[t, s] = sum_b x_b rates[t, b] of the record of pair s in leaf t."""
    for t in range(index.shape[0]):
        rate = rates[t]
        for s in range(index.shape[1]):
            i, total = index[t, s], 0.0
            if i >= 0:
                for m in range(lists.ends[i], lists.ends[i + 1]):
                    total += lists.entry[m] * rate[lists.column[m]]
            out[t, s] = total


@loop
def _add(lists: Lists, index: np.ndarray, values: np.ndarray, out: np.ndarray) -> None:
    """out[t, b] += sum_s values[t, s] x_b."""
    for t in range(index.shape[0]):
        sums = out[t]
        for s in range(index.shape[1]):
            i, value = index[t, s], values[t, s]
            if i >= 0:
                for m in range(lists.ends[i], lists.ends[i + 1]):
                    sums[lists.column[m]] += value * lists.entry[m]


@loop
def _add_squares(lists: Lists, index: np.ndarray, slope: np.ndarray, out: np.ndarray) -> None:
    """out[t, a, b] += sum_s slope[t, s] x_a x_b for b up to a."""
    for t in range(index.shape[0]):
        for s in range(index.shape[1]):
            i, value = index[t, s], slope[t, s]
            if i >= 0:
                begin = lists.ends[i]
                for m in range(begin, lists.ends[i + 1]):
                    x, sums = value * lists.entry[m], out[t, lists.column[m]]
                    for k in range(begin, m + 1):
                        sums[lists.column[k]] += x * lists.entry[k]


@loop
def _add_above(lists: Lists, index: np.ndarray, slope: np.ndarray, out: np.ndarray) -> None:
    """out[a, b] += sum_ts slope[t, s] x_a x_b for b from a on."""
    for t in range(index.shape[0]):
        for s in range(index.shape[1]):
            i, value = index[t, s], slope[t, s]
            if i >= 0:
                end = lists.ends[i + 1]
                for m in range(lists.ends[i], end):
                    x, sums = value * lists.entry[m], out[lists.column[m]]
                    for k in range(m, end):
                        sums[lists.column[k]] += x * lists.entry[k]


@loop
def _add_cross(
    own: Lists, above: Lists, index: np.ndarray, slope: np.ndarray, out: np.ndarray
) -> None:
    """out[t, a, b] += sum_s slope[t, s] x_a y_b with x of own columns, y of those above."""
    for t in range(index.shape[0]):
        for s in range(index.shape[1]):
            i, value = index[t, s], slope[t, s]
            if i >= 0:
                for m in range(own.ends[i], own.ends[i + 1]):
                    x, sums = value * own.entry[m], out[t, own.column[m]]
                    for k in range(above.ends[i], above.ends[i + 1]):
                        sums[above.column[k]] += x * above.entry[k]


@loop
def _write(lists: Lists, index: np.ndarray, out: np.ndarray) -> None:
    """out[t, s, b] = x_b."""
    for t in range(index.shape[0]):
        for s in range(index.shape[1]):
            i = index[t, s]
            if i >= 0:
                for m in range(lists.ends[i], lists.ends[i + 1]):
                    out[t, s, lists.column[m]] = lists.entry[m]


@part
def _by_column(
    lists: Lists, index: np.ndarray, first: np.ndarray, pair: np.ndarray, times: np.ndarray
) -> None:
    """Entries of a leaf's pairs by column: those of column b are first[b] to first[b + 1]."""
    first[:] = 0
    for i in index:
        if i >= 0:
            for m in range(lists.ends[i], lists.ends[i + 1]):
                first[lists.column[m] + 1] += 1
    for b in range(1, first.size):
        first[b] += first[b - 1]
    # While they are filled in, first[b] is where the next of column b goes.
    for s in range(index.size):
        i = index[s]
        if i >= 0:
            for m in range(lists.ends[i], lists.ends[i + 1]):
                at = first[lists.column[m]]
                pair[at], times[at] = s, lists.entry[m]
                first[lists.column[m]] += 1
    for b in range(first.size - 1, 0, -1):
        first[b] = first[b - 1]
    first[0] = 0


@part
def _add_rows(
    pair: np.ndarray, times: np.ndarray, rows: np.ndarray, begin: int, out: np.ndarray
) -> None:
    """out += sum of times x rows[pair, begin:]: four at once, so that ``out`` is read less often;
    all indices from zero on, without which the compiler does not take entries together.
    """
    at = 0
    while at + 3 < pair.size:
        x0, x1, x2, x3 = times[at], times[at + 1], times[at + 2], times[at + 3]
        row0, row1 = rows[pair[at], begin:], rows[pair[at + 1], begin:]
        row2, row3 = rows[pair[at + 2], begin:], rows[pair[at + 3], begin:]
        for c in range(out.size):
            out[c] += x0 * row0[c] + x1 * row1[c] + x2 * row2[c] + x3 * row3[c]
        at += 4
    while at < pair.size:
        x, row = times[at], rows[pair[at], begin:]
        for c in range(out.size):
            out[c] += x * row[c]
        at += 1


@part
def _turn(rows: np.ndarray, out: np.ndarray) -> None:
    """out = rows', a tile at a time."""
    for a in range(0, rows.shape[0], _TILE):
        for b in range(0, rows.shape[1], _TILE):
            for c in range(a, min(rows.shape[0], a + _TILE)):
                for s in range(b, min(rows.shape[1], b + _TILE)):
                    out[s, c] = rows[c, s]


@loop
def _add_between(lists: Lists, index: np.ndarray, between: np.ndarray, out: np.ndarray) -> None:
    """out[b, c] += sum_tij x_ib between[t, i, j] x_jc for c from b on, of pairs i and j of leaf t:
    first the sums over j, for every c and i, then those over i.
    """
    n, e = index.shape[1], out.shape[0]
    turned, sums, most = np.empty((e, n)), np.empty((n, e)), 0
    for i in range(lists.ends.size - 1):
        most = max(most, lists.ends[i + 1] - lists.ends[i])
    first, pair, times = np.empty(e + 1, np.int64), np.empty(n * most, np.int64), np.empty(n * most)
    for t in range(index.shape[0]):
        _by_column(lists, index[t], first, pair, times)
        turned[:] = 0.0
        for c in range(e):
            some = slice(first[c], first[c + 1])
            _add_rows(pair[some], times[some], between[t], 0, turned[c])
        _turn(turned, sums)
        for b in range(e):
            some = slice(first[b], first[b + 1])
            _add_rows(pair[some], times[some], sums, b, out[b, b:])
