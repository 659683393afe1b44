"""Which columns of a worksheet hold which measure, and whether its figures agree with themselves.

Belongs here: titles, headings and sums of a sheet against its spec. Does not belong here: which row
is which area (``readers/ssa.py``), or suppression marks and units (``cells.py``).
"""

from __future__ import annotations

import re

import polars as pl

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.base import SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.sources.tables.text import ROW, SHEET, column_letter
from pipeline.specs.layouts import SheetSpec

# Carriers of SSA workbooks were seen to put two columns (ANSI code, year) before the figures.
_MOST_INSERTED = 3
# Classes are rounded apart from their total: at most one unit per class. The payments of "All
# areas" add rounded state figures and were 10 of 3,366,952 off (SSI, December 2005).
_ROUNDED_SHARE = 1e-5


def row_text(rows: pl.DataFrame) -> str:
    """All text of ``rows``, cell after cell, separated by single spaces."""
    columns = (column.to_list() for column in rows.get_columns() if column.name not in (ROW, SHEET))
    return " ".join(value for column in columns for value in column if value is not None)


def refuse_title(head: pl.DataFrame, spec: SheetSpec, where: FileProvenance) -> None:
    """Raise SourceLayoutError if the rows above the figures do not speak of this table."""
    text = row_text(head)
    if spec.title and not re.search(spec.title, text, re.IGNORECASE):
        raise SourceLayoutError(
            f"The sheet's title is {text[:120]!r}",
            where=where.label,
            expected=f"a title like /{spec.title}/",
            remedy=(
                "Check the publication; if the publisher rewords it, correct `title` of the "
                "sheet in the source's YAML"
            ),
        )


def located_columns(
    head: pl.DataFrame, spec: SheetSpec, where: FileProvenance
) -> tuple[dict[str, str], list[SourceNote]]:
    """``{measure: column letter}`` where the headings are, and a note if they stand further right.

    The spec's letters hold if the heading above each matches its pattern; else the same columns are
    sought up to three places to the right, which is where they are if somebody put columns before
    them. Raises SourceLayoutError naming the first heading that is another measure's.
    """
    for inserted in range(_MOST_INSERTED + 1):
        columns = {name: _right(letter, inserted) for letter, name in spec.columns.items()}
        if all(_is_headed(head, _right(at, inserted), spec.headings[at]) for at in spec.headings):
            break
    else:
        raise _wrong_heading(head, spec, where)
    if not inserted:
        return columns, []
    words = f"{inserted} column(s) stand before the figures that the publisher's form has not"
    return columns, [SourceNote("columns_inserted", inserted, f"{where.label}: {words}")]


def _right(letter: str, places: int) -> str:
    position = 0
    for each in letter:
        position = position * 26 + ord(each) - 64
    return column_letter(position - 1 + places)


def _heading(head: pl.DataFrame, letter: str) -> str:
    cells = head[letter].to_list() if letter in head.columns else []
    return " ".join(value for value in cells if value is not None)


def _is_headed(head: pl.DataFrame, letter: str, pattern: str) -> bool:
    return re.search(pattern, _heading(head, letter), re.IGNORECASE) is not None


def _wrong_heading(head: pl.DataFrame, spec: SheetSpec, where: FileProvenance) -> SourceLayoutError:
    letter = next(at for at in spec.headings if not _is_headed(head, at, spec.headings[at]))
    text = _heading(head, letter)
    return SourceLayoutError(
        f"Column {letter} is headed {text!r}" if text else f"Column {letter} has no heading",
        where=f"{where.label}, column {letter}",
        expected=(
            f"a heading like /{spec.headings[letter]}/ for "
            f"{spec.columns.get(letter, 'this column')}"
        ),
        remedy=(
            "The publisher may have moved a column: correct `columns` of the sheet in the "
            "source's YAML"
        ),
    )


def refuse_sums(
    areas: pl.DataFrame, columns: dict[str, str], spec: SheetSpec, where: FileProvenance
) -> None:
    """Raise SourceValueError if the classes of a row do not add up to its total.

    Looks at rows in which total and classes all are numbers; one unit per class, or one in 100,000
    of the total if that is more, is left to rounding.
    """
    for total, *classes in spec.adds_up:
        value = {
            name: pl.col(columns[name]).str.replace_all(",", "").cast(pl.Float64, strict=False)
            for name in (total, *classes)
        }
        rows = areas.select(ROW, "name", **value).drop_nulls([total, *classes])
        gap = (pl.sum_horizontal(classes) - pl.col(total)).abs()
        allowed = pl.max_horizontal(pl.lit(float(len(classes))), pl.col(total) * _ROUNDED_SHARE)
        off = rows.filter(gap > allowed)
        if off.is_empty():
            continue
        first = off.row(0, named=True)
        parts = " + ".join(f"{name} {first[name]:,.0f}" for name in classes)
        raise SourceValueError(
            f"{off.height} row(s) whose classes do not add up to the total; the first is "
            f"{first['name']}: {parts}, and {total} is {first[total]:,.0f}",
            where=f"{where.label}, row {first[ROW]}, column {columns[total]}",
            expected="classes that add up to their total, apart from rounding",
            remedy=(
                "Figures have moved against their headings or were edited: download the "
                "workbook again from the publisher"
            ),
        )
