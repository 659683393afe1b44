"""Reading what the caller gives as a calibration problem: shapes, numbers, names, labels.

Belongs here: the checks of ``CalibrationProblem``'s fields, each with a message that names the
place. Does not belong here: alignment itself (``labels.py``), the problem's derived figures.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.flat import labels
from calibration_core.flat.design_matrix import DesignMatrix

_TARGET_VECTORS = ("targets", "standard_errors", "groups")
_RECORD_VECTORS = ("initial_weights", "q", "cells")
_BOUNDS = ("ratio_bounds", "weight_bounds")


def read(given: dict[str, Any]) -> dict[str, Any]:
    """The fields of a problem, checked, aligned by label and copied. Raises ProblemError."""
    return _Reader(dict(given)).fields


class _Reader:
    def __init__(self, fields: dict[str, Any]) -> None:
        self.fields = fields
        for name in ("target_names", "groups"):
            if fields[name] is None:
                fields[name] = ()
            if isinstance(fields[name], str):
                raise ProblemError(
                    f"{name} is the one string {fields[name]!r}",
                    expected="a list of one name per target",
                    remedy="Put the names in a list",
                )
        self._align_targets()
        self._align_records()
        self._matrix()
        self._names()
        self._numbers()

    # ---- labels ----

    def _align_records(self) -> None:
        f, matrix = self.fields, self.fields["matrix"]
        vectors = {name: f[name] for name in _RECORD_VECTORS if f[name] is not None}
        for name in _BOUNDS:
            if isinstance(f[name], (tuple, list)) and len(f[name]) == 2:
                vectors.update({f"{name}[{k}]": end for k, end in enumerate(f[name])})
        found, whose = f["record_labels"], "the records"
        if found is None or labels.labels_of(matrix, "columns") is not None:
            found, whose = labels.record_labels(matrix, vectors)
        for name in _RECORD_VECTORS:
            if f[name] is not None:
                f[name] = labels.aligned(f[name], found, name, whose)
        for name in _BOUNDS:
            if isinstance(f[name], (tuple, list)) and len(f[name]) == 2:
                f[name] = tuple(
                    labels.aligned(end, found, f"{name}[{k}]", whose)
                    for k, end in enumerate(f[name])
                )
        f["record_labels"] = None if found is None or labels.is_numbering(found) else _index(found)

    def _align_targets(self) -> None:
        f, matrix = self.fields, self.fields["matrix"]
        vectors = {name: f[name] for name in _TARGET_VECTORS if labels.labels_of(f[name])}
        names = _named(f["target_names"])
        if isinstance(matrix, DesignMatrix):
            found, whose = (names or None), "target_names"
        else:
            found, whose = labels.target_labels(matrix, {} if names else vectors)
            labels.names_beside_labels(names, found, whose)
            if names and (found is None or labels.is_numbering(found)):
                found, whose = names, "target_names"
        for name in vectors:
            own = [labels.name_of(x) for x in labels.labels_of(f[name]) or ()]
            by_name = bool(names) and set(own) == set(names)
            side = (names, "target_names") if by_name else (found, whose)
            f[name] = labels.aligned(f[name], side[0], name, side[1])
        if not names and found is not None and not labels.is_numbering(found):
            names = tuple(labels.name_of(x) for x in found)
        f["target_names"] = names

    # ---- shapes and names ----

    def _matrix(self) -> None:
        f = self.fields
        if not isinstance(f["matrix"], DesignMatrix):
            f["matrix"] = DesignMatrix(f["matrix"], f["target_names"])
        self.m, self.n = f["matrix"].targets, f["matrix"].records
        if self.m == 0 or self.n == 0:
            raise ProblemError(
                f"The matrix is {self.m} targets x {self.n} records",
                expected="at least one of each",
            )

    def _names(self) -> None:
        f, m = self.fields, self.m
        names = f["target_names"] or default_names(m)
        if len(names) != m:
            transposed = len(names) == self.n
            raise ProblemError(
                f"{len(names)} target names for {m} rows of the matrix",
                expected="one name per row",
                remedy="Transpose the matrix: targets are rows, records columns"
                if transposed
                else "Give one name per target, in order",
            )
        if len(set(names)) != m:
            twice = next(name for name, times in Counter(names).items() if times > 1)
            raise ProblemError(
                f"Two targets are named {twice!r}",
                expected="unique target names",
                remedy="Put the group in the name, for example 'sex:F'",
            )
        groups = tuple(str(x) for x in f["groups"]) or tuple(group_of(name) for name in names)
        if len(groups) != m:
            raise ProblemError(f"{len(groups)} groups for {m} targets", expected="one per target")
        f["target_names"], f["groups"] = names, groups

    # ---- numbers ----

    def _numbers(self) -> None:
        f = self.fields
        f["targets"] = self._vector("targets", "target")
        if f["initial_weights"] is not None:
            f["initial_weights"] = self._vector("initial_weights", "record", minimum=0.0)
            if not (f["initial_weights"] > 0).any():
                raise ProblemError(
                    "Every initial weight is zero",
                    expected="positive weights",
                    remedy="Pass initial_weights=None to start from equal ones",
                )
        if f["standard_errors"] is not None:
            f["standard_errors"] = self._vector("standard_errors", "target", above=0.0)
        if f["q"] is not None:
            f["q"] = self._vector("q", "record", above=0.0)
        for name in _BOUNDS:
            if f[name] is not None:
                f[name] = self._bounds(name)
        if f["cells"] is not None:
            f["cells"] = np.asarray(f["cells"])
            if f["cells"].shape != (self.n,):
                raise ProblemError(
                    f"cells has shape {f['cells'].shape}",
                    expected=f"({self.n},): one per record, as the matrix has {self.n} columns",
                )

    def _vector(self, name: str, what: str, *, minimum=None, above=None) -> np.ndarray:
        """One field as (targets,) or (records,) finite float64, copied and read-only."""
        length = self.m if what == "target" else self.n
        try:
            array = np.array(labels.plain(self.fields[name], name), dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise ProblemError(
                f"{name} is not numeric: {error}", expected=f"({length},) numbers"
            ) from error
        if array.shape != (length,):
            self._wrong_shape(name, what, array.shape, length)
        bad = ~np.isfinite(array)
        wanted = "finite numbers"
        if minimum is not None:
            bad |= array < minimum
            wanted += f" >= {minimum:g}"
        if above is not None:
            bad |= array <= above
            wanted += f" > {above:g}"
        if bad.any():
            self._unusable(name, what, array, bad, wanted)
        array.flags.writeable = False
        return array

    def _wrong_shape(self, name: str, what: str, shape: tuple, length: int) -> None:
        transposed = what == "target" and shape == (self.n,) != (length,)
        raise ProblemError(
            f"{name} has shape {shape}, but the matrix has {self.m} rows (targets) and {self.n} "
            "columns (records)",
            expected=f"({length},)",
            remedy="Transpose the matrix" if transposed else f"Give one number per {what}",
        )

    def _unusable(self, name: str, what: str, array, bad, wanted: str) -> None:
        place = int(np.flatnonzero(bad)[0])
        label = f", {self.fields['target_names'][place]!r}" if what == "target" else ""
        remedy = f"Correct it, or leave the {what} out; nothing is dropped for you"
        if name == "standard_errors":
            remedy = (
                "Give a target that is exact a small error, not zero; without standard_errors "
                "targets count by their size"
            )
        value = "NaN" if np.isnan(array[place]) else f"{array[place]:g}"
        raise ProblemError(
            f"{int(bad.sum())} of {array.size} {name} cannot be used, the first is {value}",
            where=f"{name}[{place}]{label}",
            expected=wanted,
            remedy=remedy,
        )

    def _bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        value, n = self.fields[name], self.n
        try:
            low, high = value
            low, high = (
                np.broadcast_to(np.asarray(x, dtype=np.float64), (n,)) for x in (low, high)
            )
        except (TypeError, ValueError) as error:
            found = f"{name} is not a pair of bounds that fit {n} records"
            raise ProblemError(
                f"{name} is {value!r}" if np.ndim(value) == 0 else found,
                expected=f"(low, high), each a number or {n} numbers",
                remedy="For example (0.5, 2.0)",
            ) from error
        bad = np.isnan(low) | np.isnan(high) | (low > high) | ~np.isfinite(low)
        if bad.any():
            i = int(np.flatnonzero(bad)[0])
            others = f" and {int(bad.sum()) - 1:,} others" if bad.sum() > 1 else ""
            none = (
                "For no lower bound on ratios give 0, or a large negative number if weights may "
                "be negative"
            )
            raise ProblemError(
                f"{name} asks for {low[i]:g} to {high[i]:g}",
                where="every record" if bad.all() else f"record {i}{others}",
                expected="a finite low end that is at most the high end",
                remedy="Exchange the two" if low[i] > high[i] else none,
            )
        return low, high


def default_names(targets: int) -> tuple[str, ...]:
    """The names of targets that were given none."""
    return tuple(f"target {j}" for j in range(targets))


def group_of(name: str) -> str:
    """The group that a target's name says: what stands before its last ":" or "="."""
    for mark in (":", "="):
        if mark in name:
            return name.rpartition(mark)[0]
    return name


def _named(names) -> tuple[str, ...]:
    return (
        tuple(labels.name_of(x) for x in labels.plain(names, "target_names").tolist())
        if len(names)
        else ()
    )


def _index(found):
    """Labels that can be taken by an array of positions: a data-frame library's own,
    or an array.
    """
    out = np.empty(len(found), dtype=object)
    out[:] = list(found)
    return out
