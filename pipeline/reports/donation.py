"""What the records borrowed from a donor survey, as figures and on a terminal.

Belongs here: the rows and the lines that ``geocal show`` prints. Does not belong here: the donation
(``pipeline/records/donation.py``) or its sums (``pipeline/records/donation_table.py``).
"""

from __future__ import annotations

from typing import Any

import polars as pl
from rich import box
from rich.table import Table

from pipeline.reports.words import Printer

SHOWN = (
    *("column", "status", "recipients", "settled", "collapsed", "nation_receiving"),
    *("nation_universe", "state_receiving", "state_universe", "before_receiving"),
    *("after_receiving", "after_universe", "nation_dollars", "state_dollars", "before_dollars"),
    *("after_dollars", "receiving_gap", "dollars_gap", "far"),
)
"""Columns of ``record_donation`` in the order in which they are read."""


def donation_rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of the document that ``geocal show --json`` prints: every column of the table."""
    return table.to_dicts()


def print_donation(report: dict[str, Any], printer: Printer, every: bool) -> None:
    """A line per donated column: the share of receivers among the donors of the nation and of the
    state and among the records, and their dollars. Not ``every``: what the donor's file does not
    have is one line for all.
    """
    rows = report.get("record_donation", [])
    if not rows:
        return
    table = Table(
        title="Borrowed from the donor survey (design weights; shares are of who could receive)",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("item, column")
    for heading in ("donors", "in state", "records", "dollars", "a base", "donors'"):
        table.add_column(heading, justify="right")
    item = ""
    for row in (row for row in rows if every or row["status"] != "absent"):
        if row["item"] != item:
            item = row["item"]
            table.add_row(item, *("",) * 6, style="bold")
        table.add_row(f"  {row['column']}{' (far)' if row['far'] else ''}", *_figures(row))
    printer.print(table)
    if absent := [row["column"] for row in rows if row["status"] == "absent"]:
        printer.print(f"Not in the donor's file: {', '.join(absent)}", highlight=False)
    for row in rows:
        if row["far"]:
            printer.print(
                f"WARNING: {row['column']} of the records is far from the donors of the nation"
                f" (receivers {_signed(row['receiving_gap'])}, dollars"
                f" {_signed(row['dollars_gap'])})",
                highlight=False,
                markup=False,
            )


def _figures(row: dict[str, Any]) -> list[str]:
    """Shares of receivers; millions of dollars of the records; dollars by base there and here."""
    shares = [_ratio(row, who, "receiving", "universe") for who in ("nation", "state", "after")]
    dollars = row["after_dollars"]
    by_base = [_ratio(row, who, "dollars", "base") for who in ("after", "nation")]
    return [
        *("" if share is None else f"{share:.1%}" for share in shares),
        "" if dollars is None else f"{dollars / 1e6:,.1f} m",
        *("" if mean is None else f"{mean:,.2f}" for mean in by_base),
    ]


def _ratio(row: dict[str, Any], who: str, what: str, by: str) -> float | None:
    amount, base = row[f"{who}_{what}"], row[f"{who}_{by}"]
    return amount / base if amount is not None and base else None


def _signed(gap: float | None) -> str:
    return "not told" if gap is None else f"{gap:+.0%}"
