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

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np

from calibration_core.common import arrays
from calibration_core.common.arrays import Array
from calibration_core.errors import SettingsError

# exp() overflows above 709; a ratio of e^600 is as good as infinite.
_EXPONENT_LIMIT = 600.0
# How far a ratio may lie outside its bounds by rounding alone.
_OUTSIDE = 1e-12
# A bound of zero is taken as this: differences of log ratios stay finite.
_LEAST_RATIO = 1e-300


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


class ExponentialDistance(Distance, Protocol):
    """One whose ratios grow exponentially with u."""

    def log_ratio(self, u: Array) -> Array:
        """log G(u), without forming G(u)."""
        ...


class _Sums(ABC):
    """What solvers of many leaves at once ask beside that."""

    @abstractmethod
    def integral(self, u: Array, ratio: Array) -> Array:
        """H(u)."""

    def potential(self, u: Array, ratio: Array, prior: Array, weights: Array) -> Array:
        """Sum over the last axis of prior times H(u); ``weights`` is prior times ratio."""
        return (self.integral(u, ratio) * prior).sum(-1)

    def take(self, leaves: Array) -> Any:
        """The distance of some leaves of a batch, whose first axis is leaves."""
        return self


@dataclass(frozen=True)
class Linear(_Sums):
    """Chi-square: phi = (r - 1)^2 / 2, G = 1 + u. Ratios may become negative."""

    exponential: ClassVar[bool] = False

    def ratio(self, u: Array) -> Array:
        return 1.0 + u

    def slope(self, u: Array, ratio: Array) -> Array:
        return arrays.ones_like(u)

    def integral(self, u: Array, ratio: Array) -> Array:
        return u + 0.5 * u * u

    def value(self, ratio: Array) -> Array:
        return 0.5 * (ratio - 1.0) ** 2


@dataclass(frozen=True)
class Raking(_Sums):
    """Kullback-Leibler: phi = r log r - r + 1, G = exp(u). Ratios stay positive."""

    exponential: ClassVar[bool] = True

    def ratio(self, u: Array) -> Array:
        return arrays.exp_of_own(u.clip(-_EXPONENT_LIMIT, _EXPONENT_LIMIT))

    def log_ratio(self, u: Array) -> Array:
        return u

    def slope(self, u: Array, ratio: Array) -> Array:
        return ratio

    def integral(self, u: Array, ratio: Array) -> Array:
        return ratio - 1.0

    def value(self, ratio: Array) -> Array:
        return arrays.xlogy(ratio, ratio) - ratio + 1.0

    def potential(self, u: Array, ratio: Array, prior: Array, weights: Array) -> Array:
        return weights.sum(-1) - prior.sum(-1)


@dataclass(frozen=True, eq=False)
class _Truncated(_Sums):
    """A distance restricted to low <= r <= high: G is cut, H goes on as a straight line.

    Bounds are two numbers, or two arrays (tensors) that broadcast against u.

    Raises
    ------
    SettingsError : a lower bound above its upper bound.
    """

    exponential: ClassVar[bool] = False
    inner: ClassVar[Linear | Raking] = Linear()
    low: Array
    high: Array

    def __post_init__(self) -> None:
        low, high = _bounds(self.low, self.high)
        if bool((low > high).any()):
            raise SettingsError(
                "A lower bound is above its upper bound", expected="low <= high for every record"
            )

    def take(self, leaves: Array) -> Any:
        return _taken(self, leaves)

    def slope(self, u: Array, ratio: Array) -> Array:
        return self.inner.slope(u, ratio) * ((ratio > self.low) & (ratio < self.high))

    def ratio(self, u: Array) -> Array:
        return self.inner.ratio(u).clip(self.low, self.high)

    def integral(self, u: Array, ratio: Array) -> Array:
        # By Legendre: H(u) = r u - phi(r) at the cut ratio r, which is the straight continuation
        # outside the bounds.
        return ratio * u - self.inner.value(ratio)

    def value(self, ratio: Array) -> Array:
        inside = (ratio >= self.low - _OUTSIDE) & (ratio <= self.high + _OUTSIDE)
        return arrays.where(inside, self.inner.value(ratio), np.inf)


@dataclass(frozen=True, eq=False)
class TruncatedLinear(_Truncated):
    """Chi-square with low <= r <= high."""


@dataclass(frozen=True, eq=False)
class BoundedRaking(_Truncated):
    """Kullback-Leibler with low <= r <= high."""

    exponential: ClassVar[bool] = True
    inner: ClassVar[Linear | Raking] = Raking()

    def log_ratio(self, u: Array) -> Array:
        low, high = (arrays.log(arrays.at_least(x, _LEAST_RATIO)) for x in (self.low, self.high))
        return u.clip(low, high)


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
    low: Array
    high: Array

    def __post_init__(self) -> None:
        low, high = _bounds(self.low, self.high)
        if not bool((low < 1).all()) or not bool(((high > 1) & (high < np.inf)).all()):
            raise SettingsError(
                f"The logit distance was given ratio bounds from {float(low.min()):g} to"
                f" {float(high.max()):g}",
                expected="low < 1 < high, both finite, for every record",
                remedy="Use truncated_linear or raking_bounded for bounds that do not enclose one",
            )

    def take(self, leaves: Array) -> Any:
        return _taken(self, leaves)

    @cached_property
    def _room(self) -> Array:
        return self.high - self.low

    @cached_property
    def _steepness(self) -> Array:
        """A."""
        return self._room / ((1.0 - self.low) * (self.high - 1.0))

    @cached_property
    def _shift(self) -> Array:
        return arrays.log((1.0 - self.low) / (self.high - 1.0))

    @cached_property
    def _base(self) -> Array:
        return arrays.log(self._room / (self.high - 1.0))

    def _place(self, u: Array) -> Array:
        """x."""
        return self._steepness * u + self._shift

    def ratio(self, u: Array) -> Array:
        # Cut, because low + (high - low) may round to more than high.
        return (self.low + self._room * arrays.logistic(self._place(u))).clip(self.low, self.high)

    def slope(self, u: Array, ratio: Array) -> Array:
        # The same as (r - low)(high - r) / ((1 - low)(high - 1)), without the cancellation close to
        # a bound.
        x = self._place(u)
        return self._room * self._steepness * arrays.logistic(x) * arrays.logistic(-x)

    def integral(self, u: Array, ratio: Array) -> Array:
        softened = arrays.softplus(self._place(u)) - self._base
        return self.low * u + self._room / self._steepness * softened

    def value(self, ratio: Array) -> Array:
        low, high = self.low, self.high
        r = ratio.clip(low, high)
        # high - 1 > 0 and 1 - low > 0, so xlogy gives 0 where a weight sits on its bound.
        below = arrays.xlogy(r - low, (r - low) / (1.0 - low))
        above = arrays.xlogy(high - r, (high - r) / (high - 1.0))
        return arrays.where(r == ratio, (below + above) / self._steepness, np.inf)


def _bounds(low: Array, high: Array) -> tuple[Array, Array]:
    """Both as arrays, or as the tensors they are, wherever these lie."""
    return _array(low), _array(high)


def _array(x: Array) -> Array:
    return np.asarray(x) if arrays.torch_of(x) is None else x


def _taken(distance: Any, leaves: Array) -> Any:
    """``distance`` with the bounds of some leaves, where each has its own."""
    if np.ndim(distance.low) == 0:
        return distance
    return type(distance)(distance.low[leaves], distance.high[leaves])
