"""Passes over written-out pairs: each is a record in one leaf, what is left after a selection, or
records of one area each.

Leaves are padded to the longest so that every leaf is one row of a batch; those of one parent stand
beside each other, and a batch ends where padding would take more than the pairs.

Belongs here: passes over a PairProblem, which form rows have. Does not belong here: rows themselves
(``pair_rows.py``, ``listed_rows.py``), elimination of leaves (``pair_leaves.py``), shared pools
(``pool_blocks.py``), the iteration (``tree/solve/newton.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.common.columns import filled_share
from calibration_core.common.distances import Logit
from calibration_core.common.lists import Lists
from calibration_core.common.memory import kept_bytes
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.solve.arrow import ArrowFactor, Eliminated, stretches
from calibration_core.tree.solve.blocks import TreeBlocks
from calibration_core.tree.solve.link import Link
from calibration_core.tree.solve.listed_rows import MOST_FILLED, Both, ListedRows
from calibration_core.tree.solve.pair_leaves import eliminate_pairs
from calibration_core.tree.solve.pair_rows import MatrixRows, Nodes, PairRows

# Entries of one batch's design (pairs x columns): 13 MB. With 400,000 a refit of Rhode Island takes
# 16.4 s for 13.0: torch gives the interpreter's lock back after each of many small steps.
_ENTRIES_AT_A_TIME = 1_600_000
# A leaf with so many entries is a batch of its own, and needs no padding.
_LONG = 30_000
# Places for pairs of one batch whose rows are lists.
_PLACES_AT_A_TIME = 4_096


@dataclass(frozen=True, eq=False)
class Batch:
    """Leaves of like length, padded.

    Attributes
    ----------
    leaves : (leaves,) int64 which ones.
    pairs : (leaves, longest) int64 into the pairs, -1 where there is none.
    prior : (leaves, longest) float64, 0 where there is none.
    link : where pairs have bounds of their own, else None.
    nodes : stretches of leaves of one node just above: (node, first, past the last).
    rows : their design rows.
    """

    leaves: torch.Tensor
    pairs: torch.Tensor
    prior: torch.Tensor
    link: Link | None
    nodes: Nodes
    rows: PairRows

    def link_or(self, link: Link) -> Link:
        """The batch's own link, else the one given."""
        return link if self.link is None else self.link


