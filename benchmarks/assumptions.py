"""What each number of ``data_specs/method.yaml`` is worth: one changed at a time, the rest as is.

    python -m benchmarks.assumptions --data DIR [--profile rhode_island] [--state RI] [--only WORD]
        [--json FILE]

A line per change: how the state, its counties and its tracts are fitted (median absolute relative
error; tracts inside their published margin, before and after selection) and targets nobody fitted
(median error). Then effective sample size as a share of k, the dense tau, the refit's tau, whether
both converged, and seconds of each step. The reasons in ``data_specs/method.yaml`` quote it.

Belongs here: those changes and that table. Does not belong here: the numbers themselves, or other
methods (``selection.py``).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.state import load_state
from pipeline import steps
from pipeline.reports.fit import summary_by, weight_summary
from pipeline.reports.selection_report import held_out_errors
from pipeline.specs.catalog import load_catalog
from pipeline.specs.method import Method, with_defaults
from pipeline.weights.problem import SolvableState, build_problem
from pipeline.weights.settings import pairs_of

LONG = [1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001]
# Each number of the file, and values beside it: half and double, or the next round ones.
CHANGES: tuple[tuple[str, Any], ...] = (
    ("scale.above_tract", 0.05),
    ("scale.above_tract", 0.2),
    ("scale.above_tract", 1.0),
    ("scale.relative_floor", {"county": 0.0, "state": 0.0}),
    ("scale.relative_floor", {"county": 0.01, "state": 0.005}),
    ("dense.tau_path", LONG),
    ("dense.tau_path", [0.01]),
    ("dense.tolerance", 1e-4),
    ("dense.path_tolerance", 0.05),
    ("dense.stop", "share"),
    ("dense.stop", "discrepancy"),
    ("selection.rule", "equal"),
    ("selection.power", 0.5),
    ("selection.candidates", 8),
    ("selection.candidates", 32),
    ("selection.exchanges", 2.0),
    ("selection.cell_penalty", 0.0),
    ("selection.cell_penalty", math.inf),
    ("selection.rounds", 1),
    ("selection.rounds", 6),
    ("refine.tau_path", LONG[:5]),
    ("refine.tau_path", LONG),
    ("refine.ratio_bounds", [0.2, 4.0]),
    ("refine.ratio_bounds", [0.01, 50.0]),
    ("refine.path_tolerance", 0.05),
    ("refine_share.finest", 0.99),
    ("refine_share.finest", 1.0),
    ("refine_share.above", 0.0),
    ("refine_share.above", 1.0),
    ("anchor_strength", 0.0),
    ("anchor_strength", 1.0),
    ("anchor_finest", 0.0),
    ("anchor_finest", 0.25),
    ("goals", "targets"),
    ("limits.smallest", 0.0),
    ("limits.smallest", 2.0),
    ("limits.largest_share", 0.1),
    ("limits.largest_share", 1.0),
)


def changed(key: str, value: Any) -> dict[str, Any]:
    """What a profile would state under ``method`` for one change."""
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def state_with(state: SolvableState, stated: dict[str, Any]) -> SolvableState:
    """The state under another method."""
    method = Method.model_validate(with_defaults(stated))
    profile = state.profile.model_copy(update={"method": method})
    problem = build_problem(state.targets, state.units, state.geography, profile)
    return replace(state, profile=profile, problem=problem)


class Runs:
    """Runs a state under a method; what a change leaves alone is not computed again."""

    def __init__(self, state: SolvableState) -> None:
        self.state = state
        self._kept: dict[str, dict[str, tuple]] = {}

    def _once(self, step: str, asked: Any, compute: Callable[[], tuple]) -> tuple:
        """What ``compute`` gives, and its seconds; kept for the first that was asked
        and the last.
        """
        kept, key = self._kept.setdefault(step, {}), repr(asked)
        if key not in kept:
            for old in list(kept)[1:]:
                del kept[old]
            began = time.perf_counter()
            kept[key] = (*compute(), time.perf_counter() - began)
        return kept[key]

    def figures(self, stated: dict[str, Any]) -> dict[str, Any]:
        """One line of the table."""
        state = state_with(self.state, stated)
        m = state.profile.method
        asked = (m.scale, m.dense, m.dense_share)
        table, dense, dense_s = self._once("dense", asked, lambda: steps.dense_weights(state))
        asked = (*asked, m.selection, m.refine, m.refine_share, m.anchor_strength, m.limits)
        pairs = pairs_of(state.profile, len(state.leaves))
        selected, _, choice_s = self._once(
            "pairs", asked, lambda: steps.selected_pairs(state, table, pairs)
        )
        weights, refined, refit_s = self._once(
            "weights", asked, lambda: steps.refined_weights(state, table, selected)
        )
        fit = steps.fit_of_stored(state, table, weights)
        loss, _, _ = steps.loss_of_stored(load_catalog(), state, table, weights)
        return {
            **dict(_fits(fit)),
            **dict(_held_out(loss)),
            "ESS / k": weight_summary(weights)["ess"] / pairs,
            "dense tau": dense.tau,
            "refit tau": refined.result.tau,
            "converged": dense.converged and refined.result.converged,
            "dense s": dense_s,
            "choice s": choice_s,
            "refit s": refit_s,
        }


def _fits(fit: pl.DataFrame) -> Iterator[tuple[str, float]]:
    dense = {row["level"]: row for row in summary_by(fit, "fitted_dense").to_dicts()}
    for row in summary_by(fit, "fitted").to_dicts():
        if row["fitted"] and row["level"] != "tract":
            yield f"{row['level']}, median", row["median_are"]
        elif row["fitted"]:
            yield "tracts inside, dense", dense["tract"]["share_inside_margin"]
            yield "tracts inside", row["share_inside_margin"]


def _held_out(loss: pl.DataFrame) -> Iterator[tuple[str, float]]:
    for row in held_out_errors(loss).to_dicts():
        yield f"held out, {row['level']}", row["median_error_selected"]


def _text(name: str, value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: ""}[value]
    if "median" in name or "inside" in name or "held out" in name:
        return f"{100 * value:.2f} %"
    return f"{value:.1f}" if name.endswith(" s") else f"{value:.3g}"


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.assumptions")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--only", default="", help="changes whose key holds this word")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=220)
    runs = Runs(load_state(options.profile, options.state, options.data).ready)
    wanted = [("as it is", {})]
    wanted += [
        (f"{key} {value}", changed(key, value)) for key, value in CHANGES if options.only in key
    ]
    rows = []
    for name, stated in wanted:
        rows.append({"change": name, **runs.figures(stated)})
        console.print(" ".join(f"{k} {_text(k, v)};" for k, v in rows[-1].items() if k != "change"))
        if options.json:
            options.json.write_text(json.dumps(rows, indent=1))
    table = Table(*rows[0], title=f"{options.profile}, {options.state}")
    for row in rows:
        table.add_row(row["change"], *(_text(k, v) for k, v in row.items() if k != "change"))
    console.print(table)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
