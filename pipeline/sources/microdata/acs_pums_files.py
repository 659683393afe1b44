"""PUMS files: archives opened, and the tests that a file is of the state and year asked for.

Belongs here: members of an archive by name, rows of the state, interview years and ADJINC. Does not
belong here: what a person's or household's columns mean (``acs_pums.py``, ``acs_pums_housing.py``).
"""

from __future__ import annotations

import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import polars as pl

from pipeline.errors import RecordsError, SourceFileError, SourceLayoutError
from pipeline.sources.base import SourceNote
from pipeline.sources.files import FileProvenance, RawFile, open_zip, read_member, read_raw
from pipeline.sources.microdata.acs_pums_codes import ADJINC_BY_YEAR
from pipeline.sources.microdata.columns import LINE, SurveyColumns

PUBLISHER = "the US Census Bureau"
# Bytes of the nation's member read at once: some 90,000 persons, whose text cells take 250 MB.
PIECE = 1 << 26


@dataclass(frozen=True)
class NationMember:
    """A member of the nation's archive. It holds 26 states or so and is never in memory whole: its
    rows are read piece by piece, and those of other states left out.
    """

    archive: RawFile
    name: str

    @property
    def provenance(self) -> FileProvenance:
        return replace(self.archive.provenance, member=self.name)

    def pieces(self) -> Iterator[tuple[RawFile, int]]:
        """Parts of the file, each with its header, and the line in which its first row stands.
        Raises SourceFileError if the member is damaged.
        """
        try:
            with open_zip(self.archive) as archive, archive.open(self.name) as file:
                yield from self._pieces(file)
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise SourceFileError(
                f"Member {self.name} is damaged ({error})",
                where=self.archive.provenance.path,
                expected="a member whose checksum agrees",
                remedy="Download the archive again",
            ) from error

    def _pieces(self, file: IO[bytes]) -> Iterator[tuple[RawFile, int]]:
        header, line, rest = file.readline(), 2, b""
        while block := file.read(PIECE):
            whole, end, tail = (rest + block).rpartition(b"\n")
            rest = tail if end else whole + tail
            if end:
                yield RawFile(header + whole + end, self.provenance), line
                line += whole.count(b"\n") + 1
        if rest:
            yield RawFile(header + rest, self.provenance), line


def open_pums(
    file: RawFile | Path, kind: str, year: int, state_fips: str, period: int, url: str
) -> list[RawFile | NationMember]:
    """The CSV member of a PUMS archive, those of the nation's, or the CSV itself, after checking
    that the members' names are of this kind, state and year.
    """
    raw = file if isinstance(file, RawFile) else read_raw(file, url=url, publisher=PUBLISHER)
    if not raw.data.startswith(b"PK"):
        if raw.provenance.path.lower().endswith(".zip") and not raw.provenance.member:
            open_zip(raw)
        return [raw]
    with open_zip(raw) as archive:
        names = archive.namelist()
    from_2017 = rf"psam_{kind}(?P<state>\d\d|us[a-d])"
    before = rf"ss(?P<yy>\d\d){kind}(?P<postal>[a-z]{{2}}|us[a-d])"
    pattern = re.compile(rf"(?:^|/)(?:{from_2017}|{before})\.csv$", re.IGNORECASE)
    found = {name: match for name in names if (match := pattern.search(name))}
    word = {"p": "person", "h": "housing"}[kind]
    if not found:
        raise SourceLayoutError(
            f"The archive holds no {word} file; it holds {', '.join(names)}",
            where=raw.provenance.path,
            expected=(
                f"a member psam_{kind}{state_fips}.csv (from 2017) or"
                f" ss{year % 100:02d}{kind}**.csv (before)"
            ),
            remedy=f"Take csv_{kind}<state>.zip of the {year} {period}-year PUMS",
        )
    for name, match in found.items():
        if match["state"] and match["state"].isdigit() and match["state"] != state_fips:
            raise SourceLayoutError(
                f"The archive is of state {match['state']}",
                where=f"{raw.provenance.path} member {name}",
                expected=f"state {state_fips}",
                remedy="Take the state's own file",
            )
        if match["yy"] and int(match["yy"]) != year % 100:
            raise SourceLayoutError(
                f"The archive is of 20{match['yy']}",
                where=f"{raw.provenance.path} member {name}",
                expected=f"PUMS {year}",
                remedy="Take the vintage of the profile",
            )
    return [
        NationMember(raw, name) if _of_nation(found[name]) else read_member(raw, name)
        for name in sorted(found)
    ]


def _of_nation(found: re.Match[str]) -> bool:
    return (found["state"] or found["postal"]).lower().startswith("us")


