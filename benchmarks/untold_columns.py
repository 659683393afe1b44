"""How good weights are at tract columns that they were not told: dense, and selected at several k.

    python -m benchmarks.untold_columns --profile rhode_island --data DIR [--state RI]
        [--pairs 20 60 120 240] [--unbalanced] [--tau 1 0.3 0.1 0.03 0.01]
        [--json FILE] [--plot FILE.png]

A line per column of ``untold_columns.yaml`` and two for median household income: the error
(``untold_measures.py``) of the share that the published PUMA has as a whole, of the dense weights,
and of the selected ones at each number of pairs per tract. Below stand, over the columns without
income, the geometric mean of errors against dense and against the PUMA's share, and how many
columns are worse than that share. ``known`` says how much of a column's variance over records
follows from variables that selection balances (least squares, by prior weight): near 1, the column
was told to the selection under another name. ``--unbalanced`` shows how such columns fare at which
selection does not look: it chooses once more without the variables that no target speaks of.

``--tau`` solves the dense problem at each of these too, and prints what every one costs and gains:
share of tract targets within 1.645 scales, their root mean square in scales, effective sample size,
errors. ``--pairs`` without a number compares no selection.

Belongs here: those tables and the picture. Does not belong here: the figures themselves
(``untold_measures.py``), families of targets withheld (``geocal validate``).
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.state import load_state
from benchmarks.untold_figure import frontier_of_untold
from benchmarks.untold_measures import Column, untold_columns
from calibration_core.common.area_weights import AreaWeights, weights_of
from calibration_core.tree.select.joint import refine_pairs, select_jointly
from calibration_core.tree.solve.newton import TreeNewtonResult, calibrate_tree
from pipeline.weights.problem import SolvableState, attributes_of, pool_problem
from pipeline.weights.settings import dense_settings, joint_settings
from pipeline.weights.solve import dense_calibration, pool_of

Triple = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Pairs: leaf, record, weight."""


def written_out(weights: np.ndarray | AreaWeights) -> Triple:
    """Dense weights (leaves, records) as pairs, those of zero left out."""
    dense = weights_of(weights).table()
    leaf, record = np.nonzero(dense > 0)
    return leaf, record, dense[leaf, record]


def errors_of(columns: list[Column], pairs: Triple) -> list[float]:
    """The error of every column."""
    return [column.rmse(column.given(*pairs)) for column in columns]


def selected(
    state: SolvableState, dense: np.ndarray | AreaWeights, per_area: int, balanced: bool = True
) -> Triple:
    """As a run chooses and weighs ``per_area`` pairs per area; or as it would without the variables
    that no target speaks of."""
    pool = pool_of(state, dense)
    if not balanced:
        known = np.delete(pool.attributes, pool.anchors, axis=1)
        pool = replace(pool, attributes=known, anchors=pool.anchors[:0])
    settings = joint_settings(state, per_area * pool.leaves)
    chosen = select_jointly(pool, settings)
    return chosen.leaf, chosen.record, refine_pairs(pool, chosen, settings).result.weights


def known_share(state: SolvableState, columns: list[Column]) -> list[float]:
    """R squared of every column's contributions on the balanced variables, over records, by prior
    weight."""
    root = np.sqrt(state.units["prior_weight"].to_numpy())
    balanced = np.column_stack([np.ones(root.size), attributes_of(state.units)])
    basis, singular, _ = np.linalg.svd(
        balanced / np.abs(balanced).max(axis=0).clip(1e-300) * root[:, None], full_matrices=False
    )
    basis = basis[:, singular > 1e-10 * singular[0]]
    found = []
    for column in columns:
        part = column.part * root
        spread = part - root * (root @ part) / (root @ root)
        left = part - basis @ (basis.T @ part)
        found.append(1.0 - float(left @ left) / float(spread @ spread))
    return found


