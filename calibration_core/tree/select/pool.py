"""The pool that pairs are chosen from: areas, targets, the dense solution, and what is known of the
records.

Dense weights are rounded, to one part in 8,192, before anything chooses by them
(``common/digits.py``). So the last bits of a solver, which differ from one processor to the next,
do not decide which household lives where.

Belongs here: that one object, and the rules its arrays must keep. Does not belong here: settings of
a selection, what is chosen (``pairs.py``), the dense problem itself (``tree/problem.py``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from calibration_core.common.area_weights import AreaWeights, RoundedWeights, TableWeights
from calibration_core.common.columns import Columns, Design
from calibration_core.common.digits import to_choose_by
from calibration_core.errors import ProblemError
from calibration_core.sampling.candidates import list_path
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import Targets, make_targets


@dataclass(frozen=True, eq=False)
class Pool:
    """Every area may use every record; a pair is a record in an area.

    Attributes
    ----------
    tree : the areas; pairs live in its leaves.
    targets : at every level of the tree.
    dense : (leaves, records) float64 >= 0, dense calibrated weights, as a table, which is rounded
        here to one part in 8,192, or as AreaWeights, which stay as they are. A record of zero dense
        weight in a leaf is never chosen there.
    cell : (records,) int64 >= 0, cross-category cell of each record.
    order : (records,) float64, sorts the list of records within a cell, for example income.
    attributes : (records, any) float64, array or ``Columns``, everything known of a record,
        targeted or not: what a selection keeps beside the targets.
    classes : one (categories, cells) bool for each class of cells (size of household, tenure, ...),
        nested, most important first: counts of these are rounded too.
    anchors : (columns,) int64 columns of ``attributes`` whose dense totals a refit may keep in the
        leaves too (``anchors.anchored``); every one of them adds to the size of a leaf's block.
    affinity : (cells, cells) how near cells are to each other; None for equally near.

    Raises ProblemError if shapes disagree or a value is not usable.
    """

    tree: GeographyTree
    targets: Targets
    dense: np.ndarray | AreaWeights
    cell: np.ndarray
    order: np.ndarray
    attributes: Design
    classes: tuple[np.ndarray, ...] = ()
    affinity: np.ndarray | None = None
    anchors: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    def __post_init__(self) -> None:
        leaves, records = len(self.tree.leaves), self.targets.designs[-1].shape[0]
        shapes = {"dense": (leaves, records), "cell": (records,), "order": (records,)}
        for name, shape in shapes.items():
            self._require(np.shape(getattr(self, name)) == shape, name, str(shape))
        known = np.shape(self.attributes)
        self._require(len(known) == 2 and known[0] == records, "attributes", f"({records}, any)")
        self._require(np.asarray(self.cell).dtype.kind in "iu", "cell", "whole numbers")
        dense = self.dense
        if not isinstance(dense, AreaWeights):
            dense = to_choose_by(dense)
            TableWeights(dense).check()
        cell = np.array(self.cell, dtype=np.int64)
        order = np.array(self.order, dtype=np.float64)
        anchors = np.array(self.anchors, dtype=np.int64)
        arrays: dict[str, object] = {
            "dense": dense,
            "cell": cell,
            "order": order,
            "attributes": self.attributes
            if isinstance(self.attributes, Columns)
            else np.array(self.attributes, dtype=np.float64),
            "classes": tuple(np.asarray(members, dtype=bool) for members in self.classes),
            "anchors": anchors,
        }
        if records and (cell.min() < 0 or not np.isfinite(order).all()):
            raise ProblemError(
                "A cell is negative, or an ordering value is not finite",
                where="pool",
                expected="cells >= 0 and finite values",
            )
        inside = (anchors >= 0) & (anchors < known[1])
        self._require(bool(inside.all()), "anchors", "columns of attributes")
        for name, value in arrays.items():
            object.__setattr__(self, name, value)
        for members in self.classes:
            self._require(
                members.ndim == 2 and members.shape[1] >= self.cells,
                "classes",
                f"(categories, {self.cells}) each",
            )

    def _require(self, sound: bool, name: str, expected: str) -> None:
        if not sound:
            found = getattr(self, name)
            shape = [np.shape(c) for c in found] if name == "classes" else np.shape(found)
            kind = getattr(found, "dtype", type(found).__name__)
            raise ProblemError(f"{name} is {kind} {shape}", where="pool", expected=expected)

    @classmethod
    def of_one_level(
        cls, dense: np.ndarray, cell: np.ndarray, order: np.ndarray, **known: Any
    ) -> Pool:
        """A pool of areas beside each other, without a target; ``known`` as the other attributes.

        Raises ProblemError as the class itself.
        """
        dense = np.asarray(dense)
        if dense.ndim != 2 or not dense.size:
            raise ProblemError(f"dense is {dense.shape}", where="pool", expected="(areas, records)")
        areas, records = dense.shape
        names = tuple(f"area {t:0{len(str(areas))}d}" for t in range(areas))
        tree = GeographyTree(("area",), (names,), (np.zeros(0, dtype=np.int64),))
        nothing = np.zeros((areas, 0))
        targets = make_targets(tree, [np.zeros((records, 0))], [nothing], [nothing])
        known.setdefault("attributes", np.zeros((records, 0)))
        return cls(tree, targets, dense, cell, order, **known)

    @property
    def leaves(self) -> int:
        return self.dense.shape[0]

    @property
    def records(self) -> int:
        return self.dense.shape[1]

    @cached_property
    def weights(self) -> AreaWeights:
        """Dense weights, rounded, block by block."""
        dense = self.dense
        return RoundedWeights(dense) if isinstance(dense, AreaWeights) else TableWeights(dense)

    @property
    def table(self) -> np.ndarray:
        """(leaves, records) float64: rounded dense weights at once, for pools that are small."""
        return self.weights.table()

    @property
    def cells(self) -> int:
        """Number of cells: the largest cell and one."""
        return int(self.cell.max(initial=-1)) + 1

    @cached_property
    def totals(self) -> np.ndarray:
        """(leaves,) float64 dense weight of each leaf."""
        return self.weights.totals()

    @cached_property
    def by_record(self) -> np.ndarray:
        """(records,) float64 dense weight of each record in all leaves."""
        return self.weights.by_record()

    @cached_property
    def usable(self) -> np.ndarray:
        """(leaves,) int64 records of positive dense weight in each leaf."""
        return self.weights.each(lambda block: np.count_nonzero(block.weight, axis=1))

    @cached_property
    def path(self) -> np.ndarray:
        """(records,) int64: the records sorted by cell, order and number."""
        return list_path(self.cell, self.order)
