"""Readers of Social Security Administration tables: OASDI and SSI by state and county, and the
stacked forms.

Belongs here: the publisher's workbooks (a sheet per state), the one-sheet stack of SSI counties,
OASDI by ZIP code. Does not belong here: units and suppression marks (the spec, ``cells.py``), or
microdata.

Layouts: https://www.ssa.gov/policy/docs/statcomps/oasdi_sc/ and
https://www.ssa.gov/policy/docs/statcomps/ssi_sc/ . ``(X)`` is a withheld cell, never zero; amounts
are thousands of dollars for the month of December.
"""

from __future__ import annotations

import re

import polars as pl

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.areas import keep_areas, padded, refuse_bad_codes
from pipeline.sources.base import ReadRequest, SourceFile, SourceNote, SourceTable
from pipeline.sources.cells import Measure, long_table
from pipeline.sources.columns import (
    apply_renames,
    checked_measures,
    need,
    refuse_duplicates,
    refuse_year,
)
from pipeline.sources.files import FileProvenance
from pipeline.sources.schemas import PublishedTable, validated
from pipeline.sources.text import ROW, delimited, sheet, workbook
from pipeline.specs.sources import SheetSpec
from pipeline.specs.states import ALL_AREAS, BY_NAME, State

_OTHER_LABELS = {
    "foreign countries": "FOREIGN",
    "unknown": "UNKNOWN",
    "outside the united states": "FOREIGN",
}
_NATION_LABELS = ("all areas", "united states", "total")


