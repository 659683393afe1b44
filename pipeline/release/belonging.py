"""Whether stored tables belong to each other: each was made from the very files stored now.

Every table names the content of each table it was made from (``inputs`` of its facts). A release
follows these names from its own tables up to the raw files' tables, and compares.

Belongs here: that walk, and what does not agree, in words. Does not belong here: what is released
of it (``make.py``), or checks of figures (``certificate.py``).
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pipeline.errors import StoreError
from pipeline.io_manager import read_facts
from pipeline.manifest import read_manifest
from pipeline.release.contents import FIT, NATIONAL_TABLES, NATIONAL_TARGETS, STATE_TABLES
from pipeline.settings import RunEnvironment
from pipeline.stored import Stored, file_digest, stored_of

_NAME = re.compile(r"(?P<asset>[^\[]+)(?:\[(?P<state>[A-Z]{2})\])?")
_SHOWN = 12


@dataclass(frozen=True)
class Mismatch:
    """One table that is not what another was made from.

    ``table`` was made from ``upstream`` with digest ``expected``; ``found`` is stored now ("" where
    there is none, or the reason where it cannot be read).
    """

    table: str
    upstream: str
    expected: str
    found: str

    def words(self) -> str:
        """What is wrong, in one line."""
        if not self.expected:
            return f"{self.table}: {self.found}"
        if not self.found:
            return f"{self.table} was made from {self.upstream}, which is not stored any more"
        return (
            f"{self.table} was made from {self.upstream} {self.expected[:_SHOWN]}, stored is"
            f" {self.found[:_SHOWN]}"
        )


@dataclass
class Belonging:
    """Walks over the stored tables of one profile; what several states share is read once."""

    environment: RunEnvironment
    _tables: dict[str, Stored | None] = field(default_factory=dict)
    _facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _walked: dict[str, list[Mismatch]] = field(default_factory=dict)

    def digest(self, name: str) -> str:
        """Of the content of the stored table called ``weights[RI]`` or ``geography``; of its bytes
        where they are no table; "" without one.
        """
        path = self.environment.table_path(*_parts(name))
        if name not in self._tables:
            self._tables[name] = None
            with contextlib.suppress(StoreError):
                self._tables[name] = stored_of(path.read_bytes()) if path.exists() else None
        stored = self._tables[name]
        if stored is not None:
            return stored.content
        return file_digest(path.read_bytes()) if path.exists() else ""

    def file_digest(self, name: str) -> str:
        """SHA-256 of the stored file; "" without one."""
        self.digest(name)
        stored = self._tables[name]
        return stored.sha256 if stored is not None else self.digest(name)

    def facts(self, name: str) -> dict[str, Any]:
        """What the stored table says of its making. Raises StoreError if it cannot be read."""
        if name not in self._facts:
            self._facts[name] = read_facts(self.environment.table_path(*_parts(name)))
        return self._facts[name]

    def of_table(self, name: str) -> list[Mismatch]:
        """What does not agree in ``name`` and in all it was made from."""
        if name in self._walked:
            return self._walked[name]
        self._walked[name] = found = []
        if not self.digest(name):
            return [Mismatch(name, name, "", "there is no such table")]
        try:
            inputs = self.facts(name).get("inputs", {})
        except StoreError as error:
            found.append(Mismatch(name, name, "", error.found))
            return found
        for upstream, expected in sorted(inputs.items()):
            stored = self.digest(upstream)
            if stored != expected:
                found.append(Mismatch(name, upstream, expected, stored))
            else:
                found += [m for m in self.of_table(upstream) if m not in found]
        return found

    def of_state(self, state: str) -> list[Mismatch]:
        """What does not agree among the tables of a state, its manifest, and all behind them."""
        found: list[Mismatch] = []
        for asset in STATE_TABLES:
            found += [m for m in self.of_table(f"{asset}[{state}]") if m not in found]
        return found + self._of_manifest(state)

    def _of_manifest(self, state: str) -> list[Mismatch]:
        name = f"manifest of {state}"
        try:
            listed = read_manifest(self.environment, state).get("tables", {})
        except StoreError as error:
            return [Mismatch(name, name, "", error.found)]
        found = []
        for asset in STATE_TABLES:
            table = f"{asset}[{state}]"
            stated = (listed.get(asset) or {}).get("sha256") or ""
            if not stated:
                found.append(Mismatch(name, table, "", f"it does not list {asset}"))
            elif stated != self.file_digest(table):
                found.append(Mismatch(name, table, stated, self.file_digest(table)))
        return found

    def of_nation(self, states: Iterable[str]) -> list[Mismatch]:
        """What does not agree among the national tables; they must be made of these states."""
        found: list[Mismatch] = []
        for name in NATIONAL_TABLES:
            found += [m for m in self.of_table(name) if m not in found]
            if name != NATIONAL_TARGETS and self.digest(name):
                found += self._other_states(name, set(states))
        return found

    def _other_states(self, name: str, states: set[str]) -> list[Mismatch]:
        try:
            inputs = self.facts(name).get("inputs", {})
        except StoreError:
            return []
        made_of = {state for key in inputs for asset, state in [_parts(key)] if asset == FIT}
        said = []
        if more := sorted(filter(None, made_of - states)):
            said.append(f"it holds {', '.join(more)}, which the release does not")
        if less := sorted(states - made_of):
            said.append(f"it lacks {', '.join(less)}")
        return [Mismatch(name, name, "", text) for text in said]


def _parts(name: str) -> tuple[str, str | None]:
    found = _NAME.fullmatch(name)
    return (found["asset"], found["state"]) if found else (name, None)
