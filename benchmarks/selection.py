"""Ours against simpler draws at equal k, each refitted the same way, in one run.

    python -m benchmarks.selection --profile rhode_island --state RI --data DIR [--pairs 20 40 60 100] [--seeds 3]

Draws: ``balanced`` (this project's), ``proportional`` (one systematic draw, no balancing), ``random`` (simple random pairs of each
area, starting from equal weights). Prints, for each, the share of finest-level targets inside the published 90 % margin, median
errors above, effective sample size, and seconds.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.state import LoadedState, load_state
from calibration_core.problem import PairProblem
from calibration_core.selection import Selection
from pipeline.reports.fit import fitted_targets, summary_by
from pipeline.weights.calibrate import dense_calibration, refine, selection

METHODS = ("balanced", "proportional", "random")


def draw(method: str, state: LoadedState, dense: np.ndarray, budget: int, seed: int) -> Selection:
    """One selection of ``budget`` pairs by ``method``."""
    profile = state.profile.model_copy(update={"seed": state.profile.seed + seed})
    if method == "proportional":
        profile = profile.model_copy(update={"method": profile.method.model_copy(update={"selection_draws": 1})})
    chosen = selection(state.problem, dense, state.candidates.units, profile, budget)
    if method != "random":
        return chosen
    rng = np.random.default_rng(seed)
    totals = dense.sum(axis=1)
    record = np.concatenate([np.sort(rng.choice(dense.shape[1], size=n, replace=False)) for n in chosen.per_leaf])
    weight = (totals / np.maximum(chosen.per_leaf, 1))[chosen.leaf]
    return replace(chosen, record=record, weight=weight, probability=np.ones(record.size))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--pairs", type=int, nargs="+", default=[20, 40, 60, 100])
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args()
    console = Console()
    state = load_state(arguments.profile, arguments.state, arguments.data)
    console.print("seconds before calibration: " + ", ".join(f"{k} {v:.2f}" for k, v in state.seconds.items()))
    began = time.perf_counter()
    dense = dense_calibration(state.problem, state.candidates.units, state.candidates.areas, state.profile)
    console.print(f"dense: {time.perf_counter() - began:.1f} s; {dense.summary()}")
    areas = len(state.problem.tree.leaves)
    leaf_level = state.problem.tree.levels[-1]
    table = Table(
        "pairs an area",
        "draw",
        f"{leaf_level} inside margin",
        "county median",
        "state median",
        "ESS an area",
        "select s",
        "refit s",
        title=f"{arguments.state}, {areas} areas, {arguments.seeds} seeds",
    )
    for pairs in arguments.pairs:
        for method in track(METHODS, description=f"{pairs} pairs", console=console, transient=True):
            rows = [_measure(method, state, dense.weights, pairs * areas, seed) for seed in range(arguments.seeds)]
            mean = np.mean(rows, axis=0)
            table.add_row(str(pairs), method, f"{mean[0]:.2%}", f"{mean[1]:.3%}", f"{mean[2]:.3%}", f"{mean[3]:.1f}", f"{mean[4]:.2f}", f"{mean[5]:.2f}")
    console.print(table)


def _measure(method: str, state: LoadedState, dense: np.ndarray, budget: int, seed: int) -> list[float]:
    start = time.perf_counter()
    chosen = draw(method, state, dense, budget, seed)
    middle = time.perf_counter()
    result = refine(state.problem, PairProblem(state.problem.tree, state.problem.targets, chosen.leaf, chosen.record, chosen.weight), state.profile)
    end = time.perf_counter()
    summary = summary_by(fitted_targets(state.targets, state.problem, {"fitted": result.fitted}), "fitted")
    by = {row["level"]: row for row in summary.iter_rows(named=True)}
    weights = result.weights
    squares = np.bincount(chosen.leaf, weights**2, minlength=dense.shape[0])
    sums = np.bincount(chosen.leaf, weights, minlength=dense.shape[0])
    ess = float((sums[squares > 0] ** 2 / squares[squares > 0]).mean())
    finest = by[state.problem.tree.levels[-1]]
    return [finest["share_inside_margin"], by["county"]["median_are"], by["state"]["median_are"], ess, middle - start, end - middle]


if __name__ == "__main__":
    main()
