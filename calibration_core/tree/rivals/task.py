"""What every sparse method over pairs is given and gives back, so that methods are compared at
equal k in every leaf.

Belongs here: the frozen task and outcome, and the rules both must keep. Does not belong here: a
method (one module per method, beside this one), how many pairs a leaf gets
(``sampling/allocation.py``), the measure of what is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.warnings import CalibrationWarning
from calibration_core.errors import BudgetError, ProblemError
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.newton import TreeNewtonSettings


@dataclass(frozen=True, eq=False)
class PairTask:
    """Choose so many pairs in every leaf of a pool, and weigh them.

    Attributes
    ----------
    pool : areas, targets, dense weights and what is known of the records.
    pairs_per_area : (leaves,) int64, pairs each leaf gets: at least one where the leaf has dense
        weight, none where it has not.
    seed : >= 0.
    refine : how weights are refitted, the same for every method that refits.

    Raises
    ------
    ProblemError : shapes disagree, or a value is not usable.
    BudgetError : a leaf is to get more pairs than it has records of positive dense weight, or none
        though it has weight.
    """

    pool: Pool
    pairs_per_area: np.ndarray
    seed: int
    refine: TreeNewtonSettings

    def __post_init__(self) -> None:
        counts = np.asarray(self.pairs_per_area)
        if counts.shape != (self.pool.leaves,) or counts.dtype.kind not in "iu":
            raise ProblemError(
                f"pairs_per_area is {counts.dtype} {counts.shape}",
                where="task",
                expected=f"({self.pool.leaves},) whole numbers",
            )
        if self.seed < 0:
            raise ProblemError(
                f"The seed is {self.seed}", where="task", expected="a whole number >= 0"
            )
        usable = self.pool.usable
        off = np.flatnonzero((counts > usable) | (counts < np.minimum(usable, 1)))
        if off.size:
            first, tree = int(off[0]), self.pool.tree
            raise BudgetError(
                f"{off.size} leaves ask for a number of pairs they cannot have; the first asks for"
                f" {counts[first]} of {usable[first]} records with dense weight",
                where=f"{tree.levels[-1]} {tree.leaves[first]}",
                expected=(
                    "at least one pair and at most as many as there are records of positive dense"
                    " weight; none where there are none"
                ),
                remedy="Allocate with pairs.allocate_pairs",
            )

    @property
    def pairs(self) -> int:
        """k, pairs in all."""
        return int(self.pairs_per_area.sum())


@dataclass(frozen=True, eq=False)
class PairOutcome:
    """Pairs and their weights.

    Attributes
    ----------
    method : its name in the registry.
    leaf, record : (k,) int64 sorted by leaf, then record, each pair once.
    starting : (k,) float64 > 0 weights before the refit. They sum to the dense total of each leaf.
    weights : (k,) float64 > 0 final weights.
    seconds_selection, seconds_refit : wall time of the choice, and of the refit or whatever the
        method does in its place.
    converged : the refit reached its tolerance. It does not say that targets are met.
    status : the same in words.
    warnings : facts the caller should show, with their counts.

    Raises
    ------
    ProblemError : shapes disagree, pairs are not sorted or occur twice, or a weight is not positive
        and finite.
    """

    method: str
    leaf: np.ndarray
    record: np.ndarray
    starting: np.ndarray
    weights: np.ndarray
    seconds_selection: float
    seconds_refit: float
    converged: bool
    status: str
    warnings: tuple[CalibrationWarning, ...] = ()

    def __post_init__(self) -> None:
        where = f"outcome of {self.method}"
        shapes = {getattr(self, name).shape for name in ("leaf", "record", "starting", "weights")}
        if len(shapes) != 1 or self.leaf.ndim != 1:
            raise ProblemError(
                f"leaf, record, starting and weights have shapes {sorted(shapes)}",
                where=where,
                expected="(k,) for all",
            )
        step, within = np.diff(self.leaf), np.diff(self.record)
        if (step < 0).any() or ((step == 0) & (within <= 0)).any():
            raise ProblemError(
                "Pairs are not sorted by leaf and record, or one occurs twice",
                where=where,
                expected="each pair once, in order",
            )
        for name in ("starting", "weights"):
            weight = getattr(self, name)
            if not (np.isfinite(weight).all() and (weight > 0).all()):
                raise ProblemError(
                    f"A value of {name} is not positive and finite",
                    where=where,
                    expected="positive, finite weights",
                )


def check_outcome(task: PairTask, outcome: PairOutcome) -> None:
    """Raise ProblemError unless the outcome has exactly the pairs the task asks of every leaf, none
    of zero dense weight.
    """
    where = f"outcome of {outcome.method}"
    found = np.bincount(outcome.leaf, minlength=task.pairs_per_area.size)
    if found.size != task.pairs_per_area.size or (found != task.pairs_per_area).any():
        off = np.flatnonzero(found[: task.pairs_per_area.size] != task.pairs_per_area)
        raise ProblemError(
            f"{off.size} leaves have another number of pairs than asked for",
            where=where,
            expected=f"{task.pairs:,} pairs as allocated",
        )
    barred = int((task.pool.table[outcome.leaf, outcome.record] <= 0).sum())
    if barred:
        raise ProblemError(
            f"{barred} pairs have no dense weight",
            where=where,
            expected="pairs of positive dense weight only",
        )
