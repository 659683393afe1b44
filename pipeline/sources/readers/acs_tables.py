"""Readers of American Community Survey and decennial tables, in the four forms the Census Bureau
offers.

Belongs here: API JSON, data.census.gov CSV (two header rows), API group CSV, table-based summary
file (.dat). Does not belong here: microdata, population estimates and the SVI (``population.py``).

Layouts: https://www.census.gov/data/developers/data-sets.html; table-based summary file:
https://www.census.gov/programs-surveys/acs/data/summary-file.html
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import PurePosixPath

import polars as pl

from pipeline.errors import SourceFileError
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance, RawFile
from pipeline.sources.named import reader
from pipeline.sources.tables.areas import geo_id, keep_areas, refuse_bad_codes
from pipeline.sources.tables.cells import long_table
from pipeline.sources.tables.columns import apply_renames, checked_measures, need, refuse_duplicates
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import delimited, json_table
from pipeline.specs.addresses import fill, per_state

_GEO_ID_SHAPE = "a Census GEO_ID such as 0400000US44, 0500000US44007 or 1400000US44007000101"

Split = Callable[[RawFile, ReadRequest], pl.DataFrame]


@reader("acs_api_json")
def read_api_json(request: ReadRequest) -> SourceTable:
    """Answers of api.census.gov stored as JSON lists of lists. Returns a PublishedTable; ``row`` is
    the place in the list.
    """
    return _read(request, lambda raw, _: json_table(raw))


@reader("acs_download_csv")
def read_download_csv(request: ReadRequest) -> SourceTable:
    """Downloads of data.census.gov: a row of codes, a row of labels, then data. Returns a
    PublishedTable.
    """
    return _read(request, _delimited)


@reader("acs_group_csv")
def read_group_csv(request: ReadRequest) -> SourceTable:
    """API group answers saved as CSV, one file per table. Returns a PublishedTable."""
    return _read(request, _delimited)


@reader("acs_table_based_dat")
def read_table_based(request: ReadRequest) -> SourceTable:
    """Files ``acsdt5yYYYY-b19001.dat``, pipe separated, columns B19001_E001 and B19001_M001.
    Returns a PublishedTable.

    Area names come from the optional geography file (role ``geography``, columns GEO_ID and NAME);
    without it they are null.
    """
    return _read(request, _delimited)


def _delimited(raw: RawFile, request: ReadRequest) -> pl.DataFrame:
    """A delimited file, or the API's own answer for the same table, told by its name."""
    layout = request.layout
    if raw.provenance.path.lower().endswith(".json"):
        return json_table(raw)
    return delimited(
        raw,
        encoding=request.spec.encoding,
        separator=layout.separator,
        header_rows=layout.header_rows,
    )


def _read(request: ReadRequest, split: Split) -> SourceTable:
    names, provenance = _names(request)
    frames: list[pl.DataFrame] = []
    notes: list[SourceNote] = []
    for file in request.files:
        if file.role == "geography":
            continue
        raw = request.open(file)
        frame, more = _read_file(request, file, split(raw, request), raw.provenance, names)
        frames.append(frame)
        notes += more
        provenance.append(raw.provenance)
    if not frames:
        raise _no_table(request)
    table = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(table, tuple(provenance), tuple(notes))


def _no_table(request: ReadRequest) -> SourceFileError:
    """Where each table's file is optional, at least one must be there."""
    spec, year = request.spec, request.vintage
    paths = [
        PurePosixPath(fill(path, year, state=state, table=spec.tables[0]))
        for state in request.states or (None,)
        for file in spec.files_of(year)
        for path in file.paths
        if state is not None or not per_state(path)
    ]
    return SourceFileError(
        f"None of the tables {', '.join(spec.tables)} is there",
        where=", ".join(dict.fromkeys(path.parent.as_posix() for path in paths)),
        expected=f"at least one table of {spec.title}, {year}, under a name such as"
        f" {' or '.join(dict.fromkeys(path.name for path in paths))}",
        remedy=f"Download a table from {spec.url_of(year)}, and keep its name",
    )


def _read_file(
    request: ReadRequest,
    file: SourceFile,
    frame: pl.DataFrame,
    provenance: FileProvenance,
    names: pl.DataFrame | None,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    frame = apply_renames(request, frame)
    geography, name = request.layout.geography or "GEO_ID", request.layout.name_column or "NAME"
    need(frame, [geography], provenance)
    level, geoid = geo_id(geography)
    frame = frame.with_columns(
        level.alias("level"), geoid.alias("geoid"), pl.lit("").alias("stratum")
    )
    if names is not None:
        frame = frame.drop("name", strict=False).join(
            names, left_on=geography, right_on="GEO_ID", how="left", maintain_order="left"
        )
    else:
        frame = frame.with_columns(
            (pl.col(name) if name in frame.columns else pl.lit(None, pl.String)).alias("name")
        )
    refuse_bad_codes(frame, geography, provenance, _GEO_ID_SHAPE)
    kept, notes = keep_areas(frame, request, file, provenance)
    refuse_duplicates(kept, provenance)
    taken = (geography, name, "level", "geoid", "name", "stratum", "state", "county", "tract", "us")
    measures, more = checked_measures(request, file, kept, kept, provenance, taken)
    long, marks = long_table(request, kept, measures, provenance)
    return long, notes + more + marks


def _names(request: ReadRequest) -> tuple[pl.DataFrame | None, list[FileProvenance]]:
    """GEO_ID and name of each area, from the geography file of the table-based summary file, where
    there is one.
    """
    found = [file for file in request.files if file.role == "geography"]
    if not found:
        return None, []
    raw = request.open(found[0])
    frame = delimited(raw, encoding="latin-1", separator="|")
    need(frame, ["GEO_ID", "NAME"], raw.provenance)
    return frame.select("GEO_ID", pl.col("NAME").alias("name")).unique(
        "GEO_ID", keep="first", maintain_order=True
    ), [raw.provenance]