def overall(columns: list[Column], rows: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Per set of weights, over the columns without income: geometric means of its errors against
    those of dense and of the PUMA's share; columns that are worse than the share."""
    own = [i for i, column in enumerate(columns) if not column.is_income]
    dense, share = (np.array(rows[name])[own] for name in ("dense", "PUMA"))
    found = {}
    for name, errors in rows.items():
        e = np.array(errors)[own]
        against = (float(np.exp(np.log(e / base).mean())) for base in (dense, share))
        found[name] = dict(
            zip(("against dense", "against PUMA"), against, strict=True),
            worse=int((e > share).sum()),
        )
    return found


def table_of(columns: list[Column], known: list[float], rows: dict[str, list[float]]) -> Table:
    """The table of errors."""
    table = Table("column", "known", *rows, title="root mean square error over tracts, points")
    for i, column in enumerate(columns):
        table.add_row(column.label, f"{known[i]:.2f}", *(f"{e[i]:.2f}" for e in rows.values()))
    summary = overall(columns, rows)
    table.add_section()
    for figure in ("against dense", "against PUMA", "worse"):
        shown = (
            f"{v:.2f}" if isinstance(v := each[figure], float) else str(v)
            for each in summary.values()
        )
        table.add_row(figure, "", *shown)
    return table


def inside(result: TreeNewtonResult, scales: np.ndarray) -> tuple[float, float]:
    """Share of the finest level's targets within 1.645 scales, and the root mean square of their
    residuals in scales."""
    used = np.isfinite(scales)
    off = result.residuals[-1][used] / scales[used]
    return float((np.abs(off) <= 1.645).mean()), float(np.sqrt((off**2).mean()))


def over_tau(state: SolvableState, columns: list[Column], taus: list[float]) -> list[dict]:
    """The dense problem at each tau, from the largest on."""
    rows, start, problem = [], None, pool_problem(state)
    for tau in sorted(taus, reverse=True):
        settings = replace(dense_settings(state), tau_path=(tau,), share=())
        result = calibrate_tree(problem, settings, start=start)
        start = result.multipliers
        share, rms = inside(result, state.problem.targets.scales[-1])
        errors = errors_of(columns, written_out(result.weights))
        rows.append(
            {
                "tau": tau,
                "inside": share,
                "rms": rms,
                "ess": result.effective_sample_size,
                "errors": errors,
            }
        )
    return rows


def tau_table(columns: list[Column], rows: list[dict]) -> Table:
    """What each tau costs and gains; errors against those of the smallest tau."""
    table = Table("tau", "inside", "rms, scales", "ESS", "columns", "median income, %")
    own = [i for i, column in enumerate(columns) if not column.is_income]
    last = np.array(rows[-1]["errors"])
    for row in rows:
        e = np.array(row["errors"])
        ratio = float(np.exp(np.log(e[own] / last[own]).mean()))
        income = f"{e[-2]:.2f}" if len(own) < len(columns) else ""
        table.add_row(
            f"{row['tau']:g}",
            f"{row['inside']:.2%}",
            f"{row['rms']:.2f}",
            f"{row['ess']:,.0f}",
            f"{ratio:.3f}",
            income,
        )
    return table


def main(argv: list[str] | None = None) -> int:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.untold_columns", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--data", type=Path, required=True, help="folder of raw files")
    parser.add_argument("--pairs", type=int, nargs="*", default=[20, 60, 120, 240])
    parser.add_argument("--unbalanced", action="store_true", help="also without balanced families")
    parser.add_argument("--tau", type=float, nargs="*", default=[])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args(argv)
    console = Console(width=200)
    loaded = load_state(options.profile, options.state, options.data)
    state = loaded.ready
    columns, missing = untold_columns(loaded, options.data)
    if missing:
        console.print(f"Not published here: {', '.join(missing)}", highlight=False)
    result = dense_calibration(state)
    console.print(f"dense: {result.summary()}", highlight=False)
    rows = {
        "PUMA": [column.rmse(column.of_puma) for column in columns],
        "dense": errors_of(columns, written_out(result.weights)),
    }
    bare = dict(rows)
    for per_area in sorted(options.pairs):
        rows[str(per_area)] = errors_of(columns, selected(state, result.weights, per_area))
        if options.unbalanced:
            pairs = selected(state, result.weights, per_area, balanced=False)
            bare[str(per_area)] = errors_of(columns, pairs)
    known = known_share(state, columns)
    console.print(table_of(columns, known, rows))
    if options.unbalanced:
        console.print("Without balanced variables that no target speaks of:")
        console.print(table_of(columns, known, bare))
    taus = over_tau(state, columns, options.tau) if options.tau else []
    if taus:
        console.print(tau_table(columns, taus))
    if options.json:
        labels = [column.label for column in columns]
        said = {
            "profile": options.profile,
            "state": options.state,
            "columns": labels,
            "known": known,
            "errors": rows,
            "overall": overall(columns, rows),
            "tau": taus,
        }
        options.json.write_text(json.dumps(said, indent=1))
    if options.plot and options.pairs:
        runs = {"balanced": rows, **({"not balanced": bare} if options.unbalanced else {})}
        options.plot.write_bytes(frontier_of_untold(columns, runs))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
