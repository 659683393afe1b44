"""A comparison, a verdict and a list of releases as tables on a terminal.

Belongs here: layout and words. Does not belong here: what differs (``diff.py``), what is refused
(``gate.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from rich import box
from rich.markup import escape
from rich.table import Column, Table

from pipeline.release.diff import LARGEST, NAMED_RECORDS, Difference, summary_of_moves
from pipeline.release.gate import MOVED, TARGET_MOVED, Verdict, Violation
from pipeline.release.store import Release
from pipeline.reports.words import Printer, change, percent
from pipeline.vocabulary import NATION, STATE

_FAMILIES = 12
_FILES = 8
# Below so many columns names of figures are broken between variable and domain.
WIDE = 110
_OF_MOVES = ("figures", "moved", "median", "largest")


def print_difference(found: Difference, printer: Printer, *, every: bool = False) -> None:
    """The comparison, section by section; ``every``: long lists whole."""
    printer.print(f"From {found.a.name} to {found.b.name}", markup=False)
    if found.same:
        printer.print("Every figure, target and weight is the same.", markup=False)
    for states, what in ((found.states_gone, "gone"), (found.states_new, "new")):
        if states:
            printer.print(f"States {what}: {', '.join(states)}", markup=False)
    _print_made_of(found, printer, every)
    if found.same:
        return
    _print_moves(found, printer)
    _print_families(found, printer, every)
    _print_largest(found, printer, every)
    _print_targets(found, printer, every)
    printer.print(_weights(found, printer))
    printer.print(_fit(found, printer))


def _print_made_of(found: Difference, printer: Printer, every: bool) -> None:
    for name, (a, b) in found.versions.items():
        printer.print(f"{name}: {_short(name, a)} -> {_short(name, b)}", markup=False)
    for text in _few([f"{what}: {name}" for name, what in found.files.items()], _FILES, every):
        printer.print(f"Raw file {text}", markup=False)


def _short(name: str, value: Any) -> str:
    return "none" if value is None else str(value)[:12] if name.endswith("sha256") else str(value)


def _few(lines: list[str], count: int, every: bool) -> list[str]:
    shown = lines if every else lines[:count]
    more = len(lines) - len(shown)
    return [*shown, f"... and {more:,} more (--verbose)"] if more else shown


def _table(printer: Printer, title: str, names: Iterable[str], right: Iterable[str]) -> Table:
    """A table whose names are folded where they do not fit, and whose figures are not cut."""
    form = box.HEAVY_HEAD if printer.width >= WIDE else box.SIMPLE_HEAD
    table = Table(title=title, title_justify="left", box=form)
    figures = set(right)
    for name in names:
        if name in figures:
            table.add_column(name, justify="right", no_wrap=True)
        else:
            table.add_column(name, overflow="fold")
    return table


def _name(figure: str, printer: Printer) -> str:
    """``variable/domain``, which a narrow terminal may break at the stroke."""
    return escape(figure if printer.width >= WIDE else figure.replace("/", " ", 1))


def _print_moves(found: Difference, printer: Printer) -> None:
    title = (
        f"Totals by level and kind; moved: more than {percent(found.threshold, 1)};"
        " nation: the states that both have"
    )
    table = _table(printer, title, ("level", "kind", *_OF_MOVES, "of"), _OF_MOVES)
    for row in summary_of_moves(found.totals, found.threshold, "kind").iter_rows(named=True):
        table.add_row(row["level"], row["kind"], *_move_cells(row, printer))
    printer.print(table)


def _move_cells(row: dict[str, Any], printer: Printer) -> tuple[str, ...]:
    still = not row["largest_move"]
    return (
        f"{row['figures']:,}",
        f"{row['moved']:,}",
        percent(row["median_move"]),
        "" if still else change(row["largest_move"]),
        "" if still else f"{_name(row['of'], printer)} {row['geoid']}".strip(),
    )


def _print_families(found: Difference, printer: Printer, every: bool) -> None:
    """Families of which a state's or the nation's total moved, the furthest first."""
    above = found.totals.filter(pl.col("level").is_in([NATION, STATE]))
    rows = summary_of_moves(above, found.threshold, "family").filter(pl.col("moved") > 0)
    if rows.is_empty():
        return
    rows = rows.sort(
        pl.col("level") == STATE, pl.col("largest_move").abs(), descending=[False, True]
    )
    if not every:
        rows = rows.group_by("level", maintain_order=True).head(_FAMILIES)
    title = "Families in which a total of the nation or of a state moved, the furthest first"
    table = _table(printer, title, ("level", "family", *_OF_MOVES, "of"), _OF_MOVES)
    for row in rows.iter_rows(named=True):
        table.add_row(row["level"], row["family"], *_move_cells(row, printer))
    printer.print(table)


def _print_largest(found: Difference, printer: Printer, every: bool) -> None:
    rows = found.moved if every else found.worth_naming
    if not every:
        rows = rows.group_by("level", maintain_order=True).head(LARGEST)
    right = ("from", "to", "move", "in SE")
    title = (
        "Largest moves of each level"
        + ("" if every else f", of figures from {NAMED_RECORDS} records, or of 100 and more")
        + "; SE: of the survey's own estimate"
    )
    table = _table(printer, title, ("area", "figure", "kind", *right), right)
    for row in rows.iter_rows(named=True):
        errors = row["standard_errors"]
        table.add_row(
            f"{row['level']} {row['geoid']}".strip(),
            _name(f"{row['variable']}/{row['domain']}", printer),
            row["kind"],
            _amount(row["a"], printer),
            _amount(row["b"], printer),
            change(row["move"]),
            "" if errors is None else f"{errors:+.1f}",
        )
    if rows.height:
        printer.print(table)
    gone = [
        f"{v}/{d}"
        for v, d in found.figures_gone.select("variable", "domain")
        .unique(maintain_order=True)
        .iter_rows()
    ]
    for text in _few(gone, LARGEST, every):
        printer.print(f"Figure of fewer areas than before: {text}", markup=False)


def _print_targets(found: Difference, printer: Printer, every: bool) -> None:
    rows = found.targets.filter((pl.col("gone") > 0) | (pl.col("new") > 0) | (pl.col("moved") > 0))
    if rows.is_empty():
        printer.print("Targets: the same, with the same values.", markup=False)
        return
    size = pl.col("largest").abs().fill_null(0.0)
    shown = rows.sort(pl.col("gone"), pl.col("new"), size, descending=True)
    shown = shown if every else shown.head(LARGEST)
    right = ("gone", "new", "moved", "furthest")
    title = f"Targets that changed: {rows.height:,} of {found.targets.height:,}"
    table = _table(printer, title, ("level", "target", "source", "areas", *right), right)
    for row in shown.iter_rows(named=True):
        table.add_row(
            row["level"],
            _name(f"{row['variable']}/{row['domain']}", printer),
            row["source"],
            f"{row['areas_a']:,} -> {row['areas_b']:,}",
            *(f"{row[name]:,}" if row[name] else "" for name in ("gone", "new", "moved")),
            "" if not row["largest"] else change(row["largest"]),
        )
    printer.print(table)


def _amount(value: float, printer: Printer) -> str:
    """A figure; on a narrow terminal millions as such."""
    if printer.width < WIDE and abs(value) >= 1e6:
        return f"{value / 1e6:,.2f} M"
    return f"{value:,.0f}"


def _weights(found: Difference, printer: Printer) -> Table:
    title = "Weights; apart: largest distance of the two distributions of weights"
    names = ("pairs", "sum", "effective size", "median", "largest", "apart", "records")
    table = _table(printer, title, ("state", *names), ("apart",))
    for state, w in found.weights.items():
        table.add_row(
            state,
            _arrow(w, "pairs"),
            _arrow(w, "sum_of_weights"),
            _arrow(w, "ess"),
            _arrow(w, "quantile_50", ".2f"),
            _arrow(w, "largest_weight", ".1f"),
            f"{w['kolmogorov']:.3f}",
            f"{w['records_kept']:,} kept, {w['records_gone']:,} gone, {w['records_new']:,} new",
        )
    return table


def _arrow(values: dict[str, Any], name: str, form: str = ",.0f") -> str:
    a, b = (format(values[f"{name}_{which}"], form) for which in "ab")
    return a if a == b else f"{a} -> {b}"


def _fit(found: Difference, printer: Printer) -> Table:
    names = ("fitted", "inside margins", "median error", "mean error", "worst error")
    table = _table(printer, "Fit of the targets", ("level", *names), ())
    for level, row in found.fit.items():
        cells = [f"{row.get('fitted_a', 0):,} -> {row.get('fitted_b', 0):,}"]
        for name in ("share_inside_margin", "median_are", "mean_are", "worst_are"):
            cells.append(f"{percent(row.get(f'{name}_a'))} -> {percent(row.get(f'{name}_b'))}")
        table.add_row(level, *cells)
    return table


def verdict_lines(verdict: Verdict, limit: int | None = None) -> list[str]:
    """What the gate found, in words: refused first, then approved, expired and unused."""
    refused = [f"REFUSED {v.words}" for v in _ordered(verdict.refused)]
    approved = [
        f"Approved: {v.words} ({v.approved.words()})"
        for v in _ordered(verdict.approved)
        if v.approved is not None
    ]
    if limit is not None:
        refused, approved = (
            lines[:limit]
            + [f"{word} {len(lines) - limit:,} more (--verbose)"] * (len(lines) > limit)
            for word, lines in (("REFUSED", refused), ("Approved:", approved))
        )
    expired = [f"Expired approval, which does not count: {a.words()}" for a in verdict.expired]
    unused = [f"Approval of something that did not happen: {a.words()}" for a in verdict.unused]
    return [*refused, *approved, *expired, *unused]


def _ordered(violations: Iterable[Violation]) -> list[Violation]:
    """What went first, then what was allowed least; the nation before states."""
    return sorted(
        violations,
        key=lambda v: (
            v.what in (MOVED, TARGET_MOVED),
            v.limit,
            v.level != NATION,
            v.level != STATE,
            -abs(v.size),
        ),
    )


def print_releases(
    releases: Iterable[Release], latest: str | None, pins: dict[str, str], printer: Printer
) -> None:
    """A row per release, the oldest first."""
    table = Table(
        "release", "made (UTC)", "states", Column("size", justify="right"), "parents", "names"
    )
    for each in releases:
        names = [name for name, held in pins.items() if held == each.id]
        states = each.document["states"]
        listed = ", ".join(states) if len(states) < 8 else f"{len(states)} states"
        table.add_row(
            each.id,
            str(each.document["created"])[:19].replace("T", " "),
            listed,
            f"{each.bytes / 1e6:,.1f} MB",
            ", ".join(parent[:8] for parent in each.document.get("parents", [])),
            ", ".join([*(["latest"] if each.id == latest else []), *names]),
        )
    printer.print(table)
