"""The files of a PUMA in pymedm's form: households, totals, standard errors, another's answers.

Belongs here: reading them, with every doubt named. Does not belong here: solving (``knox.py``).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from calibration_core.errors import GeocalError
from calibration_core.tree.geography import GeographyTree

LEVELS = ("PUMA", "tract", "block group")
# The PUMA's standard errors are a tenth of what its block groups' imply.
TOP_TIGHTER = 0.1


class KnoxError(GeocalError):
    """A file of the case is missing or damaged, or files do not belong together."""


@dataclass(frozen=True, eq=False)
class Case:
    """One PUMA as read. ``design`` (households, constraints); ``values`` and ``errors`` per level,
    (areas, constraints), in persons and households; ``weight`` (households,); ``expected`` and
    ``allocation`` (block groups, households) of another program, or None.
    """

    puma: str
    constraints: tuple[str, ...]
    tree: GeographyTree
    design: np.ndarray
    values: tuple[np.ndarray, ...]
    errors: tuple[np.ndarray, ...]
    weight: np.ndarray
    expected: dict | None
    allocation: np.ndarray | None


def read_puma(folder: Path, puma: str) -> Case:
    """Read one PUMA's files. Raises KnoxError naming file, column and row."""
    names, _, design = _table(folder, f"cind_{puma}.csv.gz")
    groups, columns, group_total = _table(folder, f"cg2_{puma}.csv.gz", names)
    tracts, _, tract_total = _table(folder, f"cg1_{puma}.csv.gz", columns)
    _, _, group_error = _table(folder, f"sg2_{puma}.csv.gz", columns, groups)
    _, _, tract_error = _table(folder, f"sg1_{puma}.csv.gz", columns, tracts)
    _, _, weight = _table(folder, f"wt_{puma}.csv.gz")
    if weight.shape != (design.shape[0], 1):
        raise KnoxError(
            f"{weight.shape[0]} weights in {weight.shape[1]} columns",
            where=f"wt_{puma}.csv.gz",
            expected=f"{design.shape[0]} in one column",
        )
    tree = GeographyTree.from_leaves(
        LEVELS, ([puma] * len(groups), [g[:-1] for g in groups], groups)
    )
    if set(tree.geoids[1]) != set(tracts):
        odd = sorted(set(tree.geoids[1]) ^ set(tracts))
        raise KnoxError(
            f"{len(odd)} tracts are in one file and not in the other, first {odd[0]}",
            where=f"cg1_ and cg2_{puma}.csv.gz",
            expected="the same",
        )
    for name, error, areas in (
        (f"sg1_{puma}", tract_error, tracts),
        (f"sg2_{puma}", group_error, groups),
    ):
        bad = np.argwhere(error <= 0)
        if bad.size:
            raise KnoxError(
                f"{len(bad)} standard errors are not positive",
                where=f"{name}, {areas[bad[0][0]]}, {columns[bad[0][1]]}",
                expected="above 0",
            )
    # The tree sorts its areas; files may not.
    by_group, by_tract = np.argsort(np.array(groups)), np.argsort(np.array(tracts))
    group_total, group_error = group_total[by_group], group_error[by_group]
    top = (
        group_total.sum(axis=0, keepdims=True),
        TOP_TIGHTER * np.sqrt((group_error**2).sum(axis=0, keepdims=True)),
    )
    answers = sorted(folder.glob(f"*_{puma}.json"))
    expected = (
        json.loads(answers[0].read_text(encoding="utf-8")).get("expected") if answers else None
    )
    allocation = None
    for path in sorted(folder.glob(f"*_{puma}_alloc.csv.gz"))[:1]:
        frame = _read(path)
        if set(frame.columns) != set(groups) or frame.height != design.shape[0]:
            raise KnoxError(
                f"An allocation of {frame.height} x {frame.width}",
                where=path.name,
                expected=f"{design.shape[0]} households x the block groups",
            )
        allocation = _numbers(frame.select(tree.geoids[2]), path.name).T
    values, errors = (
        (top[0], tract_total[by_tract], group_total),
        (top[1], tract_error[by_tract], group_error),
    )
    return Case(
        puma, tuple(columns), tree, design, values, errors, weight[:, 0], expected, allocation
    )


def _table(
    folder: Path, name: str, columns: Sequence[str] | None = None, rows: Sequence[str] | None = None
) -> tuple[list[str], list[str], np.ndarray]:
    """(row names, or column names where no rows are asked for first), columns, numbers of one file,
    checked against those of another.
    """
    path = folder / name
    if not path.is_file():
        raise KnoxError(
            f"There is no {name}",
            where=str(folder),
            expected="the files of one PUMA",
            remedy="Check DIR and PUMA",
        )
    frame = _read(path)
    found = frame.columns[1:]
    if columns is not None and found != list(columns):
        raise KnoxError(
            f"{len(found)} columns, or their order, differ from the other files'",
            where=name,
            expected="one order of constraints in all files",
        )
    names = frame.get_column(frame.columns[0]).to_list()
    if rows is not None and names != list(rows):
        raise KnoxError(
            "Rows, or their order, differ from those of the totals",
            where=name,
            expected="an area a row, as in cg1_ and cg2_",
        )
    numbers = _numbers(frame.select(found), name)
    return (found if name.startswith("cind_") else names), found, numbers


def _read(path: Path) -> pl.DataFrame:
    return pl.read_csv(path, infer_schema=False)


def _numbers(frame: pl.DataFrame, name: str) -> np.ndarray:
    """(rows, columns) float64; True and False count as 1 and 0."""
    truth = pl.all().replace({"True": "1", "False": "0"})
    numbers = frame.select(truth.cast(pl.Float64, strict=False)).to_numpy()
    bad = np.argwhere(~np.isfinite(numbers))
    if bad.size:
        row, column = (int(i) for i in bad[0])
        raise KnoxError(
            f"{len(bad)} entries are not numbers, first {frame[row, column]!r}",
            where=f"{name}, row {row + 1}, column {frame.columns[column]}",
        )
    return np.ascontiguousarray(numbers)
