"""From bytes to a frame of text cells, for delimited files, JSON lists and workbooks.

Belongs here: decoding, splitting into columns, the signs of a damaged file (cut short, ragged, not
JSON, not a workbook). Does not belong here: what a column or a cell means (``cells.py`` and the
readers).
"""

from __future__ import annotations

import csv
import io
import json

import fastexcel
import polars as pl

from pipeline.errors import SourceFileError, SourceLayoutError
from pipeline.sources.files import RawFile

ROW = "__row"
# The worksheet of a row, where sheets of one workbook stand under one another.
SHEET = "__sheet"
REPEAT_MARK = "__repeat_"
# A publisher that changed its encoding between vintages.
_EITHER = "utf-8 or latin-1"


def decode(raw: RawFile, encoding: str) -> str:
    """The file as text, without a byte-order mark; ``utf-8 or latin-1`` is UTF-8 where every byte
    allows it. Raises SourceFileError naming the line of the first undecodable byte.
    """
    if encoding == _EITHER:
        encoding = "utf-8" if _is_utf8(raw.data) else "latin-1"
    try:
        text = raw.data.decode("utf-8-sig" if encoding == "utf-8" else encoding)
    except UnicodeDecodeError as error:
        raise SourceFileError(
            f"Byte {raw.data[error.start]:#04x} at position {error.start:,} is not {encoding}",
            where=f"{raw.provenance.path}, line {raw.data[: error.start].count(10) + 1}",
            expected=f"text in {encoding}",
            remedy=(
                "Download the file again; if the publisher changed the encoding, change `encoding`"
                " in the source's YAML"
            ),
        ) from error
    if "\x00" in text[:4096]:
        raise SourceFileError(
            "The file holds NUL bytes, so it is not text",
            where=raw.provenance.path,
            expected=f"text in {encoding}",
            remedy="It may be a workbook or an archive under another name: download the file again",
        )
    return text.removeprefix("\ufeff").removeprefix("ï»¿")


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def delimited(raw: RawFile, *, encoding: str, separator: str, header_rows: int = 1) -> pl.DataFrame:
    """All cells as text, with a column ``__row`` (Int64) of 1-based line numbers; blank cells are
    null.

    The first of ``header_rows`` names the columns; the others are labels and are skipped. A
    repeated column name gets the suffix that ``repeated_columns`` recognises. Raises
    SourceFileError if the last line breaks off, SourceLayoutError if a line has too many fields or
    there is no data.
    """
    where = raw.provenance.path
    text = decode(raw, encoding).rstrip("\r\n") + "\n"
    header = _header(text, separator)
    _refuse_broken_end(text, header, separator, where)
    names = _distinct(header)
    try:
        frame = pl.read_csv(
            io.BytesIO(text.encode()),
            has_header=False,
            skip_rows=0,
            separator=separator,
            quote_char='"',
            infer_schema=False,
            new_columns=names,
        )
    except pl.exceptions.NoDataError as error:
        raise SourceFileError(
            "The file holds no lines",
            where=where,
            expected="a header and data",
            remedy="Download it again",
        ) from error
    except pl.exceptions.PolarsError as error:
        raise SourceLayoutError(
            f"The file cannot be split into {len(header)} columns: {str(error).splitlines()[0]}",
            where=f"{where}{_ragged(text, separator, len(header))}",
            expected=f"{len(header)} fields in each line, separated by {separator!r}",
            remedy="Download the file again; it may be damaged, or edited with another separator",
        ) from error
    frame = frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))
    _refuse_short_lines(text, frame, separator, where)
    frame = frame.slice(header_rows)
    if frame.is_empty():
        raise SourceLayoutError(
            "The file has a header and no data",
            where=where,
            expected="at least one line of data",
            remedy="Download it again",
        )
    return frame


def _header(text: str, separator: str) -> list[str]:
    return [name.strip() for name in next(csv.reader(io.StringIO(text), delimiter=separator), [])]


def _refuse_broken_end(text: str, header: list[str], separator: str, where: str) -> None:
    """A download that was cut short ends inside a line: with fewer fields than the header, or
    inside a quote.
    """
    lines = text.rstrip("\r\n").split("\n")
    last = lines[-1] if lines else ""
    fields = next(csv.reader([last], delimiter=separator), [])
    if len(lines) > 1 and (len(fields) < len(header) or last.count('"') % 2):
        raise SourceFileError(
            f"The last line has {len(fields)} of {len(header)} fields, so the file breaks off",
            where=f"{where}, line {len(lines)}",
            expected=f"{len(header)} fields in each line",
            remedy=(
                "The download was probably cut short: download the file again and compare its size"
                " with the publisher's"
            ),
        )


def _refuse_short_lines(text: str, frame: pl.DataFrame, separator: str, where: str) -> None:
    """The splitter fills a short line with nulls, which would pass for blank cells: count the
    separators of such lines.
    """
    width = frame.width - 1
    lines = pl.Series(text.rstrip("\r\n").split("\n"))
    if lines.len() == frame.height:
        suspects = frame.select(ROW, line=lines).filter(
            frame.get_column(frame.columns[-1]).is_null()
        )
        bare = pl.col("line").str.replace_all('"[^"]*"', "")
        short = suspects.filter(bare.str.count_matches(separator, literal=True) < width - 1)[
            ROW
        ].to_list()
    else:  # a quoted field holds a line break, so lines and rows differ
        records = csv.reader(io.StringIO(text), delimiter=separator)
        short = [number for number, fields in enumerate(records, start=1) if len(fields) < width]
    if short:
        raise SourceLayoutError(
            f"{len(short):,} line(s) have fewer than {width} fields; the first is line {short[0]}",
            where=f"{where}, line {short[0]}",
            expected=f"{width} fields in each line, separated by {separator!r}",
            remedy="Download the file again; it may be damaged, or edited with another separator",
        )


