"""One flat calibration problem: find weights near the initial ones whose totals are the targets.

    minimise_w  sum_i (d_i / q_i) phi(w_i / d_i)   subject to   A w = b,   lo_i <= w_i <= hi_i

Belongs here: the frozen, validated problem that every method of ``calibrate`` takes. Does not
belong here: settings, solvers, results; problems on a tree of areas (see ``problem.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.flat import problem_input
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.html import problem_html
from calibration_core.flat.origin import Origin

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

# Initial weights whose totals are this many times the targets, or less than the inverse, are at
# another level than the targets: no survey weight changes so much, but persons and thousands do.
FAR = 8.0


@dataclass(frozen=True, eq=False)
class CalibrationProblem:
    """What is to be calibrated to what.

    Arrays, lists and SciPy matrices are taken by position. Pandas frames and series are taken by
    their labels: the matrix's index names the targets, its columns the records, and whatever else
    has labels is put in that order, or refused if its labels are others. Masked values are refused.

    Parameters
    ----------
    matrix : (targets, records) SciPy sparse, ndarray, frame or DesignMatrix: what one record adds
        to each target.
    targets : (targets,) the totals asked for, in the units of their rows; a mapping goes by name.
    initial_weights : (records,) >= 0, for example design weights; None where no weights are
        meaningful. Then every record starts at the one weight that fits the targets best (relative
        least squares), and the result says so.
    standard_errors : (targets,) > 0 or None: sampling error of each target, in the target's units.
    q : (records,) > 0 or None: Deville and Sarndal's per-record scale; the ratio w/d answers to q_i
        times the record's multiplier.
    ratio_bounds : (low, high) on w/d, each a number or (records,); None for none.
    weight_bounds : (low, high) on w, each a number or (records,); None for none. Both kinds may be
        given; both then hold.
    target_names : (targets,) strings, unique; default the labels of the rows, else "target 0", ...
    groups : (targets,) strings: the margin or family a target belongs to, for reports; default: the
        name up to the last ":" or "=".
    cells : (records,) integers or strings, or None: the cross-category a record belongs to, for
        selection; default: its pattern over the rows that count.
    record_labels : (records,) labels of the records, or None; default those of the frame or series.
    origin : how the caller wrote a problem that ``standard_form`` has rewritten; None for his own.

    Raises
    ------
    ProblemError : shapes or labels disagree, a value is NaN or masked, a weight negative, a bound
        empty, a name used twice; the message names the place.
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
    record_labels: Any = None
    origin: Origin | None = field(default=None, repr=False)

    if TYPE_CHECKING:
        # What the fields hold is narrower than what they may be given.
        def __init__(
            self,
            matrix: Any,
            targets: ArrayLike | Mapping[str, float],
            initial_weights: ArrayLike | None = None,
            standard_errors: ArrayLike | Mapping[str, float] | None = None,
            q: ArrayLike | None = None,
            ratio_bounds: tuple[ArrayLike, ArrayLike] | None = None,
            weight_bounds: tuple[ArrayLike, ArrayLike] | None = None,
            target_names: Sequence[str] | None = (),
            groups: Sequence[str] | None = (),
            cells: ArrayLike | None = None,
            record_labels: Any = None,
            origin: Origin | None = None,
        ) -> None: ...

    def __post_init__(self) -> None:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "origin"}
        for name, value in problem_input.read(given).items():
            # The class is frozen for its users; this is where its fields get their values.
            object.__setattr__(self, name, value)
        low, high = self.limits
        if (low > high).any():
            i = int(np.flatnonzero(low > high)[0])
            least, most, start = (self.told_weight(x[i]) for x in (low, high, self.start))
            raise ProblemError(
                f"No weight lies within both bounds: at least {least:g} and at most {most:g}",
                where=f"record {self.told_record(i)}, whose initial weight is {start:g}",
                expected="bounds with room between them",
                remedy="Widen ratio_bounds or weight_bounds, or change the record's initial weight",
            )

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
        out = np.full(self.matrix.records, self._one_weight())
        out.flags.writeable = False
        return out

    def _one_weight(self) -> float:
        """The weight that, given to every record, comes nearest to the targets that
        are not zero.
        """
        size = np.abs(self.targets)
        some = size > 0
        if not some.any():
            return 1.0
        ones = np.ones(self.matrix.records)
        sums = self.matrix.totals(ones)[some] / size[some]
        weight = float(sums @ np.sign(self.targets[some])) / max(float(sums @ sums), 1e-300)
        if weight > 0:
            return weight
        # Targets that no one positive weight comes near: at least of their size.
        reach = self.matrix.absolute_totals(ones)[some] / size[some]
        return 1.0 / float(reach.mean()) if reach.any() else 1.0

    @cached_property
    def relative_scale(self) -> np.ndarray:
        """(targets,) > 0: |b_j|; for a target of zero what the initial weights add to it in
        absolute value, or one if that is nothing.
        """
        size = np.abs(self.targets)
        if (size == 0).any():
            touched = self.matrix.absolute_totals(self.start) * self.level
            size = np.where(size > 0, size, np.where(touched > 0, touched, 1.0))
        return size

    @cached_property
    def level(self) -> float:
        """What the initial weights are to be multiplied by to be at the level of the targets, if
        that is more than ``FAR`` or less than its inverse; else one. It is the median of what each
        target asks for.
        """
        if self.initial_weights is None:
            return 1.0
        reached = np.abs(self.matrix.totals(self.start))
        some = (self.targets != 0) & (reached > 0)
        if not some.any():
            return 1.0
        level = float(np.median(np.abs(self.targets[some]) / reached[some]))
        return level if level > FAR or level < 1.0 / FAR else 1.0

    @cached_property
    def limits(self) -> tuple[np.ndarray, np.ndarray]:
        """(low, high) on the weights, each (records,): ratio and weight bounds together; -inf and
        inf where there are none.
        """
        low, high = np.full(self.matrix.records, -np.inf), np.full(self.matrix.records, np.inf)
        if self.ratio_bounds is not None:
            start = self.start
            with np.errstate(invalid="ignore"):
                low = self.ratio_bounds[0] * start
                high = np.where(start > 0, self.ratio_bounds[1] * start, 0.0)
        if self.weight_bounds is not None:
            low = np.maximum(low, self.weight_bounds[0])
            high = np.minimum(high, self.weight_bounds[1])
        return low, high

    @property
    def bounded(self) -> bool:
        """Whether any bound was given."""
        return self.ratio_bounds is not None or self.weight_bounds is not None

    @property
    def named(self) -> bool:
        """Whether targets have names of their own, not "target 0", ..."""
        return self.target_names != problem_input.default_names(self.matrix.targets)

    @property
    def weight_unit(self) -> float:
        """The caller's weight of a weight of one."""
        return 1.0 if self.origin is None else self.origin.weight

    @property
    def total_unit(self) -> np.ndarray:
        """(targets,) the caller's total of a total of one."""
        return np.ones(self.targets.size) if self.origin is None else self.origin.total

    def told_total(self, target: int, value: float) -> float:
        """A total of one target in the caller's units, for words."""
        return float(value) * float(self.total_unit[target])

    def told_weight(self, value: float) -> float:
        """A weight in the caller's unit, for words."""
        return float(value) * self.weight_unit

    def told_record(self, record: int) -> int:
        """The caller's index of a record, for words."""
        if self.origin is None or self.origin.record is None:
            return int(record)
        return int(self.origin.record[record])

    def _repr_html_(self) -> str:
        return problem_html(self)

    def change(self, **changed) -> CalibrationProblem:
        """A copy with some fields replaced (and all checked again)."""
        return replace(self, **changed)

    def take_records(
        self, index: Sequence[int] | np.ndarray, initial_weights: np.ndarray | None = None
    ) -> CalibrationProblem:
        """The same targets on some records, with the initial weights given or those the records
        had.
        """
        index = np.asarray(index)

        def pick(a):
            return None if a is None else a[index]

        bounds: dict[str, Any] = {
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
            record_labels=pick(self.record_labels),
            origin=None if self.origin is None else self.origin.take_records(index),
            **bounds,
        )

    def take_targets(self, index: Sequence[int] | np.ndarray) -> CalibrationProblem:
        """Some of the targets on the same records."""
        index = np.asarray(index)
        errors = None if self.standard_errors is None else self.standard_errors[index]
        return replace(
            self,
            matrix=self.matrix.take_targets(index),
            targets=self.targets[index],
            target_names=tuple(self.target_names[j] for j in index),
            groups=tuple(self.groups[j] for j in index),
            standard_errors=errors,
            origin=None if self.origin is None else self.origin.take_targets(index),
        )
