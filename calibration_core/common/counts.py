"""Which rows of a matrix count something, and the unit that each row is best written in.

A row counts if its entries are whole multiples, from zero to ``LARGEST_COUNT``, of one number: of 1
for persons in a household, of 0.001 for the same in thousands, of 250 for a benefit that every
eligible person gets. Anything else is an amount. What a row is does not depend on its unit.

Belongs here: that question, asked once for all. Does not belong here: matrices and their products,
what follows from the answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import sparse

# The largest household of the American Community Survey has 20 persons; half as many again for
# other surveys and for rows that add two counts up. Entries beyond are amounts.
LARGEST_COUNT = 30
# A whole multiple that was rounded when it was computed is this close to one, relative.
_ROUNDING = 4e-15


@dataclass(frozen=True, eq=False)
class RowUnits:
    """The units of the columns of a (records, targets) matrix, and what they are.

    Attributes
    ----------
    unit : (targets,) float64 > 0: of a count, what its entries are whole multiples of; else a power
        of two for which the largest entry lies in [1, 2); one where every entry is zero; NaN where
        an entry is not finite.
    counts : (targets,) bool: entries are whole numbers from 0 to ``LARGEST_COUNT`` times the unit,
        not all of them zero.
    indicators : (targets,) bool: counts whose whole numbers are 0 and 1 alone.
    """

    unit: np.ndarray
    counts: np.ndarray
    indicators: np.ndarray

    def take(self, index: np.ndarray) -> RowUnits:
        """Those of some columns."""
        return RowUnits(self.unit[index], self.counts[index], self.indicators[index])


def is_count(values: np.ndarray) -> bool:
    """Whether numbers are whole multiples, 0 to ``LARGEST_COUNT``, of one; not if all are zero."""
    column = np.array(values, dtype=np.float64).reshape(-1, 1)
    return bool(split_units(column).counts[0])


def split_units(by_record) -> RowUnits:
    """Take the unit out of every column of a (records, targets) float64 matrix, in place.

    ``by_record`` is a CSR array without duplicates, or an ndarray. Its entries are over their unit
    afterwards, those of a count whole numbers exactly; nothing changes if one is not finite.
    """
    if not sparse.issparse(by_record):
        return _split_dense(by_record)
    x, targets = by_record, by_record.shape[1]
    found = _all_ones(np.bincount(x.indices, minlength=targets) > 0)
    # Most rows of most problems are zeros and ones: their unit is one, and they are left alone.
    odd = np.bincount(x.indices[x.data != 1.0], minlength=targets) > 0
    place = np.flatnonzero(odd[x.indices])
    column = x.indices[place]
    order = np.argsort(column, kind="stable")
    place, ends = place[order], np.searchsorted(column[order], np.arange(targets + 1))
    for j in np.flatnonzero(odd).tolist():
        _sort_out(found, j, x.data[place[ends[j] : ends[j + 1]]])
    if np.isfinite(found.unit).all():
        for j in np.flatnonzero(odd).tolist():
            where = place[ends[j] : ends[j + 1]]
            x.data[where] = _over(x.data[where], found, j)
    return found


def split_rows(data: np.ndarray, pointers: np.ndarray) -> RowUnits:
    """The same for a CSR matrix of (targets, records): its data, in place, and row pointers."""
    some = np.diff(pointers) > 0
    found = _all_ones(some)
    first = pointers[:-1][some]
    if first.size == 0:
        return found
    ones = np.minimum.reduceat(data, first) == 1.0
    ones &= np.maximum.reduceat(data, first) == 1.0
    odd = np.flatnonzero(some)[~ones].tolist()
    for j in odd:
        _sort_out(found, j, data[pointers[j] : pointers[j + 1]])
    if np.isfinite(found.unit).all():
        for j in odd:
            span = slice(pointers[j], pointers[j + 1])
            data[span] = _over(data[span], found, j)
    return found


def _all_ones(some: np.ndarray) -> RowUnits:
    """Of rows of ones, where there are entries at all."""
    return RowUnits(np.ones(some.size), some.copy(), some.copy())


def _split_dense(x: np.ndarray) -> RowUnits:
    found = _all_ones((x != 0.0).any(axis=0))
    odd = np.flatnonzero(((x != 1.0) & (x != 0.0)).any(axis=0)).tolist()
    for j in odd:
        _sort_out(found, j, x[:, j])
    if np.isfinite(found.unit).all():
        for j in odd:
            x[:, j] = _over(x[:, j], found, j)
    return found


def _sort_out(found: RowUnits, j: int, values: np.ndarray) -> None:
    """Set what is known of row j, whose entries are ``values``."""
    size = np.abs(values)
    most = float(size.max())
    found.unit[j], found.counts[j], found.indicators[j] = 1.0, False, False
    if not np.isfinite(most):
        found.unit[j] = np.nan
        return
    if most == 0.0:
        return
    low = float(size.min())
    if low == 0.0:
        low = float(size.min(where=size > 0, initial=np.inf))
    if most <= LARGEST_COUNT * (1.0 + _ROUNDING) * low:
        multiple = values / low
        if (np.abs(multiple - np.round(multiple)) <= _ROUNDING * np.abs(multiple)).all():
            # Signed multiples are no count, but their unit is what they are multiples of.
            found.unit[j], found.counts[j] = low, bool((values >= 0).all())
            found.indicators[j] = found.counts[j] and most == low
            return
    found.unit[j] = np.ldexp(1.0, np.frexp(most)[1] - 1)


def _over(values: np.ndarray, found: RowUnits, j: int) -> np.ndarray:
    """Entries of row j over its unit."""
    over = values / found.unit[j]
    return np.round(over) if found.counts[j] else over
