"""One number of pairs, spread over areas in four ways: seconds of selection by part, and what the
exchanges leave of the draw's error.

    python -m benchmarks.selection_spread [--pairs 15000] [--areas 250 25 5 1] [--records 40000]
    [--three-levels] [--draw random] [--json FILE]

An invented pool is shared by 250 tracts. Fewer areas are tracts put together in order, so that
dense weights, targets and known variables are of the same households however pairs are spread.
Records must be more than the pairs of the largest area. ``--three-levels`` puts a level of five
regions between the state and its areas; ``--draw random`` draws with Sampford's design instead of
the cube. Processor seconds say more than the clock's where others work on the machine too.

Belongs here: that pool, the parts' seconds, the table. Does not belong here: the selection
(``calibration_core/tree/select``), rivals at equal k (``selection.py``).
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.machine import this_machine
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.select import joint, pairs
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import JointSettings, SelectionSettings

TRACTS, TARGETS, KNOWN = 250, 66, 240
# A tract's households, and what its published totals err by: a sample of one in ten.
HOMES, SAMPLED = 1_600, 0.1
_KINDS = (5, 2, 3, 4)
# Which functions of the selection each part of the table is.
PARTS = {
    "balance": [(joint, "balance_of")],
    "candidates": [(pairs, "first_phase")],
    "rounding": [(pairs, "round_cells")],
    "draw": [(pairs, "draw_cube"), (pairs, "draw_sampford")],
    "exchange": [(pairs, "exchange")],
    "refits": [(joint, "refine_pairs")],
    "support": [(joint, "ensure_support")],
}


@dataclass(frozen=True, eq=False)
class Invented:
    """A pool of records and the dense weights of the tracts: ``own`` (records, TARGETS), ``known``
    (records, KNOWN), ``cell`` and ``income`` (records,), ``dense`` (TRACTS, records) float64."""

    own: np.ndarray
    known: np.ndarray
    cell: np.ndarray
    income: np.ndarray
    dense: np.ndarray
    classes: tuple[np.ndarray, ...]


def invent(records: int, seed: int = 1) -> Invented:
    """Records of four latent traits: small counts and amounts as targets, rarer counts as known."""
    rng = np.random.default_rng(seed)
    traits = rng.normal(size=(records, 4))
    income = np.exp(10.9 + 0.8 * traits[:, 1] + 0.4 * rng.normal(size=records))

    def counts(columns: int, low: float, high: float) -> np.ndarray:
        # Rates from exp(low) to exp(high), each leaning on the traits its own way.
        lean = rng.normal(size=(4, columns)) * 0.6
        return rng.poisson(np.exp(rng.uniform(low, high, columns) + traits @ lean - 0.7)) * 1.0

    own = np.column_stack([np.ones(records), income, income**0.5, counts(TARGETS - 3, -3.0, 0.3)])
    codes = [
        np.digitize(
            traits[:, j] + rng.normal(size=records) * 0.5, np.linspace(-0.8, 0.8, kinds - 1)
        )
        for j, kinds in enumerate(_KINDS)
    ]
    cell = np.ravel_multi_index(codes, _KINDS)
    values = np.array(np.unravel_index(np.arange(np.prod(_KINDS)), _KINDS))
    classes = tuple(values[j] == np.arange(k)[:, None] for j, k in enumerate(_KINDS))
    dense = np.empty((TRACTS, records))
    for t in range(TRACTS):
        tilt = np.exp(traits @ rng.normal(size=4) * 0.5 + 0.6 * rng.normal(size=records))
        dense[t] = HOMES * tilt / tilt.sum()
    return Invented(own, counts(KNOWN, -3.5, -0.5), cell, income, dense, classes)


def pool_of(made: Invented, areas: int, three_levels: bool) -> Pool:
    """Tracts put together into so many areas, all with targets of the state's and of their own."""
    dense = np.add.reduceat(made.dense, np.arange(areas) * TRACTS // areas, axis=0)
    names = [f"area {t:03d}" for t in range(areas)]
    levels, above = ["state", "area"], [["state"] * areas]
    if three_levels:
        levels = ["state", "region", "area"]
        above.append([f"region {t * 5 // areas}" for t in range(areas)])
    tree = GeographyTree.from_leaves(levels, [*above, names])
    rng = np.random.default_rng(2)
    totals, squares = dense @ made.own, dense @ made.own**2
    errors = np.sqrt((1.0 / SAMPLED - 1.0) * squares)
    values = [totals + errors * rng.normal(size=totals.shape) * 0.5]
    scales = [errors]
    for depth in range(len(levels) - 2, -1, -1):
        values.insert(0, tree.sum_to_parent(values[0], depth + 1))
        spread = np.sqrt(tree.sum_to_parent(scales[0] ** 2, depth + 1))
        scales.insert(0, np.maximum(0.3 * spread, 5e-4 * np.abs(values[0])))
    targets = make_targets(tree, [made.own] * len(levels), values, scales)
    return Pool(tree, targets, dense, made.cell, made.income, made.known, made.classes)


@contextmanager
def parts_timed() -> Iterator[dict[str, float]]:
    """Seconds of the parts of a selection while the block runs."""
    spent: dict[str, float] = defaultdict(float)
    kept = []

    def timed(part, function):
        def call(*given, **named):
            begin = time.perf_counter()
            try:
                return function(*given, **named)
            finally:
                spent[part] += time.perf_counter() - begin

        return call

    for part, places in PARTS.items():
        for module, name in places:
            kept.append((module, name, getattr(module, name)))
            setattr(module, name, timed(part, getattr(module, name)))
    try:
        yield spent
    finally:
        for module, name, function in kept:
            setattr(module, name, function)


@dataclass(frozen=True)
class Row:
    """One spread: ``seconds`` of the whole selection by the clock, of the processor, and by the
    clock of its ``parts``; root mean square error
    of an area's totals in scales as ``drawn``, after the first exchanges (``exchanged``) and of the
    ``chosen`` pairs at their last weights; ``inside`` the share of the finest targets within 1.645
    scales; ``ess`` of an area as a share of its pairs."""

    areas: int
    pairs_per_area: int
    seconds: float
    processor: float
    parts: dict[str, float]
    exchanges: int
    drawn: float
    exchanged: float
    chosen: float
    inside: float
    ess: float


def measure(pool: Pool, k: int, threads: int, design: str = "cube", seed: int = 1) -> Row:
    """One selection, timed, and one refit after it, not timed."""
    selection = SelectionSettings(k, seed, rule="equal", design=design, threads=threads)
    refit = TreeNewtonSettings(
        prior_unit=1.0,
        share=(0.97,) * (len(pool.tree.levels) - 1) + (0.999,),
        tau_path=(1.0, 0.3, 0.1, 0.03, 0.01, 0.003),
        ratio_bounds=(0.05, 10.0),
        path_tolerance=0.5,
    )
    settings = JointSettings(selection, refit)
    begin = time.perf_counter(), time.process_time()
    with parts_timed() as spent:
        chosen = select_jointly(pool, settings)
    seconds, processor = time.perf_counter() - begin[0], time.process_time() - begin[1]
    fit = refine_pairs(pool, chosen, settings).result
    leaf, used = chosen.leaf, np.isfinite(pool.targets.scales[-1])
    balance = joint.balance_of(pool, chosen.pairs_per_area)
    kept = np.zeros(balance.goals.shape)
    np.add.at(kept, leaf, fit.weights[:, None] * balance.rows[chosen.record])
    live = np.isfinite(balance.scales)
    error = np.where(live, (kept - balance.goals) / np.where(live, balance.scales, 1.0), 0.0)
    sums, squares = np.bincount(leaf, fit.weights), np.bincount(leaf, fit.weights**2)
    off = np.abs(fit.residuals[-1][used]) <= 1.645 * pool.targets.scales[-1][used]
    return Row(
        pool.leaves,
        k // pool.leaves,
        seconds,
        processor,
        dict(spent),
        int(chosen.exchanges.sum()),
        _rms(chosen.drawn_error),
        _rms(chosen.error),
        float(np.sqrt((error[live] ** 2).mean())),
        float(off.mean()),
        float((sums**2 / squares / np.bincount(leaf)).mean()),
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))


