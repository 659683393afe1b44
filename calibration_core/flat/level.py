"""Initial weights that are at another level than the targets: in persons, say, beside thousands.

Targets imply the sum of weights where a combination v of rows is one on every record, as the rows
of a margin are. Then the distances of the exact methods but the logit do not care by which factor
all initial weights are multiplied: it changes the distance by a function of that sum alone. So the
initial weights are multiplied to that sum before solving, and Newton's method starts at the level
of the targets instead of running there. With lambda the factor and y' the multipliers then found,

    raking    w = d exp(A'y),     y = y' + log(lambda) v
    linear    w = d (1 + A'y),    y = lambda y' + (lambda - 1) v

Where the targets imply no sum the initial weights stay, and multipliers whose weights come nearest
to one factor lambda, in least squares, are where Newton's method starts.

It is done only where the level is off by more than ``FAR``: nearer, the start serves as it is.

Belongs here: levels, the change and the way back. Does not belong here: the iteration.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from calibration_core.common.distances import (
    BoundedRaking,
    Distance,
    Linear,
    Logit,
    Raking,
    TruncatedLinear,
)
from calibration_core.flat.constraint_rows import RowStructure
from calibration_core.flat.problem import CalibrationProblem

# Share of the weight by which a combination of rows may miss one, squared and averaged.
_ONE = 1e-16


@dataclass(frozen=True, eq=False)
class AtLevel:
    """A problem and a distance to solve it by.

    Attributes
    ----------
    problem, distance : with the initial weights at the level of the targets, if that changes no
        solution.
    factor : lambda if the initial weights were multiplied, else one.
    ones : (targets,) v, or None.
    multipliers : (targets,) where to start, or None for zeros.
    """

    problem: CalibrationProblem
    distance: Distance
    factor: float = 1.0
    ones: np.ndarray | None = None
    multipliers: np.ndarray | None = None

    def given(self, multipliers: np.ndarray) -> np.ndarray:
        """Multipliers of the problem at its level as those of the problem as it was given."""
        if self.factor == 1.0 or self.ones is None:
            return multipliers
        if isinstance(self.distance, (Raking, BoundedRaking)):
            return multipliers + np.log(self.factor) * self.ones
        return self.factor * multipliers + (self.factor - 1.0) * self.ones


def combination_of_ones(problem: CalibrationProblem, rows: RowStructure) -> np.ndarray | None:
    """(targets,) v with v'A = 1 on every record of positive initial weight; None if
    there is none.
    """
    if rows.kept.size == 0:
        return None
    gram = rows.gram[np.ix_(rows.kept, rows.kept)]
    root = 1.0 / np.sqrt(np.diagonal(gram))
    scaled = gram * root[:, None] * root[None, :]
    v = np.zeros(problem.matrix.targets)
    right = root * problem.matrix.totals(problem.start)[rows.kept]
    v[rows.kept] = root * linalg.solve(scaled, right, assume_a="pos")
    left = 1.0 - problem.matrix.exponents(v)
    missed = float(problem.start @ left**2)
    return v if missed <= _ONE * float(problem.start.sum()) else None


def at_level(
    problem: CalibrationProblem, distance, rows: RowStructure, targets: np.ndarray
) -> AtLevel:
    """``problem`` and ``distance`` as they are best solved for ``targets``."""
    if problem.level == 1.0:
        return AtLevel(problem, distance)
    if problem.q is None and not isinstance(distance, Logit):
        ones = combination_of_ones(problem, rows)
        factor = 0.0 if ones is None else float(ones @ targets) / float(problem.start.sum())
        if factor > 0:
            return _multiplied(problem, distance, factor, ones)
    return AtLevel(problem, distance, multipliers=_start(problem, distance, rows))


def _multiplied(problem: CalibrationProblem, distance, factor: float, ones) -> AtLevel:
    moved = problem.change(
        initial_weights=problem.start * factor,
        ratio_bounds=None,
        weight_bounds=problem.limits if np.isfinite(problem.limits[0]).all() else None,
    )
    if isinstance(distance, (TruncatedLinear, BoundedRaking)):
        distance = replace(
            distance, low=np.asarray(distance.low) / factor, high=np.asarray(distance.high) / factor
        )
    return AtLevel(moved, distance, factor, ones)


def _start(problem: CalibrationProblem, distance, rows: RowStructure) -> np.ndarray | None:
    """(targets,) least-squares multipliers whose weights are nearest to one factor of the start."""
    if rows.kept.size == 0:
        return None
    wanted = _exponent(problem, distance)
    if not np.isfinite(wanted):
        return None
    gram = rows.gram[np.ix_(rows.kept, rows.kept)]
    root = 1.0 / np.sqrt(np.diagonal(gram))
    scaled = gram * root[:, None] * root[None, :]
    y = np.zeros(problem.matrix.targets)
    right = root * problem.matrix.totals(problem.start)[rows.kept]
    y[rows.kept] = wanted * root * linalg.solve(scaled, right, assume_a="pos")
    return y


def _exponent(problem: CalibrationProblem, distance) -> float:
    """u with G(u) = the level, for a record in the middle of the bounds."""
    level = problem.level
    if isinstance(distance, (Raking, BoundedRaking)):
        return float(np.log(level))
    if isinstance(distance, (Linear, TruncatedLinear)):
        return level - 1.0
    low, high = (float(np.median(np.asarray(end))) for end in (distance.low, distance.high))
    share = min(max((level - low) / (high - low), 1e-6), 1.0 - 1e-6)
    steep = (high - low) / ((1.0 - low) * (high - 1.0))
    return float((np.log(share / (1.0 - share)) - np.log((1.0 - low) / (high - 1.0))) / steep)