class PairBlocks(TreeBlocks):
    """Passes over written-out pairs.

    Attributes
    ----------
    listed : whether rows are lists of what is not zero.
    """

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
        # Which columns the levels above have, and what each column is called there.
        upper = torch.cat([self.shared, torch.arange(self.width, self.columns, device=self.device)])
        self._above, self._shared = _as_slice(upper), _as_slice(self.shared)
        self._place = np.full(self.columns, -1, dtype=np.int64)
        self._place[upper.cpu().numpy()] = np.arange(upper.numel())
        self.listed = self.device.type == "cpu" and filled_share(self._design) <= MOST_FILLED
        entries = _ENTRIES_AT_A_TIME // max(self.columns, 1)
        self._places = _PLACES_AT_A_TIME if self.listed else entries
        self._left = kept_bytes("pairs")
        self.batches = list(self._batches(problem))

    def _put(self, array: np.ndarray) -> torch.Tensor:
        return torch.as_tensor(array, device=self.device)

    def _batches(self, problem: PairProblem) -> Iterator[Batch]:
        leaves = len(problem.tree.leaves)
        counts = np.bincount(problem.leaf, minlength=leaves)
        first = np.cumsum(counts) - counts
        order = np.lexsort((np.arange(leaves), -counts, self._owner))
        order = order[counts[order] > 0]
        begin = 0
        while begin < order.size:
            # All are padded to the first at least, so that no more than these fit.
            most = max(1, self._places // int(counts[order[begin]]))
            count = self._together(counts[order[begin : begin + most]])
            members = order[begin : begin + count]
            begin += count
            slot = np.arange(int(counts[members].max()))
            here = slot[None, :] < counts[members][:, None]
            pairs = np.where(here, first[members][:, None] + slot[None, :], -1)
            yield self._batch(problem, members, pairs)

    def _together(self, counts: np.ndarray) -> int:
        """How many leaves are taken together, of those with so many pairs each."""
        longest = np.maximum.accumulate(counts)
        places = longest * np.arange(1, counts.size + 1)
        fits = (places <= 2 * np.cumsum(counts)) & (places <= self._places)
        if not self.listed:
            fits &= longest * self.columns < _LONG
        return 1 + int(np.argmin(np.append(fits[1:], False)))

    def _batch(self, problem: PairProblem, members: np.ndarray, pairs: np.ndarray) -> Batch:
        link, here = None, pairs >= 0
        if problem.ratio_bounds is not None:
            bounds = np.where(here[:, :, None], problem.ratio_bounds[pairs], (0.5, 2.0))
            link = Logit(self.send(bounds[:, :, 0]), self.send(bounds[:, :, 1]))
        prior = np.where(here, problem.prior_weight[pairs] / self.unit, 0.0)
        record = problem.record[pairs]
        return Batch(
            self._put(members),
            self._put(pairs),
            self.send(prior),
            link,
            stretches(self._owner[members]),
            self._listed(record, here) if self.listed else self._matrix(record),
        )

    def _listed(self, record: np.ndarray, here: np.ndarray) -> ListedRows:
        which, place = np.unique(record[here], return_inverse=True)
        index = np.full(record.shape, -1, dtype=np.int32)
        index[here] = place
        own = np.where(np.arange(self.columns) < self.width, np.arange(self.columns), -1)

        def find() -> Both:
            rows = self.rows(which).numpy()
            return Both(Lists.of(rows, own), Lists.of(rows, self._place))

        made = find()
        if made.bytes <= self._left:
            self._left -= made.bytes
            return ListedRows(lambda: made, index, self.width, self.distinct)
        return ListedRows(find, index, self.width, self.distinct)

    def _matrix(self, record: np.ndarray) -> MatrixRows:
        alone = record.shape[0] == 1 and bool((np.diff(record[0]) == 1).all())
        where = slice(int(record[0, 0]), int(record[0, 0]) + record.shape[1]) if alone else record

        def find() -> torch.Tensor:
            rows = self.rows(where)
            return rows[None] if alone else rows

        # Gathering rows takes longer than a matrix-vector product with them.
        size = record.size * self.columns * 8
        if not alone and size <= self._left:
            self._left -= size
            made = find()
            return MatrixRows(lambda: made, self.width, self._above, self._shared)
        return MatrixRows(find, self.width, self._above, self._shared)

    def above_of(self, multipliers: list[torch.Tensor]) -> torch.Tensor:
        """What the levels above multiply each leaf's pairs by, (leaves, distinct); without columns
        in a tree of one level.
        """
        if not self.deep:
            return self.zeros(self.tree.sizes[-1], 0)
        return self.gather(self.chain(multipliers))[self.parent]

    def _pairs(self, multipliers: list[torch.Tensor], link: Link):
        """A function of a batch: its design rows, u and ratio of its pairs."""
        own, above = multipliers[-1], self.above_of(multipliers)

        def pairs(batch: Batch) -> tuple[PairRows, torch.Tensor, torch.Tensor]:
            rows = batch.rows.loaded()
            u = self.u_of(rows, own[batch.leaves], above[batch.leaves])
            return rows, u, batch.link_or(link).ratio(u)

        return pairs

    def u_of(self, rows: PairRows, own: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        """u of the pairs of some leaves, (leaves, longest)."""
        u = rows.own_u(own)
        return u.add_(rows.above_u(above)) if self.deep else u

    def totals_of(self, rows: PairRows, weights: torch.Tensor) -> torch.Tensor:
        """Totals of some leaves: of their own columns, then those above, (leaves, p + distinct)."""
        own = rows.own_totals(weights)
        return torch.cat([own, rows.above_totals(weights)], dim=1) if self.deep else own

    def evaluate(
        self, multipliers: list[torch.Tensor], link: Link
    ) -> tuple[list[torch.Tensor], float]:
        """Totals per level, top first, and the sum of q H(u)."""
        per_leaf = self.no_totals()
        pairs, potential = self._pairs(multipliers, link), 0.0

        def sums(batch: Batch) -> tuple[float, torch.Tensor]:
            rows, u, ratio = pairs(batch)
            weights = ratio * batch.prior
            part = batch.link_or(link).potential(u, ratio, batch.prior, weights).sum()
            return float(part), self.totals_of(rows, weights)

        for batch, (part, totals) in zip(
            self.batches, self.stream(sums, self.batches), strict=True
        ):
            potential += part
            per_leaf[batch.leaves] = totals
        return self.totals(per_leaf), potential

    def no_totals(self) -> torch.Tensor:
        """(leaves, p + distinct) zeros, to be filled by ``totals_of``."""
        above = self.distinct if self.deep else 0
        return self.zeros(self.tree.sizes[-1], self.width + above)

    def totals(self, per_leaf: torch.Tensor) -> list[torch.Tensor]:
        """Totals per level, top first, from those of all leaves as ``totals_of`` gives them."""
        above = []
        if self.deep:
            nodes = self.zeros(self.tree.sizes[-2], self.distinct)
            above = self.totals_above(nodes.index_add_(0, self.parent, per_leaf[:, self.width :]))
        return [*above, per_leaf[:, : self.width]]

    def factor(self, multipliers: list[torch.Tensor], link: Link, ridge: float) -> ArrowFactor:
        """Factorise D A diag(q G') A' D + ridge I, leaves batch by batch."""
        pairs = self._pairs(multipliers, link)

        def one(batch: Batch) -> Eliminated:
            here, u, ratio = pairs(batch)
            slope = batch.link_or(link).slope(u, ratio) * batch.prior
            return eliminate_pairs(self, batch.leaves, batch.rows, here, slope, batch.nodes, ridge)

        return ArrowFactor(self, self.stream(one, self.batches), lambda schur: None, ridge)

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
        now, move = self.above_of(multipliers), self.above_of(direction)

        def largest(batch: Batch) -> float:
            rows, at = batch.rows.loaded(), batch.leaves
            change = self.u_of(rows, direction[-1][at], move[at])
            u = self.u_of(rows, multipliers[-1][at], now[at])
            least = torch.minimum(change, u + change + negligible) - common
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


def _as_slice(columns: torch.Tensor) -> slice | torch.Tensor:
    """Ascending consecutive columns as a slice, which copies nothing; else as they are."""
    if columns.numel() and columns.tolist() == list(
        range(int(columns[0]), int(columns[0]) + columns.numel())
    ):
        return slice(int(columns[0]), int(columns[0]) + columns.numel())
    return columns
