"""Zeros that a publisher writes where it withholds: an unknown small figure, not nothing.

Belongs here: which published zeros of count and amount hide something, and which are true. Does not
belong here: marks such as (X) or ``**`` (``cells.py``), or what a sum of cells makes of it
(``pipeline/targets``).

The rule (``WithheldZeros`` of the source's YAML): a count of 0 in an area of the levels named hides
fewer than ``below``. Its amount is judged with it: an amount of 0 beside a withheld or unread count
is withheld, beside a count above zero it is a figure (less than half a unit). An amount other than
0 stays as published, though its count hides. A zero is a true zero only by other evidence: the same
column and class is 0 in every whole (the nation's row, or the rows of all 50 states and DC), so
that the item exists nowhere, as credits above the income they end at.
"""

from __future__ import annotations

import polars as pl

from pipeline.sources.base import ReadRequest, SourceNote
from pipeline.sources.files import FileProvenance
from pipeline.sources.tables.cells import columns_shown
from pipeline.specs.sources import WithheldZeros

_WHOLES = {"nation": 1, "state": 51}  # rows that make a level complete; 51 are 50 states and DC
_CELL = ("level", "geoid", "stratum")


def withhold_zeros(
    request: ReadRequest, frame: pl.DataFrame, provenance: FileProvenance
) -> tuple[pl.DataFrame, list[SourceNote]]:
    """``frame`` (a long table, columns of PublishedTable) with hiding zeros as null and status
    ``suppressed``, and notes that count them (``suppressed``) and the true zeros (``true_zero``).

    Unchanged where the source's spec says nothing of zeros. Rows keep their order.
    """
    rule = request.spec.withheld_zeros
    if rule is None:
        return frame, []
    kinds = _kinds(request, frame, rule)
    judged = frame.with_columns(
        (pl.col("estimate") == 0).fill_null(False).alias("__zero"),
        pl.col("column").replace_strict(kinds, default=None, return_dtype=pl.String).alias("__of"),
    )
    judged = judged.with_columns(
        (
            pl.col("__zero") & pl.col("level").is_in(rule.levels) & pl.col("__of").is_not_null()
        ).alias("__asked")
    )
    judged = judged.join(
        _nowhere(judged, rule), on=["column", "stratum"], how="left", maintain_order="left"
    ).with_columns(pl.col("__nowhere").fill_null(False))
    counts = judged.select(
        *_CELL,
        pl.col("column").alias("__of"),
        (pl.col("estimate").is_not_null() & ~pl.col("__zero")).alias("__counted"),
    )
    judged = judged.join(
        counts, on=[*_CELL, "__of"], how="left", nulls_equal=False, maintain_order="left"
    ).with_columns(pl.col("__counted").fill_null(False))
    hides = pl.col("__asked") & ~pl.col("__nowhere") & ~pl.col("__counted")
    true = pl.col("__asked") & pl.col("__nowhere")
    hidden = f"zero(s) withheld, since 0 is published for fewer than {rule.below}"
    kept = "zero(s) kept as true, since the item is 0 in every whole"
    notes = [
        *_note(judged.filter(hides), "suppressed", provenance.label, hidden),
        *_note(judged.filter(true), "true_zero", provenance.label, kept),
    ]
    made = judged.with_columns(
        pl.when(hides).then(None).otherwise(pl.col("estimate")).alias("estimate"),
        pl.when(hides).then(None).otherwise(pl.col("margin_of_error")).alias("margin_of_error"),
        pl.when(hides).then(pl.lit("suppressed")).otherwise(pl.col("status")).alias("status"),
    )
    return made.select(frame.columns), notes


def _kinds(request: ReadRequest, frame: pl.DataFrame, rule: WithheldZeros) -> dict[str, str]:
    """The count that each column of the table is judged with: a count is judged with itself."""
    names = frame["column"].unique().to_list()
    declared = request.spec.columns_of(request.vintage, "table")
    kinds = {}
    for name in names:
        spec = next((c for c in declared if name in (c.name, c.rename)), None) or next(
            (c for c in declared if c.matches(name, request.vintage)), None
        )
        if spec is not None and spec.type in ("count", "amount"):
            kinds[name] = rule.count_of(name) if spec.type == "amount" else name
    return kinds


def _nowhere(judged: pl.DataFrame, rule: WithheldZeros) -> pl.DataFrame:
    """Columns and classes that are 0 in every whole of a table that has all wholes."""
    return (
        judged.filter(pl.col("level") == rule.whole)
        .group_by("column", "stratum")
        .agg((pl.col("__zero").all() & (pl.len() >= _WHOLES[rule.whole])).alias("__nowhere"))
    )


def _note(rows: pl.DataFrame, code: str, label: str, words: str) -> list[SourceNote]:
    if rows.is_empty():
        return []
    shown = columns_shown(rows.group_by("column").len().sort("column").iter_rows())
    return [SourceNote(code, rows.height, f"{label}: {rows.height:,} {words}: {shown}")]
