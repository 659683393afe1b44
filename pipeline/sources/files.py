"""Opening raw files: digests, and the checks that hold for every publisher.

Belongs here: finding a file, hashing it, opening a zip member, refusing an HTML page in a data
file's clothes. Does not belong here: knowledge of any one publication's columns.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SourceFileError, SourceLayoutError

GIB = 1 << 30
# The largest archive that a profile names, the nation's PUMS, has 3 GB and unfolds to some 10 GB.
MOST_FILE_BYTES = 8 * GIB
MOST_UNFOLDED_BYTES = 32 * GIB
# CSV files of the publishers fold to a tenth at best; an archive made to fill a disk folds to a
# thousandth. Small ones do no harm.
MOST_FOLDED, HARMLESS_BYTES = 200, 1 << 26
_HTML_MARKS = (b"<!doctype html", b"<html", b"<head", b"<?xml version")


@dataclass(frozen=True)
class FileProvenance:
    """Where bytes came from: ``path`` as given, ``member`` inside an archive or "", size in bytes,
    SHA-256 of the whole file.
    """

    path: str
    member: str
    bytes: int
    sha256: str

    @property
    def label(self) -> str:
        return f"{Path(self.path).name}:{self.member}" if self.member else Path(self.path).name


@dataclass(frozen=True)
class RawFile:
    """The whole content of one raw file, with its provenance."""

    data: bytes
    provenance: FileProvenance


def digest(data: bytes) -> str:
    """SHA-256 of ``data`` as lower-case hex."""
    return hashlib.sha256(data).hexdigest()


def begins_as_html(head: bytes) -> bool:
    """Whether a file that begins with ``head`` (some 2,000 bytes) is a web page."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_HTML_MARKS)


def read_raw(path: Path, *, url: str = "", publisher: str = "") -> RawFile:
    """Read a raw file whole. Raises SourceFileError if it is missing, a folder, empty, an HTML
    page, or larger than any publication, unfolded or not.
    """
    source = f" It is published by {publisher}" + (f" at {url}" if url else "") if publisher else ""
    if not path.exists():
        raise SourceFileError(
            "A raw file is missing",
            where=str(path),
            expected="the file as the publisher offers it" + (f" ({url})" if url else ""),
            remedy=f"Download it, put it at that path, and run `geocal check` again.{source}",
        )
    if path.is_dir():
        raise SourceFileError(
            "A folder stands where a raw file should",
            where=str(path),
            expected="a file",
            remedy="Move the file to that path",
        )
    require_bytes(path)
    data = path.read_bytes()
    if not data:
        raise SourceFileError(
            "A raw file is empty (0 bytes)",
            where=str(path),
            expected="the published file",
            remedy="Download it again",
        )
    if begins_as_html(data[:2048]):
        raise SourceFileError(
            "The file is a web page, not data (it begins with HTML)",
            where=f"{path}, line 1",
            expected=f"the published {path.suffix or 'data'} file",
            remedy=(
                "The server answered with an error or a log-in page; download the file again and"
                " look at its first line"
            )
            + (f": {url}" if url else ""),
        )
    raw = RawFile(data, FileProvenance(str(path), "", len(data), digest(data)))
    if data.startswith(b"PK") and zipfile.is_zipfile(io.BytesIO(data)):
        # A workbook is an archive too, and another library unfolds it.
        open_zip(raw).close()
    return raw


def require_bytes(path: Path) -> None:
    """Raise SourceFileError if a file is larger than any publication: it would fill the memory."""
    found = path.stat().st_size
    if found > MOST_FILE_BYTES:
        raise SourceFileError(
            f"The file has {found:,} bytes",
            where=str(path),
            expected=f"at most {MOST_FILE_BYTES:,} bytes, more than any publication has",
            remedy="Download it again; if it is as published, raise MOST_FILE_BYTES in"
            " pipeline/sources/files.py",
        )


def require_unfolded(archive: zipfile.ZipFile, where: str) -> None:
    """Raise SourceFileError if an archive would unfold to more than any publication does. Members
    are read in memory and never written, so their names lead nowhere."""
    unfolded = sum(member.file_size for member in archive.infolist())
    folded = max(1, sum(member.compress_size for member in archive.infolist()))
    ratio = unfolded / folded
    if unfolded > MOST_UNFOLDED_BYTES or (unfolded > HARMLESS_BYTES and ratio > MOST_FOLDED):
        raise SourceFileError(
            f"The archive would unfold to {unfolded:,} bytes, {ratio:,.0f} times its size",
            where=where,
            expected=f"at most {MOST_UNFOLDED_BYTES:,} bytes, and {MOST_FOLDED} times its size",
            remedy="Download it from its publisher again; such an archive is made to do harm",
        )


def open_zip(raw: RawFile) -> zipfile.ZipFile:
    """Open a zip archive held in memory. Raises SourceFileError if it is truncated, damaged, or no
    zip at all.
    """
    where = raw.provenance.path
    try:
        archive = zipfile.ZipFile(io.BytesIO(raw.data))
    except zipfile.BadZipFile as error:
        raise SourceFileError(
            f"The zip archive cannot be opened ({error}); {len(raw.data):,} bytes were found",
            where=where,
            expected="a complete zip archive",
            remedy=(
                "The download was probably cut short: download it again and compare its size with"
                " the publisher's"
            ),
        ) from error
    require_unfolded(archive, where)
    return archive


def read_member(raw: RawFile, name: str) -> RawFile:
    """Read one member of a zip; ``name`` matches the end of the member's path, ignoring case.

    Raises SourceLayoutError if no or several members match, SourceFileError if its checksum fails.
    """
    with open_zip(raw) as archive:
        matches = [m for m in archive.namelist() if m.lower().endswith(name.lower())]
        if len(matches) != 1:
            raise SourceLayoutError(
                f"{len(matches)} members end in {name!r}; the archive holds"
                f" {', '.join(archive.namelist()) or 'nothing'}",
                where=raw.provenance.path,
                expected=f"exactly one member {name}",
                remedy="Check that this is the right publication and vintage",
            )
        try:
            data = archive.read(matches[0])
        except (zipfile.BadZipFile, EOFError, OSError) as error:
            raise SourceFileError(
                f"Member {matches[0]} is damaged ({error})",
                where=raw.provenance.path,
                expected="a member whose checksum agrees",
                remedy="Download the archive again",
            ) from error
    origin = raw.provenance
    return RawFile(data, FileProvenance(origin.path, matches[0], origin.bytes, origin.sha256))
