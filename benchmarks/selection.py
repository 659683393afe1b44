"""Sparse methods at equal k on a real state: fit, effective sample size and seconds; and held-out
results of several runs put together.

    python -m benchmarks.selection --data DIR [--profile rhode_island] [--state RI] [--pairs 20 40
    60 100] [--seeds 3] [--methods ...] [--parts] python -m benchmarks.selection --merge a.json
    b.json ... [--plot FILE.png]

The first fits all targets and compares methods in sample (``geocal validate`` compares them on
targets that were withheld, and writes the JSON files). Every method gets the same pairs in every
area, from the same dense weights, and the same refit. ``--parts`` adds what the parts of ours are
worth: the draw alone, exchanges without rounds, no anchors, exchanges within cells only, and a
random draw with our anchored refit.

The second reads the JSON of ``geocal validate --json``, of several states or groups, and prints
errors by budget and method and paired differences over all cells together; ``--plot`` draws the
frontier of each profile.

Belongs here: those tables. Does not belong here: methods (``calibration_core/tree/rivals``),
withholding (``pipeline/validation``), errors right after the draw (``selection_draws.py``).
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.state import load_state
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.rivals import PAIR_METHODS, PairTask, hybrid, run_pair_method
from calibration_core.tree.rivals.task import PairOutcome
from calibration_core.tree.select.joint import refine_pairs
from calibration_core.tree.select.settings import JointSettings, SelectionSettings
from pipeline.validation.compare import pair_task
from pipeline.validation.frontier import frontier
from pipeline.validation.paired import paired_differences
from pipeline.validation.report import print_tables
from pipeline.validation.runs import Run
from pipeline.weights.problem import SolvableState
from pipeline.weights.solve import dense_calibration, pool_of

QUICK = ("hybrid", "proportional", "random")


def part(name: str, task: PairTask) -> PairOutcome:
    """Ours with one part changed, or the random draw with our refit."""
    plain = SelectionSettings(task.pairs, task.seed)
    if name == "random, anchored":
        drawn = run_pair_method("random", task)
        tree, targets = task.pool.tree, task.pool.targets
        pairs = PairProblem(tree, targets, drawn.leaf, drawn.record, drawn.starting)
        fit = refine_pairs(task.pool, pairs, JointSettings(plain, task.refine))
        return replace(drawn, method=name, weights=fit.result.weights)
    changed = {
        "draw alone": JointSettings(replace(plain, exchanges=0, rounds=0), task.refine),
        "no rounds": JointSettings(replace(plain, rounds=0), task.refine),
        "no anchors": JointSettings(plain, task.refine, anchor_strength=0.0),
        "within cells": JointSettings(replace(plain, cell_penalty=math.inf), task.refine),
    }
    return replace(hybrid.run(task, changed[name]), method=name)


PARTS = ("draw alone", "no rounds", "no anchors", "within cells", "random, anchored")


def figures_of(state: SolvableState, outcome: PairOutcome) -> dict[str, float]:
    """Shares of targets within 1.645 scales by level, median relative errors, mean ESS of an area
    as a share of its pairs, seconds.
    """
    problem, found = state.problem, {}
    tree, targets = problem.tree, problem.targets
    for depth, level in enumerate(tree.levels):
        above = tree.ancestor_of_leaves(depth)[outcome.leaf]
        fitted = np.zeros(targets.values[depth].shape)
        np.add.at(fitted, above, outcome.weights[:, None] * targets.designs[depth][outcome.record])
        used, value = np.isfinite(targets.scales[depth]), targets.values[depth]
        error = np.abs(fitted - value)
        found[f"{level} inside"] = float((error <= 1.645 * targets.scales[depth])[used].mean())
        counted = used & (np.abs(value) >= 1)
        found[f"{level} median"] = float(np.median(error[counted] / np.abs(value[counted])))
    published = _published_inside(state, outcome)
    if published is not None:
        found["inside published margin"] = published
    sums, squares = (
        np.bincount(outcome.leaf, outcome.weights),
        np.bincount(outcome.leaf, outcome.weights**2),
    )
    count = np.bincount(outcome.leaf)
    here = count > 0
    found["ESS per area"] = float((sums[here] ** 2 / squares[here]).mean())
    found["ESS / k"] = float((sums[here] ** 2 / squares[here] / count[here]).mean())
    return found | {"choice s": outcome.seconds_selection, "refit s": outcome.seconds_refit}


def _published_inside(state: SolvableState, outcome: PairOutcome) -> float | None:
    """Share of the finest level's targets with a published 90 % margin that the weights reproduce
    within it, around the reconciled figure.
    """
    rows, frame = state.problem.grid.rows[-1], state.targets
    margin = frame["margin_standard_error"].to_numpy()
    place = np.where(rows >= 0, rows, 0)
    spread = np.where(rows >= 0, margin[place], np.nan)
    fitted = np.zeros(rows.shape)
    np.add.at(
        fitted,
        outcome.leaf,
        outcome.weights[:, None] * state.problem.targets.designs[-1][outcome.record],
    )
    with np.errstate(invalid="ignore"):
        counted = spread > 0
    return (
        float((np.abs(fitted - state.problem.targets.values[-1]) <= 1.645 * spread)[counted].mean())
        if counted.any()
        else None
    )


def compare(options: argparse.Namespace, console: Console) -> list[dict]:
    """The in-sample table; returns its rows."""
    state = load_state(options.profile, options.state, options.data).ready
    dense = dense_calibration(state)
    console.print(f"dense: {dense.seconds:.1f} s; {dense.summary()}", highlight=False)
    pool = pool_of(state, dense.weights)
    names = [*options.methods, *(PARTS if options.parts else ())]
    rows = []
    for budget in options.pairs:
        words = f"{budget} pairs per area"
        for name in track(names, description=words, console=console, transient=True):
            tasks = (
                pair_task(state, pool, budget * pool.leaves, seed) for seed in range(options.seeds)
            )
            runs = [figures_of(state, _outcome(name, task)) for task in tasks]
            rows.append({"pairs_per_area": budget, "method": name, **_averaged(runs)})
    title = f"{options.state}, {pool.leaves} areas, mean over {options.seeds} seeds"
    console.print(_table(rows, title))
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))
    return rows


def _outcome(name: str, task: PairTask) -> PairOutcome:
    return run_pair_method(name, task) if name in PAIR_METHODS else part(name, task)


def _averaged(runs: list[dict[str, float]]) -> dict:
    """Means of the figures over seeds, and their standard deviations under ``spread``."""
    mean = {key: float(np.mean([run[key] for run in runs])) for key in runs[0]}
    several = len(runs) > 1
    spread = {
        key: float(np.std([run[key] for run in runs], ddof=1)) if several else 0.0 for key in mean
    }
    return {"seeds": len(runs), **mean, "spread": spread}


def _table(rows: list[dict], title: str) -> Table:
    figures = [
        name for name in rows[0] if name not in ("pairs_per_area", "method", "seeds", "spread")
    ]
    table = Table("per area", "method", *figures, title=title)
    for row in rows:
        cells = (_text(name, row[name]) for name in figures)
        table.add_row(str(row["pairs_per_area"]), row["method"], *cells)
    return table


def _text(key: str, value: float) -> str:
    if "inside" in key or "median" in key:
        return f"{value:.2%}"
    return f"{value:.2f}" if key in ("choice s", "refit s", "ESS / k") else f"{value:.1f}"


def merge(options: argparse.Namespace, console: Console) -> list[dict]:
    """Errors by budget and method, and paired differences, over all cells of the files; returns the
    differences.
    """
    documents = [json.loads(path.read_text()) for path in options.merge]
    runs = [_run(item) for document in documents for item in document["runs"]]
    methods = tuple(dict.fromkeys(run.method for run in runs if run.pairs_per_area is not None))
    reference = documents[0]["settings"]["reference"]
    paired = paired_differences(runs, reference)
    cells = sorted({(run.postal, run.group) for run in runs})
    console.print(
        f"{len(cells)} cells: " + ", ".join(f"{postal} {group}" for postal, group in cells),
        highlight=False,
    )
    print_tables(runs, paired, reference, console)
    if options.plot:
        # Profiles differ in the levels of their areas, so each has a picture of its own.
        for profile in dict.fromkeys(document["profile"] for document in documents):
            own = [document for document in documents if document["profile"] == profile]
            mine = [_run(item) for document in own for item in document["runs"]]
            settings = SimpleNamespace(
                methods=methods,
                seeds=own[0]["settings"]["seeds"],
                pairs_per_area=tuple(
                    sorted({run.pairs_per_area for run in mine if run.pairs_per_area is not None})
                ),
            )
            groups = [
                SimpleNamespace(**g)
                for g in {g["id"]: g for document in own for g in document["groups"]}.values()
            ]
            labels = SimpleNamespace(id=profile, synthetic=own[0]["synthetic"])
            path = options.plot.with_stem(f"{options.plot.stem}_{profile}")
            path.write_bytes(
                frontier(
                    SimpleNamespace(runs=mine, settings=settings, groups=groups, profile=labels),
                    options.figure,
                )
            )
            console.print(f"drawn: {path}", highlight=False)
    return paired


def _run(item: dict) -> Run:
    return Run(
        **{
            **item,
            "warnings": tuple(item["warnings"]),
            "inside": tuple(item["inside"]),
            "outside": tuple(item["outside"]),
        }
    )


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--data", type=Path, help="folder of raw files")
    parser.add_argument(
        "--pairs-per-area", "--pairs", dest="pairs", type=int, nargs="+", default=[20, 40, 60, 100]
    )
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--methods", nargs="+", default=list(QUICK), choices=list(PAIR_METHODS))
    parser.add_argument("--parts", action="store_true", help="also ours with parts taken away")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--merge", type=Path, nargs="+", help="JSON files of geocal validate")
    parser.add_argument("--plot", type=Path)
    parser.add_argument(
        "--figure",
        default="capped_loss",
        help="what --plot draws: median_are, mean_are, mean_are_without_degenerate, capped_loss",
    )
    options = parser.parse_args(argv)
    console = Console(width=200)
    if options.merge:
        merge(options, console)
    elif options.data is None:
        parser.error("--data DIR (raw files) or --merge FILE ... is needed")
    else:
        compare(options, console)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
