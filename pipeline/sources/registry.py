"""Readers by name, reading a source of a profile, and checking its files before an hour is spent.

Belongs here: the table of readers, ``read_source`` and ``check_source``. Does not belong here: a
publication's layout, or what the assets do with the tables.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from calibration_core.errors import GeocalError
from pipeline.errors import SourceFileError, SourceLayoutError, SpecError
from pipeline.sources import acs_tables, irs_soi, population, ssa, ssa_stacked, tract_puma
from pipeline.sources.base import ReadRequest, SourceFile, resolve_files
from pipeline.sources.files import RawFile, digest, read_raw
from pipeline.sources.text import decode
from pipeline.specs.sources import SourceSpec
from pipeline.specs.states import State, states_of

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

Reader = Callable[[ReadRequest], Any]
Checker = Callable[[ReadRequest, SourceFile], str]


@dataclass(frozen=True)
class CheckLine:
    """The state of one raw file: ``ok``, its size and SHA-256 where it could be read, and what was
    found or is wrong.
    """

    source: str
    path: str
    ok: bool
    bytes: int
    sha256: str
    message: str


@dataclass(frozen=True)
class ReaderEntry:
    """A reader, and how to check one of its files: by reading it (None) or by a cheaper function
    that returns a message.
    """

    read: Reader
    check: Checker | None = None


_READERS: dict[str, ReaderEntry] = {
    "acs_api_json": ReaderEntry(acs_tables.read_api_json),
    "acs_download_csv": ReaderEntry(acs_tables.read_download_csv),
    "acs_group_csv": ReaderEntry(acs_tables.read_group_csv),
    "acs_table_based_dat": ReaderEntry(acs_tables.read_table_based),
    "irs_historic_table_2": ReaderEntry(irs_soi.read_historic_table_2),
    "irs_county": ReaderEntry(irs_soi.read_county),
    "ssa_workbook": ReaderEntry(ssa.read_workbook),
    "ssa_ssi_stacked": ReaderEntry(ssa_stacked.read_ssi_stacked),
    "ssa_oasdi_zip": ReaderEntry(ssa_stacked.read_oasdi_zip),
    "pep_csv": ReaderEntry(population.read_pep),
    "svi_csv": ReaderEntry(population.read_svi),
    "tidy_csv": ReaderEntry(population.read_tidy),
    "tract_puma": ReaderEntry(tract_puma.read_tract_puma),
}


def register_reader(name: str, read: Reader, check: Checker | None = None) -> None:
    """Add a reader (of microdata, say) under ``name``; registering the same function again changes
    nothing.

    ``check(request, file)`` opens one file, raises a GeocalError if it cannot serve, and returns a
    message. Raises SpecError if another reader has the name.
    """
    held = _READERS.get(name)
    if held is not None and held.read is not read:
        raise SpecError(
            f"A reader {name!r} exists",
            where="pipeline/sources/registry.py",
            expected="a new name",
            remedy="Give the reader another name",
        )
    _READERS[name] = ReaderEntry(read, check)


def reader_names() -> list[str]:
    """The names of all readers, sorted."""
    return sorted(_READERS)


def _entry(spec: SourceSpec, vintage: str) -> ReaderEntry:
    name = spec.reader_of(vintage)
    if name not in _READERS:
        raise SpecError(
            f"There is no reader {name!r}",
            where=f"data_specs/sources/{spec.id}.yaml",
            expected=f"one of {', '.join(reader_names())}",
            remedy="Correct `reader` in the source's YAML, or import the module that registers it",
        )
    return _READERS[name]


def read_source(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> Any:
    """Read one vintage of a source from ``data_dir``; ``states`` are postal codes, needed by
    sources with files per state.

    Returns the reader's SourceTable (microdata readers: what they return). Raises a GeocalError
    naming file, column and row.
    """
    wanted = list(states) if states is not None else None
    entry = _entry(spec, vintage)
    request = ReadRequest(
        spec, vintage, resolve_files(spec, vintage, Path(data_dir), wanted), states_of(wanted)
    )
    return entry.read(request)


def check_source(
    spec: SourceSpec, vintage: str, data_dir: Path, states: Iterable[str] | None = None
) -> list[CheckLine]:
    """One line per file of a source: each file is opened and its columns and cells are read; no
    fault stops the others.
    """
    wanted = list(states) if states is not None else None
    try:
        files = resolve_files(spec, vintage, Path(data_dir), wanted)
        named = states_of(wanted)
    except GeocalError as error:
        return [CheckLine(spec.id, str(data_dir), False, 0, "", str(error))]
    lines = []
    for file in files:
        request = ReadRequest(spec, vintage, (file,), named)
        size, sha = _digest(file)
        try:
            message = _check_file(request, file)
            lines.append(CheckLine(spec.id, str(file.path), True, size, sha, message))
        except UNFORESEEN as error:
            said = str(_unforeseen(error, spec, file))
            lines.append(CheckLine(spec.id, str(file.path), False, size, sha, said))
        except GeocalError as error:
            lines.append(CheckLine(spec.id, str(file.path), False, size, sha, str(error)))
    return lines


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
    name = request.spec.reader_of(request.vintage)
    entry = _READERS.get(name)
    if entry is not None and entry.check is not None:
        return entry.check(request, file)
    if name == "acs_pums" and file.role == "persons" and file.state is not None:
        return f"{_check_header(request, file)}, {_check_pums(request, file.path, file.state)}"
    if entry is None or request.spec.kind == "microdata":
        return _check_header(request, file)
    if file.role == "geography":
        return f"{len(request.open(file).data):,} bytes"
    # A nationwide list can be judged without the states asked for; a state's own file is read as it
    # will be.
    table = entry.read(request if request.spec.coverage == "state" else replace(request, states=()))
    notes = sum(note.count for note in table.notes if note.code in ("suppressed", "not_available"))
    return f"{table.frame.height:,} rows" + (
        f", {notes:,} cells withheld or not available" if notes else ""
    )


def _check_pums(request: ReadRequest, path: Path, state: State) -> str:
    """Read the state's persons as a run would: their year, state and weights are no matter of the
    header.
    """
    from pipeline.sources.acs_pums import read_pums

    url = request.spec.url_of(request.vintage, state)
    found = read_pums(
        path, year=int(request.vintage), state_fips=state.fips, source=request.spec.id, url=url
    )
    return f"{found.persons.height:,} persons"


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
