"""From text cells to numbers: suppression marks, sentinels, signs, units, and the long table.

Belongs here: everything that is true of a cell whatever the publication. Does not belong here:
which columns a file has (``columns.py``), or where an area's code stands (the readers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import groupby

import numpy as np
import polars as pl

from pipeline.errors import SourceValueError
from pipeline.sources.base import ReadRequest, SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.sources.tables.text import ROW, SHEET
from pipeline.specs.sources import CodeSpec, ColumnSpec

AREA = ("level", "geoid", "name", "stratum", ROW)
CONTROLLED = "controlled"
_JAM = CodeSpec(
    code="jam value",
    applies_to="estimate",
    status="not_available",
    meaning="the median lies in an open-ended class, a number stands for its bound",
)
# Margins that say the same of a median: https://www.census.gov/data/developers/data-sets/acs-1year/
# notes-on-acs-estimate-and-annotation-values.html
_OPEN_ENDED = ("-333333333", "***")


@dataclass(frozen=True)
class Measure:
    """One published column: its name in the long table, the file's columns of estimate and margin,
    and its spec.
    """

    column: str
    estimate: str
    margin: str | None
    spec: ColumnSpec


def long_table(
    request: ReadRequest,
    areas: pl.DataFrame,
    measures: Sequence[Measure],
    provenance: FileProvenance,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """Unpivot text cells to the long table, with numbers in plain units.

    ``areas`` has the columns of ``AREA`` and one text column per measure. Codes of the spec become
    a status before any arithmetic; -555555555 and ``*****`` make the margin zero. A median's jam
    value, and any number beside the margin of an open-ended class, is not available. Raises
    SourceValueError for text that is no number and no code, and for a negative number where the
    spec allows none.
    """
    frame, notes = long_sheets(request, areas, measures, provenance)
    return frame, [note for own in notes.values() for note in own]


def long_sheets(
    request: ReadRequest,
    areas: pl.DataFrame,
    measures: Sequence[Measure],
    provenance: FileProvenance,
) -> tuple[pl.DataFrame, dict[str, list[SourceNote]]]:
    """``long_table`` of sheets of one workbook under one another, which ``areas`` names in the
    column ``__sheet``, and the notes by label of a sheet; without that column all is one file.

    An error counts the cells of all sheets, and has the label of ``provenance``.
    """
    codes = request.spec.suppression_of(request.vintage)
    table = pl.DataFrame(
        {
            "column": [m.column for m in measures],
            "scale": [m.spec.scale for m in measures],
            "signed": [m.spec.may_be_negative for m in measures],
            "jam": [list(m.spec.jam_values) for m in measures],
        },
        schema={
            "column": pl.String,
            "scale": pl.Float64,
            "signed": pl.Boolean,
            "jam": pl.List(pl.Float64),
        },
    ).with_row_index("measure")
    published = pl.Series([m.margin is not None for m in measures], dtype=pl.Boolean)
    cells = (
        _unpivot(areas, measures)
        .lazy()
        .join(
            table.with_columns(published.alias("has_margin")).lazy(),
            on="measure",
            how="left",
            maintain_order="left",
        )
        .with_columns(_number("estimate_text"), _number("margin_text"))
        .with_columns(_status("estimate", codes), _status("margin", codes))
        .with_columns(_jammed())
        .with_columns(*_figures(request.spec.zero_margin_of(request.vintage)))
        .collect()
    )
    _refuse(cells, codes, provenance)
    label = _label(areas, provenance)
    notes = _notes(cells.with_columns(label.alias("label")), codes)
    frame = cells.select(
        pl.lit(request.spec.id).alias("source"),
        pl.lit(request.vintage).alias("vintage"),
        "level",
        "geoid",
        "name",
        "column",
        "stratum",
        "estimate",
        "margin_of_error",
        "status",
        pl.col(ROW).alias("row"),
        label.alias("file"),
        pl.lit(provenance.sha256).alias("sha256"),
    )
    return frame, notes


def _label(areas: pl.DataFrame, provenance: FileProvenance) -> pl.Expr:
    """The file and sheet of each row."""
    if SHEET not in areas.columns:
        return pl.lit(provenance.label)
    names = {name: replace(provenance, member=name).label for name in areas[SHEET].unique()}
    return pl.col(SHEET).replace_strict(names, return_dtype=pl.String)


def _unpivot(areas: pl.DataFrame, measures: Sequence[Measure]) -> pl.DataFrame:
    """Stack the measures' columns one below the other; ``measure`` counts them, so that the same
    column may stand in twice.
    """
    blank = pl.repeat(None, areas.height, dtype=pl.String, eager=True)
    estimates = [areas[m.estimate].alias("estimate_text") for m in measures]
    margins = [blank if m.margin is None else areas[m.margin] for m in measures]
    counts = np.repeat(np.arange(len(measures), dtype=np.uint32), areas.height)
    own = [*AREA, SHEET] if SHEET in areas.columns else AREA
    keys = pl.concat([areas.select(own)] * len(measures), rechunk=True)
    return keys.hstack(
        [
            pl.concat(estimates, rechunk=True),
            pl.Series("measure", counts),
            pl.concat([each.alias("margin_text") for each in margins], rechunk=True),
        ]
    )


def _figures(zero_is_controlled: bool) -> list[pl.Expr]:
    """Estimate, margin and status out of texts, numbers and codes."""
    known = pl.col("estimate_code").is_null()
    exact = pl.col("margin_code").str.starts_with(CONTROLLED).fill_null(False)
    if zero_is_controlled:
        exact = exact | (
            pl.col("has_margin") & (pl.col("margin_text_number") == 0).fill_null(False)
        )
    margin = (
        pl.when(~known)
        .then(None)
        .when(exact)
        .then(0.0)
        .when(pl.col("margin_code").is_null())
        .then(pl.col("margin_text_number") * pl.col("scale"))
    )
    return [
        pl.when(known).then(pl.col("estimate_text_number") * pl.col("scale")).alias("estimate"),
        margin.alias("margin_of_error"),
        pl.when(~known)
        .then(pl.col("estimate_code").str.split("|").list.first())
        .when(exact)
        .then(pl.lit(CONTROLLED))
        .otherwise(pl.lit("published"))
        .alias("status"),
    ]


def _number(text: str) -> pl.Expr:
    trimmed = pl.col(text).str.replace_all("\u00a0", " ", literal=True).str.strip_chars()
    number = trimmed.str.replace_all(",", "", literal=True).cast(pl.Float64, strict=False)
    # The cast reads "nan" and "inf" as numbers; no publisher means a number by them.
    return pl.struct(
        trimmed.fill_null("").alias(text),
        pl.when(number.is_finite()).then(number).alias(f"{text}_number"),
    ).struct.unnest()


@lru_cache(maxsize=64)
def _status(part: str, codes: tuple[CodeSpec, ...]) -> pl.Expr:
    """``status|code`` where the cell is one of the ``codes`` of this part, else null."""
    text, codes = f"{part}_text", tuple(c for c in codes if c.applies_to in (part, "both"))
    words = {c.code: f"{c.status}|{c.code}" for c in codes if not c.is_pattern and c.number is None}
    numbers = {c.number: f"{c.status}|{c.code}" for c in codes if c.number is not None}
    found = [pl.lit(None, pl.String)]
    if words:
        found.append(pl.col(text).replace_strict(words, default=None, return_dtype=pl.String))
    if numbers:
        found.append(
            pl.col(f"{text}_number").replace_strict(numbers, default=None, return_dtype=pl.String)
        )
    for code in codes:
        if code.is_pattern:
            found.append(
                pl.when(pl.col(text).str.contains(f"^(?:{code.code})$")).then(
                    pl.lit(f"{code.status}|{code.code}")
                )
            )
    return pl.coalesce(found[::-1]).alias(f"{part}_code")


def _jammed() -> pl.Expr:
    """The estimate's code, where a median shows a number that is only a bound."""
    open_ended = pl.col("margin_code").str.split("|").list.last().is_in(_OPEN_ENDED)
    number = pl.col("estimate_text_number")
    bound = number.is_in(pl.col("jam")) | (number.is_not_null() & open_ended.fill_null(False))
    return (
        pl.when(pl.col("estimate_code").is_null() & (pl.col("jam").list.len() > 0) & bound)
        .then(pl.lit(f"{_JAM.status}|{_JAM.code}"))
        .otherwise(pl.col("estimate_code"))
        .alias("estimate_code")
    )


