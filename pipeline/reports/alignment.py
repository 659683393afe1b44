"""What the steps of the records changed, as figures and on a terminal.

Belongs here: the relative difference from the published figure before and after a step, and the
lines that ``geocal show`` prints. Does not belong here: the steps (``pipeline/records/align.py``).
"""

from __future__ import annotations

from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from pipeline.reports.words import Printer


def with_gaps(table: pl.DataFrame) -> pl.DataFrame:
    """``record_alignment`` with ``gap_before``, ``gap_after``: (total - published) / |published|,
    null where the published figure is zero or withheld, or records hold no such amount.
    """
    published = pl.col("published")
    gaps = {
        f"gap_{when}": pl.when(published != 0).then((pl.col(when) - published) / published.abs())
        for when in ("before", "after")
    }
    return table.with_columns(**gaps)


def alignment_rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of the document that ``geocal show --json`` prints: step, variable, domain, unit,
    controls, published, before, after, gap_before, gap_after.
    """
    return with_gaps(table).to_dicts()


def print_alignment(report: dict[str, Any], printer: Printer, every: bool) -> None:
    """A line per figure: what records total before and after each step. Not ``every``: figures of
    which the records hold less than a class each.
    """
    rows = report.get("record_alignment", [])
    if not rows:
        return
    whole = [row for row in rows if every or "agi_" not in row["domain"] or not row["controls"]]
    table = Table(
        title="Records before and after alignment with administrative data (design weights)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("step, figure")
    for heading in ("published", "before", "after"):
        table.add_column(heading, justify="right")
    step = ""
    for row in whole:
        if row["step"] != step:
            step = row["step"]
            table.add_row(step, "", "", "", style="bold")
        mark = "" if row["controls"] else " (not aimed at)"
        name = f"  {row['variable']} {row['domain']}{mark}"
        table.add_row(name, _figure(row), _gap(row["gap_before"]), _gap(row["gap_after"]))
    printer.print(table)


def _figure(row: dict[str, Any]) -> str:
    value = row["published"]
    if value is None:
        return ""
    return f"{value / 1e6:,.1f} m" if row["unit"] == "usd" else f"{value:,.0f}"


def _gap(value: float | None) -> str:
    return "" if value is None else f"{value:+.1%}"
