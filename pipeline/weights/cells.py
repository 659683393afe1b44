"""Cells of one state's records: the cross product of declared classes, thin cells collapsed in the
declared order.

A thin cell takes the next step of ``collapse_order`` (one class one level coarser) together with
all cells its coarser label covers, and again until it is thick enough or the order ends. Labels
after more steps cover those after fewer, so cells stay disjoint, and the result depends on how many
records carry each label, never on the order of records. Cells that are thick keep all their classes
unless a thin cell's coarser label covers them.

Belongs here: cells, what was collapsed, which categories hold which cells. Does not belong here:
how many records a cell gets (``calibration_core/sampling/rounding.py``) or the classes themselves
(``data_specs/cross_categories``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.errors import RecordsError
from pipeline.specs.cross_categories import CategoryClass, CrossCategories

Code = tuple[int, ...]
COLLAPSED_SCHEMA = {
    "step": pl.Int64,
    "gave_up": pl.String,
    "from": pl.String,
    "to": pl.String,
    "records": pl.Int64,
    "design_weight": pl.Float64,
}


@dataclass(frozen=True)
class ClassCategories:
    """Categories of one class and its coarser values: ``labels`` (categories,), ``members``
    (categories, cells) bool, nested.

    A cell is a member where all its values of the class lie in the category; one collapsed beyond
    it is in a coarser category only.
    """

    name: str
    labels: tuple[str, ...]
    members: np.ndarray


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of the records.

    Attributes
    ----------
    cell : (units,) int64 in 0..cells-1, numbered in the order of the classes' values.
    table : cell, label, records, design_weight (households), thin, then the value of every class
        by name: of its finest version that all the cell's records share.
    collapsed : a row for every cell that was joined to others: step (from 1), the class that step
        gave up, label before and after, its own records and design weight.
    before : number of cells before.
    categories : of each class, in their declared order: those that rounding can hold.
    """

    cell: np.ndarray
    table: pl.DataFrame
    collapsed: pl.DataFrame
    before: int
    categories: tuple[ClassCategories, ...]

    @property
    def labels(self) -> tuple[str, ...]:
        """Label of each cell."""
        return tuple(self.table["label"])

    @property
    def notes(self) -> tuple[str, ...]:
        """Counted facts: how many cells were collapsed, and which are still thin after the last
        step.
        """
        joined = (
            self.collapsed.filter(pl.col("step") == self.collapsed["step"].min())
            if self.collapsed.height
            else self.collapsed
        )
        first = f"; first {joined['from'][0]} -> {joined['to'][0]}" if joined.height else ""
        notes = [
            f"{self.before} cross-category cells before collapsing, {self.table.height} after:"
            f" {self.collapsed.height} were joined to others{first}"
        ]
        thin = self.table.filter("thin")
        if thin.height:
            named = ", ".join(
                f"{row['label']} ({row['records']} records)"
                for row in thin.head(8).iter_rows(named=True)
            )
            notes.append(
                f"{thin.height} cells are still thin after the last step of the collapse order:"
                f" {named}{' ...' if thin.height > 8 else ''}"
            )
        return tuple(notes)


def build_cells(households: pl.DataFrame, cross: CrossCategories) -> Cells:
    """Cells of ``households`` (one row per unit, with the columns the classes' SQL reads, and
    ``design_weight``).

    Raises RecordsError if a class gives a unit no value, or one that is not declared.
    """
    codes = list(zip(*(_values(households, c) for c in cross.classes), strict=True))
    weights: dict[Code, list[float]] = {}
    for code, weight in zip(codes, households["design_weight"].to_list(), strict=True):
        weights.setdefault(code, []).append(float(weight or 0.0))
    position = [{value: i for i, value in enumerate(c.values)} for c in cross.classes]
    fine = sorted(
        weights, key=lambda code: tuple(p[v] for p, v in zip(position, code, strict=True))
    )
    # Exact sums: whether a cell is thin must not depend on the order of its records.
    size = {code: (len(weights[code]), math.fsum(weights[code])) for code in fine}
    home, collapsed = _collapse(fine, size, cross)
    members: dict[tuple[str, ...], list[Code]] = {}
    for code in fine:
        members.setdefault(home[code], []).append(code)
    table = _table(list(members.values()), size, cross)
    number = {code: i for i, group in enumerate(members.values()) for code in group}
    cell = np.array([number[code] for code in codes], dtype=np.int64)
    return Cells(cell, table, collapsed, len(fine), categories_of(table, cross))


def categories_of(table: pl.DataFrame, cross: CrossCategories) -> tuple[ClassCategories, ...]:
    """Categories of a stored ``Cells.table``: of every class, those that some but not all cells are
    in, the finest first.
    """
    found = []
    for c in cross.classes:
        held = _values_held(table, c)
        labels, rows, seen = [], [], set()
        for level in range(c.levels - 1):
            for label, group in c.groups(level).items():
                row = tuple(values <= group for values in held)
                if any(row) and not all(row) and row not in seen:
                    seen.add(row)
                    labels.append(label)
                    rows.append(row)
        found.append(
            ClassCategories(
                c.name, tuple(labels), np.array(rows, dtype=bool).reshape(len(rows), table.height)
            )
        )
    return tuple(found)


