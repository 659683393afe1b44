"""PUMS files: archives opened, and the tests that a file is of the state and year asked for.

Belongs here: members of an archive by name, rows of the state, interview years and ADJINC. Does not
belong here: what a person's or household's columns mean (``acs_pums.py``, ``acs_pums_housing.py``).
"""

from __future__ import annotations

import re
from pathlib import Path

import polars as pl

from pipeline.errors import RecordsError, SourceLayoutError
from pipeline.sources.base import SourceNote
from pipeline.sources.files import RawFile, open_zip, read_member, read_raw
from pipeline.sources.microdata.acs_pums_codes import ADJINC_BY_YEAR
from pipeline.sources.microdata.columns import LINE, SurveyColumns

PUBLISHER = "the US Census Bureau"


def open_pums(
    file: RawFile | Path, kind: str, year: int, state_fips: str, period: int, url: str
) -> list[RawFile]:
    """The CSV member(s) of a PUMS archive, or the CSV itself, after checking that the members'
    names are of this kind, state and year.
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
    return [read_member(raw, name) for name in sorted(found)]


def read_state(
    raws: list[RawFile],
    required: tuple[str | tuple[str, ...], ...],
    optional: tuple[str, ...],
    state_fips: str,
) -> SurveyColumns:
    """The columns of the state's rows from one or several members. Raises SourceLayoutError for
    another state, RecordsError for none at all.
    """
    parts = []
    others: set[str] = set()
    for raw in raws:
        columns = SurveyColumns.read(raw, required, optional)
        state = columns.integer(columns.first_of("ST", "STATE"), low=1, high=72, nullable=False)
        mine = state == int(state_fips)
        others |= {f"{value:02d}" for value in state.filter(~mine).unique()}
        parts.append(columns if mine.all() else columns.filter(mine))
    more = f" and {len(parts) - 1} more" if len(parts) > 1 else ""
    absent = frozenset[str]().union(*(part.absent for part in parts))
    frame = pl.concat(part.frame for part in parts)
    result = SurveyColumns(frame, parts[0].label + more, absent)
    if result.frame.is_empty():
        if others and len(raws) == 1:
            raise SourceLayoutError(
                f"The file holds state {', '.join(sorted(others))}",
                where=f"{result.label}, column ST",
                expected=f"state {state_fips}",
                remedy="Take the state's own file",
            )
        raise RecordsError(
            "A state has no records",
            where=result.label,
            expected=f"person records of state {state_fips}",
            remedy="Check the state, or download the file again",
        )
    if others and len(raws) == 1:
        raise SourceLayoutError(
            f"The file mixes states {state_fips} and {', '.join(sorted(others))}",
            where=f"{result.label}, column ST",
            expected="one state",
            remedy="Take the published file",
        )
    return result


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
