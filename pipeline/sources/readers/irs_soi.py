"""Readers of IRS Statistics of Income: Historic Table 2 (states) and the county data, old and
current columns.

Belongs here: area codes and AGI classes of the SOI files. Does not belong here: numbers, units and
marks (``tables/cells.py``, the spec), zeros that hide (``tables/withheld_zeros.py``), or what a
return is (``pipeline/records``).

Layouts: https://www.irs.gov/statistics/soi-tax-stats-historic-table-2 and
https://www.irs.gov/statistics/soi-tax-stats-county-data (document guides by year). Amounts are
thousands of dollars.
"""

from __future__ import annotations

from collections.abc import Callable

import polars as pl

from pipeline.errors import SourceValueError
from pipeline.sources.base import ReadRequest, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance, RawFile
from pipeline.sources.named import reader
from pipeline.sources.tables.areas import keep_areas, padded, refuse_bad_codes
from pipeline.sources.tables.cells import long_table
from pipeline.sources.tables.columns import apply_renames, checked_measures, need, refuse_duplicates
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import ROW, delimited
from pipeline.sources.tables.withheld_zeros import withhold_zeros
from pipeline.specs.states import BY_POSTAL

_OTHER_AREAS = (
    "OA",
    "PR",
)  # "other areas" (abroad, APO, territories) and Puerto Rico: part of US, of no state

Areas = Callable[[ReadRequest, pl.DataFrame, FileProvenance], pl.DataFrame]
Wide = Callable[[ReadRequest, RawFile], pl.DataFrame]


@reader("irs_historic_table_2")
def read_historic_table_2(request: ReadRequest) -> SourceTable:
    """Historic Table 2 as CSV: STATE (US, 50 states, DC, PR, OA) by AGI_STUB 0 to 10.

    Returns a PublishedTable: US is the nation (geoid ""), OA and PR have level ``other``; the
    stratum is the AGI class.
    """
    return historic_table_2(request, _delimited)


def historic_table_2(request: ReadRequest, wide: Wide) -> SourceTable:
    """Historic Table 2 from whatever ``wide`` makes of a file: STATE, AGI_STUB and text columns."""
    return _read(request, _postal_areas, ("STATE", "AGI_STUB"), wide)


@reader("irs_county")
def read_county(request: ReadRequest) -> SourceTable:
    """County data as CSV, with or without AGI classes; rows with COUNTYFIPS 000 are the states.

    Returns a PublishedTable; the stratum is the AGI class ("0" all returns), or "" in the layout of
    2009 that has none.
    """
    return _read(
        request, _fips_areas, ("STATEFIPS", "STATE", "COUNTYFIPS", "COUNTYNAME", "AGI_STUB")
    )


def _delimited(request: ReadRequest, raw: RawFile) -> pl.DataFrame:
    return delimited(raw, encoding=request.spec.encoding, separator=request.layout.separator)


def _read(
    request: ReadRequest, areas: Areas, taken: tuple[str, ...], wide: Wide = _delimited
) -> SourceTable:
    frames: list[pl.DataFrame] = []
    notes: list[SourceNote] = []
    provenance: list[FileProvenance] = []
    for file in request.files:
        raw = request.open(file)
        frame = areas(request, apply_renames(request, wide(request, raw)), raw.provenance)
        kept, left_out = keep_areas(frame, request, file, raw.provenance)
        refuse_duplicates(kept, raw.provenance)
        measures, unread = checked_measures(request, file, kept, kept, raw.provenance, taken)
        long, marks = long_table(request, kept, measures, raw.provenance)
        long, zeros = withhold_zeros(request, long, raw.provenance)
        frames.append(long)
        notes += left_out + unread + marks + zeros
        provenance.append(raw.provenance)
    table = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(table, tuple(provenance), tuple(notes))


def _stratum(request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance) -> pl.DataFrame:
    """The AGI class as text without padding; classes the spec does not list are an error."""
    if not request.spec.strata:
        return frame.with_columns(pl.lit("").alias("stratum"))
    need(frame, ["AGI_STUB"], provenance)
    stub = (
        pl.col("AGI_STUB").str.strip_chars().str.replace(r"\.0*$", "").str.replace(r"^0+(\d)", "$1")
    )
    frame = frame.with_columns(stub.alias("stratum"))
    unknown = frame.filter(~pl.col("stratum").is_in(list(request.spec.strata)).fill_null(False))
    if not unknown.is_empty():
        first = unknown.row(0, named=True)
        raise SourceValueError(
            f"{unknown.height:,} row(s) have an unknown AGI class; the first is"
            f" {first['AGI_STUB']!r}",
            where=f"{provenance.label}, column AGI_STUB, row {first[ROW]}",
            expected=f"one of {', '.join(request.spec.strata)}",
            remedy="Download the file again, or add the class to `strata` in the source's YAML",
        )
    return frame


def _postal_areas(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> pl.DataFrame:
    need(frame, ["STATE", "AGI_STUB"], provenance)
    code = pl.col("STATE").str.strip_chars().str.to_uppercase()
    fips = {postal: state.fips for postal, state in BY_POSTAL.items() if postal not in _OTHER_AREAS}
    names = {postal: state.name for postal, state in BY_POSTAL.items()} | {
        "US": "United States",
        "OA": "Other areas",
    }
    geoid = (
        pl.when(code == "US")
        .then(pl.lit(""))
        .when(code.is_in(_OTHER_AREAS))
        .then(code)
        .otherwise(code.replace_strict(fips, default=None, return_dtype=pl.String))
    )
    level = (
        pl.when(code == "US")
        .then(pl.lit("nation"))
        .when(code.is_in(_OTHER_AREAS))
        .then(pl.lit("other"))
        .otherwise(pl.lit("state"))
    )
    frame = frame.with_columns(
        level.alias("level"),
        geoid.alias("geoid"),
        code.replace_strict(names, default=None, return_dtype=pl.String).alias("name"),
    )
    refuse_bad_codes(frame, "STATE", provenance, "US, a postal code, PR or OA")
    return _stratum(request, frame, provenance)


def _fips_areas(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> pl.DataFrame:
    need(frame, ["STATEFIPS", "COUNTYFIPS"], provenance)
    state, county = padded("STATEFIPS", 2), padded("COUNTYFIPS", 3)
    level = pl.when(county == "000").then(pl.lit("state")).otherwise(pl.lit("county"))
    geoid = pl.when(county == "000").then(state).otherwise(state + county)
    name = pl.col("COUNTYNAME") if "COUNTYNAME" in frame.columns else pl.lit(None, pl.String)
    frame = frame.with_columns(level.alias("level"), geoid.alias("geoid"), name.alias("name"))
    refuse_bad_codes(
        frame, "COUNTYFIPS", provenance, "STATEFIPS of two and COUNTYFIPS of three digits"
    )
    return _stratum(request, frame, provenance)
