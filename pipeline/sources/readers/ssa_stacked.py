"""Readers of SSA tables as others stacked them: SSI counties in one sheet, OASDI by ZIP code in one
file.

Belongs here: the one-sheet stack of the SSI county sheets, and the stack of OASDI by ZIP code.
Does not belong here: the publisher's own workbooks (``ssa.py``), or units and suppression marks
(the spec, ``tables/cells.py``).

Layouts: https://www.ssa.gov/policy/docs/statcomps/ssi_sc/ and
https://www.ssa.gov/policy/docs/statcomps/oasdi_zip/ . Amounts are thousands of dollars for
December.
"""

from __future__ import annotations

import re

import polars as pl

from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.areas import keep_areas, padded, refuse_bad_codes
from pipeline.sources.tables.cells import long_table
from pipeline.sources.tables.columns import (
    apply_renames,
    checked_measures,
    need,
    refuse_duplicates,
    refuse_year,
)
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import ROW, delimited, sheet, workbook
from pipeline.specs.states import BY_NAME


@reader("ssa_ssi_stacked")
def read_ssi_stacked(request: ReadRequest) -> SourceTable:
    """SSI by county stacked into one sheet by its carrier: State, County, FIPS and eight measures.

    Returns a PublishedTable. The carrier rewrote (X) to 0, so a zero is a withheld cell and is
    counted. The year is in the footer. Rows without FIPS (labels, footnotes) are skipped and
    counted; codes SS000 are whole states.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        book = workbook(raw)
        cells = sheet(book, book.sheet_names[0], raw.provenance.path)
        frame, footer, skipped = _below_header(cells, raw.provenance)
        years = set(re.findall(request.layout.year_pattern or r"(\d{4})", "\n".join(footer)))
        refuse_year(years, request, raw.provenance.path, "footer")
        frame = apply_renames(request, frame)
        code = padded("FIPS", 5)
        whole = code.str.ends_with("000")
        frame = frame.with_columns(
            pl.when(whole).then(pl.lit("state")).otherwise(pl.lit("county")).alias("level"),
            pl.when(whole).then(code.str.slice(0, 2)).otherwise(code).alias("geoid"),
            pl.coalesce(
                "County", "State", *(c for c in frame.columns if c.startswith("__blank_"))
            ).alias("name"),
            pl.lit("").alias("stratum"),
        )
        refuse_bad_codes(frame, "FIPS", raw.provenance, "a county code of four or five digits")
        refuse_duplicates(frame, raw.provenance)
        kept, left = keep_areas(frame, request, file, raw.provenance)
        measures, more = checked_measures(
            request,
            file,
            kept,
            kept,
            raw.provenance,
            ("State", "County", "FIPS", "level", "geoid", "name", "stratum"),
        )
        long, marks = long_table(request, kept, measures, raw.provenance)
        if skipped:
            notes.append(
                SourceNote(
                    "label_rows",
                    skipped,
                    f"{raw.provenance.label}: {skipped} label, blank or footnote row(s) without"
                    " FIPS skipped",
                )
            )
        frames.append(long)
        notes += left + more + marks
        provenance.append(raw.provenance)
    whole_table = validated(
        pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance)
    )
    return SourceTable(whole_table, tuple(provenance), tuple(notes))


def _below_header(
    cells: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[str], int]:
    """Rows with a FIPS code under the header's names, the text of the other rows, and
    their number.
    """
    letters = [name for name in cells.columns if name != ROW]
    header = cells.filter(
        pl.any_horizontal(pl.col(letter).str.strip_chars() == "FIPS" for letter in letters)
    )
    if header.is_empty():
        need(cells.head(0), ["FIPS"], provenance)
    top = header.row(0, named=True)
    names = {letter: (top[letter] or "").strip() or f"__blank_{letter}" for letter in letters}
    below = cells.filter(pl.col(ROW) > top[ROW]).rename(names)
    need(below, ["State", "County", "FIPS"], provenance)
    coded = pl.col("FIPS").is_not_null() & (pl.col("FIPS").str.strip_chars() != "")
    rest = below.filter(~coded)
    text = [
        value for column in rest.drop(ROW).iter_columns() for value in column.drop_nulls().to_list()
    ]
    return below.filter(coded), text, rest.height


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
