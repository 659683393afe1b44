"""Passes over a shared pool of records, streamed over the leaves: the (leaves, records) matrix of
pairs is never kept.

Every leaf of the tree may use every record of the pool, so pairs outnumber both by far (85,000
tracts x 3,500 households is 300 million). A pass takes a few hundred leaves at a time: their
exponents are one matrix product, so are their totals, and so are their curvatures, because

    sum_i v_ti x_ia x_ib  =  (V G)_t,ab     with G_i,ab = x_ia x_ib formed once for the pool,

which turns many small products into one large one and uses their symmetry.

Belongs here: passes over a PoolProblem. Does not belong here: written-out pairs
(``pair_blocks.py``), the linear solve (``arrow.py``), the iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

import numpy as np
import torch

from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.arrow import ArrowFactor, LeafBlocks, stretches
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.link import Link

# Pairs taken at a time: 8 MB of weights. On a GPU a pass wants more at once.
_PAIRS_AT_A_TIME = {"cpu": 1_000_000, "cuda": 100_000_000}
# Most that the products of own columns with columns above may occupy.
_BYTES = 400_000_000
# Products of columns are kept sparse where fewer than this share of them is not zero: a dense
# product is that much faster an entry.
_SPARSE = 0.03


class PoolBlocks(TreeBlocks):
    """Passes over a shared pool."""

    def __init__(self, problem: PoolProblem, device: str = "cpu") -> None:
        super().__init__(problem.tree, problem.targets.designs, problem.targets.scales, device)
        send = self.send
        self.own = self.own.contiguous()
        self.record_prior, self.leaf_prior, self.group = (
            send(problem.record_prior),
            send(problem.leaf_prior),
            torch.as_tensor(problem.group, device=self.device),
        )
        self.records = int(self.record_prior.shape[0])
        self.prior_total = float(
            (problem.leaf_prior.sum(axis=0)[problem.group] * problem.record_prior).sum()
        )
        step = max(1, _PAIRS_AT_A_TIME[self.device.type] // max(self.records, 1))
        self.spans = [
            (a, min(a + step, problem.tree.sizes[-1]))
            for a in range(0, problem.tree.sizes[-1], step)
        ]
        self._nodes_of = {
            span: stretches(problem.tree.parents[-1][slice(*span)]) for span in self.spans
        }
        self._plain = not torch.any(self.group != 0)
        self._products(problem.targets.designs[-1])

    def _products(self, design: np.ndarray) -> None:
        """G of the docstring for the leaves' own columns (in double), and for own columns against
        the distinct ones above (in single).

        A variable with targets at several levels has the same column at each, and its curvature
        need be computed once; where records touch few of many variables, G is kept sparse. The
        coupling with columns that leaves do not have is summed in single precision: it only steers
        the steps, while the gradient, which decides where they end, and the leaf and border blocks,
        which keep the matrix definite, are in double.
        """
        own, width = self.own, self.width
        self._row, self._col = torch.triu_indices(width, width, device=self.device)
        self._sparse, self._square = self._sparse_square(design), None
        if self._sparse is None and self.records * self._row.numel() * 8 <= _BYTES:
            self._square = (own[:, self._row] * own[:, self._col]).contiguous()
        self._columns = torch.cat([own[:, self.shared], self.extra], dim=1)
        self._extra, self._kept = (), None
        if self.extra.shape[1]:
            self._single = own.to(torch.float32)
            parts = max(1, -(-self.records * width * self.extra.shape[1] * 4 // _BYTES))
            self._extra = torch.tensor_split(self.extra.to(torch.float32), parts, dim=1)
            # Kept if it fits, else formed again for every span: a small part of the work where a
            # span has many leaves.
            self._kept = self._couple(self._extra[0]) if len(self._extra) == 1 else None

    def _sparse_square(self, own: np.ndarray) -> torch.Tensor | None:
        """G transposed, (pairs of columns, records), sparse; None where it would hold more than a
        small share of all products.
        """
        width = own.shape[1]
        each = np.count_nonzero(own, axis=1)
        count = int((each * (each + 1) // 2).sum())
        if count > _SPARSE * self.records * self._row.numel() or count * 24 > _BYTES:
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
        size = (self._row.numel(), self.records)
        value = self.send(value[left] * value[right])
        return torch.sparse_coo_tensor(
            torch.as_tensor(index), value, size, device=self.device, check_invariants=True
        ).coalesce()

    def _couple(self, extra: torch.Tensor) -> torch.Tensor:
        return (self._single[:, :, None] * extra[:, None, :]).reshape(self.records, -1)

    def _prior(self, span: tuple[int, int]) -> torch.Tensor:
        share = self.leaf_prior[span[0] : span[1]]
        return (
            share * self.record_prior if self._plain else share[:, self.group] * self.record_prior
        )

    def _exponent(
        self, multipliers: list[torch.Tensor], above: torch.Tensor | None, span: tuple[int, int]
    ) -> torch.Tensor:
        """u of the leaves of a span, (leaves, records)."""
        rows = multipliers[-1][span[0] : span[1]]
        if above is None:
            return rows @ self.own.T
        return torch.addmm(above[self.parent[span[0] : span[1]]], rows, self.own.T)

    def _above(self, multipliers: list[torch.Tensor]) -> torch.Tensor | None:
        """What the levels above add to u, (nodes just above the leaves, records)."""
        return self.gather(self.chain(multipliers)) @ self._columns.T if self.deep else None

    def _pairs(self, multipliers: list[torch.Tensor], link: Link):
        """Yield (span, prior, u, ratio) over all leaves."""
        above = self._above(multipliers)
        for span in self.spans:
            u = self._exponent(multipliers, above, span)
            yield span, self._prior(span), u, link.ratio(u)

    def evaluate(
        self, multipliers: list[torch.Tensor], link: Link
    ) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        leaf = torch.empty_like(multipliers[-1])
        nodes = self._nodes()
        potential = torch.zeros((), dtype=torch.float64, device=self.device)
        for span, prior, u, ratio in self._pairs(multipliers, link):
            weights = ratio * prior
            potential += link.potential(u, ratio, prior, weights).sum()
            leaf[span[0] : span[1]] = weights @ self.own
            if nodes is not None:
                nodes.index_add_(0, self.parent[span[0] : span[1]], weights)
        above = self.totals_above(nodes @ self._columns) if nodes is not None else []
        return [*above, leaf], float(potential)

    def _nodes(self) -> torch.Tensor | None:
        return self.zeros(self.tree.sizes[-2], self.records) if self.deep else None

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves streamed."""
        nodes = self._nodes()
        shared = None
        if nodes is not None:
            shared = self.zeros(nodes.shape[0], self.shared.numel(), self.shared.numel())

        def leaves():
            for span, prior, u, ratio in self._pairs(multipliers, link):
                slope = link.slope(u, ratio) * prior
                own = self._own_block(slope)
                if nodes is None:
                    yield LeafBlocks(span, own, None, ())
                    continue
                parent = self.parent[span[0] : span[1]]
                nodes.index_add_(0, parent, slope)
                beside = own[:, :, self.shared]
                shared.index_add_(0, parent, beside[:, self.shared])
                yield LeafBlocks(
                    span,
                    own,
                    torch.cat([beside, *self._beside(slope)], dim=2) if self._extra else beside,
                    self._nodes_of[span],
                )

        return ArrowFactor(self, leaves(), lambda schur: self._border(schur, nodes, shared), ridge)

    def _own_block(self, slope: torch.Tensor) -> torch.Tensor:
        """(leaves, p, p) curvature of the leaves' own variables, from (leaves, records)."""
        own = self.own
        width, count = own.shape[1], slope.shape[0]
        block = torch.empty((count, width, width), dtype=torch.float64, device=self.device)
        if self._sparse is None and self._square is None:
            for t in range(count):
                block[t] = (own * slope[t][:, None]).T @ own
            return block
        flat = (
            slope @ self._square
            if self._sparse is None
            else torch.sparse.mm(self._sparse, slope.T).T
        )
        block[:, self._row, self._col] = flat
        block[:, self._col, self._row] = flat
        return block

    def _beside(self, slope: torch.Tensor) -> list[torch.Tensor]:
        """(leaves, p, columns) curvature of own variables with columns that only
        levels above have.
        """
        single, width = slope.to(torch.float32), self.width
        products = [
            (single @ (self._couple(extra) if self._kept is None else self._kept), extra.shape[1])
            for extra in self._extra
        ]
        return [
            product.to(torch.float64).reshape(slope.shape[0], width, columns)
            for product, columns in products
        ]

    def _border(self, schur: torch.Tensor, nodes: torch.Tensor, shared: torch.Tensor) -> None:
        """Add the coupling of the distinct columns above: what they share with the leaves is the
        sum of the leaves' blocks.
        """
        held = shared.shape[1]
        schur[:, :held, :held] += shared
        if self.distinct == held:
            return
        for block, weights in zip(schur, nodes, strict=True):
            product = (self.extra * weights[:, None]).T @ self._columns
            block[held:] += product
            block[:held, held:] += product[:, :held].T

    def largest_rise(
        self,
        multipliers: list[torch.Tensor],
        direction: list[torch.Tensor],
        negligible: float,
        common: float = 0.0,
    ) -> float:
        """Largest of min(change of u, u after the change + negligible) over pairs, at least 0;
        ``common`` is taken off every change.
        """
        above, beside, rise = (
            self._above(multipliers),
            self._above(direction),
            torch.zeros((), dtype=torch.float64, device=self.device),
        )
        for span in self.spans:
            change = self._exponent(direction, beside, span).sub_(common)
            after = self._exponent(multipliers, above, span).add_(change).add_(negligible)
            rise = torch.maximum(rise, torch.minimum(change, after).max())
        return float(rise)

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (leaves, records) float64."""
        out = np.empty((self.tree.sizes[-1], self.records))
        for span, prior, _, ratio in self._pairs(multipliers, link):
            out[span[0] : span[1]] = (ratio * prior).cpu().numpy()
        return out
