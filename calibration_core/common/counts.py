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
    return _split_sparse(by_record) if sparse.issparse(by_record) else _split_dense(by_record)


def _split_sparse(x) -> RowUnits:
    targets = x.shape[1]
    # Most rows of most problems are zeros and ones: their unit is one, and they are left alone.
    odd = np.bincount(x.indices[x.data != 1.0], minlength=targets) > 0
    some = np.bincount(x.indices, minlength=targets) > 0
    found = RowUnits(np.ones(targets), ~odd & some, ~odd & some)
    if not odd.any():
        return found
    place = np.flatnonzero(odd[x.indices])
    column, values = x.indices[place], x.data[place]
    low, most = np.full(targets, np.inf), np.zeros(targets)
    size = np.abs(values)
    np.maximum.at(most, column, size)
    np.minimum.at(low, column, np.where(size > 0, size, np.inf))
    for j in np.flatnonzero(odd).tolist():
        alike = most[j] <= _MOST * low[j]
        _sort_out(found, j, values[column == j] if alike else None, low[j], most[j])
    if np.isfinite(found.unit).all():
        values /= found.unit[column]
        whole = found.counts[column]
        values[whole] = np.round(values[whole])
        x.data[place] = values
    return found


def _split_dense(x: np.ndarray) -> RowUnits:
    odd = ((x != 1.0) & (x != 0.0)).any(axis=0)
    some = (x != 0.0).any(axis=0)
    found = RowUnits(np.ones(x.shape[1]), ~odd & some, ~odd & some)
    for j in np.flatnonzero(odd).tolist():
        size = np.abs(x[:, j])
        low, most = float(size.min(where=size > 0, initial=np.inf)), float(size.max())
        _sort_out(found, j, x[:, j] if most <= _MOST * low else None, low, most)
    if np.isfinite(found.unit).all():
        for j in np.flatnonzero(found.unit != 1.0).tolist():
            x[:, j] /= found.unit[j]
            if found.counts[j]:
                x[:, j] = np.round(x[:, j])
    return found


_MOST = LARGEST_COUNT * (1.0 + _ROUNDING)


def _sort_out(found: RowUnits, j: int, values: np.ndarray | None, low: float, most: float) -> None:
    """Set what is known of column j: ``values`` where all sizes are near enough for a count."""
    if not np.isfinite(most):
        found.unit[j] = np.nan
        return
    if most == 0.0:
        return
    if values is not None:
        multiple = values / low
        if (np.abs(multiple - np.round(multiple)) <= _ROUNDING * np.abs(multiple)).all():
            # Signed multiples are no count, but their unit is what they are multiples of.
            found.unit[j], found.counts[j] = low, bool((values >= 0).all())
            found.indicators[j] = found.counts[j] and most == low
            return
    found.unit[j] = np.ldexp(1.0, np.frexp(most)[1] - 1)
