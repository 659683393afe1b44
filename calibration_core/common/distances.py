"""Distances between weights and initial weights, as Deville and Sarndal (JASA 87, 1992) write them:
w = d G(q u).

phi is the distance on the ratio r = w/d (phi(1) = phi'(1) = 0, phi''(1) = 1), G the inverse of its
slope, H the integral of G from 0. G is the only thing a solver needs to turn multipliers into
weights, H to know how good they are.

    name              phi(r)                                  G(u)
    linear            (r - 1)^2 / 2                           1 + u
    truncated linear  the same on [low, high]                 1 + u, cut at low and high
    raking            r log r - r + 1                         exp(u)
    bounded raking    the same on [low, high]                 exp(u), cut at low and high
    logit             case 6 of the paper, low < r < high     a logistic curve from low to high

Belongs here: the scalar functions, vectorised in numpy, with a number or one value a record for
each bound. Does not belong here: matrices, targets, solvers; the torch version for trees
(``tree/solve/link.py``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from scipy.special import expit, xlogy

from calibration_core.errors import SettingsError

# exp() overflows above 709; a ratio of e^600 is as good as infinite.
_EXPONENT_LIMIT = 600.0


class Distance(Protocol):
    """What a solver asks of a distance; all arguments and results are (records,) float64."""

    exponential: ClassVar[
        bool
        # whether ratios grow exponentially with u, so that steps must be limited; then log_ratio(u) =
        # log G(u)
    ]

    def ratio(self, u: np.ndarray) -> np.ndarray:
        """G(u) = w/d."""
        ...

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """G'(u) >= 0, given the ratio G(u)."""
        ...

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        """H(u), the integral of G from 0 to u, given the ratio G(u)."""
        ...

    def value(self, ratio: np.ndarray) -> np.ndarray:
        """phi(r)."""
        ...


@dataclass(frozen=True)
class Linear:
    """Chi-square: phi = (r - 1)^2 / 2, G = 1 + u. Ratios may become negative."""

    exponential: ClassVar[bool] = False

    def ratio(self, u: np.ndarray) -> np.ndarray:
        return 1.0 + u

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return np.ones_like(u)

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return u + 0.5 * u * u

    def value(self, ratio: np.ndarray) -> np.ndarray:
        return 0.5 * (ratio - 1.0) ** 2


@dataclass(frozen=True)
class Raking:
    """Kullback-Leibler: phi = r log r - r + 1, G = exp(u). Ratios stay positive."""

    exponential: ClassVar[bool] = True

    def ratio(self, u: np.ndarray) -> np.ndarray:
        return np.exp(np.clip(u, -_EXPONENT_LIMIT, _EXPONENT_LIMIT))

    def log_ratio(self, u: np.ndarray) -> np.ndarray:
        return u

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return ratio

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return ratio - 1.0

    def value(self, ratio: np.ndarray) -> np.ndarray:
        return xlogy(ratio, ratio) - ratio + 1.0


@dataclass(frozen=True)
class _Truncated:
    """A distance restricted to low <= r <= high: G is cut, H goes on as a straight line."""

    exponential: ClassVar[bool] = False
    low: np.ndarray | float
    high: np.ndarray | float

    def __post_init__(self) -> None:
        if np.any(np.asarray(self.low) > np.asarray(self.high)):
            raise SettingsError(
                "A lower bound is above its upper bound", expected="low <= high for every record"
            )

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        return np.where(
            (ratio > self.low) & (ratio < self.high), self._inner().slope(u, ratio), 0.0
        )

    def ratio(self, u: np.ndarray) -> np.ndarray:
        return np.clip(self._inner().ratio(u), self.low, self.high)

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        # By Legendre: H(u) = r u - phi(r) at the cut ratio r, which is the straight continuation
        # outside the bounds.
        return ratio * u - self._inner().value(ratio)

    def value(self, ratio: np.ndarray) -> np.ndarray:
        inside = (ratio >= np.asarray(self.low) - 1e-12) & (ratio <= np.asarray(self.high) + 1e-12)
        return np.where(inside, self._inner().value(ratio), np.inf)


@dataclass(frozen=True)
class TruncatedLinear(_Truncated):
    """Chi-square with low <= r <= high."""

    def _inner(self) -> Linear:
        return Linear()


@dataclass(frozen=True)
class BoundedRaking(_Truncated):
    """Kullback-Leibler with low <= r <= high."""

    exponential: ClassVar[bool] = True

    def _inner(self) -> Raking:
        return Raking()

    def log_ratio(self, u: np.ndarray) -> np.ndarray:
        # A bound of zero is taken as 1e-300: differences of log ratios stay finite.
        return np.clip(
            u, np.log(np.maximum(self.low, 1e-300)), np.log(np.maximum(self.high, 1e-300))
        )


@dataclass(frozen=True)
class Logit:
    """Deville and Sarndal's case 6: low < r < high, with low < 1 < high.

    G(u) = (low (high - 1) + high (1 - low) e^{Au}) / (high - 1 + (1 - low) e^{Au}),  A = (high -
    low) / ((1 - low)(high - 1)).
    """

    exponential: ClassVar[bool] = False
    low: np.ndarray | float
    high: np.ndarray | float

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low), np.asarray(self.high)
        if np.any(low >= 1) or np.any(high <= 1) or not np.isfinite(high).all():
            raise SettingsError(
                f"The logit distance was given ratio bounds from {low.min():g} to {high.max():g}",
                expected="low < 1 < high, both finite, for every record",
                remedy="Use truncated_linear or raking_bounded for bounds that do not enclose one",
            )

    def _constants(self):
        low, high = np.asarray(self.low, dtype=np.float64), np.asarray(self.high, dtype=np.float64)
        return low, high, (high - low) / ((1 - low) * (high - 1)), np.log((1 - low) / (high - 1))

    def ratio(self, u: np.ndarray) -> np.ndarray:
        low, high, a, shift = self._constants()
        # Cut, because low + (high - low) may round to more than high.
        return np.clip(low + (high - low) * expit(a * u + shift), low, high)

    def slope(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        # The same as (r - low)(high - r) / ((1 - low)(high - 1)), without the cancellation close to
        # a bound.
        low, high, a, shift = self._constants()
        return (high - low) * a * expit(a * u + shift) * expit(-a * u - shift)

    def integral(self, u: np.ndarray, ratio: np.ndarray) -> np.ndarray:
        low, high, a, shift = self._constants()
        return low * u + (high - low) / a * (
            np.logaddexp(0.0, a * u + shift) - np.log((high - low) / (high - 1))
        )

    def value(self, ratio: np.ndarray) -> np.ndarray:
        low, high, a, _ = self._constants()
        inside = (ratio >= low) & (ratio <= high)
        r = np.clip(ratio, low, high)
        # high - 1 >= 0 and 1 - low > 0, so xlogy gives 0 where a weight sits on its bound.
        inner = (
            xlogy(r - low, (r - low) / (1 - low)) + xlogy(high - r, (high - r) / (high - 1))
        ) / a
        return np.where(inside, inner, np.inf)
