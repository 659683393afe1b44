"""What records add to variables, in the fewest bytes that lose nothing.

A state of 750,000 households with 370 variables is 2.2 GB of float64, and the designs of its
levels, what a selection keeps and what a refit is anchored to are mostly the same columns: as
arrays of their own they come to 20 GB. Here every distinct column is held once. A column of whole
numbers from 0 to 255, as counts of persons are, takes a byte a record; any other eight. Designs are
lists of columns. Whoever computes asks for the rows of some records, and gets float64.

Belongs here: the store, views of it, and functions that take either a view or a plain array. Does
not belong here: which columns of plain arrays are the same (``tree/solve/blocks.py``), products.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

# Records looked at together.
_RECORDS = 50_000
_BYTE = 255


@dataclass(frozen=True, eq=False)
class _Store:
    """Distinct columns of all records.

    Attributes
    ----------
    small : (records, a) uint8. large : (records, b) float64. Both C-ordered.
    is_small : (columns,) bool. slot : (columns,) int64 place in its matrix.
    largest : (columns,) float64 largest size of an entry; inf or NaN where one is not finite.
    filled : (columns,) int64 number of entries that are not zero.
    """

    small: np.ndarray
    large: np.ndarray
    is_small: np.ndarray
    slot: np.ndarray
    largest: np.ndarray
    filled: np.ndarray


class Columns:
    """(records, variables) float64: columns of a store, in some order.

    ``columns[record]`` is the array of some records' rows, of any shape of ``record``;
    ``columns[:, chosen]`` other columns of the same store; ``numpy.asarray`` the whole array.
    """

    ndim = 2
    dtype = np.dtype(np.float64)
    # A comparison or a product with all of it would make the array that it is there to avoid.
    __array_ufunc__ = None
    __hash__ = object.__hash__

    def __init__(self, store: _Store, index: np.ndarray) -> None:
        self.store, self.index = store, np.asarray(index, dtype=np.int64)
        small = store.is_small[self.index]
        self._small_at, self._large_at = np.flatnonzero(small), np.flatnonzero(~small)
        self._small = store.slot[self.index[self._small_at]]
        self._large = store.slot[self.index[self._large_at]]

    @classmethod
    def of(cls, columns: Sequence[np.ndarray], records: int) -> Columns:
        """From one-dimensional arrays of numbers, (records,) each, of any number type."""
        narrow = [_is_small(column) for column in columns]
        alike: dict[tuple[bool, int], list[int]] = {}
        index = np.empty(len(columns), dtype=np.int64)
        first: list[int] = []
        for i, column in enumerate(columns):
            bits = column.astype(np.uint8 if narrow[i] else np.float64).tobytes()
            found = alike.setdefault((narrow[i], hash(bits)), [])
            same = [c for c in found if np.array_equal(columns[first[c]], column)]
            if not same:
                same = [len(first)]
                found.append(len(first))
                first.append(i)
            index[i] = same[0]
        is_small = np.array([narrow[i] for i in first], dtype=bool)
        slot = np.where(is_small, np.cumsum(is_small), np.cumsum(~is_small)) - 1
        small = np.empty((records, int(is_small.sum())), dtype=np.uint8)
        large = np.empty((records, int((~is_small).sum())))
        largest, filled = np.zeros(len(first)), np.zeros(len(first), dtype=np.int64)
        for kind, place, i, c in zip(is_small, slot, first, range(len(first)), strict=True):
            (small if kind else large)[:, place] = columns[i]
            largest[c] = np.abs(columns[i].astype(np.float64)).max(initial=0.0)
            filled[c] = np.count_nonzero(columns[i])
        return cls(_Store(small, large, is_small, slot.astype(np.int64), largest, filled), index)

    @property
    def shape(self) -> tuple[int, int]:
        """(records, variables)."""
        return self.store.small.shape[0], self.index.size

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        return self.shape[0]

    def __eq__(self, other: object) -> bool:
        raise TypeError("Columns are not compared entry by entry: ask for rows first")

    @property
    def largest(self) -> np.ndarray:
        """(variables,) float64: the largest size of an entry of each column."""
        return self.store.largest[self.index]

    @property
    def filled(self) -> int:
        """Number of entries that are not zero."""
        return int(self.store.filled[self.index].sum())

    def __getitem__(self, key: Any) -> Any:
        record, chosen = key if isinstance(key, tuple) else (key, None)
        if chosen is None:
            return self.rows(record)
        if not isinstance(record, slice):
            record, chosen = np.ravel(record), np.ravel(chosen)
            return Columns(self.store, self.index[chosen]).rows(record)
        if np.ndim(chosen) or isinstance(chosen, slice):
            view = Columns(self.store, self.index[chosen])
            return view if record == slice(None) else view.rows(record)
        place = self.index[chosen]
        matrix = self.store.small if self.store.is_small[place] else self.store.large
        return matrix[record, self.store.slot[place]].astype(np.float64)

    def rows(self, record: np.ndarray | slice = slice(None)) -> np.ndarray:
        """(..., variables) float64, C-ordered, a row for each entry of ``record``."""
        small, large = self.store.small, self.store.large
        if isinstance(record, slice):
            small, large = small[record], large[record]
            if not self._large.size and _is_all(self._small, small):
                return small.astype(np.float64)
            out = np.empty((len(small), self.index.size))
            out[:, self._small_at] = small[:, self._small]
            out[:, self._large_at] = large[:, self._large]
            return out
        # Reading what a problem is loads no compiler.
        from calibration_core.common.store_rows import put_rows

        asked = np.asarray(record)
        asked = np.flatnonzero(asked) if asked.dtype == bool else asked
        rows = np.ascontiguousarray(asked.ravel(), dtype=np.int64)
        if rows.size and not (rows.min() >= 0 and rows.max() < len(self)):
            # Counted from the end, or an IndexError.
            rows = np.arange(len(self))[rows]
        out = np.empty((rows.size, self.index.size))
        put_rows(small, large, self.places, rows, out)
        return out.reshape(*asked.shape, self.index.size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        found = self.rows()
        return found if dtype is None else found.astype(dtype, copy=False)

    @property
    def places(self) -> np.ndarray:
        """(variables,) int64: of each column its place in ``store.small``, or -1 less its place in
        ``store.large``; for compiled loops.
        """
        slot = self.store.slot[self.index]
        return np.where(self.store.is_small[self.index], slot, -1 - slot)


Design = np.ndarray | Columns
"""(records, variables) float64: what one record adds to each variable."""


def of_one_store(designs: Sequence[Design]) -> bool:
    """Whether all are views of one store."""
    stores = {id(d.store) if isinstance(d, Columns) else None for d in designs}
    return len(stores) == 1 and None not in stores


def rows_of(design: Design, record: np.ndarray) -> np.ndarray:
    """(records here, variables) float64 rows of some records, each once and ascending; an array of
    just as many records uncopied."""
    if isinstance(design, Columns):
        return design.rows(slice(None) if record.size == len(design) else record)
    here = design if record.size == design.shape[0] else design[record]
    return here.astype(np.float64, copy=False)


def side_by_side(*designs: Design) -> Design:
    """The columns of some designs, one after another: a view where all are of one store."""
    views = [design for design in designs if isinstance(design, Columns)]
    if len(views) == len(designs) and of_one_store(views):
        index = np.concatenate([view.index for view in views])
        return Columns(views[0].store, index)
    return np.hstack([np.asarray(design) for design in designs])


def narrowed(column: np.ndarray) -> np.ndarray:
    """A column in the type that a store keeps it in: uint8 where that loses nothing, else
    float64."""
    return column.astype(np.uint8 if _is_small(column) else np.float64, copy=False)


def largest_of(design: Design) -> np.ndarray:
    """(variables,) float64: the largest size of an entry of each column."""
    if isinstance(design, Columns):
        return design.largest
    return np.maximum(design.max(axis=0, initial=0.0), -design.min(axis=0, initial=0.0))


def filled_share(design: Design) -> float:
    """Share of the entries that are not zero."""
    filled = design.filled if isinstance(design, Columns) else int(np.count_nonzero(design))
    return filled / max(design.size, 1)


def mean_size(design: Design) -> np.ndarray:
    """(variables,) float64: the mean size of an entry of each column."""
    if not isinstance(design, Columns):
        return np.abs(design).mean(axis=0)
    total = np.zeros(design.shape[1])
    for begin in range(0, len(design), _RECORDS):
        total += np.abs(design.rows(slice(begin, begin + _RECORDS))).sum(axis=0)
    return total / max(len(design), 1)


def column_sums(held: Any, design: Design, power: int = 1) -> np.ndarray:
    """(areas, variables) float64: ``held`` (areas, records), sparse or not, times the design's
    entries to a power."""
    if not isinstance(design, Columns):
        return held @ design**power
    if hasattr(held, "tocsc"):
        held = held.tocsc()
    total = np.zeros((held.shape[0], design.shape[1]))
    for begin in range(0, len(design), _RECORDS):
        some = slice(begin, begin + _RECORDS)
        total += held[:, some] @ design.rows(some) ** power
    return total


def mean_contribution(weights: np.ndarray, design: Design) -> np.ndarray:
    """(variables,) float64: mean size of the contribution of records that have one, by ``weights``
    (records,) float64.
    """
    having, size = np.zeros((2, design.shape[1]))
    for begin in range(0, design.shape[0], _RECORDS):
        some = slice(begin, begin + _RECORDS)
        rows = design[some]
        having += weights[some] @ (rows != 0).astype(np.float64)
        size += weights[some] @ np.abs(rows)
    return np.divide(size, having, out=np.zeros(design.shape[1]), where=having > 0)


def _is_small(column: np.ndarray) -> bool:
    """Whether all entries are whole numbers from 0 to 255, and no negative zero."""
    if column.dtype == np.uint8 or column.dtype == np.bool_:
        return True
    if not column.size or not (column.min() >= 0 and column.max() <= _BYTE):
        return not column.size
    return bool((column == column.astype(np.uint8)).all() and not np.signbit(column).any())


def _is_all(slots: np.ndarray, matrix: np.ndarray) -> bool:
    return slots.size == matrix.shape[-1] and bool((slots == np.arange(slots.size)).all())
