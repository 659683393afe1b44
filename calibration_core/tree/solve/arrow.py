"""Solving Newton systems whose matrix is block-arrow along a tree of areas.

One small block a leaf, bordered by its county, its state, and so on up. Leaves are eliminated
first, then each level above (Schur complements), so a solve costs one small Cholesky factorisation
an area, of its variables or of its pairs, whichever are fewer (``leaf_systems.py``). Factors are
kept, so that further right-hand sides (chord steps, refinement) are cheap.

Leaves come as a stream and only their factors and couplings stay, so memory grows with areas and
variables, not with records.

Belongs here: linear algebra on the arrow. Does not belong here: single blocks
(``small_matrices.py``), how they come from records (``pool_blocks.py``, ``pair_blocks.py``), or the
iteration around it (``tree/solve/newton.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from calibration_core.tree.solve.leaf_systems import LeafSystems
from calibration_core.tree.solve.small_matrices import cholesky, mirrored, solve_with, upper_gram

# Entries of nodes' blocks that are spread over their ancestors at a time: 32 MB.
_SPREAD = 4_000_000


@dataclass(frozen=True, eq=False)
class LeafBlocks:
    """Unscaled curvature of some leaves.

    Attributes
    ----------
    leaves : (first, past the last) or int64 indices of the leaves.
    own : (leaves, p, p) their own block.
    cross : (leaves, p, distinct) coupling with the distinct columns of levels above
        (``TreeBlocks.place``); None in a tree of one level.
    nodes : stretches of leaves with one parent: (parent, first, past the last) within these leaves.
    """

    leaves: tuple[int, int] | torch.Tensor
    own: torch.Tensor
    cross: torch.Tensor | None
    nodes: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, eq=False)
class LeafFactor:
    """What is kept of some leaves.

    Attributes
    ----------
    leaves : which.
    systems : their own systems, factorised.
    coupling : L^-1 times their coupling, (leaves, p or pairs, distinct), without columns in a tree
        of one level; in single precision where that of all leaves is large, for it only steers the
        steps.
    inverse : (leaves, p) 1 / scale.
    rows : gives the design rows (leaves, pairs, p) of leaves solved in their pairs; else none.
    """

    leaves: slice | torch.Tensor
    systems: LeafSystems
    coupling: torch.Tensor
    inverse: torch.Tensor
    rows: Callable[[], torch.Tensor]

    def half(self, x: torch.Tensor) -> torch.Tensor:
        """L^-1 of the right-hand side, from that of all leaves."""
        return self.systems.half(self.rows(), self.inverse, x[self.leaves])

    def finish(self, x: torch.Tensor, half: torch.Tensor, above: torch.Tensor) -> torch.Tensor:
        """The leaves' answer, given the answer above, (all leaves, distinct)."""
        coupling = self.coupling.to(half.dtype)
        carried = torch.bmm(coupling, above[self.leaves][:, :, None])[:, :, 0]
        return self.systems.finish(self.rows(), self.inverse, x[self.leaves], half, carried)


@dataclass(frozen=True, eq=False)
class Eliminated:
    """What the elimination of some leaves leaves behind: what is kept of them, and what it takes
    off the block of each parent, (parent, (distinct, distinct)), the upper half of it.
    """

    factor: LeafFactor
    taken: tuple[tuple[int, torch.Tensor], ...]


def eliminate(blocks, part: LeafBlocks, ridge: float) -> Eliminated:
    """Scale, factorise and eliminate some leaves; ``blocks`` is the TreeBlocks they belong to."""
    here = slice(*part.leaves) if isinstance(part.leaves, tuple) else part.leaves
    scale = blocks.inverse[-1][here]
    systems = LeafSystems.of_variables(part.own, scale, ridge)

    def rows() -> torch.Tensor:
        return systems.root

    if part.cross is None:
        return Eliminated(LeafFactor(here, systems, systems.lower[:, :, :0], scale, rows), ())
    coupling = _left(systems.lower, part.cross * scale[:, :, None])
    taken = tuple((node, _gram_of(coupling[a:b])) for node, a, b in part.nodes)
    return Eliminated(LeafFactor(here, systems, _kept(blocks, coupling), scale, rows), taken)


