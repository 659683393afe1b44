"""From the publishers' area codes to level and GEOID, and the checks on them.

Belongs here: Census GEO_IDs, padded and unpadded FIPS codes, the filter by level and by state. Does
not belong here: names of states (``pipeline/specs/states.py``) or tract-to-PUMA lists
(``readers/tract_puma.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.errors import SourceValueError
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.sources.tables.text import ROW
from pipeline.vocabulary import GEOID_LENGTH, NATION, SUMMARY_LEVELS

# https://www.census.gov/programs-surveys/geography/guidance/geo-identifiers.html
_OTHER_LEVELS = {
    **{"060": "county subdivisions", "150": "block groups", "160": "places", "795": "PUMAs"},
    **{"310": "metropolitan areas", "500": "congressional districts", "860": "ZCTAs"},
}
_GEO_ID = r"^(\d{3})[0-9A-Z]{2,6}US([0-9A-Z]*)$"


def geo_id(column: str) -> tuple[pl.Expr, pl.Expr]:
    """Expressions (level, geoid) of a GEO_ID such as 0500000US44007; the level is ``sumlev NNN``
    where it is none of ours.
    """
    text = pl.col(column).str.strip_chars()
    code = text.str.extract(_GEO_ID, 1)
    level = code.replace_strict(
        SUMMARY_LEVELS, default=pl.concat_str(pl.lit("sumlev "), code), return_dtype=pl.String
    )
    return level, text.str.extract(_GEO_ID, 2)


def plain_code(column: str) -> tuple[pl.Expr, pl.Expr]:
    """Expressions (level, geoid) of FIPS codes of full width, ``US`` the nation; null elsewhere."""
    text = pl.col(column).str.strip_chars()
    width = {str(length): level for level, length in GEOID_LENGTH.items() if length}
    digits = pl.when(text.str.contains(r"^\d+$")).then(text.str.len_chars().cast(pl.String))
    level = digits.replace_strict(width, default=None, return_dtype=pl.String)
    nation = text == "US"
    return (
        pl.when(nation).then(pl.lit(NATION)).otherwise(level),
        pl.when(nation).then(pl.lit("")).when(level.is_not_null()).then(text),
    )


def padded(column: str, width: int) -> pl.Expr:
    """A code of digits, filled with leading zeros to ``width``; null if it is not made of digits or
    is too long.
    """
    text = pl.col(column).str.strip_chars()
    return pl.when(text.str.contains(rf"^\d{{1,{width}}}$")).then(text.str.zfill(width))


def refuse_bad_codes(
    areas: pl.DataFrame, shown: str, provenance: FileProvenance, expected: str
) -> None:
    """Raise SourceValueError for the first row without a level or GEOID; ``shown`` is the column
    that held the code.
    """
    bad = areas.filter(pl.col("geoid").is_null() | pl.col("level").is_null())
    if not bad.is_empty():
        first = bad.sort(ROW).row(0, named=True)
        raise SourceValueError(
            f"{bad.height:,} row(s) have no usable area code; the first is {first[shown]!r}",
            where=f"{provenance.label}, column {shown}, row {first[ROW]}",
            expected=expected,
            remedy=(
                "Download the file again; if a spreadsheet saved it, leading zeros or codes may be"
                " lost: use the publisher's file as it is"
            ),
        )


def keep_areas(
    areas: pl.DataFrame, request: ReadRequest, file: SourceFile, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """Rows of the spec's levels, and for a state source of the states asked for; what is left out
    is counted.

    Raises SourceValueError if a file of one state holds an area of another, or no row of the states
    asked for remains.
    """
    notes: list[SourceNote] = []
    wanted = pl.col("level").is_in(list(request.spec.levels))
    for level, count in areas.filter(~wanted).group_by("level").len().sort("level").iter_rows():
        notes.append(
            SourceNote(
                "rows_of_other_levels",
                count,
                f"{provenance.label}: {count:,} row(s) of level {_level_in_words(level)} are not"
                " part of this source and were left out",
            )
        )
    kept = areas.filter(wanted)
    located = pl.col("level").is_in(["state", "county", "tract"])
    if file.state is not None:
        alien = kept.filter(located & (pl.col("geoid").str.slice(0, 2) != file.state.fips))
        if not alien.is_empty():
            first = alien.sort(ROW).row(0, named=True)
            raise SourceValueError(
                f"The file of {file.state.postal} holds {alien.height:,} area(s) of another state,"
                f" the first {first['geoid']} ({first['name']})",
                where=f"{provenance.label}, row {first[ROW]}",
                expected=f"areas whose code begins with {file.state.fips}",
                remedy="Put the file of the right state at that path",
            )
    elif request.spec.coverage == "state" and request.states:
        codes = [state.fips for state in request.states]
        inside = kept.filter(~located | pl.col("geoid").str.slice(0, 2).is_in(codes))
        if inside.height < kept.height:
            left = kept.height - inside.height
            notes.append(
                SourceNote(
                    "rows_of_other_states",
                    left,
                    f"{provenance.label}: {left:,} row(s) of other states than"
                    f" {', '.join(s.postal for s in request.states)} were left out",
                )
            )
        kept = inside
    if kept.is_empty():
        raise SourceValueError(
            f"No row is left of the levels {', '.join(request.spec.levels)}"
            + (
                f" in {', '.join(s.postal for s in request.states)}"
                if request.states and request.spec.coverage == "state"
                else ""
            )
            + _levels_held(areas),
            where=provenance.path,
            expected="at least one area of the publication's levels",
            remedy="Check that this is the right file and state",
        )
    return kept, notes


def _level_in_words(level: str) -> str:
    """``sumlev 150 (block groups)``; a level of ours is its own word."""
    other = _OTHER_LEVELS.get(level.removeprefix("sumlev "))
    return f"{level} ({other})" if other else level


def _levels_held(areas: pl.DataFrame) -> str:
    counts = areas.group_by("level").len().sort("level").iter_rows()
    return "; the file holds " + ", ".join(
        f"{count:,} row(s) of level {_level_in_words(level)}" for level, count in counts
    )
