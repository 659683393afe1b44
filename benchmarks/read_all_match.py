"""Which source specification takes a file: by its place, else by its name, else by its layout.

Belongs here: matching a path with the paths of ``data_specs/sources``. Does not belong here:
reading the file or its totals (``read_all.py``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pipeline.specs.sources import SourceSpec
from pipeline.specs.states import ALL_AREAS, State

_MARKS = {
    "{year}": r"\d{4}",
    "{yy}": r"\d{2}",
    "{st}": "[a-z]{2}",
    "{ST}": "[A-Z]{2}",
    "{fips}": r"\d{2}",
    "{State}": "[A-Za-z]+",
    "{table}": r"\w+",
}


@dataclass(frozen=True)
class Candidate:
    """A specification that may take a file. ``how`` is ``path``, ``name`` or ``layout``."""

    spec: SourceSpec
    vintage: str
    role: str
    how: str
    state: State | None = None
    table: str | None = None
    members: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """False where the path is the source's but the year is no vintage of it."""
        return self.vintage in self.spec.vintages


def state_named(text: str | None) -> State | None:
    """By postal code, FIPS code or name without spaces."""
    found = (s for s in ALL_AREAS if text in (s.postal, s.postal.lower(), s.fips, s.compact_name))
    return next(found, None) if text else None


def candidates(relative: str, specs: Mapping[str, SourceSpec]) -> list[Candidate]:
    """Every specification whose path or file name fits ``relative``, those by path first; of
    several vintages the one in the file's name first."""
    found: dict[tuple, Candidate] = {}
    for how in ("path", "name"):
        for spec in specs.values():
            for each in _of_spec(relative, spec, how):
                found.setdefault((spec.id, each.vintage, each.role, each.table), each)

    def rank(each: Candidate) -> tuple[bool, bool, bool]:
        return each.how != "path", not each.known, each.vintage not in PurePosixPath(relative).name

    return sorted(found.values(), key=rank)


def by_layout(relative: str, specs: Mapping[str, SourceSpec]) -> list[Candidate]:
    """Every published table in files of the same ending, newest vintage first."""
    ending = PurePosixPath(relative).suffix.lower()
    return [
        Candidate(spec, vintage, file.role, "layout")
        for spec in specs.values()
        if spec.kind == "published"
        for vintage in sorted(spec.vintages, reverse=True)
        for file in spec.files_of(vintage)
        if any(p.lower().endswith(ending) and "{table}" not in p for p in file.paths)
    ]


def _of_spec(relative: str, spec: SourceSpec, how: str) -> Iterator[Candidate]:
    own = [(v, file) for v, special in spec.vintages.items() for file in special.files or ()]
    for vintage, file in [*own, *((None, file) for file in spec.files)]:
        for pattern in file.paths:
            match = _match(pattern, relative, how)
            if match is None:
                continue
            marks = match.groupdict()
            year = marks.get("year") or ("20" + marks["yy"] if marks.get("yy") else None)
            state = next((marks[m] for m in ("st", "ST", "fips", "State") if marks.get(m)), None)
            table = _spelt(marks.get("table"), spec.tables)
            if (state and not state_named(state)) or (marks.get("table") and table is None):
                continue
            years = [vintage or year] if vintage or year else sorted(spec.vintages, reverse=True)
            for each in years:
                yield Candidate(
                    spec, each or "", file.role, how, state_named(state), table, file.members
                )


def _spelt(table: str | None, tables: tuple[str, ...]) -> str | None:
    return next((each for each in tables if table and each.lower() == table.lower()), None)


def _match(pattern: str, relative: str, how: str) -> re.Match[str] | None:
    if how == "name":
        pattern, relative = PurePosixPath(pattern).name, PurePosixPath(relative).name
        if re.fullmatch(r"\{State\}\.\w+", pattern):
            return None
    text, seen = re.escape(pattern), set[str]()
    for mark, form in _MARKS.items():
        name = mark.strip("{}")
        while (place := re.escape(mark)) in text:
            new = f"(?P={name})" if name in seen else f"(?P<{name}>{form})"
            text, _ = text.replace(place, new, 1), seen.add(name)
    return re.fullmatch(text, relative)
