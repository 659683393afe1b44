"""Raw files that a run would read now, with digests, fast enough to ask at any time.

A file is hashed once and known by its size, times and inode from then on: a status of a folder of
gigabytes takes as long as looking at its list.

Belongs here: which files a source's table is read from, and their digests. Does not belong here:
reading them (``pipeline/sources``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.sources.base import resolve_files
from pipeline.specs.sources import SourceSpec
from pipeline.stored import SETTLED, state_key

ABSENT = "absent"


class RawDigests:
    """SHA-256 of raw files; ``known``: what an earlier process found, by path."""

    def __init__(self, known: Mapping[str, Any] | None = None) -> None:
        self._known: dict[str, Any] = dict(known or {})

    def of(self, path: Path) -> str:
        """SHA-256 of the file, or ``absent``."""
        try:
            key = state_key(path)
            entry = self._known.get(str(path))
            if entry is not None and entry["key"] == key:
                return str(entry["sha256"])
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            return ABSENT
        self._known[str(path)] = {"key": key, "sha256": digest}
        return digest

    def entries(self, now: int) -> dict[str, Any]:
        """What is known, for a later process; ``now`` (nanoseconds): files written just before are
        left out.
        """
        return {
            path: entry
            for path, entry in sorted(self._known.items())
            if max(entry["key"][1:3]) < now - SETTLED
        }


def files_of(
    spec: SourceSpec, vintages: Sequence[str], data: Path, states: Iterable[str] | None
) -> list[Path]:
    """The files that these vintages are read from, missing ones included."""
    asked = None if states is None else list(states)
    found = {
        file.path for vintage in vintages for file in resolve_files(spec, vintage, data, asked)
    }
    return sorted(found)


def relative(path: Path, data: Path) -> str:
    """A raw file's name in a table's provenance: below the data folder, else its name alone."""
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else path.name
