"""Solving Newton systems whose matrix is block-arrow along a tree of areas.

One small block a leaf, bordered by its county, its state, and so on up. Leaves are eliminated
first, then each level above (Schur complements), so a solve costs one small Cholesky factorisation
an area. Factors are kept, so that further right-hand sides (chord steps, refinement) are cheap.

Leaves come as a stream and only their factors and couplings stay, so memory grows with areas and
variables, not with records.

Belongs here: linear algebra on the arrow. Does not belong here: how blocks come from records
(``pool_blocks.py``, ``pair_blocks.py``), or the iteration around it (``tree/solve/newton.py``).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

# What is added to a diagonal, as shares of its largest entry, until the block is positive definite.
_JITTERS = (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


class FactorisationError(ArithmeticError):
    """Curvature that no amount of damping makes positive definite: it is not finite. The iteration
    answers it with a shorter step, or ends and says so; it never leaves the solver.
    """


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
    """What is kept of some leaves: their index, L of their block L L' (leaves, p, p), and L^-1
    times their coupling (leaves, p, distinct), without columns in a tree of one level; in single
    precision where that of all leaves is large, for it only steers the steps.
    """

    leaves: slice | torch.Tensor
    lower: torch.Tensor
    coupling: torch.Tensor


@dataclass(frozen=True, eq=False)
class Eliminated:
    """What the elimination of some leaves leaves behind: what is kept of them, and what it takes
    off the block of each parent, (parent, (distinct, distinct)).
    """

    factor: LeafFactor
    taken: tuple[tuple[int, torch.Tensor], ...]


def eliminate(blocks, part: LeafBlocks, ridge: float) -> Eliminated:
    """Scale, factorise and eliminate some leaves; ``blocks`` is the TreeBlocks they belong to."""
    here = slice(*part.leaves) if isinstance(part.leaves, tuple) else part.leaves
    scale = blocks.inverse[-1][here]
    lower = cholesky((part.own * scale[:, :, None]).mul_(scale[:, None, :]), ridge)
    if part.cross is None:
        return Eliminated(LeafFactor(here, lower, lower[:, :, :0]), ())
    # From the right and transposed, so that what comes out has its rows beside each other in
    # memory.
    coupling = torch.linalg.solve_triangular(
        lower.mT, (part.cross * scale[:, :, None]).mT, upper=True, left=False
    ).mT
    taken, kept = [], torch.float32 if blocks.single else torch.float64
    for node, first, last in part.nodes:
        rows = coupling[first:last].reshape(-1, coupling.shape[2])
        taken.append((node, rows.T @ rows))
    return Eliminated(LeafFactor(here, lower, coupling.to(kept)), tuple(taken))


class ArrowFactor:
    """Cholesky factors of the scaled block-arrow matrix plus ``ridge`` times the identity.

    Parameters
    ----------
    blocks : the TreeBlocks it belongs to (tree, scales, widths).
    leaves : what ``eliminate`` gave for all leaves, streamed in a fixed order; each is folded into
        its parent's block before the next is asked for.
    border : called after the last leaf; adds to (nodes one level up, distinct, distinct) the
        coupling of the levels above with themselves.
    ridge : added to the diagonal after scaling.

    Columns of levels above are held once each, and spread over their chain of ancestors where their
    scales come in. Kept per leaf: its p x p factor and its p x distinct coupling, in ``parts``, one
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
        self._chain = chain = blocks.chain(blocks.inverse)
        schur = blocks.zeros(tree.sizes[-2], above, above)
        for part in leaves:
            self.parts.append(part.factor)
            for node, taken in part.taken:
                schur[node].sub_(taken)
        border(schur)
        schur = (
            schur[:, blocks.place[:, None], blocks.place[None, :]]
            .mul_(chain[:, :, None])
            .mul_(chain[:, None, :])
        )
        for step, width in enumerate(self._widths):
            own, cross = schur[:, :width, :width], schur[:, :width, width:].clone()
            factor = cholesky(own, ridge)
            self._levels.append((factor, cross))
            if step + 1 == len(self._widths):
                break
            part = torch.linalg.solve_triangular(factor, cross, upper=False)
            rest = torch.baddbmm(schur[:, width:, width:], part.transpose(1, 2), part, alpha=-1.0)
            depth = len(tree.levels) - 2 - step
            schur = blocks.zeros(tree.sizes[depth - 1], *rest.shape[1:])
            schur.index_add_(0, self._parents[depth], rest)

    def solve(self, rhs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Solve for right-hand sides given per level from the top to the leaves, each (areas,
        variables).
        """
        # A leaf that no record reaches has nothing but the ridge.
        leaves, halves = (
            rhs[-1] / self._ridge,
            [lower_solve(part.lower, rhs[-1][part.leaves]) for part in self.parts],
        )
        if len(rhs) == 1:
            for part, half in zip(self.parts, halves, strict=True):
                leaves[part.leaves] = upper_solve(part.lower, half)
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
            coupling = part.coupling.to(half.dtype)
            back = torch.bmm(coupling, above_leaves[part.leaves][:, :, None])[:, :, 0]
            leaves[part.leaves] = upper_solve(part.lower, half - back)
        answers[-1] = leaves
        return answers


def stretches(parent: np.ndarray) -> tuple[tuple[int, int, int], ...]:
    """Consecutive equal entries: (entry, first, past the last)."""
    parent = np.asarray(parent, dtype=np.int64)
    edges = [*np.flatnonzero(np.diff(parent, prepend=-1)).tolist(), parent.size]
    return tuple((int(parent[a]), a, b) for a, b in itertools.pairwise(edges))


def cholesky(blocks: torch.Tensor, ridge: float) -> torch.Tensor:
    """Batched Cholesky of blocks + ridge I, in whose place it works; adds only as much more
    diagonal as rounding makes necessary, block by block.

    Where weights are many orders of magnitude apart, rounding in what was eliminated can leave a
    block indefinite by more than any small share of its diagonal. Then the diagonal is made to
    dominate: the step is shorter than Newton's and still goes down.
    """
    if not blocks.shape[-1] or not blocks.shape[0]:
        return blocks
    diagonal = torch.diagonal(blocks, dim1=-2, dim2=-1)
    largest = diagonal.amax(dim=-1, keepdim=True).clamp(min=0.0)
    diagonal.add_(ridge + _JITTERS[0] * largest)
    factor, info = torch.linalg.cholesky_ex(blocks)
    for before, jitter in itertools.pairwise(_JITTERS):
        wrong = info.nonzero()[:, 0]
        if not wrong.numel():
            return factor
        diagonal[wrong] += (jitter - before) * largest[wrong]
        factor[wrong], info[wrong] = torch.linalg.cholesky_ex(blocks[wrong])
    wrong = info.nonzero()[:, 0]
    # Twice what lies beside it: a diagonal that rounding made negative dominates too.
    beside = blocks[wrong].abs().sum(dim=-1)
    diagonal[wrong] = 2.0 * beside.clamp(min=ridge) + _JITTERS[-1] * largest[wrong]
    factor[wrong], info[wrong] = torch.linalg.cholesky_ex(blocks[wrong])
    if info.any():
        raise FactorisationError("A block of the Hessian is not finite")
    return factor


def solve_with(lower: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    """x of (L L') x = rhs, a batch of them."""
    return upper_solve(lower, lower_solve(lower, rhs))


def lower_solve(lower: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    """x of L x = rhs, a batch of them."""
    return torch.linalg.solve_triangular(lower, rhs[..., None], upper=False)[..., 0]


def upper_solve(lower: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    """x of L' x = rhs, a batch of them."""
    return torch.linalg.solve_triangular(lower.mT, rhs[..., None], upper=True)[..., 0]


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
