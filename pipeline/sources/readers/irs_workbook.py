"""Reader of Historic Table 2 as the Excel edition: items down, areas and AGI classes across.

Belongs here: which cell of the sheet is which item of which state and class. Does not belong here:
the CSV edition and area codes (``irs_soi.py``), numbers, units and marks (``tables/cells.py``).

Layout: https://www.irs.gov/statistics/soi-tax-stats-historic-table-2 . Column A has the items; the
row whose column A is "Item" names the areas, each above its block of columns, the first of which is
all returns and the others the classes of adjusted gross income in rising order. An item of returns
and dollars has two rows: "...: Number" and, below it, "Amount". The tax year stands in the title.
"""

from __future__ import annotations

import re

import polars as pl

from pipeline.errors import SourceLayoutError
from pipeline.sources.base import ReadRequest, SourceTable
from pipeline.sources.files import FileProvenance, RawFile
from pipeline.sources.named import reader
from pipeline.sources.readers.irs_soi import historic_table_2
from pipeline.sources.tables.columns import refuse_year
from pipeline.sources.tables.text import ROW, sheet, workbook
from pipeline.specs.states import BY_NAME

_AREAS = {name.upper(): area.postal for name, area in BY_NAME.items()} | {
    "UNITED STATES": "US",
    "OTHER AREAS": "OA",
}
_FIRST = "B"


@reader("irs_historic_table_2_workbook")
def read_historic_table_2_workbook(request: ReadRequest) -> SourceTable:
    """Historic Table 2 as a workbook; the same table as ``irs_historic_table_2`` gives.

    ``layout.items`` maps an item's label (lower case, without footnote marks) to its column: a name
    such as N1, or the five digits of an item with a number and an amount (N00200, A00200). Raises
    SourceLayoutError if an item, an area or a class is missing, or the title prints another year.
    """
    return historic_table_2(request, _wide)


def _wide(request: ReadRequest, raw: RawFile) -> pl.DataFrame:
    """The sheet as the CSV edition has it: STATE, AGI_STUB and a text column for each item."""
    where = raw.provenance
    book = workbook(raw)
    cells = sheet(book, book.sheet_names[0], where.path)
    if request.layout.year_pattern is not None:
        text = " ".join(re.sub(r"\s+", " ", cell) for cell in cells["A"].drop_nulls())
        refuse_year(
            set(re.findall(request.layout.year_pattern, text)), request, where.path, "title"
        )
    label = cells["A"].fill_null("").map_elements(_plain, return_dtype=pl.String)
    head = next((i for i, text in enumerate(label) if text == "item"), None)
    if head is None:
        raise _missing("no row whose first cell is 'Item'", where, "the row that names the areas")
    rows = _item_rows(list(label), request.layout.items, where)
    starts = _area_starts(cells.row(head), cells.columns, where)
    classes = len(request.spec.strata)
    lines: dict[str, list] = {name: [] for name in ("STATE", "AGI_STUB", *rows)}
    columns = cells.columns
    for area, start in starts.items():
        first = columns.index(start)
        block = columns[first : first + classes]
        if len(block) < classes:
            raise _missing(f"{len(block)} columns for {area}", where, f"{classes} AGI classes")
        for stub, column in enumerate(block):
            lines["STATE"].append(area)
            lines["AGI_STUB"].append(str(stub))
            for name, row in rows.items():
                lines[name].append(cells[column][row])
    frame = pl.DataFrame(lines, schema=dict.fromkeys(lines, pl.String))
    return frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))


def _plain(text: str) -> str:
    """A label without footnote marks such as [12], doubled spaces and capitals."""
    return re.sub(r"\s+", " ", re.sub(r"\[\d+\]", " ", text)).strip().rstrip(":").strip().lower()


def _item_rows(labels: list[str], items: dict[str, str], where: FileProvenance) -> dict[str, int]:
    """Row of the sheet (from 0) by column name."""
    rows: dict[str, int] = {}
    for label, name in items.items():
        pair = name.isdigit()
        wanted = {f"{label}: number", f"{label} number"} if pair else {label}
        found = [i for i, text in enumerate(labels) if re.sub(r" :", ":", text) in wanted]
        if len(found) != 1:
            raise _missing(f"{len(found)} rows labelled {label!r}", where, "exactly one")
        if not pair:
            rows[name] = found[0]
            continue
        below = labels[found[0] + 1] if found[0] + 1 < len(labels) else ""
        if below != "amount":
            raise _missing(f"{below!r} below the number of {label!r}", where, "the row 'Amount'")
        rows[f"N{name}"], rows[f"A{name}"] = found[0], found[0] + 1
    return rows


def _area_starts(
    row: tuple[object, ...], columns: list[str], where: FileProvenance
) -> dict[str, str]:
    """First column of each area's block, by postal code (US, OA included)."""
    starts: dict[str, str] = {}
    first = columns.index(_FIRST)
    for column, cell in zip(columns[first:], row[first:], strict=True):
        name = _plain(str(cell or "")).upper()
        if not name:
            continue
        if name not in _AREAS or _AREAS[name] in starts:
            raise _missing(f"area {cell!r} in column {column}", where, "each state's name once")
        starts[_AREAS[name]] = column
    return starts


def _missing(found: str, where: FileProvenance, expected: str) -> SourceLayoutError:
    return SourceLayoutError(
        f"Historic Table 2 has {found}",
        where=where.path,
        expected=expected,
        remedy="Check that this is the publisher's workbook of that year; else correct"
        " `layout.items` in the source's YAML",
    )
