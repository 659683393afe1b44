"""A nation of tracts on this machine: reconcile, calibrate, select, refine; time, memory and fit of
every stage.

    python -m benchmarks.nation [--geo DIR] [--states N | --tracts N ...] [--workers N] [--rounds N]
    [--device cpu|cuda] [--json FILE]

Every state is one problem (reconciled targets agree across levels), so states are taken from a
queue by ``--workers`` processes, the largest first (``nation_states.py``). Seconds of a stage are
summed over processes, beside the time that passed; memory is the sum of every process's own peak.
Without ``--geo`` the list of tracts is invented too. Several numbers after ``--tracts`` show how
time grows.

Belongs here: that run and its table. Does not belong here: the population
(``nation_population.py``), a state as a problem (``nation_problem.py``), one state's stages
(``nation_states.py``), numerics.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import polars as pl
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import this_machine
from benchmarks.nation_population import (
    COUNTY_EXTRAS,
    STATE_EXTRAS,
    TRACT_VARIABLES,
    make_pool,
    published,
    tract_list,
)
from benchmarks.nation_problem import add_truth, pool_size, state_problem, state_spans, state_tree
from benchmarks.nation_states import Clock, StateFigures, StateOptions, StateWork, solve_states
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import reconcile_tree
from calibration_core.tree.select.settings import SelectionSettings

SOLVED = ("reconcile", "set up states", "dense calibration", "selection", "refinement")


def run(geography: pl.DataFrame, options: argparse.Namespace, console: Console) -> dict:
    """Everything for one list of tracts; returns the figures."""
    clock = Clock()
    began = time.perf_counter()
    tree = GeographyTree.from_leaves(
        ["nation", "state", "county", "tract"],
        [[""] * geography.height, *(geography[c].to_list() for c in ("state", "county", "tract"))],
    )
    began = clock.lap("tree", began)
    pools = {}
    true = [np.zeros((n, TRACT_VARIABLES)) for n in tree.sizes]
    beyond = [
        np.zeros((tree.sizes[1], COUNTY_EXTRAS + STATE_EXTRAS)),
        np.zeros((tree.sizes[2], COUNTY_EXTRAS)),
    ]
    trees = {}
    spans = state_spans(tree)
    for index, state in enumerate(tree.geoids[1]):
        span = spans[index]
        sub = state_tree(tree, span)
        trees[state] = sub
        pools[state] = pool = make_pool(
            state, options.pool or pool_size(span.stop - span.start), options.seed
        )
        add_truth(pool, sub, span, index, tree, true, beyond, options.seed)
    began = clock.lap("invent the population", began)
    for depth in (2, 1, 0):
        true[depth] = tree.sum_to_parent(true[depth + 1], depth + 1)
    tables = [
        published(t, level, geoids, options.seed)
        for t, level, geoids in zip(true, tree.levels, tree.geoids, strict=True)
    ]
    began = clock.lap("invent the population", began)
    agreed = reconcile_tree(tree, [t[0] for t in tables], [t[1] ** 2 for t in tables])
    began = clock.lap("reconcile", began)
    solving = StateOptions(
        options.pairs,
        options.candidates,
        options.rounds,
        options.seed,
        options.device,
        options.threads,
    )
    order = sorted(range(tree.sizes[1]), key=lambda i: (spans[i].start - spans[i].stop, i))

    def work():
        for index in order:
            state, began = tree.geoids[1][index], time.perf_counter()
            problem, margin = state_problem(
                pools[state], trees[state], spans[index], index, tree, tables, agreed, beyond
            )
            clock.lap("set up states", began)
            yield StateWork(index, state, problem, margin, pools[state].cell, pools[state].income)

    done: dict[int, StateFigures] = {}
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("states", total=tree.sizes[-1])
        for figures in solve_states(work(), solving, options.workers):
            done[figures.index] = figures
            progress.advance(task, figures.tracts)
    wall = time.perf_counter() - began
    states = [done[index] for index in sorted(done)]
    total = np.sum([state.totals for state in states], axis=0)
    return _figures(
        tree, clock, states, np.abs(total / agreed.values[0][0] - 1.0), wall, pools, spans
    )


def _figures(
    tree, clock: Clock, states: list[StateFigures], nation: np.ndarray, wall: float, pools, spans
) -> dict:
    candidates = sum(
        pools[s].own.shape[0] * (spans[i].stop - spans[i].start)
        for i, s in enumerate(tree.geoids[1])
    )
    fits = defaultdict(list)
    for state in states:
        for key, arrays in state.fits.items():
            fits[key] += arrays
    fits["selected", "nation", "error"].append(nation)
    fit = {}
    for name, level, kind in fits:
        joined = (
            np.concatenate(fits[name, level, kind])
            if kind != "sums"
            else np.sum(fits[name, level, kind], axis=0)
        )
        if kind == "error":
            fit[f"{name} {level}"] = {
                "median": float(np.median(joined)),
                "mean": float(joined.mean()),
                "worst": float(joined.max()),
            }
        elif kind == "sums":
            fit[f"{name} effective sample size"] = float(joined[0] ** 2 / joined[1])
    for name in ("dense", "selected"):
        fit[f"{name} tract"]["inside"] = float(np.concatenate(fits[name, "tract", "inside"]).mean())
    stages = _stages(clock, states)
    stopped = [line for state in states for line in state.stopped]
    mass = np.array([state.fits["dense", "all", "sums"][0][0] for state in states])
    return {
        "tracts": tree.sizes[-1],
        "states": tree.sizes[1],
        "targets": sum(state.targets for state in states),
        "anchored": sum(state.anchored for state in states),
        "candidate_pairs": candidates,
        "pairs_kept": sum(state.pairs for state in states),
        "all_converged": not stopped,
        "stopped_early": stopped,
        "stages": stages,
        "seconds": sum(stages[s]["seconds"] for s in SOLVED),
        "wall_seconds_states": wall,
        "peak_mb": max(item["peak_mb"] for item in stages.values()),
        "selection": {
            **{
                name: sum(getattr(state, name) for state in states)
                for name in ("exchanges", "rescued", "without_support", "cells_lost")
            },
            "mass_lost": float(np.average([state.mass_lost for state in states], weights=mass)),
            "states": [
                {
                    "state": s.state,
                    "tracts": s.tracts,
                    "pairs": s.pairs,
                    "seconds": s.seconds["selection"],
                    "peak_mb": s.peak_mb["selection"],
                }
                for s in states
            ],
        },
        "fit": fit,
    }


def _stages(clock: Clock, states: list[StateFigures]) -> dict[str, dict[str, float]]:
    """Seconds summed over processes, and the sum of each process's peak memory up to the end of the
    stage.
    """
    own = os.getpid()
    peaks: dict[str, dict[int, float]] = defaultdict(dict)
    seconds = dict(clock.seconds)
    for stage, peak in clock.peak_mb.items():
        peaks[stage][own] = peak
    last = max(clock.peak_mb.values())
    for state in states:
        for stage, spent in state.seconds.items():
            seconds[stage] = seconds.get(stage, 0.0) + spent
            peaks[stage].setdefault(own, last)
            peaks[stage][state.process] = max(
                peaks[stage].get(state.process, 0.0), state.peak_mb[stage]
            )
    return {
        stage: {"seconds": seconds[stage], "peak_mb": sum(peaks[stage].values())}
        for stage in seconds
    }


def show(figures: dict, console: Console) -> None:
    """The table of one run."""
    tracts, candidates = figures["tracts"], figures["candidate_pairs"]
    title = (
        f"{figures['states']} states, {tracts:,} tracts, {figures['targets']:,} targets,"
        f" {candidates:,} candidate pairs, {figures['pairs_kept']:,} kept"
    )
    table = Table(title=title)
    for name in (
        "stage",
        "seconds",
        "ms per tract",
        "ns per candidate pair",
        "peak memory so far, GB",
    ):
        table.add_column(name, justify="left" if name == "stage" else "right")
    for stage, item in figures["stages"].items():
        seconds = item["seconds"]
        table.add_row(
            stage,
            f"{seconds:.2f}",
            f"{1e3 * seconds / tracts:.3f}",
            f"{1e9 * seconds / candidates:.1f}",
            f"{item['peak_mb'] / 1e3:.2f}",
        )
    table.add_row(
        "in all, without inventing",
        f"{figures['seconds']:.1f}",
        f"{1e3 * figures['seconds'] / tracts:.3f}",
        f"{1e9 * figures['seconds'] / candidates:.1f}",
        "",
    )
    console.print(table)
    paces = sorted(
        (1e3 * s["seconds"] / s["tracts"], s["state"], s["tracts"])
        for s in figures["selection"]["states"]
    )
    console.print(
        f"{figures['wall_seconds_states']:.1f} s passed over the states, on {figures['workers']}"
        " processes; selection "
        + " to ".join(
            f"{pace:.2f} ms per tract (state {state}, {size:,} tracts)"
            for pace, state, size in (paces[0], paces[-1])
        )
        + f"; {figures['selection']['mass_lost']:.2%} of the dense weight is in cells without a"
        " pair",
        highlight=False,
    )
    fit = Table(title="fit" + ("" if figures["all_converged"] else "; NOT ALL STATES CONVERGED"))
    for name in ("weights, level", "median error", "mean", "worst", "inside the published margin"):
        fit.add_column(name, justify="left" if name == "weights, level" else "right")
    for key, item in figures["fit"].items():
        if isinstance(item, float):
            fit.add_row(key, f"{item:,.0f}", "", "", "")
        else:
            inside = f"{item['inside']:.2%}" if "inside" in item else ""
            fit.add_row(
                key, f"{item['median']:.3%}", f"{item['mean']:.3%}", f"{item['worst']:.1%}", inside
            )
    console.print(fit)
    for line in figures["stopped_early"]:
        console.print(f"  not converged: {line}", highlight=False)


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nation", description=__doc__.splitlines()[0]
    )
    parser.add_argument(
        "--geo",
        type=Path,
        help="folder that holds the Census tract-to-PUMA list; without it the tracts are invented",
    )
    parser.add_argument("--states", type=int, help="only the largest so many states")
    parser.add_argument(
        "--tracts",
        type=int,
        nargs="*",
        help="about so many tracts; several numbers for several runs",
    )
    parser.add_argument(
        "--pool", type=int, help="households in every state's pool (default 2,000 to 5,000 by size)"
    )
    parser.add_argument("--pairs", type=int, default=60, help="pairs kept per tract")
    parser.add_argument(
        "--candidates",
        type=int,
        default=SelectionSettings.candidates,
        help="candidates per pair to be drawn",
    )
    parser.add_argument(
        "--rounds", type=int, default=1, help="rounds of refitting and exchanging in the selection"
    )
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument(
        "--workers",
        type=int,
        help="processes that take states (default: as many as cores; one on cuda)",
    )
    parser.add_argument("--threads", type=int, default=1, help="threads of each process")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    machine = this_machine(options.device)
    options.workers = options.workers or (1 if options.device == "cuda" else machine.cores)
    console = Console(width=140)
    name = (
        torch.cuda.get_device_name()
        if options.device == "cuda"
        else f"{machine.cores} cores, {options.workers} processes of {options.threads} threads"
    )
    console.print(
        f"device: {name}; tracts"
        f" {'invented' if options.geo is None else f'listed below {options.geo}'}, everything else"
        " invented"
    )
    runs = []
    for count in options.tracts or [None]:
        try:
            geography = tract_list(options.geo, options.states, count, options.seed)
        except ProblemError as error:
            console.print(str(error), style="red", highlight=False)
            return 1
        figures = {
            "workers": options.workers,
            "threads": options.threads,
            **run(geography, options, console),
        }
        runs.append({"device": name, "machine": machine.as_dict(), **figures})
        show(figures, console)
        if options.json:
            options.json.write_text(json.dumps(runs, indent=1))
    if len(runs) > 1:
        base = runs[0]["seconds"] / runs[0]["tracts"]
        console.print(
            "seconds per tract against the first run: "
            + ", ".join(
                f"{r['tracts']:,} tracts {r['seconds'] / r['tracts'] / base:.2f}" for r in runs
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
