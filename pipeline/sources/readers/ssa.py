"""Reader of the Social Security Administration's workbooks: OASDI and SSI by state and county.

Belongs here: the publisher's workbooks, with tables of states and a sheet of counties per state.
Does not belong here: forms that others stacked (``ssa_zip.py``), units and suppression marks
(the spec, ``tables/cells.py``), or microdata.

Layouts: https://www.ssa.gov/policy/docs/statcomps/oasdi_sc/ and
https://www.ssa.gov/policy/docs/statcomps/ssi_sc/ . A table of states has three label columns: A for
states, B for outlying areas, C for "All areas". A county sheet has the county in A, "Total, State"
in B and the ANSI code in C. ``(X)`` is a withheld cell, never zero; amounts are thousands of
dollars for the month of December.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import replace

import polars as pl

from pipeline.errors import SourceLayoutError, SourceValueError
from pipeline.sources.base import ReadRequest, SourceNote, SourceTable
from pipeline.sources.files import FileProvenance
from pipeline.sources.named import reader
from pipeline.sources.tables.cells import Measure, long_sheets
from pipeline.sources.tables.columns import refuse_duplicates, refuse_year
from pipeline.sources.tables.schemas import PublishedTable, validated
from pipeline.sources.tables.text import ROW, SHEET, sheet, workbook
from pipeline.sources.tables.workbook_columns import (
    located_columns,
    refuse_sums,
    refuse_title,
    row_text,
)
from pipeline.specs.layouts import SheetSpec
from pipeline.specs.states import ALL_AREAS, BY_NAME, State

_OTHER_LABELS = {
    "foreign countries": "FOREIGN",
    "unknown": "UNKNOWN",
    "outside the united states": "FOREIGN",
}
_NATION_LABELS = ("all areas", "united states", "total")
_STATE_FIPS = {name: area.fips for name, area in BY_NAME.items()}
_NUMBER = r"^[\d,.]*\d$|^\(X\)$"
# A title and its year stand in these.
_TITLE_ROWS = 6
_KEY = ["level", "geoid", "column", "stratum"]


@reader("ssa_workbook")
def read_workbook(request: ReadRequest) -> SourceTable:
    """The publisher's OASDI or SSI workbook: tables of states, and one sheet per state.

    Returns a PublishedTable. A state's figures come from the table of states; the total of its
    county sheet is used where that table is absent, and compared with it where both are there
    (differences are noted). A row "Unknown" of a county sheet has level ``other`` and the state's
    code behind UNKNOWN. Raises SourceLayoutError if a sheet is missing, a heading is another
    measure's, or a title prints another year or speaks of another table; SourceValueError if the
    classes of a row do not add up to its total.
    """
    frames, notes, provenance = [], [], []
    for file in request.files:
        raw = request.open(file)
        book = workbook(raw)
        years: set[str] = set()
        parts: list[pl.DataFrame] = []
        for spec in request.layout.sheets:
            states = _sheets(spec, book.sheet_names, raw.provenance)
            if not states:
                continue
            cells = stacked({name: sheet(book, name, raw.provenance.path) for name in states})
            years |= years_of(request, cells)
            part, more = read_sheets(request, spec, cells, states, raw.provenance)
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
) -> dict[str, State | None]:
    """Sheets of this kind with the state each is for, whatever case and spaces a name has."""
    plain = {
        re.sub(r"\s+", " ", name.replace("\u00a0", " ")).strip().lower(): name for name in names
    }
    states = ALL_AREAS if "{state}" in spec.name else (None,)
    wanted = [
        (spec.name.replace("{state}", state.name if state else "").lower(), state)
        for state in states
    ]
    found = {plain[name]: state for name, state in wanted if name in plain}
    if not found and not spec.optional:
        raise SourceLayoutError(
            f"There is no sheet {spec.name!r}; the workbook has {len(names)} sheets: "
            f"{', '.join(names[:6])}",
            where=provenance.path,
            expected=f"a sheet {spec.name}",
            remedy="Check that this is the publisher's workbook by state and county, and its year",
        )
    return found


def stacked(sheets: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Sheets by name under one another, with a column ``__sheet``; their cells with single plain
    spaces, which titles, headings and area names are compared in.
    """
    named = [cells.with_columns(pl.lit(name).alias(SHEET)) for name, cells in sheets.items()]
    cells = pl.concat(named, how="diagonal")
    text = pl.col(_letters(cells)).str.replace_all("\u00a0", " ", literal=True)
    return cells.with_columns(text.str.replace_all(r"\s+", " ").str.strip_chars())


