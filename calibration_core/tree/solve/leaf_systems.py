"""The Newton system of each leaf by itself, factorised: in its variables, or in its pairs where
these are fewer.

With A the design rows of a leaf's pairs times 1 / scale, (pairs, p), r the roots of the pairs'
slopes and tau the ridge, the system of its own multipliers is

    M = tau I + B' B ,   B = diag(r) A ,

p x p. Where a leaf has fewer pairs than variables, as with 60 pairs for 90 targets, the smaller

    K = tau I + B B'

does as well (Woodbury): M^-1 x = (x - B' K^-1 B x) / tau. And what a leaf adds to the system of
the levels above, with U the pairs' rows there times r, is U' U - U' B M^-1 B' U = tau U' K^-1 U
(``pair_rows.py``): nothing is taken from anything, so that rounding cannot make it indefinite. B
itself is not kept, only r.

The difference in M^-1 x loses as many digits as B' B is larger than tau; one step of refinement
gives them back.

Reference: Hager, Updating the inverse of a matrix, SIAM Review 31 (1989) 221-239.

Belongs here: those two forms. Does not belong here: how leaves hang together (``arrow.py``), steps
of leaves (``leaf_newton.py``), rows of pairs (``pair_rows.py``), factors of dense blocks
(``small_matrices.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from calibration_core.tree.solve.small_matrices import cholesky, solve_with


class OwnRows(Protocol):
    """Rows of the leaves' own columns: of n pairs in each of L leaves, p of them."""

    def own(self) -> torch.Tensor:
        """(L, n, p): the rows themselves."""
        ...

    def own_u(self, x: torch.Tensor) -> torch.Tensor:
        """Rows times x: (L, n) from (L, p)."""
        ...

    def own_totals(self, v: torch.Tensor) -> torch.Tensor:
        """Sums of rows times v: (L, p) from (L, n)."""
        ...

    def curvature(self, slope: torch.Tensor) -> torch.Tensor:
        """Rows' diag(slope) rows: (L, p, p) from (L, n)."""
        ...


def by_pairs(pairs: int, variables: int) -> bool:
    """Whether leaves of so many pairs and variables are solved in their pairs."""
    return pairs < variables


@dataclass(frozen=True, eq=False)
class LeafSystems:
    """M of some leaves, factorised.

    Attributes
    ----------
    lower : (leaves, p, p) L of M = L L', or (leaves, pairs, pairs) of K.
    root : (leaves, pairs) r where K is held, else (leaves, 0).
    ridge : tau.

    Methods take ``rows`` and ``inverse`` (leaves, p) as they were given to ``of``; rows are not
    looked at where M is held.
    """

    lower: torch.Tensor
    root: torch.Tensor
    ridge: float

    @classmethod
    def of(
        cls, rows: OwnRows, inverse: torch.Tensor, slope: torch.Tensor, ridge: float
    ) -> LeafSystems:
        """From the pairs' rows, 1 / scale (leaves, p) and slopes (leaves, pairs).

        Raises FactorisationError if a slope is not finite.
        """
        if not by_pairs(slope.shape[1], inverse.shape[1]):
            block = rows.curvature(slope).mul_(inverse[:, :, None]).mul_(inverse[:, None, :])
            return cls(cholesky(block, ridge), slope.new_empty((slope.shape[0], 0)), ridge)
        root = slope.sqrt()
        held = (rows.own() * inverse[:, None, :]).mul_(root[:, :, None])
        return cls(cholesky(held @ held.mT, ridge), root, ridge)

    @property
    def by_pairs(self) -> bool:
        """Whether K is held."""
        return self.root.shape[1] > 0

    def take(self, which: torch.Tensor) -> LeafSystems:
        """Those of some leaves, copied."""
        return LeafSystems(self.lower[which], self.root[which], self.ridge)

    def put(self, which: torch.Tensor, other: LeafSystems) -> None:
        """Overwrite those of some leaves."""
        self.lower[which], self.root[which] = other.lower, other.root

    def clone(self) -> LeafSystems:
        """A copy that may be overwritten."""
        return LeafSystems(self.lower.clone(), self.root.clone(), self.ridge)

    def solve(self, rows: OwnRows, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """M^-1 x, (leaves, p)."""
        if not self.by_pairs:
            return solve_with(self.lower, x)
        first = self._once(rows, inverse, x)
        there = self._down(rows, inverse, self._up(rows, inverse, first))
        return first + self._once(rows, inverse, x - self.ridge * first - there)

    def _once(self, rows: OwnRows, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        inner = solve_with(self.lower, self._up(rows, inverse, x))
        return (x - self._down(rows, inverse, inner)) / self.ridge

    def _up(self, rows: OwnRows, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """B x, (leaves, pairs)."""
        return rows.own_u(inverse * x) * self.root

    def _down(self, rows: OwnRows, inverse: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """B' v, (leaves, p)."""
        return rows.own_totals(v * self.root) * inverse
