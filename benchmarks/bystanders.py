"""What dense calibration does to figures it was not told: the bystander table of several states.

    python -m benchmarks.bystanders --data DIR [--profile rhode_island,counties_2018]
        [--states RI,VT,DE,WY,ID,NH] [--json FILE] [--markdown FILE]

A state runs under the first of the profiles that has it. Of each standard figure
(``data_specs/bystanders.yaml``), by state: the move of dense weights against the survey's own
estimate, in its standard errors. ``t`` marks a figure that a target fits, ``i`` one that told
figures add up to, ``o`` one with an official figure that is only compared with, ``!`` a bent
one: beyond the limit of ``data_specs/method.yaml``, and no official figure asks for it. Below
stand how many are judged and bent, the root mean square of what nobody asked for, and dense weights
against official figures, in per cent. No pairs are selected. ``--markdown`` writes the furthest
figures of each state, and what pulls them, as docs/bystanders.md shows them.

Belongs here: those tables. Does not belong here: the report (``pipeline/reports/bystanders.py``),
held-out targets (``selection.py``).
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.state import load_state
from calibration_core.common.area_weights import weights_of
from pipeline import steps
from pipeline.reports.show_bystanders import against, amount, furthest, pulled_by
from pipeline.specs.bystanders import load_bystanders
from pipeline.specs.catalog import Catalog, load_catalog
from pipeline.weights.table import StoredWeights

MARKS = {"told": "t", "implied": "i", "observed": "o"}
_WITHOUT = {"not_measured": "-"}


def profile_of(catalog: Catalog, state: str, profiles: Sequence[str]) -> str:
    """The first of ``profiles`` that has the state."""
    found = [name for name in profiles if state in catalog.profile(name).states]
    if not found:
        raise SystemExit(f"No profile of {', '.join(profiles)} has the state {state}")
    return found[0]


def dense_report(catalog: Catalog, profile: str, state: str, data: Path) -> pl.DataFrame:
    """The bystander report of dense weights; its selected columns repeat the dense ones."""
    loaded = load_state(profile, state, data)
    records = loaded.inputs.records
    _, result = steps.dense_weights(loaded.ready)
    dense = weights_of(result.weights)
    each = np.arange(dense.records)
    stored = StoredWeights(dense, np.zeros_like(each), each, dense.by_record())
    return steps.bystanders(catalog, loaded.ready, records, loaded.inputs.estimates, stored)


def cell(row: dict[str, Any] | None) -> str:
    """One figure of one state."""
    if row is None or row["moved_dense"] is None:
        return "" if row is None else _WITHOUT.get(row["status"], "")
    mark = "!" if row["bent"] else MARKS.get(row["status"], "")
    return f"{row['moved_dense']:+.1f}{mark}"


def figures(report: pl.DataFrame) -> dict[str, Any]:
    """How many figures are judged and bent, how far they are beyond what was asked, and the
    worst."""
    judged = report.filter(pl.col("bent").is_not_null())
    beyond = judged["beyond_dense"].to_numpy()
    return {
        "judged": judged.height,
        "bent": judged.filter(pl.col("bent") != "").height,
        "root mean square beyond": math.sqrt(float((beyond**2).mean())) if beyond.size else 0.0,
        "worst beyond": float(np.abs(beyond).max(initial=0.0)),
    }


def moves_table(reports: dict[str, pl.DataFrame], catalog: Catalog) -> Table:
    """A row per standard figure, a column per state."""
    table = Table("figure", *reports, title="Dense weights against the survey, in standard errors")
    by_state = {state: _rows(report) for state, report in reports.items()}
    for group in load_bystanders(catalog).groups:
        table.add_section()
        for key in group.keys:
            cells = [cell(rows.get(key)) for rows in by_state.values()]
            table.add_row(catalog.variables[key].label, *cells)
    table.add_section()
    found = {state: figures(report) for state, report in reports.items()}
    for name in next(iter(found.values())):
        numbers = (each[name] for each in found.values())
        table.add_row(name, *(f"{n:.2f}" if isinstance(n, float) else str(n) for n in numbers))
    return table


def markdown(report: pl.DataFrame, count: int = 20) -> str:
    """The figures furthest beyond what was asked, and what pulls them, as a Markdown table."""
    lines = ["| figure | survey | s.e. | dense | official | moved | pulled by (s.e.) |"]
    lines += ["|---|---|---|---|---|---|---|"]
    for row in furthest(report).head(count).to_dicts():
        size, moved = row["standard_error"] / abs(row["survey"]), row["moved_dense"]
        cells = [row["label"], amount(row["survey"], row["unit"]), f"{100 * size:.1f} %"]
        cells += [against(row, "dense"), against(row, "official"), f"{moved:+.1f}"]
        lines.append("| " + " | ".join([*cells, pulled_by(row, 2)]) + " |")
    return "\n".join(lines) + "\n"


def official_table(reports: dict[str, pl.DataFrame], catalog: Catalog) -> Table:
    """Dense weights against official figures, in per cent, where some state has one."""
    table = Table("figure", *reports, title="Dense weights against official figures, in per cent")
    by_state = {state: _rows(report) for state, report in reports.items()}
    for group in load_bystanders(catalog).groups:
        for key in group.keys:
            cells = [_against_official(rows.get(key)) for rows in by_state.values()]
            if any(cells):
                table.add_row(catalog.variables[key].label, *cells)
    return table


def _against_official(row: dict[str, Any] | None) -> str:
    if row is None or row["dense"] is None or not row["official"]:
        return ""
    mark = MARKS.get(row["status"], "")
    return f"{100 * (row['dense'] - row['official']) / abs(row['official']):+.1f}{mark}"


def _rows(report: pl.DataFrame) -> dict[tuple[str, str], dict[str, Any]]:
    return {(row["variable"], row["domain"]): row for row in report.to_dicts()}


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bystanders")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--profile", default="rhode_island,counties_2018")
    parser.add_argument("--states", default="RI,VT,DE,WY,ID,NH")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    options = parser.parse_args(argv)
    console, catalog = Console(width=140), load_catalog()
    profiles = options.profile.split(",")
    reports: dict[str, pl.DataFrame] = {}
    for state in options.states.split(","):
        profile = profile_of(catalog, state, profiles)
        reports[state] = dense_report(catalog, profile, state, options.data)
        console.print(f"{state} ({profile})", figures(reports[state]))
        if options.json:
            rows = {name: report.to_dicts() for name, report in reports.items()}
            options.json.write_text(json.dumps(rows, indent=1))
    if options.markdown:
        parts = (f"{state}\n\n{markdown(report)}" for state, report in reports.items())
        options.markdown.write_text("\n".join(parts))
    console.print(moves_table(reports, catalog))
    console.print(official_table(reports, catalog))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
