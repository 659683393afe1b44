"""What missing a target costs: rho of the residual in units of its scale, weighted target by
target.

    L(w) = sum_j omega_j rho(r_j),   r_j = (a_j.w - b_j) / s_j

    name            rho(r)
    square          r^2, the paper's unified relative loss with s_j = |b_j| + epsilon
    huber           r^2 within +-delta, 2 delta |r| - delta^2 beyond (Huber, Ann. Math. Statist. 35,
    1964)
    capped          min(h(r), cap), h = |r| with its corner rounded: r^2 / (2 corner) within
    +-corner, |r| - corner / 2 beyond
    capped_square   min(r^2, cap^2)

The capped losses are flat beyond the cap, so that a hopeless target pulls no more; they are not
convex. Each is the smallest of a convex loss and a constant, which is how they are minimised
(``dual_losses.py``).

The formulas use operators, abs() and .clip() alone, which numpy arrays and torch tensors share:
there is one definition for both.

Belongs here: losses of residuals, scales s and weights omega of targets. Does not belong here: the
prior on weights, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import numpy as np

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.problem import CalibrationProblem

LOSSES = ("square", "huber", "capped", "capped_square")
SCALES = ("relative", "standard_error", "both")


class Loss(Protocol):
    """A loss of scaled residuals r, numpy array or torch tensor of any shape; results have the same
    kind and shape.
    """

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

    def value(self, r):
        """rho(r) >= 0."""
        ...

    def slope(self, r):
        """rho'(r)."""
        ...

    def counts(self, r):
        """1.0 where the residual still pulls, 0.0 where it lies beyond the cap."""
        ...


class ConvexLoss(Loss, Protocol):
    """A convex loss, with what its conjugate needs: quadratic with ``curvature`` around 0, then
    straight at ``steepest`` (inf: never).
    """

    curvature: float
    steepest: float


@dataclass(frozen=True)
class Square:
    """r^2."""

    curvature: ClassVar[float] = 2.0
    steepest: ClassVar[float] = float("inf")

    @property
    def convex(self) -> Square:
        return self

    beginning = convex

    def value(self, r):
        return r * r

    def slope(self, r):
        return 2.0 * r

    def counts(self, r):
        return r * 0.0 + 1.0


@dataclass(frozen=True)
class Huber:
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

    @property
    def convex(self) -> Huber:
        return self

    beginning = convex

    def value(self, r):
        size = abs(r)
        near = size.clip(max=self.delta)
        return self.height * near * (2.0 * size - near)

    def slope(self, r):
        return 2.0 * self.height * r.clip(min=-self.delta, max=self.delta)

    def counts(self, r):
        return r * 0.0 + 1.0


@dataclass(frozen=True)
class Capped:
    """min(convex loss, ceiling)."""

    convex: ConvexLoss
    ceiling: float
    beginning: ConvexLoss

    def value(self, r):
        return self.convex.value(r).clip(max=self.ceiling)

    def slope(self, r):
        return self.convex.slope(r) * self.counts(r)

    def counts(self, r):
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


@dataclass(frozen=True, eq=False)
class TargetLoss:
    """L for the targets of one problem. Arrays are (targets,), all numpy or all torch; ``fitted``
    below is of the same kind.

    Attributes
    ----------
    loss : rho.
    targets : b, in the targets' units.
    scale : s > 0, in the targets' units.
    weights : omega >= 0; a target of weight zero is only looked at.
    """

    loss: Loss
    targets: np.ndarray
    scale: np.ndarray
    weights: np.ndarray

    def residuals(self, fitted):
        """r."""
        return (fitted - self.targets) / self.scale

    def value(self, fitted):
        """L, a scalar."""
        return (self.weights * self.loss.value(self.residuals(fitted))).sum()

    def forces(self, fitted):
        """(targets,) dL / d fitted."""
        return self.weights * self.loss.slope(self.residuals(fitted)) / self.scale

    def majoriser(self, fitted) -> TargetLoss:
        """The convex loss that is nowhere below L, up to a constant, and touches it at ``fitted``:
        targets beyond the cap stop counting.
        """
        return replace(
            self,
            loss=self.loss.convex,
            weights=self.weights * self.loss.counts(self.residuals(fitted)),
        )


