"""How far a publication's concept may be from the records': the model error of its targets.

Belongs here: from gaps and their sampling errors to one relative error for each variable. Does not
belong here: measuring a gap (``concept_gap.py``), or what a target file says of itself
(``pipeline/specs/targets.py``).

A gap g between records and publication has two parts: the records' sampling error, of standard
error s, and the concept error d, which more records would not remove. Within a family of variables
(returns by income class, say) let d have mean zero and variance D, which solves

    sum over the n variables of  g^2 / (D + s^2)  =  n            (D = 0 where none does)

so that a variable known badly does not hide what the others show. Given its own gap, a variable's d
is then normal, and what is expected of its square is the model error:

    shrink        = D / (D + s^2)
    concept_error = sqrt( (shrink g)^2 + shrink s^2 )

A gap known well (s small) counts whole. One that sampling explains counts little, but what its
family shows still counts: a variable whose gap happens to be small is not exact. Without a
sampling error s is zero and the whole gap is model error.

References: Paule and Mandel (1982), *Consensus values and weighting factors*, J. Res. NBS 87, for
D; Efron and Morris (1975), *Data analysis using Stein's estimator*, JASA 70, for shrinkage.
"""

from __future__ import annotations

import numpy as np

# Halvings of the interval that holds D: beyond the last bit of a double.
_HALVINGS = 100


def concept_errors(gap: np.ndarray, error: np.ndarray, family: np.ndarray) -> np.ndarray:
    """Relative concept error of each variable, (variables,) float64, zero or above.

    Parameters
    ----------
    gap : (variables,) relative gaps, finite.
    error : (variables,) their sampling standard errors; zero where unknown.
    family : (variables,) which are measured by one concept.
    """
    found = np.zeros(len(gap))
    for name in np.unique(family):
        own = family == name
        g, s2 = gap[own], error[own] ** 2
        spread = _spread(g**2, s2)
        if spread > 0.0:
            shrink = spread / (spread + s2)
            found[own] = np.sqrt((shrink * g) ** 2 + shrink * s2)
    return found


def _spread(g2: np.ndarray, s2: np.ndarray) -> float:
    """D of the module's docstring, from squared gaps and squared sampling errors."""

    def explained(variance: float) -> bool:
        total = variance + s2
        unexplained = np.where(g2 > 0, np.inf, 0.0)
        return bool(np.divide(g2, total, out=unexplained, where=total > 0).sum() <= len(g2))

    if explained(0.0):
        return 0.0
    low, high = 0.0, float(g2.max())
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if explained(middle) else (middle, high)
    return (low + high) / 2
