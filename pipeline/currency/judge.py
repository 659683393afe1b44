"""Which stored tables are current, and what makes the others stale.

A table is current if it was made by the code, specifications, raw files and settings that a run
would use now, from tables of the same content as those that lie there now. When it was made does
not count. A table behind a stale one is not judged: whether it is stale turns out once the other
was made again, for that may hold the same as before.

Belongs here: the verdict on each table, in words. Does not belong here: what would be used now
(``making.py``), or running anything (``plan.py``, ``pipeline/runs.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pipeline.currency.graph import Node
from pipeline.currency.making import Making, Makings
from pipeline.errors import StoreError
from pipeline.sample.generate import STAMP
from pipeline.sample.settings import load_settings
from pipeline.stored import Stored, StoredTables, short, table_name

Kind = Literal[
    "missing", "unreadable", "unknown", "raw", "spec", "code", "config", "input", "file", "fail"
]
GONE = "none"
Failed = Callable[[str | None], Mapping[str, str]]


@dataclass(frozen=True)
class Cause:
    """Why a table is stale: ``what`` changed from ``old`` to ``new`` (digests, or values)."""

    kind: Kind
    what: str
    old: str = ""
    new: str = ""

    @property
    def words(self) -> str:
        """The cause as a person reads it."""
        change = f" ({self.old} before, {self.new} now)" if self.old or self.new else ""
        named = {"raw": "raw file", "spec": "specs", "code": "code", "input": "table"}
        if self.kind in named:
            return f"{named[self.kind]} {self.what} changed{change}"
        if self.kind == "file":
            return f"the file of {self.what} was written again{change}"
        if self.kind == "config":
            return f"{self.what} was asked for otherwise{change}"
        return self.what


@dataclass(frozen=True)
class Verdict:
    """A table that is not current: its own ``causes``, and the stale tables ``behind`` which it
    stands."""

    asset: str
    state: str | None
    causes: tuple[Cause, ...]
    behind: tuple[str, ...] = ()


class Judge:
    """Compares what is stored with what a run would make; ``failed``: of a state or the nation
    (None), the steps that failed when they were last run, with the id of the run.
    """

    def __init__(
        self, makings: Makings, tables: StoredTables, failed: Failed = lambda state: {}
    ) -> None:
        self.makings, self.tables = makings, tables
        self._failed = failed

    def stale(
        self,
        nodes: Iterable[Node],
        state: str | None,
        config: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, Verdict]:
        """Verdicts on those of ``nodes`` (in the order of the graph) that are not current, by name.

        ``config``: what the run asks, by step.
        """
        found: dict[str, Verdict] = {}
        failed = {each: self._failed(each) for each in {None, state}}
        for node in nodes:
            asked = dict((config or {}).get(node.operation, {}))
            own = state if node.by_state else None
            behind = tuple(sorted(node.before & found.keys()))
            run = failed[own].get(node.operation)
            causes = (
                *([Cause("fail", f"its last run failed ({run[:8]})")] if run else []),
                *self.causes(node, own, asked),
            )
            if causes or behind:
                found[node.name] = Verdict(node.name, own, causes, behind)
        return found

    def causes(self, node: Node, state: str | None, config: Mapping[str, Any]) -> list[Cause]:
        """Why this table is stale by itself; nothing where it is not."""
        if node.rests == "generated":
            return self._of_generated()
        if node.rests == "manifest":
            return self._of_manifest(node, state)
        name = table_name(node.name, state)
        try:
            table = self.tables.look(name)
        except StoreError as error:
            return [Cause("unreadable", f"the stored table cannot be read: {error.found}")]
        if table is None:
            return [Cause("missing", f"{name} has not been made, or is gone")]
        if "making" not in table.facts:
            return [Cause("unknown", "it was made by a geocal that does not say how")]
        making = self.makings.now(node.name, state, config)
        return [
            *self._of_making(making, table),
            *_of_files(making, table),
            *self._of_inputs(node, state, table),
        ]

    def wholly_missing(self, nodes: Iterable[Node], state: str | None) -> bool:
        """Whether nothing of these is stored: it was never run, or all of it was removed."""
        names = [table_name(n.name, state if n.by_state else None) for n in nodes if n.tabular]
        return not any(self.tables.path(name).exists() for name in names)

    def _of_making(self, making: Making, table: Stored) -> list[Cause]:
        was, now = table.facts["making"], making.facts()
        found: list[Cause] = []
        kinds: tuple[tuple[Kind, Mapping[str, str]], ...] = (
            ("code", making.code),
            ("spec", making.specs),
        )
        for kind, parts in kinds:
            key = "specs" if kind == "spec" else kind
            if was.get(key) != now[key]:
                found += self._parts_changed(kind, str(was.get(key)), now[key], parts)
        old, new = was.get("config", {}), now["config"]
        found += [
            Cause("config", key, str(old.get(key, "the profile's")), str(new.get(key, "profile's")))
            for key in sorted(old.keys() | new.keys())
            if old.get(key) != new.get(key)
        ]
        return found

    def _parts_changed(
        self, kind: Kind, was: str, now: str, parts: Mapping[str, str]
    ) -> list[Cause]:
        old = self.makings.parts(was)
        if old is None:
            return [Cause(kind, "(which, is no longer known)", was, now)]
        return [
            Cause(kind, name, short(old.get(name, GONE)), short(parts.get(name, GONE)))
            for name in sorted(old.keys() | parts.keys())
            if old.get(name) != parts.get(name)
        ]

    def _of_inputs(self, node: Node, state: str | None, table: Stored) -> list[Cause]:
        found = []
        expected = self._inputs_now(node, state)
        for name in sorted(expected.keys() | table.inputs.keys()):
            old, new = table.inputs.get(name, GONE), expected.get(name, GONE)
            # A table that is not there may be made again with the same content.
            if old != new and (new != GONE or not self._may_come(node, name)):
                found.append(Cause("input", name, short(old), short(new)))
        return found

    def _may_come(self, node: Node, name: str) -> bool:
        above = self.makings.graph.nodes.get(name.split("[")[0])
        return above is not None and above.name in node.parents and above.by_state <= node.by_state

    def _inputs_now(self, node: Node, state: str | None) -> dict[str, str]:
        """Content of the tables that it would be made from. One that is not there is a cause of its
        own, and no other."""
        found: dict[str, str] = {}
        for parent in node.parents:
            above = self.makings.graph.nodes.get(parent)
            if above is not None and above.by_state and not node.by_state:
                for each in self.makings.profile.states:
                    name = table_name(parent, each)
                    if not self.tables.broken_link(name):
                        found |= self._content(name)
                continue
            by_state = above is None or above.by_state
            found |= self._content(table_name(parent, state if by_state else None))
        return found

    def _content(self, name: str) -> dict[str, str]:
        try:
            table = self.tables.look(name)
        except StoreError:
            table = None
        return {} if table is None else {name: table.content}

    def _of_generated(self) -> list[Cause]:
        data = self.makings.environment.data
        try:
            stamp = json.loads((data / STAMP).read_text(encoding="utf-8"))
            files, digest = dict(stamp["files"]), stamp["digest"]
        except (OSError, ValueError, KeyError, TypeError):
            return [Cause("missing", "the sample's raw files have not been made, or are gone")]
        now = load_settings().digest
        if digest != now:
            return [Cause("code", "of the sample's generator", short(digest), short(now))]
        return [
            Cause("raw", name, short(sha), short(found))
            for name, sha in sorted(files.items())
            if (found := self.makings.raw.of(data / name)) != sha
        ]

    def _of_manifest(self, node: Node, state: str | None) -> list[Cause]:
        path = self.makings.environment.manifests / f"{state}.json"
        try:
            manifest = json.loads(path.read_text(encoding="utf-8"))
            listed = {name: entry["sha256"] for name, entry in manifest["tables"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return [Cause("missing", f"manifests/{state}.json has not been made, or is damaged")]
        found = self._parts_of_manifest(node, state, manifest)
        for name, sha in sorted(listed.items()):
            above = self.makings.graph.nodes.get(name)
            if sha is None or above is None or not above.tabular:
                continue
            table = self._file(table_name(name, state if above.by_state else None))
            if table != sha:
                found.append(Cause("file", name, short(sha), short(table)))
        return found

    def _parts_of_manifest(
        self, node: Node, state: str | None, manifest: Mapping[str, Any]
    ) -> list[Cause]:
        was = manifest.get("manifest_code")
        making = self.makings.now(node.name, state)
        now = making.facts()["code"]
        self.makings.remember(making)
        if was == now:
            return []
        return self._parts_changed("code", str(was), now, making.code)

    def _file(self, name: str) -> str:
        try:
            table = self.tables.look(name)
        except StoreError:
            return "unreadable"
        return GONE if table is None else table.sha256


def _of_files(making: Making, table: Stored) -> list[Cause]:
    """Raw files that are others than those the table was read from."""
    was = {item["file"]: item["sha256"] for item in table.facts.get("provenance", [])}
    was |= table.facts["making"].get("files", {})
    return [
        Cause("raw", name, short(was.get(name, GONE)), short(making.files.get(name, GONE)))
        for name in sorted(was.keys() | making.files.keys())
        if was.get(name, GONE) != making.files.get(name, GONE)
    ]
