"""Edits of a publisher's file as bytes: cut, renamed, repeated, swapped.

Used by ``tests/pipeline/faults.py``. Nothing here knows how the pipeline reads a file.
"""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Callable

import fastexcel
import polars as pl

from pipeline.sample.files import workbook_bytes

Rows = list[list[str]]
Edit = Callable[[bytes], "bytes | None"]

HTML = (
    b"<!DOCTYPE html>\n<html><head><title>403 Forbidden</title></head><body>Request"
    b" Rejected</body></html>\n"
)


def gone(_: bytes) -> None:
    return None


def html(_: bytes) -> bytes:
    return HTML


def cut(data: bytes) -> bytes:
    return data[: len(data) * 3 // 5]


def table(edit: Callable[[Rows], Rows]) -> Edit:
    """An edit of a CSV as rows of cells."""

    def apply_to(data: bytes) -> bytes:
        rows = list(csv.reader(io.StringIO(data.decode("latin-1"))))
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(edit(rows))
        return text.getvalue().encode("latin-1")

    return apply_to


def answer(edit: Callable[[Rows], Rows]) -> Edit:
    """An edit of the Census API's list of lists."""
    return lambda data: json.dumps(edit(json.loads(data))).encode()


def member(edit: Edit) -> Edit:
    """An edit of the first CSV or text table in a zip; the other members stay."""

    def apply_to(data: bytes) -> bytes:
        out = io.BytesIO()
        with (
            zipfile.ZipFile(io.BytesIO(data)) as old,
            zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as new,
        ):
            target = next(name for name in old.namelist() if name.endswith((".csv", "_PUMA.txt")))
            for name in old.namelist():
                content = old.read(name)
                new.writestr(name, edit(content) if name == target else content)
        return out.getvalue()

    return apply_to


def sheets(edit: Callable[[dict[str, list[list[str | None]]]], None]) -> Edit:
    """An edit of a workbook as text cells by sheet."""

    def apply_to(data: bytes) -> bytes:
        book = fastexcel.read_excel(data)
        sheets = {
            name: [
                list(row)
                for row in pl.DataFrame(
                    book.load_sheet(name, header_row=None, dtypes="string")
                ).rows()
            ]
            for name in book.sheet_names
        }
        edit(sheets)
        return workbook_bytes(sheets, "SYNTHETIC")

    return apply_to


# Edits of rows


def without(column: str) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        at = rows[0].index(column)
        return [row[:at] + row[at + 1 :] for row in rows]

    return edit


def renamed(column: str, name: str) -> Callable[[Rows], Rows]:
    return lambda rows: [[name if cell == column else cell for cell in rows[0]], *rows[1:]]


def cell(column: str, row: int, value: str) -> Callable[[Rows], Rows]:
    """``row`` is 1-based as an editor counts, the header being 1."""

    def edit(rows: Rows) -> Rows:
        rows[row - 1][rows[0].index(column)] = value
        return rows

    return edit


def cells(*changes: tuple[str, int, str]) -> Callable[[Rows], Rows]:
    def edit(rows: Rows) -> Rows:
        for column, row, value in changes:
            rows = cell(column, row, value)(rows)
        return rows

    return edit


def repeated(row: int) -> Callable[[Rows], Rows]:
    return lambda rows: [*rows, list(rows[row - 1])]


def area(rows: Rows, start: str, code: Callable[[list[str]], str]) -> int:
    return next(i for i, row in enumerate(rows) if i and code(row).startswith(start))


def first_tract(change: Callable[[Rows, int], Rows]) -> Callable[[Rows], Rows]:
    """An edit at the first Rhode Island tract of a tract list or a tract table."""

    def edit(rows: Rows) -> Rows:
        if rows[0][0].endswith("STATEFP"):
            return change(rows, area(rows, "44", lambda row: row[0]))
        return change(rows, area(rows, "1400000US44", lambda row: row[0]))

    return edit


def listed_in_new_county(rows: Rows, at: int) -> Rows:
    """Move a tract of the list into county 44099, which no table has."""
    return [*rows, [rows[at][0], "099", "010100", rows[at][3]]]


def unlisted(rows: Rows, at: int) -> Rows:
    return rows[:at] + rows[at + 1 :]


def older_pep(rows: Rows) -> Rows:
    """The file of vintage 2019: its columns are of 2010 to 2019."""
    return [
        [
            cell.replace("BASE2020", "BASE2010")
            .replace("2024", "2019")
            .replace("2023", "2018")
            .replace("2020", "2015")
            for cell in rows[0]
        ],
        *rows[1:],
    ]


def swapped(one: str, other: str) -> Callable[[Rows], Rows]:
    names = {one: other, other: one}
    return lambda rows: [[names.get(cell, cell) for cell in rows[0]], *rows[1:]]


def aged(rows: Rows) -> Rows:
    """Serial numbers of an earlier year."""
    at = rows[0].index("SERIALNO")
    return [rows[0], *([*row[:at], "2016" + row[at][4:], *row[at + 1 :]] for row in rows[1:])]


def suppressed_sheet(sheets: dict[str, list[list[str | None]]]) -> None:
    name = next((n for n in sheets if "Rhode Island" in n), list(sheets)[-1])
    row = next(r for r in sheets[name] if any(str(cell or "").startswith("4400") for cell in r))
    row[3] = "(X)"


def nobody(rows: Rows) -> Rows:
    return rows[:1]
