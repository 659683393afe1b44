"""The tree of areas: nation, state, county, tract, or any other nested levels.

A tree is one table of leaves with the area each lies in at every level above. Sums along it are
products with a sparse matrix of ones (one row per parent), so they cost one addition per entry and
are taken in the order of the areas, whatever order the leaves came in.

Belongs here: the validated tree and sums along it. Does not belong here: targets, weights, or
knowledge of what any level is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy import sparse

from calibration_core.errors import GeographyError


@dataclass(frozen=True, eq=False)
class GeographyTree:
    """Nested areas, from one or more top areas down to the leaves.

    Attributes
    ----------
    levels : tuple of str
        Level names from the top to the leaves, for example ``("state", "county", "tract")``.
    geoids : tuple of tuple of str
        ``geoids[l]`` lists the areas of level ``l``; in sorted order where the tree comes from
        ``from_leaves``.
    parents : tuple of ndarray of int64
        ``parents[l][i]`` is the index, in level ``l - 1``, of the parent of area ``i`` of level
        ``l``. ``parents[0]`` is empty.

    Raises
    ------
    GeographyError
        Levels, geoids and parents do not fit together, an area occurs twice in a level, names a
        parent that is not there, or lies above the leaves and has nothing below it.
    """

    levels: tuple[str, ...]
    geoids: tuple[tuple[str, ...], ...]
    parents: tuple[np.ndarray, ...]

    def __post_init__(self) -> None:
        if not self.levels or not len(self.levels) == len(self.geoids) == len(self.parents):
            raise GeographyError(
                f"{len(self.levels)} level names, {len(self.geoids)} lists of areas and"
                f" {len(self.parents)} of parents",
                expected="one of each per level",
            )
        if len(set(self.levels)) != len(self.levels):
            raise GeographyError(
                f"A level name occurs twice: {', '.join(self.levels)}", expected="each level once"
            )
        for depth, (level, names, parent) in enumerate(
            zip(self.levels, self.geoids, self.parents, strict=True)
        ):
            if not names:
                raise GeographyError(
                    "The geography has no areas",
                    where=f"level {level}",
                    expected="at least one area",
                    remedy="Check the state and the tract list",
                )
            _each_once(level, names)
            if depth:
                self._check_parents(depth, names, np.asarray(parent))
            elif len(parent):
                raise GeographyError(
                    f"The top level {level} has {len(parent)} parents",
                    expected="none above the top",
                )

    def _check_parents(self, depth: int, names: tuple[str, ...], parent: np.ndarray) -> None:
        level, above = self.levels[depth], self.geoids[depth - 1]
        if parent.shape != (len(names),) or parent.dtype.kind not in "iu":
            raise GeographyError(
                f"{parent.dtype} parents of shape {parent.shape} for {len(names)} areas",
                where=f"level {level}",
                expected="one index each",
            )
        if int(parent.min()) < 0 or int(parent.max()) >= len(above):
            orphan = int(np.flatnonzero((parent < 0) | (parent >= len(above)))[0])
            raise GeographyError(
                f"{level} {names[orphan]} names parent number {int(parent[orphan])}",
                where=f"level {level}",
                expected=(
                    f"one of the {len(above)} areas of level {self.levels[depth - 1]}, counted"
                    " from 0"
                ),
            )
        bare = np.flatnonzero(np.bincount(parent, minlength=len(above)) == 0)
        if bare.size:
            raise GeographyError(
                f"{bare.size} areas have no {level}, first {self.levels[depth - 1]}"
                f" {above[int(bare[0])]}",
                where=f"level {self.levels[depth - 1]}",
                expected=f"at least one {level} in every {self.levels[depth - 1]}",
                remedy="Leave the area out, or add what lies in it",
            )

    @classmethod
    def from_leaves(cls, levels: Sequence[str], paths: Sequence[Sequence[str]]) -> GeographyTree:
        """Build the tree from one row per leaf.

        Parameters
        ----------
        levels : names from the top to the leaves.
        paths : for each level, the GEOID of each leaf's area at that level; all of one length.
            The order of the leaves does not matter: every level is sorted. An empty GEOID is
            allowed at the top (a nation).

        Raises
        ------
        GeographyError
            No leaves, columns of different length, an empty GEOID below the top, a duplicated leaf,
            or an area that lies in two parents.
        """
        if len(levels) != len(paths) or not levels:
            raise GeographyError(
                f"{len(levels)} level names for {len(paths)} GEOID columns",
                expected="one column per level, at least one level",
            )
        columns = [list(column) for column in paths]
        lengths = {name: len(column) for name, column in zip(levels, columns, strict=True)}
        if len(set(lengths.values())) != 1:
            raise GeographyError(
                f"GEOID columns have different lengths: {lengths}",
                expected="one entry per leaf in each column",
            )
        for depth, column in enumerate(columns):
            _check_column(levels, columns, depth, column)
        if columns[-1]:
            _each_once(levels[-1], columns[-1])
        geoids: list[tuple[str, ...]] = []
        parents: list[np.ndarray] = []
        above = np.zeros(0, dtype=np.int64)
        for depth, column in enumerate(columns):
            names = tuple(sorted(set(column)))
            place = {geoid: i for i, geoid in enumerate(names)}
            at = np.fromiter(map(place.__getitem__, column), dtype=np.int64, count=len(column))
            geoids.append(names)
            parents.append(
                _owners(levels[depth], names, at, geoids[depth - 1], above)
                if depth
                else np.empty(0, dtype=np.int64)
            )
            above = at
        return cls(tuple(levels), tuple(geoids), tuple(parents))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of areas at each level, top first."""
        return tuple(len(g) for g in self.geoids)

    @property
    def leaves(self) -> tuple[str, ...]:
        """GEOIDs of the finest level."""
        return self.geoids[-1]

    @cached_property
    def _members(self) -> tuple[sparse.csr_matrix | None, ...]:
        """Per level below the top, (areas above, areas) ones where an area lies in another."""
        return tuple(
            membership(parent, self.sizes[depth - 1]) if depth else None
            for depth, parent in enumerate(self.parents)
        )

    def ancestor_of_leaves(self, depth: int) -> np.ndarray:
        """Index at level ``depth`` of the area each leaf lies in; shape (leaves,), int64."""
        index = np.arange(len(self.leaves), dtype=np.int64)
        for level in range(len(self.levels) - 1, depth, -1):
            index = self.parents[level][index]
        return index

    def sum_to_parent(self, values: np.ndarray, depth: int) -> np.ndarray:
        """Sum values of level ``depth`` (areas first) into level ``depth - 1``. The dtype is kept;
        booleans are counted in int64.
        """
        return _grouped(self._members[depth], values)

    def sum_leaves(self, values: np.ndarray, depth: int) -> np.ndarray:
        """Sum leaf values (leaves first) into level ``depth``, one level after another. The dtype
        is kept; booleans are counted in int64.
        """
        for level in range(len(self.levels) - 1, depth, -1):
            values = self.sum_to_parent(values, level)
        return values.copy() if depth == len(self.levels) - 1 else values


