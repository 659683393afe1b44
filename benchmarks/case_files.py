"""Files of known answers: ``NAME.json`` beside ``NAME.csv`` or ``NAME.csv.gz``, read into arrays
with every doubt named.

The JSON holds:

* ``columns.weight``: base weight d. Absent or null: no base weights.
* ``columns.expected``: the answer. Absent or null: there is none to compare with.
* ``columns.constraints``: one column per constraint. Absent: the keys of "targets".
* ``columns.geography``: optional. "targets" then holds one table per area, and every area is a
  problem of its own.
* ``columns.q``: optional scale per record.
* ``targets``: a table by constraint, or a list in their order.
* ``bounds``: null, [low, high], {"lower": .., "upper": ..}. An end may be null, a number or the
  name of a column. They hold w/d; or w for "trim" and with "bounds_on": "weight". For
  "relaxed_entropy" expansion factors are allowed too, see ``CaseTable._expansion``.
* ``importance``: for "relaxed_entropy", a number, a table by constraint or a list.

Belongs here: the JSON, checking it, Case. Does not belong here: the table beside it
(``case_table.py``), solving (``case_problems.py``), comparing (``known_answers.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.case_table import CaseError, CaseTable, expansion_factors, number_of

DISTANCES = (
    "linear",
    "truncated_linear",
    "logit",
    "raking",
    "raking_bounded",
    "ipf",
    "entropy",
    "trim",
    "relaxed_entropy",
)
_DEFAULT_RTOL = 1e-6
# A relaxed problem ends where its sweeps stop, so two programs agree less closely than on an exact
# one.
_DEFAULT_RTOL_RELAXED = 1e-5


@dataclass(frozen=True, eq=False)
class Part:
    """One problem of a case: matrix (constraints, records), targets, initial weights (zeros where
    there are none), expected or None, q or None, bounds (records,) with infinite ends or None, and
    the rows of the file it came from.
    """

    label: str
    matrix: np.ndarray
    targets: np.ndarray
    initial: np.ndarray
    expected: np.ndarray | None
    q: np.ndarray | None
    low: np.ndarray | None
    high: np.ndarray | None
    rows: np.ndarray


@dataclass(frozen=True, eq=False)
class Case:
    """One file. ``content`` is the JSON as it is."""

    name: str
    path: Path
    content: dict
    distance: str
    constraints: tuple[str, ...]
    parts: tuple[Part, ...]
    areas: bool
    importance: np.ndarray | None
    master: int | None
    bounds_on_weights: bool
    rtol: float
    rtol_given: bool

    @property
    def method(self) -> str:
        return str(self.content.get("method", ""))

    @property
    def has_expected(self) -> bool:
        return self.parts[0].expected is not None

    @property
    def unheld(self) -> tuple[str, ...]:
        """Constraints that the producing run did not hold, by its own report: a row that was empty
        there is off by exactly 100 % everywhere.

        PopulationSim runs on with a control whose incidence is all zero. Its answer is then the
        answer without that control, even where the table here has the column filled.
        """
        reports = self.content.get("populationsim")
        if (
            not isinstance(reports, list)
            or not reports
            or not all(isinstance(r, dict) for r in reports)
        ):
            return ()
        empty = {r.get("worst") if r.get("max_rel") == 1.0 else None for r in reports}
        return tuple(name for name in empty if name in self.constraints) if len(empty) == 1 else ()

    @property
    def feasible(self) -> bool | None:
        """What the file says about whether its targets can be met; None if it says nothing."""
        if isinstance(self.content.get("infeasible"), bool):
            return not self.content["infeasible"]
        given = (self.content.get(key) for key in ("feasible", "expected_converged", "converged"))
        return next((value for value in given if isinstance(value, bool)), None)

    @property
    def size_text(self) -> str:
        records = sum(p.initial.size for p in self.parts)
        return f"{records:,} x {len(self.constraints)}" + (
            f", {len(self.parts)} areas" if self.areas else ""
        )


def case_paths(folder: Path, only: list[str] | None = None) -> list[Path]:
    """The JSON files of a folder that hold a "distance", or that cannot be read well enough to
    know. Raises CaseError if there is none.
    """
    if not folder.is_dir():
        raise CaseError(
            f"There is no folder {folder}",
            remedy="Name the folder that holds NAME.json and NAME.csv",
        )
    paths = [
        p for p in sorted(folder.glob("*.json")) if _may_be_case(p) and (not only or p.stem in only)
    ]
    missing = sorted(set(only or ()) - {p.stem for p in paths})
    if missing or not paths:
        found = (
            f"There is no case {', '.join(missing)} in {folder}"
            if missing
            else f"No file in {folder} is a case"
        )
        raise CaseError(found, expected='NAME.json with a "distance", beside NAME.csv')
    return paths


def _may_be_case(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True
    return isinstance(content, dict) and "distance" in content


def read_case(path: Path) -> Case:
    """Read one case. Raises CaseError naming the file, the column and the remedy."""
    content = _json(path)
    distance = content.get("distance")
    if distance not in DISTANCES:
        raise CaseError(
            f'"distance" is {distance!r}',
            where=str(path),
            expected=f"one of {', '.join(DISTANCES)}",
        )
    columns = content.get("columns") or {}
    geography = columns.get("geography")
    targets = content.get("targets")
    if not isinstance(targets, dict | list) or not targets:
        raise CaseError(
            f'"targets" is {type(targets).__name__}',
            where=str(path),
            expected="a table by constraint, or a list in their order",
        )
    if geography is not None and not isinstance(targets, dict):
        raise CaseError(
            '"columns.geography" is given, but "targets" is a list',
            where=str(path),
            expected="targets by area",
        )
    first = next(iter(targets.values())) if geography is not None else targets
    constraints = tuple(columns.get("constraints") or (first if isinstance(first, dict) else ()))
    if not constraints:
        raise CaseError(
            '"columns.constraints" is missing',
            where=str(path),
            expected="the names of the constraint columns",
        )
    table = CaseTable(path, content, geography)
    every = np.arange(table.frame.height)
    parts = []
    areas = table.areas(geography, targets) if geography is not None else [("", every, targets)]
    matrix = np.stack([table.column(name) for name in constraints])
    initial = table.column(columns["weight"]) if columns.get("weight") else np.zeros(every.size)
    expected = (
        table.column(columns["expected"])
        if columns.get("expected") and not table.is_empty(columns["expected"])
        else None
    )
    q = table.column(columns["q"]) if columns.get("q") else None
    on_weights = (
        distance == "trim"
        or expansion_factors(content.get("bounds"))
        or str(content.get("bounds_on", "")).lower() in ("weight", "weights", "w")
    )
    master = _master(content, constraints, matrix, path) if distance == "relaxed_entropy" else None
    for label, rows, area_targets in areas:
        goal = _targets(area_targets, constraints, path, label)
        low, high = table.bounds(
            content.get("bounds"), rows, initial[rows], None if master is None else goal[master]
        )

        def pick(a, rows=rows):
            return None if a is None else a[rows]

        parts.append(
            Part(
                label,
                matrix[:, rows],
                goal,
                initial[rows],
                pick(expected),
                pick(q),
                low,
                high,
                rows,
            )
        )
    given = content.get("compare_rtol")
    default = _DEFAULT_RTOL_RELAXED if distance == "relaxed_entropy" else _DEFAULT_RTOL
    rtol = default if given is None else number_of(given, '"compare_rtol"', path)
    importance = _importance(content.get("importance"), constraints, path)
    name = str(content.get("name") or path.stem)
    return Case(
        name,
        path,
        content,
        distance,
        constraints,
        tuple(parts),
        geography is not None,
        importance,
        master,
        on_weights,
        rtol,
        given is not None,
    )


def _json(path: Path) -> dict:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaseError(
            f"The file cannot be read: {error}",
            where=str(path),
            remedy="Check that it exists and may be read",
        ) from error
    except ValueError as error:
        raise CaseError(
            f"The file is not JSON: {error}",
            where=str(path),
            remedy="Correct the place named, or take the file out of the folder",
        ) from error
    if not isinstance(content, dict):
        raise CaseError(
            f"The file holds a {type(content).__name__}",
            where=str(path),
            expected="an object with distance, targets and columns",
        )
    return content


def _targets(targets, constraints: tuple[str, ...], path: Path, label: str) -> np.ndarray:
    where = f"{path}" + (f", area {label!r}" if label else "")
    if isinstance(targets, dict):
        missing = [c for c in constraints if c not in targets]
        if missing:
            raise CaseError(
                f'"targets" has no {missing[0]!r}',
                where=where,
                expected=f"one of {len(constraints)}",
                remedy="Add it, or drop the constraint",
            )
        values = [targets[c] for c in constraints]
    else:
        values = list(targets)
        if len(values) != len(constraints):
            raise CaseError(
                f"{len(values)} targets for {len(constraints)} constraints",
                where=where,
                expected="one per constraint, in their order",
            )
    return np.array(
        [
            number_of(v, f"The target of {c!r}", path)
            for c, v in zip(constraints, values, strict=True)
        ]
    )


def _importance(value, constraints: tuple[str, ...], path: Path) -> np.ndarray | None:
    if value is None:
        return None
    if isinstance(value, int | float):
        return np.full(len(constraints), float(value))
    return (
        _targets(value, constraints, path, "importance") if isinstance(value, dict | list) else None
    )


def _master(
    content: dict, constraints: tuple[str, ...], matrix: np.ndarray, path: Path
) -> int | None:
    """The constraint that expansion factors are relative to: the one named, else one that counts
    every record once, else the most important.
    """
    named = content.get("total_hh_control") or content.get("master")
    if named is not None:
        if named not in constraints:
            raise CaseError(
                f"The total is named {named!r}, which is no constraint",
                where=str(path),
                expected=f"one of {', '.join(constraints)}",
            )
        return constraints.index(named)
    ones = np.flatnonzero((matrix == 1.0).all(axis=1))
    if ones.size:
        return int(ones[0])
    importance = _importance(content.get("importance"), constraints, path)
    return None if importance is None else int(importance.argmax())
