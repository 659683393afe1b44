"""Stored tables as they lie on disk: what each holds, what it was made from, and whether tables
that meet are of one making.

A table's *content* is its rows and columns, without the facts of its making. Two makings of equal
content are one: what was made from the first need not be made again. ``inputs`` among a table's
facts names the content of every table that it was made from, so that the chain behind a table can
be walked and compared with what lies there now.

Belongs here: digests, looking at a file once, walking the chain. Does not belong here: writing and
the loading of frames (``io_manager.py``), or whether code and specs are still the same
(``currency``).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from upath import UPath

from pipeline.errors import StoreError

METADATA_KEY = "geocal"
# Length of the footer and the mark, at the end of every Parquet file.
_TAIL = 8
SHORT = 12
# A file written within this many nanoseconds may be written again with the same time on it.
SETTLED = 2_000_000_000


def short(digest: str) -> str:
    """The first digits of a digest, enough to tell one from another."""
    return digest[:SHORT]


def file_digest(data: bytes) -> str:
    """SHA-256 of a stored file's bytes, lower-case hex."""
    return hashlib.sha256(data).hexdigest()


# What polars makes of a file that is damaged in one place or another.
DAMAGED = (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError, ValueError)


def content_digest(data: bytes) -> str:
    """SHA-256 of what a Parquet file holds: its column chunks, and names and types of its columns;
    not its key-value metadata. Raises StoreError unless ``data`` is a whole Parquet file.
    """
    try:
        schema = pl.read_parquet_schema(io.BytesIO(data))
    except DAMAGED as error:
        raise _damaged(error) from error
    footer = int.from_bytes(data[-_TAIL : -_TAIL // 2], "little")
    total = hashlib.sha256(memoryview(data)[: len(data) - _TAIL - footer])
    total.update(json.dumps([[name, str(kind)] for name, kind in schema.items()]).encode())
    return total.hexdigest()


def digest_of(value: Any) -> str:
    """Sixteen hex digits over plain data or models, whatever the order of its keys."""
    text = json.dumps(_plain(value), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: Any) -> Any:
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, (list, tuple)) else value


def table_name(asset: str, partition: str | None) -> str:
    """The name of a table among the ``inputs`` of another: ``weights[RI]``."""
    return f"{asset}[{partition}]" if partition else asset


@dataclass(frozen=True)
class Stored:
    """A stored table: digests of its content and of its file, bytes, and its facts."""

    content: str
    sha256: str
    size: int
    facts: Mapping[str, Any]

    @property
    def inputs(self) -> Mapping[str, str]:
        """Content of the tables it was made from, by name."""
        return self.facts.get("inputs") or {}


def stored_of(data: bytes) -> Stored:
    """What ``data`` holds. Raises StoreError unless it is a Parquet file; facts are empty where it
    is not one of ours.
    """
    content = content_digest(data)
    try:
        stated = pl.read_parquet_metadata(io.BytesIO(data)).get(METADATA_KEY)
        facts = json.loads(stated) if stated else {}
    except DAMAGED as error:
        raise _damaged(error) from error
    return Stored(content, file_digest(data), len(data), facts)


def _damaged(error: BaseException) -> StoreError:
    return StoreError(
        f"A stored table cannot be read ({str(error).splitlines()[0] if str(error) else error!r})",
        expected="a complete Parquet file written by geocal",
        remedy="Delete the file and materialise its asset again",
    )


def state_key(path: Path) -> list[int]:
    """What of a file changes whenever it is written: size, both times, inode."""
    found = path.stat()
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


class StoredTables:
    """The tables below ``root``, each looked at once for as long as it is not written again.

    ``known``: what an earlier process found, by path relative to the root (``entries`` gives it
    back); never trusted for a file that was written since. ``whole``: a table is also read, so that
    damage in the middle of a file is found.
    """

    def __init__(
        self, root: Path | UPath, known: Mapping[str, Any] | None = None, *, whole: bool = False
    ) -> None:
        self.root, self._whole = root, whole
        self._known: dict[str, Any] = dict(known or {})

    def path(self, name: str) -> Path | UPath:
        """Where the table of that name (``weights[RI]``) lies."""
        asset, _, rest = name.partition("[")
        folder = self.root / asset
        return (folder / f"state={rest[:-1]}" if rest else folder) / f"{asset}.parquet"

    def look(self, name: str) -> Stored | None:
        """The table of that name; None where there is none. Raises StoreError where it cannot be
        read.
        """
        path = self.path(name)
        if not isinstance(path, Path):  # a store elsewhere has no times to go by
            return self._read(path) if path.exists() else None
        try:
            key = state_key(path)
        except FileNotFoundError:
            return None
        place = path.relative_to(Path(str(self.root))).as_posix()
        entry = self._known.get(place)
        if entry is not None and entry["key"] == key:
            return Stored(entry["content"], entry["sha256"], key[0], entry["facts"])
        found = self._read(path)
        if found is not None:
            kept = {"content": found.content, "sha256": found.sha256, "facts": dict(found.facts)}
            self._known[place] = {"key": key, **kept}
        return found

    def entries(self, now: int) -> dict[str, Any]:
        """What is known, for a later process; ``now`` (nanoseconds): files written just before are
        left out.
        """
        return {
            place: entry
            for place, entry in sorted(self._known.items())
            if max(entry["key"][1:3]) < now - SETTLED
        }

    def ancestors(self, name: str, stored: Stored) -> Iterator[tuple[str, str, str]]:
        """``(table, content, said by)`` of everything ``stored`` was made from, as far back as the
        tables that lie there now are those that were named.
        """
        waiting, done = [(name, stored)], {name}
        while waiting:
            by, table = waiting.pop()
            for other, content in sorted(table.inputs.items()):
                yield other, content, by
                if other in done:
                    continue
                done.add(other)
                there = self._there(other)
                if there is not None and there.content == content:
                    waiting.append((other, there))

    def broken_link(self, *names: str) -> str:
        """Why tables of these names are not of one making with everything that they were made from
        and lies there now; "" where they are.
        """
        for name in names:
            try:
                table = self.look(name)
            except StoreError as error:
                return f"{error.found}: {error.where}"
            if table is None:
                return f"{name} has not been made"
            for other, content, by in self.ancestors(name, table):
                there = self._there(other)
                if there is None:
                    return f"{by} was made from {other}, which is not there or cannot be read"
                if there.content != content:
                    return (
                        f"{by} was made from {other} {short(content)}, and {other} is"
                        f" {short(there.content)} now"
                    )
        return ""

    def _there(self, name: str) -> Stored | None:
        try:
            return self.look(name)
        except StoreError:
            return None

    def _read(self, path: Path | UPath) -> Stored | None:
        try:
            data = path.read_bytes()
            found = stored_of(data)
            if self._whole:
                _require_rows(data)
            return found
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StoreError(
                f"A stored table cannot be read ({error.strerror or error})",
                where=str(path),
                expected="a file that may be read",
                remedy="Change its permission, or delete it and materialise its asset again",
            ) from error
        except StoreError as error:
            raise StoreError(
                error.found, where=str(path), expected=error.expected, remedy=error.remedy
            ) from error


_shared: dict[str, StoredTables] = {}


def tables_of(root: Path | UPath) -> StoredTables:
    """The tables below ``root``, shared by all steps of this process: each is read once for as long
    as it is not written again."""
    return _shared.setdefault(str(root), StoredTables(root))


def _require_rows(data: bytes) -> None:
    try:
        pl.read_parquet(io.BytesIO(data))
    except DAMAGED as error:
        raise _damaged(error) from error


class OneMaking:
    """The tables that one step loads, checked against each other as they come."""

    def __init__(self, tables: StoredTables) -> None:
        self._tables = tables
        self._said: dict[str, tuple[str, str]] = {}

    def add(self, name: str, stored: Stored) -> None:
        """Take another table. Raises StoreError if it, or one that it was made from, is known in
        another making from a table before.
        """
        chain = [(name, stored.content, ""), *self._tables.ancestors(name, stored)]
        for table, content, by in chain:
            known = self._said.setdefault(table, (content, by))
            if known[0] != content:
                raise self._mixed(table, known, (content, by))

    def _mixed(self, table: str, one: tuple[str, str], two: tuple[str, str]) -> StoreError:
        def said(content: str, by: str) -> str:
            what = f"{by} was made from" if by else "there is now"
            return f"{what} {table} {short(content)}"

        first, second = sorted([one, two], key=lambda each: each[1] != "")
        return StoreError(
            f"Tables of two makings meet: {said(*second)}, and {said(*first)}",
            where=str(self._tables.path(table)),
            expected=f"tables made from one {table}",
            remedy=(
                "Run the state with `geocal run`, which makes again whatever is older than what it"
                " is made from (`geocal why STATE` lists it), or materialise"
                f" {(two[1] or one[1]).split('[')[0]} first"
            ),
        )
