"""What is computed of the records of a neighbourhood: columns, and curvatures of its leaves.

The curvature of a leaf's own variables is one large product for all leaves of a neighbourhood,

    sum_i v_ti x_ia x_ib  =  (V G)_t,ab     with G_i,ab = x_ia x_ib formed once for the records,

which turns many small products into one large one and uses their symmetry. Forming G pays where
many leaves share it; for a few leaves each one's own product is taken.

Belongs here: those products, how many neighbourhoods' are kept. Does not belong here: passes over
leaves (``pool_blocks.py``).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cached_property

import numpy as np
import torch

from calibration_core.common.memory import kept_bytes
from calibration_core.common.threads import workers
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.blocks import TreeBlocks

# Most that the products of a neighbourhood may occupy, in bytes.
_BYTES = 400_000_000
# Products of columns are kept sparse where fewer than this share of them is not zero: a dense
# product is that much faster an entry.
_SPARSE = 0.03
# Records whose products with columns above are formed together.
_RECORDS = 512


class RecordPool:
    """Records of one neighbourhood.

    Attributes
    ----------
    own, extra, columns : (records, variables) float64 columns of the leaves, those that only levels
        above have, and the distinct ones of the levels above.
    prior : (records,) float64 prior weight with its expansion; ``group`` (records,) int64.
    plain : whether all records are of group 0.
    """

    def __init__(self, blocks: TreeBlocks, problem: PoolProblem, number: int) -> None:
        near = problem.near
        record, expansion = near.record[number], near.expansion[number]
        every = blocks.rows(slice(None) if record.size == problem.record_prior.size else record)
        self._blocks, self.records, self.width = blocks, int(record.size), blocks.width
        self.own, self.extra = every[:, : self.width].contiguous(), every[:, self.width :]
        self.columns = torch.cat([self.own[:, blocks.shared], self.extra], dim=1)
        self.prior = blocks.send(problem.record_prior[record] * expansion / blocks.unit)
        self.group = torch.as_tensor(problem.group[record], device=blocks.device)
        self.plain = not torch.any(self.group != 0)

    @property
    def bytes(self) -> int:
        """What it holds at the most."""
        above = self.extra.shape[1]
        square, couple = self.width * (self.width + 1) // 2 * 8, self.width * above * 4
        limited = min(self.records * square, _BYTES) + min(self.records * couple, _BYTES)
        return limited + self.records * 8 * 3 * (self.width + above)

    @cached_property
    def _place(self) -> tuple[torch.Tensor, torch.Tensor]:
        row, column = torch.triu_indices(self.width, self.width, device=self.own.device)
        return row, column

    @cached_property
    def _single(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Own columns and those above, in single precision."""
        return self.own.to(torch.float32), self.extra.to(torch.float32)

    @cached_property
    def square(self) -> torch.Tensor | None:
        """G of the docstring, (records, pairs of columns); sparse and transposed where few of its
        entries are not zero; None where it would be too large.
        """
        sparse = self._sparse_square(self.own.cpu().numpy())
        row, column = self._place
        if sparse is not None or self.records * row.numel() * 8 > _BYTES:
            return sparse
        return (self.own[:, row] * self.own[:, column]).contiguous()

    def _sparse_square(self, own: np.ndarray) -> torch.Tensor | None:
        """G transposed, (pairs of columns, records), sparse; None where it would hold more than a
        small share of all products.
        """
        width, size = own.shape[1], self._place[0].numel()
        each = np.count_nonzero(own, axis=1)
        count = int((each * (each + 1) // 2).sum())
        if count > _SPARSE * self.records * size or count * 24 > _BYTES:
            return None
        record, column = np.nonzero(own)
        value = own[record, column]
        # Entry e of a record goes with itself and those after it.
        entries = np.arange(record.size)
        partners = np.cumsum(each)[record] - entries
        left = np.repeat(entries, partners)
        right = left + np.arange(count) - np.repeat(np.cumsum(partners) - partners, partners)
        a, b = column[left], column[right]
        index = np.stack([a * width - a * (a - 1) // 2 + b - a, record[left]])
        device = self.own.device
        products = torch.as_tensor(value[left] * value[right], device=device)
        shape = (size, self.records)
        return torch.sparse_coo_tensor(
            torch.as_tensor(index), products, shape, device=device, check_invariants=True
        ).coalesce()

    @cached_property
    def _parts(self) -> tuple[torch.Tensor, ...]:
        """Columns above, in as many parts as keep their products within bounds."""
        single, extra = self._single
        count = -(-self.records * single.shape[1] * extra.shape[1] * 4 // _BYTES)
        return torch.tensor_split(extra, max(1, count), dim=1)

    @cached_property
    def _kept(self) -> torch.Tensor | None:
        """Products with columns above, kept if they fit, else formed again for every span: a small
        part of the work where a span has many leaves.
        """
        return self._couple(self._parts[0]) if len(self._parts) == 1 else None

    def _couple(self, extra: torch.Tensor) -> torch.Tensor:
        """Products of every own column with every one of ``extra``, (records, p * columns)."""
        single = self._single[0]
        shape = (self.records, self.width, extra.shape[1])
        out = torch.empty(shape, dtype=extra.dtype, device=extra.device)

        def block(part: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
            rows, own, beside = part
            torch.mul(own[:, :, None], beside[:, None, :], out=rows)

        parts = (a.split(_RECORDS) for a in (out, single, extra))
        for _ in self._blocks.stream(block, zip(*parts, strict=True)):
            pass
        return out.reshape(self.records, -1)

    def form(self) -> None:
        """Form the products of all leaves."""
        _ = self.square
        if self.extra.shape[1]:
            _ = self._kept

    def own_block(self, slope: torch.Tensor, formed: bool) -> torch.Tensor:
        """(leaves, p, p) curvature of the leaves' own variables, from (leaves, records), in double;
        ``formed``: by the products formed for all leaves, where they fit.
        """
        own, (row, column) = self.own, self._place
        block = slope.new_empty((slope.shape[0], self.width, self.width))
        square = self.square if formed else None
        if square is None:
            for t in range(slope.shape[0]):
                torch.matmul((own * slope[t][:, None]).T, own, out=block[t])
            return block
        flat = torch.sparse.mm(square, slope.T).T if square.is_sparse else slope @ square
        block[:, row, column] = flat
        block[:, column, row] = flat
        return block

    def beside(self, slope: torch.Tensor, formed: bool) -> torch.Tensor:
        """(leaves, p, columns) curvature of own variables with columns that only levels above have.

        Summed in single precision, for it only steers the steps. The gradient, which decides where
        they end, and the leaf and border blocks, which keep the matrix definite, are in double.
        """
        own, extra = self._single
        single = slope.to(torch.float32)
        if not formed:
            out = single.new_empty((slope.shape[0], self.width, extra.shape[1]))
            for t in range(slope.shape[0]):
                torch.matmul((own * single[t][:, None]).T, extra, out=out[t])
            return out.to(torch.float64)
        products = []
        for part in self._parts:
            couple = self._couple(part) if self._kept is None else self._kept
            product = (single @ couple).to(torch.float64)
            products.append(product.reshape(slope.shape[0], self.width, part.shape[1]))
        return products[0] if len(products) == 1 else torch.cat(products, dim=2)


class PoolCache:
    """The RecordPools of a problem: all of them where they fit, else the last few used."""

    def __init__(self, blocks: TreeBlocks, problem: PoolProblem) -> None:
        self._blocks, self._problem = blocks, problem
        self._lock, self._kept = threading.Lock(), OrderedDict[int, RecordPool]()
        first = RecordPool(blocks, problem, 0)
        fits = max(1, kept_bytes("pools") // max(first.bytes, 1))
        self._most = max(fits, workers() + 1)

    def of(self, number: int) -> RecordPool:
        """The records of a neighbourhood."""
        with self._lock:
            found = self._kept.get(number)
            if found is None:
                found = RecordPool(self._blocks, self._problem, number)
                self._kept[number] = found
                if len(self._kept) > self._most:
                    self._kept.popitem(last=False)
            else:
                self._kept.move_to_end(number)
            return found

    def form(self, formed: list[bool]) -> None:
        """Form products of the neighbourhoods that ask for them, where all are kept: here one after
        another, with all threads, and not by the first that comes to need them.
        """
        if len(formed) <= self._most:
            for number, wanted in enumerate(formed):
                if wanted:
                    self.of(number).form()
