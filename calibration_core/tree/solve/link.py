"""How a weight answers to its multiplier: w = q G(u), and the convex function G is the slope of.

Two members of Deville and Sarndal's family (JASA 1992): the exponential (Kullback-Leibler prior, w
> 0) and their logit (ratios w / q strictly between two bounds around one). Both have G(0) = 1 and
G'(0) = 1.

Bounds may differ from pair to pair: they are then tensors of the shape of u.

Belongs here: the scalar functions, vectorised in torch. Does not belong here: records, targets,
solvers.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch

from calibration_core.errors import SettingsError

_EXPONENT_LIMIT = 600.0


@dataclass(frozen=True)
class Exponential:
    """G(u) = exp(u); prior distance r log r - r + 1."""

    def ratio(self, u: torch.Tensor) -> torch.Tensor:
        """G(u) = w / q."""
        return u.clamp(-_EXPONENT_LIMIT, _EXPONENT_LIMIT).exp_()

    def slope(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """G'(u), given the ratio G(u)."""
        return ratio

    def integral(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """Integral of G from 0 to u."""
        return ratio - 1.0

    def potential(
        self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Sum of prior times the integral over the last axis, one number a leaf; here the sum of
        weights less the sum of priors.
        """
        return weights.sum(dim=-1) - prior.sum(dim=-1)

    def take(self, leaves: torch.Tensor) -> Link:
        """The link of some leaves of a batch."""
        return self


@dataclass(frozen=True)
class HeldTotal(Exponential):
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


@dataclass(frozen=True, eq=False)
class Logit:
    """Ratios strictly inside (low, high), 0 <= low < 1 < high.

    G(u) = (low (high - 1) + high (1 - low) e^{Au}) / (high - 1 + (1 - low) e^{Au}),  A = (high -
    low) / ((1 - low)(high - 1)).

    ``low`` and ``high`` are numbers, or float64 tensors that broadcast against u: bounds of each
    pair.

    Raises
    ------
    SettingsError : bounds given as numbers do not enclose one. Tensors come from a problem, which
        has checked them.
    """

    low: float | torch.Tensor
    high: float | torch.Tensor

    def __post_init__(self) -> None:
        if not isinstance(self.low, torch.Tensor) and not 0 <= self.low < 1 < self.high:
            raise SettingsError(
                f"Ratio bounds are {self.low} and {self.high}", expected="0 <= low < 1 < high"
            )

    def take(self, leaves: torch.Tensor) -> Logit:
        """The link of some leaves of a batch, whose first axis is leaves."""
        return (
            Logit(self.low[leaves], self.high[leaves])
            if isinstance(self.low, torch.Tensor)
            else self
        )

    @cached_property
    def _a(self) -> float | torch.Tensor:
        return (self.high - self.low) / ((1 - self.low) * (self.high - 1))

    @cached_property
    def _shift(self) -> torch.Tensor:
        return torch.log(torch.as_tensor((1 - self.low) / (self.high - 1), dtype=torch.float64))

    @cached_property
    def _base(self) -> torch.Tensor:
        return torch.log(
            torch.as_tensor((self.high - 1) / (self.high - self.low), dtype=torch.float64)
        )

    def ratio(self, u: torch.Tensor) -> torch.Tensor:
        """G(u) = w / q: low, plus a share of the way to high that is a logistic curve, (1 - low)
        e^{Au} / (high - 1 + (1 - low) e^{Au}).
        """
        return self.low + (self.high - self.low) * torch.sigmoid(self._a * u + self._shift)

    def slope(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """G'(u) = (G - low)(high - G) / ((1 - low)(high - 1))."""
        return (ratio - self.low) * (self.high - ratio) / ((1 - self.low) * (self.high - 1))

    def integral(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """low u + (high - low) / A * log((high - 1 + (1 - low) e^{Au}) / (high - low)), written
        without overflow.
        """
        a = self._a
        return self.low * u + (self.high - self.low) / a * (
            torch.nn.functional.softplus(a * u + self._shift, threshold=200.0) + self._base
        )

    def potential(
        self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor
    ) -> torch.Tensor:
        """Sum of prior times the integral, over the last axis: one number a leaf."""
        return (self.integral(u, ratio) * prior).sum(dim=-1)


Link = Exponential | Logit


def make_link(bounds: tuple[float, float] | None) -> Link:
    """Exponential without bounds, Logit with them."""
    return Exponential() if bounds is None else Logit(*bounds)
