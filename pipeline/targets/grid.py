"""Targets arranged as arrays on a tree of areas, and arrays brought back to rows of a target table.

At each level a target has a place (area, variable): areas in the order of the tree, variables in
the order of ``keys``. Reconciliation, the calibration problem, the fit report and held-out
validation all read and write targets through this one arrangement.

Belongs here: the tree of a geography table, places, and the two directions between rows and arrays.
Does not belong here: which targets take part, what a value or an error is (the callers), numerics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from pipeline.vocabulary import AREA_COLUMN, NATION, VARIABLE_KEY, Key


def area_tree(areas: pl.DataFrame, levels: Iterable[str]) -> GeographyTree:
    """The tree of one state.

    Parameters
    ----------
    areas : geography table of the state: ``state_fips``, ``county_fips`` and, where ``levels`` has
        it, ``tract``.
    levels : levels wanted, coarsest first; the nation is left out.
    """
    names = [level for level in levels if level != NATION]
    columns = [AREA_COLUMN[name] for name in names]
    leaves = areas.select(columns).unique().sort(columns[-1])
    return GeographyTree.from_leaves(names, [leaves[column].to_list() for column in columns])


@dataclass(frozen=True, eq=False)
class TargetGrid:
    """Where each target of a table stands.

    Attributes
    ----------
    tree : the areas, by level.
    keys : per level, the variables (measure, domain) of its columns.
    rows : per level, (areas, variables) int64: row of the target in its table, -1 where it has
        none.
    """

    tree: GeographyTree
    keys: tuple[tuple[Key, ...], ...]
    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(
        cls, targets: pl.DataFrame, use: pl.Expr, tree: GeographyTree, keys: Sequence[Sequence[Key]]
    ) -> TargetGrid:
        """Find the place of every row of ``targets`` that ``use`` marks.

        Rows of areas or variables that the tree or the level's ``keys`` do not have get no place.
        """
        table = targets.select("level", "geoid", *VARIABLE_KEY).with_row_index("_row")
        table = table.filter(targets.select(_use=use)["_use"].fill_null(False))
        rows = []
        for depth, level in enumerate(tree.levels):
            areas = pl.DataFrame({"geoid": tree.geoids[depth]}, schema={"geoid": pl.String})
            schema = dict.fromkeys(VARIABLE_KEY, pl.String)
            columns = pl.DataFrame(list(keys[depth]), schema=schema, orient="row")
            placed = (
                table.filter(pl.col("level") == level)
                .join(areas.with_row_index("_area"), on="geoid")
                .join(columns.with_row_index("_column"), on=VARIABLE_KEY)
            )
            row = np.full((areas.height, columns.height), -1, dtype=np.int64)
            row[placed["_area"].to_numpy(), placed["_column"].to_numpy()] = placed[
                "_row"
            ].to_numpy()
            rows.append(row)
        return cls(tree, tuple(tuple(level) for level in keys), tuple(rows))

    @property
    def used(self) -> tuple[np.ndarray, ...]:
        """Per level, (areas, variables) bool: places that hold a target."""
        return tuple(row >= 0 for row in self.rows)

    def read(self, values: pl.Series, missing: float) -> tuple[np.ndarray, ...]:
        """Per level, (areas, variables) float64: ``values``, one for each row of the table;
        ``missing`` where there is no target, and where the value is null."""
        column = values.cast(pl.Float64).fill_null(missing).to_numpy()
        # The place of no target, -1, is the entry appended.
        column = np.append(column, missing)
        return tuple(column[row] for row in self.rows)

    def write(self, per_level: Sequence[np.ndarray], height: int) -> pl.Series:
        """One Float64 for each of the table's ``height`` rows, from arrays (areas, variables) per
        level; null where the row has no place."""
        column = np.full(height, np.nan)
        for row, values in zip(self.rows, per_level, strict=True):
            column[row[row >= 0]] = values[row >= 0]
        return pl.Series(column).fill_nan(None)

    def long(self, where: Sequence[np.ndarray], **columns: Sequence[np.ndarray]) -> pl.DataFrame:
        """A row for each place that ``where`` (per level, (areas, variables) bool) marks.

        ``level, geoid, variable, domain``, then ``columns``, each given per level (areas,
        variables); ordered by level, area, variable.
        """
        pieces = []
        for depth, (level, marked) in enumerate(zip(self.tree.levels, where, strict=True)):
            area, column = np.nonzero(marked)
            geoids, keys = self.tree.geoids[depth], self.keys[depth]
            named = {
                "level": [level] * area.size,
                "geoid": [geoids[i] for i in area],
                "variable": [keys[i][0] for i in column],
                "domain": [keys[i][1] for i in column],
            }
            names = pl.DataFrame(named, schema=dict.fromkeys(named, pl.String))
            values = {name: per_level[depth][area, column] for name, per_level in columns.items()}
            pieces.append(names.with_columns(**{k: pl.Series(v) for k, v in values.items()}))
        return pl.concat(pieces)

    def name(self, depth: int, area: int, column: int) -> str:
        """A target in words: ``tract 44007000101 persons age_80_84``."""
        variable, domain = self.keys[depth][column]
        return f"{self.tree.levels[depth]} {self.tree.geoids[depth][area]} {variable} {domain}"
