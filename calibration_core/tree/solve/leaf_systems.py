"""The Newton system of each leaf by itself, factorised: in its variables, or in its pairs where
these are fewer.

With A the design rows of a leaf's pairs times 1 / scale, (pairs, p), r the roots of the pairs'
slopes and tau the ridge, the system of its own multipliers is

    M = tau I + B' B ,   B = diag(r) A ,

p x p. Where a leaf has fewer pairs than variables, as with 60 pairs for 90 targets, the smaller

    K = tau I + B B'

does as well (Woodbury): M^-1 x = (x - B' K^-1 B x) / tau. And what a leaf adds to the system of
the levels above, with U the pairs' rows there times r, is U' U - U' B M^-1 B' U = tau U' K^-1 U:
nothing is taken from anything, so that rounding cannot make it indefinite. B itself is not kept,
only r.

The difference in M^-1 x loses as many digits as B' B is larger than tau; one step of refinement
gives them back.

Reference: Hager, Updating the inverse of a matrix, SIAM Review 31 (1989) 221-239.

Belongs here: those two forms. Does not belong here: how leaves hang together (``arrow.py``), steps
of leaves (``leaf_newton.py``), factors of dense blocks (``small_matrices.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calibration_core.tree.solve.small_matrices import (
    cholesky,
    lower_solve,
    solve_with,
    upper_solve,
)


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

    Methods take ``rows`` (leaves, pairs, p) and ``inverse`` (leaves, p) as they were given to
    ``of``; rows are not looked at where M is held.
    """

    lower: torch.Tensor
    root: torch.Tensor
    ridge: float

    @classmethod
    def of_variables(cls, own: torch.Tensor, inverse: torch.Tensor, ridge: float) -> LeafSystems:
        """From A' diag(slope) A of unscaled rows, (leaves, p, p).

        Raises FactorisationError if an entry is not finite.
        """
        block = (own * inverse[:, :, None]).mul_(inverse[:, None, :])
        return cls(cholesky(block, ridge), own.new_empty((own.shape[0], 0)), ridge)

    @classmethod
    def of(
        cls, rows: torch.Tensor, inverse: torch.Tensor, slope: torch.Tensor, ridge: float
    ) -> LeafSystems:
        """From design rows (leaves, pairs, p), 1 / scale (leaves, p) and slopes (leaves, pairs).

        Raises FactorisationError if a slope is not finite.
        """
        if not by_pairs(rows.shape[1], rows.shape[2]):
            own = (rows * slope[:, :, None]).transpose(1, 2) @ rows
            return cls.of_variables(own, inverse, ridge)
        root = slope.sqrt()
        held = (rows * inverse[:, None, :]).mul_(root[:, :, None])
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

    def half(self, rows: torch.Tensor, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """L^-1 x, (leaves, p), or L^-1 B x, (leaves, pairs)."""
        return lower_solve(self.lower, self._up(rows, inverse, x) if self.by_pairs else x)

    def solve(self, rows: torch.Tensor, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """M^-1 x, (leaves, p)."""
        if not self.by_pairs:
            return solve_with(self.lower, x)
        first = self._once(rows, inverse, x)
        there = self._down(rows, inverse, self._up(rows, inverse, first))
        return first + self._once(rows, inverse, x - self.ridge * first - there)

    def finish(
        self,
        rows: torch.Tensor,
        inverse: torch.Tensor,
        x: torch.Tensor,
        half: torch.Tensor,
        carried: torch.Tensor,
    ) -> torch.Tensor:
        """M^-1 (x - C z), (leaves, p), of ``half`` of x and ``carried`` = L^-1 C z, or L^-1 U z
        where C = B' U.
        """
        if not self.by_pairs:
            return upper_solve(self.lower, half - carried)
        above = torch.bmm(self.lower, carried[:, :, None])[:, :, 0]
        return self.solve(rows, inverse, x - self._down(rows, inverse, above))

    def _once(self, rows: torch.Tensor, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        inner = solve_with(self.lower, self._up(rows, inverse, x))
        return (x - self._down(rows, inverse, inner)) / self.ridge

    def _up(self, rows: torch.Tensor, inverse: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        """B x, (leaves, pairs)."""
        return torch.bmm(rows, (inverse * x)[:, :, None])[:, :, 0] * self.root

    def _down(self, rows: torch.Tensor, inverse: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        """B' v, (leaves, p)."""
        return torch.bmm((v * self.root)[:, None, :], rows)[:, 0, :] * inverse
