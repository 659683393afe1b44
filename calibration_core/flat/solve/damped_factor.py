"""A Hessian of a flat dual as a damped Cholesky factor with a unit diagonal.

The Hessian H of the variables that are free is brought to a unit diagonal, R H R with R = diag(H)^
-1/2, so that units do not matter. It is raised by a share of that diagonal (Levenberg and
Marquardt) where rounding has left it indefinite, or where the iteration asks for shorter steps.

Belongs here: that factor, for every Newton method on a flat dual. Does not belong here: how a
Hessian is formed, when damping is asked for (``common/newton.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import linalg

from calibration_core.common import newton as rules
from calibration_core.errors import SettingsError

# With a diagonal of ones no eigenvalue is below minus the number of variables: the last of these
# is enough for a million of them.
_LADDER = (*rules.DAMPING, 1.0, 1e2, 1e4, rules.MOST_DAMPING)


@dataclass(frozen=True, eq=False)
class DampedFactor:
    """Cholesky factor of the equilibrated Hessian of the free variables.

    Attributes
    ----------
    free : (free,) indices of the variables that may move.
    root : (free,) R.
    scaled : (free, free) R H R, ones on the diagonal.
    damping : share of that diagonal that was added.
    cholesky : of the damped matrix, as ``scipy.linalg.cho_factor`` gives it.
    """

    free: np.ndarray
    root: np.ndarray
    scaled: np.ndarray
    damping: float
    cholesky: tuple[np.ndarray, bool]

    def damped(self, damping: float) -> DampedFactor:
        """The same Hessian with at least this much damping, more if it takes more to be positive
        definite.
        """
        found, cholesky = _least_damped(self.scaled, damping)
        return replace(self, damping=found, cholesky=cholesky)

    def solve(self, gradient: np.ndarray) -> np.ndarray:
        """(free,) H^-1 of ``gradient``."""
        return self.root * linalg.cho_solve(self.cholesky, self.root * gradient)


def damped_factor(
    free: np.ndarray,
    hessian: np.ndarray,
    damping: float = 0.0,
    *,
    borrowed: np.ndarray | None = None,
) -> DampedFactor:
    """Factorise ``hessian`` (free, free) with at least ``damping``.

    ``borrowed`` (free,) is what stands for the curvature of a variable that has none of its own,
    and nan for all others. Where all records of a target sit on their bounds F is a straight line
    in its multiplier, and the Hessian has no step to offer.
    """
    curvature = np.diagonal(hessian)
    if borrowed is not None:
        lent = np.where(borrowed > 0, borrowed, 1.0)
        curvature = np.where(np.isnan(borrowed), curvature, lent)
    root = 1.0 / np.sqrt(curvature)
    scaled = hessian * root[:, None] * root[None, :]
    scaled[np.diag_indices_from(scaled)] = 1.0
    found, cholesky = _least_damped(scaled, damping)
    return DampedFactor(free, root, scaled, found, cholesky)


def _least_damped(scaled: np.ndarray, damping: float) -> tuple[float, tuple[np.ndarray, bool]]:
    for trial in (damping, *(x for x in _LADDER if x > damping)):
        matrix = scaled + trial * np.eye(scaled.shape[0]) if trial else scaled
        try:
            return trial, linalg.cho_factor(matrix, lower=True, check_finite=False)
        except linalg.LinAlgError:
            continue
    raise SettingsError(
        "The Hessian of the dual is not positive definite however much it is damped",
        remedy="Report this problem; it should not happen",
    )
