"""The bystander report as a document and on a terminal, at any width from 80 columns.

Belongs here: the summary that ``geocal show`` and ``geocal run`` print, the whole report of
``geocal show STATE --bystanders``, and both as JSON. Does not belong here: the figures
(``bystanders.py``), their chart (``bystander_plot.py``), reading stored tables (``show.py``).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import polars as pl
from rich import box
from rich.table import Column, Table
from rich.text import Text

from pipeline.reports.bystander_schema import BY_CALIBRATION, BY_SELECTION, STATUSES
from pipeline.reports.words import Printer, change
from pipeline.vocabulary import USD

WORST = 5
# Columns of the terminal from which headings are written out.
WIDE = 110
PULLS_SHOWN = 3
# A pull that rounds to less is not worth a word.
_LEAST_PULL = 0.5
_LETTER = {"told": "T", "implied": "I", "observed": "O", "untold": "U", "not_measured": "-"}
_KEY = (
    "T told: a target fits it. I implied: told figures add up to it. O observed: only compared with"
    " an official figure. U untold. -: the records cannot express it. survey: its own estimate,"
    " grown with the population. s.e.: its standard error; prior, dense, selected, official: how"
    " far each is from it, all in per cent of it. moved: selected pairs against the survey, in"
    " standard errors; ! beyond the limit, and no official figure asks for it."
)


def furthest(report: pl.DataFrame) -> pl.DataFrame:
    """Judged figures, those furthest beyond what was asked first; ties by name."""
    far = pl.max_horizontal(pl.col("beyond_dense").abs(), pl.col("beyond_selected").abs())
    judged = report.filter(pl.col("bent").is_not_null()).with_columns(far.round(6).alias("_far"))
    return judged.sort("_far", "variable", "domain", descending=[True, False, False]).drop("_far")


def summary(report: pl.DataFrame, rule: dict[str, Any]) -> dict[str, Any]:
    """What ``geocal show --json`` says of bystanders: ``rule``, how many figures of each status,
    how many were judged and bent, and the worst.

    ``rule``: ``limit`` and ``least_records``, as stored with the table.
    """
    judged = furthest(report)
    return {
        "missing": None,
        **rule,
        "statuses": {name: report.filter(pl.col("status") == name).height for name in STATUSES},
        "judged": judged.height,
        "bent": {
            name: judged.filter(pl.col("bent") == name).height
            for name in (BY_CALIBRATION, BY_SELECTION)
        },
        "worst": judged.head(WORST).to_dicts(),
    }


def print_worst(found: dict[str, Any], state: str, synthetic: bool, printer: Printer) -> None:
    """The worst five, or what to materialise to have them."""
    label = " · SYNTHETIC" if synthetic else ""
    if found["missing"]:
        printer.print(f"Figures nobody told{label}: {found['missing']}.", highlight=False)
        return
    title = f"Figures nobody told, the {len(found['worst'])} furthest from the survey{label}"
    table = Table(
        Column("figure, and what pulls it (in s.e.)", overflow="fold"),
        *(_right(name) for name in ("survey", "dense", "selected", "moved")),
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
    )
    for row in found["worst"]:
        figures = [amount(row["survey"], row["unit"])]
        figures += [against(row, name) for name in ("dense", "selected")]
        named = Text.assemble(row["label"], "\n", (pulled_by(row), "dim"))
        table.add_row(named, *figures, _moved(row))
    printer.print(table, highlight=False)
    printer.print(in_words(found, state), style="dim", highlight=False)


def in_words(found: dict[str, Any], state: str) -> str:
    """How many figures are bent, and where all are listed."""
    bent = found["bent"]
    return (
        f"{bent[BY_CALIBRATION]} of {found['judged']} untold or observed figures are moved by"
        f" calibration more than {found['limit']:g} standard errors of the survey beyond what an"
        f" official figure asks for, {bent[BY_SELECTION]} more by selection alone (moved: selected"
        f" pairs, in standard errors). All: `geocal show {state} --bystanders`."
    )


def print_all(document: dict[str, Any], printer: Printer, *, every: bool = False) -> None:
    """The whole report: standard figures by heading, then every bent figure with what pulls it.

    ``every``: also the measured variables that are not on the list of standard ones.
    """
    label = " · SYNTHETIC" if document["synthetic"] else ""
    rows = document["figures"]
    printer.print(f"{document['state']}{label}: told and untold figures", style="italic")
    headings = dict.fromkeys(row["heading"] for row in rows if row["heading"])
    for heading in headings:
        _print_group(heading, [r for r in rows if r["heading"] == heading], printer)
    others = [row for row in rows if not row["heading"]]
    if every:
        _print_group("Other measured variables", others, printer)
    elif others:
        printer.print(f"{len(others)} more with --verbose, or with --json.", highlight=False)
    printer.print(_KEY, style="dim", highlight=False)
    _print_bent(document, printer)


def _print_group(title: str, rows: Iterable[dict[str, Any]], printer: Printer) -> None:
    names = ("survey", "s.e.", "prior", "dense", "sel.", "off.", "moved")
    if printer.width >= WIDE:
        names = ("survey", "s.e. %", "prior %", "dense %", "selected %", "official %", "moved s.e.")
    table = Table(
        Column("", no_wrap=True),
        Column("figure", overflow="fold", ratio=1),
        *(_right(name) for name in names),
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=printer.width < WIDE,
    )
    for row in rows:
        table.add_row(
            _LETTER[row["status"]],
            row["label"],
            amount(row["survey"], row["unit"]),
            _relative_error(row),
            *(_percents(row, name) for name in ("prior", "dense", "selected", "official")),
            _moved(row),
            style="bold" if row["bent"] else None,
        )
    printer.print(table, highlight=False)


def _relative_error(row: dict[str, Any]) -> str:
    if row["standard_error"] is None or not row["survey"]:
        return ""
    return f"{100 * row['standard_error'] / abs(row['survey']):.1f}"


def _percents(row: dict[str, Any], name: str) -> str:
    """How far a total is from the survey's own, in per cent without the sign for it."""
    if row[name] is None or not row["survey"]:
        return ""
    size = 100 * (row[name] - row["survey"]) / abs(row["survey"])
    return f"{size:+.1f}" if abs(size) < 1000 else f"{'>' if size > 0 else '<-'}999"