def table_of(rows: list[Row]) -> Table:
    """The rows for a reader."""
    figures = ["exchanges", "drawn", "exchanged", "at last weights", "inside", "ESS / k"]
    table = Table("pairs x areas", "s", "cpu s", *PARTS, *figures)
    for row in rows:
        table.add_row(
            f"{row.pairs_per_area:,} x {row.areas}",
            f"{row.seconds:.1f}",
            f"{row.processor:.1f}",
            *(f"{row.parts.get(part, 0.0):.1f}" for part in PARTS),
            f"{row.exchanges:,}",
            f"{row.drawn:.3f}",
            f"{row.exchanged:.3f}",
            f"{row.chosen:.3f}",
            f"{row.inside:.1%}",
            f"{row.ess:.2f}",
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.selection_spread", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--pairs", type=int, default=15_000)
    parser.add_argument("--areas", type=int, nargs="+", default=[250, 25, 5, 1])
    parser.add_argument("--records", type=int, default=40_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--three-levels", action="store_true")
    parser.add_argument("--draw", choices=["balanced", "random"], default="balanced")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=200)
    console.print(str(this_machine()), highlight=False)
    made, rows = invent(options.records), []
    design = "cube" if options.draw == "balanced" else "sampford"
    for areas in options.areas:
        pool = pool_of(made, areas, options.three_levels)
        if areas == options.areas[-1]:
            del made  # room for what a pool of many records needs
        rows.append(measure(pool, options.pairs, options.threads, design))
        console.print(table_of(rows[-1:]))
    console.print(table_of(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    console.print(f"at most {peak:.1f} GiB in memory, the invented pool among them")
    if options.json:
        options.json.write_text(json.dumps([asdict(row) for row in rows], indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
