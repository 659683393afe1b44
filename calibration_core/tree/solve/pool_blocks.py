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

import itertools

import numpy as np
import torch

from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.arrow import (
    ArrowFactor,
    Eliminated,
    LeafBlocks,
    eliminate,
    stretches,
)
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.link import Link

# Pairs taken at a time: 8 MB of weights. On a GPU a pass wants more at once.
_PAIRS_AT_A_TIME = {"cpu": 1_000_000, "cuda": 100_000_000}
# A small pool is cut into so many spans, for threads to share out, but into none of fewer leaves
# than a product needs to run at full speed (64 leaves took as long each as 250, 32 twice as long).
_SPANS, _LEAVES = 8, 64
# Most that the products of own columns with columns above may occupy.
_BYTES = 400_000_000
# Products of columns are kept sparse where fewer than this share of them is not zero: a dense
# product is that much faster an entry.
_SPARSE = 0.03
# Records whose products with columns above are formed together.
_RECORDS = 512

# What some leaves add to the area above them: its index, and a tensor.
Share = tuple[int, torch.Tensor]


class PoolBlocks(TreeBlocks):
    """Passes over a shared pool."""

    def __init__(self, problem: PoolProblem, device: str = "cpu", unit: float = 1.0) -> None:
        targets = problem.targets
        super().__init__(problem.tree, targets.designs, targets.scales, device, unit)
        send = self.send
        self.own = self.own.contiguous()
        self.record_prior, self.leaf_prior, self.group = (
            send(problem.record_prior / unit),
            send(problem.leaf_prior),
            torch.as_tensor(problem.group, device=self.device),
        )
        self.records = int(self.record_prior.shape[0])
        self.prior_total = problem.prior_total / unit
        self.spans = _spans(problem.tree.sizes[-1], self.records, self.device.type)
        self._nodes_of = {
            span: stretches(problem.tree.parents[-1][slice(*span)]) for span in self.spans
        }
        self._plain = not torch.any(self.group != 0)
        self._products()

    def _products(self) -> None:
        """G of the docstring for the leaves' own columns (in double), and for own columns against
        the distinct ones above (in single).

        A variable with targets at several levels has the same column at each, and its curvature
        need be computed once; where records touch few of many variables, G is kept sparse. The
        coupling with columns that leaves do not have is summed in single precision, for it only
        steers the steps. The gradient, which decides where they end, and the leaf and border
        blocks, which keep the matrix definite, are in double.
        """
        own, width = self.own, self.width
        self._row, self._col = torch.triu_indices(width, width, device=self.device)
        self._sparse = self._sparse_square(own.cpu().numpy())
        self._square: torch.Tensor | None = None
        if self._sparse is None and self.records * self._row.numel() * 8 <= _BYTES:
            self._square = (own[:, self._row] * own[:, self._col]).contiguous()
        self._columns = torch.cat([own[:, self.shared], self.extra], dim=1)
        self._extra: tuple[torch.Tensor, ...] = ()
        self._kept: torch.Tensor | None = None
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
        products = self.send(value[left] * value[right])
        return torch.sparse_coo_tensor(
            torch.as_tensor(index), products, size, device=self.device, check_invariants=True
        ).coalesce()

    def _couple(self, extra: torch.Tensor) -> torch.Tensor:
        """Products of every own column with every one of ``extra``, (records, p * columns)."""
        out = torch.empty(
            (self.records, self.width, extra.shape[1]), dtype=extra.dtype, device=self.device
        )

        def block(part: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> None:
            rows, single, beside = part
            torch.mul(single[:, :, None], beside[:, None, :], out=rows)

        parts = (a.split(_RECORDS) for a in (out, self._single, extra))
        for _ in self.stream(block, zip(*parts, strict=True)):
            pass
        return out.reshape(self.records, -1)

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
        """A function of a span: its prior, u and ratio, each (leaves, records)."""
        above = self._above(multipliers)

        def pairs(span: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            u = self._exponent(multipliers, above, span)
            return self._prior(span), u, link.ratio(u)

        return pairs

    def _by_node(self, span: tuple[int, int], values: torch.Tensor) -> list[Share]:
        """Sums over the leaves of a span that have one parent, as (parent, sum)."""
        return [(node, values[a:b].sum(dim=0)) for node, a, b in self._nodes_of[span]]

    def evaluate(
        self, multipliers: list[torch.Tensor], link: Link
    ) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        leaf, nodes, potential = torch.empty_like(multipliers[-1]), self._nodes(), 0.0
        pairs = self._pairs(multipliers, link)

        def sums(span: tuple[int, int]) -> tuple[float, torch.Tensor, list[Share]]:
            prior, u, ratio = pairs(span)
            weights = ratio * prior
            part = float(link.potential(u, ratio, prior, weights).sum())
            by_node = self._by_node(span, weights) if self.deep else []
            return part, weights @ self.own, by_node

        for span, (part, totals, by_node) in zip(
            self.spans, self.stream(sums, self.spans), strict=True
        ):
            potential += part
            leaf[span[0] : span[1]] = totals
            _add(nodes, by_node)
        above = self.totals_above(nodes @ self._columns) if self.deep else []
        return [*above, leaf], potential

    def _nodes(self) -> torch.Tensor:
        """Zeros for sums by node just above the leaves; no rows in a tree of one level."""
        return self.zeros(self.tree.sizes[-2] if self.deep else 0, self.records)

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves streamed."""
        nodes, pairs = self._nodes(), self._pairs(multipliers, link)
        shared = self.zeros(nodes.shape[0], self.shared.numel(), self.shared.numel())

        def one(span: tuple[int, int]) -> tuple[Eliminated, list[Share], list[Share]]:
            prior, u, ratio = pairs(span)
            slope = link.slope(u, ratio) * prior
            own = self._own_block(slope)
            if not self.deep:
                return eliminate(self, LeafBlocks(span, own, None, ()), ridge), [], []
            beside = own[:, :, self.shared]
            cross = torch.cat([beside, *self._beside(slope)], dim=2) if self._extra else beside
            sums = self._by_node(span, slope), self._by_node(span, beside[:, self.shared])
            return eliminate(self, LeafBlocks(span, own, cross, self._nodes_of[span]), ridge), *sums

        def leaves():
            for eliminated, slopes, blocks in self.stream(one, self.spans):
                _add(nodes, slopes)
                _add(shared, blocks)
                yield eliminated

        return ArrowFactor(self, leaves(), lambda schur: self._border(schur, nodes, shared), ridge)

    def _own_block(self, slope: torch.Tensor) -> torch.Tensor:
        """(leaves, p, p) curvature of the leaves' own variables, from (leaves, records)."""
        own = self.own
        width, count = own.shape[1], slope.shape[0]
        block = torch.empty((count, width, width), dtype=torch.float64, device=self.device)
        if self._sparse is not None:
            flat = torch.sparse.mm(self._sparse, slope.T).T
        elif self._square is not None:
            flat = slope @ self._square
        else:
            for t in range(count):
                block[t] = (own * slope[t][:, None]).T @ own
            return block
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

        def product(weights: torch.Tensor) -> torch.Tensor:
            return (self.extra * weights[:, None]).T @ self._columns

        for block, part in zip(schur, self.stream(product, nodes), strict=True):
            block[held:] += part
            block[:held, held:] += part[:, :held].T

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
        above, beside = self._above(multipliers), self._above(direction)

        def largest(span: tuple[int, int]) -> float:
            change = self._exponent(direction, beside, span).sub_(common)
            after = self._exponent(multipliers, above, span).add_(change).add_(negligible)
            return float(torch.minimum(change, after).max())

        return max(0.0, *self.stream(largest, self.spans))

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (leaves, records) float64."""
        out, pairs = np.empty((self.tree.sizes[-1], self.records)), self._pairs(multipliers, link)

        def write(span: tuple[int, int]) -> None:
            prior, _, ratio = pairs(span)
            out[span[0] : span[1]] = (ratio * prior).cpu().numpy()

        for _ in self.stream(write, self.spans):
            pass
        return out


def _spans(leaves: int, records: int, device: str) -> list[tuple[int, int]]:
    """Leaves taken together, (first, past the last): parts of about the same size."""
    most = max(1, _PAIRS_AT_A_TIME[device] // max(records, 1))
    if device == "cpu":
        most = min(most, max(_LEAVES, -(-leaves // _SPANS)))
    count = -(-leaves // most)
    return list(itertools.pairwise(leaves * i // count for i in range(count + 1)))


def _add(nodes: torch.Tensor, shares: list[Share]) -> None:
    for node, share in shares:
        nodes[node] += share
