"""Solving Newton systems whose matrix is block-arrow along a tree of areas.

One small block a leaf, bordered by its county, its state, and so on up. Leaves are eliminated first, then each level
above (Schur complements), so a solve costs one small Cholesky factorisation an area. Factors are kept, so that further
right-hand sides (chord steps, refinement) are cheap.

Belongs here: linear algebra on the arrow. Does not belong here: how blocks come from records (``blocks.py``), or the
iteration around it (``tree_newton.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calibration_core.geography import GeographyTree


@dataclass(frozen=True)
class ArrowMatrix:
    """Blocks of a symmetric positive definite block-arrow matrix.

    Widths: p leaf variables, and ancestors' variables side by side, nearest ancestor first, pa in all.

    Attributes
    ----------
    leaf : (leaves, p, p) leaf blocks.
    cross : (leaves, p, pa) coupling of each leaf with its own chain of ancestors.
    border : (nodes one level up, pa, pa) coupling of a chain of ancestors with itself, summed over the leaves below.
    widths : number of variables per level, nearest ancestor first.
    """

    leaf: torch.Tensor
    cross: torch.Tensor
    border: torch.Tensor
    widths: tuple[int, ...]


class ArrowFactor:
    """Cholesky factors of an ArrowMatrix plus ``ridge`` times the identity."""

    def __init__(self, tree: GeographyTree, matrix: ArrowMatrix, ridge: float) -> None:
        self._tree, self._widths = tree, matrix.widths
        device = matrix.leaf.device
        self._parents = [torch.as_tensor(p, device=device) for p in tree.parents]
        self._leaf_factor = _cholesky(matrix.leaf, ridge)
        self._leaf_cross = matrix.cross
        self._levels: list[tuple[torch.Tensor, torch.Tensor]] = []
        solved = torch.linalg.solve_triangular(self._leaf_factor, matrix.cross, upper=False)
        if len(tree.levels) == 1:
            return
        schur = matrix.border.clone()
        schur.index_add_(0, self._parents[-1], -(solved.transpose(1, 2) @ solved))
        for step, width in enumerate(matrix.widths):
            own, cross = schur[:, :width, :width], schur[:, :width, width:]
            factor = _cholesky(own, ridge)
            self._levels.append((factor, cross))
            if step + 1 == len(matrix.widths):
                break
            part = torch.linalg.solve_triangular(factor, cross, upper=False)
            rest = schur[:, width:, width:] - part.transpose(1, 2) @ part
            depth = len(tree.levels) - 2 - step
            schur = torch.zeros((tree.sizes[depth - 1], *rest.shape[1:]), dtype=rest.dtype, device=device)
            schur.index_add_(0, self._parents[depth], rest)

    def solve(self, rhs: list[torch.Tensor]) -> list[torch.Tensor]:
        """Solve for right-hand sides given per level from the top to the leaves, each (areas, variables)."""
        if len(rhs) == 1:
            return [_solve(self._leaf_factor, rhs[0])]
        depth = len(rhs) - 1
        eliminated = _solve(self._leaf_factor, rhs[-1])
        chain = torch.zeros((rhs[-2].shape[0], sum(self._widths)), dtype=rhs[0].dtype, device=rhs[0].device)
        chain.index_add_(0, self._parents[-1], -torch.einsum("tpq,tp->tq", self._leaf_cross, eliminated))
        partial: list[torch.Tensor] = []
        for step, width in enumerate(self._widths):
            factor, cross = self._levels[step]
            own = chain[:, :width] + rhs[depth - 1 - step]
            partial.append(own)
            if step + 1 == len(self._widths):
                break
            rest = chain[:, width:] - torch.einsum("npq,np->nq", cross, _solve(factor, own))
            above = depth - 1 - step
            chain = torch.zeros((rhs[above - 1].shape[0], rest.shape[1]), dtype=rest.dtype, device=rest.device)
            chain.index_add_(0, self._parents[above], rest)
        answers: list[torch.Tensor] = [torch.empty(0)] * (depth + 1)
        carried = torch.zeros((rhs[0].shape[0], 0), dtype=rhs[0].dtype, device=rhs[0].device)
        for step in range(len(self._widths) - 1, -1, -1):
            factor, cross = self._levels[step]
            level = depth - 1 - step
            if step + 1 < len(self._widths):
                carried = carried[self._parents[level]]
            own = partial[step] - torch.einsum("npq,nq->np", cross, carried)
            answers[level] = _solve(factor, own)
            carried = torch.cat([answers[level], carried], dim=1)
        above_leaves = carried[self._parents[-1]]
        answers[-1] = _solve(self._leaf_factor, rhs[-1] - torch.einsum("tpq,tq->tp", self._leaf_cross, above_leaves))
        return answers


def _cholesky(blocks: torch.Tensor, ridge: float) -> torch.Tensor:
    """Batched Cholesky of blocks + ridge I; adds only as much more diagonal as rounding makes necessary."""
    size = blocks.shape[-1]
    eye = torch.eye(size, dtype=blocks.dtype, device=blocks.device)
    largest = torch.diagonal(blocks, dim1=-2, dim2=-1).amax(dim=-1, keepdim=True).clamp(min=0.0)[..., None] if size else 0.0
    for jitter in (1e-14, 1e-12, 1e-10, 1e-8, 1e-6):
        factor, info = torch.linalg.cholesky_ex(blocks + (ridge + jitter * largest) * eye)
        if not bool(info.any()):
            return factor
    return torch.linalg.cholesky(blocks + (ridge + 1e-4 * largest) * eye)


def _solve(factor: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    return torch.cholesky_solve(rhs[..., None], factor)[..., 0]
