"""Which target rows say something new: rows without support, dependent rows, and whether dependent
ones agree.

Belongs here: linear algebra on rows. Does not belong here: words for people (``conflicts/``),
solvers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

from calibration_core.flat.design_matrix import DesignMatrix

# Squared relative distance of a row from the span of the others under which it counts as dependent
# (a 1e-6 in the row itself).
_DEPENDENT = 1e-12


@dataclass(frozen=True, eq=False)
class RowStructure:
    """Rows sorted out.

    Attributes
    ----------
    kept : indices of independent rows, ascending.
    dependent : indices of the rows that are combinations of the kept ones.
    combination : (dependent, kept) coefficients: row = combination @ kept rows.
    unsupported : indices of rows that no record with a positive initial weight contributes to.
    least_pivot : smallest squared relative distance of a kept row from the span of those taken
        before it; near 1 rows are far apart.
    gram : (targets, targets) A diag(weights) A', which is also where every distance's curvature
        begins.
    """

    kept: np.ndarray
    dependent: np.ndarray
    combination: np.ndarray
    unsupported: np.ndarray
    gram: np.ndarray
    least_pivot: float = 1.0

    def disagreement(self, targets: np.ndarray) -> np.ndarray:
        """(dependent,) target minus what the kept targets imply for it."""
        return targets[self.dependent] - self.combination @ targets[self.kept]

    def spread(self, targets: np.ndarray) -> np.ndarray:
        """(dependent,) the size that a disagreement is relative to: the largest term of the
        combination.
        """
        terms = np.abs(self.combination * targets[self.kept][None, :])
        return np.maximum(np.abs(targets[self.dependent]), terms.max(axis=1, initial=0.0))


def row_structure(matrix: DesignMatrix, weights: np.ndarray) -> RowStructure:
    """Sort rows out by pivoted Cholesky of A diag(weights) A', equilibrated (LAPACK dpstrf).

    Parameters
    ----------
    matrix : (targets, records).
    weights : (records,) >= 0; records of zero weight do not count.
    """
    gram = matrix.gram(weights)
    diagonal = np.diagonal(gram)
    unsupported = np.flatnonzero(diagonal <= 0)
    present = np.flatnonzero(diagonal > 0)
    if present.size == 0:
        return RowStructure(present, present, np.zeros((0, 0)), unsupported, gram)
    root = np.sqrt(diagonal[present])
    scaled = np.asfortranarray(gram[np.ix_(present, present)] / root[:, None] / root[None, :])
    factor, pivots, rank, _ = linalg.lapack.dpstrf(scaled, lower=1, tol=_DEPENDENT)
    order = pivots - 1
    lower = np.tril(factor)[:, :rank]
    combination = (
        linalg.solve_triangular(lower[:rank].T, lower[rank:].T, lower=False).T
        if rank < present.size
        else np.zeros((0, rank))
    )
    kept, dependent = order[:rank], order[rank:]
    combination = combination * root[dependent][:, None] / root[kept][None, :]
    combination[np.abs(combination) < 1e-9 * np.abs(combination).max(initial=0.0)] = 0.0
    by_kept, by_dependent = np.argsort(kept), np.argsort(dependent)
    return RowStructure(
        present[kept[by_kept]],
        present[dependent[by_dependent]],
        combination[by_dependent][:, by_kept],
        unsupported,
        gram,
        float(np.diagonal(lower).min(initial=1.0) ** 2),
    )
