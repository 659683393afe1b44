"""Readers of population estimates (PEP), the Social Vulnerability Index, and tidy transcriptions.

Belongs here: delimited files whose area stands in FIPS columns, a summary level, or a GEO_ID beside
a category. Does not belong here: ACS tables (``acs_tables.py``), IRS files (``irs_soi.py``).

Layouts: https://www2.census.gov/programs-surveys/popest/technical-documentation/file-layouts/ ;
https://www.atsdr.cdc.gov/place-health/php/svi/svi-data-documentation-download.html
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.areas import geo_id, keep_areas, padded, plain_code, refuse_bad_codes
from pipeline.sources.tables.cells import Measure, long_table
from pipeline.sources.tables.columns import apply_renames, checked_measures, need, refuse_duplicates
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import delimited

# SUMLEV is written 40 or 040; regions (20) and divisions (30) are left out by level.
_SUMMARY_LEVELS = {"010": "nation", "040": "state", "050": "county"}

Areas = Callable[[ReadRequest, pl.DataFrame, FileProvenance], pl.DataFrame]


@reader("pep_csv")
def read_pep(request: ReadRequest) -> SourceTable:
    """Population estimates: co-est, nst-est (SUMLEV, STATE, COUNTY) or nc-est (national, by SEX and
    AGE).

    Returns a PublishedTable with one column per published year, stratum ``sex=1,age=85`` where the
    layout names strata.
    """
    return _read(request, _pep_areas)


@reader("svi_csv")
def read_svi(request: ReadRequest) -> SourceTable:
    """CDC/ATSDR SVI by county: E_TOTPOP becomes column TOTPOP with M_TOTPOP as its margin. Returns
    a PublishedTable.
    """
    return _read(request, _fips_areas)


@reader("tidy_csv")
def read_tidy(request: ReadRequest) -> SourceTable:
    """A file of one's own: a column of area codes, measures, and a category column where the layout
    names one. Returns a PublishedTable.

    A code is a Census GEO_ID, or FIPS digits whose number tells the level; ``NAME`` may be absent.
    With a category, a measure's ``rename`` holds {category}: recipient_count of category aged
    becomes ssi_aged.
    """
    return _read(request, _tidy_areas)


def _read(request: ReadRequest, areas: Areas) -> SourceTable:
    frames: list[pl.DataFrame] = []
    notes: list[SourceNote] = []
    provenance: list[FileProvenance] = []
    for file in request.files:
        raw = request.open(file)
        frame = delimited(
            raw,
            encoding=request.spec.encoding,
            separator=request.layout.separator,
            header_rows=request.layout.header_rows,
        )
        frame = areas(request, apply_renames(request, frame), raw.provenance)
        long, more = _read_file(request, file, frame, raw.provenance)
        frames.append(long)
        notes += more
        provenance.append(raw.provenance)
    table = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(table, tuple(provenance), tuple(notes))


def _read_file(
    request: ReadRequest, file: SourceFile, frame: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    kept, notes = keep_areas(frame, request, file, provenance)
    category = request.layout.category_column
    if category is None:
        refuse_duplicates(kept, provenance)
        measures, more = checked_measures(request, file, kept, kept, provenance)
        long, marks = long_table(request, kept, measures, provenance)
        return long, notes + more + marks
    need(kept, [category], provenance)
    measures, more = checked_measures(request, file, kept, kept, provenance, (category,))
    parts = []
    for value in kept[category].unique().sort().to_list():
        rows = kept.filter(pl.col(category) == value)
        refuse_duplicates(rows, provenance)
        named = [
            Measure(m.column.replace("{category}", value), m.estimate, m.margin, m.spec)
            for m in measures
        ]
        long, marks = long_table(request, rows, named, provenance)
        parts.append(long)
        more += marks
    return pl.concat(parts), notes + more


def _pep_areas(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> pl.DataFrame:
    strata = request.layout.stratum_columns
    need(frame, strata, provenance)
    stratum = (
        pl.concat_str(
            [
                pl.concat_str(pl.lit(f"{name.lower()}="), pl.col(name).str.strip_chars())
                for name in strata
            ],
            separator=",",
        )
        if strata
        else pl.lit("")
    )
    if "SUMLEV" not in frame.columns and strata:
        return frame.with_columns(
            pl.lit("nation").alias("level"),
            pl.lit("").alias("geoid"),
            pl.lit("United States").alias("name"),
            stratum.alias("stratum"),
        )
    need(frame, ["SUMLEV", "STATE"], provenance)
    code = padded("SUMLEV", 3)
    level = code.replace_strict(
        _SUMMARY_LEVELS, default=pl.concat_str(pl.lit("sumlev "), code), return_dtype=pl.String
    )
    state = padded("STATE", 2)
    county = padded("COUNTY", 3) if "COUNTY" in frame.columns else pl.lit(None, pl.String)
    geoid = (
        pl.when(code == "010")
        .then(pl.lit(""))
        .when(code == "050")
        .then(state + county)
        .otherwise(state)
    )
    named = next((name for name in ("CTYNAME", "NAME", "STNAME") if name in frame.columns), None)
    frame = frame.with_columns(
        level.alias("level"),
        geoid.alias("geoid"),
        stratum.alias("stratum"),
        (pl.col(named) if named else pl.lit(None, pl.String)).alias("name"),
    )
    refuse_bad_codes(
        frame, "STATE", provenance, "a summary level 10, 40 or 50 with its STATE and COUNTY codes"
    )
    return frame


def _fips_areas(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> pl.DataFrame:
    geography, name = request.layout.geography or "FIPS", request.layout.name_column or "LOCATION"
    need(frame, [geography, name], provenance)
    text = pl.col(geography).str.strip_chars()
    # A county code that lost its leading zero has four digits; a tract code ten.
    width = pl.when(text.str.len_chars() <= 5).then(5).otherwise(11)
    geoid = pl.when(text.str.contains(r"^(\d{4,5}|\d{10,11})$")).then(
        pl.when(width == 5).then(text.str.zfill(5)).otherwise(text.str.zfill(11))
    )
    level = pl.when(width == 5).then(pl.lit("county")).otherwise(pl.lit("tract"))
    frame = frame.with_columns(
        level.alias("level"),
        geoid.alias("geoid"),
        pl.col(name).alias("name"),
        pl.lit("").alias("stratum"),
    )
    refuse_bad_codes(
        frame, geography, provenance, "a five-digit county FIPS code (eleven digits for a tract)"
    )
    return frame


def _tidy_areas(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> pl.DataFrame:
    geography, name = request.layout.geography or "GEO_ID", request.layout.name_column or "NAME"
    need(frame, [geography], provenance)
    level, geoid = geo_id(geography)
    plain_level, plain_geoid = plain_code(geography)
    frame = frame.with_columns(
        pl.coalesce(level, plain_level).alias("level"),
        pl.coalesce(geoid, plain_geoid).alias("geoid"),
        (pl.col(name) if name in frame.columns else pl.lit(None, pl.String)).alias("name"),
        pl.lit("").alias("stratum"),
    )
    refuse_bad_codes(
        frame,
        geography,
        provenance,
        "a Census GEO_ID such as 0400000US44, or a FIPS code of 2, 5 or 11 digits (US: the nation)",
    )
    return frame
