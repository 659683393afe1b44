"""Our methods and, if asked, every peer that is installed, timed on one problem, one process after
another.

    python -m benchmarks.methods --records 100000 --targets 126 [--peers] [--peers-python PATH]
    [--repeat 3] [--only WORD ...]

Tasks: ``kl`` exact Kullback-Leibler on all rows, ``linear`` chi-square, ``truncated``, ``logit``
and ``bounded_kl`` with bounds on w/d, ``margins`` Kullback-Leibler on the categorical rows alone.
Each contender runs in a process of its own, is given the data as a file and hands back weights;
errors are computed here from those weights, never taken from the contender. Seconds are the least
of --repeat calls without imports and reading; memory is the peak of resident memory over what it
was with the data loaded.

Belongs here: the problem, judging, the table. Does not belong here: who is compared
(``contenders.py``), the processes (``contender_runs.py``), how a peer is called (``peers/``).
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.contender_runs import Limits, run_contender
from benchmarks.contenders import OURS, PEERS, REFERENCE, Contender, installed
from benchmarks.problems import margins_and_amounts
from calibration_core import METHODS, CalibrationProblem

LEVELS = 5
BOUNDS = (0.4, 2.5)
# A target counts as met within this, whoever fitted it.
MET = 1e-6


@dataclass(frozen=True)
class Line:
    """What came of one contender; NaN where it has no such figure. ``error`` and ``difference`` are
    computed from its weights here.
    """

    contender: Contender
    seconds: float = float("nan")
    first: float = float("nan")
    error: float = float("nan")
    difference: float = float("nan")
    claims: bool | None = None
    memory: float = float("nan")
    remark: str = ""
    version: str = ""
    weights: np.ndarray | None = None


def shape_of(targets: int) -> tuple[int, int]:
    """(margins of five levels, amounts): 126 targets are 24 and 6, other numbers in about that
    proportion.
    """
    margins = max(1, min(round(targets * 24 / 126), (targets - 1) // LEVELS))
    if targets < LEVELS:
        raise SystemExit(f"--targets is {targets}; at least {LEVELS} are needed, one margin")
    return margins, targets - margins * LEVELS


def write_problem(problem: CalibrationProblem, margins: int, path: Path) -> int:
    """Write the neutral form that runners read; returns the bytes of the problem (sparse matrix,
    weights, targets).
    """
    rows = (
        problem.matrix.target_major().toarray()
        if problem.matrix.is_sparse
        else problem.matrix.target_major()
    )
    indicators, amounts = (
        rows[: margins * LEVELS].reshape(margins, LEVELS, -1),
        rows[margins * LEVELS :],
    )
    codes = indicators.argmax(axis=1).T.astype(np.int32)
    low, high = BOUNDS
    targets = problem.targets
    np.savez(
        path,
        codes=codes,
        amounts=np.ascontiguousarray(amounts.T),
        weights=problem.start,
        margin_targets=targets[: margins * LEVELS].reshape(margins, LEVELS),
        amount_targets=targets[margins * LEVELS :],
        low=low,
        high=high,
    )
    return problem.matrix.nbytes + problem.start.nbytes + targets.nbytes


def judge(
    c: Contender,
    problem: CalibrationProblem,
    margins: int,
    report: dict,
    weights: np.ndarray | None,
    reference: np.ndarray | None,
) -> Line:
    """The line of a contender. All rows count, those it was not given too."""
    if "error" in report or weights is None:
        return Line(
            c, remark=report.get("error", "no weights came back"), version=report.get("version", "")
        )
    remarks = [report["note"]] if report.get("note") else []
    if weights.shape != problem.start.shape or not np.isfinite(weights).all():
        return Line(
            c,
            report["seconds"],
            report["first"],
            claims=report["claims"],
            remark="weights are missing or not finite",
            version=report.get("version", ""),
        )
    rows = slice(None, margins * LEVELS) if c.task == "margins" else slice(None)
    error = float(
        (np.abs(problem.matrix.totals(weights) - problem.targets) / problem.relative_scale)[
            rows
        ].max()
    )
    difference = (
        float((np.abs(weights - reference) / problem.start).max())
        if reference is not None
        else float("nan")
    )
    if report["claims"] and error > MET:
        remarks.append("claims convergence, is off")
    if (weights < 0).any():
        remarks.append(f"{int((weights < 0).sum()):,} negative weights")
    if c.task in ("truncated", "logit", "bounded_kl"):
        ratio = weights / problem.start
        outside = int(((ratio < BOUNDS[0] - 1e-9) | (ratio > BOUNDS[1] + 1e-9)).sum())
        remarks += [f"{outside:,} weights out of bounds"] if outside else []
    if report.get("said"):
        remarks.append(report["said"])
    return Line(
        c,
        report["seconds"],
        report["first"],
        error,
        difference,
        report["claims"],
        report["memory"],
        "; ".join(remarks),
        report.get("version", ""),
        weights,
    )


def compare(arguments: argparse.Namespace, console: Console) -> tuple[list[Line], int]:
    """Run every contender asked for; returns the lines and the bytes of the problem."""
    margins, amounts = shape_of(arguments.targets)
    problem = margins_and_amounts(arguments.records, margins, LEVELS, amounts, arguments.seed)
    limits = Limits(
        arguments.limit, arguments.memory_limit * 1e9, arguments.repeat, arguments.threads
    )
    wanted = [
        c
        for c in (*OURS, *(PEERS if arguments.peers else ()))
        if not arguments.only or any(w in f"{c.task} {c.label}" for w in arguments.only)
    ]
    there = installed(arguments.peers_python, {c.module for c in wanted})
    lines: list[Line] = []
    references: dict[str, np.ndarray] = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = folder / "data.npz"
        size = write_problem(problem, margins, data)
        # References first, so that every other weight can be compared with them.
        for c in sorted(
            wanted,
            key=lambda c: (list(REFERENCE).index(c.task), not _is_reference(c), bool(c.module)),
        ):
            reason = _not_run(c, there, arguments)
            if reason:
                lines.append(Line(c, remark=reason))
                continue
            report, weights = run_contender(
                c, sys.executable if not c.module else arguments.peers_python, data, folder, limits
            )
            line = judge(c, problem, margins, report, weights, references.get(c.task))
            if _is_reference(c) and line.weights is not None:
                references[c.task] = line.weights
            lines.append(line)
            console.print(
                f"  {c.task} {c.label}: {line.seconds:.3f} s {line.remark}",
                markup=False,
                highlight=False,
            )
    return lines, size


def _is_reference(c: Contender) -> bool:
    return not c.module and c.label == f"geocal {REFERENCE[c.task]}"


def _not_run(c: Contender, there: set[str], arguments: argparse.Namespace) -> str:
    method = c.argument.rpartition("/")[2]
    if not c.module:
        return "" if method in METHODS else "not run: no such method"
    if c.module not in there:
        return (
            f"not run: {'Rscript with the package survey' if c.module == 'R' else c.module} is not"
            " installed"
        )
    if arguments.records > c.most_records and not arguments.only:
        return f"not run: more than {c.most_records:,} records (name it in --only to run it)"
    return ""


def report(lines: list[Line], size: int, console: Console) -> None:
    """Print the table: one block per task."""
    table = Table()
    for heading in (
        "task",
        "contender",
        "seconds",
        "first call",
        "x ours",
        "largest target error",
        "differs from ours",
        "claims",
        "peak MB",
        "x data",
        "remark",
    ):
        table.add_column(
            heading,
            justify="left" if heading in ("task", "contender", "remark") else "right",
            overflow="fold",
        )
    ours = {line.contender.task: line.seconds for line in lines if _is_reference(line.contender)}

    def show(x, form):
        return "-" if np.isnan(x) else format(x, form)

    before = None
    for line in lines:
        c = line.contender
        if before not in (None, c.task):
            table.add_section()
        before = c.task
        ratio = line.seconds / ours.get(c.task, float("nan"))
        claims = "-" if line.claims is None else "converged" if line.claims else "not converged"
        label = f"{c.label} {line.version}" if c.module and line.version else c.label
        table.add_row(
            c.task,
            label,
            show(line.seconds, ".3f"),
            show(line.first, ".3f"),
            show(ratio, ".2f"),
            show(line.error, ".1e"),
            show(line.difference, ".1e"),
            claims,
            show(line.memory / 1e6, ".0f"),
            show(line.memory / size, ".1f"),
            line.remark,
        )
    console.print(table)
    for task in ("kl", "linear", "truncated", "logit", "margins"):
        exact = [
            line
            for line in lines
            if line.contender.task == task and line.contender.module and line.error <= MET
        ]
        if exact and task in ours:
            fastest = min(exact, key=lambda line: line.seconds)
            share = ours[task] / fastest.seconds
            console.print(
                f"{task}: ours takes {share:.2f} of the fastest peer that meets every target within"
                f" {MET:g} ({fastest.contender.label})",
                highlight=False,
            )


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--records", type=int, default=100_000)
    p.add_argument("--targets", type=int, default=126)
    p.add_argument("--seed", type=int, default=1)
    p.add_argument("--peers", action="store_true", help="run every peer that is installed, too")
    p.add_argument(
        "--peers-python",
        default=sys.executable,
        metavar="PATH",
        help="interpreter that has the peers (default: this one)",
    )
    p.add_argument(
        "--only",
        nargs="+",
        metavar="WORD",
        help="run only contenders whose task or name contains one of these",
    )
    p.add_argument(
        "--repeat",
        type=int,
        default=3,
        help="calls of each; the least is shown (fewer for those that would pass half the limit)",
    )
    p.add_argument(
        "--limit", type=float, default=300.0, help="seconds for one contender, everything included"
    )
    p.add_argument(
        "--memory-limit", type=float, default=8.0, help="GB of resident memory for one contender"
    )
    p.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    return p


def main(argv: list[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    console = Console()
    if console.width < 200 and not console.is_terminal:
        console = Console(width=200)
    margins, amounts = shape_of(arguments.targets)
    console.print(
        f"{arguments.records:,} records x {arguments.targets} targets ({margins} margins of"
        f" {LEVELS} levels, {amounts} amounts), seed {arguments.seed}; bounds where bounded"
        f" {BOUNDS[0]} to {BOUNDS[1]}; {platform.machine()}, {os.cpu_count()} cores,"
        f" {arguments.threads} threads; least of {arguments.repeat} calls",
        highlight=False,
    )
    lines, size = compare(arguments, console)
    console.print(f"data: {size / 1e6:.1f} MB (sparse matrix, weights, targets)", highlight=False)
    report(lines, size, console)
    ours_failed = [
        line
        for line in lines
        if not line.contender.module
        and (line.weights is None and not line.remark.startswith("not run"))
    ]
    return 1 if ours_failed else 0


if __name__ == "__main__":
    sys.exit(main())
