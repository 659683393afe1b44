"""Edits that leave a file's form right and its figures wrong, as bytes to bytes.

An edit works on rows of text cells, the header first; ``csv_file``, ``answer``, ``member`` and
``sheet`` apply it to a publisher's form. Used for planted errors in the SYNTHETIC sample
(``breaks.py``) and by ``benchmarks/mutated_files.py``.

Belongs here: such edits. Does not belong here: which file gets which, or what finds them.
"""

from __future__ import annotations

import csv
import io
import json
import re
import zipfile
from collections.abc import Callable, Sequence

import fastexcel
import polars as pl

from pipeline.sample.files import workbook_bytes

Rows = list[list[str]]
RowEdit = Callable[[Rows], Rows]
Edit = Callable[[bytes], bytes]


def csv_file(edit: RowEdit, separator: str = ",") -> Edit:
    """A delimited file, quoted as it was; a byte-order mark stays."""

    def apply_to(data: bytes) -> bytes:
        mark = b"\xef\xbb\xbf" if data.startswith(b"\xef\xbb\xbf") else b""
        text = data.removeprefix(mark).decode("latin-1")
        rows = list(csv.reader(io.StringIO(text), delimiter=separator))
        out = io.StringIO()
        csv.writer(out, delimiter=separator, lineterminator="\n").writerows(edit(rows))
        return mark + out.getvalue().encode("latin-1")

    return apply_to


def answer(edit: RowEdit) -> Edit:
    """An answer of the Census API: a list of lists."""
    return lambda data: json.dumps(edit(json.loads(data))).encode()


def member(edit: RowEdit) -> Edit:
    """The first CSV of a zip archive; other members stay."""

    def apply_to(data: bytes) -> bytes:
        out, whole = io.BytesIO(), csv_file(edit)
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as new,
        ):
            target = next(
                name for name in old.namelist() if name.lower().endswith((".csv", "puma.txt"))
            )
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, whole(content) if name == target else content)
        return out.getvalue()

    return apply_to


def sheet(edit: RowEdit, name: str) -> Edit:
    """The worksheet ``name``; the others stay as text cells."""

    def apply_to(data: bytes) -> bytes:
        book = fastexcel.read_excel(data)
        sheets: dict[str, list] = {}
        for each in book.sheet_names:
            cells = pl.DataFrame(book.load_sheet(each, header_row=None, dtypes="string"))
            rows = [list(row) for row in cells.rows()]
            sheets[each] = edit(rows) if each == name else rows
        return workbook_bytes(sheets, "SYNTHETIC")

    return apply_to


# Edits of rows. ``first`` is the number of the first row of figures.


def at(rows: Rows, column: str) -> int:
    """Where a column stands, by its name in the header without a byte-order mark."""
    return [str(cell).lstrip("\ufeff").strip() for cell in rows[0]].index(column)


def changed(columns: Sequence[str], how: Callable[[str], str], first: int = 1) -> RowEdit:
    """Each cell of ``columns`` through ``how``; what is no number stays."""

    def edit(rows: Rows) -> Rows:
        places = {at(rows, column) for column in columns}
        head, body = rows[:first], rows[first:]
        return head + [
            [number(cell, how) if i in places else cell for i, cell in enumerate(row)]
            for row in body
        ]

    return edit


def number(cell: str, how: Callable[[str], str]) -> str:
    """A cell that is a number through ``how``; another as it is."""
    return how(cell) if re.fullmatch(r"-?[\d,]*\.?\d+", str(cell or "").strip()) else cell


def times(factor: float) -> Callable[[str], str]:
    """A number times ``factor``, with as many decimals as it had."""

    def made(cell: str) -> str:
        decimals = len(cell.partition(".")[2])
        return f"{float(cell.replace(',', '')) * factor:.{max(decimals, 0 if factor >= 1 else 4)}f}"

    return made


