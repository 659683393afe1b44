"""The tree of areas: nation, state, county, tract, or any other nested levels.

Belongs here: the validated tree and sums along it. Does not belong here: targets, weights,
or knowledge of what any level is called.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import GeographyError


@dataclass(frozen=True)
class GeographyTree:
    """Nested areas, from one or more top areas down to the leaves.

    Attributes
    ----------
    levels : tuple of str
        Level names from the top to the leaves, for example ``("state", "county", "tract")``.
    geoids : tuple of tuple of str
        ``geoids[l]`` lists the areas of level ``l`` in sorted order.
    parents : tuple of ndarray of int64
        ``parents[l][i]`` is the index, in level ``l - 1``, of the parent of area ``i`` of level ``l``.
        ``parents[0]`` is empty.
    """

    levels: tuple[str, ...]
    geoids: tuple[tuple[str, ...], ...]
    parents: tuple[np.ndarray, ...]

    @classmethod
    def from_leaves(cls, levels: Sequence[str], paths: Sequence[Sequence[str]]) -> GeographyTree:
        """Build the tree from one row per leaf.

        Parameters
        ----------
        levels : names from the top to the leaves.
        paths : for each level, the GEOID of each leaf's area at that level; all of one length.
            The order of the leaves does not matter: every level is sorted.

        Raises
        ------
        GeographyError
            No leaves, columns of different length, an empty GEOID below the top, a duplicated leaf,
            or an area that lies in two parents.
        """
        if len(levels) != len(paths) or not levels:
            raise GeographyError(f"{len(levels)} level names for {len(paths)} GEOID columns", expected="one column per level, at least one level")
        lengths = {name: len(column) for name, column in zip(levels, paths, strict=True)}
        if len(set(lengths.values())) != 1:
            raise GeographyError(f"GEOID columns have different lengths: {lengths}", expected="one entry per leaf in each column")
        if lengths[levels[-1]] == 0:
            raise GeographyError(
                "The geography has no areas", where=f"level {levels[-1]}", expected="at least one leaf", remedy="Check the state and the tract list"
            )
        repeated = [g for g, n in Counter(paths[-1]).items() if n > 1]
        if repeated:
            raise GeographyError(
                f"{len(repeated)} {levels[-1]} GEOIDs occur twice, first {sorted(repeated)[0]}",
                where=f"level {levels[-1]}",
                expected="each leaf once",
                remedy="Remove the duplicated rows from the tract list",
            )
        geoids: list[tuple[str, ...]] = []
        parents: list[np.ndarray] = []
        for depth, column in enumerate(paths):
            missing = [i for i, g in enumerate(column) if g is None or (g == "" and depth > 0)]
            if missing:
                raise GeographyError(
                    f"{len(missing)} leaves have no {levels[depth]}, first {paths[-1][missing[0]]}",
                    where=f"level {levels[depth]}",
                    expected=f"every {levels[-1]} belongs to one {levels[depth]}",
                    remedy="Add the area to the tract list of this vintage",
                )
            owner: dict[str, str] = {}
            for i, geoid in enumerate(column):
                parent = paths[depth - 1][i] if depth else ""
                if owner.setdefault(geoid, parent) != parent:
                    raise GeographyError(
                        f"{levels[depth]} {geoid} lies in two areas: {owner[geoid]} and {parent}",
                        where=f"level {levels[depth]}",
                        expected="one parent each",
                        remedy="Check that one vintage of geography is used throughout",
                    )
            names = tuple(sorted(owner))
            above = {g: i for i, g in enumerate(geoids[-1])} if depth else {}
            parents.append(np.array([above[owner[g]] for g in names], dtype=np.int64) if depth else np.empty(0, dtype=np.int64))
            geoids.append(names)
        return cls(tuple(levels), tuple(geoids), tuple(parents))

    @property
    def sizes(self) -> tuple[int, ...]:
        """Number of areas at each level, top first."""
        return tuple(len(g) for g in self.geoids)

    @property
    def leaves(self) -> tuple[str, ...]:
        """GEOIDs of the finest level."""
        return self.geoids[-1]

    def ancestor_of_leaves(self, depth: int) -> np.ndarray:
        """Index at level ``depth`` of the area each leaf lies in; shape (leaves,), int64."""
        index = np.arange(len(self.leaves), dtype=np.int64)
        for level in range(len(self.levels) - 1, depth, -1):
            index = self.parents[level][index]
        return index

    def sum_to_parent(self, values: np.ndarray, depth: int) -> np.ndarray:
        """Sum values of level ``depth`` (areas first) into level ``depth - 1``."""
        total = np.zeros((len(self.geoids[depth - 1]), *values.shape[1:]), dtype=values.dtype)
        np.add.at(total, self.parents[depth], values)
        return total

    def sum_leaves(self, values: np.ndarray, depth: int) -> np.ndarray:
        """Sum leaf values (leaves first) into level ``depth``."""
        total = np.zeros((len(self.geoids[depth]), *values.shape[1:]), dtype=values.dtype)
        np.add.at(total, self.ancestor_of_leaves(depth), values)
        return total
