"""Writing files whose bytes depend on their content alone.

Belongs here: text files, zip archives and workbooks with fixed times. Does not belong here: what is
in them.
"""

from __future__ import annotations

import datetime
import hashlib
import io
import json
import os
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import xlsxwriter

EPOCH = (2024, 1, 2, 0, 0, 0)
# The entry that marks a Parquet file as made up, under the key that geocal's own tables use.
PARQUET_LABEL = {"geocal": json.dumps({"label": "SYNTHETIC", "synthetic": True}, sort_keys=True)}
_CREATED = datetime.datetime(*EPOCH)


@dataclass
class Folder:
    """The sample's root; remembers the relative path and SHA-256 of every file it writes."""

    root: Path
    written: dict[str, str] = field(default_factory=dict)

    def write(self, path: str, data: bytes) -> None:
        """Write ``data`` at the relative ``path`` (slashes): a temporary file first, then renamed,
        so that no reader sees half a file.
        """
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        part.write_bytes(data)
        part.replace(target)
        self.written[path] = hashlib.sha256(data).hexdigest()

    def text(self, path: str, content: str, encoding: str = "utf-8") -> None:
        self.write(path, content.encode(encoding))

    def archive(self, path: str, members: dict[str, bytes]) -> None:
        """A zip with the members in the given order, deflated, with one fixed time."""
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                info.external_attr = 0o644 << 16
                archive.writestr(info, data, compresslevel=4)
        self.write(path, buffer.getvalue())

    def parquet(self, path: str, frame: pl.DataFrame) -> None:
        """A table labelled SYNTHETIC in the file's key-value metadata."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=3, metadata=PARQUET_LABEL)
        self.write(path, buffer.getvalue())


def csv_bytes(frame: pl.DataFrame) -> bytes:
    """Comma-separated, no quotes unless needed, null as an empty cell, Unix line ends."""
    buffer = io.BytesIO()
    frame.write_csv(buffer)
    return buffer.getvalue()


Cell = str | int | float | None


def workbook_bytes(sheets: dict[str, list[list[Cell]]], title: str) -> bytes:
    """A workbook of plain cells, one list of rows per sheet; numbers are numbers, text is text,
    None is an empty cell.
    """
    buffer = io.BytesIO()
    book = xlsxwriter.Workbook(buffer, {"in_memory": True})
    book.set_properties(
        {
            "title": title,
            "comments": "SYNTHETIC data, not published by any agency",
            "created": _CREATED,
        }
    )
    number = book.add_format({"num_format": "#,##0"})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for i, row in enumerate(rows):
            for j, cell in enumerate(row):
                if isinstance(cell, str):
                    sheet.write_string(i, j, cell)
                elif cell is not None:
                    sheet.write_number(i, j, cell, number)
    book.close()
    return buffer.getvalue()
