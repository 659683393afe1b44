"""Whether targets of dependent rows agree, and the nearest targets that do: one decision for all.

A dependent row is a combination of others, and so must its target be: V b = 0 with one row of V
for each relation. Where V b is not zero, targets can only be met up to moves delta with
V (b + delta) = 0. The smallest moves, each counted relative to its target's size s_j and to the
size t_j of an entry of its row,

    minimise sum_j delta_j^2 / (s_j t_j)   subject to   V delta = -V b,

share the disagreement of two margins out in proportion to their targets, so that the largest
relative move is the least possible one. Targets agree if no move exceeds the tolerance within which
a target counts as met. Then the moved targets are solved for, and every target is met; otherwise
there is a conflict, which ``margins.py`` names. Nothing else decides this.

Belongs here: that decision. Does not belong here: which margins are to blame, words, solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from calibration_core.flat.constraint_rows import RowStructure
from calibration_core.flat.problem import CalibrationProblem

# Targets are never held to agree better than this, which the rounding of dependent rows reaches.
LEAST_TOLERANCE = 1e-9
# Relations that hold to this share of the tolerance are left as they are.
_HOLDS = 0.01
# A relation whose coefficients are rounded shows a gap of up to this many times |V'A| d.
_NOISE = 10.0


@dataclass(frozen=True, eq=False)
class Agreement:
    """Outcome.

    Attributes
    ----------
    agree : whether the targets can be moved into agreement within the tolerance.
    targets : (targets,) the nearest ones that agree.
    moved : (targets,) |targets moved| over their sizes.
    gap : (dependent,) V b, zero where it is rounding.
    part : (dependent,) |V b| over the sum of |V_j| s_j: what a relation alone asks its targets to
        move by.
    tolerance : what was asked for, at least ``LEAST_TOLERANCE``.
    """

    agree: bool
    targets: np.ndarray
    moved: np.ndarray
    gap: np.ndarray
    part: np.ndarray
    tolerance: float


def agreement(problem: CalibrationProblem, rows: RowStructure, tolerance: float) -> Agreement:
    """Decide for ``problem``, whose rows are sorted out in ``rows``."""
    tolerance = max(tolerance, LEAST_TOLERANCE)
    b, size = problem.targets, problem.relative_scale
    gap = rows.disagreement(b)
    if gap.size == 0:
        return Agreement(True, b, np.zeros(b.size), gap, gap, tolerance)
    v = _relations(rows, b.size)
    part = np.abs(gap) / (np.abs(v) @ size)
    for i in np.flatnonzero(part > _HOLDS * tolerance):
        if abs(gap[i]) <= _NOISE * relation_noise(problem, v[i]):
            gap[i] = part[i] = 0.0
    if (part <= _HOLDS * tolerance).all():
        return Agreement(True, b, np.zeros(b.size), gap, part, tolerance)
    metric = size * _entry_size(problem)
    spread = v * metric
    square = spread @ v.T
    root = 1.0 / np.sqrt(np.diagonal(square))
    # Relations that are combinations of one another would leave this singular; it is not, since
    # each has a dependent row of its own.
    scaled = square * root[:, None] * root[None, :]
    moves = -spread.T @ (root * linalg.solve(scaled, root * gap, assume_a="pos"))
    moved = np.abs(moves) / size
    agree = bool((moved <= tolerance).all())
    return Agreement(agree, b + moves, moved, gap, part, tolerance)


def relation_noise(problem: CalibrationProblem, v: np.ndarray) -> float:
    """|v'A| d: how far v.b may be from zero because v is rounded."""
    return float(np.abs(problem.matrix.exponents(v)) @ problem.start)


def _relations(rows: RowStructure, targets: int) -> np.ndarray:
    """(dependent, targets) V: a dependent row less its combination of kept ones."""
    v = np.zeros((rows.dependent.size, targets))
    v[:, rows.kept] = -rows.combination
    v[np.arange(rows.dependent.size), rows.dependent] = 1.0
    return v


def _entry_size(problem: CalibrationProblem) -> np.ndarray:
    """(targets,) > 0: the size of an entry of each row, in its unit; one for zeros and ones."""
    start = problem.start
    total, square = problem.matrix.absolute_totals(start), problem.matrix.squares(start)
    return np.divide(square, total, out=np.ones_like(total), where=total > 0)
