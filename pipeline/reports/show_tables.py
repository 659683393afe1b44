"""A state's document as tables on a terminal, at any width from 80 columns.

Belongs here: layout. Does not belong here: what the document says (``reports/show.py``), or the
section on what selection lost (``reports/show_loss.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import polars as pl
from rich import box
from rich.table import Column, Table

from pipeline.reports.alignment import print_alignment
from pipeline.reports.donation import print_donation
from pipeline.reports.show import WORST
from pipeline.reports.show_bystanders import print_worst
from pipeline.reports.show_loss import print_loss
from pipeline.reports.words import Printer, percent

NAMES = 8
# Nine columns of figures need so many columns of the terminal; below it, levels stand side by side.
WIDE = 110

_PUBLISHED = "share_inside_published_margin"


def print_state(report: dict[str, Any], printer: Printer, *, every: bool = False) -> None:
    """Everything ``geocal show`` prints: fit, worst targets, targets not fitted, weights, what
    selection lost, untold figures that moved most, seconds and memory.

    ``every``: long lists whole, not their first rows.
    """
    print_fit(report, printer)
    _print_worst(report, printer)
    _print_not_fitted(report, printer, every)
    _print_moved(report, printer, every)
    _print_transcriptions(report, printer)
    print_alignment(report, printer, every)
    print_donation(report, printer, every)
    _print_model_errors(report, printer, every)
    _print_survey(report, printer, every)
    printer.print("Weights: " + ", ".join(_figures(report["weights"])), highlight=False)
    print_loss(report, printer)
    print_untold(report, printer)
    _print_seconds(report, printer)


def _print_transcriptions(report: dict[str, Any], printer: Printer) -> None:
    """Sources that were not read in their publisher's own form."""
    for row in report["transcriptions"]:
        printer.print(
            f"TRANSCRIPTION: {row['targets']:,} targets come from {row['source']}"
            f" {row['vintage']}, which was not read in its publisher's form. {row['why']}",
            highlight=False,
            markup=False,
        )


def print_untold(report: dict[str, Any], printer: Printer) -> None:
    """Figures without a target that moved furthest from the survey."""
    print_worst(report["bystanders"], report["state"], report["synthetic"], printer)


def print_fit(report: dict[str, Any], printer: Printer) -> None:
    """The fit of one state by level, dense beside selected, and a line on the weights."""
    label = " · SYNTHETIC" if report["synthetic"] else ""
    title = f"{report['state']}{label}: fit of {report['k']:,} pairs"
    wide = printer.width >= WIDE
    printer.print(_wide_fit(report, title) if wide else _narrow_fit(report, title))
    printer.print(
        "Inside: share of the targets with a published 90 % margin that the weights reproduce"
        " within it, around the published figure and around the reconciled target. Where the two"
        " differ, levels or sources contradict each other by more than their margins.",
        style="dim",
    )
    unfitted = sum(row["targets"] for row in report["not_fitted"])
    pairs = f" chosen from {report['pairs']:,}" if report["pairs"] else ""
    printer.print(
        f"k {report['k']:,}{pairs}, {report['records']:,} records in {report['areas']:,} areas,"
        f" effective sample size {report['ess']:,.0f}; {unfitted:,} targets not fitted (each with"
        f" its reason in `geocal show {report['state']}`).",
        highlight=False,
    )


def _wide_fit(report: dict[str, Any], title: str) -> Table:
    """A row per level."""
    table = Table(title=title, title_justify="left")
    truth, dense = report.get("truth_levels", {}), report["dense_levels"]
    # Unwrapped where the break is given: a share and its number of targets belong on one line.
    headings = ["level", "fitted targets", "inside published\nmargin", "before selection"]
    headings += ["inside, reconciled", "median error", "mean error", "worst error"]
    headings += ["median against truth"] if truth else []
    table.add_column(headings[0])
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap="\n" in heading)
    for level, row in report["levels"].items():
        if not row["fitted"]:
            table.add_row(level, f"0 of {row['targets']:,}", *[""] * (len(headings) - 2))
            continue
        margins = row["with_published_margin"]
        share = f"{percent(row[_PUBLISHED], 1)} of {margins:,}" if margins else ""
        cells = [level, f"{row['fitted']:,}", share]
        cells += [percent(dense.get(level, {}).get(_PUBLISHED), 1)]
        cells += [percent(row["share_inside_margin"], 1), percent(row["median_are"])]
        cells += [percent(row["mean_are"]), percent(row["worst_are"], 1)]
        cells += [percent(truth.get(level, {}).get("median_are"))] if truth else []
        table.add_row(*cells)
    return table


