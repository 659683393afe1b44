"""Which records an area may use.

A tract of a large state has no use for every household of it: those of its own neighbourhood, and
a sample of the others that represents them, serve it as well at a hundredth of the work. Leaves of
one neighbourhood share their records, so that what is computed of these is computed once for all.

Belongs here: that one object, and the rules its arrays must keep. Does not belong here: who lives
near whom and how the sample is drawn (the caller), prior weights (``problem.py``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calibration_core.errors import ProblemError


@dataclass(frozen=True, eq=False)
class Neighbourhoods:
    """Which records the leaves may use: each leaf lies in one neighbourhood, whose records all of
    its leaves share.

    Attributes
    ----------
    of_leaf : (leaves,) int64 the neighbourhood of each leaf.
    record : per neighbourhood, (records here,) int64 ascending: the records its leaves may use.
    expansion : per neighbourhood, (records here,) float64 > 0: how many records each of them stands
        for there, the inverse of its probability to be among them; one where it was sure to be.

    Raises
    ------
    ProblemError : shapes disagree, a neighbourhood that is not there, records out of order, or an
        expansion that is not positive and finite.
    """

    of_leaf: np.ndarray
    record: tuple[np.ndarray, ...]
    expansion: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if len(self.record) != len(self.expansion) or self.of_leaf.ndim != 1:
            raise ProblemError(
                f"{len(self.record)} lists of records, {len(self.expansion)} of expansions",
                where="neighbourhoods",
                expected="one of each for every neighbourhood, and a neighbourhood for every leaf",
            )
        if self.of_leaf.size and not (
            self.of_leaf.min() >= 0 and self.of_leaf.max() < len(self.record)
        ):
            raise ProblemError(
                f"A leaf names neighbourhood {int(self.of_leaf.max())}",
                where="neighbourhoods",
                expected=f"0 to {len(self.record) - 1}",
            )
        for number, (record, expansion) in enumerate(zip(self.record, self.expansion, strict=True)):
            ordered = bool((np.diff(record) > 0).all())
            sound = bool(np.isfinite(expansion).all() and (expansion > 0).all())
            if record.shape != expansion.shape or not (ordered and sound):
                raise ProblemError(
                    f"{record.size} records with {expansion.size} expansions",
                    where=f"neighbourhood {number}",
                    expected="records in ascending order, each with a positive, finite expansion",
                )

    @property
    def count(self) -> int:
        """Number of neighbourhoods."""
        return len(self.record)

    @cached_property
    def leaves(self) -> tuple[np.ndarray, ...]:
        """The leaves of each neighbourhood, (leaves here,) int64 ascending."""
        order = np.argsort(self.of_leaf, kind="stable")
        edges = np.searchsorted(self.of_leaf[order], np.arange(self.count + 1))
        return tuple(order[a:b] for a, b in itertools.pairwise(edges))

    @property
    def pairs(self) -> int:
        """Number of (leaf, record) pairs."""
        sizes = np.array([record.size for record in self.record], dtype=np.int64)
        return int(sizes[self.of_leaf].sum())
