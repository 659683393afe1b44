"""Reader of OASDI by ZIP code: the tables of all states, stacked into one file by a carrier.

Belongs here: that stack. Does not belong here: the publisher's own workbooks (``ssa.py``), or units
and suppression marks (the spec, ``tables/cells.py``).

Layout: https://www.ssa.gov/policy/docs/statcomps/oasdi_zip/ . Amounts are thousands of dollars for
December.
"""

from __future__ import annotations

import polars as pl

from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.areas import keep_areas, padded, refuse_bad_codes
from pipeline.sources.tables.cells import long_table
from pipeline.sources.tables.columns import checked_measures, need, refuse_duplicates
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import ROW, delimited
from pipeline.specs.states import BY_NAME


@reader("ssa_oasdi_zip")
def read_oasdi_zip(request: ReadRequest) -> SourceTable:
    """OASDI by ZIP code, all states stacked: one national row, state totals, and ZIP lines.

    Returns a PublishedTable; a ZIP line has level ``zip``, its five digits (padded) as geoid and
    stratum ``state=44``, because a ZIP can lie in two states. Lines of field offices (sums of their
    ZIPs) and blank lines are left out and counted.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        frame = delimited(raw, encoding=request.spec.encoding, separator=request.layout.separator)
        need(frame, [".id", "place", "zip", "place_of_total"], raw.provenance)
        frame, more = _zip_areas(frame, request, file, raw.provenance)
        refuse_duplicates(frame, raw.provenance)
        measures, unread = checked_measures(
            request,
            file,
            frame,
            frame,
            raw.provenance,
            (".id", "place", "zip", "place_of_total", "level", "geoid", "name", "stratum"),
        )
        long, marks = long_table(request, frame, measures, raw.provenance)
        frames.append(long)
        notes += more + unread + marks
        provenance.append(raw.provenance)
    table = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(table, tuple(provenance), tuple(notes))


def _zip_areas(
    frame: pl.DataFrame, request: ReadRequest, file: SourceFile, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    fips = {name: area.fips for name, area in BY_NAME.items()}
    state = (
        pl.col(".id")
        .str.strip_chars()
        .str.to_lowercase()
        .replace_strict(fips, default=None, return_dtype=pl.String)
    )
    total = pl.col("place_of_total").str.starts_with("Total").fill_null(False)
    nation = pl.col("place").str.starts_with("All areas").fill_null(False)
    is_zip = pl.col("zip").is_not_null()
    level = (
        pl.when(nation)
        .then(pl.lit("nation"))
        .when(total)
        .then(pl.lit("state"))
        .when(is_zip)
        .then(pl.lit("zip"))
    )
    frame = frame.with_columns(
        level.alias("level"),
        pl.when(nation)
        .then(pl.lit(""))
        .when(total)
        .then(state)
        .when(is_zip)
        .then(padded("zip", 5))
        .alias("geoid"),
        pl.coalesce("place_of_total", "place").alias("name"),
        pl.when(is_zip & ~total & ~nation)
        .then(pl.concat_str(pl.lit("state="), state))
        .otherwise(pl.lit(""))
        .alias("stratum"),
    )
    offices = frame.filter(pl.col("level").is_null() & pl.col("place").is_not_null()).height
    blank = frame.filter(pl.col("level").is_null() & pl.col("place").is_null()).height
    notes = []
    if offices:
        notes.append(
            SourceNote(
                "rows_of_other_levels",
                offices,
                f"{provenance.label}: {offices:,} line(s) of field offices, each the sum of its ZIP"
                " codes, left out",
            )
        )
    if blank:
        notes.append(
            SourceNote("blank_rows", blank, f"{provenance.label}: {blank:,} blank line(s) left out")
        )
    # Every state's table repeats the national row; equal repeats are one row, unequal ones are left
    # for the check of duplicates.
    located = frame.filter(pl.col("level").is_not_null())
    figures = [name for name in frame.columns if name not in (ROW, ".id")]
    kept = pl.concat(
        [
            located.filter(pl.col("level") == "nation").unique(
                figures, keep="first", maintain_order=True
            ),
            located.filter(pl.col("level") != "nation"),
        ]
    )
    repeats = located.height - kept.height
    if repeats:
        notes.append(
            SourceNote(
                "repeated_rows",
                repeats,
                f"{provenance.label}: {repeats:,} repeat(s) of the national row, one in each"
                " state's table, left out",
            )
        )
    refuse_bad_codes(
        kept, "zip", provenance, "a ZIP code of up to five digits, or the total of a known state"
    )
    kept, more = keep_areas(kept, request, file, provenance)
    return kept, notes + more
