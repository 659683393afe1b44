"""Reading a source through its spec, and checking its files before an hour is spent.

Belongs here: ``read_source``, ``read_microdata`` and ``check_source``. Does not belong here: which
reader has which name (``named.py``), a publication's layout, or what is made of the tables.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from calibration_core.errors import GeocalError
from pipeline.errors import SourceFileError, SourceLayoutError, SpecError
from pipeline.sources.base import (
    TRANSCRIPTION,
    ReadRequest,
    SourceFile,
    SourceNote,
    SourceTable,
    resolve_files,
)
from pipeline.sources.files import RawFile, digest, read_raw
from pipeline.sources.known_totals import MET, MISSING, known_total_notes
from pipeline.sources.microdata.schema import Microdata
from pipeline.sources.named import Reader, reader_called
from pipeline.sources.presence import missing_files, noted, replacement
from pipeline.sources.tables.text import decode
from pipeline.specs.known_totals import load_known_totals
from pipeline.specs.sources import SourceSpec
from pipeline.specs.states import states_of

# What libraries raise for contents that nobody foresaw: a check names the file and goes on to the
# next. A panic of polars is no Exception.
UNFORESEEN = (
    pl.exceptions.PolarsError,
    pl.exceptions.PanicException,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    OSError,
    EOFError,
    zipfile.BadZipFile,
    zlib.error,
)


@dataclass(frozen=True)
class CheckLine:
    """The state of one raw file: ``ok``, its size and SHA-256 where it could be read, and what was
    found or is wrong. ``missing``: the file is not there at all; ``state`` it is of, or "".
    """

    source: str
    path: str
    ok: bool
    bytes: int
    sha256: str
    message: str
    missing: bool = False
    state: str = ""


def read_source(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> SourceTable:
    """Read one vintage of a publication from ``data_dir``; ``states`` are postal codes, needed by
    sources with files per state.

    Raises a GeocalError naming file, column and row.
    """
    wanted = list(states) if states is not None else None
    other = replacement(spec, vintage, data_dir, wanted)
    if other is not None:
        return noted(_read(other, vintage, data_dir, wanted), spec, other)
    return _read(spec, vintage, data_dir, wanted)


def read_microdata(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> Microdata:
    """Read one vintage of a survey, as ``read_source`` does a publication.

    Raises SpecError if the source is no survey.
    """
    if spec.kind != "microdata":
        raise SpecError(
            f"Source {spec.id} is of kind {spec.kind}, and records are asked of it",
            where=f"data_specs/sources/{spec.id}.yaml",
            expected="kind: microdata",
            remedy="Name a survey under `records` of the profile",
        )
    return _read(spec, vintage, data_dir, states)


def _read(spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None) -> Any:
    wanted = list(states) if states is not None else None
    entry = reader_called(spec.reader_of(vintage), spec.id)
    data = Path(data_dir)
    files = resolve_files(spec, vintage, data, wanted)
    read = entry.read(ReadRequest(spec, vintage, files, states_of(wanted), data))
    return _of_known_total(spec, vintage, data, read)


def _of_known_total(spec: SourceSpec, vintage: str, data_dir: Path | None, read: Any) -> Any:
    """What was read, with notes of the totals it meets and of a form that is not the publisher's.
    Raises KnownTotalError if a total is not met.
    """
    if not isinstance(read, SourceTable | Microdata):
        return read
    notes = [*read.notes]
    if not spec.vintage(vintage).publishers_form:
        words = f"{spec.id} {vintage} is a transcription: {' '.join(spec.vintage(vintage).notes)}"
        notes.append(SourceNote(TRANSCRIPTION, 1, words))
    if spec.known_totals:
        table = read.frame if isinstance(read, SourceTable) else read
        notes += known_total_notes(spec, vintage, table, load_known_totals(data_dir))
    return replace(read, notes=tuple(notes))


def check_source(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> list[CheckLine]:
    """One line per file of a source: each file is opened and its columns and cells are read; no
    fault stops the others.
    """
    wanted = list(states) if states is not None else None
    try:
        spec = replacement(spec, vintage, Path(data_dir), wanted) or spec
        files = resolve_files(spec, vintage, Path(data_dir), wanted)
        named = states_of(wanted)
    except GeocalError as error:
        return [CheckLine(spec.id, str(data_dir), False, 0, "", str(error))]
    if not files:
        # Every file is optional, and one of them must be there.
        files = tuple(missing_files(spec, vintage, Path(data_dir), wanted))
    data = Path(data_dir)
    return [_check_line(ReadRequest(spec, vintage, (file,), named, data), file) for file in files]


def _check_line(request: ReadRequest, file: SourceFile) -> CheckLine:
    size, sha = _digest(file)
    state = file.state.postal if file.state else ""
    line = CheckLine(request.spec.id, str(file.path), False, size, sha, "", state=state)
    try:
        return replace(line, ok=True, message=_check_file(request, file))
    except UNFORESEEN as error:
        return replace(line, message=str(_unforeseen(error, request.spec, file)))
    except GeocalError as error:
        return replace(line, message=str(error), missing=not file.exists)


def _unforeseen(error: BaseException, spec: SourceSpec, file: SourceFile) -> SourceFileError:
    """A library's complaint about contents that no reader foresaw, as a fault of the file."""
    said = (str(error).strip().splitlines() or ["no message"])[0]
    return SourceFileError(
        f"The file cannot be read: {said} ({type(error).__name__})",
        where=str(file.path),
        expected=f"{spec.title}, as published",
        remedy=(
            "Download the file again, and look for cells that somebody edited; if it is as"
            " published, report this with the file's address"
        ),
    )


