"""Whether a file is what its name says: its kind, whole, and no web page.

Belongs here: checks that need no knowledge of any one publication, made before a file may take its
place. Does not belong here: columns, years or figures (the readers, through `geocal check`), or
where the file came from.
"""

from __future__ import annotations

import codecs
import csv
import io
import itertools
import json
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.sources.files import begins_as_html

HEAD = 65_536
# First bytes of what servers send in place of a table: https://www.garykessler.net/library/
# file_sigs.html, entries of PDF, ZIP, GZIP, PNG, JPEG, GIF and OLE (.xls, .doc).
_OLE = b"\xd0\xcf\x11\xe0"
_BINARY = (b"%PDF", b"PK\x03\x04", b"\x1f\x8b", b"\x89PNG", b"\xff\xd8\xff", b"GIF8", _OLE)
# Titles above a header, as SSA has them, are a few lines.
_HEADER_LINES = 20
_ARCHIVES = (".zip", ".xlsx")
_WORKBOOK = "xl/workbook.xml"


@dataclass(frozen=True)
class Fault:
    """What is wrong with a file. ``kind``: a web ``page`` in its place, ``cut`` off before its end,
    or of the wrong ``type``.
    """

    kind: str
    words: str


def fault_of(path: Path, name: str, members: Sequence[str] = ()) -> Fault | None:
    """What is wrong with the file at ``path``, which is to be called ``name``; None if nothing is.

    ``members``: of an archive, names of which at least one must be in it.
    """
    with path.open("rb") as file:
        head = file.read(HEAD)
    if not head:
        return Fault("cut", "it is empty (0 bytes)")
    if begins_as_html(head):
        return Fault("page", "it is a web page, not data")
    suffix = Path(name).suffix.lower()
    if suffix in _ARCHIVES:
        return _of_archive(path, head, suffix, members)
    if suffix == ".xls" and head.startswith(_OLE):
        return None
    if head.startswith(_BINARY):
        return Fault("type", f"it begins with {head[:4]!r}, which no {suffix or 'such'} file does")
    if suffix == ".json":
        return _of_answer(path)
    if suffix in (".csv", ".txt", ".dat"):
        return _of_text(path, head, suffix)
    return None


def _of_archive(path: Path, head: bytes, suffix: str, members: Sequence[str]) -> Fault | None:
    if not head.startswith(b"PK"):
        return Fault("type", f"it begins with {head[:4]!r}, and a {suffix} file with b'PK'")
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, RuntimeError):
        return Fault("cut", "the archive is damaged, or not whole")
    if damaged is not None:
        return Fault("cut", f"member {damaged} of the archive is damaged")
    if suffix == ".xlsx" and _WORKBOOK not in names:
        return Fault("type", "it is an archive, but no workbook")
    lower = [name.lower() for name in names]
    if members and not any(n.endswith(m.lower()) for m in members for n in lower):
        held = ", ".join(names[:5]) or "nothing"
        return Fault("type", f"the archive holds {held}, and none of {', '.join(members)}")
    return None


def _of_answer(path: Path) -> Fault | None:
    """An answer of the Census API is a list of lists; one that ends early is no JSON."""
    text = path.read_bytes().decode("utf-8", errors="replace")
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        begun = text.lstrip().startswith("[")
        said = text.strip()[:80]
        if begun:
            return Fault("cut", f"the JSON ends or breaks off at character {error.pos:,}")
        return Fault("type", f"it is no JSON; it begins with {said!r}")
    rows = content if isinstance(content, list) else []
    if len(rows) < 2 or not all(isinstance(row, list) for row in rows):
        return Fault("type", f"it is JSON, but no table: {text.strip()[:80]!r}")
    return None


def _of_text(path: Path, head: bytes, suffix: str) -> Fault | None:
    if b"\x00" in head:
        return Fault("type", f"it holds bytes of value 0, which no {suffix} file does")
    text = head.removeprefix(codecs.BOM_UTF8).decode("latin-1")
    separator = max(",|\t;", key=text.count)
    lines = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    width = max(len(line) for line in itertools.islice(lines, _HEADER_LINES))
    if width < 2:
        return Fault("type", f"its lines are no table: {text.strip()[:60]!r}")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - HEAD))
        tail = file.read()
    # A publisher may leave out the last end of line; then the last row must still be a whole one.
    last = tail.rsplit(b"\n", 1)[-1].decode("latin-1")
    # A quoted note may run over lines, so what is counted is separators, quoted or not.
    if last.strip() and last.count(separator) + 1 < width:
        return Fault("cut", f"its last line is not whole: {last.strip()[-60:]!r}")
    return None
