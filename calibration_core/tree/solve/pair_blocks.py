"""Passes over written-out pairs: each is a record in one leaf, what is left after a selection, or
records of one area each.

Leaves are padded to the longest so that every leaf is one row of a batch; where leaves differ much
in length they are batched by length, so that padding stays under half.

Belongs here: passes over a PairProblem. Does not belong here: shared pools (``pool_blocks.py``),
the linear solve (``arrow.py``), the iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from calibration_core.common.distances import Logit
from calibration_core.common.memory import kept_bytes
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.solve.arrow import (
    ArrowFactor,
    Eliminated,
    LeafBlocks,
    eliminate,
    eliminate_by_pairs,
    stretches,
)
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.leaf_systems import by_pairs
from calibration_core.tree.solve.link import Link
from calibration_core.tree.solve.small_matrices import STRIP

# Entries of one batch's design (pairs x columns): 13 MB. With 400,000 a refit of Rhode Island takes
# 16.4 s for 13.0: torch gives the interpreter's lock back after each of many small steps.
_ENTRIES_AT_A_TIME = 1_600_000
# A leaf with so many entries is a batch of its own, and needs no padding.
_LONG = 30_000

# What some leaves add to the area above them: its index, and a tensor.
Share = tuple[int, torch.Tensor]


@dataclass(frozen=True, eq=False)
class Batch:
    """Leaves of like length, padded.

    Attributes
    ----------
    leaves : (leaves,) int64 which ones.
    pairs : (leaves, longest) int64 into the pairs, -1 where there is none.
    record : the same into the records, or a slice of them where one leaf has consecutive records.
    prior : (leaves, longest) float64, 0 where there is none.
    link : where pairs have bounds of their own, else None.
    nodes : stretches of leaves of one node just above: (node, first, past the last).
    kept : their design rows (leaves, longest, columns), while memory allows.
    """

    leaves: torch.Tensor
    pairs: torch.Tensor
    record: torch.Tensor | slice
    prior: torch.Tensor
    link: Link | None
    nodes: tuple[tuple[int, int, int], ...]
    kept: torch.Tensor | None

    def link_or(self, link: Link) -> Link:
        """The batch's own link, else the one given."""
        return link if self.link is None else self.link


