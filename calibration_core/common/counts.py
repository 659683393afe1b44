"""Which rows of a matrix count something, and the unit that each row is best written in.

A row counts if its entries are whole multiples, from zero to ``LARGEST_COUNT``, of one number: of 1
for persons in a household, of 0.001 for the same in thousands, of 250 for a benefit that every
eligible person gets. Anything else is an amount. What a row is does not depend on its unit.

Belongs here: that question, asked once for all. Does not belong here: matrices and their products,
what follows from the answer.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

# The largest household of the American Community Survey has 20 persons; half as many again for
# other surveys and for rows that add two counts up. Entries beyond are amounts.
LARGEST_COUNT = 30
# A whole multiple that was rounded when it was computed is this close to one, relative.
_ROUNDING = 4e-15


def is_count(values: np.ndarray) -> bool:
    """Whether numbers are whole multiples, 0 to ``LARGEST_COUNT``, of one; not if all are zero."""
    column = np.asarray(values, dtype=np.float64).reshape(-1, 1)
    return bool(split_units(np.array(column))[1][0])


def split_units(by_record) -> tuple[np.ndarray, np.ndarray]:
    """Take the unit out of every column of a (records, targets) float64 matrix, in place.

    Parameters
    ----------
    by_record : CSR array without duplicates, or ndarray. Its entries are over their unit afterwards,
        those of a count whole numbers exactly. Not changed if an entry is not finite.

    Returns
    -------
    unit : (targets,) float64 > 0: of a count, what its entries are whole multiples of; else a power
        of two for which the largest entry lies in [1, 2); one where every entry is zero; NaN where
        an entry is not finite.
    counts : (targets,) bool: entries are whole numbers from 0 to ``LARGEST_COUNT`` times the unit,
        not all of them zero.
    """
    return _split_sparse(by_record) if sparse.issparse(by_record) else _split_dense(by_record)


def _split_sparse(by_record) -> tuple[np.ndarray, np.ndarray]:
    x, targets = by_record, by_record.shape[1]
    # Most rows of most problems are zeros and ones: their unit is one, and they are left alone.
    odd = np.bincount(x.indices[x.data != 1.0], minlength=targets) > 0
    unit, counts = np.ones(targets), ~odd & (np.bincount(x.indices, minlength=targets) > 0)
    place = np.flatnonzero(odd[x.indices])
    column, values = x.indices[place], x.data[place]
    low, most = np.full(targets, np.inf), np.zeros(targets)
    size = np.abs(values)
    np.maximum.at(most, column, size)
    np.minimum.at(low, column, np.where(size > 0, size, np.inf))
    for j in np.flatnonzero(odd):
        alike = most[j] <= _MOST * low[j]
        unit[j], counts[j] = _unit(values[column == j] if alike else None, low[j], most[j])
    if np.isfinite(unit).all():
        values /= unit[column]
        whole = counts[column]
        values[whole] = np.round(values[whole])
        x.data[place] = values
    return unit, counts


def _split_dense(by_record: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    x = by_record
    odd = ((x != 1.0) & (x != 0.0)).any(axis=0)
    unit, counts = np.ones(x.shape[1]), ~odd & (x != 0.0).any(axis=0)
    for j in np.flatnonzero(odd):
        size = np.abs(x[:, j])
        low, most = float(size.min(where=size > 0, initial=np.inf)), float(size.max())
        unit[j], counts[j] = _unit(x[:, j] if most <= _MOST * low else None, low, most)
    if np.isfinite(unit).all():
        for j in np.flatnonzero(unit != 1.0):
            x[:, j] /= unit[j]
            if counts[j]:
                x[:, j] = np.round(x[:, j])
    return unit, counts


_MOST = LARGEST_COUNT * (1.0 + _ROUNDING)


def _unit(values: np.ndarray | None, low: float, most: float) -> tuple[float, bool]:
    """(unit, whether it is a count) of a row: ``values`` where all sizes are near enough for one."""
    if not np.isfinite(most):
        return float("nan"), False
    if most == 0.0:
        return 1.0, False
    if values is not None:
        multiple = values / low
        if (np.abs(multiple - np.round(multiple)) <= _ROUNDING * np.abs(multiple)).all():
            # Signed multiples are no count, but their unit is what they are multiples of all the same.
            return low, bool((values >= 0).all())
    return float(np.ldexp(1.0, np.frexp(most)[1] - 1)), False
