"""What missing the targets of a flat problem costs: rho of each residual in units of its scale,
weighted target by target.

    L(w) = sum_j omega_j rho(r_j),   r_j = (a_j.w - b_j) / s_j

With rho the square and s_j = |b_j| + epsilon this is the paper's unified relative loss. The losses
rho are those of ``common/losses.py``.

Belongs here: scales s and weights omega of a problem's targets, and L. Does not belong here: rho,
the prior on weights, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from calibration_core.common.arrays import Array
from calibration_core.common.losses import Loss
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.flat.problem import CalibrationProblem

SCALES = ("relative", "standard_error", "both")


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
    targets: Array
    scale: Array
    weights: Array

    def residuals(self, fitted: Array) -> Array:
        """r."""
        return (fitted - self.targets) / self.scale

    def value(self, fitted: Array) -> Array:
        """L, a scalar."""
        return (self.weights * self.loss.value(self.residuals(fitted))).sum()

    def forces(self, fitted: Array) -> Array:
        """(targets,) dL / d fitted."""
        return self.weights * self.loss.slope(self.residuals(fitted)) / self.scale

    def majoriser(self, fitted: Array) -> TargetLoss:
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
    it (``CalibrationProblem.relative_scale``): nothing depends on units. The numerator of a
    residual never contains epsilon, so that the smallest loss is at the target itself.

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
    if kind == "standard_error":
        return np.array(_standard_errors(problem, kind))
    # Before anything else that may be wrong with the scale of a target.
    errors = _standard_errors(problem, kind) if kind == "both" else 0.0
    size = problem.relative_scale
    if epsilon is not None:
        size = np.abs(problem.targets) + epsilon / problem.total_unit
    relative = relative_size * size
    if kind == "both":
        return np.sqrt(relative**2 + errors**2)
    if (relative == 0).any():
        j = int(np.flatnonzero(relative == 0)[0])
        raise SettingsError(
            "epsilon is 0 and a target is zero, so its relative error has no meaning",
            where=repr(problem.target_names[j]),
            expected="epsilon > 0 where a target is zero",
        )
    return relative


def _standard_errors(problem: CalibrationProblem, kind: str) -> np.ndarray:
    if problem.standard_errors is None:
        raise ProblemError(
            f"scale={kind!r} needs standard errors and the problem has none",
            remedy="Give standard_errors, or use scale='relative'",
        )
    return problem.standard_errors


def target_weights(problem: CalibrationProblem, choice=None) -> np.ndarray:
    """(targets,) omega_j >= 0.

    Parameters
    ----------
    choice : None for ones; an array of one number per target; "groups": every group of targets
        weighs the same in all; "bases": so do counts and amounts. Within each of the two a target
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
            expected="None, 'groups', 'bases' or one number per target",
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