def _ragged(text: str, separator: str, width: int) -> str:
    for number, fields in enumerate(csv.reader(io.StringIO(text), delimiter=separator), start=1):
        if len(fields) > width:
            return f", line {number} ({len(fields)} fields)"
    return ""


def _distinct(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    result = []
    for position, name in enumerate(names):
        count = seen.get(name, 0)
        seen[name] = count + 1
        base = name or f"__blank_{position}"
        result.append(base if not count or not name else f"{base}{REPEAT_MARK}{count}")
    return result


def repeated_columns(frame: pl.DataFrame) -> dict[str, int]:
    """Column names that the file gives more than once, with how often."""
    repeats = [name.rsplit(REPEAT_MARK, 1)[0] for name in frame.columns if REPEAT_MARK in name]
    return {name: repeats.count(name) + 1 for name in sorted(set(repeats))}


def json_table(raw: RawFile) -> pl.DataFrame:
    """The Census API's list of lists as text cells; ``__row`` is the position in the list (the
    header is 1).

    Raises SourceFileError if it is not JSON, SourceLayoutError if it is not a list of equally long
    lists.
    """
    where = raw.provenance.path
    text = decode(raw, "utf-8")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        start = text[:80].strip().splitlines()
        raise SourceFileError(
            f"The file is not JSON ({error.msg}); it begins with {start[0] if start else ''!r}",
            where=f"{where}, line {error.lineno}, character {error.colno}",
            expected="the complete answer of api.census.gov, a JSON list of lists",
            remedy=(
                "The answer was cut short or is an error message: repeat the request and look at"
                " what it returns"
            ),
        ) from error
    if (
        not isinstance(content, list)
        or len(content) < 2
        or not all(isinstance(row, list) for row in content)
    ):
        raise SourceLayoutError(
            f"The JSON is not a list of lists with a header and data, but {_kind(content)}",
            where=where,
            expected="[[header ...], [values ...], ...]",
            remedy="Repeat the request to api.census.gov, or check that this is the right file",
        )
    header = [str(name).strip() for name in content[0]]
    for position, row in enumerate(content, start=1):
        if len(row) != len(header):
            raise SourceLayoutError(
                f"List {position} has {len(row)} values and the header has {len(header)}",
                where=f"{where}, list {position}",
                expected=f"{len(header)} values",
                remedy="Repeat the request to api.census.gov",
            )
    rows = [[None if cell is None else str(cell) for cell in row] for row in content[1:]]
    frame = pl.DataFrame(rows, schema=dict.fromkeys(_distinct(header), pl.String), orient="row")
    return frame.with_row_index(ROW, offset=2).with_columns(pl.col(ROW).cast(pl.Int64))


def _kind(content: object) -> str:
    if isinstance(content, dict):
        return f"an object with the keys {', '.join(list(content)[:5])}"
    if isinstance(content, list):
        return f"a list of {len(content)} item(s)"
    return type(content).__name__


def workbook(raw: RawFile) -> fastexcel.ExcelReader:
    """An open workbook. Raises SourceFileError if it is truncated or no workbook."""
    try:
        return fastexcel.read_excel(raw.data)
    except fastexcel.FastExcelError as error:
        raise SourceFileError(
            f"The workbook cannot be opened ({str(error).splitlines()[0]}); {len(raw.data):,} bytes"
            " were found",
            where=raw.provenance.path,
            expected="a complete .xlsx workbook",
            remedy=(
                "The download was probably cut short, or ssa.gov refused it: fetch the file with a"
                " browser and put it at that path"
            ),
        ) from error


def sheet(book: fastexcel.ExcelReader, name: str, where: str) -> pl.DataFrame:
    """One worksheet as text cells in columns A, B, C ...; ``__row`` is the row of the worksheet,
    counted from 1.

    Raises SourceFileError if the sheet's part of the workbook is damaged.
    """
    try:
        frame = pl.DataFrame(book.load_sheet(name, header_row=None, skip_rows=0, dtypes="string"))
    except fastexcel.FastExcelError as error:
        raise SourceFileError(
            f"Sheet {name!r} cannot be read ({str(error).splitlines()[0]})",
            where=where,
            expected="a readable worksheet",
            remedy="Download the workbook again",
        ) from error
    frame = frame.rename(
        {old: column_letter(position) for position, old in enumerate(frame.columns)}
    )
    return frame.with_row_index(ROW, offset=1).with_columns(pl.col(ROW).cast(pl.Int64))


def column_letter(position: int) -> str:
    """0 -> A, 25 -> Z, 26 -> AA."""
    letters = ""
    position += 1
    while position:
        position, rest = divmod(position - 1, 26)
        letters = chr(65 + rest) + letters
    return letters