class PairBlocks(TreeBlocks):
    """Passes over written-out pairs."""

    def __init__(self, problem: PairProblem, device: str = "cpu", unit: float = 1.0) -> None:
        targets = problem.targets
        super().__init__(problem.tree, targets.designs, targets.scales, device, unit)
        self.prior_total = problem.prior_total / unit
        self.count = int(problem.leaf.size)
        self._owner = (
            problem.tree.parents[-1]
            if self.deep
            else np.zeros(len(problem.tree.leaves), dtype=np.int64)
        )
        self.empty = self._put(
            np.flatnonzero(np.bincount(problem.leaf, minlength=len(problem.tree.leaves)) == 0)
        )
        # Which columns the levels above have.
        self.upper = torch.cat(
            [self.shared, torch.arange(self.width, self.columns, device=self.device)]
        )
        self.columns_above, self._columns_shared, self._kept = (
            _as_slice(self.upper),
            _as_slice(self.shared),
            0,
        )
        self.batches = self._batches(problem)

    def _batches(self, problem: PairProblem) -> list[Batch]:
        leaves = len(problem.tree.leaves)
        counts = np.bincount(problem.leaf, minlength=leaves)
        first = np.cumsum(counts) - counts
        order = np.lexsort((np.arange(leaves), -counts))
        order = order[counts[order] > 0]
        batches, begin = [], 0
        while begin < order.size:
            longest = int(counts[order[begin]])
            if longest * self.columns >= _LONG:
                batches.append(
                    self._alone(problem, int(order[begin]), int(first[order[begin]]), longest)
                )
                begin += 1
                continue
            step = max(1, _ENTRIES_AT_A_TIME // max(longest * self.columns, 1))
            alike = int(np.searchsorted(-counts[order], -(longest / 2.0), side="right"))
            members = order[begin : min(begin + step, max(alike, begin + 1))]
            begin += members.size
            # Leaves of one parent beside each other.
            members = members[np.lexsort((members, self._owner[members]))]
            slot = np.arange(longest)
            pairs = first[members][:, None] + slot[None, :]
            here = slot[None, :] < counts[members][:, None]
            pairs = np.where(here, pairs, 0)
            prior = np.where(here, problem.prior_weight[pairs] / self.unit, 0.0)
            batches.append(
                self._batch(
                    problem,
                    members,
                    np.where(here, pairs, -1),
                    self._put(problem.record[pairs]),
                    prior,
                )
            )
        return batches

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self.device)

    def _batch(
        self,
        problem: PairProblem,
        members: np.ndarray,
        pairs: np.ndarray,
        record: torch.Tensor | slice,
        prior: np.ndarray,
    ) -> Batch:
        link = None
        if problem.ratio_bounds is not None:
            bounds = np.where((pairs >= 0)[:, :, None], problem.ratio_bounds[pairs], (0.5, 2.0))
            link = Logit(self.send(bounds[:, :, 0]), self.send(bounds[:, :, 1]))
        kept = None
        # Gathering rows takes longer than a matrix-vector product with them.
        most = kept_bytes("pairs")
        if not isinstance(record, slice) and self._kept + pairs.size * self.columns * 8 <= most:
            kept = self.rows(_places(record))
            self._kept += kept.numel() * 8
        return Batch(
            self._put(members),
            self._put(pairs),
            record,
            self.send(prior),
            link,
            stretches(self._owner[members]),
            kept,
        )

    def _alone(self, problem: PairProblem, leaf: int, first: int, count: int) -> Batch:
        record, prior = (
            problem.record[first : first + count],
            problem.prior_weight[None, first : first + count] / self.unit,
        )
        consecutive = bool((np.diff(record) == 1).all())
        where = (
            slice(int(record[0]), int(record[0]) + count)
            if consecutive
            else self._put(record[None, :])
        )
        return self._batch(
            problem, np.array([leaf]), np.arange(first, first + count)[None, :], where, prior
        )

    def rows_in(self, batch: Batch) -> torch.Tensor:
        """(leaves, longest, columns) design rows of a batch."""
        if batch.kept is not None:
            return batch.kept
        found = self.rows(_places(batch.record))
        return found[None] if isinstance(batch.record, slice) else found

    def stack_above(self, multipliers: list[torch.Tensor]) -> torch.Tensor | None:
        """What the levels above multiply each leaf's pairs by, (leaves, columns); None in a tree
        of one level.
        """
        if not self.deep:
            return None
        stacked = self.zeros(self.tree.sizes[-1], self.columns)
        return stacked.index_add_(1, self.upper, self.gather(self.chain(multipliers))[self.parent])

    def _stack(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """Multipliers that act on each leaf's pairs, (leaves, columns)."""
        stacked = self.stack_above(multipliers)
        if stacked is None:
            return multipliers[-1]
        stacked[:, : self.width] += multipliers[-1]
        return stacked

    def _pairs(self, multipliers: list[torch.Tensor], link: Link):
        """A function of a batch: its design rows, u and ratio of its pairs."""
        stacked = self._stack(multipliers)

        def pairs(batch: Batch) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
            rows = self.rows_in(batch)
            u = torch.bmm(rows, stacked[batch.leaves][:, :, None])[:, :, 0]
            return rows, u, batch.link_or(link).ratio(u)

        return pairs

    def evaluate(
        self, multipliers: list[torch.Tensor], link: Link
    ) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        per_leaf = self.zeros(self.tree.sizes[-1], self.columns)
        pairs, potential = self._pairs(multipliers, link), 0.0

        def sums(batch: Batch) -> tuple[float, torch.Tensor]:
            rows, u, ratio = pairs(batch)
            weights = ratio * batch.prior
            part = batch.link_or(link).potential(u, ratio, batch.prior, weights).sum()
            return float(part), torch.bmm(weights[:, None, :], rows)[:, 0, :]

        for batch, (part, totals) in zip(
            self.batches, self.stream(sums, self.batches), strict=True
        ):
            potential += part
            per_leaf[batch.leaves] = totals
        return self.totals(per_leaf), potential

    def totals(self, per_leaf: torch.Tensor) -> list[torch.Tensor]:
        """Totals per level, top first, from those of all columns by leaf: (leaves, columns)."""
        above = []
        if self.deep:
            nodes = self.zeros(self.tree.sizes[-2], self.distinct)
            above = self.totals_above(nodes.index_add_(0, self.parent, per_leaf[:, self.upper]))
        return [*above, per_leaf[:, : self.width]]

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves batch by batch."""
        held, nodes = self.shared.numel(), self.tree.sizes[-2] if self.deep else 0
        # Curvature of the columns above that leaves share, with all above; and of the others with
        # each other, of which a strip's columns before it stay empty.
        beside, rest = (
            self.zeros(nodes, held, self.distinct),
            self.zeros(nodes, self.distinct - held, self.distinct - held),
        )

        pairs = self._pairs(multipliers, link)

        def one(batch: Batch) -> tuple[Eliminated, list[Share], list[Share]]:
            rows, u, ratio = pairs(batch)
            slope = batch.link_or(link).slope(u, ratio) * batch.prior
            if by_pairs(rows.shape[1], self.width):
                found = partial(self.rows_in, batch)
                done = eliminate_by_pairs(self, batch.leaves, batch.nodes, slope, found, ridge)
                return done, [], []
            scaled = rows[:, :, : self.width] * slope[:, :, None]
            product = scaled.transpose(1, 2) @ rows
            if not self.deep:
                return eliminate(self, LeafBlocks(batch.leaves, product, None, ()), ridge), [], []
            cross = product[:, :, self.columns_above]
            blocks = [
                (node, cross[a:b].sum(dim=0)[self._columns_shared]) for node, a, b in batch.nodes
            ]
            others = _others(batch, rows[:, :, self.width :], slope) if rest.numel() else []
            own = LeafBlocks(batch.leaves, product[:, :, : self.width], cross, batch.nodes)
            return eliminate(self, own, ridge), blocks, others

        def leaves():
            for eliminated, blocks, others in self.stream(one, self.batches):
                for node, share in blocks:
                    beside[node] += share
                for node, share in others:
                    rest[node] += share
                yield eliminated

        def border(schur: torch.Tensor) -> None:
            schur[:, :held] += beside
            schur[:, held:, held:] += rest

        return ArrowFactor(self, leaves(), border, ridge)

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
        now, move = self._stack(multipliers), self._stack(direction)

        def largest(batch: Batch) -> float:
            both = torch.stack([now[batch.leaves], move[batch.leaves]], dim=2)
            u = torch.bmm(self.rows_in(batch), both)
            least = torch.minimum(u[:, :, 1], u.sum(dim=2) + negligible) - common
            return float(torch.where(batch.pairs >= 0, least, 0.0).max())

        return max(0.0, *self.stream(largest, self.batches))

    def weights(self, multipliers: list[torch.Tensor], link: Link) -> np.ndarray:
        """w, (pairs,) float64, in the problem's order."""
        out = torch.zeros(self.count, dtype=torch.float64, device=self.device)
        pairs = self._pairs(multipliers, link)

        def write(batch: Batch) -> None:
            here, ratio = batch.pairs >= 0, pairs(batch)[2]
            out[batch.pairs[here]] = (ratio * batch.prior)[here]

        for _ in self.stream(write, self.batches):
            pass
        return out.cpu().numpy()


def _others(batch: Batch, extra: torch.Tensor, slope: torch.Tensor) -> list[Share]:
    """Curvature of the columns that leaves do not have, by node; of each strip of columns those
    before it are left out.
    """
    scaled, shares = extra * slope[:, :, None], []
    for node, first, last in batch.nodes:
        rows, left = extra[first:last].flatten(0, 1), scaled[first:last].flatten(0, 1)
        share = rows.new_zeros((rows.shape[1], rows.shape[1]))
        for a in range(0, rows.shape[1], STRIP):
            torch.mm(left[:, a : a + STRIP].T, rows[:, a:], out=share[a : a + STRIP, a:])
        shares.append((node, share))
    return shares


def _places(record: torch.Tensor | slice) -> np.ndarray | slice:
    """Places of records as numpy takes them."""
    return record if isinstance(record, slice) else record.cpu().numpy()


def _as_slice(columns: torch.Tensor) -> slice | torch.Tensor:
    """Ascending consecutive columns as a slice, which copies nothing; else as they are."""
    if columns.numel() and columns.tolist() == list(
        range(int(columns[0]), int(columns[0]) + columns.numel())
    ):
        return slice(int(columns[0]), int(columns[0]) + columns.numel())
    return columns
