"""The record of what was brought: beside the data, one file that says whence, when and what.

Belongs here: the model of ``fetched.json`` in the data folder, reading and writing it. Does not
belong here: requests (``transfer.py``), or any key: addresses here are the publishers' own.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import StoreError

RECORD = "fetched.json"
_BLOCK = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Stamp(_Part):
    """What a publisher says of one state of a file: by ``etag`` or ``last_modified`` it is known
    again; "" where the publisher says nothing. ``bytes``: its length, where that is stated.
    """

    address: str
    etag: str = ""
    last_modified: str = ""
    bytes: int | None = None

    @property
    def comparable(self) -> bool:
        """Whether the publisher can be asked if the file has changed."""
        return bool(self.etag or self.last_modified)

    @property
    def resumable(self) -> str:
        """By what a partial file is continued (RFC 9110, 13.1.5): a strong ETag, or a date."""
        return self.last_modified if self.etag.startswith("W/") or not self.etag else self.etag


class Entry(_Part):
    """One file as it lies there. ``origin``: downloaded, or placed by somebody; ``noted``: when
    this was written, UTC.
    """

    stamp: Stamp
    source: str
    vintage: str
    origin: Literal["fetched", "by hand"]
    sha256: str
    bytes: int
    noted: str


class Contents(BaseModel):
    """``files`` by path below the data folder; ``partial``: downloads that broke off."""

    model_config = ConfigDict(extra="forbid")

    about: str = (
        "Written by `geocal fetch`: where each file came from, its SHA-256 and what the publisher"
        " said of it. Delete an entry to have the file taken as placed by hand."
    )
    files: dict[str, Entry] = Field(default_factory=dict)
    partial: dict[str, Stamp] = Field(default_factory=dict)


class Record:
    """The record of one data folder. Raises StoreError if the file is there and no record."""

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / RECORD
        self.contents = self._read()

    def name_of(self, path: Path) -> str:
        """``path`` as the record calls it."""
        return path.relative_to(self.folder).as_posix()

    def entry(self, path: Path) -> Entry | None:
        return self.contents.files.get(self.name_of(path))

    def partial(self, path: Path) -> Stamp | None:
        return self.contents.partial.get(self.name_of(path))

    def begin(self, path: Path, stamp: Stamp) -> None:
        """A download begins: what comes is of this state of the file."""
        self.contents.partial[self.name_of(path)] = stamp
        self._write()

    def keep(self, path: Path, entry: Entry) -> None:
        """The file lies there whole."""
        self.contents.files[self.name_of(path)] = entry
        self.contents.partial.pop(self.name_of(path), None)
        self._write()

    def drop_partial(self, path: Path) -> None:
        """What was there of a download is of no use."""
        if self.contents.partial.pop(self.name_of(path), None) is not None:
            self._write()

    def _read(self) -> Contents:
        if not self._path.exists():
            return Contents()
        try:
            return Contents.model_validate_json(self._path.read_bytes())
        except (ValidationError, OSError) as error:
            raise StoreError(
                "The record of fetched files cannot be read"
                f" ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
                where=str(self._path),
                expected="the JSON file that `geocal fetch` wrote",
                remedy=(
                    "Restore it, or delete it: files that are there then count as placed by hand"
                ),
            ) from error

    def _write(self) -> None:
        new = self._path.with_name(f"{RECORD}.new")
        # The same files make the same bytes, in whatever order they came.
        sorted_files = dict(sorted(self.contents.files.items()))
        whole = self.contents.model_copy(update={"files": sorted_files})
        new.write_text(whole.model_dump_json(indent=1) + "\n", encoding="utf-8")
        new.replace(self._path)


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, read in blocks, as lower-case hex."""
    total = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def now() -> str:
    """The time, UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")
