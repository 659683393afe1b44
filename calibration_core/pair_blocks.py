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

# Entries of one batch's design (pairs x variables of all levels): 32 MB.
_ENTRIES_AT_A_TIME = 4_000_000


@dataclass(frozen=True, eq=False)
class _Batch:
    """Leaves of like length, padded: ``pairs`` is (leaves, longest) int64 into the pairs, ``padding`` where there is none."""

    leaves: torch.Tensor
    pairs: torch.Tensor
    record: torch.Tensor
    prior: torch.Tensor


class PairBlocks(TreeBlocks):
    """Passes over written-out pairs."""

    def __init__(self, problem: PairProblem, device: str = "cpu") -> None:
        super().__init__(problem.tree, problem.targets.designs, problem.targets.scales, device)
        self.prior_total = float(problem.prior_weight.sum())
        self.count = int(problem.leaf.size)
        self.every = torch.cat([self.designs[-1], self.upper], dim=1) if self.upper is not None else self.designs[-1]
        self.own_width = self.designs[-1].shape[1]
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
            send = lambda a: torch.as_tensor(a, device=self.device)  # noqa: E731
            batches.append(_Batch(send(members), send(np.where(here, pairs, -1)), send(problem.record[pairs]), self.send(prior)))
        return batches

    def _rows(self, batch: _Batch) -> torch.Tensor:
        """(leaves, longest, all variables) design rows of a batch."""
        return self.every[batch.record]

    def _stack(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """Multipliers that act on each leaf's pairs, (leaves, all variables)."""
        if self.upper is None:
            return multipliers[-1]
        return torch.cat([multipliers[-1], self.chain(multipliers)[self.parent]], dim=1)

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
        return self._totals(per_leaf), float(potential)

    def _totals(self, per_leaf: torch.Tensor) -> list[torch.Tensor]:
        answers = [per_leaf[:, : self.own_width]]
        held = per_leaf[:, self.own_width :]
        for step, width in enumerate(self.widths):
            depth = len(self.designs) - 1 - step
            up = torch.zeros((self.tree.sizes[depth - 1], held.shape[1]), dtype=torch.float64, device=self.device)
            held = up.index_add_(0, self.parents[depth], held)
            answers.append(held[:, :width])
            held = held[:, width:]
        return answers[::-1]

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves batch by batch."""
        above = sum(self.widths)
        border = torch.zeros((self.tree.sizes[-2], above, above), dtype=torch.float64, device=self.device) if above else None

        def leaves():
            for batch, rows, u, ratio in self._pairs(multipliers, link):
                slope = link.slope(u, ratio) * batch.prior
                own = rows[:, :, : self.own_width]
                product = (own * slope[:, :, None]).transpose(1, 2) @ rows
                if border is not None:
                    self._add_border(border, batch, rows[:, :, self.own_width :], slope)
                yield LeafBlocks(batch.leaves, product[:, :, : self.own_width], product[:, :, self.own_width :] if above else None)

        return ArrowFactor(self, leaves(), lambda: border, ridge)

    def _add_border(self, border: torch.Tensor, batch: _Batch, upper: torch.Tensor, slope: torch.Tensor) -> None:
        parent = self.parent[batch.leaves]
        for node in torch.unique(parent).tolist():
            here = parent == node
            rows = upper[here].reshape(-1, upper.shape[2])
            border[node] += (rows * slope[here].reshape(-1, 1)).T @ rows

    def largest_rise(self, multipliers: list[torch.Tensor], direction: list[torch.Tensor], negligible: float) -> float:
        """Largest of min(change of u, u after the change + negligible) over pairs, at least 0."""
        now, move, rise = self._stack(multipliers), self._stack(direction), torch.zeros((), dtype=torch.float64, device=self.device)
        for batch in self.batches:
            both = torch.stack([now[batch.leaves], move[batch.leaves]], dim=2)
            u = torch.bmm(self._rows(batch), both)
            least = torch.minimum(u[:, :, 1], u.sum(dim=2) + negligible)
            rise = torch.maximum(rise, torch.where(batch.pairs >= 0, least, 0.0).max())
        return float(rise)

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (pairs,) float64, in the problem's order."""
        out = torch.zeros(self.count, dtype=torch.float64, device=self.device)
        for batch, _, _, ratio in self._pairs(multipliers, link):
            here = batch.pairs >= 0
            out[batch.pairs[here]] = (ratio * batch.prior)[here]
        return out.cpu().numpy()
