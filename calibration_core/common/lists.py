"""Rows of which most entries are zero, as lists of the others.

A household belongs to few of many categories: of 424 variables that Rhode Island's draw balances a
record has 56.

Belongs here: such lists, made from arrays and from designs. Does not belong here: what is computed
along them (``tree/solve/listed_rows.py``, ``sampling/components.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calibration_core.common.columns import Columns, Design
from calibration_core.common.compiled import loop


class Lists(NamedTuple):
    """What is not zero of some records' columns, one list of a record after another.

    Attributes
    ----------
    ends : (records + 1,) int64: record i has entries ends[i] to ends[i + 1].
    column : (entries,) int32, ascending in each record. entry : (entries,) float64.
    """

    ends: np.ndarray
    column: np.ndarray
    entry: np.ndarray

    @classmethod
    def of(cls, rows: np.ndarray, place: np.ndarray) -> Lists:
        """From (records, columns) float64; ``place`` (columns,) int64 is what each column is called
        in the list, -1 where it is left out; those that are not, ascending.
        """
        here = place >= 0
        ends = np.concatenate([[0], np.cumsum(np.count_nonzero(rows[:, here], axis=1))])
        made = cls(ends.astype(np.int64), np.empty(ends[-1], np.int32), np.empty(ends[-1]))
        _list(rows, place, made)
        return made

    @classmethod
    def of_records(
        cls,
        rows: Design,
        used: np.ndarray,
        record: np.ndarray,
        times: np.ndarray,
        scale: np.ndarray,
    ) -> Lists:
        """From some rows of a design (records, variables): ``record`` (n,) int64 of its columns
        ``used`` (p,) int64, numbered anew. Entries are x times ``times`` (n,) float64 times
        ``scale`` (p,) float64.
        """
        if isinstance(rows, Columns):
            small, large, place = rows.store.small, rows.store.large, rows.places[used]
        else:
            large = np.ascontiguousarray(rows, dtype=np.float64)
            small, place = np.empty((len(large), 0), np.uint8), -1 - used
        record = np.ascontiguousarray(record, dtype=np.int64)
        ends = np.empty(record.size + 1, dtype=np.int64)
        _count(small, large, place, record, ends)
        made = cls(ends, np.empty(ends[-1], np.int32), np.empty(ends[-1]))
        _list_records(small, large, place, record, times, scale, made)
        return made

    @property
    def bytes(self) -> int:
        """Held in memory."""
        return sum(part.nbytes for part in self)


@loop
def _list(rows: np.ndarray, place: np.ndarray, lists: Lists) -> None:
    """Fill the lists."""
    at = 0
    for i in range(rows.shape[0]):
        for b in range(rows.shape[1]):
            if place[b] >= 0 and rows[i, b] != 0.0:
                lists.column[at], lists.entry[at] = place[b], rows[i, b]
                at += 1


@loop
def _count(
    small: np.ndarray, large: np.ndarray, place: np.ndarray, record: np.ndarray, ends: np.ndarray
) -> None:
    """Write ``ends``. ``place`` (variables,) int64 is a column of ``small`` (records, a) uint8, or
    -1 less a column of ``large`` (records, b) float64.
    """
    ends[0] = 0
    for k in range(record.size):
        r, count = record[k], 0
        for at in place:
            x = np.float64(small[r, at]) if at >= 0 else large[r, -1 - at]
            count += x != 0.0
        ends[k + 1] = ends[k] + count


@loop
def _list_records(
    small: np.ndarray,
    large: np.ndarray,
    place: np.ndarray,
    record: np.ndarray,
    times: np.ndarray,
    scale: np.ndarray,
    lists: Lists,
) -> None:
    """Fill the lists."""
    at = 0
    for k in range(record.size):
        r = record[k]
        for v in range(place.size):
            p = place[v]
            x = np.float64(small[r, p]) if p >= 0 else large[r, -1 - p]
            if x != 0.0:
                lists.column[at], lists.entry[at] = v, x * times[k] * scale[v]
                at += 1
