"""A nation, its states and their districts calibrated at once: the engine against Adam on the same
loss, dense and after selection.

    python -m benchmarks.nested [--records 337704] [--national 478] [--state 153] [--district 56]
                                [--states 51] [--districts 436] [--keep 57240] [--exchanges 8]
                                [--adam-epochs 1500] [--threads N] [--device cpu|cuda] [--seed 0]
                                [--json FILE]

The nation is invented, to the measures of published ones: every record lies in one district; the
first variables of the national list have targets for states too, the first of those for districts.
Half are counts of persons, half amounts: zero for most, else lognormal, many with a heavier tail
than a sample of a district can carry. Targets are totals of true weights times lognormal noise,
more the smaller the area, so that levels contradict one another and no weights meet all targets.
Initial weights differ from the true ones by a tilt of each district's own and by chance.

Loss, for engine and Adam alike: sum_j ((fit_j - b_j) / s_j)^2 / 2, s_j = max(|b_j|, 1). The engine
adds its prior (tau, printed), which Adam has not; both are measured by the same figures:

    capped    sum_j omega_j min(|fit_j - b_j| / s_j, 1) / sum_j omega_j; omega proportional to the
    root of s_j, counts and amounts alike in all
    ARE       |fit_j - b_j| / |b_j|, targets of zero left out
    ESS       (sum w)^2 / sum w^2

A target is degenerate where one record's contribution at its initial weight exceeds it. The
selection keeps exactly --keep records, shared out over districts by dense weight and drawn in each
by ``select_pairs``. Exchanges bring back the totals of the district's own and its state's variables
(--exchanges 0: none), and the same engine refits the records; Adam refits the same records too.
Adam is that of the ``gradient`` method without a prior, in log weights, learning rate 0.05
falling along a cosine. With fewer epochs than 1,500 its seconds are multiplied up, and said to be;
its loss cannot be, and stands as it is.

Belongs here: the engine as it is called, the comparison, its table. Does not belong here: the
nation and its figures (``nested_nation.py``), the selection (``nested_selection.py``), Adam
(``nested_adam.py``), the methods themselves.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from benchmarks.machine import peak_memory, this_machine
from benchmarks.nested_adam import train
from benchmarks.nested_nation import LEVELS, Figures, Measure, Nation, Size, make_nation, measure_of
from benchmarks.nested_selection import select
from calibration_core.tree.problem import PairProblem
from calibration_core.tree.select.settings import DESIGNS
from calibration_core.tree.solve.newton import TreeNewtonResult, TreeNewtonSettings, calibrate_tree

PUBLISHED_EPOCHS = 1500
# The engine's prior strength is followed down until the share of targets met within a hundredth
# rises by less than two thousandths.
TAU = (1e-6, 1e-7, 1e-8)
MET, LEAST_GAIN = 0.01, 0.002


def totals_of(problem: PairProblem, weights: np.ndarray) -> list[np.ndarray]:
    """Totals per level, computed here from the weights and the designs."""
    first = np.searchsorted(problem.leaf, np.arange(len(problem.tree.leaves) + 1))
    answers = []
    for depth, design in enumerate(problem.targets.designs):
        own = np.stack([weights[a:b] @ design[a:b] for a, b in itertools.pairwise(first)])
        answers.append(problem.tree.sum_leaves(own, depth))
    return answers


def run_engine(
    nation: Nation, measure: Measure, given: argparse.Namespace, console: Console
) -> tuple[list[Figures], PairProblem, list[str], bool]:
    """Dense, selected, refitted; the problem of the records kept; what is to be said; whether both
    solves converged.
    """
    problem, rows = nation.problem, []
    rule = {"inside": MET, "share": (1.0,) * len(LEVELS), "least_gain": LEAST_GAIN}
    settings = TreeNewtonSettings(
        tau_path=tuple(given.tau),
        **rule,
        path_tolerance=0.1,
        tolerance=1e-4,
        max_iterations=200,
        device=given.device,
        prior_unit=1.0,
    )
    with console.status("engine") as status:

        def show(step):
            return status.update(
                f"engine: tau {step.tau:g}, {step.kind}, loss {step.loss:.4g}, gradient"
                f" {step.gradient:.1e}"
            )

        began = time.perf_counter()
        dense = calibrate_tree(problem, settings, progress=show)
        seconds = time.perf_counter() - began
        rows.append(
            measure(
                "engine, dense",
                totals_of(problem, dense.weights),
                dense.weights,
                seconds,
                note=note_of(dense),
            )
        )
        began = time.perf_counter()
        selected = select(
            nation, dense.weights, given.keep, given.seed, given.exchanges, given.design
        )
        kept, seconds = selected.problem, time.perf_counter() - began
        note = (
            f"before the refit; {selected.exchanged:,} exchanged; district targets given a record"
            f" {selected.rescued:,}, left without {selected.lost:,}"
        )
        rows.append(
            measure(
                "engine, selected",
                totals_of(kept, kept.prior_weight),
                kept.prior_weight,
                seconds,
                note=note,
            )
        )
        began = time.perf_counter()
        refitted = calibrate_tree(kept, settings, progress=show)
        seconds = time.perf_counter() - began
        rows.append(
            measure(
                "engine, selected, refitted",
                totals_of(kept, refitted.weights),
                refitted.weights,
                seconds,
                note=note_of(refitted),
            )
        )
    told = [str(w) for w in (*dense.warnings, *refitted.warnings)]
    return rows, kept, told, dense.converged and refitted.converged


def run_adam(
    problems: dict[str, PairProblem], measure: Measure, given: argparse.Namespace, console: Console
) -> tuple[list[Figures], list[tuple[float, float]]]:
    """Adam on each; and (seconds, loss) after each epoch of the first."""
    rows, traces = [], []
    longer = PUBLISHED_EPOCHS / given.adam_epochs
    for name, problem in problems.items():
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task(f"Adam, {name}", total=given.adam_epochs)
            weights, seconds, trace = train(
                problem,
                given.adam_epochs,
                given.device,
                lambda task=task, progress=progress: progress.advance(task),
            )
        said = (
            f"loss as it stands after {given.adam_epochs:,}; seconds extrapolated to"
            f" {PUBLISHED_EPOCHS:,} epochs: {seconds * longer:,.0f}"
        )
        extra = {"extrapolated": seconds * longer, "note": said} if longer > 1 else {}
        rows.append(
            measure(
                f"Adam, {name}, {given.adam_epochs:,} epochs",
                totals_of(problem, weights),
                weights,
                seconds,
                **extra,
            )
        )
        traces.append(trace)
    return rows, traces[0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Invent, calibrate, select, refit, train, print; 0 if the engine converged both times."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.nested",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", type=int, default=57_240)
    parser.add_argument(
        "--exchanges",
        type=float,
        default=8.0,
        help="most exchanges after the draw for each record kept; 0: none",
    )
    parser.add_argument(
        "--design",
        choices=DESIGNS,
        default="systematic",
        help="of the draw; held totals are as many as records, so that a cube gains little",
    )
    parser.add_argument(
        "--adam-epochs", type=int, default=PUBLISHED_EPOCHS, help="0: leave Adam out"
    )
    parser.add_argument(
        "--tau",
        type=float,
        nargs="+",
        default=list(TAU),
        help="path of the engine's prior strength, down",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    console = Console(width=170)
    machine = this_machine(given.device)
    console.print(str(machine))
    began = time.perf_counter()
    nation = make_nation(
        Size(**{name: getattr(given, name) for name in asdict(Size())}), given.seed
    )
    problem = nation.problem
    measure = measure_of(nation)
    counts = (f"{v.size:,} {name}" for v, name in zip(problem.targets.values, LEVELS, strict=True))
    console.print(
        f"invented in {time.perf_counter() - began:.1f} s: {problem.leaf.size:,} records,"
        f" {problem.targets.count:,} targets"
        f" ({', '.join(counts)}),"
        f" {(problem.targets.designs[0] != 0).mean():.0%} of entries not zero,"
        f" {measure.degenerate.mean():.1%} of targets degenerate;"
        f" {int((measure.target == 0).sum())} targets are zero and left out of the ARE"
    )
    invented_memory = peak_memory()
    rows = [
        measure(
            "initial weights", totals_of(problem, problem.prior_weight), problem.prior_weight, 0.0
        )
    ]
    engine_rows, kept, warnings, honest = run_engine(nation, measure, given, console)
    rows += engine_rows
    engine_seconds, engine_memory = sum(r.seconds for r in rows), peak_memory()
    trace: list[tuple[float, float]] = []
    if given.adam_epochs:
        adam_rows, trace = run_adam(
            {"dense": problem, "on the records kept": kept}, measure, given, console
        )
        rows += adam_rows
    for printed in tables(rows):
        console.print(printed)
    console.print(
        f"engine in all {engine_seconds:.1f} s; peak memory {invented_memory:.2f} GB after"
        f" inventing, {engine_memory:.2f} GB after the engine, {peak_memory():.2f} GB at the end"
    )
    if given.adam_epochs:
        ours, adams = rows[1], rows[4]
        ratios = {
            name: getattr(ours, name) / getattr(adams, name)
            for name in ("loss", "capped", "median", "ess", "seconds")
        }
        console.print(
            "engine dense over Adam: "
            + ", ".join(f"{name} {ratio:.3f}" for name, ratio in ratios.items())
        )
        in_time = [loss for at, loss in trace if at <= ours.seconds]
        if in_time and len(in_time) < len(trace):
            console.print(
                f"in the engine's {ours.seconds:.1f} s Adam did {len(in_time):,} epochs and stood"
                f" at a loss of {in_time[-1]:,.2f}"
            )
    for warning in warnings:
        console.print(f"warning: {warning}")
    if given.json is not None:
        content = {
            "machine": machine.as_dict(),
            "size": asdict(Size(**{name: getattr(given, name) for name in asdict(Size())})),
        }
        content |= {
            "keep": given.keep,
            "seed": given.seed,
            "degenerate": float(measure.degenerate.mean()),
            "figures": [asdict(r) for r in rows],
        }
        content |= {
            "engine_seconds": engine_seconds,
            "engine_peak_gb": engine_memory,
            "peak_gb": peak_memory(),
            "warnings": warnings,
        }
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0 if honest else 1


def note_of(result: TreeNewtonResult) -> str:
    """How the solver ended."""
    return (
        f"{result.status}; tau {result.tau:g}, {result.iterations} steps, {result.factorisations}"
        f" factorisations, relative gap {result.duality_gap:.1e}"
    )


def tables(rows: Sequence[Figures]) -> list[Table]:
    """Errors; then by level, and remarks."""
    errors = Table(
        "",
        "records",
        "loss",
        "capped",
        "counts",
        "amounts",
        "not degenerate",
        "median ARE",
        "within 1 %",
        "within 10 %",
        "ESS",
        "seconds",
    )
    levels = Table(
        "", *(f"capped, {name}" for name in LEVELS), *(f"median, {name}" for name in LEVELS), ""
    )
    for r in rows:
        shares = [
            f"{v:.2%}"
            for v in (
                r.capped,
                r.capped_counts,
                r.capped_amounts,
                r.capped_not_degenerate,
                r.median,
                r.within_1,
                r.within_10,
            )
        ]
        errors.add_row(
            r.name, f"{r.records:,}", f"{r.loss:,.2f}", *shares, f"{r.ess:,.0f}", f"{r.seconds:.1f}"
        )
        levels.add_row(
            r.name,
            *(f"{v:.2%}" for v in r.capped_by_level),
            *(f"{v:.2%}" for v in r.median_by_level),
            r.note,
        )
    return [errors, levels]


if __name__ == "__main__":
    raise SystemExit(main())
