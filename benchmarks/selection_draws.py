"""Totals right after the draw, before any refit: the cube against systematic, Sampford's and simple
random draws, variable by variable.

    python -m benchmarks.selection_draws --data DIR [--profile rhode_island] [--state RI] [--pairs
    60] [--seeds 3] [--json FILE]

For every continuous variable (amounts in dollars) of the records: the mean over areas of |total of
the starting weights - dense total|, as a share of the mean dense total of an area. The same is told
for the whole state; both are averaged over seeds. ``+ exchanges`` is the cube's draw after one pass
of exchanges. The last row is the root mean square error of the targets of the finest level, in
their scales.

Belongs here: errors of a draw. Does not belong here: fits after a refit (``selection.py``).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.state import load_state
from calibration_core.tree.rivals import PairTask
from calibration_core.tree.select.balance import balance_of
from calibration_core.tree.select.pairs import select_pairs
from calibration_core.tree.select.settings import SelectionSettings
from pipeline.specs.catalog import load_catalog
from pipeline.validation.compare import pair_task
from pipeline.vocabulary import DESIGN_SEPARATOR, USD, design_columns, key_of
from pipeline.weights.solve import dense_calibration, pool_of

DRAWS = ("random", "sampford", "systematic", "cube", "cube + exchanges")


def draw(name: str, task: PairTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(leaf, record, starting weight) of one draw."""
    pool, counts = task.pool, task.pairs_per_area
    if name == "random":
        rng = np.random.default_rng(task.seed)
        usable = (np.flatnonzero(row > 0) for row in pool.table)
        drawn = (
            np.sort(rng.choice(held, int(n), replace=False))
            for held, n in zip(usable, counts, strict=True)
        )
        leaf = np.repeat(np.arange(pool.leaves), counts)
        even = pool.table.sum(axis=1) / np.maximum(counts, 1)
        return leaf, np.concatenate(list(drawn)).astype(np.int64), even[leaf]
    settings = SelectionSettings(
        task.pairs,
        task.seed,
        design=name.split(" ")[0],
        exchanges=8.0 if "exchanges" in name else 0.0,
    )
    # Rounding the counts of cells first would break the order of the list that a systematic draw
    # lives on: it is left out there.
    pool = pool if settings.design == "cube" else replace(pool, classes=())
    balance = balance_of(pool, counts)
    chosen = select_pairs(pool, settings, balance=balance, pairs_per_area=counts)
    return chosen.leaf, chosen.record, chosen.weight


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection_draws", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--pairs-per-area", "--pairs", dest="pairs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=150)
    state = load_state(options.profile, options.state, options.data).ready
    pool = pool_of(state, dense_calibration(state).weights)
    dense = pool.table
    variables = load_catalog().variables
    columns = design_columns(state.units.columns)
    names = [name for name in columns if variables[key_of(name)].unit == USD]
    amounts = state.units.select(names).to_numpy()
    goal, targets = dense @ amounts, state.problem.targets
    leaf_goal = dense @ targets.designs[-1]
    errors = {name: [] for name in DRAWS}
    seconds = dict.fromkeys(DRAWS, 0.0)
    for name in track(DRAWS, console=console, transient=True):
        for seed in range(options.seeds):
            task = pair_task(state, pool, options.pairs * pool.leaves, seed)
            began = time.perf_counter()
            leaf, record, weight = draw(name, task)
            seconds[name] += (time.perf_counter() - began) / options.seeds
            found, of_targets = np.zeros(goal.shape), np.zeros(leaf_goal.shape)
            np.add.at(found, leaf, weight[:, None] * amounts[record])
            np.add.at(of_targets, leaf, weight[:, None] * targets.designs[-1][record])
            area = np.abs(found - goal).mean(axis=0) / np.maximum(np.abs(goal).mean(axis=0), 1e-300)
            whole = np.abs((found - goal).sum(axis=0)) / np.maximum(
                np.abs(goal.sum(axis=0)), 1e-300
            )
            used = np.isfinite(targets.scales[-1])
            z = float(np.sqrt((((of_targets - leaf_goal) / targets.scales[-1])[used] ** 2).mean()))
            errors[name].append((area, whole, z))
    table = Table(
        "variable",
        *DRAWS,
        *(f"{name}, state" for name in ("random", "systematic", "cube")),
        title=f"{options.state}, {options.pairs} pairs per area, {options.seeds} seeds",
    )
    mean = {
        name: (
            np.mean([e[0] for e in runs], axis=0),
            np.mean([e[1] for e in runs], axis=0),
            float(np.mean([e[2] for e in runs])),
        )
        for name, runs in errors.items()
    }
    shown = [i for i in np.argsort(-np.abs(goal).sum(axis=0)) if np.abs(goal[:, i]).sum() > 0]
    for i in shown:
        table.add_row(
            names[i].replace(DESIGN_SEPARATOR, " "),
            *(f"{mean[n][0][i]:.1%}" for n in DRAWS),
            *(f"{mean[n][1][i]:.2%}" for n in ("random", "systematic", "cube")),
        )
    table.add_row(
        "median of these",
        *(f"{np.median(mean[n][0][shown]):.1%}" for n in DRAWS),
        *(f"{np.median(mean[n][1][shown]):.2%}" for n in ("random", "systematic", "cube")),
    )
    table.add_row("targets, in scales", *(f"{mean[n][2]:.2f}" for n in DRAWS), "", "", "")
    table.add_row("seconds", *(f"{seconds[n]:.2f}" for n in DRAWS), "", "", "")
    console.print(table)
    if options.json:
        options.json.write_text(
            json.dumps(
                {
                    "variables": [names[i] for i in shown],
                    "area": {n: mean[n][0][shown].tolist() for n in DRAWS},
                    "state": {n: mean[n][1][shown].tolist() for n in DRAWS},
                    "targets": {n: mean[n][2] for n in DRAWS},
                },
                indent=1,
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
