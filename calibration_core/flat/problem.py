"""One flat calibration problem: find weights near the initial ones whose totals are the targets.

    minimise_w  sum_i (d_i / q_i) phi(w_i / d_i)   subject to   A w = b,   lo_i <= w_i <= hi_i

Belongs here: the frozen, validated problem that every method of ``calibrate`` takes. Does not
belong here: settings, solvers, results; problems on a tree of areas (see ``problem.py``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.flat.design_matrix import DesignMatrix


@dataclass(frozen=True, eq=False)
class CalibrationProblem:
    """What is to be calibrated to what.

    Parameters
    ----------
    matrix : (targets, records) SciPy sparse or ndarray, or a DesignMatrix: what one record adds to
        each target.
    targets : (targets,) the totals asked for, in the units of their rows.
    initial_weights : (records,) >= 0, for example design weights; None where no weights are
        meaningful. Then every record starts at the one weight that fits the targets best (relative
        least squares), and the result says so.
    standard_errors : (targets,) > 0 or None: sampling error of each target, in the target's units.
    q : (records,) > 0 or None: Deville and Sarndal's per-record scale; the ratio w/d answers to q_i
        times the record's multiplier.
    ratio_bounds : (low, high) on w/d, each a number or (records,); None for none.
    weight_bounds : (low, high) on w, each a number or (records,); None for none. Both kinds may be
        given; both then hold.
    target_names : (targets,) strings, unique; default "target 0", ...
    groups : (targets,) strings: the margin or family a target belongs to, for reports; default: the
        name up to the last ":" or "=".
    cells : (records,) integers or strings, or None: the cross-category a record belongs to, for
        selection; default: its pattern over the 0/1 rows.

    Raises
    ------
    ProblemError : shapes disagree, a value is NaN, a weight negative, a bound empty, a name used
        twice; the message names the place.
    """

    matrix: DesignMatrix
    targets: np.ndarray
    initial_weights: np.ndarray | None = None
    standard_errors: np.ndarray | None = None
    q: np.ndarray | None = None
    ratio_bounds: tuple | None = None
    weight_bounds: tuple | None = None
    target_names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    cells: np.ndarray | None = None

    def __post_init__(self) -> None:
        def put(name, value):
            return object.__setattr__(self, name, value)

        for name in ("target_names", "groups"):
            if getattr(self, name) is None:
                put(name, ())
        if not isinstance(self.matrix, DesignMatrix):
            put("matrix", DesignMatrix(self.matrix, self.target_names))
        m, n = self.matrix.targets, self.matrix.records
        if m == 0 or n == 0:
            raise ProblemError(
                f"The matrix is {m} targets x {n} records", expected="at least one of each"
            )
        put("target_names", self._names(m))
        put("groups", self._groups(m))
        put("targets", self._vector("targets", self.targets, m, "target"))
        if self.initial_weights is not None:
            put(
                "initial_weights",
                self._vector("initial_weights", self.initial_weights, n, "record", minimum=0.0),
            )
            if not (self.initial_weights > 0).any():
                raise ProblemError(
                    "Every initial weight is zero",
                    expected="positive weights",
                    remedy="Pass initial_weights=None to start from equal ones",
                )
        if self.standard_errors is not None:
            put(
                "standard_errors",
                self._vector("standard_errors", self.standard_errors, m, "target", above=0.0),
            )
        if self.q is not None:
            put("q", self._vector("q", self.q, n, "record", above=0.0))
        for name in ("ratio_bounds", "weight_bounds"):
            if getattr(self, name) is not None:
                put(name, self._bounds(name, getattr(self, name), n))
        if self.cells is not None:
            cells = np.asarray(self.cells)
            if cells.shape != (n,):
                raise ProblemError(
                    f"cells has shape {cells.shape}",
                    expected=f"({n},): one a record, as the matrix has {n} columns",
                )
            put("cells", cells)
        low, high = self.limits
        if (low > high).any():
            i = int(np.flatnonzero(low > high)[0])
            raise ProblemError(
                f"No weight lies within both bounds: at least {low[i]:g} and at most {high[i]:g}",
                where=f"record {i}, whose initial weight is {self.start[i]:g}",
                expected="bounds with room between them",
                remedy=(
                    "Widen ratio_bounds or weight_bounds for the record, or change its initial"
                    " weight"
                ),
            )

    def _names(self, m: int) -> tuple[str, ...]:
        if isinstance(self.target_names, str):
            raise ProblemError(
                f"target_names is the one string {self.target_names!r}",
                expected=f"a list of {m} names",
                remedy="Put the names in a list",
            )
        names = tuple(str(x) for x in self.target_names) or tuple(f"target {j}" for j in range(m))
        if len(names) != m:
            hint = (
                "Transpose the matrix: targets are rows, records columns"
                if len(names) == self.matrix.records
                else "Give one name a target, in order"
            )
            raise ProblemError(
                f"{len(names)} target names for {m} rows of the matrix",
                expected="one name a row",
                remedy=hint,
            )
        if len(set(names)) != m:
            twice = next(name for name, times in Counter(names).items() if times > 1)
            raise ProblemError(
                f"Two targets are named {twice!r}",
                expected="unique target names",
                remedy="Put the group in the name, for example 'sex:F'",
            )
        return names

    def _groups(self, m: int) -> tuple[str, ...]:
        if isinstance(self.groups, str):
            raise ProblemError(
                f"groups is the one string {self.groups!r}",
                expected=f"a list of {m} names of groups",
                remedy="Put the names in a list",
            )
        groups = tuple(str(x) for x in self.groups) or tuple(
            _group_of(name) for name in self.target_names
        )
        if len(groups) != m:
            raise ProblemError(f"{len(groups)} groups for {m} targets", expected="one a target")
        return groups

    def _vector(
        self,
        name: str,
        value,
        length: int,
        what: str,
        *,
        minimum: float | None = None,
        above: float | None = None,
    ) -> np.ndarray:
        try:
            array = np.array(value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ProblemError(
                f"{name} is not numeric: {error}", expected=f"({length},) numbers"
            ) from error
        if array.shape != (length,):
            matrix = (
                f"the matrix has {self.matrix.targets} rows (targets) and {self.matrix.records}"
                " columns (records)"
            )
            hint = (
                "Transpose the matrix"
                if what == "target" and array.shape == (self.matrix.records,) != (length,)
                else f"Give one number a {what}"
            )
            raise ProblemError(
                f"{name} has shape {array.shape}, but {matrix}",
                expected=f"({length},)",
                remedy=hint,
            )
        bad = ~np.isfinite(array)
        if minimum is not None:
            bad |= array < minimum
        if above is not None:
            bad |= array <= above
        if bad.any():
            place = int(np.flatnonzero(bad)[0])
            label = f"{name}[{place}]" + (
                f", {self.target_names[place]!r}" if what == "target" else ""
            )
            wanted = "finite numbers" + (
                f" >= {minimum:g}"
                if minimum is not None
                else f" > {above:g}"
                if above is not None
                else ""
            )
            remedy = f"Correct it, or leave the {what} out; nothing is dropped for you"
            if name == "standard_errors":
                remedy = (
                    "Give a target that is exact a small error, not zero; without standard_errors"
                    " targets count by their size"
                )
            value = "NaN" if np.isnan(array[place]) else f"{array[place]:g}"
            raise ProblemError(
                f"{int(bad.sum())} of {length} {name} cannot be used, the first is {value}",
                where=label,
                expected=wanted,
                remedy=remedy,
            )
        array.flags.writeable = False
        return array

    def _bounds(self, name: str, value, n: int) -> tuple[np.ndarray, np.ndarray]:
        try:
            low, high = value
            low, high = (
                np.broadcast_to(np.asarray(x, dtype=np.float64), (n,)) for x in (low, high)
            )
        except (TypeError, ValueError) as error:
            found = (
                f"{name} is {value!r}"
                if np.ndim(value) == 0
                else f"{name} is not a pair of bounds that fit {n} records"
            )
            raise ProblemError(
                found,
                expected=f"(low, high), each a number or {n} numbers",
                remedy="For example (0.5, 2.0)",
            ) from error
        bad = np.isnan(low) | np.isnan(high) | (low > high) | ~np.isfinite(low)
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            where = (
                "every record"
                if bad.all()
                else f"record {i}"
                + (f" and {int(bad.sum()) - 1:,} others" if bad.sum() > 1 else "")
            )
            remedy = (
                "Exchange the two"
                if low[i] > high[i]
                else (
                    "For no lower bound on ratios give 0, or a large negative number if weights may"
                    " be negative"
                )
            )
            raise ProblemError(
                f"{name} asks for {low[i]:g} to {high[i]:g}",
                where=where,
                expected="a finite low end that is at most the high end",
                remedy=remedy,
            )
        return low, high

    @property
    def size(self) -> tuple[int, int]:
        """(targets, records)."""
        return self.matrix.targets, self.matrix.records

    @cached_property
    def start(self) -> np.ndarray:
        """(records,) initial weights; where none were given, the one weight that fits best in
        relative least squares.
        """
        if self.initial_weights is not None:
            return self.initial_weights
        sums = self.matrix.totals(np.ones(self.matrix.records)) / self.relative_scale
        goal = self.targets / self.relative_scale
        weight = float(sums @ goal) / max(float(sums @ sums), 1e-300)
        out = np.full(self.matrix.records, weight if weight > 0 else 1.0)
        out.flags.writeable = False
        return out

    @cached_property
    def relative_scale(self) -> np.ndarray:
        """(targets,) > 0: |b_j|; for a target of zero what the initial weights add to it in
        absolute value, or one if that is nothing.
        """
        weights = (
            self.initial_weights
            if self.initial_weights is not None
            else np.ones(self.matrix.records)
        )
        size = np.abs(self.targets)
        if (size == 0).any():
            touched = self.matrix.absolute_totals(weights)
            size = np.where(size > 0, size, np.where(touched > 0, touched, 1.0))
        return size

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) on the weights, each (records,): ratio and weight bounds together; -inf and
        inf where there are none.
        """
        low, high = np.full(self.matrix.records, -np.inf), np.full(self.matrix.records, np.inf)
        if self.ratio_bounds is not None:
            start = self.start
            with np.errstate(invalid="ignore"):
                low, high = (
                    self.ratio_bounds[0] * start,
                    np.where(start > 0, self.ratio_bounds[1] * start, 0.0),
                )
        if self.weight_bounds is not None:
            low, high = (
                np.maximum(low, self.weight_bounds[0]),
                np.minimum(high, self.weight_bounds[1]),
            )
        return low, high

    @property
    def bounded(self) -> bool:
        """Whether any bound was given."""
        return self.ratio_bounds is not None or self.weight_bounds is not None

    def change(self, **fields) -> CalibrationProblem:
        """A copy with some fields replaced (and all checked again)."""
        return replace(self, **fields)

    def take_records(
        self, index: Sequence[int] | np.ndarray, initial_weights: np.ndarray | None = None
    ) -> CalibrationProblem:
        """The same targets on some records, with the initial weights given or those the records
        had.
        """
        index = np.asarray(index)

        def pick(a):
            return None if a is None else a[index]

        bounds = {
            name: None if (b := getattr(self, name)) is None else (b[0][index], b[1][index])
            for name in ("ratio_bounds", "weight_bounds")
        }
        weights = initial_weights if initial_weights is not None else pick(self.initial_weights)
        return replace(
            self,
            matrix=self.matrix.take_records(index),
            initial_weights=weights,
            q=pick(self.q),
            cells=pick(self.cells),
            **bounds,
        )

    def take_targets(self, index: Sequence[int] | np.ndarray) -> CalibrationProblem:
        """Some of the targets on the same records."""
        index = np.asarray(index)
        names, groups = (
            tuple(self.target_names[j] for j in index),
            tuple(self.groups[j] for j in index),
        )
        errors = None if self.standard_errors is None else self.standard_errors[index]
        matrix = self.matrix.take_targets(index)
        return replace(
            self,
            matrix=matrix,
            targets=self.targets[index],
            target_names=names,
            groups=groups,
            standard_errors=errors,
        )


def _group_of(name: str) -> str:
    for mark in (":", "="):
        if mark in name:
            return name.rpartition(mark)[0]
    return name