def _print_bent(document: dict[str, Any], printer: Printer) -> None:
    bent = [row for row in document["figures"] if row["bent"]]
    printer.print(in_words(document, document["state"]), highlight=False)
    table = Table(
        Column("figure", overflow="fold", ratio=4),
        _right("dense"),
        _right("sel."),
        Column("pulled by (in standard errors)", overflow="fold", ratio=5),
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        expand=printer.width < WIDE,
    )
    for row in sorted(bent, key=lambda r: (-abs(r["beyond_dense"]), r["variable"], r["domain"])):
        moves = (f"{row[name]:+.1f}" for name in ("moved_dense", "moved_selected"))
        table.add_row(row["label"], *moves, pulled_by(row))
    printer.print(table, highlight=False)


def pulled_by(row: dict[str, Any], count: int = PULLS_SHOWN, *, sources: bool = False) -> str:
    """The told variables that pull a figure most, with what each adds in standard errors;
    ``sources``: and the publications that tell them.
    """
    pulls = [
        (
            f"{each['variable']} {each['domain']}" + (f" ({each['source']})" if sources else ""),
            each["standard_errors"],
        )
        for each in (row["pulls"] or ())[:count]
    ]
    parts = [("prior", row["start"]), *pulls, ("between areas", row["rest"])]
    said = [f"{name} {size:+.1f}" for name, size in parts if size and abs(size) >= _LEAST_PULL]
    return ", ".join(said) or "no single target"


def amount(value: float | None, unit: str) -> str:
    """A total in few characters: dollars in millions or billions."""
    if value is None:
        return ""
    if unit != USD:
        return f"{value:,.0f}"
    return f"{value / 1e9:,.2f} bn" if abs(value) >= 1e9 else f"{value / 1e6:,.1f} m"


def against(row: dict[str, Any], name: str) -> str:
    """A total as a change from the survey's own."""
    if row[name] is None or not row["survey"]:
        return ""
    return change((row[name] - row["survey"]) / abs(row["survey"]))


def _moved(row: dict[str, Any]) -> str:
    size = row["moved_selected"]
    return "" if size is None else f"{size:+.1f}{'!' if row['bent'] else ''}"


def _right(name: str) -> Column:
    return Column(name, justify="right", no_wrap=True)