def _uncoded(part: str) -> pl.Expr:
    coded = pl.col(f"{part}_code").is_null()
    return coded if part == "estimate" else pl.col("has_margin") & coded


def _senseless(part: str) -> pl.Expr:
    """Neither a number nor a code; a margin may be blank."""
    no_number = _uncoded(part) & pl.col(f"{part}_text_number").is_null()
    return no_number if part == "estimate" else no_number & (pl.col(f"{part}_text") != "")


def _negative(part: str) -> pl.Expr:
    below = _uncoded(part) & (pl.col(f"{part}_text_number") < 0)
    return below & ~pl.col("signed") if part == "estimate" else below


def _refuse(cells: pl.DataFrame, codes: Sequence[CodeSpec], provenance: FileProvenance) -> None:
    """Raise SourceValueError for the first cells that are no number and no code, or negative where
    none may be."""
    parts = ("estimate", "margin")
    faults = [fault(part).any() for part in parts for fault in (_senseless, _negative)]
    if not cells.select(pl.any_horizontal(faults)).item():
        return
    for part in ("estimate", "margin"):
        senseless = cells.filter(_senseless(part))
        if not senseless.is_empty():
            known = ", ".join(c.code or "blank" for c in codes) or "none"
            raise _value_error(
                senseless,
                part,
                provenance,
                "neither a number nor a known code",
                f"a number, or one of the publication's codes: {known}",
            )
        negative = cells.filter(_negative(part))
        if not negative.is_empty():
            raise _value_error(
                negative,
                part,
                provenance,
                "negative",
                f"{'a margin' if part == 'margin' else 'a count or amount'} of zero or more, or a"
                " declared code",
            )