def affinity_of(table: pl.DataFrame, cross: CrossCategories) -> np.ndarray:
    """(cells, cells) float64: number of leading classes two cells agree in, then, behind the point,
    of all classes.

    They agree in a class where one's values are among the other's.
    """
    agree = []
    for c in cross.classes:
        held = _values_held(table, c)
        agree.append([[a <= b or b <= a for b in held] for a in held])
    same = np.array(agree, dtype=bool).reshape(len(cross.classes), table.height, table.height)
    return np.logical_and.accumulate(same, axis=0).sum(axis=0) + same.sum(axis=0) / (
        len(cross.classes) + 1.0
    )


def _values_held(table: pl.DataFrame, c: CategoryClass) -> list[frozenset[int]]:
    groups = {label: group for level in range(c.levels) for label, group in c.groups(level).items()}
    return [groups[label] for label in table[c.name]]


def _values(households: pl.DataFrame, c: CategoryClass) -> list[int]:
    values = households.select(pl.sql_expr(c.value).cast(pl.Int64).alias("value"))["value"]
    wrong = values.is_null() | ~values.is_in(list(c.values))
    if wrong.any():
        first = values.filter(wrong)[0]
        raise RecordsError(
            f"Class {c.name} gives {int(wrong.sum()):,} units"
            f" {'no value' if first is None else f'the value {first}'}",
            where=(
                f"household {households['household_id'].filter(wrong)[0]}"
                if "household_id" in households.columns
                else c.value
            ),
            expected=f"one of {', '.join(map(str, c.values))}",
            remedy="Mend the class's value, or declare the value, in data_specs/cross_categories",
        )
    return values.to_list()


def _collapse(
    fine: list[Code], size: dict[Code, tuple[int, float]], cross: CrossCategories
) -> tuple[dict[Code, tuple[str, ...]], pl.DataFrame]:
    """The label of each finest cell after collapsing, and the table of what was joined."""
    rank = {code: i for i, code in enumerate(fine)}
    home = {code: _label(code, 0, cross) for code in fine}
    rows = []
    for step in range(1, len(cross.collapse_order) + 1):
        groups = _grouped(home)
        thin = [members for members in groups.values() if _is_thin(members, size, cross)]
        if not thin:
            break
        goal = {code: _label(code, step, cross) for code in fine}
        covered = {goal[members[0]] for members in thin}
        parts: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
        for label, members in groups.items():
            if goal[members[0]] in covered:
                parts.setdefault(goal[members[0]], []).append(label)
        for target, labels in parts.items():
            joined = sorted(
                (code for label in labels for code in groups[label]), key=rank.__getitem__
            )
            if len(labels) > 1:
                to = _text(_shared(joined, cross), cross)
                for label in labels:
                    records, weight = _size(groups[label], size)
                    rows.append(
                        (
                            step,
                            cross.collapse_order[step - 1],
                            _text(_shared(groups[label], cross), cross),
                            to,
                            records,
                            weight,
                        )
                    )
            for code in joined:
                home[code] = target
    return home, pl.DataFrame(rows, schema=COLLAPSED_SCHEMA, orient="row")


def _grouped(home: dict[Code, tuple[str, ...]]) -> dict[tuple[str, ...], list[Code]]:
    groups: dict[tuple[str, ...], list[Code]] = {}
    for code, label in home.items():
        groups.setdefault(label, []).append(code)
    return groups


def _size(members: list[Code], size: dict[Code, tuple[int, float]]) -> tuple[int, float]:
    return sum(size[code][0] for code in members), math.fsum(size[code][1] for code in members)


def _is_thin(
    members: list[Code], size: dict[Code, tuple[int, float]], cross: CrossCategories
) -> bool:
    records, weight = _size(members, size)
    return records < cross.fewest_records or weight < cross.fewest_weight


def _label(code: Code, step: int, cross: CrossCategories) -> tuple[str, ...]:
    """Label of a finest cell when every class is as coarse as after ``step``."""
    return tuple(
        _group(c, level, value)
        for c, level, value in zip(cross.classes, cross.levels_at(step), code, strict=True)
    )


def _group(c: CategoryClass, level: int, value: int) -> str:
    return next(label for label, members in c.groups(level).items() if value in members)


def _shared(members: list[Code], cross: CrossCategories) -> tuple[str, ...]:
    """Of each class, the finest group that holds the values of all members."""
    found = []
    for i, c in enumerate(cross.classes):
        values = {code[i] for code in members}
        found.append(
            next(
                label
                for level in range(c.levels)
                for label, group in c.groups(level).items()
                if values <= group
            )
        )
    return tuple(found)


def _text(labels: tuple[str, ...], cross: CrossCategories) -> str:
    return ", ".join(
        f"{label} {c.name}" if label == "any" else label
        for label, c in zip(labels, cross.classes, strict=True)
    )


def _table(
    groups: list[list[Code]], size: dict[Code, tuple[int, float]], cross: CrossCategories
) -> pl.DataFrame:
    rows = []
    for number, members in enumerate(groups):
        labels = _shared(members, cross)
        rows.append(
            (
                number,
                _text(labels, cross),
                *_size(members, size),
                _is_thin(members, size, cross),
                *labels,
            )
        )
    schema = {
        "cell": pl.Int64,
        "label": pl.String,
        "records": pl.Int64,
        "design_weight": pl.Float64,
        "thin": pl.Boolean,
    }
    return pl.DataFrame(
        rows, schema=schema | {c.name: pl.String for c in cross.classes}, orient="row"
    )
