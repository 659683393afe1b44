"""How many records are kept, and whose mass they carry.

Belongs here: k from what a user asks for, and the moving of mass from stretches of cells without a
record. Does not belong here: probabilities (``sampling/probabilities.py``), counts of cells
(``sampling/rounding.py``), which records are drawn in a cell (``draw.py``), what a cell is
(``flat/cells.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.errors import BudgetError, SettingsError
from calibration_core.flat.cells import nearest_filled


def record_budget(records: int | None, sparsity: float | None, total: int) -> int:
    """k from a number of records or from a sparsity (share of records left out).

    Raises
    ------
    SettingsError : neither or both given.
    BudgetError : k is not between 1 and ``total``, the records of positive weight are checked by
        ``sampling/probabilities.py``.
    """
    if records is not None and sparsity is None:
        k = int(records)
    elif sparsity is not None and records is None:
        k = max(1, round(total * (1.0 - sparsity)))
    else:
        given = "neither" if records is None else "both"
        raise SettingsError(
            f"Of records and sparsity, {given} was given",
            expected="one of them",
            remedy="Pass records=1000, or sparsity=0.9",
        )
    if not 1 <= k <= total:
        raise BudgetError(
            f"{k:,} records are asked for, the problem has {total:,}", expected=f"1 to {total:,}"
        )
    return k


def check_budget(records: int | None, sparsity: float | None) -> None:
    """Raise SettingsError where the settings are impossible whatever the problem."""
    if records is not None and (int(records) != records or records < 1):
        raise SettingsError(f"records is {records!r}", expected="a whole number, at least 1")
    if sparsity is not None and not 0 <= sparsity < 1:
        raise SettingsError(
            f"sparsity is {sparsity!r}",
            expected="at least 0, below 1",
            remedy="0.9 keeps one record in ten",
        )
    if records is not None and sparsity is not None:
        raise SettingsError(
            f"Both records ({records}) and sparsity ({sparsity}) were given", expected="one of them"
        )


def carried_mass(
    mass: np.ndarray, counts: np.ndarray, affinity: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Mass that the records of each stretch of cells carry, after stretches without a record gave
    theirs to the nearest that has one.

    Parameters
    ----------
    mass : (stretches,) weight of each.
    counts : (stretches,) records drawn in each.
    affinity : (stretches - 1,) of each to the next.

    Returns
    -------
    carried : (stretches,) float64 with the same sum; moved : (stretches,) bool: gave its mass away.
    """
    filled = counts > 0
    to = nearest_filled(filled, affinity)
    return np.bincount(to, mass, minlength=mass.size), ~filled & (mass > 0)
