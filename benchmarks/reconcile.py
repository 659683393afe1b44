"""Reconciliation on the real tree of tracts, from 250 of them to all: seconds, growth, memory, and
Nixtla's MinTrace on the same tables.

    python -m benchmarks.reconcile [DIR] [--tracts N ...] [--variables 50] [--repeat 3] [--seed 1]
                                   [--json FILE] [--peers-python PATH] [--peer-variables 1] [--limit
                                   120] [--memory-limit 6]

DIR is a folder with the Census list of 2020 tracts (anywhere below it); without one a tree of like
size is generated. Smaller sizes are whole states of it. Estimates are true totals with an error of
each area's own: tracts as in a survey (a margin that grows with the root of the count, and never
below 12), counties, states and the nation closer. Nothing published is negative, so tracts near
zero must be held there once levels are made to agree. One tract and county estimate in a hundred is
missing, and a third of the variables are exact for the nation.

--peers-python names the interpreter of an environment with hierarchicalforecast. Its MinTrace
(method wls_var, one variance per series) is then given the same tables, all known and none exact,
since it takes no others: dense and sparse, free and non-negative. Each runs in a process of its own
under a limit of time and memory, and answers are compared with ours.

Belongs here: timing, the comparison. Does not belong here: the problem (``reconcile_tables.py``),
reconciling (``calibration_core/tree/reconcile/levels.py``), the package's interface
(``peers/run_hierarchicalforecast.py``).
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
from rich.console import Console
from rich.table import Table

from benchmarks.contender_runs import Limits, run_contender
from benchmarks.contenders import Contender, installed
from benchmarks.machine import peak_memory, this_machine
from benchmarks.reconcile_tables import LEVELS, Tables, about, area_list, make_tables, with_holes
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.reconcile.levels import ReconcileResult, reconcile_tree

SIZES = (250, 2_500, 25_000, 85_452)
PACKAGE = "hierarchicalforecast"
PEERS = tuple(
    Contender(
        "reconcile",
        f"MinTrace {form}, {sign}",
        "run_hierarchicalforecast.py",
        f"{form}/{sign}",
        PACKAGE,
    )
    for form in ("dense", "sparse")
    for sign in ("free", "nonnegative")
)


@dataclass(frozen=True)
class Line:
    """What ours did at one size. ``node_us`` is microseconds per node and variable; ``gap`` the
    largest difference between an area and the sum of its parts, relative; ``bytes_bound`` the
    seconds it would take to read and write every array once at the speed of a copy.
    """

    tracts: int
    nodes: int
    variables: int
    tree_seconds: float
    seconds: float
    node_us: float
    rounds: int
    held: int
    missing: int
    converged: bool
    gap: float
    chi_square_ratio: float
    bytes_bound: float
    memory_gb: float


@dataclass(frozen=True)
class PeerLine:
    """What a peer did at one size, per variable: seconds beside ours for the same ones, and the
    largest difference from our answer in standard errors of the estimates.
    """

    tracts: int
    label: str
    version: str
    variables: int
    seconds: float
    ours: float
    memory_gb: float
    difference: float
    remark: str


def time_ours(tables: Tables, repeat: int, **options) -> tuple[float, ReconcileResult]:
    """Least seconds of ``repeat`` calls, and the answer."""
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        result = reconcile_tree(tables.tree, tables.y, tables.v, **options)
        seconds.append(time.perf_counter() - began)
    return min(seconds), result


def copy_speed() -> float:
    """Bytes per second, read and written, of a copy far larger than the cache."""
    source = np.ones(20_000_000)
    there, seconds = np.empty_like(source), []
    for _ in range(4):
        began = time.perf_counter()
        np.copyto(there, source)
        seconds.append(time.perf_counter() - began)
    return 2 * source.nbytes / min(seconds)


def measure(
    areas: pl.DataFrame, tracts: int, arguments: argparse.Namespace, speed: float
) -> tuple[Line, Tables]:
    """Build the tree and the tables of one size, reconcile, and check that levels add up."""
    chosen = about(areas, tracts, arguments.seed)
    columns = [[""] * chosen.height, *(chosen[name].to_list() for name in LEVELS[1:])]
    began = time.perf_counter()
    tree = GeographyTree.from_leaves(LEVELS, columns)
    built = time.perf_counter() - began
    tables = make_tables(tree, arguments.variables, arguments.seed)
    seconds, result = time_ours(
        with_holes(tables, arguments.seed),
        arguments.repeat if tree.sizes[-1] > 5_000 else 5 * arguments.repeat,
    )
    nodes, ratio = sum(tree.sizes), result.chi_square / np.maximum(result.degrees_of_freedom, 1)
    line = Line(
        tree.sizes[-1],
        nodes,
        arguments.variables,
        built,
        seconds,
        1e6 * seconds / nodes / arguments.variables,
        result.iterations,
        int(result.pinned.sum()),
        int(sum(np.isinf(v).sum() for v in result.variances)),
        result.converged,
        adding_up(tree, result),
        float(np.median(ratio)),
        5 * 8 * nodes * arguments.variables / speed,
        peak_memory(),
    )
    return line, tables


def adding_up(tree: GeographyTree, result: ReconcileResult) -> float:
    """Largest |area - sum of its parts| over the area, where all are known."""
    worst = 0.0
    for depth in range(1, len(tree.levels)):
        whole, total = result.values[depth - 1], tree.sum_to_parent(result.values[depth], depth)
        gap = np.abs(whole - total) / np.maximum(np.abs(whole), 1.0)
        worst = max(worst, float(np.nanmax(gap, initial=0.0)))
    return worst


def run_peers(
    tables: Tables, arguments: argparse.Namespace, given_up: set[str], console: Console
) -> list[PeerLine]:
    """Every form of the peer on the first variables of these tables; ``given_up`` grows by those
    that ran into a limit.
    """
    picked = np.linspace(
        0, tables.y[0].shape[1] - 1, min(arguments.peer_variables, tables.y[0].shape[1])
    ).astype(int)
    some = replace(tables, y=[a[:, picked] for a in tables.y], v=[a[:, picked] for a in tables.v])
    limits, lines = Limits(arguments.limit, arguments.memory_limit * 1e9, 1, arguments.threads), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        parents = {f"parent_{d}": p for d, p in enumerate(tables.tree.parents) if d}
        np.savez(folder / "data.npz", y=np.concatenate(some.y), v=np.concatenate(some.v), **parents)
        for peer in PEERS:
            tracts = tables.tree.sizes[-1]
            if peer.label in given_up:
                lines.append(
                    PeerLine(
                        tracts,
                        peer.label,
                        "",
                        0,
                        *[float("nan")] * 4,
                        "not run: the size before was too much",
                    )
                )
                continue
            seconds, ours = time_ours(
                some, 3, nonnegative=np.full(picked.size, peer.argument.endswith("nonnegative"))
            )
            report, answer = run_contender(
                peer, arguments.peers_python, folder / "data.npz", folder, limits
            )
            line = _judge(peer, tracts, some, report, answer, ours, seconds / picked.size)
            if "error" in report:
                given_up.add(peer.label)
            console.print(
                f"  {tracts:,} tracts, {peer.label}: {line.seconds:.3f} s per variable"
                f" {line.remark}",
                markup=False,
                highlight=False,
            )
            lines.append(line)
    return lines


def _judge(
    peer: Contender,
    tracts: int,
    tables: Tables,
    report: dict,
    answer: np.ndarray | None,
    ours: ReconcileResult,
    seconds: float,
) -> PeerLine:
    nan, count = float("nan"), tables.y[0].shape[1]
    if "error" in report or answer is None:
        return PeerLine(
            tracts,
            peer.label,
            report.get("version", ""),
            count,
            nan,
            seconds,
            nan,
            nan,
            report.get("error", "no answer came back"),
        )
    mine, error = np.concatenate(ours.values), np.sqrt(np.concatenate(tables.v))
    off = float((np.abs(answer - mine) / error).max())
    gap = np.abs(answer[0] - answer[-tracts:].sum(axis=0)) / np.abs(answer[0])
    remarks = [f"its levels are {gap.max():.0e} apart"] if gap.max() > 1e-9 else []
    if peer.argument.endswith("nonnegative") and answer.min() < 0:
        remarks.append(f"{int((answer < 0).sum()):,} negative values")
    own, theirs = _objective(mine, tables), _objective(answer, tables)
    if abs(theirs - own) > 1e-9 * own:
        remarks.append(f"its sum of squares is {theirs / own - 1:+.1e} of ours")
    return PeerLine(
        tracts,
        peer.label,
        report.get("version", ""),
        count,
        report["seconds"] / count,
        seconds,
        report["memory"] / 1e9,
        off,
        "; ".join(remarks),
    )


def _objective(x: np.ndarray, tables: Tables) -> float:
    return float(((x - np.concatenate(tables.y)) ** 2 / np.concatenate(tables.v)).sum())


def show(lines: list[Line], peers: list[PeerLine], console: Console) -> None:
    """Print both tables."""
    table = Table(
        "tracts", *(f"{a.tracts:,}" for a in lines), title=f"geocal, {lines[0].variables} variables"
    )
    for column in table.columns[1:]:
        column.justify = "right"
    rows = {
        "areas": lambda a: f"{a.nodes:,}",
        "tree built, s": lambda a: f"{a.tree_seconds:.3f}",
        "reconciled, s": lambda a: (
            f"{a.seconds:.4f}" if a.converged else f"{a.seconds:.4f}, not settled"
        ),
        "us per area and variable": lambda a: f"{a.node_us:.4f}",
        "the same, x the smallest size's": lambda a: f"{a.node_us / lines[0].node_us:.2f}",
        "one copy of its arrays, s": lambda a: f"{a.bytes_bound:.4f}",
        "rounds": lambda a: str(a.rounds),
        "held at zero": lambda a: f"{a.held:,}",
        "unknown": lambda a: f"{a.missing:,}",
        "levels add up to": lambda a: f"{a.gap:.0e}",
        "chi-square / df, median": lambda a: f"{a.chi_square_ratio:.2f}",
        "peak memory, GB": lambda a: f"{a.memory_gb:.2f}",
    }
    for name, cell in rows.items():
        table.add_row(name, *map(cell, lines))
    console.print(table)
    if not peers:
        return
    table = Table(
        "tracts",
        "contender",
        "seconds",
        "geocal",
        "x",
        "GB",
        "differs, SE",
        "remark",
        title="one variable at a time, each with a process of its own for the peer",
    )

    def form(x, f):
        return "-" if np.isnan(x) else format(x, f)

    for p in peers:
        ratio = p.seconds / p.ours
        cells = (
            form(p.seconds, ".4f"),
            form(p.ours, ".5f"),
            form(ratio, ",.0f"),
            form(p.memory_gb, ".2f"),
            form(p.difference, ".1e"),
        )
        table.add_row(f"{p.tracts:,}", f"{p.label} {p.version}".strip(), *cells, p.remark)
    console.print(table)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--tracts", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--variables", type=int, default=50)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peers-python", default="")
    parser.add_argument("--peer-variables", type=int, default=1)
    parser.add_argument("--limit", type=float, default=120.0)
    parser.add_argument("--memory-limit", type=float, default=6.0)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args(argv)
    console = Console()
    machine = this_machine()
    console.print(str(machine), markup=False, highlight=False)
    areas, speed = area_list(arguments.folder, arguments.seed), copy_speed()
    console.print(
        f"{'the Census list' if arguments.folder else 'a generated list'} of {areas.height:,}"
        f" tracts; a copy moves {speed / 1e9:.1f} GB/s"
    )
    there = bool(arguments.peers_python) and PACKAGE in installed(arguments.peers_python, {PACKAGE})
    if arguments.peers_python and not there:
        console.print(f"{PACKAGE} is not installed for {arguments.peers_python}: ours alone")
    lines, peers, given_up = [], [], set()
    for tracts in sorted(arguments.tracts):
        line, tables = measure(areas, tracts, arguments, speed)
        console.print(f"  {line.tracts:,} tracts: {line.seconds:.4f} s", highlight=False)
        lines.append(line)
        if there:
            peers += run_peers(tables, arguments, given_up, console)
    show(lines, peers, console)
    if arguments.json:
        figures = {
            "machine": machine.as_dict(),
            "lines": [asdict(a) for a in lines],
            "peers": [asdict(p) for p in peers],
        }
        arguments.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")
    return 0 if all(a.converged for a in lines) else 1


if __name__ == "__main__":
    sys.exit(main())
