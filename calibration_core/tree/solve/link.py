"""How a weight of a tree answers to its multiplier, w = q G(u): which distance of
``common/distances.py`` that is, and the exponential whose total is held.

Belongs here: that choice, weights with a held total. Does not belong here: the distances
themselves, records, targets, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from calibration_core.common.distances import Logit, Raking


@dataclass(frozen=True)
class HeldTotal(Raking):
    """G(u) = exp(u + shift), for weights whose total is held: these know u only up to a constant.
    ``potential`` is their sum, of which the logarithm is wanted, so that no prior is taken off it.
    """

    shift: float = 0.0

    def ratio(self, u: torch.Tensor) -> torch.Tensor:
        """G(u) = w / q."""
        return super().ratio(u + self.shift)

    def potential(
        self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Sum of weights over the last axis."""
        return weights.sum(dim=-1)


Link = Raking | Logit


def make_link(bounds: tuple[float, float] | None) -> Link:
    """Raking without bounds, Logit with them."""
    return Raking() if bounds is None else Logit(*bounds)
