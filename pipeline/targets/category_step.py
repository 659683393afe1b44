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

import numpy as np
import polars as pl

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.categories import Group, reconcile_categories
from calibration_core.tree.reconcile.levels import reconcile
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


def settle_categories(
    tree: GeographyTree,
    keys: Sequence[Key],
    own: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    values: list[np.ndarray],
    variances: list[np.ndarray],
    groups: Sequence[CategoryGroup],
    nonnegative: np.ndarray,
    depths: int,
) -> tuple[set[Key], pl.DataFrame]:
    """Make groups add up at the first ``depths`` levels and bring the levels below along
    (``values`` and ``variances`` in place).

    Parameters
    ----------
    own : estimates and variances as published, per level (areas, variables); the levels below
        follow these.
    values, variances : the reconciled ones, per level.

    Returns the keys of the variables that took part, and the report (REPORT_SCHEMA), one row per
    group and level.
    """
    column = {key: i for i, key in enumerate(keys)}
    moved: set[Key] = set()
    report: list[dict] = []
    for depth in range(depths):
        applied: list[tuple[CategoryGroup, Group]] = []
        for group in groups:
            reason = _why_not(group, column, variances[depth])
            if reason:
                report.append(
                    _line(group, tree.levels[depth], reason, *_gap(group, column, values[depth]))
                )
            else:
                ids = [column[m.variable, m.domain] for m in (group.parent, *group.children)]
                applied.append((group, Group(ids[0], tuple(ids[1:]))))
        if not applied:
            continue
        totals = (
            np.where(np.isfinite(variances[depth - 1]), values[depth - 1], np.nan)
            if depth
            else None
        )
        result = reconcile_categories(
            values[depth],
            variances[depth],
            [g for _, g in applied],
            nonnegative=nonnegative,
            parent_area=tree.parents[depth] if depth else None,
            totals=totals,
        )
        values[depth] = result.values
        for (group, _), before, after in zip(
            applied, result.gap_before, result.gap_after, strict=True
        ):
            report.append(_line(group, tree.levels[depth], "", float(before), float(after)))
        columns = sorted({i for _, g in applied for i in (g.parent, *g.children)})
        moved.update(keys[i] for i in columns)
        _follow(tree, own, values, variances, nonnegative, columns, depth)
    return moved, pl.DataFrame(report, schema=REPORT_SCHEMA)


def _follow(
    tree: GeographyTree,
    own: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    values: list[np.ndarray],
    variances: list[np.ndarray],
    nonnegative: np.ndarray,
    columns: list[int],
    depth: int,
) -> None:
    """Levels below ``depth`` again, from their own estimates, with ``depth`` held."""
    below = GeographyTree(
        tree.levels[depth:],
        tree.geoids[depth:],
        (np.empty(0, dtype=np.int64), *tree.parents[depth + 1 :]),
    )
    known = np.isfinite(variances[depth][:, columns])
    top = np.where(known, values[depth][:, columns], 0.0)
    y = [top, *(a[:, columns] for a in own[0][depth + 1 :])]
    v = [
        np.where(known, (_EXACT * np.abs(top) + 1e-12) ** 2, np.inf),
        *(a[:, columns] for a in own[1][depth + 1 :]),
    ]
    again = reconcile(below, y, v, nonnegative=nonnegative[columns])
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