def _letters(cells: pl.DataFrame) -> list[str]:
    return [name for name in cells.columns if name not in (ROW, SHEET)]


def years_of(request: ReadRequest, cells: pl.DataFrame) -> set[str]:
    """Years that the sheets' first rows print in the form the spec names (``December 2022``)."""
    pattern = request.layout.year_pattern
    if pattern is None:
        return {request.vintage}
    tops = cells.filter(pl.col(ROW) <= _TITLE_ROWS).partition_by(SHEET)
    return {year for top in tops for year in re.findall(pattern, row_text(top))}


def read_sheets(
    request: ReadRequest,
    spec: SheetSpec,
    cells: pl.DataFrame,
    states: Mapping[str, State | None],
    where: FileProvenance,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """The long table of sheets of one kind, which ``stacked`` put under one another; ``states``:
    which each is for, by the sheet's name.

    They are read at once, and one by one where that fails: a fault is then named as that of the
    first sheet that has it, and each may have its own columns.
    """
    if len(states) > 1:
        with contextlib.suppress(SourceLayoutError, SourceValueError):
            return _read_sheets(request, spec, cells, states, where)
    each = [
        _read_sheets(request, spec, cells.filter(pl.col(SHEET) == name), {name: state}, where)
        for name, state in states.items()
    ]
    return pl.concat(long for long, _ in each), [note for _, notes in each for note in notes]


def _read_sheets(
    request: ReadRequest,
    spec: SheetSpec,
    cells: pl.DataFrame,
    states: Mapping[str, State | None],
    workbook: FileProvenance,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """``read_sheets`` at once; an error names the first of the sheets."""
    places = {name: replace(workbook, member=name) for name in states}
    where = next(iter(places.values()))
    located = _located(cells, spec, states)
    areas = located.filter(pl.col("geoid").is_not_null())
    if areas[SHEET].n_unique() < len(states):
        raise SourceLayoutError(
            "The sheet has no row with an area code and numbers",
            where=where.label,
            expected=f"{spec.holds} below the header",
            remedy="Check the layout",
        )
    columns, notes = _columns(located, spec, places)
    _refuse_nameless(located, columns, spec, where)
    _refuse_alien(areas, states, where)
    refuse_duplicates(areas, where)
    declared = {c.rename or c.name: c for c in request.spec.columns_of(request.vintage, "table")}
    measures = [Measure(name, letter, None, declared[name]) for name, letter in columns.items()]
    long, marks = long_sheets(request, areas, measures, where)
    refuse_sums(areas, columns, spec, where)
    skipped = _skipped(located, spec)
    for name, place in places.items():
        if count := skipped.get(name):
            words = f"{count} row(s) of labels and footnotes below the header skipped"
            notes[name].append(SourceNote("label_rows", count, f"{place.label}: {words}"))
        notes[name] += marks.get(place.label, [])
    # Measure after measure of all sheets becomes sheet after sheet.
    return pl.concat(long.partition_by("file")), [n for own in notes.values() for n in own]


def _located(
    cells: pl.DataFrame, spec: SheetSpec, states: Mapping[str, State | None]
) -> pl.DataFrame:
    """``cells`` with ``level``, ``geoid``, ``name`` and ``stratum``, null where a row is no area's,
    and ``begun``, the first row of the sheet that is one."""
    needed = _needed(spec)
    # A sheet is read as wide as it is filled; a column without a single entry would be missing.
    absent = [letter for letter in needed if letter not in cells.columns]
    figures = [name for name in _letters(cells) if name not in (*spec.labels, spec.code)]
    figures += [letter for letter in absent if letter not in (*spec.labels, spec.code)]
    cells = cells.with_columns(pl.lit(None, pl.String).alias(letter) for letter in absent)
    named = cells.with_columns(pl.coalesce(spec.labels).alias("name"), pl.lit("").alias("stratum"))
    of_counties = spec.holds == "counties"
    located = _county_rows(named, spec, states) if of_counties else _state_rows(named)
    # A row whose every cell is withheld is an area's all the same, whatever mark the cells carry.
    filled = pl.any_horizontal(pl.col(figures).fill_null("") != "")
    located = located.with_columns(
        pl.when(filled).then(pl.col(column)).alias(column) for column in ("level", "geoid")
    )
    begun = pl.col(ROW).filter(pl.col("geoid").is_not_null()).min().over(SHEET)
    return located.with_columns(begun.alias("begun"))


def _needed(spec: SheetSpec) -> list[str]:
    return [*spec.labels, *([spec.code] if spec.code else []), *spec.columns]


def _columns(
    located: pl.DataFrame, spec: SheetSpec, places: Mapping[str, FileProvenance]
) -> tuple[dict[str, str], dict[str, list[SourceNote]]]:
    """``{measure: column letter}`` of all sheets, and notes by sheet. Raises SourceLayoutError if a
    title or a heading is another's, or sheets have different columns."""
    above = located.filter(pl.col(ROW) < pl.col("begun"))
    above = above.drop("name", "stratum", "level", "geoid", "begun")
    heads = {head[SHEET][0]: head for head in above.partition_by(SHEET)}
    found, notes = [], {}
    for name, where in places.items():
        head = heads.get(name, above.clear())
        refuse_title(head, spec, where)
        columns, notes[name] = located_columns(head, spec, where)
        found.append(columns)
    if any(columns != found[0] for columns in found):
        raise SourceLayoutError(
            "The sheets have not the same columns",
            where=next(iter(places.values())).path,
            expected="each measure in one column",
            remedy="Read the sheets one by one",
        )
    return found[0], notes


def _skipped(located: pl.DataFrame, spec: SheetSpec) -> dict[str, int]:
    """How many rows below the header hold labels and footnotes, by sheet."""
    rows = located.filter(
        pl.col("geoid").is_null()
        & pl.any_horizontal(pl.col(_needed(spec)).is_not_null())
        & (pl.col(ROW) > pl.col("begun"))
    )
    return dict(rows.group_by(SHEET).len().iter_rows())


def _county_rows(
    cells: pl.DataFrame, spec: SheetSpec, states: Mapping[str, State | None]
) -> pl.DataFrame:
    """``cells`` with ``level``, ``geoid`` and ``name``; null where the row is no area's."""
    code = pl.col(spec.code or "C").str.replace(r"\.0$", "")
    label = pl.col("name").fill_null("").str.to_lowercase()
    is_code = code.str.contains(r"^\d{1,5}$").fill_null(False)
    is_total = is_code & label.str.starts_with("total")
    # DC and places without counties print their code as SS000: that row is the state.
    is_whole = is_code & ~is_total & code.str.zfill(5).str.ends_with("000")
    names = {sheet: state.name if state else None for sheet, state in states.items()}
    return cells.with_columns(
        pl.when(is_total | is_whole)
        .then(pl.lit("state"))
        .when(is_code)
        .then(pl.lit("county"))
        .when(label == "unknown")
        .then(pl.lit("other"))
        .alias("level"),
        pl.when(is_total)
        .then(code.str.zfill(2))
        .when(is_whole)
        .then(code.str.zfill(5).str.slice(0, 2))
        .when(is_code)
        .then(code.str.zfill(5))
        .when(label == "unknown")
        .then(pl.lit("UNKNOWN") + _fips(states))
        .alias("geoid"),
        pl.when(is_total)
        .then(pl.coalesce(_by_sheet(names), "name"))
        .otherwise(pl.col("name"))
        .alias("name"),
    )


def _fips(states: Mapping[str, State | None]) -> pl.Expr:
    """Of the state that a row's sheet is for; blank where it is for none."""
    return _by_sheet({sheet: state.fips if state else "" for sheet, state in states.items()})


def _by_sheet(values: Mapping[str, str | None]) -> pl.Expr:
    return pl.col(SHEET).replace_strict(values, return_dtype=pl.String)


def _state_rows(cells: pl.DataFrame) -> pl.DataFrame:
    """``cells`` with ``level`` and ``geoid`` by the area's name; null where it is no area's."""
    # Footnote letters stand behind a label: "All areas a", "Northern Mariana Islands b,c".
    label = (
        pl.col("name")
        .str.replace(r"\s+[a-z](,\s?[a-z])*$", "")
        .str.replace(r"(?i)^total, ", "")
        .str.to_lowercase()
    )
    level = dict.fromkeys(_NATION_LABELS, "nation") | dict.fromkeys(_OTHER_LABELS, "other")
    level |= dict.fromkeys(_STATE_FIPS, "state")
    geoid = dict.fromkeys(_NATION_LABELS, "") | _OTHER_LABELS | _STATE_FIPS
    return cells.with_columns(
        label.replace_strict(level, default=None, return_dtype=pl.String).alias("level"),
        label.replace_strict(geoid, default=None, return_dtype=pl.String).alias("geoid"),
    )


def _refuse_nameless(
    located: pl.DataFrame, columns: dict[str, str], spec: SheetSpec, where: FileProvenance
) -> None:
    """Raise SourceValueError if a row below the first is full of figures and stands for no area."""
    full = pl.all_horizontal(
        pl.col(letter).str.contains(_NUMBER).fill_null(False) for letter in columns.values()
    )
    below = pl.col(ROW) > pl.col("begun")
    nameless = located.filter(pl.col("geoid").is_null() & below & full)
    if nameless.is_empty():
        return
    first = nameless.row(0, named=True)
    if spec.holds == "counties":
        found = f"A row of figures has no area code ({first['name']!r})"
        expected = f"an ANSI code in column {spec.code or 'C'}, or the label Unknown"
    else:
        found = f"A row of figures stands for no known area ({first['name']!r})"
        expected = "a state, an outlying area, All areas, Foreign countries or Unknown"
    raise SourceValueError(
        found,
        where=f"{where.label}, row {first[ROW]}",
        expected=expected,
        remedy="Download the workbook again",
    )


def _refuse_alien(
    areas: pl.DataFrame, states: Mapping[str, State | None], where: FileProvenance
) -> None:
    """Raise SourceValueError if a state's sheet holds another state's county."""
    own = _fips(states)
    alien = areas.filter(
        (own != "") & (pl.col("geoid").str.slice(0, 2) != own) & (pl.col("level") != "other")
    )
    if not alien.is_empty():
        first = alien.row(0, named=True)
        state = states[first[SHEET]]
        raise SourceValueError(
            f"The sheet of {state.name if state else ''} holds area {first['geoid']}"
            f" ({first['name']})",
            where=f"{where.label}, row {first[ROW]}",
            expected=f"codes that begin with {state.fips if state else ''}",
            remedy="Download the workbook again",
        )


def _one_figure_per_state(
    table: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """Drop the county sheets' state totals that the table of states has; count the differing."""
    first = table.select(pl.struct(_KEY).is_first_distinct()).to_series()
    kept, again = table.filter(first), table.filter(~first)
    if again.is_empty():
        return table, []
    both = again.join(kept, on=_KEY, how="left", suffix="_kept").filter(
        pl.col("estimate").ne_missing(pl.col("estimate_kept"))
    )
    detail = (
        f"{provenance.label}: {again.height} state total(s) stand in two tables; "
        f"the table of states is used; {both.height} differ"
    )
    examples = [
        f"{row['geoid']} {row['column']} {row['estimate_kept']} and {row['estimate']}"
        for row in both.sort("geoid", "column").head(3).iter_rows(named=True)
    ]
    shown = detail + (f": {'; '.join(examples)}" if examples else "")
    notes = [SourceNote("state_totals_twice", again.height, shown)]
    if both.height:
        notes.append(SourceNote("state_totals_that_differ", both.height, detail))
    return kept, notes
