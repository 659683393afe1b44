"""Reader of the Social Security Administration's tables of states as somebody saved them: one sheet
of the workbook, one CSV file.

Belongs here: finding which sheet a file is, and its cells. Does not belong here: what a sheet
holds (``ssa.py`` reads it as it reads the workbook's), or tables that others stacked
(``ssa_zip.py``).

A CSV file of a sheet keeps its title, its two lines of headings, its three label columns and its
footnotes; only the workbook around it is gone.
"""

from __future__ import annotations

import csv
import io
import re

import polars as pl

from pipeline.errors import SourceLayoutError
from pipeline.sources.base import ReadRequest, SourceTable
from pipeline.sources.files import FileProvenance, RawFile
from pipeline.sources.named import reader
from pipeline.sources.readers.ssa import read_sheets, stacked, years_of
from pipeline.sources.tables.columns import refuse_year
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import ROW, column_letter, decode
from pipeline.sources.tables.workbook_columns import row_text
from pipeline.specs.layouts import SheetSpec

_TITLE_ROWS = 3


@reader("ssa_csv")
def read_csv_sheets(request: ReadRequest) -> SourceTable:
    """Tables of states, a CSV file each; which table a file is, its title says.

    Returns a PublishedTable. Raises SourceLayoutError if no table of the spec has the title, or a
    heading is another measure's; SourceValueError for another year, or figures of no known area.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        cells = stacked({raw.provenance.member: sheet_of_csv(raw)})
        refuse_year(years_of(request, cells), request, raw.provenance.path, "title")
        spec = _sheet_with_title(request, cells, raw.provenance)
        alone = {raw.provenance.member: None}
        frame, more = read_sheets(request, spec, cells, alone, raw.provenance)
        frames.append(frame)
        notes += more
        provenance.append(raw.provenance)
    whole = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(whole, tuple(provenance), tuple(notes))


def sheet_of_csv(raw: RawFile) -> pl.DataFrame:
    """A CSV file as a worksheet: text cells in columns A, B, C ..., blank ones null; ``__row`` is
    the record of the file, counted from 1. Spreadsheets save UTF-8 or, in older versions, Latin-1.
    """
    encoding = "utf-8" if _is_utf8(raw.data) else "latin-1"
    records = list(csv.reader(io.StringIO(decode(raw, encoding))))
    width = max((len(record) for record in records), default=0)
    rows = [[cell or None for cell in r] + [None] * (width - len(r)) for r in records]
    schema = {column_letter(position): pl.String for position in range(width)}
    frame = pl.DataFrame(rows, schema=schema, orient="row")
    return frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _sheet_with_title(
    request: ReadRequest, cells: pl.DataFrame, where: FileProvenance
) -> SheetSpec:
    title = row_text(cells.head(_TITLE_ROWS))
    for spec in request.layout.sheets:
        if spec.title and re.search(spec.title, title, re.IGNORECASE):
            return spec
    raise SourceLayoutError(
        f"The file is none of the tables looked for; it begins {title[:90]!r}",
        where=where.label,
        expected=" or ".join(spec.name for spec in request.layout.sheets),
        remedy="Put the file of the table of states there",
    )
