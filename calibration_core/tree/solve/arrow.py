"""Solving Newton systems whose matrix is block-arrow along a tree of areas.

One small block a leaf, bordered by its county, its state, and so on up. Leaves are eliminated
first, then each level above (Schur complements), so a solve costs one small Cholesky factorisation
an area. Factors are kept, so that further right-hand sides (chord steps, refinement) are cheap.

Leaves come as a stream and only what is kept of them stays, so memory grows with areas and
variables, not with records.

Belongs here: linear algebra on the arrow, leaves of a shared pool. Does not belong here: single
blocks (``small_matrices.py``), leaves of written-out pairs (``pair_leaves.py``), how blocks come
from records (``pool_blocks.py``, ``pair_blocks.py``), or the iteration around it
(``tree/solve/newton.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch

from calibration_core.tree.solve.small_matrices import (
    cholesky,
    left_solve,
    lower_solve,
    mirrored,
    solve_with,
    upper_gram,
    upper_solve,
)

# Entries of nodes' blocks that are spread over their ancestors at a time, by each thread: 8 MB.
_SPREAD = 1_000_000


class LeafFactor(Protocol):
    """What is kept of some leaves; (all leaves, ...) tensors are looked at where these are."""

    @property
    def leaves(self) -> slice | torch.Tensor:
        """Which ones."""
        ...

    def reduced(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """From the right-hand side (all leaves, p): what ``finish`` needs of it, and C' M^-1 x,
        (leaves, distinct), with M the leaves' own systems and C their coupling.
        """
        ...

    def finish(self, half: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        """M^-1 (x - C z), (leaves, p), given the answer z above, (all leaves, distinct)."""
        ...


@dataclass(frozen=True, eq=False)
class CoupledLeaves:
    """Leaves of a shared pool, eliminated.

    Attributes
    ----------
    leaves : which.
    lower : (leaves, p, p) L of M = L L'.
    coupling : L^-1 times their coupling, (leaves, p, distinct), without columns in a tree of one
        level; in single precision where that of all leaves is large, for it only steers the steps.
    """

    leaves: slice | torch.Tensor
    lower: torch.Tensor
    coupling: torch.Tensor

    def reduced(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        half = lower_solve(self.lower, x[self.leaves])
        return half, torch.bmm(half[:, None, :], self.coupling.to(half.dtype))[:, 0, :]

    def finish(self, half: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        coupling = self.coupling.to(half.dtype)
        carried = torch.bmm(coupling, above[self.leaves][:, :, None])[:, :, 0]
        return upper_solve(self.lower, half - carried)


@dataclass(frozen=True, eq=False)
class Eliminated:
    """What the elimination of some leaves leaves behind: what is kept of them, and what it takes
    off the block of each parent, (parent, (distinct, distinct)), the upper half of it; negative
    where that has all that these leaves add to their parents' blocks.
    """

    factor: LeafFactor
    taken: Sequence[tuple[int, torch.Tensor]]


def eliminate(
    blocks,
    leaves: slice,
    own: torch.Tensor,
    cross: torch.Tensor | None,
    nodes: tuple[tuple[int, int, int], ...],
    ridge: float,
) -> Eliminated:
    """Scale, factorise and eliminate some leaves of a shared pool.

    Parameters
    ----------
    blocks : the TreeBlocks they belong to.
    leaves : which.
    own : (leaves, p, p) unscaled curvature of their own variables.
    cross : (leaves, p, distinct) coupling with the distinct columns of levels above
        (``TreeBlocks.place``); None in a tree of one level.
    nodes : stretches of leaves with one parent: (parent, first, past the last) within these leaves.
    """
    scale = blocks.inverse[-1][leaves]
    lower = cholesky((own * scale[:, :, None]).mul_(scale[:, None, :]), ridge)
    if cross is None:
        return Eliminated(CoupledLeaves(leaves, lower, lower[:, :, :0]), ())
    coupling = left_solve(lower, cross * scale[:, :, None])
    width = coupling.shape[2]
    taken = [(node, upper_gram(coupling[a:b].reshape(-1, width))) for node, a, b in nodes]
    kept = coupling.to(torch.float32 if blocks.single else torch.float64)
    return Eliminated(CoupledLeaves(leaves, lower, kept), taken)


class ArrowFactor:
    """Cholesky factors of the scaled block-arrow matrix plus ``ridge`` times the identity.

    Parameters
    ----------
    blocks : the TreeBlocks it belongs to (tree, scales, widths).
    leaves : what ``eliminate`` gave for all leaves, streamed in a fixed order; each is folded into
        its parent's block before the next is asked for.
    border : called after the last leaf; adds to the upper halves of (nodes one level up, distinct,
        distinct) the coupling of the levels above with themselves.
    ridge : added to the diagonal after scaling.

    Columns of levels above are held once each, and spread over their chain of ancestors where their
    scales come in. What is kept of the leaves is in ``parts``, one for each Eliminated.
    """

    def __init__(
        self,
        blocks,
        leaves: Iterable[Eliminated],
        border: Callable[[torch.Tensor], None],
        ridge: float,
    ) -> None:
        tree, self._widths = blocks.tree, blocks.widths
        self._parents, self._blocks, self._ridge = blocks.parents, blocks, ridge
        self.parts: list[LeafFactor] = []
        self._levels: list[tuple[torch.Tensor, torch.Tensor]] = []
        if not blocks.deep:
            self.parts += [part.factor for part in leaves]
            return
        above = blocks.distinct
        self._chain = blocks.chain(blocks.inverse)
        schur = blocks.zeros(tree.sizes[-2], above, above)
        for part in leaves:
            self.parts.append(part.factor)
            for node, taken in part.taken:
                schur[node].sub_(taken)
        border(schur)
        schur = self._first_level(schur)
        for step, width in enumerate(self._widths[1:], start=1):
            factor, cross, rest = _eliminated(schur, width, ridge)
            self._levels.append((factor, cross))
            if rest is not None:
                depth = len(tree.levels) - 2 - step
                schur = blocks.zeros(tree.sizes[depth - 1], *rest.shape[1:])
                schur.index_add_(0, self._parents[depth], rest)

    def _first_level(self, schur: torch.Tensor) -> torch.Tensor:
        """Eliminate the level just above the leaves from the upper halves of its nodes' blocks
        (nodes, distinct, distinct), and give the blocks of the next. Some nodes at a time: spread
        over its chain of ancestors a block has several times as many entries.
        """
        blocks, width, place = self._blocks, self._widths[0], self._blocks.place
        wide, depth = place.numel() - width, len(blocks.tree.levels) - 2
        factors = blocks.zeros(schur.shape[0], width, width)
        crosses = blocks.zeros(schur.shape[0], width, wide)
        above = blocks.zeros(blocks.tree.sizes[depth - 1] if depth else 0, wide, wide)

        def one(here: slice) -> torch.Tensor | None:
            scale = self._chain[here]
            some = mirrored(schur[here]).index_select(1, place).index_select(2, place)
            some = some.mul_(scale[:, :, None]).mul_(scale[:, None, :])
            factors[here], crosses[here], rest = _eliminated(some, width, self._ridge)
            return rest

        step = max(1, _SPREAD // max(1, place.numel() ** 2))
        some = [slice(a, min(schur.shape[0], a + step)) for a in range(0, schur.shape[0], step)]
        for here, rest in zip(some, blocks.stream(one, some), strict=True):
            if rest is not None:
                above.index_add_(0, self._parents[depth][here], rest)
        self._levels.append((factors, crosses))
        return above

    def solve(self, rhs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Solve for right-hand sides given per level from the top to the leaves, each (areas,
        variables).
        """
        # A leaf that no record reaches has nothing but the ridge.
        leaves, halves = (rhs[-1] / self._ridge, [part.reduced(rhs[-1]) for part in self.parts])
        if len(rhs) == 1:
            for part, (half, _) in zip(self.parts, halves, strict=True):
                leaves[part.leaves] = part.finish(half, rhs[-1][:, :0])
            return [leaves]
        depth = len(rhs) - 1
        pull = torch.zeros(
            (rhs[-2].shape[0], self._blocks.distinct), dtype=rhs[0].dtype, device=rhs[0].device
        )
        for part, (_, taken) in zip(self.parts, halves, strict=True):
            pull.index_add_(0, self._parents[-1][part.leaves], taken, alpha=-1.0)
        chain = pull[:, self._blocks.place] * self._chain
        partial: list[torch.Tensor] = []
        for step, width in enumerate(self._widths):
            factor, cross = self._levels[step]
            own = chain[:, :width] + rhs[depth - 1 - step]
            partial.append(own)
            if step + 1 == len(self._widths):
                break
            rest = chain[:, width:] - torch.einsum("npq,np->nq", cross, solve_with(factor, own))
            above = depth - 1 - step
            chain = torch.zeros(
                (rhs[above - 1].shape[0], rest.shape[1]), dtype=rest.dtype, device=rest.device
            )
            chain.index_add_(0, self._parents[above], rest)
        answers: list[torch.Tensor] = [torch.empty(0)] * (depth + 1)
        carried = torch.zeros((rhs[0].shape[0], 0), dtype=rhs[0].dtype, device=rhs[0].device)
        for step in range(len(self._widths) - 1, -1, -1):
            factor, cross = self._levels[step]
            level = depth - 1 - step
            if step + 1 < len(self._widths):
                carried = carried[self._parents[level]]
            own = partial[step] - torch.einsum("npq,nq->np", cross, carried)
            answers[level] = solve_with(factor, own)
            carried = torch.cat([answers[level], carried], dim=1)
        above_leaves = self._blocks.gather(carried * self._chain)[self._parents[-1]]
        for part, (half, _) in zip(self.parts, halves, strict=True):
            leaves[part.leaves] = part.finish(half, above_leaves)
        answers[-1] = leaves
        return answers


