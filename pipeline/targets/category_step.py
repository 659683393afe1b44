"""Categories in target tables: which groups apply at which level, settled from the top down, and
what could not be settled.

At each level above the finest, all groups are solved together with the sums over areas
(``calibration_core/tree/reconcile/categories.py``); the levels below then follow by another sweep,
with this level held. A group one of whose members has no calibrating target is not applied, and
says so.

Belongs here: the order of levels and the report. Does not belong here: the projection, or rows of
the target table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.categories import Group, reconcile_categories
from calibration_core.tree.reconcile.levels import reconcile_tree
from pipeline.specs.variables import CategoryGroup
from pipeline.vocabulary import Key

REPORT_SCHEMA: dict[str, pl.DataType] = {
    "group": pl.String(),
    "level": pl.String(),
    "applied": pl.Boolean(),
    "reason": pl.String(),
    "gap_before": pl.Float64(),
    "gap_after": pl.Float64(),
}
_EXACT = 1e-9


@dataclass(frozen=True, eq=False)
class LevelFigures:
    """Reconciled figures, per level, (areas, variables); settling changes them in place.

    Attributes
    ----------
    tree, keys : the areas, and the variables.
    own_values, own_variances : as published; levels below one that is settled follow these.
    values, variances : reconciled; a variance is inf where nothing is known.
    nonnegative : (variables,) bool: must not fall below zero.
    """

    tree: GeographyTree
    keys: Sequence[Key]
    own_values: Sequence[np.ndarray]
    own_variances: Sequence[np.ndarray]
    values: list[np.ndarray]
    variances: list[np.ndarray]
    nonnegative: np.ndarray

    @property
    def column(self) -> dict[Key, int]:
        """Where each variable stands."""
        return {key: i for i, key in enumerate(self.keys)}


def settle_categories(
    figures: LevelFigures, groups: Sequence[CategoryGroup], depths: int
) -> tuple[set[Key], pl.DataFrame]:
    """Make groups add up at the first ``depths`` levels, and bring the levels below along.

    Returns the keys of the variables that took part, and the report (REPORT_SCHEMA), one row per
    group and level.
    """
    moved: set[Key] = set()
    report: list[dict] = []
    for depth in range(depths):
        applied, lines = _applicable(figures, groups, depth)
        report += lines
        if applied:
            columns, lines = _settle(figures, applied, depth)
            report += lines
            moved.update(figures.keys[i] for i in columns)
            _follow(figures, columns, depth)
    return moved, pl.DataFrame(report, schema=REPORT_SCHEMA)


def _applicable(
    figures: LevelFigures, groups: Sequence[CategoryGroup], depth: int
) -> tuple[list[tuple[CategoryGroup, Group]], list[dict]]:
    """Groups that can be settled at a level, and lines on those that cannot."""
    column, level = figures.column, figures.tree.levels[depth]
    applied, lines = [], []
    for group in groups:
        reason = _why_not(group, column, figures.variances[depth])
        if reason:
            gap = _gap(group, column, figures.values[depth])
            lines.append(_line(group, level, reason, *gap))
        else:
            ids = [column[m.variable, m.domain] for m in (group.parent, *group.children)]
            applied.append((group, Group(ids[0], tuple(ids[1:]))))
    return applied, lines


def _settle(
    figures: LevelFigures, applied: list[tuple[CategoryGroup, Group]], depth: int
) -> tuple[list[int], list[dict]]:
    """Settle one level; the columns of the variables that took part, and lines."""
    tree, values, variances = figures.tree, figures.values, figures.variances
    totals = None
    if depth:
        totals = np.where(np.isfinite(variances[depth - 1]), values[depth - 1], np.nan)
    result = reconcile_categories(
        values[depth],
        variances[depth],
        [group for _, group in applied],
        nonnegative=figures.nonnegative,
        parent_area=tree.parents[depth] if depth else None,
        totals=totals,
    )
    values[depth] = result.values
    gaps = zip(applied, result.gap_before, result.gap_after, strict=True)
    level = tree.levels[depth]
    lines = [_line(g, level, "", float(before), float(after)) for (g, _), before, after in gaps]
    return sorted({i for _, g in applied for i in (g.parent, *g.children)}), lines


def _follow(figures: LevelFigures, columns: list[int], depth: int) -> None:
    """Levels below ``depth`` again, from their own estimates, with ``depth`` held."""
    tree, values, variances = figures.tree, figures.values, figures.variances
    top_has_no_parent = np.empty(0, dtype=np.int64)
    below = GeographyTree(
        tree.levels[depth:], tree.geoids[depth:], (top_has_no_parent, *tree.parents[depth + 1 :])
    )
    known = np.isfinite(variances[depth][:, columns])
    top = np.where(known, values[depth][:, columns], 0.0)
    held = np.where(known, (_EXACT * np.abs(top) + 1e-12) ** 2, np.inf)
    y = [top, *(a[:, columns] for a in figures.own_values[depth + 1 :])]
    v = [held, *(a[:, columns] for a in figures.own_variances[depth + 1 :])]
    again = reconcile_tree(below, y, v, nonnegative=figures.nonnegative[columns])
    for level in range(depth + 1, len(values)):
        values[level][:, columns] = again.values[level - depth]
        variances[level][:, columns] = again.variances[level - depth]


def _why_not(group: CategoryGroup, column: dict[Key, int], variance: np.ndarray) -> str:
    """Why a group cannot be applied at a level, or ""."""
    members = [(m.variable, m.domain) for m in (group.parent, *group.children)]
    absent = [" ".join(key) for key in members if key not in column]
    if absent:
        return f"without a calibrating target: {', '.join(absent)}"
    unknown = [" ".join(key) for key in members if not np.isfinite(variance[:, column[key]]).all()]
    return f"not known in every area: {', '.join(unknown)}" if unknown else ""


def _gap(
    group: CategoryGroup, column: dict[Key, int], values: np.ndarray
) -> tuple[float | None, float | None]:
    """The relative gap of a group that is not applied, where all its members are known
    somewhere.
    """
    members = [(m.variable, m.domain) for m in (group.parent, *group.children)]
    if any(key not in column for key in members):
        return None, None
    parts = values[:, [column[key] for key in members]]
    parts = parts[np.isfinite(parts).all(axis=1)]
    if not parts.size:
        return None, None
    gap = float(np.abs(parts[:, 0] - parts[:, 1:].sum(axis=1)).max()) / max(
        1.0, float(np.abs(parts[:, 0]).max())
    )
    return gap, gap


def _line(
    group: CategoryGroup, level: str, reason: str, before: float | None, after: float | None
) -> dict:
    return {
        "group": group.id,
        "level": level,
        "applied": not reason,
        "reason": reason,
        "gap_before": before,
        "gap_after": after,
    }
