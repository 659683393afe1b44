"""What every sparse method over pairs is given and gives back, so that methods are compared at
equal k in every leaf.

Belongs here: the frozen task and outcome, and the rules both must keep. Does not belong here: a
method (a module each beside this one), how many pairs a leaf gets (``sampling/allocation.py``), the
measure of what is better.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.errors import BudgetError, ProblemError
from calibration_core.tree.problem import PoolProblem
from calibration_core.tree.solve.newton import TreeNewtonSettings


@dataclass(frozen=True, eq=False)
class PairTask:
    """Choose ``per_leaf`` pairs in every leaf out of (leaves, records), and weigh them.

    Attributes
    ----------
    pool : tree, targets and prior.
    dense : (leaves, records) float64 >= 0, dense calibrated weights. A record of zero dense weight
        in a leaf may not be chosen there.
    cell : (records,) int64 >= 0, cross-category cell.
    order : (records,) float64, sorts the list within a cell, for example household income.
    attributes : (records, f) float64, everything known of a record, targeted or not.
    per_leaf : (leaves,) int64, pairs each leaf gets: at least one where the leaf has dense weight,
        none where it has not.
    seed : >= 0.
    refine : how weights are refitted, the same for every method that refits.
    families, affinity : classes of cells and nearness of cells, as ``selection.select_pairs``; a
        method may use them or not.

    Raises
    ------
    ProblemError : shapes disagree, or a value is not usable.
    BudgetError : a leaf is to get more pairs than it has records of positive dense weight, or none
        though it has weight.
    """

    pool: PoolProblem
    dense: np.ndarray
    cell: np.ndarray
    order: np.ndarray
    attributes: np.ndarray
    per_leaf: np.ndarray
    seed: int
    refine: TreeNewtonSettings
    families: tuple[np.ndarray, ...] = ()
    affinity: np.ndarray | None = None

    def __post_init__(self) -> None:
        leaves, records = len(self.pool.tree.leaves), int(self.pool.record_prior.shape[0])
        shapes = {
            "dense": (leaves, records),
            "cell": (records,),
            "order": (records,),
            "per_leaf": (leaves,),
        }
        for name, shape in shapes.items():
            if getattr(self, name).shape != shape:
                raise ProblemError(
                    f"{name} has shape {getattr(self, name).shape}",
                    where="task",
                    expected=str(shape),
                )
        if self.attributes.ndim != 2 or self.attributes.shape[0] != records:
            raise ProblemError(
                f"attributes has shape {self.attributes.shape}",
                where="task",
                expected=f"({records}, any)",
            )
        if not np.isfinite(self.dense).all() or (self.dense < 0).any():
            raise ProblemError(
                "A dense weight is negative or not finite",
                where="task",
                expected="finite weights >= 0",
            )
        if self.cell.dtype.kind not in "iu" or self.per_leaf.dtype.kind not in "iu":
            raise ProblemError(
                f"cell is {self.cell.dtype}, per_leaf {self.per_leaf.dtype}",
                where="task",
                expected="whole numbers for both",
            )
        if records and (self.cell.min() < 0 or not np.isfinite(self.order).all()):
            raise ProblemError(
                "A cell is negative, or an ordering value is not finite",
                where="task",
                expected="cells >= 0 and finite values",
            )
        if self.seed < 0:
            raise ProblemError(
                f"The seed is {self.seed}", where="task", expected="a whole number >= 0"
            )
        usable = (self.dense > 0).sum(axis=1)
        off = np.flatnonzero((self.per_leaf > usable) | (self.per_leaf < np.minimum(usable, 1)))
        if off.size:
            first = int(off[0])
            raise BudgetError(
                f"{off.size} leaves ask for a number of pairs they cannot have; the first asks for"
                f" {self.per_leaf[first]} of {usable[first]} records with dense weight",
                where=f"{self.pool.tree.levels[-1]} {self.pool.tree.leaves[first]}",
                expected=(
                    "at least one pair and at most as many as there are records of positive dense"
                    " weight; none where there are none"
                ),
                remedy=(
                    "Allocate with allocation.allocate, ceiling = records of positive dense weight"
                ),
            )

    @property
    def pairs(self) -> int:
        """k, pairs in all."""
        return int(self.per_leaf.sum())

    @property
    def leaf_totals(self) -> np.ndarray:
        """(leaves,) float64 sums of dense weights, which starting weights reproduce."""
        return self.dense.sum(axis=1)


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
    warnings: tuple[str, ...] = ()

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
    found = np.bincount(outcome.leaf, minlength=task.per_leaf.size)
    if found.size != task.per_leaf.size or (found != task.per_leaf).any():
        off = np.flatnonzero(found[: task.per_leaf.size] != task.per_leaf)
        raise ProblemError(
            f"{off.size} leaves have another number of pairs than asked for",
            where=where,
            expected=f"{task.pairs:,} pairs as allocated",
        )
    barred = int((task.dense[outcome.leaf, outcome.record] <= 0).sum())
    if barred:
        raise ProblemError(
            f"{barred} pairs have no dense weight",
            where=where,
            expected="pairs of positive dense weight only",
        )
