"""The matrix of a calibration problem, targets x records, and the three products every method
needs.

Sparse input stays sparse and dense stays dense. Whatever the form, memory beyond the data is a few
vectors of the records, one block of records and one square of the targets: never a square of the
records.

Every row is stored in a unit of its own, so that its largest entry lies between one and two (a row
whose entries are all alike: one). The unit is a power of two, which changes no bit, or that common
entry. So no product overflows, in single precision either, whether an amount is written in dollars
or in millions. ``unitless`` is the matrix as stored.

Belongs here: products, slices and row facts of the matrix. Does not belong here: targets, weights,
solvers.
"""

from __future__ import annotations

import itertools
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from calibration_core.common.counts import RowUnits, split_rows, split_units
from calibration_core.common.threads import map_blocks
from calibration_core.errors import ProblemError
from calibration_core.flat.labels import plain

# Records of one dense block: 1,024 rows of 128 targets are 1 MB, which stays in a core's cache.
_BLOCK_ENTRIES = 131_072
# Sums over records are made in at most so many parts.
_PARTS = 16
# A dense matrix of so many entries, 16 MB, is shared out among threads for a product with a vector.
_LARGE = 2_000_000
# A multiplication inside a dense block costs about this fraction of one in a sparse product.
_DENSE_ADVANTAGE = 40.0


