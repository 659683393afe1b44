"""One publication out of those of several made-up states.

Each state is made by itself and publishes every national file as if it were the nation
(``DIR/parts/<STATE>``). Here these become one file: rows of states, counties and tracts stand one
after another, rows of the nation are added up. So a state's figures do not depend on which others
are made, and states can be added.

Belongs here: joining files by their form. Does not belong here: the figures of one state
(``generate_state.py``, ``pipeline/sample``).
"""

from __future__ import annotations

import csv
import io
import json
import math
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.sample.acs_numbers import CONTROLLED
from pipeline.sample.files import Cell, Folder, workbook_bytes

Rows = list[list[str]]
_NATION = "0100000US"
# GEO_IDs of a table-based file by level, in the published order.
_LEVELS = (_NATION, "0400000US", "0500000US", "1400000US")

# Columns that split the first one, by the number of columns: SSI by category and by age (recipients
# have a seventh column), OASDI by type of benefit.
_SPLITS = {6: ((1, 3), (3, 6)), 7: ((1, 3), (3, 6)), 11: ((1, 9),)}


@dataclass(frozen=True)
class Part:
    """One state's publications: the folder they lie in."""

    postal: str
    folder: Path

    def text(self, path: str) -> str:
        return (self.folder / path).read_bytes().decode("latin-1")

    def rows(self, path: str) -> Rows:
        return list(csv.reader(io.StringIO(self.text(path))))


def merge_parts(out: Folder, parts: Sequence[Part]) -> None:
    """Write every national file of ``parts``, which are in the order of FIPS codes, into ``out``.

    Raises OSError where a part lacks a file that the first one has.
    """
    root = parts[0].folder
    for file in sorted(p for p in root.rglob("*") if p.is_file()):
        path = file.relative_to(root).as_posix()
        kind = next((merge for mark, merge in _KINDS if mark in path), None)
        if kind is not None:
            kind(out, path, parts)


def _lines(heads: int) -> Callable[[Folder, str, Sequence[Part]], None]:
    """Lines after ``heads`` lines of names."""

    def merge(out: Folder, path: str, parts: Sequence[Part]) -> None:
        texts = [part.text(path).splitlines(keepends=True) for part in parts]
        joined = [*texts[0][:heads], *(line for text in texts for line in text[heads:])]
        out.text(path, "".join(joined), "latin-1")

    return merge


def _archive(out: Folder, path: str, parts: Sequence[Part]) -> None:
    """Members that are tables with one line of names; others as the first part has them."""
    texts: dict[str, list[list[bytes]]] = {}
    for part in parts:
        with zipfile.ZipFile(part.folder / path) as archive:
            for name in archive.namelist():
                texts.setdefault(name, []).append(archive.read(name).splitlines(keepends=True))
    members = {
        name: b"".join([*each[0][:1], *(line for text in each for line in text[1:])])
        if "README" not in name
        else b"".join(each[0])
        for name, each in texts.items()
    }
    out.archive(path, members)


def _table_based(out: Folder, path: str, parts: Sequence[Part]) -> None:
    """Pipe separated: nation, then the states', counties' and tracts' lines."""
    texts = [part.text(path).splitlines() for part in parts]
    head = texts[0][0].split("|")
    nations = [dict(zip(head, text[1].split("|"), strict=True)) for text in texts]
    made = ["|".join(head), "|".join(_added(head, nations, [1.0] * len(parts)))]
    for level in _LEVELS[1:]:
        made += [line for text in texts for line in text if line.startswith(level)]
    out.text(path, "\n".join(made) + "\n")


def _group(out: Folder, path: str, parts: Sequence[Part]) -> None:
    """An API group of the nation. Medians, means and percentages are averages of the states',
    weighted by their households or families, since no state publishes what would give them exactly.
    """
    tables = [part.rows(path) for part in parts]
    head = tables[0][0]
    nations = [dict(zip(head, rows[1], strict=True)) for rows in tables]
    if "B19013" in path:
        weights = [_households(part, path) for part in parts]
        made = _added(head, nations, weights, averaged=lambda _: "B19013")
    elif "S1901" in path:
        made = _added(head, nations, [1.0] * len(parts), averaged=_of_group)
    else:
        made = _added(head, nations, [1.0] * len(parts))
    out.text(path, ",".join(head) + "\n" + ",".join(made) + "\n")


def _of_group(name: str) -> str | None:
    """The column of S1901 that ``name`` is a share or average of: rows after the first."""
    group, row = name[:9], name[10:13]
    return f"{group}_001E" if row != "001" else None


def _households(part: Part, path: str) -> float:
    head, row = part.rows(path.replace("B19013", "B19001"))[:2]
    return float(dict(zip(head, row, strict=True))["B19001_001E"])


