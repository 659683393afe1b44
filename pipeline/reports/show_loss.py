"""What selection lost, in words: the section of ``geocal show``.

Belongs here: lines for a person, made of the document of ``reports/show.py``. Does not belong here:
measures (``reports/selection_report.py``), or the other sections (``reports/show_tables.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from rich.table import Table

from pipeline.reports.selection_report import INCOME
from pipeline.reports.words import Printer, change, percent

Line = tuple[str, str]


def print_loss(report: dict[str, Any], printer: Printer) -> None:
    """The section "what selection lost", or what to materialise to have it."""
    label = " · SYNTHETIC" if report["synthetic"] else ""
    loss = report["selection_loss"]
    if loss["missing"]:
        printer.print(f"What selection lost{label}: {loss['missing']}.", highlight=False)
        return
    table = Table.grid(padding=(0, 2))
    for subject, figures in loss_lines(loss):
        table.add_row(f"  {subject}", figures)
    printer.print(f"What selection lost, selected against dense weights{label}", style="italic")
    printer.print(table, highlight=False)


def loss_lines(loss: dict[str, Any]) -> list[Line]:
    """What selection lost, in a few lines: (subject, figures)."""
    areas = _Areas(loss)
    parts = (_cells, _amounts, _correlations, _weights, _held_out)
    return [line for part in parts for line in part(loss, areas)]


class _Areas:
    """Measures by area: the median and the worst of the finest level."""

    def __init__(self, loss: dict[str, Any]) -> None:
        self._rows = {(r["level"], r["measure"], r["variable"]): r for r in loss["areas"]}
        self.finest = loss["areas"][-1]["level"] if loss["areas"] else ""

    def row(self, measure: str, variable: str = "") -> dict[str, Any] | None:
        return self._rows.get((self.finest, measure, variable))

    def words(
        self, measure: str, form: Callable[[float], str], word: str, variable: str = ""
    ) -> str:
        """``; by tract median 3 %, worst 12 % (44007000101)``; nothing for a single area."""
        row = self.row(measure, variable)
        if row is None or row["areas"] <= 1:
            return ""
        worst = f"{word} {form(row['worst'])} ({row['worst_geoid']})"
        return f"; by {self.finest} median {form(row['median'])}, {worst}"


def _tenth(value: float | None) -> str:
    return percent(value, 1)


def _cells(loss: dict[str, Any], areas: _Areas) -> Iterator[Line]:
    moved = f"{percent(loss['cell_distance'])} of households would change cell"
    yield "cells", moved + areas.words("cell_distance", _tenth, "worst")
    for name, rows in (("cell", loss["cells"]), ("category", loss["categories"])):
        if rows:
            shares = (
                f"{percent(rows[0]['dense'])} of households dense,"
                f" {percent(rows[0]['selected'])} selected"
            )
            yield f"furthest {name}", f"{rows[0][name]}: {shares}"
    uncovered = areas.row("uncovered_share")
    if uncovered:
        where = (
            f"in the median {areas.finest} {_tenth(uncovered['median'])}, in the worst"
            f" {_tenth(uncovered['worst'])} ({uncovered['worst_geoid']})"
        )
        share = f"{percent(loss['uncovered_share'])} of dense weight in the state"
        yield "cells without a pair", f"{share}; {where}"
    without = loss["areas_without_pairs"]
    if without:
        yield "areas without a pair", f"{len(without):,}, first {without[0]}"


def _amounts(loss: dict[str, Any], areas: _Areas) -> Iterator[Line]:
    income = next((row for row in loss["amounts"] if row["variable"] == INCOME), None)
    if income:
        quantiles = [name for name in income if name.startswith("quantile_")]
        percents = "/".join(name.removeprefix("quantile_") for name in quantiles)
        changes = ", ".join(change(income[name]) for name in quantiles)
        gap = f"distribution functions at most {percent(income['kolmogorov'])} apart"
        yield "household income", gap + areas.words("kolmogorov", _tenth, "worst", INCOME)
        points = f"{changes} (of positive incomes, selected against dense)"
        yield f"its {percents} % points", points
    known = [row for row in loss["amounts"] if row["kolmogorov"] is not None]
    widest = max(known, key=lambda row: row["kolmogorov"], default=None)
    if widest and widest["variable"] != INCOME:
        name = widest["variable"].replace("|", " ")
        yield "furthest amount", f"{name}: {percent(widest['kolmogorov'])} apart"


def _correlations(loss: dict[str, Any], areas: _Areas) -> Iterator[Line]:
    del areas
    for kind, name in (("pearson", "correlations"), ("rank", "rank correlations")):
        found = loss["correlations"][kind]
        if found["rms"] is not None:
            pair = " and ".join(each.replace("|", " ") for each in found["largest_between"])
            most = f"at most {found['largest']:.3f} ({pair})"
            yield name, f"off by {found['rms']:.3f} (root mean square), {most}"


def _weights(loss: dict[str, Any], areas: _Areas) -> Iterator[Line]:
    shape = loss["weights"]
    size = (
        f"{shape['ess']['selected']:,.0f} of {shape['pairs']['selected']:,.0f} pairs"
        f" (dense {shape['ess']['dense']:,.0f})"
    )
    effect = f"design effect {shape['design_effect']['selected']:.2f}"
    least = areas.words("ess", lambda x: f"{x:,.1f}", "least")
    yield "effective sample size", f"{size}, {effect}{least}"
    largest = shape["largest_weight_share"]
    heavy = f"{percent(largest['selected'])} of households (dense {percent(largest['dense'])})"
    top = _tenth(shape["share_of_top_1pct"]["selected"])
    yield "largest weight", f"{heavy}; the heaviest 1 % of pairs {top}"


def _held_out(loss: dict[str, Any], areas: _Areas) -> Iterator[Line]:
    del areas
    for row in loss["held_out"]:
        known = row["targets"] - row["next_to_zero"]
        if not known:
            continue
        errors = (
            f"median error {percent(row['median_error_dense'])} dense,"
            f" {percent(row['median_error_selected'])} selected"
        )
        zero = f" ({row['next_to_zero']:,} next to zero left out)" if row["next_to_zero"] else ""
        moved = f"selection moved the median one by {percent(row['median_moved'])}"
        targets = f"{known:,} targets nobody fitted{zero}"
        yield f"held out, {row['level']}", f"{targets}: {errors}; {moved}"
