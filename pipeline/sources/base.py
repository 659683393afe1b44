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
from pipeline.specs.addresses import fill, per_state, saved_as
from pipeline.specs.layouts import Layout
from pipeline.specs.sources import FileSpec, SourceSpec, VintageSpec
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
    there is one, and its official address. ``alternatives``: all paths where it may lie;
    ``by_hand``: why no program can ask for it.
    """

    role: str
    path: Path
    members: tuple[str, ...] = ()
    state: State | None = None
    table: str | None = None
    alternatives: tuple[str, ...] = ()
    url: str = ""
    optional: bool = False
    by_hand: str = ""

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

    def require_files(self) -> None:
        """Raise SourceFileError for the first file that is not there, naming those that are."""
        for file in self.files:
            if not file.exists:
                raise self._missing(file, file.url or self.spec.url_of(self.vintage, file.state))

    def _missing(self, file: SourceFile, url: str) -> SourceFileError:
        """What to fetch, from where, and where to put it; a file in another form than the
        publisher's is described by the vintage's notes.
        """
        several = len(file.alternatives) > 1
        place = "at one of those paths" if several else "at that path"
        if self.special.publishers_form:
            expected = f"{self.spec.title}, {self.vintage}, as the publisher offers it: {url}"
            fetched = "" if file.by_hand else "Let `geocal fetch` bring it, or: "
            remedy = (
                f"{fetched}Download it from {self.spec.publisher}, put it {place}, and run `geocal"
                " check` again"
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
        beside = [other.path.name for other in self.files if other.exists and other.state]
        if len(beside) == 1:
            words += f" ({beside[0]} is there, and cannot serve without it)"
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
    return _once(
        found
        for file in spec.files_of(vintage)
        for table in spec.tables_of(file)
        for found in _resolve(_Place(spec, file, vintage, data_dir, table), wanted)
        if found.exists or not file.optional
    )


def files_to_have(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str]
) -> tuple[SourceFile, ...]:
    """The files of a vintage that somebody should bring, optional ones included, each at the path
    where it is, or is to be saved. Files of single states take the place of the nation's where all
    of ``states`` are there. Raises ProfileError for an unknown state.
    """
    wanted = states_of(states)
    found: list[SourceFile] = []
    for file in spec.files_of(vintage):
        for table in spec.tables_of(file):
            place = _Place(spec, file, vintage, data_dir, table)
            files = _resolve(place, wanted)
            whole = spec.coverage == "nation" and not all(each.exists for each in files)
            found += [_first(place, None, wanted)] if whole else files
    return _once(found)


def _once(files: Iterable[SourceFile]) -> tuple[SourceFile, ...]:
    """Each path once per role and state: a file of the nation stands in for those of states, one of
    several tables for each of them.
    """
    once: dict[tuple[Path, str, State | None], SourceFile] = {}
    for file in files:
        once.setdefault((file.path, file.role, file.state), file)
    return tuple(once.values())


@dataclass(frozen=True)
class _Place:
    """One entry of a spec's files for one table (None: of no table), below a data folder."""

    spec: SourceSpec
    file: FileSpec
    vintage: str
    data_dir: Path
    table: str | None

    def paths(self, state: State | None) -> list[Path]:
        """The usual names, as far as ``state`` fills them in."""
        named = (fill(p, self.vintage, state=state, table=self.table) for p in self.file.paths)
        return [self.data_dir / path for path in named]

    def at(
        self, path: Path, pattern: str, state: State | None, usual: Iterable[Path] = ()
    ) -> SourceFile:
        """The file at ``path``, which follows ``pattern`` of the spec."""
        spec, file = self.spec, self.file
        return SourceFile(
            file.role,
            path,
            tuple(fill(m, self.vintage, state=state, table=self.table) for m in file.members),
            state,
            self.table if "{table}" in pattern else None,
            tuple(map(str, usual)),
            spec.url_of(self.vintage, state, file=file, table=self.table),
            file.optional,
            spec.by_hand(self.vintage, file),
        )


def _resolve(place: _Place, wanted: tuple[State, ...]) -> list[SourceFile]:
    spec, patterns = place.spec, place.file.paths
    if spec.coverage == "state" and any(map(per_state, patterns)):
        return [_first(place, state, wanted) for state in wanted]
    whole = [path for path in patterns if not per_state(path)]
    if not any(
        (place.data_dir / fill(path, place.vintage, table=place.table)).exists() for path in whole
    ):
        single = [path for path in patterns if per_state(path)]
        excerpts = [each for pattern in single for each in _excerpts(place, pattern)]
        if excerpts:
            have = {each.state for each in excerpts}
            missing = [state for state in wanted if state not in have]
            usual = [
                (state, place.data_dir / fill(single[0], place.vintage, state=state))
                for state in missing
            ]
            return excerpts + [place.at(path, single[0], state) for state, path in usual]
    return [_first(place, None, wanted)]


def _first(place: _Place, state: State | None, wanted: tuple[State, ...]) -> SourceFile:
    """The first of the usual names that exists, else the publisher's own name."""
    spec, patterns = place.spec, place.file.paths
    paths = place.paths(state)
    address = spec.url_of(place.vintage, state, file=place.file, table=place.table)
    own = saved_as([path.as_posix() for path in paths], address)
    chosen = next((at for at, path in enumerate(paths) if path.exists()), None)
    if chosen is None:
        chosen = [path.as_posix() for path in paths].index(own)
    # A file of the nation that stands in for those of states is of no state.
    of_one = spec.coverage == "nation" or per_state(patterns[chosen])
    usual = dict.fromkeys(
        path
        for pattern, path in zip(patterns, paths, strict=True)
        for path in _of_states(place, pattern, path, state, wanted)
    )
    return place.at(paths[chosen], patterns[chosen], state if of_one else None, usual)


def _of_states(
    place: _Place, pattern: str, path: Path, state: State | None, wanted: tuple[State, ...]
) -> list[Path]:
    """A usual name as somebody can look for it: of each state asked for, where the nation's file is
    wanted and files of states may stand in for it; none where no state was named.
    """
    if state is not None or not per_state(pattern):
        return [path]
    return [
        place.data_dir / fill(pattern, place.vintage, state=one, table=place.table)
        for one in wanted
    ]


def _state_called(text: str) -> State | None:
    """By postal code in either case, or by its name without spaces."""
    named = {state.compact_name: state for state in BY_POSTAL.values()}
    return BY_POSTAL.get(text.upper()) or named.get(text)


def _excerpts(place: _Place, path: str) -> list[SourceFile]:
    """Files of single states that match ``path``, ordered by FIPS code."""
    named = fill(path, place.vintage, table=place.table)
    pattern = (
        re.escape(named)
        .replace(re.escape("{st}"), "(?P<st>[a-z]{2})")
        .replace(re.escape("{ST}"), "(?P<ST>[A-Z]{2})")
        .replace(re.escape("{State}"), "(?P<State>[A-Za-z]+)")
    )
    folder = place.data_dir / Path(named).parent
    found: list[tuple[str, SourceFile]] = []
    for candidate in sorted(folder.glob("*")) if folder.is_dir() else []:
        match = re.fullmatch(pattern, candidate.relative_to(place.data_dir).as_posix())
        state = _state_called(next(iter(match.groups()))) if match else None
        if state is not None:
            found.append((state.fips, place.at(candidate, path, state)))
    return [own for _, own in sorted(found, key=lambda pair: pair[0])]
