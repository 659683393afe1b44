"""What it saves to start a dense solution from the multipliers of an earlier one.

    python -m benchmarks.warm_start [--profile sample] [--state RI] [--data DIR] [--repeats 3]

One state is solved as `geocal run` does. Then, each time from nothing along the whole path of tau,
from nothing at the tau that was found, and from the multipliers stored before at that tau:

    the same again
    new figures       every area of the finest level grown by a few per cent of its own, as in the
                      next vintage of its table
    new prior         prior weights of records times 1 or 1/2 or 3/2 by chance, as a replicate
    one target more   the tenth variable of the finest level, which was left out at first

Steps, factorisations, seconds, and how far weights end from those of the whole path at the same
tau, as a share of the largest. The sample is SYNTHETIC and made on the way.

Belongs here: those problems and that table. Does not belong here: the solver, or how a run calls
it.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import this_machine
from benchmarks.state import load_state
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.result import TreeNewtonResult, TreeNewtonSettings
from calibration_core.tree.solve.newton import calibrate_tree
from pipeline.sample.generate import ensure_sample
from pipeline.weights.problem import pool_problem
from pipeline.weights.settings import dense_settings

# Which variable of the finest level comes later.
LATER = 9
# Standard deviation of the growth of areas.
GROWTH = 0.02
Multipliers = tuple[np.ndarray, ...]


def problems(problem: PoolProblem) -> Iterator[tuple[str, PoolProblem, PoolProblem]]:
    """What is solved first, and what afterwards."""
    rng, t = np.random.default_rng(20240711), problem.targets
    yield "the same again", problem, problem
    grown = np.exp(GROWTH * rng.normal(size=(t.values[-1].shape[0], 1)))
    yield "new figures", problem, _with(problem, (*t.values[:-1], t.values[-1] * grown), t.scales)
    chance = rng.choice([0.5, 1.0, 1.5], problem.record_prior.size)
    yield "new prior", problem, replace(problem, record_prior=problem.record_prior * chance)
    less = t.scales[-1].copy()
    less[:, min(LATER, less.shape[1] - 1)] = np.inf
    yield "one target more", _with(problem, t.values, (*t.scales[:-1], less)), problem


def _with(problem: PoolProblem, values, scales) -> PoolProblem:
    designs = problem.targets.designs
    return replace(problem, targets=make_targets(problem.tree, designs, values, scales))


def solved(
    problem: PoolProblem, settings: TreeNewtonSettings, start: Multipliers | None, repeats: int
) -> tuple[TreeNewtonResult, float]:
    """The result, and the least seconds of so many."""
    least, result = float("inf"), None
    for _ in range(repeats):
        began = time.perf_counter()
        result = calibrate_tree(problem, settings, start=start)
        least = min(least, time.perf_counter() - began)
    assert result is not None
    return result, least


def distance(mine: TreeNewtonResult, other: TreeNewtonResult) -> float:
    """Largest difference of two results' totals of weights by leaf and record, of the largest."""
    return float(np.abs(mine.array - other.array).max() / other.array.max())


def table_of(problem: PoolProblem, settings: TreeNewtonSettings, repeats: int) -> Table:
    """One row for each problem and each way to start."""
    table = Table("then", "start", "tau", "steps", "factorisations", "seconds", "weights off by")
    for name, first, then in problems(problem):
        before, _ = solved(first, settings, None, 1)
        path, seconds = solved(then, settings, None, repeats)
        rows = [("nothing, whole path", path, seconds, "")]
        at = replace(settings, tau_path=(before.tau,), stop="share", share=())
        held = replace(at, tau_path=tuple(_down_to(settings.tau_path, before.tau)))
        exact, _ = solved(then, held, None, 1)
        for start, given in (("nothing", None), ("stored multipliers", before.multipliers)):
            result, seconds = solved(then, at, given, repeats)
            rows.append((start, result, seconds, f"{distance(result, exact):.1e}"))
        for start, result, seconds, off in rows:
            counts = str(result.iterations), str(result.factorisations)
            table.add_row(name, start, f"{result.tau:g}", *counts, f"{seconds:.2f}", off)
        table.add_section()
    return table


def _down_to(path: tuple[float, ...], tau: float) -> list[float]:
    return [*(t for t in path if t > tau), tau]


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Dense solutions from stored multipliers")
    parser.add_argument("--profile", default="sample")
    parser.add_argument("--state", default="RI", help="postal code")
    parser.add_argument("--data", type=Path, help="folder of raw files; not for the sample")
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args(arguments)
    console = Console(width=110)
    with tempfile.TemporaryDirectory() as made:
        folder = given.data or Path(made)
        if given.data is None:
            ensure_sample(folder)
        state = load_state(given.profile, given.state, folder).ready
        console.print(str(this_machine()))
        console.print(table_of(pool_problem(state), dense_settings(state), given.repeats))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
