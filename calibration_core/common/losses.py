"""What missing a target costs: rho of its residual r, the miss in units of the target's scale.

    name            rho(r)
    square          r^2
    huber           r^2 within +-delta, 2 delta |r| - delta^2 beyond
    pseudo_huber    2 delta^2 (sqrt(1 + (r / delta)^2) - 1): r^2 near zero, 2 delta |r| far out
    capped          min(h(r), cap), h = |r| with its corner rounded: r^2 / (2 corner) within
                    +-corner, |r| - corner / 2 beyond
    capped_square   min(r^2, cap^2)

Huber: Ann. Math. Statist. 35, 1964. Pseudo-Huber: Charbonnier et al., IEEE Trans. Image Process. 6,
1997, 298-311. Every rho but that of "capped" is r^2 near zero, so that delta and cap mean the same
wherever they stand. What solvers add up is theirs to say, and differs by a factor of two:

    a flat problem    sum_j omega_j rho(r_j) + strength * divergence   (the paper's relative loss)
    a tree            sum_j rho(r_j) / 2     + tau * divergence        (half a squared standard error)

so that a flat ``prior_strength`` of 2 tau asks for the weights of a tree's tau.

The capped losses are flat beyond the cap, so that a hopeless target pulls no more; they are not
convex. Each is the smallest of a convex loss and a constant, which is how they are minimised.

All are concave functions of r^2. So the square m(r_0) r^2, with the majorising weight m(r) = rho'(r)
/ (2 r), lies nowhere below rho up to a constant and touches it at r_0 (Hunter and Lange, Amer.
Statist. 58, 2004, 30-37).

The formulas use operators, abs() and .clip() alone, which numpy arrays and torch tensors share:
there is one definition for both.

Belongs here: losses of scaled residuals. Does not belong here: scales and weights of targets
(``flat/solve/losses.py``), the prior on weights, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from calibration_core.common.arrays import Array
from calibration_core.errors import SettingsError

LOSSES = ("square", "huber", "capped", "capped_square")


class Loss(Protocol):
    """A loss of scaled residuals r."""

    @property
    def convex(self) -> ConvexLoss:
        """The loss itself if it is convex, else the convex loss it equals below its cap."""
        ...

    @property
    def beginning(self) -> ConvexLoss:
        """The convex loss from whose minimum the minimisation sets out: the loss itself, or one
        that outliers cannot drag.
        """
        ...

    def value(self, r: Array) -> Array:
        """rho(r) >= 0."""
        ...

    def slope(self, r: Array) -> Array:
        """rho'(r)."""
        ...

    def majorising(self, r: Array) -> Array:
        """m(r) = rho'(r) / (2 r) >= 0, half the curvature of the square that touches rho at r."""
        ...

    def counts(self, r: Array) -> Array:
        """1.0 where the residual still pulls, 0.0 where it lies beyond the cap."""
        ...


class ConvexLoss(Loss, Protocol):
    """A convex loss, with what its conjugate needs: quadratic with ``curvature`` around 0, then
    straight at ``steepest`` (inf: never).
    """

    @property
    def curvature(self) -> float: ...

    @property
    def steepest(self) -> float: ...


class _Convex:
    """What is the same for every convex loss."""

    @property
    def convex(self) -> Any:
        return self

    @property
    def beginning(self) -> Any:
        return self

    def counts(self, r: Array) -> Array:
        return r * 0.0 + 1.0


@dataclass(frozen=True)
class Square(_Convex):
    """r^2."""

    curvature: ClassVar[float] = 2.0
    steepest: ClassVar[float] = float("inf")

    def value(self, r: Array) -> Array:
        return r * r

    def slope(self, r: Array) -> Array:
        return 2.0 * r

    def majorising(self, r: Array) -> Array:
        return r * 0.0 + 1.0


@dataclass(frozen=True)
class Huber(_Convex):
    """height * (r^2 within +-delta, 2 delta |r| - delta^2 beyond); height 1 unless it stands for a
    rounded |r|.
    """

    delta: float
    height: float = 1.0

    @property
    def curvature(self) -> float:
        return 2.0 * self.height

    @property
    def steepest(self) -> float:
        return 2.0 * self.height * self.delta

    def value(self, r: Array) -> Array:
        size = abs(r)
        near = size.clip(max=self.delta)
        return self.height * near * (2.0 * size - near)

    def slope(self, r: Array) -> Array:
        return 2.0 * self.height * r.clip(min=-self.delta, max=self.delta)

    def majorising(self, r: Array) -> Array:
        return self.height * (self.delta / abs(r).clip(min=self.delta))


@dataclass(frozen=True)
class PseudoHuber(_Convex):
    """2 delta^2 (sqrt(1 + (r / delta)^2) - 1); the square where delta is infinite.

    It is quadratic at zero only, so that its conjugate is not that of ``ConvexLoss``.
    """

    delta: float

    def value(self, r: Array) -> Array:
        # The same without the cancellation near zero.
        return 2.0 * r * r / (1.0 + self._root(r))

    def slope(self, r: Array) -> Array:
        return 2.0 * r / self._root(r)

    def majorising(self, r: Array) -> Array:
        return 1.0 / self._root(r)

    def _root(self, r: Array) -> Array:
        far = r / self.delta
        return (1.0 + far * far) ** 0.5


@dataclass(frozen=True)
class Capped:
    """min(convex loss, ceiling)."""

    convex: ConvexLoss
    ceiling: float
    beginning: ConvexLoss

    def value(self, r: Array) -> Array:
        return self.convex.value(r).clip(max=self.ceiling)

    def slope(self, r: Array) -> Array:
        return self.convex.slope(r) * self.counts(r)

    def majorising(self, r: Array) -> Array:
        return self.convex.majorising(r) * self.counts(r)

    def counts(self, r: Array) -> Array:
        return 1.0 * (self.convex.value(r) < self.ceiling)


def make_loss(name: str, *, delta: float = 0.1, cap: float = 1.0, corner: float = 1e-3) -> Loss:
    """The loss called ``name`` in ``LOSSES``; delta, cap and corner in units of the scale. Raises
    SettingsError.
    """
    if name not in LOSSES:
        raise SettingsError(f"loss is {name!r}", expected=f"one of {', '.join(LOSSES)}")
    for what, value in (("delta", delta), ("cap", cap), ("corner", corner)):
        if not 0 < value < float("inf"):
            raise SettingsError(
                f"{what} is {value!r}",
                expected="a positive finite number, in units of the targets' scale",
            )
    if name == "square":
        return Square()
    if name == "huber":
        return Huber(delta)
    if name == "capped_square":
        return Capped(Square(), cap * cap, Huber(cap))
    if corner >= cap:
        raise SettingsError(f"corner is {corner!r} and cap {cap!r}", expected="corner < cap")
    rounded = Huber(corner, 0.5 / corner)
    return Capped(rounded, cap, rounded)