def membership(parent: np.ndarray, above: int) -> sparse.csr_matrix:
    """(above, areas) CSR with a one for each area in its parent's row; areas ascending within a
    row.
    """
    begin = np.concatenate([[0], np.cumsum(np.bincount(parent, minlength=above))])
    return sparse.csr_matrix(
        (np.ones(parent.size, dtype=np.int8), np.argsort(parent, kind="stable"), begin),
        shape=(above, parent.size),
    )


def _grouped(members: sparse.csr_matrix, values: np.ndarray) -> np.ndarray:
    values = values.astype(np.int64) if values.dtype == bool else values
    total = members @ np.ascontiguousarray(values).reshape(values.shape[0], -1)
    return total.astype(values.dtype, copy=False).reshape(members.shape[0], *values.shape[1:])


def _each_once(level: str, names: Sequence[str]) -> None:
    if len(set(names)) == len(names):
        return
    repeated = sorted(g for g, n in Counter(names).items() if n > 1)
    raise GeographyError(
        f"{len(repeated)} {level} GEOIDs occur twice, first {repeated[0]}",
        where=f"level {level}",
        expected=f"each {level} once",
        remedy="Remove the duplicated rows from the tract list",
    )


def _check_column(levels: Sequence[str], columns: Sequence[list], depth: int, column: list) -> None:
    """Every leaf has an area at this level, and its GEOID is text."""
    kinds = {kind for kind in set(map(type, column)) if not issubclass(kind, str)}
    if not kinds and (depth == 0 or "" not in column):
        return
    missing = [i for i, g in enumerate(column) if g is None or g != g or (g == "" and depth > 0)]
    if missing:
        raise GeographyError(
            f"{len(missing)} leaves have no {levels[depth]}, first {columns[-1][missing[0]]}",
            where=f"level {levels[depth]}",
            expected=f"every {levels[-1]} belongs to one {levels[depth]}",
            remedy="Add the area to the tract list of this vintage",
        )
    first = next(g for g in column if not isinstance(g, str))
    raise GeographyError(
        f"A GEOID is {first!r}, a {type(first).__name__}",
        where=f"level {levels[depth]}",
        expected="text, with its leading zeros",
        remedy="Read GEOID columns as text",
    )


def _owners(
    level: str, names: Sequence[str], at: np.ndarray, names_above: Sequence[str], above: np.ndarray
) -> np.ndarray:
    """The parent of each area, from one row per leaf; the first leaf of each area decides and the
    others must agree.
    """
    owner = np.empty(len(names), dtype=np.int64)
    owner[at[::-1]] = above[::-1]
    clash = np.flatnonzero(owner[at] != above)
    if clash.size:
        i = int(clash[0])
        raise GeographyError(
            f"{level} {names[at[i]]} lies in two areas: {names_above[owner[at[i]]]} and"
            f" {names_above[above[i]]}",
            where=f"level {level}; {clash.size} leaves disagree with the first of their {level}",
            expected="one parent each",
            remedy="Check that one vintage of geography is used throughout",
        )
    return owner