def _narrow_fit(report: dict[str, Any], title: str) -> Table:
    """A column per level."""
    levels = report["levels"]
    columns = [Column(level, justify="right") for level in levels]
    table = Table("", *columns, title=title, title_justify="left", box=box.SIMPLE_HEAD)
    for name, figures in _measures(report):
        cells = [figures(level, row) if row["fitted"] else "" for level, row in levels.items()]
        if name == "fitted targets":
            rows = levels.values()
            cells = [f"{r['fitted']:,}" if r["fitted"] else f"0 of {r['targets']:,}" for r in rows]
        table.add_row(name, *cells)
    return table


def _measures(report: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The rows of the narrow table: a name, and the cell of (level, figures of the level)."""
    dense, truth = report["dense_levels"], report.get("truth_levels", {})
    yield "fitted targets", lambda level, row: f"{row['fitted']:,}"
    yield ("with a published margin", lambda level, row: f"{row['with_published_margin']:,}")
    yield "inside that margin", lambda level, row: percent(row[_PUBLISHED], 1)
    yield (
        "inside it before selection",
        lambda level, row: percent(dense.get(level, {}).get(_PUBLISHED), 1),
    )
    yield "inside, reconciled", lambda level, row: percent(row["share_inside_margin"], 1)
    yield "median error", lambda level, row: percent(row["median_are"])
    yield "mean error", lambda level, row: percent(row["mean_are"])
    yield "worst error", lambda level, row: percent(row["worst_are"], 1)
    if truth:
        yield (
            "median error, against truth",
            lambda level, row: percent(truth.get(level, {}).get("median_are")),
        )


def _targets_table(printer: Printer, title: str, *figures: str) -> tuple[Table, bool]:
    """A table of targets: four columns that name one, or one of two lines where it is narrow."""
    wide = printer.width >= WIDE
    names: tuple[str | Column, ...] = ("level", "geoid", "variable", "domain")
    names = names if wide else (Column("area, then variable and domain", overflow="fold"),)
    columns = [Column(name, justify="right", no_wrap=True) for name in figures]
    style = box.HEAVY_HEAD if wide else box.SIMPLE_HEAD
    return Table(*names, *columns, title=title, title_justify="left", box=style), wide


def _target_names(row: dict[str, Any], wide: bool) -> tuple[str, ...]:
    level, geoid, variable, domain = (row[k] for k in ("level", "geoid", "variable", "domain"))
    if wide:
        return level, geoid, variable, domain
    return (f"{level} {geoid}\n  {variable} {domain}",)


def _print_worst(report: dict[str, Any], printer: Printer) -> None:
    table, wide = _targets_table(printer, "Worst targets", "target", "fitted", "error", "in s.e.")
    for row in report["worst_targets"]:
        in_errors = "" if row["errors_in_se"] is None else f"{row['errors_in_se']:.1f}"
        error = percent(row["absolute_relative_error"], 1)
        figures = (f"{row['value']:,.0f}", f"{row['fitted']:,.0f}", error, in_errors)
        table.add_row(*_target_names(row, wide), *figures)
    printer.print(table)


def _print_not_fitted(report: dict[str, Any], printer: Printer, every: bool) -> None:
    if not report["not_fitted"]:
        return
    narrow = printer.width < WIDE
    columns = ("reason", Column("targets", justify="right"), "variables")
    style = box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD
    table = Table(*columns, title="Not fitted", title_justify="left", box=style)
    name = pl.format("{} {}", "variable", "domain").unique().sort()
    grouped = (
        pl.DataFrame(report["not_fitted"])
        .group_by("reason")
        .agg(pl.col("targets").sum(), names=name)
        .sort("targets", "reason", descending=[True, False])
    )
    for row in grouped.iter_rows(named=True):
        names = row["names"] if every else row["names"][:NAMES]
        rest = len(row["names"]) - len(names)
        more = f" and {rest} more (--verbose or --json names all)" if rest else ""
        table.add_row(row["reason"], f"{row['targets']:,}", ", ".join(names) + more)
    printer.print(table)


def _print_moved(report: dict[str, Any], printer: Printer, every: bool) -> None:
    rows = report["moved_by_reconciliation"]
    if not rows:
        return
    title = "Moved by reconciliation: by more than two standard errors, or an exact figure"
    table, wide = _targets_table(printer, title, "published", "target", "in s.e.")
    shown = rows if every else rows[:WORST]
    for row in shown:
        size = row["adjustment_in_standard_errors"]
        moved = "exact" if size is None else f"{size:+.1f}"
        figures = (f"{row['published_value']:,.0f}", f"{row['value']:,.0f}", moved)
        table.add_row(*_target_names(row, wide), *figures)
    printer.print(table)
    if rest := len(rows) - len(shown):
        printer.print(
            f"{rest:,} more with --verbose, or in `geocal show {report['state']} --json`."
        )


def _print_model_errors(report: dict[str, Any], printer: Printer, every: bool) -> None:
    rows = report["model_errors"]
    if not rows:
        return
    title = "Targets of another concept than the records': how far they are not met"
    figures = ("published", "concept error", "fitted off by")
    columns = [Column(name, justify="right") for name in figures]
    listed = rows if every else rows[:WORST]
    # No name is cut: headings wrap before that.
    width = max(len(word) for row in listed for word in (row["variable"], row["domain"]))
    first = Column("variable and domain", min_width=width)
    table = Table(first, "treatment", *columns, title=title, title_justify="left")
    for row in listed:
        off = f"{row['difference']:+.1%}"
        shown = (f"{row['value']:,.0f}", percent(row["concept_error"], 1), off)
        table.add_row(f"{row['variable']} {row['domain']}", row["treatment"], *shown)
    printer.print(table)


def _print_survey(report: dict[str, Any], printer: Printer, every: bool) -> None:
    rows = report["held_to_survey"]
    if not rows:
        return
    title = f"Held to the survey's own estimate, no target: {len(rows)}, the furthest off first"
    columns = [Column(name, justify="right") for name in ("survey", "fitted", "in s.e.")]
    table = Table("variable and domain", *columns, title=title, title_justify="left")
    for row in rows if every else rows[:WORST]:
        off = "" if row["errors_in_se"] is None else f"{row['errors_in_se']:+.1f}"
        shown = (f"{row['value']:,.0f}", f"{row['fitted']:,.0f}", off)
        table.add_row(f"{row['variable']} {row['domain']}", *shown)
    printer.print(table)


def _figures(weights: dict[str, float]) -> Iterator[str]:
    for name, value in weights.items():
        yield (
            f"{name.replace('_', ' ')} {value:,.4g}"
            if value < 100
            else (f"{name.replace('_', ' ')} {value:,.0f}")
        )


def _print_seconds(report: dict[str, Any], printer: Printer) -> None:
    seconds = report["seconds_by_asset"].items()
    slowest = sorted(((s or 0.0, name) for name, s in seconds), reverse=True)
    listed = ", ".join(f"{name} {s:.1f}" for s, name in slowest if s >= 0.05)
    printer.print(f"Seconds by asset: {listed}", highlight=False)
    printer.print(
        f"{report['seconds_total']:.1f} s in all; peak memory {report['peak_memory_mb'] or 0:,.0f}"
        f" MiB; materialised {report['materialized']}",
        highlight=False,
    )
