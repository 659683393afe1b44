"""Passes over records of a neighbourhood of which most columns are zero.

A household belongs to few of many categories: of Rhode Island's 60 columns of tracts and 269 of
levels above it has 14 and 39, so that of the products x_ia x_ib in the curvature of leaf t,

    C_t,ab = sum_i v_ti x_ia x_ib ,

one in thirty is not zero. Here only what is not zero is listed, multiplied and added up, for some
leaves beside each other in memory; nothing as large as the columns or their products is kept. Sums
are taken in the order of the records.

Belongs here: those loops, and the lists they run along. Does not belong here: records that are
mostly not zero, or on a GPU (``dense_records.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from calibration_core.common.compiled import loop
from calibration_core.tree.solve.blocks import TreeBlocks

# Leaves beside each other. Of 34, 40, 48, 64 and 96 the loop over 48 takes least for each leaf
# (Rhode Island's pool of 2,548 records, 48 leaves: 66, 58, 15, 25, 32 ms); below about 44 the
# compiler unrolls it into single additions. Their sums of one own column take 126 KB.
_LEAVES = 48
# A dense product is so many times faster for each entry: of that pool's 50 million products with
# every leaf 1.7 million are not zero; these take 15 ms for 48 leaves, and all of them 56 ms.
_DENSE = 8.0
# Places in the lists are 32 bits wide.
_MOST = 2**32


class SparseRows(NamedTuple):
    """Records (n) with own columns (p) and all columns, own and above (p + e), of which only what
    is not zero is listed.

    Attributes
    ----------
    start : (p + 1,) int64: entries of own column a are start[a] to start[a + 1].
    record, first : (entries,) uint32: whose it is, and where it stands among the record's.
    ends : (n + 1,) uint32: what record i has is ends[i] to ends[i + 1].
    column, beside : (all entries,) uint16 where that is enough, else uint32; float64: record after
        record, b and x_ib.
    """

    start: np.ndarray
    record: np.ndarray
    first: np.ndarray
    ends: np.ndarray
    column: np.ndarray
    beside: np.ndarray

    @classmethod
    def of(cls, every: np.ndarray, width: int) -> SparseRows:
        """From all columns (n, p + e) float64, of which the first p = ``width`` are the leaves'."""
        own = np.count_nonzero(every[:, :width], axis=0)
        entries, partners = int(own.sum()), int(np.count_nonzero(every))
        rows = cls(
            start=np.concatenate([[0], np.cumsum(own)]).astype(np.int64),
            record=np.empty(entries, dtype=np.uint32),
            first=np.empty(entries, dtype=np.uint32),
            ends=np.zeros(len(every) + 1, dtype=np.uint32),
            column=np.empty(partners, np.uint16 if every.shape[1] < 2**16 else np.uint32),
            beside=np.empty(partners),
        )
        _list(rows, np.ascontiguousarray(every))
        return rows

    @property
    def products(self) -> int:
        """How many x_ia x_ib are added up for each leaf."""
        return int((self.ends[1:][self.record] - self.first).sum(dtype=np.int64))

    @property
    def bytes(self) -> int:
        """Held in memory."""
        return sum(part.nbytes for part in self)


