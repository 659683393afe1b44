"""Passes over a shared pool of records, streamed over the leaves: the (leaves, records) matrix of
pairs is never kept.

Every leaf may use every record of its neighbourhood, so pairs outnumber both by far (85,000 tracts
x 3,500 households is 300 million). A pass takes a few hundred leaves of one neighbourhood at a
time: their exponents are one matrix product, so are their totals, and so are their curvatures
(``dense_records.py``, ``sparse_records.py``). Leaves come sorted by neighbourhood, so that those
taken together are a slice.

Belongs here: passes over a PoolProblem. Does not belong here: what is computed of the records of a
neighbourhood (``record_pool.py``), written-out pairs (``pair_blocks.py``), the linear solve
(``arrow.py``), the iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch

from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.arrow import ArrowFactor, Eliminated, eliminate, stretches
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.dense_records import MANY_LEAVES
from calibration_core.tree.solve.link import Link
from calibration_core.tree.solve.record_pool import PoolCache, RecordPool

# Pairs taken at a time: 8 MB of weights. On a GPU a pass wants more at once.
_PAIRS_AT_A_TIME = {"cpu": 1_000_000, "cuda": 100_000_000}
# Neighbourhoods of many leaves are cut into so many spans in all, for threads to share out, but
# into none of fewer leaves than ``MANY_LEAVES``.
_SPANS = 8


class Span(NamedTuple):
    """Leaves taken together: ``first`` to before ``last``, all of neighbourhood ``near``;
    ``nodes`` their parents, as ``arrow.stretches`` gives them.
    """

    near: int
    first: int
    last: int
    nodes: tuple[tuple[int, int, int], ...]

    @property
    def here(self) -> slice:
        """The leaves."""
        return slice(self.first, self.last)


# What some leaves add to the area above them: its index, and a tensor.
Share = tuple[int, torch.Tensor]


class PoolBlocks(TreeBlocks):
    """Passes over shared pools; leaves of a problem must be in order (``PoolProblem.in_order``)."""

    def __init__(self, problem: PoolProblem, device: str = "cpu", unit: float = 1.0) -> None:
        targets = problem.targets
        super().__init__(problem.tree, targets.designs, targets.scales, device, unit)
        self.leaf_prior = self.send(problem.leaf_prior)
        self.prior_total = problem.prior_total / unit
        self.records = int(problem.record_prior.size)
        self.spans = list(_spans(problem, self.device.type))
        self.pools = PoolCache(self, problem)

    def _prior(self, pool: RecordPool, span: Span) -> torch.Tensor:
        share = self.leaf_prior[span.here]
        return (share if pool.plain else share[:, pool.group]) * pool.prior

    def _exponent(
        self, pool: RecordPool, multipliers: list[torch.Tensor], above: torch.Tensor, span: Span
    ) -> torch.Tensor:
        """u of the leaves of a span, (leaves, records). ``above``: multipliers of the distinct
        columns by node just above the leaves.
        """
        own, lengths = multipliers[-1][span.here], [b - a for _, a, b in span.nodes]
        nodes = above[[node for node, _, _ in span.nodes]] if self.deep else above
        return pool.columns.exponent(own, nodes, lengths)

    def _above(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """(nodes just above the leaves, distinct) what the levels above multiply columns by."""
        return self.gather(self.chain(multipliers)) if self.deep else self.zeros(0, 0)

    def _pairs(self, multipliers: list[torch.Tensor], link: Link):
        """A function of a span: its records; its prior, u and ratio, each (leaves, records)."""
        above = self._above(multipliers)

        def pairs(span: Span) -> tuple[RecordPool, torch.Tensor, torch.Tensor, torch.Tensor]:
            pool = self.pools.of(span.near)
            u = self._exponent(pool, multipliers, above, span)
            return pool, self._prior(pool, span), u, link.ratio(u)

        return pairs

    def evaluate(
        self, multipliers: list[torch.Tensor], link: Link
    ) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        leaf, potential = torch.zeros_like(multipliers[-1]), 0.0
        above = self.zeros(self.tree.sizes[-2] if self.deep else 0, self.distinct)
        pairs = self._pairs(multipliers, link)

        def sums(span: Span) -> tuple[float, torch.Tensor, list[Share]]:
            pool, prior, u, ratio = pairs(span)
            weights = ratio * prior
            part = float(link.potential(u, ratio, prior, weights).sum())
            return part, *pool.columns.totals(weights, span.nodes)

        for span, (part, totals, held) in zip(
            self.spans, self.stream(sums, self.spans), strict=True
        ):
            potential += part
            leaf[span.here] = totals
            for node, share in held:
                above[node] += share
        return [*(self.totals_above(above) if self.deep else []), leaf], potential

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves streamed."""
        pairs, size = self._pairs(multipliers, link), self.shared.numel()
        self.pools.form()
        shared = self.zeros(self.tree.sizes[-2] if self.deep else 0, size, size)
        border = self.zeros(shared.shape[0], self.beyond, self.distinct)

        def one(span: Span) -> tuple[Eliminated, list[Share], list[Share]]:
            pool, prior, u, ratio = pairs(span)
            slope = link.slope(u, ratio) * prior
            own, extra = pool.columns.curvature(slope)
            if not self.deep:
                return eliminate(self, span.here, own, None, (), ridge), [], []
            beside = own[:, :, self.shared]
            cross = beside if extra is None else torch.cat([beside, extra], dim=2)
            blocks = _by_node(span, beside[:, self.shared])
            done = eliminate(self, span.here, own, cross, span.nodes, ridge)
            return done, _by_node(span, slope), blocks

        def leaves() -> Iterator[Eliminated]:
            # Slopes of one neighbourhood are added up before their product is taken.
            slopes: dict[int, torch.Tensor] = {}
            ahead = [span.near for span in self.spans[1:]] + [-1]
            done = self.stream(one, self.spans)
            for span, following, (eliminated, part, blocks) in zip(
                self.spans, ahead, done, strict=True
            ):
                for node, block in blocks:
                    shared[node] += block
                for node, slope in part:
                    slopes[node] = slopes[node] + slope if node in slopes else slope
                if following != span.near:
                    self._add_border(border, slopes, span.near)
                    slopes = {}
                yield eliminated

        def add(schur: torch.Tensor) -> None:
            schur[:, :size, :size] += shared
            schur[:, :size, size:] += border[:, :, :size].mT
            schur[:, size:, size:] += border[:, :, size:]

        return ArrowFactor(self, leaves(), add, ridge)

    def _add_border(self, border: torch.Tensor, slopes: dict[int, torch.Tensor], near: int) -> None:
        """Add the coupling of columns that only levels above have with all distinct columns: what
        the others share is the sum of the leaves' blocks.
        """
        if not self.beyond:
            return
        columns = self.pools.of(near).columns
        for node, part in zip(slopes, self.stream(columns.border, slopes.values()), strict=True):
            border[node] += part

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

        def largest(span: Span) -> float:
            pool = self.pools.of(span.near)
            change = self._exponent(pool, direction, beside, span).sub_(common)
            after = self._exponent(pool, multipliers, above, span).add_(change).add_(negligible)
            return float(torch.minimum(change, after).max())

        return max(0.0, *self.stream(largest, self.spans))

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (leaves, records) float64; for problems without neighbourhoods."""
        out, pairs = np.zeros((self.tree.sizes[-1], self.records)), self._pairs(multipliers, link)

        def write(span: Span) -> None:
            _, prior, _, ratio = pairs(span)
            out[span.here] = (ratio * prior).cpu().numpy()

        for _ in self.stream(write, self.spans):
            pass
        return out


def _by_node(span: Span, values: torch.Tensor) -> list[Share]:
    """Sums over the leaves of a span that have one parent, as (parent, sum)."""
    return [(node, values[a:b].sum(dim=0)) for node, a, b in span.nodes]


def _spans(problem: PoolProblem, device: str) -> Iterator[Span]:
    """Spans of the leaves, neighbourhood after neighbourhood: parts of about the same size."""
    near, leaves = problem.near, problem.tree.sizes[-1]
    parent = problem.tree.parents[-1] if len(problem.tree.levels) > 1 else np.zeros(leaves, int)
    for number, members in enumerate(near.leaves):
        if not members.size:
            continue
        most = max(1, _PAIRS_AT_A_TIME[device] // max(near.record[number].size, 1))
        if device == "cpu":
            most = min(most, max(MANY_LEAVES, -(-leaves // _SPANS)))
        count, begin = -(-members.size // most), int(members[0])
        edges = (begin + members.size * i // count for i in range(count + 1))
        for first, last in itertools.pairwise(edges):
            yield Span(number, first, last, stretches(parent[first:last]))
