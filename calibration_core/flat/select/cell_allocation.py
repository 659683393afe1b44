"""How many of k records each cell gets, and whose mass is carried by whom.

With inclusion probabilities pi_i proportional to the weights, capped at one and summing to k, the
share of a cell is the sum of pi over its records. Every cell gets its share rounded down or up, up
with a probability equal to the fraction, so that its expectation is the share, and the counts sum
to k exactly: unbiased controlled rounding (Cox, JASA 82 (1987) 520-524), here a balanced draw of
the cells to be rounded up, whose margins come out as even as can be.

Belongs here: probabilities, shares, rounding, and the moving of mass from cells without a record.
Does not belong here: which records are drawn in a cell (``draw.py``), what a cell is
(``flat/cells.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.errors import BudgetError, SettingsError
from calibration_core.flat.cells import nearest_filled
from calibration_core.sampling.cube import cube
from calibration_core.sampling.probabilities import inclusion_probabilities

_WHOLE = 1e-9
# Beyond this many cells x margin rows squared, cells are rounded in their order alone (systematic),
# which balances every leading margin.
_BALANCE_WORK = 5e7


def record_budget(records: int | None, sparsity: float | None, total: int) -> int:
    """k from a number of records or from a sparsity (share of records left out).

    Raises
    ------
    SettingsError : neither or both given.
    BudgetError : k is not between 1 and ``total``, the records of positive weight are checked by
        ``selection_probabilities``.
    """
    if (records is None) == (sparsity is None):
        given = "neither" if records is None else "both"
        raise SettingsError(
            f"Of records and sparsity, {given} was given",
            expected="one of them",
            remedy="Pass records=1000, or sparsity=0.9",
        )
    k = int(records) if records is not None else max(1, round(total * (1.0 - sparsity)))
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


def selection_probabilities(weights: np.ndarray, k: int) -> np.ndarray:
    """(records,) float64: probabilities proportional to the weights, at most one, summing to k;
    exactly zero where the weight is.

    Raises BudgetError if fewer than k records have a positive weight.
    """
    positive = int((weights > 0).sum())
    if positive < k:
        raise BudgetError(
            f"{k:,} records are asked for, but only {positive:,} of {weights.size:,} have a"
            " positive weight",
            expected=f"at most {positive:,}",
            remedy="Ask for fewer records, or give the others a positive initial weight",
        )
    probability = inclusion_probabilities(weights, k)
    return np.where(probability > 1.0 - _WHOLE, 1.0, probability)


def round_shares(
    share: np.ndarray,
    profile: np.ndarray | None,
    levels: list[np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray:
    """(cells,) int64 counts: each share rounded down or up at random, mean the share, summing to
    the rounded sum of shares.

    Parameters
    ----------
    share : (cells,) >= 0, summing to a whole number.
    profile : (cells, variables) what one record of the cell adds to each margin, or None: margins
        that rounding keeps balanced.
    levels : coarser labels of the cells, finest first, whose counts stay within rounding too.
    generator : of the random numbers.
    """
    whole = np.floor(share + _WHOLE)
    fraction = np.clip(share - whole, 0.0, 1.0)
    fraction[fraction < _WHOLE] = 0.0
    up = np.flatnonzero(fraction > 0)
    counts = whole.astype(np.int64)
    missing = round(float(share.sum())) - int(counts.sum())
    if up.size and missing > 0:
        part = fraction[up] * (missing / fraction[up].sum())
        balance = (
            profile[up]
            if profile is not None and up.size * profile.shape[1] ** 2 <= _BALANCE_WORK
            else np.zeros((up.size, 0))
        )
        counts[
            up[cube(np.minimum(part, 1.0), balance, [level[up] for level in levels], generator)]
        ] += 1
    return counts


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
