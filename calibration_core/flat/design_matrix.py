"""The matrix of a calibration problem, targets x records, and the three products every method
needs.

Sparse input stays sparse and dense stays dense. Whatever the form, memory beyond the data is a few
vectors of the records, one block of records and one square of the targets: never a square of the
records.

Belongs here: products, slices and row facts of the matrix. Does not belong here: targets, weights,
solvers.
"""

from __future__ import annotations

import itertools
from functools import cached_property

import numpy as np
from scipy import sparse

from calibration_core.common.threads import map_blocks
from calibration_core.errors import ProblemError

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

    Raises
    ------
    ProblemError : not two-dimensional, or an entry is not finite.
    """

    def __init__(self, matrix, names: tuple[str, ...] = ()) -> None:
        if not sparse.issparse(matrix):
            try:
                matrix = np.asarray(matrix)
            except ValueError as error:
                raise ProblemError(
                    f"The matrix is not rectangular: {error}",
                    expected="one row a target, one column a record",
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
        if sparse.issparse(matrix):
            by_record = sparse.csr_array(matrix.T, dtype=np.float64)
            if matrix.format == "csc" and np.shares_memory(by_record.data, matrix.data):
                # The transpose of a CSC matrix is the caller's own arrays: summing duplicates would
                # change them, and they this problem.
                by_record = by_record.copy()
            by_record.sum_duplicates()
        else:
            by_record = np.array(matrix.T, dtype=np.float64, order="C")
        self._own(by_record)
        values = by_record.data if self.is_sparse else by_record
        bad = int(values.size - np.count_nonzero(np.isfinite(values)))
        if bad:
            record, target = self._first_bad()
            raise ProblemError(
                f"{bad:,} of {self.records * self.targets:,} matrix entries"
                f" {'is' if bad == 1 else 'are'} NaN or infinite",
                where=(
                    f"first at target {target}"
                    f" (row{f' {names[target]!r}' if len(names) == self.targets else ''}), record"
                    f" {record} (column)"
                ),
                expected="finite contributions",
                remedy=(
                    "Correct the entry, or give it the value 0 if the record adds nothing to that"
                    " target; nothing is dropped for you"
                ),
            )

    def _own(self, by_record) -> DesignMatrix:
        self.by_record = by_record
        self.records, self.targets = by_record.shape
        self.is_sparse = sparse.issparse(by_record)
        (by_record.data if self.is_sparse else by_record).flags.writeable = False
        return self

    def _first_bad(self) -> tuple[int, int]:
        if self.is_sparse:
            place = int(np.flatnonzero(~np.isfinite(self.by_record.data))[0])
            return int(np.searchsorted(self.by_record.indptr, place, side="right") - 1), int(
                self.by_record.indices[place]
            )
        record, target = np.argwhere(~np.isfinite(self.by_record))[0]
        return int(record), int(target)

    @property
    def nbytes(self) -> int:
        """Bytes of the stored matrix."""
        x = self.by_record
        return x.data.nbytes + x.indices.nbytes + x.indptr.nbytes if self.is_sparse else x.nbytes

    def totals(self, weights: np.ndarray) -> np.ndarray:
        """A w, (targets,)."""
        x = self.by_record
        if self.is_sparse or x.size < _LARGE:
            return x.T @ weights

        def part(span: tuple[int, int]) -> np.ndarray:
            return x[slice(*span)].T @ weights[slice(*span)]

        return np.sum(map_blocks(part, self._spans), axis=0)

    def exponents(self, multipliers: np.ndarray) -> np.ndarray:
        """A' y, (records,)."""
        x = self.by_record
        if self.is_sparse or x.size < _LARGE:
            return x @ multipliers
        return np.concatenate(map_blocks(lambda span: x[slice(*span)] @ multipliers, self._spans))

    def gram(self, scale: np.ndarray, *, single: bool = False) -> np.ndarray:
        """A diag(scale) A', (targets, targets) float64; scale (records,) float64 >= 0.

        ``single`` takes the products inside a block of about a thousand records in float32, twice
        as fast and good to about 1e-6 of the diagonal: enough to steer a Newton step, not to judge
        one.
        """
        if self.is_sparse and self._sparse_is_cheaper:
            scaled = sparse.csr_array(
                (
                    self.by_record.data * np.repeat(scale, np.diff(self.by_record.indptr)),
                    self.by_record.indices,
                    self.by_record.indptr,
                )
            )
            scaled.resize(self.by_record.shape)
            product = (self.by_record.T @ scaled).toarray()
            return (product + product.T) * 0.5
        root = (
            np.sqrt(scale)
            if not single
            else np.sqrt(scale / max(float(scale.max(initial=0.0)), 1e-300)).astype(np.float32)
        )
        unit = max(float(scale.max(initial=0.0)), 1e-300) if single else 1.0

        def part(span: tuple[int, int]) -> np.ndarray:
            out = np.zeros((self.targets, self.targets))
            for begin, block in self.blocks(*span, kind=np.float32 if single else np.float64):
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
        entries = np.diff(self.by_record.indptr).astype(np.float64)
        return _DENSE_ADVANTAGE * float((entries**2).sum()) < float(self.records) * self.targets**2

    def blocks(self, first: int = 0, past: int | None = None, kind: type = np.float64):
        """Yield (first record, dense (records, targets) block that the caller may overwrite),
        covering records first to past in order.
        """
        past, x = self.records if past is None else past, self.by_record
        for begin in range(first, past, self._step):
            end = min(begin + self._step, past)
            if self.is_sparse:
                span = slice(x.indptr[begin], x.indptr[end])
                part = sparse.csr_array(
                    (
                        x.data[span].astype(kind, copy=False),
                        x.indices[span],
                        x.indptr[begin : end + 1] - x.indptr[begin],
                    ),
                    shape=(end - begin, self.targets),
                )
                yield begin, part.toarray()
            else:
                yield begin, x[begin:end].astype(kind)

    def take_records(self, index: np.ndarray) -> DesignMatrix:
        """The same targets on some of the records, in the order given."""
        return DesignMatrix.__new__(DesignMatrix)._own(self.by_record[index])

    def take_targets(self, index: np.ndarray) -> DesignMatrix:
        """Some of the targets on the same records, in the order given."""
        part = self.by_record[:, index]
        if self.is_sparse:
            part.sort_indices()
        return DesignMatrix.__new__(DesignMatrix)._own(
            part if self.is_sparse else np.ascontiguousarray(part)
        )

    def row(self, target: int) -> np.ndarray:
        """One target's contributions, (records,)."""
        column = self.by_record[:, [target]]
        return (column.toarray() if self.is_sparse else column).ravel()

    def target_major(self):
        """(targets, records): CSR array if sparse, else a C-ordered ndarray (a copy)."""
        return (
            sparse.csr_array(self.by_record.T)
            if self.is_sparse
            else np.ascontiguousarray(self.by_record.T)
        )

    def absolute_totals(self, weights: np.ndarray) -> np.ndarray:
        """sum_i |a_ij| w_i, (targets,): the size that rounding errors of a total are
        relative to.
        """
        return self._totals_of(np.abs, weights)

    def squares(self, weights: np.ndarray) -> np.ndarray:
        """sum_i a_ij^2 w_i, (targets,): the diagonal of ``gram(weights)``."""
        return self._totals_of(np.square, weights)

    def _totals_of(self, function, weights: np.ndarray) -> np.ndarray:
        """sum_i f(a_ij) w_i, (targets,), a part of the records at a time so that f of the whole
        matrix is never there at once.
        """
        x, total = self.by_record, np.zeros(self.targets)
        for begin, end in self._spans:
            if self.is_sparse:
                span = slice(x.indptr[begin], x.indptr[end])
                part = sparse.csr_array(
                    (
                        function(x.data[span]),
                        x.indices[span],
                        x.indptr[begin : end + 1] - x.indptr[begin],
                    ),
                    shape=(end - begin, self.targets),
                )
            else:
                part = function(x[begin:end])
            total += part.T @ weights[begin:end]
        return total

    @cached_property
    def support(self) -> np.ndarray:
        """(targets,) int64: number of records that contribute to each target."""
        if self.is_sparse:
            return np.bincount(
                self.by_record.indices[self.by_record.data != 0], minlength=self.targets
            ).astype(np.int64)
        return np.count_nonzero(self.by_record, axis=0).astype(np.int64)