def _added(
    head: Sequence[str],
    rows: Sequence[dict[str, str]],
    weights: Sequence[float],
    averaged: Callable[[str], str | None] = lambda _: None,
) -> list[str]:
    """One row of the whole. Margins add up as roots of sums of squares. A column of which
    ``averaged`` names another is an average, weighted by that column (or, where there is none such,
    by ``weights``). Cells without a number stay as the first row has them.
    """
    made = []
    for name in head:
        cells = [row[name] for row in rows]
        if not (name[:-1].replace("_", "")[1:].isalnum() and name[-1] in "EM") or name == "NAME":
            made.append(cells[0])
            continue
        numbers = [_number(cell) for cell in cells]
        if any(number is None for number in numbers):
            made.append(cells[0])
            continue
        values = [number for number in numbers if number is not None]
        base, decimals = averaged(name), len(cells[0].partition(".")[2])
        if base is not None:
            share = [float(row.get(base, w)) for row, w in zip(rows, weights, strict=True)]
            values = [v * s / sum(share) for v, s in zip(values, share, strict=True)]
        whole = sum(values) if name.endswith("E") else math.hypot(*values)
        made.append(f"{whole:.{decimals}f}")
    return made


def _number(cell: str) -> float | None:
    """None for marks and codes, among them ``controlled`` (-555555555)."""
    try:
        value = float(cell)
    except ValueError:
        return None
    return None if value <= float(CONTROLLED) / 5 else value


def _historic_table_2(out: Folder, path: str, parts: Sequence[Part]) -> None:
    """US first, the states by postal code, other areas last; US and other areas are added up."""
    tables = [part.rows(path) for part in parts]
    head = tables[0][0]

    def of(area: str) -> Rows:
        found = [[row for row in rows[1:] if row[0] == area] for rows in tables]
        numbers = [[[_plain(cell) for cell in row[2:]] for row in each] for each in found]
        added = [
            [sum(cells) for cells in zip(*same, strict=True)] for same in zip(*numbers, strict=True)
        ]
        heads = [row[:2] for row in found[0]]
        return [
            [*names, *map(_separated, cells)] for names, cells in zip(heads, added, strict=True)
        ]

    own = sorted(row for rows in tables for row in _states(rows))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([head, *of("US"), *(row for _, _, row in own), *of("OA")])
    out.text(path, text.getvalue())


def _states(rows: Rows) -> list[tuple[str, int, list[str]]]:
    return [(row[0], int(row[1]), row) for row in rows[1:] if row[0] not in ("US", "OA")]


def _plain(cell: str) -> int:
    return int(cell.replace(",", ""))


def _separated(value: int) -> str:
    return f"{value:,}"


def _sheets(out: Folder, path: str, parts: Sequence[Part]) -> None:
    """Sheets of an SSA workbook, kept as JSON: the rows of states in one sheet, "All areas" added
    up, and each state's own sheets.
    """
    contents = [json.loads((part.folder / path).read_text(encoding="utf-8")) for part in parts]
    books = [content["sheets"] for content in contents]
    made: dict[str, list[list[Cell]]] = {}
    for name in (name for name in books[0] if " - " not in name):
        made[name] = _one_sheet([book[name] for book in books])
    kinds = list(dict.fromkeys(n.split(" - ")[0] for n in books[0] if " - " in n))
    for kind in kinds:
        own = {n: rows for book in books for n, rows in book.items() if n.startswith(f"{kind} - ")}
        made |= dict(sorted(own.items()))
    out.write(path.replace(".json", ".xlsx"), workbook_bytes(made, contents[0]["title"]))


def _one_sheet(sheets: Sequence[list[list[Cell]]]) -> list[list[Cell]]:
    """Three rows of titles, "All areas" where there is such a row, the states by name, notes."""
    whole = bool(sheets[0][3][2:3] == ["All areas"])
    first = 4 if whole else 3
    states = sorted((sheet[first] for sheet in sheets), key=lambda row: str(row[0]))
    head = list(sheets[0][:3])
    if whole:
        columns = zip(*(sheet[3][3:] for sheet in sheets), strict=True)
        figures = [sum(map(_counted, column)) for column in columns]
        head.append([*sheets[0][3][:3], *_adding_up(figures)])
    return [*head, *states, *sheets[0][first + 1 :]]


def _adding_up(figures: list[float]) -> list[float]:
    """Figures of "All areas" whose classes add up to the first: what states' rounding leaves goes
    to the largest class.
    """
    made = list(figures)
    for first, last in _SPLITS[len(figures)]:
        largest = max(range(first, last), key=lambda i: made[i])
        made[largest] += made[0] - sum(made[first:last])
    return made


def _counted(cell: Cell) -> float:
    return cell if isinstance(cell, int | float) else 0


_KINDS: tuple[tuple[str, Callable[[Folder, str, Sequence[Part]], None]], ...] = (
    ("/us/", _group),
    ("/bystate/", _lines(1)),
    ("/table_based/", _table_based),
    ("S1901-Data.csv", _lines(2)),
    ("in55cmcsv.csv", _historic_table_2),
    ("incyallnoagi.csv", _lines(1)),
    ("pep/", _lines(1)),
    ("geo/", _archive),
    ("cps/", _archive),
    ("ssa/", _sheets),
)
"""How files are joined, by a part of their path; the first that fits counts."""