def digit_dropped(column: str, row: Callable[[list[str]], bool], first: int = 1) -> RowEdit:
    """A digit of one cell, in the first row that ``row`` fits and that has three: the last of a
    whole number, the first of one with decimals."""

    def edit(rows: Rows) -> Rows:
        place = at(rows, column)
        for number, each in enumerate(rows):
            text = str(each[place] or "") if number >= first and row(each) else ""
            if sum(map(str.isdigit, text)) >= 3 and not text.startswith("-"):
                whole = text.partition(".")[0]
                shorter = whole[:-1] if len(whole) >= 3 else text[1:]
                changed_row = [*each[:place], shorter, *each[place + 1 :]]
                return [*rows[:number], changed_row, *rows[number + 1 :]]
        raise ValueError(f"no row has three digits in {column}")

    return edit


def headers_swapped(*pairs: tuple[str, str]) -> RowEdit:
    """Names of columns exchanged, the figures left where they are."""
    names = {a: b for one, other in pairs for a, b in ((one, other), (other, one))}

    def edit(rows: Rows) -> Rows:
        for one, other in pairs:
            at(rows, one), at(rows, other)
        return [[names.get(str(cell).strip(), cell) for cell in rows[0]], *rows[1:]]

    return edit


def headers_rotated(columns: Sequence[str]) -> RowEdit:
    """Each column under the next one's name, the last under the first's."""
    names = dict(zip(columns, [*columns[1:], columns[0]], strict=True))
    return lambda rows: [[names.get(str(cell).strip(), cell) for cell in rows[0]], *rows[1:]]


def keys_exchanged(
    columns: Sequence[str], one: Callable[[list[str]], bool], other: Callable[[list[str]], bool]
) -> RowEdit:
    """The cells of ``columns`` of all rows that ``one`` fits take the value of the first that
    ``other`` fits, and the other way round."""

    def edit(rows: Rows) -> Rows:
        places = [at(rows, column) for column in columns]
        first = {
            name: next(r for r in rows[1:] if fits(r)) for name, fits in (("a", one), ("b", other))
        }

        def moved(row: list[str]) -> list[str]:
            source = first["b"] if one(row) else first["a"] if other(row) else row
            return [source[i] if i in places else cell for i, cell in enumerate(row)]

        return [rows[0], *map(moved, rows[1:])]

    return edit


def rows_shifted(
    keys: Sequence[str], rows_of: Callable[[list[str]], bool], first: int = 1
) -> RowEdit:
    """The figures of the rows that ``rows_of`` fits one row down, under keys that stay."""

    def edit(rows: Rows) -> Rows:
        kept = {at(rows, key) for key in keys}
        places = [n for n, row in enumerate(rows) if n >= first and rows_of(row)]
        out = [list(row) for row in rows]
        for here, before in zip(places, [places[-1], *places[:-1]], strict=True):
            out[here] = [
                cell if i in kept else rows[before][i] for i, cell in enumerate(rows[here])
            ]
        return out

    return edit


def rows_missing(which: Callable[[list[str]], bool], first: int = 1) -> RowEdit:
    """Without the rows that ``which`` fits."""
    return lambda rows: rows[:first] + [row for row in rows[first:] if not which(row)]


def codes_exchanged(column: str, codes: dict[str, str]) -> RowEdit:
    """Codes of a survey's column exchanged in every record."""

    def edit(rows: Rows) -> Rows:
        place = at(rows, column)
        return [
            rows[0],
            *(
                [*row[:place], codes.get(row[place].strip(), row[place]), *row[place + 1 :]]
                for row in rows[1:]
            ),
        ]

    return edit


def column_shifted(column: str) -> RowEdit:
    """One column of a survey a record down."""

    def edit(rows: Rows) -> Rows:
        place = at(rows, column)
        values = [row[place] for row in rows[1:]]
        moved = [values[-1], *values[:-1]]
        return [
            rows[0],
            *([*r[:place], v, *r[place + 1 :]] for r, v in zip(rows[1:], moved, strict=True)),
        ]

    return edit


def starts(column_at: int, text: str) -> Callable[[list[str]], bool]:
    """Rows whose cell begins so."""
    return lambda row: str(row[column_at]).strip().startswith(text)
