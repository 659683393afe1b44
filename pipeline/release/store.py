"""Where releases lie, and what points at them.

A folder of releases holds ``<id>/`` with ``release.json`` and the files it lists, ``latest``, and
``pins/<name>``. On a disk a release is written under another name and renamed; ``latest`` is a
link, or a file with the id where there are no links. A store without renaming (S3) gets
``release.json`` last: a folder without it is no release.

Belongs here: writing, listing, finding, pointing. Does not belong here: what a release must hold
(``make.py``), or which are removed (``retention.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import filelock
from upath import UPath

from pipeline.errors import StoreError
from pipeline.io_manager import file_digest, write_atomic
from pipeline.release.contents import Place, TableSet, as_json

RELEASES, LATEST, PINS, DOCUMENT = "releases", "latest", "pins", "release.json"
ID_LENGTH = 16
_ID = re.compile(f"[0-9a-f]{{{ID_LENGTH}}}")
_PIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MAKING, LOCK = ".making-", ".lock"


def place_of(text: str) -> Place:
    """A folder as it is named: ``s3://bucket/folder`` and the like, or a path of this machine.

    Raises StoreError for a store that nothing installed can reach.
    """
    if "://" in text:
        try:
            place = UPath(text)
            place.exists()
        except (ImportError, ValueError) as error:
            raise StoreError(
                f"There is no way to reach {text} from here: {error}",
                where=text,
                expected="a folder, or the address of a store whose package is installed",
                remedy="Install the package that the message names (`pip install s3fs` for S3)",
            ) from error
        return place
    return Path(text).expanduser().resolve()


def content_id(digests: Mapping[str, str]) -> str:
    """The id of a release: the first 16 hex digits of SHA-256 over ``digest path`` of its content,
    in the order of paths. Files that hold times (manifests, certificate) are no part of it.
    """
    lines = (f"{digest}  {path}\n" for path, digest in sorted(digests.items()))
    return hashlib.sha256("".join(lines).encode()).hexdigest()[:ID_LENGTH]


@dataclass(frozen=True)
class Release:
    """A release as stored: its id, folder, and ``release.json``."""

    id: str
    folder: Place
    document: Mapping[str, Any]

    @property
    def tables(self) -> TableSet:
        """Its tables, compared with ``release.json`` when they are read."""
        digests = {entry["path"]: entry["sha256"] for entry in self.document["files"]}
        return TableSet(self.id, self.folder, tuple(self.document["states"]), digests, True)

    @property
    def bytes(self) -> int:
        """Bytes of its files."""
        return sum(entry["bytes"] for entry in self.document["files"])

    def damaged(self) -> list[str]:
        """Paths of files that are missing or not what ``release.json`` lists."""
        bad, tables = [], self.tables
        for path in tables.digests:
            try:
                tables.bytes_of(path)
            except (StoreError, OSError):
                bad.append(path)
        return bad


@dataclass(frozen=True)
class ReleaseStore:
    """The folder of the releases of one profile."""

    folder: Place

    @property
    def on_disk(self) -> bool:
        """Whether files can be renamed, linked and protected."""
        return isinstance(self.folder, Path)

    def ids(self) -> list[str]:
        """Ids of the releases there, sorted; unfinished ones are not among them."""
        if not self.folder.exists():
            return []
        names = (p.name for p in self.folder.iterdir() if _ID.fullmatch(p.name))
        return sorted(name for name in names if (self.folder / name / DOCUMENT).exists())

    def all(self) -> list[Release]:
        """All releases, oldest first by the time they were made."""
        found = [self.load(name) for name in self.ids()]
        return sorted(found, key=lambda each: (each.document["created"], each.id))

    def load(self, release_id: str) -> Release:
        """The release of an id. Raises StoreError if it is not there or damaged."""
        path = self.folder / release_id / DOCUMENT
        try:
            document = json.loads(path.read_bytes())
            whole = {"id", "profile", "created", "states", "files"} <= set(document)
        except FileNotFoundError as error:
            raise self._unknown(release_id) from error
        except (OSError, ValueError, TypeError):
            whole = False
        if not whole:
            raise StoreError(
                f"The list of files of release {release_id} cannot be read",
                where=str(path),
                expected="the JSON object that geocal wrote, whole",
                remedy="Restore it from a copy, or remove the release's folder and release again",
            )
        return Release(release_id, self.folder / release_id, document)

    def _unknown(self, name: str) -> StoreError:
        there = [*self.ids(), *self.pins(), *([LATEST] if self.latest() else [])]
        return StoreError(
            f"There is no release {name!r}",
            where=str(self.folder),
            expected=f"one of {', '.join(there)}" if there else "a release: there is none yet",
            remedy="`geocal releases` lists them, `geocal release` makes one",
        )

    def find(self, name: str) -> Release:
        """The release called so: an id or its beginning, ``latest``, or the name of a pin."""
        if name == LATEST:
            latest = self.latest()
            if latest is None:
                raise self._unknown(name)
            return self.load(latest)
        pins = self.pins()
        if name in pins:
            return self.load(pins[name])
        begin = [each for each in self.ids() if each.startswith(name)] if len(name) >= 4 else []
        if len(begin) != 1:
            raise self._unknown(name)
        return self.load(begin[0])

    def latest(self) -> str | None:
        """Id that ``latest`` points at; None where there is none, or it points at nothing."""
        return self._pointed(self.folder / LATEST)

    def pins(self) -> dict[str, str]:
        """Ids by the names they are pinned under."""
        folder = self.folder / PINS
        if not folder.exists():
            return {}
        named = [p for p in folder.iterdir() if _PIN.fullmatch(p.name)]
        pointed = {p.name: self._pointed(p) for p in sorted(named, key=lambda p: p.name)}
        return {name: found for name, found in pointed.items() if found}

    def _pointed(self, pointer: Place) -> str | None:
        try:
            if self.on_disk and pointer.is_symlink():
                name = Path(str(pointer)).readlink().name
            elif pointer.is_file():
                name = pointer.read_text().strip()
            else:
                return None
        except OSError:
            return None
        there = bool(_ID.fullmatch(name)) and (self.folder / name / DOCUMENT).exists()
        return name if there else None

    def point(self, release_id: str) -> None:
        """Let ``latest`` be this release: who reads sees the old or the new, never neither."""
        pointer = self.folder / LATEST
        if self.on_disk:
            beside = self.folder / f"{MAKING}{LATEST}.{uuid.uuid4().hex}"
            with contextlib.suppress(OSError, NotImplementedError):
                Path(str(beside)).symlink_to(release_id, target_is_directory=True)
                Path(str(beside)).replace(str(pointer))
                return
            Path(str(beside)).unlink(missing_ok=True)
        self._write_file(pointer, f"{release_id}\n".encode())

    def require_name(self, name: str, release_id: str) -> None:
        """Raise StoreError for a name that is none, or that is taken by another release."""
        held = self.pins().get(name, release_id)
        if held != release_id:
            raise StoreError(
                f"The name {name!r} is that of release {held}",
                where="--pin",
                expected="a name that no other release has",
                remedy=f"Choose another, or remove {self.folder / PINS / name}",
            )
        if not _PIN.fullmatch(name) or name == LATEST or _ID.fullmatch(name):
            raise StoreError(
                f"{name!r} is no name",
                where="--pin",
                expected="letters, digits, '.', '_' and '-', neither latest nor an id",
                remedy="Choose another",
            )

    def pin(self, name: str, release_id: str) -> None:
        """Keep a release under a name. Raises StoreError as ``require_name``."""
        self.require_name(name, release_id)
        self._write_file(self.folder / PINS / name, f"{release_id}\n".encode())

    @contextlib.contextmanager
    def one_writer(self) -> Iterator[None]:
        """While a release is written and ``latest`` moved. On a disk a second writer raises
        StoreError at once; other stores have no lock, there the last one wins.
        """
        if not self.on_disk:
            yield
            return
        Path(str(self.folder)).mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(Path(str(self.folder)) / LOCK, blocking=False)
        try:
            lock.acquire()
        except filelock.Timeout:
            raise StoreError(
                "Another `geocal release` or `geocal clean` works in this folder",
                where=str(self.folder),
                expected="one at a time",
                remedy="Wait until it has ended",
            ) from None
        try:
            yield
        finally:
            lock.release()

    def write(self, files: Mapping[str, Place | bytes], document: Mapping[str, Any]) -> Release:
        """Put a release into the folder: ``files`` by relative path, and the document, which lists
        each with its SHA-256.

        Raises StoreError where a file is no longer what the document lists; nothing stays then.
        """
        final = self.folder / str(document["id"])
        digests = {entry["path"]: entry["sha256"] for entry in document["files"]}
        if not self.on_disk:
            self._copy(files, digests, final)
            (final / DOCUMENT).write_bytes(as_json(document))
            return self.load(str(document["id"]))
        making = Path(str(self.folder / f"{MAKING}{final.name}.{uuid.uuid4().hex}"))
        try:
            making.mkdir(parents=True)
            self._copy(files, digests, making)
            self._write_file(making / DOCUMENT, as_json(document))
            for path in making.rglob("*"):
                if path.is_file():
                    path.chmod(0o444)
            making.rename(str(final))
        finally:
            shutil.rmtree(making, ignore_errors=True)
        return self.load(str(document["id"]))

    def _copy(
        self, files: Mapping[str, Place | bytes], digests: Mapping[str, str], folder: Place
    ) -> None:
        for path, source in sorted(files.items()):
            data = source if isinstance(source, bytes) else source.read_bytes()
            if file_digest(data) != digests[path]:
                raise StoreError(
                    f"{path} was replaced while it was released",
                    where=str(source if not isinstance(source, bytes) else path),
                    expected=f"SHA-256 {digests[path][:ID_LENGTH]}, as it was checked",
                    remedy="Wait until no run writes into this output, then release again",
                )
            self._write_file(folder / path, data)

    def _write_file(self, path: Place, data: bytes) -> None:
        if self.on_disk:
            write_atomic(path, data)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)

    def remove(self, release_id: str) -> None:
        """Remove a release: its list first, so that half of it is none."""
        folder = self.folder / release_id
        (folder / DOCUMENT).unlink(missing_ok=True)
        if isinstance(folder, UPath) and not self.on_disk:
            folder.fs.rm(folder.path, recursive=True)
        else:
            shutil.rmtree(str(folder))