def _eliminated(
    schur: torch.Tensor, width: int, ridge: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Of blocks (nodes, n, n): the factor of their first ``width`` variables, the coupling of these
    with the others, and what is left for the others; None without any.
    """
    own, cross = schur[:, :width, :width], schur[:, :width, width:].clone()
    factor = cholesky(own, ridge)
    if not cross.shape[2]:
        return factor, cross, None
    part = torch.linalg.solve_triangular(factor, cross, upper=False)
    rest = torch.baddbmm(schur[:, width:, width:], part.transpose(1, 2), part, alpha=-1.0)
    return factor, cross, rest


def stretches(parent: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Consecutive equal entries: (entry, first, past the last)."""
    parent = np.asarray(parent, dtype=np.int64)
    edges = [*np.flatnonzero(np.diff(parent, prepend=-1)).tolist(), parent.size]
    return tuple((int(parent[a]), a, b) for a, b in itertools.pairwise(edges))


class RankOneDown:
    """Solves (M - g g' / total) x = r, given a factor of M."""

    def __init__(self, factor, mean: list[torch.Tensor], total: float) -> None:
        self.factor, self.mean = factor, mean
        self.along = factor.solve(mean)
        self.room = total - inner(mean, self.along)

    def solve(self, rhs: list[torch.Tensor]) -> list[torch.Tensor]:
        plain = self.factor.solve(rhs)
        # The ridge keeps the room positive; rounding may not.
        more = inner(self.mean, plain) / self.room if self.room > 0 else 0.0
        return [a + more * b for a, b in zip(plain, self.along, strict=True)]


def inner(a: list[torch.Tensor], b: list[torch.Tensor]) -> float:
    """Sum of products over all levels."""
    return sum(float((x * y).sum()) for x, y in zip(a, b, strict=True))
