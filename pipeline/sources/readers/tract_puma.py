"""Reader of the Census Bureau's tract-to-PUMA relationship files.

Belongs here: the list of tracts with their county and PUMA. Does not belong here: the tree of areas
that calibration uses (``calibration_core/tree/geography.py``).

Layout: https://www.census.gov/programs-surveys/geography/guidance/geo-areas/pumas.html
"""

from __future__ import annotations

import polars as pl

from pipeline.errors import SourceValueError
from pipeline.sources.base import ReadRequest, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.columns import apply_renames, need, refuse_wrong_vintage
from pipeline.sources.tables.schemas import TractPumaTable, validated
from pipeline.sources.tables.text import ROW, delimited

WIDTHS = {"STATEFP": 2, "COUNTYFP": 3, "TRACTCE": 6, "PUMA5CE": 5}


@reader("tract_puma")
def read_tract_puma(request: ReadRequest) -> SourceTable:
    """All tracts of the file, or those of the states asked for.

    Returns a TractPumaTable sorted by tract: ``state_fips`` (2 digits), ``county_fips`` (5),
    ``tract`` (11), ``puma`` (7). Counties that were renamed since have their present code
    (``recode_counties`` of the vintage), counted in the notes. Raises SourceValueError for a code
    that is not of full width, and for a tract that stands in the list twice.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        frame = apply_renames(
            request,
            delimited(raw, encoding=request.spec.encoding, separator=request.layout.separator),
        )
        need(frame, WIDTHS, raw.provenance)
        _refuse_short_codes(frame, raw.provenance)
        refuse_wrong_vintage(
            request,
            frame,
            frame.select((pl.col("STATEFP") + pl.col("COUNTYFP")).alias("geoid")),
            raw.provenance,
        )
        state, county = pl.col("STATEFP"), pl.col("COUNTYFP")
        table = frame.select(
            state.alias("state_fips"),
            (state + county).alias("county_fips"),
            (state + county + pl.col("TRACTCE")).alias("tract"),
            (state + pl.col("PUMA5CE")).alias("puma"),
            ROW,
        )
        renamed = request.special.recode_counties
        old = table.filter(pl.col("county_fips").is_in(list(renamed)))
        table = table.with_columns(pl.col("county_fips").replace(renamed)).with_columns(
            tract=pl.col("county_fips") + pl.col("tract").str.slice(5)
        )
        _refuse_repeated_tracts(table, raw.provenance)
        if request.states:
            inside = table.filter(pl.col("state_fips").is_in([s.fips for s in request.states]))
            left = table.height - inside.height
            if left:
                notes.append(
                    SourceNote(
                        "rows_of_other_states",
                        left,
                        f"{raw.provenance.label}: {left:,} tract(s) of states that were not"
                        " asked for",
                    )
                )
            table, old = (
                inside,
                old.filter(pl.col("state_fips").is_in([s.fips for s in request.states])),
            )
        if old.height:
            pairs = ", ".join(
                f"{code} as {renamed[code]}" for code in old["county_fips"].unique().sort()
            )
            notes.append(
                SourceNote(
                    "counties_recoded",
                    old.height,
                    f"{raw.provenance.label}: {old.height:,} tract(s) given their county's present"
                    f" code: {pairs}",
                )
            )
        absent = [s.postal for s in request.states if s.fips not in set(table["state_fips"])]
        if absent:
            raise SourceValueError(
                f"The list has no tract of {', '.join(absent)}",
                where=raw.provenance.label,
                expected="tracts of every state asked for",
                remedy="Use the nationwide list",
            )
        frames.append(table)
        provenance.append(raw.provenance)
    whole = validated(
        pl.concat(frames), TractPumaTable, ", ".join(p.label for p in provenance)
    ).sort("tract")
    return SourceTable(whole, tuple(provenance), tuple(notes))


def _refuse_short_codes(frame: pl.DataFrame, provenance: FileProvenance) -> None:
    for name, width in WIDTHS.items():
        bad = frame.filter(~pl.col(name).str.contains(rf"^\d{{{width}}}$").fill_null(False))
        if not bad.is_empty():
            first = bad.row(0, named=True)
            raise SourceValueError(
                f"{bad.height:,} code(s) of {name} have not {width} digits; the first is"
                f" {first[name]!r}",
                where=f"{provenance.label}, column {name}, row {first[ROW]}",
                expected=f"{width} digits, leading zeros kept",
                remedy=(
                    "A spreadsheet may have dropped the zeros: use the publisher's file as it is"
                ),
            )


def _refuse_repeated_tracts(table: pl.DataFrame, provenance: FileProvenance) -> None:
    repeated = table.filter(pl.col("tract").is_duplicated()).sort("tract", ROW)
    if not repeated.is_empty():
        tract = repeated["tract"][0]
        same = repeated.filter(pl.col("tract") == tract)
        rows = " and ".join(map(str, same[ROW].to_list()))
        raise SourceValueError(
            f"Tract {tract} stands in rows {rows}, in PUMA {' and '.join(same['puma'].to_list())};"
            f" {repeated.height} rows in all are not unique",
            where=f"{provenance.label}, rows {rows}",
            expected="each tract once, in one PUMA",
            remedy="Use the publisher's list as it is; PUMAs are made of whole tracts",
        )