def target_scale(
    problem: CalibrationProblem,
    kind: str = "relative",
    *,
    epsilon: float | None = None,
    relative_size: float = 1.0,
) -> np.ndarray:
    """(targets,) s_j: relative_size (|b_j| + epsilon), the standard error, or the root of the sum
    of their squares.

    ``epsilon`` is in the unit each target was given in, so what it does depends on that unit. With
    None, |b_j| stands alone, and a target of zero has the scale of what the initial weights add to
    it (``CalibrationProblem.relative_scale``): nothing depends on units. The numerator of a residual never contains epsilon, so that the smallest loss is at the target
    itself.

    Raises
    ------
    ProblemError : the kind needs standard errors and the problem has none.
    SettingsError : unknown kind, negative epsilon, or epsilon 0 with a target of zero.
    """
    if kind not in SCALES:
        raise SettingsError(f"scale is {kind!r}", expected=f"one of {', '.join(SCALES)}")
    added = 0.0 if epsilon is None else epsilon
    if not 0 <= added < float("inf") or not 0 < relative_size < float("inf"):
        raise SettingsError(
            f"epsilon is {epsilon!r} and relative_size {relative_size!r}",
            expected="epsilon None or >= 0, and relative_size > 0, both finite",
        )
    if kind != "relative" and problem.standard_errors is None:
        raise ProblemError(
            f"scale={kind!r} needs standard errors and the problem has none",
            remedy="Give standard_errors, or use scale='relative'",
        )
    if kind == "standard_error":
        return np.array(problem.standard_errors)
    size = problem.relative_scale
    if epsilon is not None:
        size = np.abs(problem.targets) + epsilon / problem.total_unit
    relative = relative_size * size
    if kind == "both":
        return np.sqrt(relative**2 + problem.standard_errors**2)
    if (relative == 0).any():
        j = int(np.flatnonzero(relative == 0)[0])
        raise SettingsError(
            "epsilon is 0 and a target is zero, so its relative error has no meaning",
            where=repr(problem.target_names[j]),
            expected="epsilon > 0 where a target is zero",
        )
    return relative


def target_weights(problem: CalibrationProblem, choice=None) -> np.ndarray:
    """(targets,) omega_j >= 0.

    Parameters
    ----------
    choice : None for ones; an array of one number a target; "groups": every group of targets weighs
        the same in all; "bases": counts and amounts weigh the same in all, and within each a target
        weighs in proportion to max(|b_j|, 1)^0.5 (counts and amounts: ``common/counts.py``). The
        two named choices have mean one.

    Raises
    ------
    SettingsError : unknown name; or numbers of the wrong count, negative, not finite, or all zero.
    """
    m = problem.matrix.targets
    if choice is None:
        return np.ones(m)
    if isinstance(choice, str):
        if choice == "groups":
            return _equal_shares(np.ones(m), np.asarray(problem.groups))
        if choice == "bases":
            # Counts in whole records or persons; amounts in money, as the caller wrote them.
            counts = problem.targets * problem.weight_unit
            amounts = problem.targets * problem.total_unit
            size = np.abs(np.where(problem.matrix.counts, counts, amounts))
            return _equal_shares(np.sqrt(np.maximum(size, 1.0)), problem.matrix.counts)
        raise SettingsError(
            f"target_weights is {choice!r}",
            expected="None, 'groups', 'bases' or one number a target",
        )
    weights = np.asarray(choice, dtype=np.float64)
    if (
        weights.shape != (m,)
        or not np.isfinite(weights).all()
        or (weights < 0).any()
        or not (weights > 0).any()
    ):
        raise SettingsError(
            f"target_weights has shape {weights.shape}",
            expected=f"{m} finite numbers >= 0, not all zero: one a target",
        )
    return weights


def _equal_shares(size: np.ndarray, label: np.ndarray) -> np.ndarray:
    _, code = np.unique(label, return_inverse=True)
    total = np.bincount(code, weights=size)
    return size / total[code] * (size.size / total.size)