def read_state(
    raws: list[RawFile | NationMember],
    required: tuple[str | tuple[str, ...], ...],
    optional: tuple[str, ...],
    state_fips: str,
    whole: tuple[str, ...] = (),
) -> SurveyColumns:
    """The columns of the state's rows from one file, or from the members of the nation's archive.
    Raises SourceLayoutError for another state, RecordsError for none at all.
    ``whole``: as of ``SurveyColumns.read``.
    """
    parts: list[SurveyColumns] = []
    others: set[int] = set()
    for raw in raws:
        if isinstance(raw, NationMember):
            parts += _of_one_state(raw, required, optional, state_fips, whole)
            continue
        columns = SurveyColumns.read(raw, required, optional, whole=whole)
        state = _states(columns)
        mine = state == int(state_fips)
        others |= set(state.filter(~mine).unique())
        parts.append(columns if mine.all() else columns.filter(mine))
    result = _joined(parts, raws[0])
    single = not isinstance(raws[0], NationMember)
    named = ", ".join(f"{value:02d}" for value in sorted(others))
    if result.frame.is_empty() and others and single:
        raise SourceLayoutError(
            f"The file holds state {named}",
            where=f"{result.label}, column ST",
            expected=f"state {state_fips}",
            remedy="Take the state's own file",
        )
    if result.frame.is_empty():
        raise RecordsError(
            "A state has no records",
            where=result.label,
            expected=f"person records of state {state_fips}",
            remedy="Check the state, or download the file again",
        )
    if others and single:
        raise SourceLayoutError(
            f"The file mixes states {state_fips} and {named}",
            where=f"{result.label}, column ST",
            expected="one state",
            remedy="Take the published file",
        )
    return result


def _joined(parts: list[SurveyColumns], first: RawFile | NationMember) -> SurveyColumns:
    labels = dict.fromkeys(part.label for part in parts)
    label = next(iter(labels), first.provenance.label)
    more = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
    absent = frozenset[str]().union(*(part.absent for part in parts))
    frame = pl.concat([part.frame for part in parts]) if parts else pl.DataFrame()
    # In one chunk: pl.format of polars 2.1 panics on a series of several.
    frame = frame.rechunk()
    return SurveyColumns(frame, label + more, absent)


def _states(columns: SurveyColumns) -> pl.Series:
    return columns.integer(columns.first_of("ST", "STATE"), low=1, high=72, nullable=False)


def _of_one_state(
    member: NationMember,
    required: tuple[str | tuple[str, ...], ...],
    optional: tuple[str, ...],
    state_fips: str,
    whole: tuple[str, ...],
) -> Iterator[SurveyColumns]:
    """Rows of one state. States follow one another, so most pieces hold none: of those only the
    column of states is read.
    """
    for piece, line in member.pieces():
        states = _states(SurveyColumns.read(piece, [("ST", "STATE")], first_line=line))
        mine = states == int(state_fips)
        if mine.any():
            columns = SurveyColumns.read(piece, required, optional, first_line=line, whole=whole)
            yield columns if mine.all() else columns.filter(mine)


def check_year(columns: SurveyColumns, year: int, period: int, notes: list[SourceNote]) -> None:
    """Serial numbers of 13 characters begin with the interview year; ADJINC of the last year's
    records is published in the data dictionary.
    """
    serial = columns.text("SERIALNO")
    has_year = (serial.str.len_chars() == 13).all()
    years = serial.str.head(4).cast(pl.Int32, strict=False)
    remedy = f"Take the {year} {period}-year PUMS, or change the vintage in the profile"
    if has_year:
        allowed = pl.int_range(year - period + 1, year + 1, eager=True)
        bad = ~years.is_in(allowed.implode()).fill_null(False)
        if bad.any():
            raise SourceLayoutError(
                f"SERIALNO {serial.filter(bad)[0]} is of another year; years found:"
                f" {', '.join(map(str, years.unique().sort()))}",
                where=(
                    f"{columns.label}, line {columns.frame[LINE].filter(bad)[0]}, column SERIALNO"
                ),
                expected=f"interview years {allowed[0]} to {allowed[-1]}",
                remedy=remedy,
            )
    adjustment = columns.integer("ADJINC", low=500_000, high=3_000_000, nullable=False)
    last = adjustment.filter(years == year) if has_year else adjustment
    if last.is_empty():
        return
    found = int(last[0])
    known = ADJINC_BY_YEAR.get(year)
    other = [y for y, value in ADJINC_BY_YEAR.items() if value == found and y != year]
    if other and period == 1:
        raise SourceLayoutError(
            f"ADJINC is {found}, the factor of {other[0]}",
            where=f"{columns.label}, column ADJINC",
            expected=f"{known} for {year}",
            remedy=remedy,
        )
    if found != known:
        dictionary = f"the data dictionary value known for {year} is {known}"
        detail = f"records with ADJINC {found}; {dictionary}; the file's value was applied"
        notes.append(SourceNote("adjinc_unverified", len(last), detail))
