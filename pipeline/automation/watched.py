"""Which raw files a profile's states rest on, and which of them have changed.

Belongs here: the list of files with their states, and the comparison of two looks. Does not belong
here: reading a file, or asking for runs (``changed_files.py``).

A file counts as changed when its size or its time of change differs from what runs were asked for
last, and was the same at two looks in a row: one that is still being copied is left alone. Content
is not read, since a survey's archive has gigabytes and a look must take a second.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from pipeline.sources.base import resolve_files
from pipeline.specs.profiles import Profile
from pipeline.specs.sources import SourceSpec, load_source

ALL_STATES: frozenset[str] = frozenset()
"""Stands for every state, at a file that the whole nation reads."""


def _sources(profile: Profile) -> Iterator[tuple[SourceSpec, str]]:
    """Every source and vintage that the profile reads, or may read once a choice's files come."""
    stated: dict[tuple[str, str], None] = {}
    options = [option for choice in profile.choices for option in choice.options]
    for each in (profile.sources, *(option.sources for option in options)):
        stated |= {
            (source, vintage): None for source, vintages in each.items() for vintage in vintages
        }
    for source, vintage in stated:
        yield load_source(source), vintage


def watched_files(profile: Profile, data: Path) -> dict[str, frozenset[str]]:
    """Paths of the profile's raw files, relative to ``data``, with the states that read each;
    ``ALL_STATES`` where the nation does. Files that are not there are listed too.
    """
    found: dict[str, frozenset[str]] = {}
    for spec, vintage in _sources(profile):
        if spec.coverage != "state":
            for file in resolve_files(spec, vintage, data):
                found[_name(file.path, data)] = ALL_STATES
            continue
        for postal in profile.states:
            for file in resolve_files(spec, vintage, data, [postal]):
                name = _name(file.path, data)
                if found.get(name) != ALL_STATES:
                    found[name] = found.get(name, frozenset()) | {postal}
    return found


def _name(path: Path, data: Path) -> str:
    return path.relative_to(data).as_posix() if path.is_relative_to(data) else str(path)


def look_at(files: Mapping[str, frozenset[str]], data: Path) -> dict[str, str]:
    """Size and time of change of each file as one word; "" of one that is not there."""

    def word(name: str) -> str:
        try:
            stat = (data / name).stat()
        except OSError:
            return ""
        return f"{stat.st_size}:{stat.st_mtime_ns}"

    return {name: word(name) for name in files}


@dataclass(frozen=True)
class Looks:
    """What the sensor remembers. ``asked``: each file as it was when runs were last asked for;
    ``seen``: as it was at the last look."""

    asked: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Looks | None:
        """What a cursor says; None where there is none, or it is not one of ours."""
        try:
            stated = json.loads(cursor or "")
            return cls(dict(stated["asked"]), dict(stated["seen"]))
        except (ValueError, KeyError, TypeError):
            return None

    def cursor(self) -> str:
        return json.dumps({"asked": dict(self.asked), "seen": dict(self.seen)}, sort_keys=True)


@dataclass(frozen=True)
class Change:
    """What two looks say: files that ``changed``, that are still ``settling``, that are ``gone``,
    and what to remember once runs were asked for (``after``) or not (``meanwhile``)."""

    changed: tuple[str, ...]
    settling: tuple[str, ...]
    gone: tuple[str, ...]
    meanwhile: Looks
    after: Looks


def compare(before: Looks | None, now: Mapping[str, str]) -> Change:
    """``now``: ``look_at`` of this moment. The first look takes what is there as known.

    A file that vanished asks for nothing: a run without it would only fail. It counts as changed
    when another stands in its place.
    """
    if before is None:
        first = Looks(dict(now), dict(now))
        return Change((), (), (), first, first)
    others = sorted(name for name, word in now.items() if word != before.asked.get(name, ""))
    gone = tuple(name for name in others if not now[name])
    settling = tuple(n for n in others if now[n] and now[n] != before.seen.get(n))
    changed = tuple(n for n in others if now[n] and n not in settling)
    asked = {**before.asked, **{name: now[name] for name in changed}}
    return Change(changed, settling, gone, Looks(before.asked, dict(now)), Looks(asked, dict(now)))


def states_of_changed(
    changed: tuple[str, ...], files: Mapping[str, frozenset[str]]
) -> frozenset[str]:
    """The states that read any of the changed files; ``ALL_STATES`` where one is the nation's."""
    each = [files[name] for name in changed]
    return ALL_STATES if ALL_STATES in each else frozenset().union(*each)
