"""The tree loss of weights over a whole pool, and its slopes in every pair's weight: what gradient
methods over all pairs share.

    loss(W) = sum over levels and areas of  rho(r) / 2,   r = (fit - b) / s

with rho the pseudo-Huber loss of ``common/losses.py``, the square for delta = inf. W is (leaves,
records). Leaves' totals are one matrix product; weights are summed to the areas just above the
leaves before they meet the designs of the levels above, so that these cost next to nothing.

One thread and one order of sums: the same bits again on the same machine. Single precision is
enough to choose by; refits are in double.

Belongs here: this loss and Adam. Does not belong here: rho, gates, penalties, which pairs are kept.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from calibration_core.common.losses import PseudoHuber
from calibration_core.tree.problem import PoolProblem


class TreeLoss:
    """The loss of a pool problem's targets.

    Parameters
    ----------
    problem : tree and targets; the prior is not used.
    delta : residual, in scales, from which the loss grows linearly; inf for squares.
    dtype : torch.float32 or torch.float64.
    """

    def __init__(
        self, problem: PoolProblem, delta: float = math.inf, dtype: torch.dtype = torch.float32
    ) -> None:
        tree, targets = problem.tree, problem.targets
        self.rho, self.sizes, self.dtype = PseudoHuber(delta), tree.sizes, dtype
        self.parents = [torch.as_tensor(np.asarray(p, dtype=np.int64)) for p in tree.parents]
        self.designs = [torch.as_tensor(d, dtype=dtype) for d in targets.designs]
        self.inverse = [
            torch.as_tensor(np.where(np.isfinite(s), 1.0 / s, 0.0), dtype=dtype)
            for s in targets.scales
        ]
        self.goals = [
            torch.as_tensor(b, dtype=dtype) * i
            for b, i in zip(targets.values, self.inverse, strict=True)
        ]

    def value_and_slope(self, weights: torch.Tensor) -> tuple[float, torch.Tensor]:
        """(loss, its slope in W), weights (leaves, records) of the loss's dtype."""
        held, loss, pulls = weights, 0.0, []
        for depth in range(len(self.sizes) - 1, -1, -1):
            residual = torch.addcmul(
                -self.goals[depth], held @ self.designs[depth], self.inverse[depth]
            )
            loss += 0.5 * float(self.rho.value(residual.to(torch.float64)).sum())
            pulls.append(0.5 * self.rho.slope(residual) * self.inverse[depth])
            if depth:
                held = torch.zeros(
                    (self.sizes[depth - 1], held.shape[1]), dtype=self.dtype
                ).index_add_(0, self.parents[depth], held)
        slope = pulls[-1] @ self.designs[0].T
        for depth in range(1, len(self.sizes)):
            slope = torch.addmm(
                slope[self.parents[depth]], pulls[-1 - depth], self.designs[depth].T
            )
        return loss, slope


class Adam:
    """Kingma and Ba (arXiv 1412.6980), in place on one tensor."""

    def __init__(self, value: torch.Tensor, betas: tuple[float, float]) -> None:
        self.value, self.betas, self.steps = value, betas, 0
        self.mean, self.square = torch.zeros_like(value), torch.zeros_like(value)

    def step(self, slope: torch.Tensor, rate: float) -> None:
        """Move against ``slope`` (same shape) at ``rate``."""
        self.steps += 1
        first, second = self.betas
        self.mean.mul_(first).add_(slope, alpha=1 - first)
        self.square.mul_(second).addcmul_(slope, slope, value=1 - second)
        size = (self.square / (1 - second**self.steps)).sqrt_().add_(1e-12)
        self.value.addcdiv_(self.mean, size, value=-rate / (1 - first**self.steps))
