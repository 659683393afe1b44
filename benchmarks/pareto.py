"""Error against records kept, for every sparse method on the same problems: who gives up what for a
smaller file.

    python -m benchmarks.pareto [--scenario all|simple|joint|continuous|complex] [--sparsity .5 .8
                                .9 .95 .98] [--seeds 3] [--out DIR] [--sample STATE] [--methods NAME
                                ...] [--epochs N]

On the synthetic population of "Sparse Calibration for Microdata Synthesis" and, with --sample, on
households and targets of a state of the project's own synthetic sample. Each method is asked for
exactly k records; the table gives the records it kept, the paper's loss sum_j ((fit - b) / (b +
1))^2, median and worst relative error, effective sample size and seconds: medians over seeds, the
worst error the largest. Methods that this checkout does not have are named and left out. --out gets
pareto.json and a PNG a problem.

Belongs here: the comparison, its table and plots. Does not belong here: populations
(``paper_population.py``, ``sample_problem.py``), methods.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.paper_population import SCENARIOS, paper_population
from calibration_core import CalibrationProblem, CalibrationResult, calibrate

# label -> (method, settings); the number of records and the seed are added.
METHODS = {
    "cross_category, IPF (paper)": ("cross_category", {"refit": "ipf"}),
    "cross_category, raking": ("cross_category", {"refit": "raking"}),
    "hybrid": ("hybrid", {}),
    "hard_concrete": ("hard_concrete", {"refit": False}),
    "hard_concrete, refit": ("hard_concrete", {}),
    "reweighted_l1, refit": ("reweighted_l1", {}),
    "random, refit": ("random_subset", {}),
}
SPARSITY = (0.5, 0.8, 0.9, 0.95, 0.98)


@dataclass(frozen=True)
class Point:
    """One method at one k and seed. Errors are relative; targets of zero are left out of them and
    counted in ``zero_targets``.
    """

    problem: str
    method: str
    sparsity: float
    seed: int
    asked: int
    kept: int
    loss: float
    median_error: float
    worst_error: float
    effective_sample_size: float
    seconds: float
    converged: bool
    zero_targets: int = 0


def available() -> dict[str, tuple[str, dict]]:
    """The methods above whose module exists."""
    return {
        label: found
        for label, found in METHODS.items()
        if importlib.util.find_spec(f"calibration_core.flat.methods.{found[0]}") is not None
    }


def paper_loss(result: CalibrationResult) -> float:
    """sum_j ((fitted - b) / (b + 1))^2, with |b| so that a signed target cannot divide
    by nothing.
    """
    return float(((result.residuals / (np.abs(result.problem.targets) + 1.0)) ** 2).sum())


def measure(
    problem: CalibrationProblem,
    name: str,
    label: str,
    sparsity: float,
    seed: int,
    extra: dict | None = None,
) -> Point:
    """One run of one method."""
    method, settings = METHODS[label]
    asked = round(problem.matrix.records * (1.0 - sparsity))
    settings = {**settings, **(extra or {}), "records": asked}
    if method != "reweighted_l1":  # it draws nothing at random
        settings["seed"] = seed
    result = calibrate(problem, method, **settings)
    error = result.relative_errors[np.isfinite(result.relative_errors)]
    return Point(
        problem=name,
        method=label,
        sparsity=sparsity,
        seed=seed,
        asked=asked,
        kept=int(result.selected.size),
        loss=paper_loss(result),
        median_error=float(np.median(error)),
        worst_error=float(error.max()),
        effective_sample_size=result.effective_sample_size,
        seconds=result.seconds,
        converged=result.converged,
        zero_targets=int((problem.targets == 0).sum()),
    )


def trace(
    problems: dict[str, CalibrationProblem],
    labels: Iterable[str],
    sparsities: Sequence[float],
    seeds: int,
    extra: dict,
    console: Console,
) -> list[Point]:
    """Every method on every problem at every sparsity, seed by seed."""
    tasks = [(name, label, s) for name in problems for s in sparsities for label in labels]
    points = []
    for name, label, sparsity in track(
        tasks, description="methods", console=console, transient=True
    ):
        settings = extra if METHODS[label][0] == "hard_concrete" else {}
        repeats = 1 if METHODS[label][0] == "reweighted_l1" else seeds
        points += [
            measure(problems[name], name, label, sparsity, seed, settings)
            for seed in range(repeats)
        ]
    return points


def summarise(points: Sequence[Point]) -> list[dict]:
    """One row a problem, sparsity and method: medians over seeds, ranges of records kept, the
    largest worst error.
    """
    rows = []
    for key in dict.fromkeys((p.problem, p.sparsity, p.method) for p in points):
        of = [p for p in points if (p.problem, p.sparsity, p.method) == key]
        middle = {
            f: float(np.median([getattr(p, f) for p in of]))
            for f in ("loss", "median_error", "effective_sample_size", "seconds")
        }
        rows.append(
            {
                "problem": key[0],
                "sparsity": key[1],
                "method": key[2],
                "asked": of[0].asked,
                "kept": sorted({p.kept for p in of}),
                **middle,
                "worst_error": max(p.worst_error for p in of),
                "converged": sum(p.converged for p in of),
                "seeds": len(of),
            }
        )
    return rows


def tables(rows: Sequence[dict]) -> Iterable[Table]:
    """One table a problem."""
    for problem in dict.fromkeys(row["problem"] for row in rows):
        table = Table(
            "sparsity",
            "method",
            "asked",
            "kept",
            "loss",
            "median error",
            "worst error",
            "ESS",
            "s",
            "converged",
            title=problem,
        )
        before = None
        for row in (r for r in rows if r["problem"] == problem):
            if before not in (None, row["sparsity"]):
                table.add_section()
            before = row["sparsity"]
            kept = " to ".join(f"{k:,}" for k in dict.fromkeys((row["kept"][0], row["kept"][-1])))
            figures = (
                f"{row['loss']:.1e}",
                f"{row['median_error']:.1e}",
                f"{row['worst_error']:.1e}",
                f"{row['effective_sample_size']:,.0f}",
            )
            table.add_row(
                f"{row['sparsity']:.0%}",
                row["method"],
                f"{row['asked']:,}",
                kept,
                *figures,
                f"{row['seconds']:.2f}",
                f"{row['converged']} of {row['seeds']}",
            )
        yield table


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, run, print, write."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.pareto",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--scenario", choices=("all", "none", *SCENARIOS), default="all")
    parser.add_argument("--sparsity", type=float, nargs="+", default=list(SPARSITY))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument(
        "--records", type=int, default=5000, help="records of the paper's population"
    )
    parser.add_argument("--out", type=Path)
    parser.add_argument(
        "--sample",
        nargs="?",
        const="RI",
        metavar="STATE",
        help="also a state of the synthetic sample (default RI)",
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        metavar="NAME",
        help="only methods whose label contains one of these",
    )
    parser.add_argument("--epochs", type=int, help="epochs of hard_concrete; default its own")
    given = parser.parse_args(arguments)
    console = Console(width=140)
    labels = available()
    for label in METHODS:
        if label not in labels:
            console.print(
                f"left out: {label} (no module calibration_core.flat.methods.{METHODS[label][0]})"
            )
    if given.methods:
        labels = {
            label: found
            for label, found in labels.items()
            if any(name in label for name in given.methods)
        }
    scenarios = (
        SCENARIOS
        if given.scenario == "all"
        else ()
        if given.scenario == "none"
        else (given.scenario,)
    )
    problems = {
        f"paper: {scenario}": paper_population(scenario, given.records) for scenario in scenarios
    }
    if given.sample:
        from benchmarks.sample_problem import sample_problem

        with tempfile.TemporaryDirectory() as folder:
            problems[f"SYNTHETIC sample: {given.sample}"] = sample_problem(
                given.sample, Path(folder)
            )
    for name, problem in problems.items():
        console.print(f"{name}: {problem.size[1]:,} records x {problem.size[0]:,} targets")
    extra = {} if given.epochs is None else {"epochs": given.epochs}
    points = trace(problems, labels, given.sparsity, given.seeds, extra, console)
    rows = summarise(points)
    for table in tables(rows):
        console.print(table)
    if given.out is not None:
        from benchmarks.pareto_figures import figures

        given.out.mkdir(parents=True, exist_ok=True)
        facts = {
            "machine": platform.processor() or platform.machine(),
            "python": platform.python_version(),
            "numpy": np.__version__,
        }
        content = {"facts": facts, "points": [asdict(p) for p in points], "summary": rows}
        (given.out / "pareto.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
        for name, picture in figures(rows).items():
            (given.out / name).write_bytes(picture)
            console.print(f"wrote {given.out / name} ({len(picture) / 1000:.0f} kB)")


if __name__ == "__main__":
    main()