def _digest(file: SourceFile) -> tuple[int, str]:
    # A file that may not be read is named by the check itself, which opens it again.
    try:
        data = file.path.read_bytes()
    except OSError:
        return 0, ""
    return len(data), digest(data)


def _check_file(request: ReadRequest, file: SourceFile) -> str:
    spec = request.spec
    entry = reader_called(spec.reader_of(request.vintage), spec.id)
    found = [_check_header(request, file)] if spec.kind == "microdata" else []
    if spec.kind != "microdata":
        said = entry.check(request, file) if entry.check else None
        found.append(_check_by_reading(request, file, entry.read) if said is None else said)
    elif spec.known_totals and request.data and file.role == "persons" and file.state is not None:
        own = resolve_files(spec, request.vintage, request.data, [file.state.postal])
        read = entry.read(replace(request, files=own, states=(file.state,)))
        survey = _of_known_total(spec, request.vintage, request.data, read)
        found.append(f"{survey.persons.height:,} persons{_said_of_totals(survey.notes)}")
    elif entry.check is not None:
        found.append(entry.check(request, file))
    return ", ".join(words for words in found if words)


def _said_of_totals(notes: Iterable[SourceNote]) -> str:
    """Whether known totals were met, and a mark of a transcription, for the line of a file."""
    codes = {note.code for note in notes}
    said = []
    if MISSING in codes:
        said += [note.detail for note in notes if note.code == MISSING]
    elif MET in codes:
        said.append("known totals met")
    if TRANSCRIPTION in codes:
        said.append("TRANSCRIPTION, not the publisher's form")
    return "".join(f", {words}" for words in said)


def _check_by_reading(request: ReadRequest, file: SourceFile, read: Reader) -> str:
    if file.role == "geography":
        return f"{len(request.open(file).data):,} bytes"
    # A nationwide list can be judged without the states asked for; a state's own file is read as it
    # will be.
    table = read(request if request.spec.coverage == "state" else replace(request, states=()))
    table = _of_known_total(request.spec, request.vintage, request.data, table)
    withheld = ("suppressed", "not_available")
    notes = sum(note.count for note in table.notes if note.code in withheld)
    said = f", {notes:,} cells withheld or not available" if notes else ""
    return f"{table.frame.height:,} rows{said}{_said_of_totals(table.notes)}"


def _check_header(request: ReadRequest, file: SourceFile) -> str:
    """Open each listed member of an archive and look for the required columns in its header; the
    contents are not read.
    """
    raw = (
        read_raw(
            file.path,
            url=request.spec.url_of(request.vintage, file.state),
            publisher=request.spec.publisher,
        )
        if file.exists
        else request.open(file)
    )
    parts = [raw] if file.path.suffix.lower() != ".zip" else [request.open(file)]
    counts = [_header_columns(request, file, part) for part in parts]
    return f"{sum(counts)} columns"


def _header_columns(request: ReadRequest, file: SourceFile, part: RawFile) -> int:
    first = decode(
        replace(part, data=part.data[:200_000].rsplit(b"\n", 1)[0]), request.spec.encoding
    ).split("\n", 1)[0]
    header = [name.strip().strip('"') for name in first.split(request.layout.separator)]
    if len(header) < 2:
        raise SourceFileError(
            "The first line is no header",
            where=part.provenance.path,
            expected="column names",
            remedy="Download the file again",
        )
    absent = [
        c.label
        for c in request.spec.columns_of(request.vintage, file.role)
        if c.required and not any(c.matches(h, request.vintage) for h in header)
    ]
    if absent:
        raise SourceLayoutError(
            f"{len(absent)} required column(s) are missing: {', '.join(absent)}",
            where=part.provenance.label,
            expected=f"the {len(absent)} columns among the {len(header)} of the header",
            remedy=(
                "Check that this is the right publication and vintage; if the publisher renamed a"
                " column, add it under `renames`"
            ),
        )
    return len(header)
