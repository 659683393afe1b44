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
    state and among the records, the records' dollars, and how far these are from the donors' by
    base. Not ``every``: what the donor's file does not have is one line for all.
    """
    rows = report.get("record_donation", [])
    if not rows:
        return
    table = Table(
        title="Borrowed from the donor survey: share of those who could receive",
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    table.add_column("item, column")
    for heading in ("donors", "state's", "records", "dollars", "gap"):
        table.add_column(heading, justify="right")
    item = ""
    for row in (row for row in rows if every or row["status"] != "absent"):
        if row["item"] != item:
            item = row["item"]
            table.add_row(item, *("",) * 5, style="bold")
        table.add_row(f"{'*' if row['far'] else ' '} {row['column']}", *_figures(row))
    printer.print(table)
    if absent := [row["column"] for row in rows if row["status"] == "absent"]:
        printer.print(f"Not in the donor's file: {', '.join(absent)}", highlight=False)
    for row in (row for row in rows if row["far"]):
        printer.print(
            f"* WARNING: {row['column']} is far from the donors of the nation: receivers"
            f" {_signed(row['receiving_gap'])}, dollars {_signed(row['dollars_gap'])}",
            highlight=False,
            markup=False,
        )


def _figures(row: dict[str, Any]) -> list[str]:
    """Shares of receivers, the records' dollars, and their gap by base."""
    shares = [_share(row, who) for who in ("nation", "state", "after")]
    dollars, gap = row["after_dollars"], row["dollars_gap"]
    return [
        *("" if share is None else f"{share:.1%}" for share in shares),
        "" if dollars is None else f"{dollars / 1e6:,.1f} m",
        "" if gap is None else f"{gap:+.0%}",
    ]


def _share(row: dict[str, Any], who: str) -> float | None:
    receiving, universe = row[f"{who}_receiving"], row[f"{who}_universe"]
    return receiving / universe if receiving is not None and universe else None


def _signed(gap: float | None) -> str:
    return "not told" if gap is None else f"{gap:+.0%}"