def eliminate_by_pairs(
    blocks,
    leaves: torch.Tensor,
    nodes: tuple[tuple[int, int, int], ...],
    slope: torch.Tensor,
    rows: Callable[[], torch.Tensor],
    ridge: float,
) -> Eliminated:
    """The same of leaves with fewer pairs than variables, from the slopes (leaves, pairs) and the
    design rows (leaves, pairs, columns) of their pairs. What it takes off is negative: all that
    these leaves add to their parents' blocks (``leaf_systems.py``).
    """

    def own() -> torch.Tensor:
        return rows()[:, :, : blocks.width]

    every, scale = rows(), blocks.inverse[-1][leaves]
    systems = LeafSystems.of(every[:, :, : blocks.width], scale, slope, ridge)
    if not blocks.deep:
        return Eliminated(LeafFactor(leaves, systems, systems.lower[:, :, :0], scale, own), ())
    above = every[:, :, blocks.columns_above] * slope.sqrt()[:, :, None]
    coupling = _left(systems.lower, above)
    taken = tuple((node, _gram_of(coupling[a:b]).mul_(-ridge)) for node, a, b in nodes)
    return Eliminated(LeafFactor(leaves, systems, _kept(blocks, coupling), scale, own), taken)


def _left(lower: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """L^-1 cross: from the right and transposed, so that what comes out has its rows beside each
    other in memory.
    """
    return torch.linalg.solve_triangular(lower.mT, cross.mT, upper=True, left=False).mT


def _gram_of(coupling: torch.Tensor) -> torch.Tensor:
    return upper_gram(coupling.reshape(-1, coupling.shape[2]))


def _kept(blocks, coupling: torch.Tensor) -> torch.Tensor:
    return coupling.to(torch.float32 if blocks.single else torch.float64)


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
    scales come in. Kept per leaf: its factor and its coupling (``LeafFactor``), in ``parts``, one
    for each Eliminated.
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
        (nodes, distinct, distinct), and give the blocks of the next. Some nodes after others:
        spread over its chain of ancestors a block has several times as many entries.
        """
        blocks, width, place = self._blocks, self._widths[0], self._blocks.place
        wide, depth = place.numel() - width, len(blocks.tree.levels) - 2
        factors = blocks.zeros(schur.shape[0], width, width)
        crosses = blocks.zeros(schur.shape[0], width, wide)
        above = blocks.zeros(blocks.tree.sizes[depth - 1] if depth else 0, wide, wide)
        for nodes in torch.arange(schur.shape[0]).split(max(1, _SPREAD // place.numel() ** 2)):
            here, scale = slice(int(nodes[0]), int(nodes[-1]) + 1), self._chain[nodes]
            some = mirrored(schur[here])[:, place[:, None], place[None, :]]
            some = some.mul_(scale[:, :, None]).mul_(scale[:, None, :])
            factors[here], crosses[here], rest = _eliminated(some, width, self._ridge)
            if rest is not None:
                above.index_add_(0, self._parents[depth][here], rest)
        self._levels.append((factors, crosses))
        return above

    def solve(self, rhs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Solve for right-hand sides given per level from the top to the leaves, each (areas,
        variables).
        """
        # A leaf that no record reaches has nothing but the ridge.
        leaves, halves = (rhs[-1] / self._ridge, [part.half(rhs[-1]) for part in self.parts])
        if len(rhs) == 1:
            for part, half in zip(self.parts, halves, strict=True):
                leaves[part.leaves] = part.finish(rhs[-1], half, rhs[-1][:, :0])
            return [leaves]
        depth = len(rhs) - 1
        pull = torch.zeros(
            (rhs[-2].shape[0], self._blocks.distinct), dtype=rhs[0].dtype, device=rhs[0].device
        )
        for part, half in zip(self.parts, halves, strict=True):
            pull.index_add_(
                0,
                self._parents[-1][part.leaves],
                torch.bmm(half[:, None, :], part.coupling.to(half.dtype))[:, 0, :],
                alpha=-1.0,
            )
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
        for part, half in zip(self.parts, halves, strict=True):
            leaves[part.leaves] = part.finish(rhs[-1], half, above_leaves)
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
