"""What limits the tree engine: its passes beside what this machine's arithmetic and memory would
allow.

    python -m benchmarks.roofline [--tracts 500] [--pool 3500] [--device cpu|cuda] [--json FILE]

Peaks are measured here, in the same process: a large matrix product in double and in single
precision, exp() of an array in cache, and a copy of an array far larger than the cache. The work of
each pass is counted from the problem's sizes; the bound is the sum of its parts at those peaks, as
if nothing else cost anything.

Belongs here: counts, peaks, the table. Does not belong here: the engine, or a whole run
(``nation.py``).
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.nation_population import tract_list
from benchmarks.nation_problem import one_state
from benchmarks.nation_states import dense_settings
from calibration_core.common.distances import Raking
from calibration_core.tree.solve.newton import calibrate_tree
from calibration_core.tree.solve.pool_blocks import PoolBlocks
from calibration_core.tree.solve.sparse_records import SparseRecords


def best(function, repeat: int = 3) -> float:
    """Least seconds of a few calls after one to warm up."""
    function()
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def peaks(device: str) -> dict[str, float]:
    """Per second: flops in double and single, exp(), bytes (read and written)."""
    size = 2000 if device == "cpu" else 8000
    double, single = (
        torch.randn(size, size, dtype=kind, device=device)
        for kind in (torch.float64, torch.float32)
    )
    small = torch.randn(
        200_000 if device == "cpu" else 50_000_000, dtype=torch.float64, device=device
    )
    large = torch.randn(50_000_000, dtype=torch.float64, device=device)
    there = torch.empty_like(large)
    return {
        "double": 2 * size**3 / best(lambda: double @ double),
        "single": 2 * size**3 / best(lambda: single @ single),
        "exp": small.numel() / best(lambda: torch.exp(small), 10),
        "bytes": 2 * large.numel() * 8 / best(lambda: there.copy_(large)),
    }


def work(blocks: PoolBlocks) -> dict[str, dict[str, float]]:
    """Flops (double, single) and exps of each pass, from the sizes of the problem."""
    leaves, nodes = blocks.tree.sizes[-1], blocks.tree.sizes[-2]
    pairs, p = float(leaves * blocks.records), blocks.width
    extra, above = blocks.beyond, blocks.distinct
    columns, own, beside = blocks.pools.of(0).columns, pairs * p * (p + 1), 2 * pairs * p * extra
    if isinstance(columns, SparseRecords):
        own, beside = 2.0 * leaves * columns.rows.products, 0.0
    linear = (
        leaves * (p**3 / 3 + p * p * above + 2 * p * above**2)
        + 2 * nodes * blocks.records * extra * above
    )
    stored = 8.0 * leaves * p * (p + above)
    return {
        "evaluate": {"double": 4 * pairs * p, "exp": pairs},
        "largest rise": {"double": 4 * pairs * p},
        "factor": {
            "double": 2 * pairs * p + own + linear,
            "single": beside,
            "exp": pairs,
            "bytes": stored,
        },
        "solve": {"double": leaves * (4 * p * p + 4 * p * above), "bytes": stored},
    }


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.roofline", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--tracts", type=int, default=500)
    parser.add_argument("--pool", type=int, default=3500)
    parser.add_argument("--geo", type=Path)
    parser.add_argument("--seed", type=int, default=20260101)
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=140)
    name = (
        torch.cuda.get_device_name()
        if options.device == "cuda"
        else f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )
    peak = peaks(options.device)
    console.print(
        f"{name}: {peak['double'] / 1e9:.0f} Gflop/s double, {peak['single'] / 1e9:.0f} single, "
        f"{peak['exp'] / 1e9:.2f} G exp/s in double, {peak['bytes'] / 1e9:.1f} GB/s copied"
    )
    geography = tract_list(options.geo, None, options.tracts, options.seed)
    largest = (
        geography.group_by("state").len().sort("len", "state", descending=[True, False])["state"][0]
    )
    problem, _ = one_state(
        geography.filter(geography["state"] == largest), options.pool, options.seed
    )
    blocks, link = PoolBlocks(problem, options.device), Raking()
    result = calibrate_tree(problem, dense_settings(options.device))
    y = [
        torch.as_tensor(a, device=options.device) * i
        for a, i in zip(result.multipliers, blocks.inverse, strict=True)
    ]
    factor = blocks.factor(y, link, result.tau)
    rhs = [torch.as_tensor(np.ones(a.shape), device=options.device) for a in result.multipliers]
    measured = {
        "evaluate": best(lambda: blocks.evaluate(y, link)),
        "largest rise": best(lambda: blocks.largest_rise(y, y, 5.0)),
        "factor": best(lambda: blocks.factor(y, link, result.tau)),
        "solve": best(lambda: factor.solve(rhs)),
    }
    table = Table(
        title=(
            f"{problem.tree.sizes[-1]:,} tracts x {blocks.records:,} households,"
            f" {blocks.width} tract variables, {blocks.distinct} above"
        )
    )
    for column in (
        "pass",
        "ms",
        "bound, ms",
        "of the bound",
        "double Gflop",
        "single Gflop",
        "limited by",
    ):
        table.add_column(column, justify="left" if column in ("pass", "limited by") else "right")
    figures = []
    for name_of, parts in work(blocks).items():
        bounds = {part: amount / peak[part] for part, amount in parts.items()}
        bound = sum(bounds.values())
        share = bound / measured[name_of]
        table.add_row(
            name_of,
            f"{1e3 * measured[name_of]:.1f}",
            f"{1e3 * bound:.1f}",
            f"{share:.0%}",
            f"{parts.get('double', 0) / 1e9:.2f}",
            f"{parts.get('single', 0) / 1e9:.2f}",
            max(bounds, key=bounds.get),
        )
        figures.append(
            {"pass": name_of, "seconds": measured[name_of], "bound_seconds": bound, "parts": bounds}
        )
    console.print(table)
    spent = result.factorisations * measured["factor"]
    console.print(
        f"dense calibration: {result.seconds:.2f} s, {result.iterations} steps,"
        f" {result.factorisations} factorisations ({spent / result.seconds:.0%} of the time);"
        f" {'converged' if result.converged else 'NOT CONVERGED'}"
    )
    if options.json:
        options.json.write_text(
            json.dumps(
                {"device": name, "peaks": peak, "passes": figures, "seconds": result.seconds},
                indent=1,
            )
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