def read_workbook(request: ReadRequest) -> SourceTable:
    """The publisher's OASDI or SSI workbook: tables of states, and one sheet per state with its
    counties.

    Returns a PublishedTable. A state's figures come from the table of states; the total of its
    county sheet is used where that table is absent, and compared with it where both are there
    (differences are noted). Raises SourceLayoutError if a sheet is missing, a heading is another
    measure's, or the title prints another year.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        book = workbook(raw)
        years: set[str] = set()
        parts: list[pl.DataFrame] = []
        for spec in request.layout.sheets:
            for name, state in _sheets(spec, book.sheet_names, raw.provenance):
                where = FileProvenance(
                    raw.provenance.path, name, raw.provenance.bytes, raw.provenance.sha256
                )
                cells = sheet(book, name, raw.provenance.path)
                years |= _years(request, cells)
                part, more = _read_sheet(request, spec, cells, state, where)
                parts.append(part)
                notes += more
        refuse_year(years, request, raw.provenance.path, "title")
        table, more = _one_figure_per_state(pl.concat(parts), raw.provenance)
        frames.append(table)
        notes += more
        provenance.append(raw.provenance)
    whole = validated(pl.concat(frames), PublishedTable, ", ".join(p.label for p in provenance))
    return SourceTable(whole, tuple(provenance), tuple(notes))


def _sheets(
    spec: SheetSpec, names: list[str], provenance: FileProvenance
) -> list[tuple[str, State | None]]:
    """Sheets of this kind with the state each is for. Names are compared without regard to case and
    doubled spaces.
    """
    plain = {
        re.sub(r"\s+", " ", name.replace("\u00a0", " ")).strip().lower(): name for name in names
    }
    states = ALL_AREAS if "{state}" in spec.name else (None,)
    wanted = [
        (spec.name.replace("{state}", state.name if state else "").lower(), state)
        for state in states
    ]
    found = [(plain[name], state) for name, state in wanted if name in plain]
    if not found and not spec.optional:
        raise SourceLayoutError(
            f"There is no sheet {spec.name!r}; the workbook has {len(names)} sheets:"
            f" {', '.join(names[:6])}",
            where=provenance.path,
            expected=f"a sheet {spec.name}",
            remedy="Check that this is the publisher's workbook by state and county, and its year",
        )
    return found


def _years(request: ReadRequest, cells: pl.DataFrame) -> set[str]:
    """Years that the sheet's first rows print in the form the spec names (``December 2022``, also
    with a no-break space).
    """
    pattern = request.layout.year_pattern
    if pattern is None:
        return {request.vintage}
    head = cells.head(6).drop(ROW)
    text = "\n".join(
        value.replace("\u00a0", " ")
        for column in head.iter_columns()
        for value in column.drop_nulls().to_list()
    )
    return set(re.findall(pattern, text))


def _read_sheet(
    request: ReadRequest,
    spec: SheetSpec,
    cells: pl.DataFrame,
    state: State | None,
    where: FileProvenance,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    letters = [
        spec.label,
        *([spec.total_label] if spec.total_label else []),
        *([spec.code] if spec.code else []),
        *spec.columns,
    ]
    # A sheet is read as wide as it is filled; a measure withheld in every county would leave its
    # column away.
    cells = cells.with_columns(
        pl.lit(None, pl.String).alias(letter) for letter in letters if letter not in cells.columns
    )
    cells = cells.with_columns(
        pl.col(letters).str.replace_all("\u00a0", " ", literal=True).str.strip_chars()
    )
    located = (
        _county_rows(cells, spec, state, where)
        if spec.holds == "counties"
        else _state_rows(cells, spec, where)
    )
    areas = located.filter(pl.col("geoid").is_not_null())
    if areas.is_empty():
        raise SourceLayoutError(
            "The sheet has no row with an area code and numbers",
            where=where.label,
            expected=f"{spec.holds} below the header",
            remedy="Check the layout",
        )
    _check_headings(cells.filter(pl.col(ROW) < areas[ROW].min()), spec, where)
    refuse_duplicates(areas, where)
    columns = {c.rename or c.name: c for c in request.spec.columns_of(request.vintage, "table")}
    measures = [Measure(name, letter, None, columns[name]) for letter, name in spec.columns.items()]
    long, notes = long_table(request, areas, measures, where)
    skipped = located.filter(
        pl.col("geoid").is_null()
        & pl.any_horizontal(pl.col(letters).is_not_null())
        & (pl.col(ROW) > areas[ROW].min())
    ).height
    if skipped:
        notes.append(
            SourceNote(
                "label_rows",
                skipped,
                f"{where.label}: {skipped} row(s) of labels and footnotes below the header skipped",
            )
        )
    return long, notes


def _has_numbers(spec: SheetSpec) -> pl.Expr:
    return pl.any_horizontal(
        pl.col(letter).str.contains(r"^[\d,.]*\d|^\(X\)$") for letter in spec.columns
    ).fill_null(False)


def _county_rows(
    cells: pl.DataFrame, spec: SheetSpec, state: State | None, where: FileProvenance
) -> pl.DataFrame:
    code = pl.col(spec.code or "C").str.replace(r"\.0$", "")
    is_code = code.str.contains(r"^\d{1,5}$").fill_null(False) & _has_numbers(spec)
    label = pl.col(spec.total_label or spec.label).fill_null("").str.to_lowercase()
    is_total = is_code & label.str.starts_with("total")
    located = cells.with_columns(
        pl.when(is_total).then(pl.lit("state")).when(is_code).then(pl.lit("county")).alias("level"),
        pl.when(is_total)
        .then(code.str.zfill(2))
        .when(is_code)
        .then(code.str.zfill(5))
        .alias("geoid"),
        pl.when(is_total)
        .then(pl.lit(state.name if state else None, pl.String))
        .otherwise(pl.col(spec.label))
        .alias("name"),
        pl.lit("").alias("stratum"),
    )
    # DC and places without counties print their code as SS000: that row is the state.
    whole = (pl.col("level") == "county") & pl.col("geoid").str.ends_with("000")
    located = located.with_columns(
        pl.when(whole).then(pl.lit("state")).otherwise(pl.col("level")).alias("level"),
        pl.when(whole)
        .then(pl.col("geoid").str.slice(0, 2))
        .otherwise(pl.col("geoid"))
        .alias("geoid"),
    )
    begun = located.filter(pl.col("geoid").is_not_null())[ROW].min()
    nameless = located.filter(
        pl.col("geoid").is_null() & (pl.col(ROW) > (begun or 0)) & _numbers_only(spec)
    )
    if begun is not None and not nameless.is_empty():
        first = nameless.row(0, named=True)
        raise SourceValueError(
            f"A row of figures has no area code ({first[spec.label]!r})",
            where=f"{where.label}, row {first[ROW]}",
            expected="an ANSI code in column " + (spec.code or "C"),
            remedy="Download the workbook again",
        )
    alien = located.filter(
        pl.col("geoid").is_not_null()
        & (pl.col("geoid").str.slice(0, 2) != (state.fips if state else ""))
    )
    if state is not None and not alien.is_empty():
        first = alien.row(0, named=True)
        raise SourceValueError(
            f"The sheet of {state.name} holds area {first['geoid']} ({first['name']})",
            where=f"{where.label}, row {first[ROW]}",
            expected=f"codes that begin with {state.fips}",
            remedy="Download the workbook again",
        )
    return located


def _numbers_only(spec: SheetSpec) -> pl.Expr:
    return pl.all_horizontal(
        pl.col(letter).str.contains(r"^[\d,.]+$|^\(X\)$").fill_null(False)
        for letter in spec.columns
    )


def _state_rows(cells: pl.DataFrame, spec: SheetSpec, where: FileProvenance) -> pl.DataFrame:
    # Footnote letters stand behind a label: "All areas a", "Northern Mariana Islands b,c".
    label = (
        pl.col(spec.label)
        .str.replace(r"\s+[a-z](,\s?[a-z])*$", "")
        .str.replace(r"(?i)^total, ", "")
        .str.to_lowercase()
    )
    fips = {name: area.fips for name, area in BY_NAME.items()}
    filled = _has_numbers(spec)
    level = (
        pl.when(~filled)
        .then(None)
        .when(label.is_in(_NATION_LABELS))
        .then(pl.lit("nation"))
        .when(label.is_in(list(_OTHER_LABELS)))
        .then(pl.lit("other"))
        .when(label.is_in(list(fips)))
        .then(pl.lit("state"))
    )
    geoid = (
        pl.when(level == "nation")
        .then(pl.lit(""))
        .otherwise(
            pl.coalesce(
                label.replace_strict(_OTHER_LABELS, default=None, return_dtype=pl.String),
                label.replace_strict(fips, default=None, return_dtype=pl.String),
            )
        )
    )
    located = cells.with_columns(
        level.alias("level"),
        pl.when(level.is_not_null()).then(geoid).alias("geoid"),
        pl.col(spec.label).alias("name"),
        pl.lit("").alias("stratum"),
    )
    begun = located.filter(pl.col("geoid").is_not_null())[ROW].min()
    unknown = located.filter(
        pl.col("geoid").is_null() & (pl.col(ROW) > (begun or 0)) & _numbers_only(spec)
    )
    if begun is not None and not unknown.is_empty():
        first = unknown.row(0, named=True)
        raise SourceValueError(
            f"A row of figures stands for no known area ({first[spec.label]!r})",
            where=f"{where.label}, row {first[ROW]}",
            expected="a state, an outlying area, All areas, Foreign countries or Unknown",
            remedy="Download the workbook again",
        )
    return located


def _check_headings(head: pl.DataFrame, spec: SheetSpec, where: FileProvenance) -> None:
    for letter, pattern in spec.headings.items():
        text = (
            re.sub(r"\s+", " ", " ".join(head[letter].drop_nulls().to_list()))
            if letter in head.columns
            else ""
        )
        if text and not re.search(pattern, text, re.IGNORECASE):
            raise SourceLayoutError(
                f"Column {letter} is headed {text!r}",
                where=f"{where.label}, column {letter}",
                expected=(
                    f"a heading like /{pattern}/ for {spec.columns.get(letter, 'this column')}"
                ),
                remedy=(
                    "The publisher may have moved a column: correct `columns` of the sheet in the"
                    " source's YAML"
                ),
            )


def _one_figure_per_state(
    table: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """Drop the county sheets' state totals where the table of states has the cell; count those that
    differ.
    """
    key = ["level", "geoid", "column", "stratum"]
    first = table.with_row_index("__order").with_columns(
        pl.col("__order").rank("ordinal").over(key).alias("__place")
    )
    kept, again = first.filter(pl.col("__place") == 1), first.filter(pl.col("__place") > 1)
    if again.is_empty():
        return table, []
    both = again.join(kept, on=key, how="left", suffix="_kept").filter(
        pl.col("estimate").ne_missing(pl.col("estimate_kept"))
    )
    detail = (
        f"{provenance.label}: {again.height} state total(s) stand in two tables; the table of"
        f" states is used; {both.height} differ"
    )
    examples = [
        f"{row['geoid']} {row['column']} {row['estimate_kept']} and {row['estimate']}"
        for row in both.sort("geoid", "column").head(3).iter_rows(named=True)
    ]
    notes = [
        SourceNote(
            "state_totals_twice",
            again.height,
            detail + (f": {'; '.join(examples)}" if examples else ""),
        )
    ]
    if both.height:
        notes.append(SourceNote("state_totals_that_differ", both.height, detail))
    return kept.sort("__order").drop("__order", "__place"), notes


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
