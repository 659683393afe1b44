"""Passes over the records of an ``AreaSharesProblem``, streamed in chunks: shares of every record
over areas, and products with their curvature.

The pairs (record, area) are formed a chunk at a time; only their shares are kept, in single
precision, and only to steer: the totals and the dual objective, which decide where the iteration
ends, are summed in double from shares computed in double.

Belongs here: passes over records. Does not belong here: problems, the iteration
(``area_shares.py``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

# Pairs taken at a time in double: 8 MB an array. On a GPU a pass wants more at once.
_PAIRS_AT_A_TIME = {"cpu": 1_000_000, "cuda": 50_000_000}
# Products of columns taken at a time, in single precision: 64 MB.
_PRODUCTS_AT_A_TIME = {"cpu": 16_000_000, "cuda": 250_000_000}


class SharePasses:
    """Designs, national weights and prior shares on one device.

    Parameters
    ----------
    design : (records, variables) float64.
    national : (records,) float64 >= 0.
    group, prior_share : (records,) int64 and (groups, areas) float64.
    device : torch's name of it.

    Attributes
    ----------
    unit : (variables,) float64 > 0: root mean square of each column, by which its copy in single
        precision is divided.
    """

    def __init__(
        self,
        design: np.ndarray,
        national: np.ndarray,
        group: np.ndarray,
        prior_share: np.ndarray,
        device: str,
    ) -> None:
        self.device = torch.device(device)

        def send(a):
            return torch.as_tensor(
                a if a.flags.writeable and a.flags.c_contiguous else np.array(a), device=self.device
            )

        self.design, self.national, self.group = send(design), send(national), send(group)
        self.log_prior = torch.log(send(prior_share))
        self.records, self.variables = design.shape
        self.areas = prior_share.shape[1]
        kind = self.device.type
        self.chunks = _chunks(self.records, _PAIRS_AT_A_TIME[kind] // self.areas)
        mean = (
            sum(self.national[a:b] @ self.design[a:b] ** 2 for a, b in self.chunks)
            / self.national.sum()
        )
        self.unit = torch.where(mean > 0, mean.sqrt(), 1.0)
        self.single = torch.empty(self.design.shape, dtype=torch.float32, device=self.device)
        for a, b in self.chunks:
            self.single[a:b] = self.design[a:b] / self.unit
        self.row, self.column = self._meeting()
        self.weight = self.national.to(torch.float32)
        self.share = torch.zeros(
            (self.records, self.areas), dtype=torch.float32, device=self.device
        )

    def _meeting(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Pairs of columns, the first not after the second, that some record has both of: bins of
        one trait never meet.
        """
        met = torch.zeros((self.variables, self.variables), dtype=torch.float32, device=self.device)
        for a, b in self.chunks:
            there = (self.single[a:b] != 0).to(torch.float32)
            met += there.T @ there
        row, column = torch.nonzero(torch.triu(met), as_tuple=True)
        return row, column

    def shares(
        self, multipliers: torch.Tensor, span: tuple[int, int]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Shares of the records of a span, (span, areas) float64, and the log of what they were
        divided by, (span,).
        """
        a, b = span
        u = self.design[a:b] @ multipliers.T
        u += self.log_prior[self.group[a:b]]
        level = torch.logsumexp(u, dim=1)
        return (u - level[:, None]).exp_(), level

    def evaluate(self, multipliers: torch.Tensor) -> tuple[torch.Tensor, float]:
        """(areas, variables) totals and sum_i W_i log sum_s p_is exp(x_i.lambda_s); keeps the
        shares for ``curve``.
        """
        fitted = torch.zeros((self.areas, self.variables), dtype=torch.float64, device=self.device)
        potential = torch.zeros((), dtype=torch.float64, device=self.device)
        for span in self.chunks:
            share, level = self.shares(multipliers, span)
            a, b = span
            weight = self.national[a:b]
            # Where a record can be nowhere its weight is zero, and so must be its part.
            potential += (weight * torch.where(weight > 0, level, 0.0)).sum()
            self.share[a:b] = share
            fitted += (share * weight[:, None]).T @ self.design[a:b]
        return fitted, float(potential)

    def curve(self, direction: torch.Tensor) -> torch.Tensor:
        """Hessian of the potential times a direction, (areas, variables): sum_i W_i x_i pi_is
        (x_i.d_s - sum_t pi_it x_i.d_t).
        """
        out = torch.zeros((self.areas, self.variables), dtype=torch.float64, device=self.device)
        scaled = (direction * self.unit).to(torch.float32).T.contiguous()
        for a, b in self.chunks:
            x, share = self.single[a:b], self.share[a:b]
            move = x @ scaled
            move -= (share * move).sum(dim=1, keepdim=True)
            move *= share
            move *= self.weight[a:b, None]
            out += (move.T @ x).to(torch.float64)
        return out * self.unit

    def own_curvature(self) -> torch.Tensor:
        """(areas, variables, variables) sum_i W_i pi_is x_i x_i' for every area, in units of
        ``unit``: one half, of columns that meet in a record.
        """
        flat = torch.zeros((self.row.numel(), self.areas), dtype=torch.float64, device=self.device)
        step = max(1, _PRODUCTS_AT_A_TIME[self.device.type] // max(self.row.numel(), 1))
        for a, b in _chunks(self.records, step):
            x = self.single[a:b].T.contiguous()
            products = x[self.row]
            products *= x[self.column]
            flat += (products @ (self.share[a:b] * self.weight[a:b, None])).to(torch.float64)
        block = torch.zeros(
            (self.areas, self.variables, self.variables), dtype=torch.float64, device=self.device
        )
        block[:, self.row, self.column] = flat.T
        block[:, self.column, self.row] = flat.T
        return block

    def largest_ratio(self, multipliers: torch.Tensor) -> tuple[float, int, int]:
        """Largest share over prior share, and the record and area it is at."""
        best = (0.0, 0, 0)
        for a, b in self.chunks:
            u = self.design[a:b] @ multipliers.T
            prior = self.log_prior[self.group[a:b]]
            ratio = torch.where(
                torch.isfinite(prior),
                u - torch.logsumexp(u + prior, dim=1, keepdim=True),
                -torch.inf,
            )
            ratio = torch.where(self.national[a:b, None] > 0, ratio, -torch.inf)
            at = int(ratio.argmax())
            found = float(ratio.flatten()[at].exp())
            if found > best[0]:
                best = (found, a + at // self.areas, at % self.areas)
        return best


def conjugate_gradients(
    product: Callable[[torch.Tensor], torch.Tensor],
    precondition: Callable[[torch.Tensor], torch.Tensor],
    rhs: torch.Tensor,
    tolerance: float,
    limit: int,
) -> tuple[torch.Tensor, int]:
    """Solve product(x) = rhs to a relative residual in the preconditioner's norm (Hestenes and
    Stiefel 1952): x and the products taken.

    What is returned after any number of them, down to one, is a direction of descent for rhs =
    -gradient.
    """
    x, residual = torch.zeros_like(rhs), rhs.clone()
    z = precondition(residual)
    direction, size = z.clone(), float((residual * z).sum())
    first, steps = size, 0
    while steps < limit and size > tolerance**2 * first:
        along = product(direction)
        curvature = float((direction * along).sum())
        if curvature <= 0:  # below the rounding of the products: nothing more to gain
            break
        x += (size / curvature) * direction
        residual -= (size / curvature) * along
        z = precondition(residual)
        before, size = size, float((residual * z).sum())
        direction = z + (size / before) * direction
        steps += 1
    return (x if steps else z), steps


def _chunks(records: int, step: int) -> list[tuple[int, int]]:
    step = max(1, step)
    return [(a, min(a + step, records)) for a in range(0, records, step)]
