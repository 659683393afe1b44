"""What held-out validation found, for people and for programs: tables on the terminal, and one JSON
document.

Belongs here: averages over draws and cells for show, the tables, the document
(``docs/validation.md`` describes it). Does not belong here: the figures themselves
(``measures.py``, ``paired.py``), the chart (``frontier.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict

import numpy as np
from rich import box
from rich.table import Table

from pipeline.reports.words import Printer
from pipeline.validation.measures import ALL_LEVELS
from pipeline.validation.runs import DENSE, Run, Validation
from pipeline.versions import geocal_version
from pipeline.vocabulary import LEVELS, TARGET_KEY

SHOWN_NAMES = 6
_ERRORS = (
    "mean_are",
    "median_are",
    "mean_are_without_degenerate",
    "share_inside_margin",
    "capped_loss",
)
_WEIGHTS = ("ess", "design_effect", "largest_weight", "share_of_top_1pct")

_BUDGET = "per area"
_PAIRED_FIGURES = {
    "mean_are": "Mean",
    "mean_are_without_degenerate": "Mean, sound,",
    "median_are": "Median",
}


def document(found: Validation) -> dict:
    """Everything as JSON values; docs/validation.md describes the keys."""
    return {
        "geocal": geocal_version(),
        "profile": found.profile.id,
        "synthetic": found.profile.synthetic,
        "settings": {
            "pairs_per_area": list(found.settings.pairs_per_area),
            "seeds": found.settings.seeds,
            "methods": list(found.settings.methods),
            "reference": found.settings.reference,
        },
        "groups": [group.model_dump(mode="json") for group in found.groups],
        "interrupted": found.interrupted,
        "skipped": list(found.skipped),
        "held_out": list(found.held),
        "summary": summary(found.runs),
        "paired": list(found.paired),
        "runs": [asdict(run) for run in found.runs],
        "degenerate": list(found.degenerate),
    }


def summary(runs: Sequence[Run]) -> list[dict]:
    """A row for each level, method and budget: figures averaged over the draws of each cell (state
    and group), then over cells.

    Keys: level, method, pairs_per_area, cells, draws, failed, not_converged; ``outside`` and
    ``inside``: the error figures; pairs, weight figures and seconds as averages in the same way,
    ``largest_weight`` the largest of all.
    """
    held = {row["level"] for run in runs for row in (*run.inside, *run.outside)}
    methods = dict.fromkeys(run.method for run in runs)
    order = [(None if m == DENSE else budget, m) for budget in _budgets(runs) for m in methods]
    rows = []
    for level in (*(name for name in LEVELS if name in held), ALL_LEVELS):
        for budget, method in dict.fromkeys(order):
            of = [r for r in runs if r.method == method and r.pairs_per_area == budget]
            if of:
                said = {"level": level, "method": method, "pairs_per_area": budget}
                rows.append({**said, **_averages(of, level)})
    return rows


def _averages(runs: Sequence[Run], level: str) -> dict:
    """Figures of one level over the runs of one method and budget."""
    good = [run for run in runs if not run.failure]
    tested = [run for run in good if _row(run.outside, level)["targets"]]
    weights = {name: _cells(good, (run.weights[name] for run in good)) for name in _WEIGHTS}
    largest = max((run.weights["largest_weight"] for run in good), default=None)
    return {
        "cells": len({(run.postal, run.group) for run in tested}),
        "draws": len(good),
        "failed": len(runs) - len(good),
        "not_converged": sum(not run.converged for run in good),
        "pairs": _cells(good, (run.pairs for run in good)),
        **{sample: _errors(good, sample, level) for sample in ("outside", "inside")},
        "weights": {**weights, "largest_weight": largest},
        "seconds_selection": _cells(good, (run.seconds_selection for run in good)),
        "seconds_refit": _cells(good, (run.seconds_refit for run in good)),
    }


def _budgets(runs: Sequence[Run]) -> list[int]:
    return sorted({r.pairs_per_area for r in runs if r.pairs_per_area is not None}) or [0]


def _row(rows: Iterable[dict], level: str) -> dict:
    return next(
        (row for row in rows if row["level"] == level and row["family"] is None), {"targets": 0}
    )


def _errors(runs: Sequence[Run], sample: str, level: str) -> dict:
    figures = [
        name
        for name in (*_ERRORS, "mean_are_truth", "median_are_truth")
        if any(name in row for run in runs for row in getattr(run, sample))
    ]
    return {
        name: _cells(runs, (_row(getattr(run, sample), level).get(name) for run in runs))
        for name in figures
    }


def _cells(runs: Sequence[Run], values: Iterable[float | None]) -> float | None:
    """Mean over cells of the mean over their draws; draws without a value (``values``: one per run)
    are left out.
    """
    cells: dict[tuple[str, str], list[float]] = {}
    for run, found in zip(runs, values, strict=True):
        if found is not None:
            cells.setdefault((run.postal, run.group), []).append(found)
    return float(np.mean([np.mean(draws) for draws in cells.values()])) if cells else None


def print_validation(found: Validation, out: Printer) -> None:
    """What was withheld, errors by level, weights and seconds, paired differences, and what the
    reader should beware of.
    """
    label = " · SYNTHETIC" if found.profile.synthetic else ""
    _print_withheld(found, out, label)
    print_tables(found.runs, found.paired, found.settings.reference, out, label)
    _print_cautions(found, out)


def print_tables(
    runs: Sequence[Run], paired: Sequence[dict], reference: str, out: Printer, label: str = ""
) -> None:
    """Errors by level, weights and seconds, and paired differences from the reference; runs may
    come from several validations.
    """
    rows = summary(runs)
    for level in dict.fromkeys(row["level"] for row in rows):
        _print_errors([row for row in rows if row["level"] == level], level, label, out)
    _print_weights([row for row in rows if row["level"] == ALL_LEVELS], label, out)
    _print_paired(paired, reference, label, out)


def _print_withheld(found: Validation, out: Printer, label: str) -> None:
    table = Table(
        "state",
        "withheld",
        "families",
        "fitted",
        *(f"withheld, {level}" for level in _levels(found)),
        "never fitted",
        title=f"Held out{label}",
        title_justify="left",
    )
    families = {group.id: ", ".join(group.families) for group in found.groups}
    for held in found.held:
        counts = [
            f"{held['withheld_by_level'][level]:,}" if level in held["withheld_by_level"] else ""
            for level in _levels(found)
        ]
        table.add_row(
            held["state"],
            held["group"],
            families[held["group"]],
            f"{held['fitted']:,}",
            *counts,
            f"{held['never_fitted']:,}",
        )
    out.print(table)


def _levels(found: Validation) -> list[str]:
    return [
        level for level in LEVELS if any(level in held["withheld_by_level"] for held in found.held)
    ]


def _print_errors(rows: list[dict], level: str, label: str, out: Printer) -> None:
    truth = any("mean_are_truth" in row["outside"] for row in rows)
    words = "all levels together" if level == ALL_LEVELS else f"level {level}"
    table = _table(f"Error, {words}: withheld targets, then fitted ones{label}")
    names = [
        "mean",
        "median",
        "mean, sound",
        "in margin",
        "loss",
        *(("median, truth",) if truth else ()),
        "fitted: mean",
        "median",
        "in margin",
    ]
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        outside, inside = row["outside"], row["inside"]
        cells = [outside.get(name) for name in _ERRORS]
        cells += [outside.get("median_are_truth")] if truth else []
        cells += [inside.get(name) for name in ("mean_are", "median_are", "share_inside_margin")]
        table.add_row(_budget(row["pairs_per_area"]), row["method"], *map(_percent, cells))
    out.print(table)


def _print_weights(rows: list[dict], label: str, out: Printer) -> None:
    table = _table(f"Weights and seconds{label}")
    names = ("pairs", "ESS", "ESS / pairs", "design effect", "largest", "choice, s", "refit, s")
    for name in (*names, "draws", "not converged", "failed"):
        table.add_column(name, justify="right")
    for row in rows:
        w, pairs = row["weights"], row["pairs"]
        share = w["ess"] / pairs if pairs else None
        cells = [_number(pairs, 0), _number(w["ess"], 0), _number(share, 2)]
        cells += [_number(w["design_effect"], 2), _number(w["largest_weight"], 1)]
        cells += [_number(row["seconds_selection"], 2), _number(row["seconds_refit"], 2)]
        cells += [str(row[name]) for name in ("draws", "not_converged", "failed")]
        table.add_row(_budget(row["pairs_per_area"]), row["method"], *cells)
    out.print(table)


def _print_paired(paired: Sequence[dict], reference: str, label: str, out: Printer) -> None:
    """A table for the mean, the mean of sound targets and the median, a column per level."""
    rows = [row for row in paired if row["scope"] == "all" and row["sample"] == "outside"]
    held = {row["level"] for row in rows}
    levels = [level for level in (*LEVELS, ALL_LEVELS) if level in held]
    for figure, word in _PAIRED_FIGURES.items():
        key = ("pairs_per_area", "method", "level")
        of = {tuple(row[k] for k in key): row for row in rows if row["figure"] == figure}
        if not of:
            continue
        out.print(
            f"{word} withheld error less {reference}'s: points (95 % paired interval), units in"
            f" which {reference} is lower{label}",
            style="italic",
            highlight=False,
        )
        table = Table(_BUDGET, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        table.add_column("method", no_wrap=True)
        for level in levels:
            table.add_column(level, justify="right")
        for budget in (*sorted({key[0] for key in of} - {None}), None):
            for method in dict.fromkeys(key[1] for key in of):
                cells = (_interval(of.get((budget, method, level))) for level in levels)
                table.add_row("all" if budget is None else str(budget), method, *cells)
        out.print(table)


def _print_cautions(found: Validation, out: Printer) -> None:
    lines = [note for held in found.held for note in held["notes"]]
    for state in dict.fromkeys(held["state"] for held in found.held):
        for sample, words in (("outside", "withheld"), ("inside", "fitted")):
            lines += _cautions_of(found, state, sample, words)
    lines += found.skipped
    if found.interrupted:
        lines.append(
            "INTERRUPTED: the figures above are of what was done before, and not every cell has"
            " every draw"
        )
    for text in lines:
        out.print(f"· {text}", highlight=False, markup=False)


def _cautions_of(found: Validation, state: str, sample: str, words: str) -> list[str]:
    """Targets of one state that relative errors say little of, in words."""
    lines = []
    named = {
        tuple(row[name] for name in TARGET_KEY): row["value"]
        for row in found.degenerate
        if (row["state"], row["sample"]) == (state, sample)
    }
    if named:
        first = list(named.items())[:SHOWN_NAMES]
        names = "; ".join(f"{' '.join(key)} ({value:,.4g})" for key, value in first)
        rest = len(named) - SHOWN_NAMES
        more = f" and {rest:,} more, all named by --json" if rest > 0 else ""
        lines.append(
            f"{state}: {len(named):,} {words} targets are smaller than one record's contribution;"
            f" `sound` leaves them out: {names}{more}"
        )
    zero = max(held["zero"][sample] for held in found.held if held["state"] == state)
    if zero:
        lines.append(
            f"{state}: up to {zero:,} {words} targets are next to zero and have no relative error"
        )
    return lines


def _table(title: str) -> Table:
    table = Table(_BUDGET, title=title, title_justify="left")
    table.add_column("method", no_wrap=True)
    return table


def _budget(pairs_per_area: int | None) -> str:
    return "" if pairs_per_area is None else str(pairs_per_area)


def _percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.2f} %"


def _number(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


def _interval(row: dict | None) -> str:
    if row is None:
        return ""
    ends = "" if row["low"] is None else f" ({_points(row['low'])}, {_points(row['high'])})"
    return f"{_points(row['difference'])}{ends} {row['reference_lower']}/{row['units']}"


def _points(share: float) -> str:
    return f"{100 * share:+.{2 if abs(share) < 0.0995 else 1}f}"
