"""Passes over records of a neighbourhood by products of whole matrices, on a CPU or a GPU.

The curvature of a leaf's own variables is one large product for all leaves of a neighbourhood,

    sum_i v_ti x_ia x_ib  =  (V G)_t,ab     with G_i,ab = x_ia x_ib formed once for the records,

which turns many small products into one large one and uses their symmetry. Forming G pays where
many leaves share it; for a few leaves each one's own product is taken.

Belongs here: those products. Does not belong here: records that are mostly zero, on a CPU
(``sparse_records.py``), how many neighbourhoods are kept (``record_pool.py``), passes over leaves
(``pool_blocks.py``).
"""

from __future__ import annotations

from functools import cached_property

import torch

from calibration_core.tree.solve.blocks import TreeBlocks

# Leaves of a neighbourhood from which on products are formed for all of them, and that a product
# needs to run at full speed (64 leaves took as long each as 250, 32 twice as long).
MANY_LEAVES = 64
# Most that the products of a neighbourhood may occupy, in bytes.
_BYTES = 400_000_000
# Records whose products with columns above are formed together.
_RECORDS = 512


class DenseRecords:
    """The columns of a neighbourhood's records.

    Attributes
    ----------
    own, extra, columns : (records, variables) float64 columns of the leaves, those that only levels
        above have, and the distinct ones of the levels above.
    formed : whether products are formed for all leaves, where they fit.
    """

    def __init__(self, blocks: TreeBlocks, every: torch.Tensor, leaves: int) -> None:
        self._blocks, self.records, self.width = blocks, every.shape[0], blocks.width
        self.own, self.extra = every[:, : self.width].contiguous(), every[:, self.width :]
        self.columns = torch.cat([self.own[:, blocks.shared], self.extra], dim=1)
        self.formed = leaves >= MANY_LEAVES

    @property
    def bytes(self) -> int:
        """What it holds at the most."""
        above = self.extra.shape[1]
        # Columns twice, and once more in single precision.
        held = self.records * 20 * (self.width + above)
        if not self.formed:
            return held
        square, couple = self.width * (self.width + 1) // 2 * 8, self.width * above * 4
        return held + min(self.records * square, _BYTES) + min(self.records * couple, _BYTES)

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
        """G of the docstring, (records, pairs of columns); None where it would be too large."""
        row, column = self._place
        if self.records * row.numel() * 8 > _BYTES:
            return None
        return (self.own[:, row] * self.own[:, column]).contiguous()

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
        if self.formed:
            _ = self.square
            if self.extra.shape[1]:
                _ = self._kept

    def exponent(self, own: torch.Tensor, above: torch.Tensor, lengths: list[int]) -> torch.Tensor:
        """u, (leaves, records), of multipliers of the leaves' own columns (leaves, p) and of the
        distinct columns above by node (nodes, distinct); ``lengths``: leaves of each node, in turn.
        """
        if not self._blocks.deep:
            return own @ self.own.T
        nodes, counts = above @ self.columns.T, torch.as_tensor(lengths, device=own.device)
        return torch.addmm(nodes.repeat_interleave(counts, dim=0), own, self.own.T)

    def totals(
        self, weights: torch.Tensor, nodes: tuple[tuple[int, int, int], ...]
    ) -> tuple[torch.Tensor, list[tuple[int, torch.Tensor]]]:
        """Totals of the leaves' own columns, (leaves, p), and those of the distinct columns above
        by node; ``nodes`` as ``arrow.stretches`` gives them.
        """
        by_node = [(node, weights[a:b].sum(dim=0)) for node, a, b in nodes]
        held = [(node, total @ self.columns) for node, total in by_node]
        return weights @ self.own, held if self._blocks.deep else []

    def curvature(self, slope: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Curvature of the leaves' own variables, (leaves, p, p), and of these with the columns
        that only levels above have, (leaves, p, e), None without any; in double, from slopes
        (leaves, records).
        """
        above = self._beside(slope) if self.extra.shape[1] else None
        return self._own_block(slope), above

    def border(self, slope: torch.Tensor) -> torch.Tensor:
        """Curvature of columns that only levels above have with all distinct ones, (e, distinct),
        from slopes (records,); of that with each other the upper half is looked at.
        """
        return (self.extra * slope[:, None]).T @ self.columns

    def _own_block(self, slope: torch.Tensor) -> torch.Tensor:
        own, (row, column) = self.own, self._place
        block = slope.new_empty((slope.shape[0], self.width, self.width))
        square = self.square if self.formed else None
        if square is None:
            for t in range(slope.shape[0]):
                torch.matmul((own * slope[t][:, None]).T, own, out=block[t])
            return block
        flat = slope @ square
        block[:, row, column] = flat
        block[:, column, row] = flat
        return block

    def _beside(self, slope: torch.Tensor) -> torch.Tensor:
        """Summed in single precision, for it only steers the steps. The gradient, which decides
        where they end, and the leaf and border blocks, which keep the matrix definite, are double.
        """
        own, extra = self._single
        single = slope.to(torch.float32)
        if not self.formed:
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