class DesignMatrix:
    """A (targets, records) matrix, kept record by record.

    Parameters
    ----------
    matrix : SciPy sparse matrix or array, or ndarray, of shape (targets, records). Entry (j, i) is
        what one record i adds to target j. It is copied: what the caller does to it later changes
        nothing here.
    names : of the targets, for the message about a bad entry.

    Attributes
    ----------
    stored : (records, targets) CSR array or ndarray: the entries, each over the unit of its target.
    unit : (targets,) float64 > 0.
    counts, indicators : (targets,) bool: rows of whole numbers, or of zeros and ones alone, times
        one unit (``common/counts.py``). Their stored entries are those whole numbers, exactly.
    records, targets, is_sparse : its shape and form.

    Raises
    ------
    ProblemError : not two-dimensional, or an entry is not finite.
    """

    def __init__(self, matrix, names: tuple[str, ...] = ()) -> None:
        matrix = _checked(matrix)
        by_record, units = _split(matrix)
        if not np.isfinite(units.unit).all():
            raise _not_finite(by_record, names)
        self._own(by_record, units)

    def _own(self, stored, units: RowUnits) -> DesignMatrix:
        self.stored, self.units = stored, units
        self.unit, self.counts, self.indicators = units.unit, units.counts, units.indicators
        self.records, self.targets = stored.shape
        self.is_sparse = sparse.issparse(stored)
        self._plain = bool((self.unit == 1.0).all())
        values = stored.data if self.is_sparse else stored
        for array in (values, self.unit, self.counts, self.indicators):
            array.flags.writeable = False
        return self

    def _like(self, stored, units: RowUnits) -> DesignMatrix:
        return DesignMatrix.__new__(DesignMatrix)._own(stored, units)

    @property
    def unitless(self) -> DesignMatrix:
        """The matrix as stored: every row over its unit. It shares the memory of this one."""
        ones = replace(self.units, unit=np.ones(self.targets))
        return self if self._plain else self._like(self.stored, ones)

    @cached_property
    def by_record(self):
        """(records, targets) CSR array or ndarray: the entries as they were given."""
        if self._plain:
            return self.stored
        x = self.stored
        values = x.data * self.unit[x.indices] if self.is_sparse else x * self.unit
        values.flags.writeable = False
        if not self.is_sparse:
            return values
        return sparse.csr_array((values, x.indices, x.indptr), shape=x.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrix."""
        x = self.stored
        return x.data.nbytes + x.indices.nbytes + x.indptr.nbytes if self.is_sparse else x.nbytes

    def totals(self, weights: np.ndarray) -> np.ndarray:
        """A w, (targets,)."""
        x = self.stored
        if self.is_sparse or x.size < _LARGE:
            total = x.T @ weights
        else:
            spans = [slice(*span) for span in self._spans]
            total = np.sum(map_blocks(lambda part: x[part].T @ weights[part], spans), axis=0)
        return total if self._plain else total * self.unit

    def exponents(self, multipliers: np.ndarray) -> np.ndarray:
        """A' y, (records,)."""
        x, y = self.stored, multipliers if self._plain else multipliers * self.unit
        if self.is_sparse or x.size < _LARGE:
            return x @ y
        return np.concatenate(map_blocks(lambda span: x[slice(*span)] @ y, self._spans))

    def gram(self, scale: np.ndarray, *, single: bool = False) -> np.ndarray:
        """A diag(scale) A', (targets, targets) float64; scale (records,) float64 >= 0.

        ``single`` takes the products inside a block of about a thousand records in float32, twice
        as fast and good to about 1e-6 of the diagonal: enough to steer a Newton step, not to judge
        one.
        """
        square = self._gram(scale, single)
        return square if self._plain else square * self.unit[:, None] * self.unit[None, :]

    def _gram(self, scale: np.ndarray, single: bool) -> np.ndarray:
        if self.is_sparse and self._sparse_is_cheaper:
            x = self.stored
            data = x.data * np.repeat(scale, np.diff(x.indptr))
            scaled = sparse.csr_array((data, x.indices, x.indptr), shape=x.shape)
            product = (x.T @ scaled).toarray()
            return (product + product.T) * 0.5
        root = (
            np.sqrt(scale)
            if not single
            else np.sqrt(scale / max(float(scale.max(initial=0.0)), 1e-300)).astype(np.float32)
        )
        unit = max(float(scale.max(initial=0.0)), 1e-300) if single else 1.0

        def part(span: tuple[int, int]) -> np.ndarray:
            out = np.zeros((self.targets, self.targets))
            for begin, block in self._blocks(*span, np.float32 if single else np.float64):
                block *= root[begin : begin + block.shape[0], None]
                out += block.T @ block
            return out

        return np.sum(map_blocks(part, self._spans), axis=0) * unit

    @cached_property
    def _spans(self) -> list[tuple[int, int]]:
        """Records shared out among threads: as many parts on every machine, so that sums are the
        same on every machine.
        """
        step = self._step
        parts = min(_PARTS, -(-self.records // step))
        edges = [step * (-(-self.records // step) * i // parts) for i in range(parts)] + [
            self.records
        ]
        return list(itertools.pairwise(edges))

    @cached_property
    def _step(self) -> int:
        return max(64, _BLOCK_ENTRIES // max(self.targets, 1))

    @cached_property
    def _sparse_is_cheaper(self) -> bool:
        entries = np.diff(self.stored.indptr).astype(np.float64)
        return _DENSE_ADVANTAGE * float((entries**2).sum()) < float(self.records) * self.targets**2

    def blocks(self):
        """Yield (first record, dense (records, targets) block that the caller may overwrite)."""
        for begin, block in self._blocks(0, self.records, np.float64):
            yield begin, block if self._plain else block * self.unit

    def _blocks(self, first: int, past: int, kind: type):
        """Blocks of the stored entries, covering records first to past in order."""
        x = self.stored
        for begin in range(first, past, self._step):
            end = min(begin + self._step, past)
            if self.is_sparse:
                yield (
                    begin,
                    self._part(begin, end, lambda data: data.astype(kind, copy=False)).toarray(),
                )
            else:
                yield begin, x[begin:end].astype(kind)

    def _part(self, begin: int, end: int, function) -> sparse.csr_array:
        """Rows of the stored sparse entries with ``function`` of their data."""
        x, span = self.stored, slice(self.stored.indptr[begin], self.stored.indptr[end])
        pointers = x.indptr[begin : end + 1] - x.indptr[begin]
        return sparse.csr_array(
            (function(x.data[span]), x.indices[span], pointers), shape=(end - begin, self.targets)
        )

    def take_records(self, index: np.ndarray) -> DesignMatrix:
        """The same targets on some of the records, in the order given."""
        return self._like(self.stored[index], self.units)

    def take_targets(self, index: np.ndarray) -> DesignMatrix:
        """Some of the targets on the same records, in the order given."""
        part = self.stored[:, index]
        if self.is_sparse:
            part.sort_indices()
        part = part if self.is_sparse else np.ascontiguousarray(part)
        return self._like(part, self.units.take(index))

    def row(self, target: int) -> np.ndarray:
        """One target's contributions, (records,)."""
        column = self.stored[:, [target]]
        return (column.toarray() if self.is_sparse else column).ravel() * self.unit[target]

    def target_major(self):
        """(targets, records): CSR array if sparse, else a C-ordered ndarray (a copy)."""
        rows = self.by_record.T
        return sparse.csr_array(rows) if self.is_sparse else np.ascontiguousarray(rows)

    def absolute_totals(self, weights: np.ndarray) -> np.ndarray:
        """sum_i |a_ij| w_i, (targets,): the size that rounding errors of a total are
        relative to.
        """
        return self._totals_of(np.abs, weights) * self.unit

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """sum_i a_ij^2 w_i, (targets,): the diagonal of ``gram(weights)``."""
        return self._totals_of(np.square, weights) * self.unit**2

    def _totals_of(self, function, weights: np.ndarray) -> np.ndarray:
        """sum_i f(stored_ij) w_i, (targets,), a part of the records at a time: f of all of them is
        never there at once.
        """
        total = np.zeros(self.targets)
        for begin, end in self._spans:
            part = (
                self._part(begin, end, function)
                if self.is_sparse
                else function(self.stored[begin:end])
            )
            total += part.T @ weights[begin:end]
        return total

    @cached_property
    def support(self) -> np.ndarray:
        """(targets,) int64: number of records that contribute to each target."""
        if self.is_sparse:
            x = self.stored
            return np.bincount(x.indices[x.data != 0], minlength=self.targets).astype(np.int64)
        return np.count_nonzero(self.stored, axis=0).astype(np.int64)


def _checked(matrix):
    """``matrix`` as a two-dimensional array of real numbers, or sparse; raises ProblemError."""
    if not sparse.issparse(matrix):
        try:
            matrix = plain(matrix, "the matrix")
        except ValueError as error:
            raise ProblemError(
                f"The matrix is not rectangular: {error}",
                expected="one row per target, one column per record",
            ) from error
    if matrix.dtype == object and matrix.ndim == 2:
        # A frame whose columns are of several types.
        try:
            matrix = matrix.astype(np.float64)
        except (TypeError, ValueError) as error:
            raise ProblemError(
                f"The matrix holds an entry that is no number: {error}", expected="real numbers"
            ) from error
    if matrix.dtype.kind not in "biuf":
        raise ProblemError(
            f"The matrix holds entries of type {matrix.dtype}", expected="real numbers"
        )
    if matrix.ndim != 2:
        remedy = "For a single target pass matrix[None, :]" if matrix.ndim == 1 else ""
        raise ProblemError(
            f"The matrix has shape {matrix.shape}",
            expected="two dimensions: (targets, records)",
            remedy=remedy,
        )
    return matrix


def _split(matrix) -> tuple[Any, RowUnits]:
    """(records, targets) float64 copy over units: CSR without duplicates, or C-ordered."""
    if not sparse.issparse(matrix):
        by_record = np.array(matrix.T, dtype=np.float64, order="C")
        return by_record, split_units(by_record)
    if matrix.format == "csr" and matrix.has_canonical_format:
        # Rows lie together, which makes their units quick to find.
        data = np.array(matrix.data, dtype=np.float64)
        units = split_rows(data, matrix.indptr)
        over = sparse.csr_array((data, matrix.indices, matrix.indptr), shape=matrix.shape)
        by_record = sparse.csr_array(over.T)
        by_record.has_canonical_format = True
        return by_record, units
    by_record = sparse.csr_array(matrix.T, dtype=np.float64)
    if np.shares_memory(by_record.data, matrix.data):
        # The transpose of a CSC matrix is the caller's own arrays: what is done to it would be
        # done to them.
        by_record = by_record.copy()
    by_record.sum_duplicates()
    return by_record, split_units(by_record)


def _not_finite(by_record, names: tuple[str, ...]) -> ProblemError:
    records, targets = by_record.shape
    values = by_record.data if sparse.issparse(by_record) else by_record
    bad = int(values.size - np.count_nonzero(np.isfinite(values)))
    if sparse.issparse(by_record):
        place = int(np.flatnonzero(~np.isfinite(by_record.data))[0])
        record = int(np.searchsorted(by_record.indptr, place, side="right") - 1)
        target = int(by_record.indices[place])
    else:
        record, target = (int(x) for x in np.argwhere(~np.isfinite(by_record))[0])
    name = f" {names[target]!r}" if len(names) == targets else ""
    return ProblemError(
        f"{bad:,} of {records * targets:,} matrix entries {'is' if bad == 1 else 'are'} NaN or"
        " infinite",
        where=f"first at target {target} (row{name}), record {record} (column)",
        expected="finite contributions",
        remedy=(
            "Correct the entry, or give it the value 0 if the record adds nothing to that target;"
            " nothing is dropped for you"
        ),
    )
