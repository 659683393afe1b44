"""Passes over written-out pairs: each is a record in one leaf, what is left after a selection, or records of one area each.

Leaves are padded to the longest so that every leaf is one row of a batch; where leaves differ much in length they are batched by
length, so that padding stays under half.

Belongs here: passes over a PairProblem. Does not belong here: shared pools (``pool_blocks.py``), the linear solve (``arrow.py``), the
iteration (``tree_newton.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.arrow import ArrowFactor, LeafBlocks
from calibration_core.blocks import TreeBlocks
from calibration_core.link import Link
from calibration_core.problem import PairProblem

# Entries of one batch's design (pairs x columns): 8 MB.
_ENTRIES_AT_A_TIME = 1_000_000
# A leaf with so many entries is a batch of its own, and needs no padding.
_LONG = 30_000
# Columns of a symmetric product taken together, so that little of its lower half is computed.
_STRIP = 128


@dataclass(frozen=True, eq=False)
class _Batch:
    """Leaves of like length, padded. ``pairs`` (leaves, longest) int64 into the pairs, -1 where there is none; ``record`` the same into
    the records, or a slice of them where one leaf has consecutive records; ``prior`` (leaves, longest), 0 where there is none."""

    leaves: torch.Tensor
    pairs: torch.Tensor
    record: torch.Tensor | slice
    prior: torch.Tensor


class PairBlocks(TreeBlocks):
    """Passes over written-out pairs."""

    def __init__(self, problem: PairProblem, device: str = "cpu") -> None:
        super().__init__(problem.tree, problem.targets.designs, problem.targets.scales, device)
        self.prior_total = float(problem.prior_weight.sum())
        self.count = int(problem.leaf.size)
        # Which columns the levels above have.
        self.upper = torch.cat([self.shared, torch.arange(self.width, self.every.shape[1], device=self.device)])
        self.batches = self._batches(problem)

    def _batches(self, problem: PairProblem) -> list[_Batch]:
        leaves = len(problem.tree.leaves)
        counts = np.bincount(problem.leaf, minlength=leaves)
        first = np.cumsum(counts) - counts
        order = np.lexsort((np.arange(leaves), -counts))
        order = order[counts[order] > 0]
        batches, begin = [], 0
        while begin < order.size:
            longest = int(counts[order[begin]])
            if longest * self.every.shape[1] >= _LONG:
                batches.append(self._alone(problem, int(order[begin]), int(first[order[begin]]), longest))
                begin += 1
                continue
            step = max(1, _ENTRIES_AT_A_TIME // max(longest * self.every.shape[1], 1))
            alike = int(np.searchsorted(-counts[order], -(longest / 2.0), side="right"))
            members = order[begin : min(begin + step, max(alike, begin + 1))]
            begin += members.size
            members = np.sort(members)
            slot = np.arange(longest)
            pairs = first[members][:, None] + slot[None, :]
            here = slot[None, :] < counts[members][:, None]
            pairs = np.where(here, pairs, 0)
            prior = np.where(here, problem.prior_weight[pairs], 0.0)
            put = lambda a: torch.as_tensor(a, device=self.device)  # noqa: E731
            batches.append(_Batch(put(members), put(np.where(here, pairs, -1)), put(problem.record[pairs]), self.send(prior)))
        return batches

    def _alone(self, problem: PairProblem, leaf: int, first: int, count: int) -> _Batch:
        put = lambda a: torch.as_tensor(a, device=self.device)  # noqa: E731
        record, prior = problem.record[first : first + count], self.send(problem.prior_weight[None, first : first + count])
        consecutive = bool((np.diff(record) == 1).all())
        where = slice(int(record[0]), int(record[0]) + count) if consecutive else put(record[None, :])
        return _Batch(put(np.array([leaf])), put(np.arange(first, first + count)[None, :]), where, prior)

    def _rows(self, batch: _Batch) -> torch.Tensor:
        """(leaves, longest, columns) design rows of a batch."""
        return self.every[batch.record][None] if isinstance(batch.record, slice) else self.every[batch.record]

    def _stack(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """Multipliers that act on each leaf's pairs, (leaves, columns)."""
        if not self.deep:
            return multipliers[-1]
        stacked = torch.cat([multipliers[-1], self.zeros(multipliers[-1].shape[0], self.every.shape[1] - self.width)], dim=1)
        return stacked.index_add_(1, self.upper, self.gather(self.chain(multipliers))[self.parent])

    def _pairs(self, multipliers: list[torch.Tensor], link: Link):
        stacked = self._stack(multipliers)
        for batch in self.batches:
            rows = self._rows(batch)
            u = torch.bmm(rows, stacked[batch.leaves][:, :, None])[:, :, 0]
            yield batch, rows, u, link.ratio(u)

    def evaluate(self, multipliers: list[torch.Tensor], link: Link) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        per_leaf = torch.zeros((self.tree.sizes[-1], self.every.shape[1]), dtype=torch.float64, device=self.device)
        potential = torch.zeros((), dtype=torch.float64, device=self.device)
        for batch, rows, u, ratio in self._pairs(multipliers, link):
            weights = ratio * batch.prior
            potential += link.potential(u, ratio, batch.prior, weights)
            per_leaf[batch.leaves] = torch.bmm(weights[:, None, :], rows)[:, 0, :]
        above = []
        if self.deep:
            nodes = self.zeros(self.tree.sizes[-2], self.distinct)
            above = self.totals_above(nodes.index_add_(0, self.parent, per_leaf[:, self.upper]))
        return [*above, per_leaf[:, : self.width]], float(potential)

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves batch by batch."""
        held, nodes = self.shared.numel(), self.tree.sizes[-2] if self.deep else 0
        # Curvature of the columns above that leaves share, with all above; and of the others with each other, of which a strip's columns before it stay empty.
        beside, rest = self.zeros(nodes, held, self.distinct), self.zeros(nodes, self.distinct - held, self.distinct - held)

        def leaves():
            for batch, rows, u, ratio in self._pairs(multipliers, link):
                slope = link.slope(u, ratio) * batch.prior
                scaled = rows[:, :, : self.width] * slope[:, :, None]
                product = scaled.transpose(1, 2) @ rows
                if not self.deep:
                    yield LeafBlocks(batch.leaves, product, None)
                    continue
                cross = product[:, :, self.upper]
                beside.index_add_(0, self.parent[batch.leaves], cross[:, self.shared])
                if rest.numel():
                    self._add_rest(rest, batch, rows[:, :, self.width :], slope)
                yield LeafBlocks(batch.leaves, product[:, :, : self.width], cross)

        def border(schur: torch.Tensor) -> None:
            schur[:, :held] += beside
            schur[:, held:, :held] += beside[:, :, held:].transpose(1, 2)
            corner = schur[:, held:, held:]
            for a in range(0, rest.shape[1], _STRIP):
                b = a + _STRIP
                corner[:, a:b, a:] += rest[:, a:b, a:]
                corner[:, b:, a:b] += rest[:, a:b, b:].transpose(1, 2)

        return ArrowFactor(self, leaves(), border, ridge)

    def _add_rest(self, rest: torch.Tensor, batch: _Batch, extra: torch.Tensor, slope: torch.Tensor) -> None:
        parent = self.parent[batch.leaves]
        for node in torch.unique(parent).tolist():
            here = slice(None) if parent.numel() == 1 else parent == node
            rows = extra[here].flatten(0, 1)
            scaled = rows * slope[here].reshape(-1, 1)
            for a in range(0, rows.shape[1], _STRIP):
                rest[node, a : a + _STRIP, a:].addmm_(scaled[:, a : a + _STRIP].T, rows[:, a:])

    def largest_rise(self, multipliers: list[torch.Tensor], direction: list[torch.Tensor], negligible: float, common: float = 0.0) -> float:
        """Largest of min(change of u, u after the change + negligible) over pairs, at least 0; ``common`` is taken off every change."""
        now, move, rise = self._stack(multipliers), self._stack(direction), torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.batches:
            both = torch.stack([now[batch.leaves], move[batch.leaves]], dim=2)
            u = torch.bmm(self._rows(batch), both)
            least = torch.minimum(u[:, :, 1], u.sum(dim=2) + negligible) - common
            rise = torch.maximum(rise, torch.where(batch.pairs >= 0, least, 0.0).max())
        return float(rise)

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (pairs,) float64, in the problem's order."""
        out = torch.zeros(self.count, dtype=torch.float64, device=self.device)
        for batch, _, _, ratio in self._pairs(multipliers, link):
            here = batch.pairs >= 0
            out[batch.pairs[here]] = (ratio * batch.prior)[here]
        return out.cpu().numpy()
