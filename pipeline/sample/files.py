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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

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
        """Write ``data`` at the relative ``path`` (slashes)."""
        with self._finished(path) as file:
            file.write(data)

    def text(self, path: str, content: str, encoding: str = "utf-8") -> None:
        self.write(path, content.encode(encoding))

    def archive(self, path: str, members: Mapping[str, bytes | Iterable[bytes]]) -> None:
        """A zip with the members in the given order, deflated, with one fixed time; a member may
        come in parts.
        """
        with (
            self._finished(path) as file,
            zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=4) as archive,
        ):
            for name, data in members.items():
                info = zipfile.ZipInfo(name, EPOCH)
                info.compress_type = zipfile.ZIP_DEFLATED
                # Python names it so for members in parts, 3.13 also without the underscore.
                info._compresslevel = 4  # type: ignore[attr-defined]
                info.external_attr = 0o644 << 16
                with archive.open(info, "w") as member:
                    for part in (data,) if isinstance(data, bytes) else data:
                        member.write(part)

    @contextmanager
    def _finished(self, path: str) -> Iterator[BinaryIO]:
        """A temporary file, renamed once it is whole, so that no reader sees half a file."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.{os.getpid()}.part")
        with part.open("wb") as file:
            yield file
        with part.open("rb") as file:
            self.written[path] = hashlib.file_digest(file, "sha256").hexdigest()
        part.replace(target)

    def parquet(self, path: str, frame: pl.DataFrame) -> None:
        """A table labelled SYNTHETIC in the file's key-value metadata."""
        buffer = io.BytesIO()
        frame.write_parquet(buffer, compression="zstd", compression_level=3, metadata=PARQUET_LABEL)
        self.write(path, buffer.getvalue())


def csv_bytes(frame: pl.DataFrame, include_header: bool = True) -> bytes:
    """Comma-separated, no quotes unless needed, null as an empty cell, Unix line ends."""
    buffer = io.BytesIO()
    frame.write_csv(buffer, include_header=include_header)
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