def is_worth_it(every: np.ndarray, width: int, leaves: int) -> bool:
    """Whether adding up what is not zero takes less than dense products, for so many leaves taken
    together, and whether the lists can hold it; of all columns (n, p + e), of which the first p =
    ``width`` are the leaves'."""
    mine, whole = np.count_nonzero(every[:, :width], axis=1), np.count_nonzero(every, axis=1)
    if int(whole.sum()) >= _MOST:
        return False
    products = float((mine * (whole - mine) + mine * (mine + 1) // 2).sum())
    padded = -(-leaves // _LEAVES) * _LEAVES
    return products * padded * _DENSE <= float(every.size) * width * leaves


class SparseRecords:
    """The columns of a neighbourhood's records, as ``dense_records.DenseRecords`` has them."""

    def __init__(self, blocks: TreeBlocks, every: torch.Tensor) -> None:
        self._blocks, self._columns = blocks, every.shape[1]
        self.rows = SparseRows.of(every.numpy(), blocks.width)
        # Which distinct column each is; one that the levels above lack is none.
        self._place = np.full(self._columns, -1, dtype=np.int64)
        self._place[blocks.shared.numpy()] = np.arange(blocks.shared.numel())
        above = np.arange(blocks.shared.numel(), blocks.distinct)
        self._place[blocks.width :] = above

    @property
    def bytes(self) -> int:
        """Held in memory."""
        return self.rows.bytes

    def form(self) -> None:
        """Nothing is formed beforehand."""

    def exponent(self, own: torch.Tensor, above: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """u, (leaves, records): see ``DenseRecords``."""
        blocks, rates = self._blocks, own.new_zeros((own.shape[0], self._columns))
        rates[:, : blocks.width] = own
        if blocks.deep:
            each = above.repeat_interleave(torch.tensor(lengths), dim=0)
            shared = blocks.shared.numel()
            rates[:, blocks.shared] += each[:, :shared]
            rates[:, blocks.width :] = each[:, shared:]
        tiles = _beside(rates.numpy())
        out = np.empty((tiles.shape[0], self.rows.ends.size - 1, _LEAVES))
        _multiply(self.rows, tiles, out)
        return torch.from_numpy(_apart(out, own.shape[0]))

    def totals(
        self, weights: torch.Tensor, nodes: tuple[tuple[int, int, int], ...]
    ) -> tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]:
        """Totals of leaves and of the nodes above them: see ``DenseRecords``."""
        blocks, tiles = self._blocks, _beside(weights.numpy())
        out = np.empty((tiles.shape[0], self._columns, _LEAVES))
        _sum(self.rows, tiles, out)
        every = torch.from_numpy(_apart(out, weights.shape[0]))
        above = torch.cat([every[:, blocks.shared], every[:, blocks.width :]], dim=1)
        held = [(node, above[a:b].sum(dim=0)) for node, a, b in nodes]
        return every[:, : blocks.width], held if blocks.deep else []

    def curvature(self, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Curvature of the leaves: see ``DenseRecords``."""
        width, tiles = self._blocks.width, _beside(slope.numpy())
        found = np.empty((slope.shape[0], width, self._columns))
        _add_up(self.rows, tiles, found)
        every = torch.from_numpy(found)
        own = every[:, :, :width]
        lower = torch.tril(own.mT, diagonal=-1)
        own = torch.triu(own) + lower
        return own, every[:, :, width:] if self._columns > width else None

    def border(self, slope: torch.Tensor) -> torch.Tensor:
        """Curvature of columns that only levels above have: see ``DenseRecords``."""
        out = np.zeros((self._blocks.beyond, self._blocks.distinct))
        _add_border(self.rows, slope.numpy(), self._place, self._blocks.width, out)
        return torch.from_numpy(out)


def _beside(values: np.ndarray) -> np.ndarray:
    """(leaves, m) as (tiles, m, leaves of a tile), those that are none zero."""
    leaves, m = values.shape
    out = np.zeros((-(-leaves // _LEAVES), m, _LEAVES))
    for number, tile in enumerate(out):
        part = values[number * _LEAVES : (number + 1) * _LEAVES]
        tile[:, : len(part)] = part.T
    return out


def _apart(tiles: np.ndarray, leaves: int) -> np.ndarray:
    """The other way round."""
    out = np.empty((leaves, tiles.shape[1]))
    for number, tile in enumerate(tiles):
        part = out[number * _LEAVES : (number + 1) * _LEAVES]
        part[:] = tile[:, : len(part)].T
    return out


@loop
def _list(rows: SparseRows, every: np.ndarray) -> None:
    """Fill the lists of ``rows``, record after record."""
    at, width, partner = rows.start[:-1].copy(), rows.start.size - 1, 0
    for i in range(every.shape[0]):
        for b in range(every.shape[1]):
            x = every[i, b]
            if x != 0.0:
                if b < width:
                    k = at[b]
                    rows.record[k], rows.first[k] = i, partner
                    at[b] += 1
                rows.column[partner], rows.beside[partner] = b, x
                partner += 1
        rows.ends[i + 1] = partner


@loop
def _multiply(rows: SparseRows, rates: np.ndarray, out: np.ndarray) -> None:
    """out[tile, i] = sum_b x_ib rates[tile, b]."""
    for tile in range(out.shape[0]):
        for i in range(out.shape[1]):
            sums = out[tile, i]
            sums[:] = 0.0
            for m in range(rows.ends[i], rows.ends[i + 1]):
                x, rate = rows.beside[m], rates[tile, rows.column[m]]
                for t in range(_LEAVES):
                    sums[t] += x * rate[t]


@loop
def _sum(rows: SparseRows, weights: np.ndarray, out: np.ndarray) -> None:
    """out[tile, b] = sum_i x_ib weights[tile, i]."""
    out[:] = 0.0
    for tile in range(out.shape[0]):
        for i in range(weights.shape[1]):
            weight = weights[tile, i]
            for m in range(rows.ends[i], rows.ends[i + 1]):
                x, sums = rows.beside[m], out[tile, rows.column[m]]
                for t in range(_LEAVES):
                    sums[t] += x * weight[t]


@loop
def _add_up(rows: SparseRows, slope: np.ndarray, out: np.ndarray) -> None:
    """out[t, a, b] = sum_i slope_ti x_ia x_ib for b of the leaves' from a on, and all above."""
    leaves, width, columns = out.shape
    held, times = np.empty((columns, _LEAVES)), np.empty(_LEAVES)
    for tile in range(slope.shape[0]):
        begin = tile * _LEAVES
        count = min(_LEAVES, leaves - begin)
        for a in range(width):
            held[:] = 0.0
            for k in range(rows.start[a], rows.start[a + 1]):
                i = rows.record[k]
                x, here = rows.beside[rows.first[k]], slope[tile, i]
                for t in range(_LEAVES):
                    times[t] = x * here[t]
                for m in range(rows.first[k], rows.ends[i + 1]):
                    y, sums = rows.beside[m], held[rows.column[m]]
                    for t in range(_LEAVES):
                        sums[t] += y * times[t]
            for t in range(count):
                for b in range(columns):
                    out[begin + t, a, b] = held[b, t]


@loop
def _add_border(
    rows: SparseRows, slope: np.ndarray, place: np.ndarray, width: int, out: np.ndarray
) -> None:
    """out[b - width, place of c] += sum_i slope_i x_ib x_ic for columns b that only levels above
    have, and all c that they have from b on or share with the leaves."""
    for i in range(slope.size):
        begin, end = rows.ends[i], rows.ends[i + 1]
        beyond = begin
        while beyond < end and rows.column[beyond] < width:
            beyond += 1
        for m in range(beyond, end):
            x, sums = slope[i] * rows.beside[m], out[rows.column[m] - width]
            for k in range(begin, beyond):
                c = place[rows.column[k]]
                if c >= 0:
                    sums[c] += x * rows.beside[k]
            for k in range(m, end):
                sums[place[rows.column[k]]] += x * rows.beside[k]
