"""How a weight answers to its multiplier: w = q G(u), and the convex function G is the slope of.

Two members of Deville and Sarndal's family (JASA 1992): the exponential (Kullback-Leibler prior, w > 0) and their logit
(ratios w / q strictly between two bounds around one). Both have G(0) = 1 and G'(0) = 1.

Belongs here: the scalar functions, vectorised in torch. Does not belong here: records, targets, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def potential(self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum of prior times the integral; here that is the sum of weights less the sum of priors."""
        return weights.sum() - prior.sum()


@dataclass(frozen=True)
class HeldTotal(Exponential):
    """G(u) = exp(u + shift), for weights whose total is held: these know u only up to a constant. ``potential`` is their sum, of which
    the logarithm is wanted, so that no prior is taken off it."""

    shift: float = 0.0

    def ratio(self, u: torch.Tensor) -> torch.Tensor:
        """G(u) = w / q."""
        return super().ratio(u + self.shift)

    def potential(self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum of weights."""
        return weights.sum()


@dataclass(frozen=True)
class Logit:
    """Ratios strictly inside (low, high), 0 <= low < 1 < high.

    G(u) = (low (high - 1) + high (1 - low) e^{Au}) / (high - 1 + (1 - low) e^{Au}),  A = (high - low) / ((1 - low)(high - 1)).
    """

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low < 1 < self.high:
            raise SettingsError(f"Ratio bounds are {self.low} and {self.high}", expected="0 <= low < 1 < high")

    @property
    def _a(self) -> float:
        return (self.high - self.low) / ((1 - self.low) * (self.high - 1))

    def _odds(self, u: torch.Tensor) -> torch.Tensor:
        """Share of the way from low to high: (1 - low) e^{Au} / (high - 1 + (1 - low) e^{Au}), a logistic curve."""
        shift = torch.log(torch.tensor((1 - self.low) / (self.high - 1), dtype=torch.float64))
        return torch.sigmoid(self._a * u + shift)

    def ratio(self, u: torch.Tensor) -> torch.Tensor:
        """G(u) = w / q."""
        return self.low + (self.high - self.low) * self._odds(u)

    def slope(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """G'(u) = (G - low)(high - G) / ((1 - low)(high - 1))."""
        return (ratio - self.low) * (self.high - ratio) / ((1 - self.low) * (self.high - 1))

    def integral(self, u: torch.Tensor, ratio: torch.Tensor) -> torch.Tensor:
        """low u + (high - low) / A * log((high - 1 + (1 - low) e^{Au}) / (high - low)), written without overflow."""
        a = self._a
        shift = torch.log(torch.tensor((1 - self.low) / (self.high - 1), dtype=torch.float64))
        base = torch.log(torch.tensor((self.high - 1) / (self.high - self.low), dtype=torch.float64))
        return self.low * u + (self.high - self.low) / a * (torch.nn.functional.softplus(a * u + shift, threshold=200.0) + base)

    def potential(self, u: torch.Tensor, ratio: torch.Tensor, prior: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        """Sum of prior times the integral."""
        return (self.integral(u, ratio) * prior).sum()


Link = Exponential | Logit


def make_link(bounds: tuple[float, float] | None) -> Link:
    """Exponential without bounds, Logit with them."""
    return Exponential() if bounds is None else Logit(*bounds)
