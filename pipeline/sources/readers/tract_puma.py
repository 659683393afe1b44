"""Reader of the Census Bureau's tract-to-PUMA relationship files.

Belongs here: the list of tracts with their county and PUMA. Does not belong here: the tree of areas
that calibration uses (``calibration_core/tree/geography.py``).

Layout: https://www.census.gov/programs-surveys/geography/guidance/geo-areas/pumas.html
"""

from __future__ import annotations

from dataclasses import replace

import polars as pl

from pipeline.errors import SourceValueError
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.columns import apply_renames, need, refuse_wrong_vintage
from pipeline.sources.tables.schemas import TractPumaTable, validated
from pipeline.sources.tables.text import ROW, delimited
from pipeline.vocabulary import is_water

CROSSWALK = "crosswalk"
"""The role of a file that says which code a tract has later."""
WIDTHS = {"STATEFP": 2, "COUNTYFP": 3, "TRACTCE": 6, "PUMA5CE": 5}


def _check(request: ReadRequest, file: SourceFile) -> str:
    """What one file holds: a list by itself, or a crosswalk, which is no list."""
    if file.role == CROSSWALK:
        found = _crosswalk(request)
        return f"{found[0].height if found else 0:,} tracts"
    return f"{read_tract_puma(replace(request, states=())).frame.height:,} rows"


@reader("tract_puma", check=_check)
def read_tract_puma(request: ReadRequest) -> SourceTable:
    """All tracts of the file, or those of the states asked for.

    Returns a TractPumaTable sorted by tract: ``state_fips`` (2 digits), ``county_fips`` (5),
    ``tract`` (11), ``puma`` (7). Counties that were renamed since have their present code
    (``recode_counties`` of the vintage), tracts that a crosswalk (a file of that role) lists their
    later one, both counted in the notes. Raises SourceValueError for a code that is not of full
    width, for a tract that stands in the list twice, and for one that the crosswalk lacks.
    """
    frames, notes, provenance = [], [], []
    crosswalk = _crosswalk(request)
    for file in (file for file in request.files if file.role != CROSSWALK):
        raw = request.open(file)
        frame = apply_renames(
            request,
            delimited(raw, encoding=request.spec.encoding, separator=request.layout.separator),
        )
        need(frame, WIDTHS, raw.provenance)
        _refuse_short_codes(frame, raw.provenance)
        codes = frame.select((pl.col("STATEFP") + pl.col("COUNTYFP")).alias("geoid"))
        refuse_wrong_vintage(request, frame, codes, raw.provenance)
        table, more = _asked_for(request, _tracts(frame), raw.provenance)
        table, renamed = _renamed(request, table, raw.provenance)
        notes += [*more, *renamed]
        if crosswalk is not None:
            table, placed = _placed_anew(table, *crosswalk)
            notes += placed
        _refuse_repeated_tracts(table, raw.provenance)
        _refuse_absent_states(request, table, raw.provenance)
        frames.append(table)
        provenance.append(raw.provenance)
    provenance += [crosswalk[1]] if crosswalk is not None else []
    whole = validated(
        pl.concat(frames), TractPumaTable, ", ".join(p.label for p in provenance)
    ).sort("tract")
    return SourceTable(whole, tuple(provenance), tuple(notes))


def _tracts(frame: pl.DataFrame) -> pl.DataFrame:
    state, county = pl.col("STATEFP"), pl.col("COUNTYFP")
    return frame.select(
        state.alias("state_fips"),
        (state + county).alias("county_fips"),
        (state + county + pl.col("TRACTCE")).alias("tract"),
        (state + pl.col("PUMA5CE")).alias("puma"),
        ROW,
    )


def _asked_for(
    request: ReadRequest, table: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    if not request.states:
        return table, []
    inside = table.filter(pl.col("state_fips").is_in([s.fips for s in request.states]))
    left = table.height - inside.height
    said = f"{provenance.label}: {left:,} tract(s) of states that were not asked for"
    return inside, [SourceNote("rows_of_other_states", left, said)] if left else []


def _renamed(
    request: ReadRequest, table: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """With the present code of counties that got another one."""
    renamed = request.special.recode_counties
    old = table.filter(pl.col("county_fips").is_in(list(renamed)))["county_fips"]
    table = table.with_columns(pl.col("county_fips").replace(renamed)).with_columns(
        tract=pl.col("county_fips") + pl.col("tract").str.slice(5)
    )
    pairs = ", ".join(f"{code} as {renamed[code]}" for code in old.unique().sort())
    said = f"{provenance.label}: {len(old):,} tract(s) given their county's present code: {pairs}"
    return table, [SourceNote("counties_recoded", len(old), said)] if len(old) else []


def _crosswalk(request: ReadRequest) -> tuple[pl.DataFrame, FileProvenance] | None:
    """Codes of tracts (``tract``, ``later``) from the file of that role, where there is one."""
    file = next((file for file in request.files if file.role == CROSSWALK), None)
    if file is None:
        return None
    raw = request.open(file)
    before, after = (c.label for c in request.spec.columns if c.role == CROSSWALK)
    frame = delimited(raw, encoding="utf-8", separator=",")
    need(frame, [before, after], raw.provenance)
    codes = frame.select(tract=before, later=after)
    bad = codes.filter(~pl.all_horizontal(pl.all().str.contains(r"^\d{11}$").fill_null(False)))
    if not bad.is_empty() or codes["tract"].is_duplicated().any():
        raise SourceValueError(
            f"{bad.height:,} row(s) hold no tract codes, or a tract stands in the list twice",
            where=f"{raw.provenance.label}, columns {before}, {after}",
            expected="eleven digits in both columns, each tract once",
            remedy="Use the publisher's crosswalk as it is",
        )
    return codes, raw.provenance


def _placed_anew(
    table: pl.DataFrame, codes: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """Tracts of the crosswalk's states under their later codes; its states' tracts of water, which
    it leaves out and where nobody lives, are left out too."""
    states = codes["tract"].str.slice(0, 2).unique().to_list()
    joined = table.join(codes, on="tract", how="left", maintain_order="left")
    absent = pl.col("state_fips").is_in(states) & pl.col("later").is_null()
    water = joined.filter(absent & is_water("tract"))
    lost = joined.filter(absent & ~is_water("tract"))
    if not lost.is_empty():
        raise SourceValueError(
            f"The crosswalk lacks {lost.height:,} tract(s), first {lost['tract'][0]}",
            where=provenance.label,
            expected="every tract with residents of the states it speaks of",
            remedy="Use the publisher's crosswalk as it is, and the list of tracts of its vintage",
        )
    placed = joined.filter(~absent)
    tract = pl.coalesce("later", "tract")
    moved = placed.height - placed["later"].null_count()
    placed = placed.with_columns(tract=tract, county_fips=tract.str.slice(0, 5))
    said = f"{provenance.label}: {moved:,} tract(s) given the codes of their new county"
    notes = [SourceNote("tracts_recoded", moved, said)]
    if water.height:
        named = ", ".join(water["tract"])
        said = f"{provenance.label} has no code for tracts of water, which are left out: {named}"
        notes.append(SourceNote("tracts_of_water", water.height, said))
    return placed.drop("later"), notes


def _refuse_absent_states(
    request: ReadRequest, table: pl.DataFrame, provenance: FileProvenance
) -> None:
    absent = [s.postal for s in request.states if s.fips not in set(table["state_fips"])]
    if absent:
        raise SourceValueError(
            f"The list has no tract of {', '.join(absent)}",
            where=provenance.label,
            expected="tracts of every state asked for",
            remedy="Use the nationwide list",
        )


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
