"""Totals right after the draw, before any refit: the cube against systematic, Sampford's and simple
random draws, variable by variable.

    python -m benchmarks.selection_draws --data DIR [--profile rhode_island] [--state RI] [--pairs
    60] [--seeds 3] [--json FILE]

For every continuous variable (amounts in dollars) of the records: mean over areas of |total of the
starting weights - dense total|, as a share of the mean dense total of an area, and the same for the
whole state; averaged over seeds. ``+ exchanges`` is the cube's draw after one pass of exchanges.
The last row is the root mean square error of the targets of the finest level, in their scales.

Belongs here: errors of a draw. Does not belong here: fits after a refit (``selection.py``).
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from pipeline.weights.calibrate import DENSE_DIGITS, dense_calibration
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.selection import make_task
from benchmarks.state import load_state
from calibration_core.common.digits import significant
from calibration_core.tree.rivals import PairTask
from calibration_core.tree.select.anchors import balance_of
from calibration_core.tree.select.pairs import SelectionSettings, select_pairs
from pipeline.weights.candidates import DESIGN_SEPARATOR

DRAWS = ("random", "sampford", "systematic", "cube", "cube + exchanges")


def draw(name: str, task: PairTask) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(leaf, record, starting weight) of one draw."""
    if name == "random":
        rng = np.random.default_rng(task.seed)
        record = np.concatenate(
            [
                np.sort(rng.choice(np.flatnonzero(row > 0), int(n), replace=False))
                for row, n in zip(task.dense, task.per_leaf, strict=True)
            ]
        )
        leaf = np.repeat(np.arange(task.per_leaf.size), task.per_leaf)
        return (
            leaf,
            record.astype(np.int64),
            (task.leaf_totals / np.maximum(task.per_leaf, 1))[leaf],
        )
    settings = SelectionSettings(
        task.pairs,
        task.seed,
        design=name.split(" ")[0],
        exchanges=8.0 if "exchanges" in name else 0.0,
    )
    balance = balance_of(
        task.pool.tree, task.pool.targets, task.attributes, task.dense, task.per_leaf
    )
    # Rounding the counts of cells first would break the order of the list that a systematic draw
    # lives on: it is left out there.
    families = task.families if settings.design == "cube" else ()
    chosen = select_pairs(
        task.dense,
        task.cell,
        task.order,
        settings,
        balance=balance,
        families=families,
        affinity=task.affinity,
        per_leaf=task.per_leaf,
    )
    return chosen.leaf, chosen.record, chosen.weight


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection_draws", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--data", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--pairs", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=150)
    state = load_state(options.profile, options.state, options.data)
    dense = significant(
        dense_calibration(
            state.problem, state.candidates.units, state.candidates.areas, state.profile
        ).weights,
        DENSE_DIGITS,
    )
    names = [
        name
        for name in state.candidates.units.columns
        if DESIGN_SEPARATOR in name and name.startswith("usd")
    ]
    amounts = state.candidates.units.select(names).to_numpy()
    goal, targets = dense @ amounts, state.problem.targets
    leaf_goal = dense @ targets.designs[-1]
    errors = {name: [] for name in DRAWS}
    seconds = dict.fromkeys(DRAWS, 0.0)
    for name in track(DRAWS, console=console, transient=True):
        for seed in range(options.seeds):
            task = make_task(state, dense, options.pairs, seed)
            began = time.perf_counter()
            leaf, record, weight = draw(name, replace(task))
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
        title=f"{options.state}, {options.pairs} pairs an area, {options.seeds} seeds",
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
