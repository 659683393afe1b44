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
_ROUNDING = 1e-15
# Records of one look at a dense matrix.
_BLOCK = 4096


def row_units(by_record) -> tuple[np.ndarray, np.ndarray]:
    """The unit of every column of a (records, targets) matrix of finite numbers, and which count.

    Returns
    -------
    unit : (targets,) float64 > 0: of a count, what its entries are whole multiples of; else a power
        of two for which the largest entry lies in [1, 2); one where every entry is zero.
    counts : (targets,) bool: entries are whole numbers from 0 to ``LARGEST_COUNT`` times the unit,
        not all of them zero.
    """
    low, most, negative = _extremes(by_record)
    some = most > 0
    ratio = np.divide(most, low, out=np.full(most.shape, np.inf), where=some)
    counts = some & ~negative & (ratio <= LARGEST_COUNT * (1 + 4 * _ROUNDING))
    for j in np.flatnonzero(counts & (ratio > 1.0)):
        counts[j] = _whole(by_record, j, low[j])
    power = np.ldexp(1.0, np.frexp(np.where(some, most, 1.0))[1] - 1)
    # Entries that are all alike but for the sign are one times their size too.
    return np.where(counts | (some & (ratio == 1.0)), low, power), counts


def _extremes(by_record) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(least size of an entry that is not zero, largest size, whether one is
    negative), (targets,).
    """
    targets = by_record.shape[1]
    low, most = np.full(targets, np.inf), np.zeros(targets)
    negative = np.zeros(targets, dtype=bool)
    if sparse.issparse(by_record):
        size = np.abs(by_record.data)
        np.maximum.at(most, by_record.indices, size)
        np.minimum.at(low, by_record.indices, np.where(size > 0, size, np.inf))
        negative[by_record.indices[by_record.data < 0]] = True
        return low, most, negative
    for begin in range(0, by_record.shape[0], _BLOCK):
        block = by_record[begin : begin + _BLOCK]
        negative |= (block < 0).any(axis=0)
        size = np.abs(block)
        most = np.maximum(most, size.max(axis=0))
        low = np.minimum(low, np.where(size > 0, size, np.inf).min(axis=0))
    return low, most, negative


def _whole(by_record, column: int, unit: float) -> bool:
    """Whether every entry of a column is a whole multiple of ``unit``, but for rounding."""
    if sparse.issparse(by_record):
        values = by_record.data[by_record.indices == column]
    else:
        values = by_record[:, column]
    multiple = values / unit
    return bool((np.abs(multiple - np.round(multiple)) <= _ROUNDING * 4 * np.abs(multiple)).all())
