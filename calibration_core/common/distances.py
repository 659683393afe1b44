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

Every function takes numpy arrays or torch tensors and answers in kind: there is one definition of
each for the flat solvers and for those of a tree of areas.

Belongs here: the scalar functions, with a number or one value per record for each bound. Does not
belong here: matrices, targets, solvers; weights whose total is held (``tree/solve/link.py``).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar, Protocol, TypeVar

import numpy as np
from scipy.special import expit, xlogy

from calibration_core.errors import SettingsError

# exp() overflows above 709; a ratio of e^600 is as good as infinite.
_EXPONENT_LIMIT = 600.0
# An array of numpy, or a tensor of torch.
Array = TypeVar("Array")


class Distance(Protocol):
    """What a solver asks of a distance; arguments and results are float64 of any one shape: of the
    records, or of a batch of leaves by records.

    ``exponential``: whether ratios grow exponentially with u, so that steps must be limited; then
    ``log_ratio(u)`` is log G(u).
    """

    exponential: ClassVar[bool]

    def ratio(self, u: Array) -> Array:
        """G(u) = w/d."""
        ...

    def slope(self, u: Array, ratio: Array) -> Array:
        """G'(u) >= 0, given the ratio G(u)."""
        ...

    def integral(self, u: Array, ratio: Array) -> Array:
        """H(u), the integral of G from 0 to u, given the ratio G(u)."""
        ...

    def value(self, ratio: Array) -> Array:
        """phi(r)."""
        ...


class _Sums:
    """What solvers of many leaves at once ask beside that."""

    def potential(self, u: Array, ratio: Array, prior: Array, weights: Array) -> Array:
        """Sum over the last axis of prior times H(u); ``weights`` is prior times ratio."""
        return (self.integral(u, ratio) * prior).sum(-1)

    def take(self, leaves: Array):
        """The distance of some leaves of a batch, whose first axis is leaves."""
        return self


@dataclass(frozen=True)
class Linear(_Sums):
    """Chi-square: phi = (r - 1)^2 / 2, G = 1 + u. Ratios may become negative."""

    exponential: ClassVar[bool] = False

    def ratio(self, u: Array) -> Array:
        return 1.0 + u

    def slope(self, u: Array, ratio: Array) -> Array:
        return u * 0.0 + 1.0

    def integral(self, u: Array, ratio: Array) -> Array:
        return u + 0.5 * u * u

    def value(self, ratio: Array) -> Array:
        return 0.5 * (ratio - 1.0) ** 2


@dataclass(frozen=True)
class Raking(_Sums):
    """Kullback-Leibler: phi = r log r - r + 1, G = exp(u). Ratios stay positive."""

    exponential: ClassVar[bool] = True

    def ratio(self, u: Array) -> Array:
        return _exp(u.clip(-_EXPONENT_LIMIT, _EXPONENT_LIMIT))

    def log_ratio(self, u: Array) -> Array:
        return u

    def slope(self, u: Array, ratio: Array) -> Array:
        return ratio

    def integral(self, u: Array, ratio: Array) -> Array:
        return ratio - 1.0

    def value(self, ratio: Array) -> Array:
        return _xlogy(ratio, ratio) - ratio + 1.0

    def potential(self, u: Array, ratio: Array, prior: Array, weights: Array) -> Array:
        return weights.sum(-1) - prior.sum(-1)


@dataclass(frozen=True)
class _Truncated(_Sums):
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


@dataclass(frozen=True, eq=False)
class Logit(_Sums):
    """Deville and Sarndal's case 6: low < r < high, with low < 1 < high.

    G(u) = low + (high - low) s(x),  s(x) = 1 / (1 + e^-x),  x = A u + log((1 - low) / (high - 1)),
    A = (high - low) / ((1 - low)(high - 1)).

    Bounds are numbers, or arrays (tensors) that broadcast against u.

    Raises
    ------
    SettingsError : bounds that do not enclose one, or are not finite.
    """

    exponential: ClassVar[bool] = False
    low: Array | float
    high: Array | float

    def __post_init__(self) -> None:
        low, high = np.asarray(self.low), np.asarray(self.high)
        if np.any(low >= 1) or np.any(high <= 1) or not np.isfinite(high).all():
            raise SettingsError(
                f"The logit distance was given ratio bounds from {low.min():g} to {high.max():g}",
                expected="low < 1 < high, both finite, for every record",
                remedy="Use truncated_linear or raking_bounded for bounds that do not enclose one",
            )

    def take(self, leaves: Array) -> Logit:
        if isinstance(self.low, (int, float)):
            return self
        return Logit(self.low[leaves], self.high[leaves])

    @cached_property
    def _room(self) -> Array | float:
        return self.high - self.low

    @cached_property
    def _steepness(self) -> Array | float:
        """A."""
        return self._room / ((1.0 - self.low) * (self.high - 1.0))

    @cached_property
    def _shift(self) -> Array | float:
        return _log((1.0 - self.low) / (self.high - 1.0))

    @cached_property
    def _base(self) -> Array | float:
        return _log(self._room / (self.high - 1.0))

    def _place(self, u: Array) -> Array:
        """x."""
        return self._steepness * u + self._shift

    def ratio(self, u: Array) -> Array:
        # Cut, because low + (high - low) may round to more than high.
        return (self.low + self._room * _logistic(self._place(u))).clip(self.low, self.high)

    def slope(self, u: Array, ratio: Array) -> Array:
        # The same as (r - low)(high - r) / ((1 - low)(high - 1)), without the cancellation close to
        # a bound.
        x = self._place(u)
        return self._room * self._steepness * _logistic(x) * _logistic(-x)

    def integral(self, u: Array, ratio: Array) -> Array:
        softened = _softplus(self._place(u)) - self._base
        return self.low * u + self._room / self._steepness * softened

    def value(self, ratio: np.ndarray) -> np.ndarray:
        low, high = np.asarray(self.low, dtype=np.float64), np.asarray(self.high, dtype=np.float64)
        inside = (ratio >= low) & (ratio <= high)
        r = np.clip(ratio, low, high)
        # high - 1 >= 0 and 1 - low > 0, so xlogy gives 0 where a weight sits on its bound.
        inner = (
            xlogy(r - low, (r - low) / (1 - low)) + xlogy(high - r, (high - r) / (high - 1))
        ) / self._steepness
        return np.where(inside, inner, np.inf)


def _torch(array: object):
    """torch, where ``array`` is one of its tensors (then it is loaded); else None."""
    torch = sys.modules.get("torch")
    return torch if torch is not None and isinstance(array, torch.Tensor) else None


def _exp(x: Array) -> Array:
    """exp(x), in place of a tensor that nobody else holds."""
    return x.exp_() if _torch(x) else np.exp(x)


def _log(x: Array | float) -> Array | float:
    if _torch(x):
        return x.log()
    return float(np.log(x)) if np.ndim(x) == 0 else np.log(x)


def _xlogy(x: Array, y: Array) -> Array:
    torch = _torch(x)
    return torch.xlogy(x, y) if torch else xlogy(x, y)


def _logistic(x: Array) -> Array:
    return x.sigmoid() if _torch(x) else expit(x)


def _softplus(x: Array) -> Array:
    """log(1 + e^x)."""
    torch = _torch(x)
    # Above 200 the two agree to the last bit.
    return torch.nn.functional.softplus(x, threshold=200.0) if torch else np.logaddexp(0.0, x)
