"""Design rows of the pairs of some leaves, and what is computed of them, by products of whole
matrices, on a CPU or a GPU.

Of n pairs in each of L leaves, with p columns of the leaves' own and e distinct ones of the levels
above, ``a`` the rows of the first and ``c`` of the second:

    own_u, above_u            a x and c z: what multipliers add to u of each pair
    own_totals, above_totals  sum over pairs of v a and v c
    curvature                 A' diag(v) A
    taken                     what elimination takes off the parents' blocks, below

With B = diag(r) A D the rows in scales, r the roots of the slopes, U = diag(r) C those above and M
= tau I + B' B, what a leaf leaves for its parents is

    U' U - U' B M^-1 B' U  =  tau U' K^-1 U ,      K = tau I + B B' ,

of which here is computed what costs less (``leaf_systems.py``).

Belongs here: rows as matrices. Does not belong here: rows of which most entries are zero
(``listed_rows.py``), which of the two (``pair_blocks.py``), leaves' systems (``leaf_systems.py``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch

from calibration_core.tree.solve.leaf_systems import LeafSystems, OwnRows
from calibration_core.tree.solve.small_matrices import STRIP, left_solve, upper_gram

# Stretches of leaves with one parent: (parent, first, past the last) within some leaves.
Nodes = tuple[tuple[int, int, int], ...]
# What some leaves take off the upper half of their parent's block: its index, (e, e).
Taken = tuple[int, torch.Tensor]


class PairRows(OwnRows, Protocol):
    """Rows of the pairs of some leaves; arguments and answers are float64 tensors."""

    def loaded(self) -> PairRows:
        """The same, at hand for more than one of the following."""
        ...

    def take(self, which: torch.Tensor) -> PairRows:
        """Those of some of the leaves."""
        ...

    def above_u(self, z: torch.Tensor) -> torch.Tensor:
        """(L, n) from (L, e)."""
        ...

    def above_totals(self, v: torch.Tensor) -> torch.Tensor:
        """(L, e) from (L, n)."""
        ...

    def taken(
        self, systems: LeafSystems, inverse: torch.Tensor, slope: torch.Tensor, nodes: Nodes
    ) -> list[Taken]:
        """What leaves take off their parents' blocks, once they are eliminated by ``systems``."""
        ...


@dataclass(frozen=True, eq=False)
class MatrixRows:
    """Rows as a matrix.

    Attributes
    ----------
    find : gives them, (L, n, columns): kept, or made anew each time.
    width : p; own columns come first.
    above : (e,) which columns the levels above have; a slice where they lie beside each other.
    shared : which of the above are the leaves' own too, as indices of own columns; they come first.
    """

    find: Callable[[], torch.Tensor]
    width: int
    above: slice | torch.Tensor
    shared: slice | torch.Tensor

    def loaded(self) -> MatrixRows:
        rows = self.find()
        return MatrixRows(lambda: rows, self.width, self.above, self.shared)

    def take(self, which: torch.Tensor) -> MatrixRows:
        rows = self.find()[which]
        return MatrixRows(lambda: rows, self.width, self.above, self.shared)

    def own(self) -> torch.Tensor:
        return self.find()[:, :, : self.width]

    def own_u(self, x: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.own(), x[:, :, None])[:, :, 0]

    def above_u(self, z: torch.Tensor) -> torch.Tensor:
        return torch.bmm(self.find()[:, :, self.above], z[:, :, None])[:, :, 0]

    def own_totals(self, v: torch.Tensor) -> torch.Tensor:
        return torch.bmm(v[:, None, :], self.own())[:, 0, :]

    def above_totals(self, v: torch.Tensor) -> torch.Tensor:
        return torch.bmm(v[:, None, :], self.find()[:, :, self.above])[:, 0, :]

    def curvature(self, slope: torch.Tensor) -> torch.Tensor:
        rows = self.own()
        return (rows * slope[:, :, None]).transpose(1, 2) @ rows

    def taken(
        self, systems: LeafSystems, inverse: torch.Tensor, slope: torch.Tensor, nodes: Nodes
    ) -> list[Taken]:
        rows = self.find()
        if systems.by_pairs:
            # L^-1 U of K = L L': what is taken is negative.
            half = left_solve(systems.lower, rows[:, :, self.above] * systems.root[:, :, None])
            return [(k, _gram(half[a:b]).mul_(-systems.ridge)) for k, a, b in nodes]
        product = (rows[:, :, : self.width] * slope[:, :, None]).transpose(1, 2) @ rows
        cross = product[:, :, self.above]
        half, extra = (
            left_solve(systems.lower, cross * inverse[:, :, None]),
            rows[:, :, self.width :],
        )
        taken = []
        for k, a, b in nodes:
            block, beside = _gram(half[a:b]), cross[a:b].sum(dim=0)[self.shared]
            held = beside.shape[0]
            block[:held] -= beside
            if extra.shape[2]:
                block[held:, held:] -= _others(extra[a:b], slope[a:b])
            taken.append((k, block))
        return taken


def _gram(half: torch.Tensor) -> torch.Tensor:
    return upper_gram(half.reshape(-1, half.shape[2]))


def _others(extra: torch.Tensor, slope: torch.Tensor) -> torch.Tensor:
    """Curvature of the columns that leaves do not have; of each strip of columns those before it
    are left out.
    """
    rows, left = extra.flatten(0, 1), (extra * slope[:, :, None]).flatten(0, 1)
    out = rows.new_zeros((rows.shape[1], rows.shape[1]))
    for a in range(0, rows.shape[1], STRIP):
        torch.mm(left[:, a : a + STRIP].T, rows[:, a:], out=out[a : a + STRIP, a:])
    return out