def _value_error(
    cells: pl.DataFrame, part: str, provenance: FileProvenance, fault: str, expected: str
) -> SourceValueError:
    first = cells.sort(ROW, "column", maintain_order=True).row(0, named=True)
    shown = first[f"{part}_text"] or "blank"
    return SourceValueError(
        f"{cells.height:,} {part} cell(s) are {fault}; the first is {shown!r}",
        where=(
            f"{provenance.label}, column {first['column']} ({part}), row {first[ROW]}, area"
            f" {first['geoid'] or 'nation'} {first['name'] or ''}".rstrip()
        ),
        expected=expected,
        remedy=(
            "Compare the cell with the publisher's page and download the file again; if it is a new"
            " code, add it to the source's YAML"
        ),
    )


def _notes(cells: pl.DataFrame, codes: Sequence[CodeSpec]) -> dict[str, list[SourceNote]]:
    """By label, what is marked, by code, and margins that stand beside no estimate."""
    known = pl.col("estimate_code").is_null()
    kinds = [_code_notes(cells, "estimate", [*codes, _JAM])]
    if cells["has_margin"].any():
        beside = cells.filter(known & pl.col("has_margin"))
        kinds.append(_code_notes(beside, "margin", codes))
        stranded = cells.filter(
            ~known
            & pl.col("has_margin")
            & pl.col("margin_code").is_null()
            & pl.col("margin_text_number").is_not_null()
        )
        kinds.append(_stranded_notes(stranded))
    notes: dict[str, list[SourceNote]] = {}
    for kind in kinds:
        for label, own in kind.items():
            notes.setdefault(label, []).extend(own)
    return notes


def _stranded_notes(cells: pl.DataFrame) -> dict[str, list[SourceNote]]:
    words = "published margin(s) beside a withheld estimate set to null"
    return {
        label: [SourceNote("margin_without_estimate", count, f"{label}: {count} {words}")]
        for label, count in cells.group_by("label").len().iter_rows()
    }


def _code_notes(
    cells: pl.DataFrame, part: str, codes: Sequence[CodeSpec]
) -> dict[str, list[SourceNote]]:
    if cells[f"{part}_code"].null_count() == cells.height:
        return {}
    meaning = {f"{c.status}|{c.code}": c for c in codes}
    key = ["label", f"{part}_code", "column"]
    marked = cells.filter(pl.col(f"{part}_code").is_not_null())
    counts = marked.group_by(key).len().sort(key).iter_rows()
    notes: dict[str, list[SourceNote]] = {}
    for (label, each), rows in groupby(counts, key=lambda row: row[:2]):
        code, by_column = meaning[each], [row[2:] for row in rows]
        total = sum(count for _, count in by_column)
        kind = code.status if part == "estimate" else f"margin_{code.status}"
        said = (
            f"{label}: {total:,} {part} cell(s) marked {code.code or 'blank'!r}"
            f" ({code.meaning}): {columns_shown(by_column)}"
        )
        notes.setdefault(label, []).append(SourceNote(kind, total, said))
    return notes


def columns_shown(counts: Iterable[tuple[str, int]]) -> str:
    """The first six columns with their number of cells in words."""
    columns = [f"{name} {count}" for name, count in counts]
    more = f" and {len(columns) - 6} more columns" if len(columns) > 6 else ""
    return ", ".join(columns[:6]) + more
