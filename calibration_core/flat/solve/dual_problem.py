"""The dual of a flat calibration problem, as it is handed to ``dual_newton.py``: records, targets, a
distance and what a miss costs.

Belongs here: what F is made of. Does not belong here: how it is minimised, settings.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from calibration_core.common.distances import Distance
from calibration_core.flat.design_matrix import DesignMatrix


class Slack(Protocol):
    """The conjugate of a penalty on residuals, a smooth convex function of the multipliers, as
    arrays over (targets,).
    """

    def value(self, y: np.ndarray) -> float:
        """Its sum over targets."""
        ...

    def gradient(self, y: np.ndarray) -> np.ndarray:
        """Its slope."""
        ...

    def curvature(self, y: np.ndarray) -> np.ndarray:
        """Its second derivative, >= 0."""
        ...


@dataclass(frozen=True, eq=False)
class Ridge:
    """ridge_j y_j^2 / 2: squared residuals over 2 ridge_j; zero for a hard constraint."""

    ridge: np.ndarray

    def value(self, y: np.ndarray) -> float:
        return 0.5 * float(self.ridge @ (y * y))

    def gradient(self, y: np.ndarray) -> np.ndarray:
        return self.ridge * y

    def curvature(self, y: np.ndarray) -> np.ndarray:
        return self.ridge


@dataclass(frozen=True, eq=False)
class DualProblem:
    """What F is made of.

    Attributes
    ----------
    matrix, targets, start : A, b and d. Rows must be linearly independent wherever ridge is zero.
    distance : G, H and their slope, on the records of ``start``.
    scale : (targets,) > 0: what one unit of relative error is for each target, for the stopping
        rule.
    q : (records,) or None for ones.
    ridge, band : (targets,), see ``dual_newton.py``; None for zeros.
    slack : instead of ridge, for penalties that are not squares.
    """

    matrix: DesignMatrix
    targets: np.ndarray
    start: np.ndarray
    distance: Distance
    scale: np.ndarray
    q: np.ndarray | None = None
    ridge: np.ndarray | None = None
    band: np.ndarray | None = None
    slack: Slack | None = None


@dataclass(frozen=True, eq=False)
class KnownRows:
    """What is known of the rows of a problem before it is solved.

    Attributes
    ----------
    gram : (targets, targets) A diag(start) A', if it is known already: the Hessian where every
        ratio's slope is one.
    active : indices of the targets to hold; the multipliers of the others stay zero. None for all.
        Rows need be independent among these.
    single : form Hessians in float32 sums (``DesignMatrix.gram``); right where rows are far from
        dependent. The gradient, which decides where the iteration ends, is in float64 always.
    """

    gram: np.ndarray | None = None
    active: np.ndarray | None = None
    single: bool = False
