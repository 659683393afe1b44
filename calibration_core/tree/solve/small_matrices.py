"""Small dense blocks, many at a time: their factors, solves with these, and squares of rows.

Belongs here: what is done to one block whatever it stands for. Does not belong here: which blocks
hang together (``arrow.py``), which form a leaf's system has (``leaf_systems.py``).
"""

from __future__ import annotations

import itertools

import torch

# What is added to a diagonal, as shares of its largest entry, until the block is positive definite.
_JITTERS = (1e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


class FactorisationError(ArithmeticError):
    """Curvature that no amount of damping makes positive definite: it is not finite. The iteration
    answers it with a shorter step, or ends and says so; it never leaves the solver.
    """


# Columns of a symmetric product taken together, so that little of its lower half is computed.
STRIP = 128


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


def left_solve(lower: torch.Tensor, rhs: torch.Tensor) -> torch.Tensor:
    """X of L X = rhs, a batch of them with many columns each: from the right and transposed, so
    that what comes out has its rows beside each other in memory.
    """
    return torch.linalg.solve_triangular(lower.mT, rhs.mT, upper=True, left=False).mT


def upper_gram(rows: torch.Tensor) -> torch.Tensor:
    """rows' rows of (n, columns), by strips of columns; what lies below the strips' diagonal blocks
    is zero. ``mirrored`` makes it whole.
    """
    width = rows.shape[1]
    out = rows.new_zeros((width, width))
    for a in range(0, width, STRIP):
        torch.mm(rows[:, a : a + STRIP].T, rows[:, a:], out=out[a : a + STRIP, a:])
    return out


def mirrored(upper: torch.Tensor) -> torch.Tensor:
    """Symmetric matrices (..., n, n) from their upper halves; what lies below is not looked at."""
    return torch.triu(upper) + torch.triu(upper, 1).mT
