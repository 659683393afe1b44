"""What every reader takes and gives: the request, the table, its notes, and the files a spec points
to.

Belongs here: the data classes of reading, and finding a publication's files in the data folder.
Does not belong here: opening files (``files.py``), or any publication's layout.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pipeline.errors import ProfileError, SourceFileError
from pipeline.sources.files import FileProvenance, RawFile, open_zip, read_member, read_raw
from pipeline.specs.layouts import Layout
from pipeline.specs.sources import FileSpec, SourceSpec, VintageSpec, fill
from pipeline.specs.states import BY_POSTAL, State, states_of

# The code of the note on a file in another form than the publisher's.
TRANSCRIPTION = "transcription"


@dataclass(frozen=True)
class SourceNote:
    """A counted fact about what was read: ``code`` names its kind, ``count`` how often, ``detail``
    in words.
    """

    code: str
    count: int
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} ({self.count:,})"


def merged_notes(notes: Iterable[SourceNote]) -> tuple[SourceNote, ...]:
    """Each note once, sorted by code and text; counts of the same ones add up, and those that come
    to nothing are left out.
    """
    total: Counter[tuple[str, str]] = Counter()
    for note in notes:
        total[(note.code, note.detail)] += note.count
    return tuple(
        SourceNote(code, count, detail) for (code, detail), count in sorted(total.items()) if count
    )


@dataclass(frozen=True)
class SourceTable:
    """What a reader returns. ``frame``: a PublishedTable (or TractPumaTable); ``provenance``: one
    entry per file read.
    """

    frame: pl.DataFrame
    provenance: tuple[FileProvenance, ...]
    notes: tuple[SourceNote, ...]


@dataclass(frozen=True)
class SourceFile:
    """A file that a spec points to: the path to read, its role, the state or table it is for, where
    there is one, and its official address.
    """

    role: str
    path: Path
    members: tuple[str, ...] = ()
    state: State | None = None
    table: str | None = None
    alternatives: tuple[str, ...] = ()
    url: str = ""

    @property
    def exists(self) -> bool:
        return self.path.exists()


@dataclass(frozen=True)
class ReadRequest:
    """One call of a reader: the spec, the vintage, the files found, the states asked for (empty:
    all), and the folder they were found in, where it is known.
    """

    spec: SourceSpec
    vintage: str
    files: tuple[SourceFile, ...]
    states: tuple[State, ...] = ()
    data: Path | None = None

    @property
    def special(self) -> VintageSpec:
        return self.spec.vintage(self.vintage)

    @property
    def layout(self) -> Layout:
        return self.spec.layout_of(self.vintage)

    def open(self, file: SourceFile) -> RawFile:
        """The bytes of ``file``, or of its one member where it is an archive. Raises
        SourceFileError, SourceLayoutError.
        """
        url = file.url or self.spec.url_of(self.vintage, file.state)
        if not file.exists:
            raise self._missing(file, url)
        raw = read_raw(file.path, url=url, publisher=self.spec.publisher)
        if file.members and file.path.suffix.lower() == ".zip":
            with open_zip(raw) as archive:
                held = [name.lower() for name in archive.namelist()]
            # The publisher has renamed members between vintages: the first listed name that the
            # archive holds is taken.
            known = [
                member
                for member in file.members
                if any(name.endswith(member.lower()) for name in held)
            ]
            return read_member(raw, (known or list(file.members))[0])
        return raw

    def _missing(self, file: SourceFile, url: str) -> SourceFileError:
        """What to fetch, from where, and where to put it; a file in another form than the
        publisher's is described by the vintage's notes.
        """
        several = len(file.alternatives) > 1
        place = "at one of those paths" if several else "at that path"
        if self.special.publishers_form:
            expected = f"{self.spec.title}, {self.vintage}, as the publisher offers it: {url}"
            remedy = (
                f"Download it from {self.spec.publisher}, put it {place}, and run `geocal check`"
                " again"
            )
        else:
            expected = (
                f"{self.spec.title}, {self.vintage}, in another form than the publisher's."
                f" {' '.join(self.special.notes)}"
            )
            remedy = (
                f"Put the file described there {place}, and run `geocal check` again; its figures"
                f" are those of {self.spec.publisher}, {url}"
            )
        words = (
            "A raw file is missing; none of its usual names exists"
            if several
            else "A raw file is missing"
        )
        return SourceFileError(
            words,
            where=", ".join(file.alternatives) or str(file.path),
            expected=expected,
            remedy=remedy,
        )


def resolve_files(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> tuple[SourceFile, ...]:
    """The files of a vintage, sorted as the spec lists them; a missing required file is listed too,
    so that it can be named.

    A file of a state source is resolved once per state asked for. Optional files appear only where
    they exist. Raises ProfileError for an unknown state, or when a state source is asked for
    without states.
    """
    wanted = states_of(states)
    if spec.coverage == "state" and not wanted:
        raise ProfileError(
            f"Source {spec.id} has one set of files per state, and no state was named",
            where=f"source {spec.id}, vintage {vintage}",
            expected="at least one postal code",
            remedy="Name the states to read",
        )
    found: list[SourceFile] = []
    for file in spec.files_of(vintage):
        for table in spec.tables if any("{table}" in path for path in file.paths) else (None,):
            found += _resolve(spec, file, vintage, data_dir, wanted, table)
    return tuple(found)


def _resolve(
    spec: SourceSpec,
    file: FileSpec,
    vintage: str,
    data_dir: Path,
    wanted: tuple[State, ...],
    table: str | None,
) -> list[SourceFile]:
    if spec.coverage == "state" and any(_per_state(path) for path in file.paths):
        # A file of the nation that stands in for those of states is read once.
        each = [f for state in wanted for f in _first(spec, file, vintage, data_dir, state, table)]
        return list({(f.path, f.state): f for f in each}.values())
    whole = [path for path in file.paths if not _per_state(path)]
    if not any((data_dir / fill(path, vintage, table=table)).exists() for path in whole):
        excerpts = [
            each
            for path in file.paths
            if _per_state(path)
            for each in _excerpts(spec, file, path, vintage, data_dir, table)
        ]
        if excerpts:
            have = {each.state for each in excerpts}
            pattern = next(path for path in file.paths if _per_state(path))
            missing = [state for state in wanted if state not in have]
            return excerpts + [
                SourceFile(
                    file.role,
                    data_dir / fill(pattern, vintage, state=s, table=table),
                    file.members,
                    s,
                    table,
                    url=spec.url_of(vintage, s, file=file, table=table),
                )
                for s in missing
            ]
    return _first(spec, file, vintage, data_dir, None, table)


def _per_state(path: str) -> bool:
    return any(mark in path for mark in ("{st}", "{ST}", "{fips}", "{State}"))


def _first(
    spec: SourceSpec,
    file: FileSpec,
    vintage: str,
    data_dir: Path,
    state: State | None,
    table: str | None,
) -> list[SourceFile]:
    paths = [data_dir / fill(path, vintage, state=state, table=table) for path in file.paths]
    members = tuple(fill(member, vintage, state=state, table=table) for member in file.members)
    existing = [at for at, path in enumerate(paths) if path.exists()]
    if not existing and file.optional:
        return []
    chosen = (existing or [0])[0]
    of_one = spec.coverage == "nation" or _per_state(file.paths[chosen])
    return [
        SourceFile(
            file.role,
            paths[chosen],
            members,
            state if of_one else None,
            table,
            tuple(map(str, paths)),
            spec.url_of(vintage, state, file=file, table=table),
        )
    ]


def _state_called(text: str) -> State | None:
    """By postal code in either case, or by its name without spaces."""
    named = {state.compact_name: state for state in BY_POSTAL.values()}
    return BY_POSTAL.get(text.upper()) or named.get(text)


def _excerpts(
    spec: SourceSpec, file: FileSpec, path: str, vintage: str, data_dir: Path, table: str | None
) -> list[SourceFile]:
    """Files of single states that match ``path``, ordered by FIPS code."""
    pattern = (
        re.escape(fill(path, vintage, table=table))
        .replace(re.escape("{st}"), "(?P<st>[a-z]{2})")
        .replace(re.escape("{ST}"), "(?P<ST>[A-Z]{2})")
        .replace(re.escape("{State}"), "(?P<State>[A-Za-z]+)")
    )
    folder = data_dir / Path(fill(path, vintage, table=table)).parent
    found: list[tuple[str, SourceFile]] = []
    for candidate in sorted(folder.glob("*")) if folder.is_dir() else []:
        match = re.fullmatch(pattern, candidate.relative_to(data_dir).as_posix())
        state = _state_called(next(iter(match.groups()))) if match else None
        if state is not None:
            url = spec.url_of(vintage, state, file=file, table=table)
            own = SourceFile(file.role, candidate, file.members, state, table, url=url)
            found.append((state.fips, own))
    return [own for _, own in sorted(found, key=lambda pair: pair[0])]
