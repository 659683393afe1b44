"""One national tax file reweighted to every area at once, each record's weights adding up to its
national weight.

    python -m benchmarks.areas [--areas 51] [--records 215000] [--targets 175] [--noise 0.01]
                               [--threads N] [--device cpu|cuda] [--seed 0] [--json FILE]

The file is invented, to the measures of published ones: returns with an income, most of a small
weight at the top, and for each of ten income bins a count and amounts, zero for many and lognormal
else. The true share of a record in an area depends on traits of which the targets show only part.
An area's targets are its true totals times lognormal noise (--noise), scaled so that areas add up
to the national file, as published area shares of national totals do. Prior shares are the areas'
shares of all returns, the same for every record.

Reported:

* targets within 0.5 %;
* the largest sum over areas of a record's weights, relative to its national weight (1 by
  construction; 16.6 where areas are weighted one by one);
* the largest weight in an area relative to its prior;
* for variables without targets, how far the sum over areas drifts from the national total (0 by
  construction; -10.5 % elsewhere), and how near the areas' own totals come to the truth.

One scale of the loss is 0.5 % of the target, and the prior's strength falls until all targets are
within.

Belongs here: the invented file, the figures, their table. Does not belong here: the method
(``calibration_core/tree/reconcile/area_shares.py``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.machine import peak_memory, this_machine
from calibration_core.tree.reconcile.area_shares import (
    AreaSharesProblem,
    AreaSharesResult,
    AreaSharesSettings,
    calibrate_shares,
)

BINS = 10
TRAITS = 4
WITHIN = 0.005
UNTARGETED = 20
# Prior strength, followed down until every target is within half a per cent.
TAU = tuple(10.0**-k for k in range(1, 8))


@dataclass(frozen=True, eq=False)
class File:
    """``problem``; ``untargeted`` (records, variables) of which no totals are given, and their true
    totals by area (areas, variables).
    """

    problem: AreaSharesProblem
    untargeted: np.ndarray
    truth: np.ndarray


def invent(areas: int, records: int, targets: int, noise: float, seed: int) -> File:
    """Make a file up."""
    rng = np.random.default_rng(seed)
    traits = rng.standard_normal((records, TRAITS))
    income = traits[:, 0]
    # Half a per cent of returns are in the top bin, whose returns are sampled twenty times as
    # densely.
    bins = np.searchsorted(
        np.quantile(income, [0.08, 0.2, 0.35, 0.5, 0.65, 0.8, 0.92, 0.98, 0.995]),
        income,
        side="right",
    )
    weight = (
        184e6 / records * np.exp(0.5 * rng.standard_normal(records)) * np.where(bins >= 8, 0.1, 1.0)
    )
    design = np.zeros((records, targets))
    rows = np.arange(records)
    kinds = targets // BINS
    for kind in range(kinds):
        amount = _amount(traits, np.random.default_rng([seed, kind])) if kind else np.ones(records)
        design[rows, kind * BINS + bins] = amount
    for column in range(kinds * BINS, targets):
        design[:, column] = rng.poisson(1.0 + 0.5 * rng.random(), records)
    untargeted = np.stack(
        [_amount(traits, np.random.default_rng([seed, 1_000 + v])) for v in range(UNTARGETED)],
        axis=1,
    )
    size = np.exp(rng.standard_normal(areas))
    tilt = 0.3 * rng.standard_normal((areas, TRAITS))
    values, truth = np.zeros((areas, targets)), np.zeros((areas, UNTARGETED))
    returns = np.zeros(areas)
    for begin in range(0, records, 20_000):
        here = slice(begin, begin + 20_000)
        share = (
            np.exp(
                traits[here] @ tilt.T + 0.3 * rng.standard_normal((traits[here].shape[0], areas))
            )
            * size
        )
        share *= (weight[here] / share.sum(axis=1))[:, None]
        values += share.T @ design[here]
        truth += share.T @ untargeted[here]
        returns += share.sum(axis=0)
    national = weight @ design
    values *= np.exp(noise * rng.standard_normal(values.shape))
    values *= np.where(
        values.sum(axis=0) > 0, national / np.maximum(values.sum(axis=0), 1e-300), 1.0
    )
    scales = np.maximum(WITHIN * np.abs(values), 1e-6)
    prior = (returns / returns.sum())[None, :]
    return File(
        AreaSharesProblem(design, weight, values, scales, np.zeros(records, dtype=np.int64), prior),
        untargeted,
        truth,
    )


def _amount(traits: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """(records,) zero for many, else lognormal; larger and likelier with some traits, of which
    income most.
    """
    pull = np.array([0.8, 0.0, 0.0, 0.0]) + 0.3 * rng.standard_normal(TRAITS)
    likely = rng.uniform(-1.2, 1.0) + traits @ (0.5 * pull)
    has = likely + rng.standard_normal(traits.shape[0]) > 0
    return np.where(
        has,
        np.round(
            np.exp(
                rng.uniform(7.0, 10.0)
                + traits @ pull
                + rng.uniform(0.4, 1.2) * rng.standard_normal(traits.shape[0])
            )
        ),
        0.0,
    )


@dataclass(frozen=True)
class Figures:
    """What is printed. ``record_sum`` largest |sum over areas of a record's weights / national
    weight - 1| plus one; drifts are relative, medians over areas and variables. ``ess`` the areas'
    median effective sample size.
    """

    areas: int
    records: int
    targets: int
    pairs: int
    within: float
    median: float
    worst: float
    record_sum: float
    largest_ratio: float
    national_drift: float
    untargeted_median: float
    untargeted_prior: float
    ess: float
    tau: float
    converged: bool
    duality_gap: float
    iterations: int
    products: int
    seconds: float
    peak_memory_gb: float
    warnings: tuple[str, ...]


def figures(file: File, result: AreaSharesResult, seconds: float) -> Figures:
    """Everything is summed here from the weights themselves, a stretch of records at a time."""
    problem = file.problem
    areas, targets = problem.values.shape
    fitted, other, total, squares = (
        np.zeros((areas, targets)),
        np.zeros((areas, UNTARGETED)),
        np.zeros(areas),
        np.zeros(areas),
    )
    apart = 0.0
    for here, weights in result.chunks():
        fitted += weights.T @ problem.design[here]
        other += weights.T @ file.untargeted[here]
        total += weights.sum(axis=0)
        squares += (weights**2).sum(axis=0)
        apart = max(
            apart, float(np.abs(weights.sum(axis=1) / problem.national_weight[here] - 1.0).max())
        )
    wanted = problem.values != 0
    error = (np.abs(fitted - problem.values)[wanted]) / np.abs(problem.values[wanted])
    national = problem.national_weight @ file.untargeted
    prior = problem.shares[0][:, None] * national
    return Figures(
        areas=areas,
        records=problem.design.shape[0],
        targets=int(wanted.sum()),
        pairs=areas * problem.design.shape[0],
        within=float((error <= WITHIN).mean()),
        median=float(np.median(error)),
        worst=float(error.max()),
        record_sum=1.0 + apart,
        largest_ratio=result.largest_ratio,
        national_drift=float(np.abs(other.sum(axis=0) / national - 1.0).max()),
        untargeted_median=float(np.median(np.abs(other / file.truth - 1.0))),
        untargeted_prior=float(np.median(np.abs(prior / file.truth - 1.0))),
        ess=float(np.median(total**2 / squares)),
        tau=result.tau,
        converged=result.converged,
        duality_gap=result.duality_gap,
        iterations=result.iterations,
        products=result.products,
        seconds=seconds,
        peak_memory_gb=peak_memory(),
        warnings=tuple(map(str, result.warnings)),
    )


def table(f: Figures) -> Table:
    """Figures beside those published of areas weighted one by one."""
    title = f"{f.areas} areas x {f.records:,} records ({f.pairs:,} pairs), {f.targets:,} targets"
    answer = Table("", "geocal", "published, areas one by one", title=title)
    answer.add_row("targets within 0.5 %", f"{f.within:.2%}", "99.62 %")
    answer.add_row("median, worst relative error", f"{f.median:.3%}, {f.worst:.2%}", "")
    answer.add_row(
        "a record's weights over all areas / national weight, largest",
        f"1 + {f.record_sum - 1.0:.1e}",
        "16.6",
    )
    answer.add_row("largest weight / (national weight x prior share)", f"{f.largest_ratio:.2f}", "")
    answer.add_row(
        "drift of untargeted national totals, largest", f"{f.national_drift:.1e}", "10.5 %"
    )
    answer.add_row(
        "untargeted totals of areas against the truth, median (before)",
        f"{f.untargeted_median:.2%} ({f.untargeted_prior:.2%})",
        "",
    )
    answer.add_row("effective records per area, median", f"{f.ess:,.0f}", "")
    answer.add_row(
        "converged, tau, relative duality gap", f"{f.converged}, {f.tau:g}, {f.duality_gap:.1e}", ""
    )
    answer.add_row("Newton steps, Hessian products", f"{f.iterations}, {f.products}", "")
    answer.add_row("seconds", f"{f.seconds:.1f}", "180 to 240, 8 workers")
    answer.add_row("peak memory", f"{f.peak_memory_gb:.2f} GB", "")
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Invent, solve, print; 0 if it converged."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.areas",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--areas", type=int, default=51)
    parser.add_argument("--records", type=int, default=215_000)
    parser.add_argument("--targets", type=int, default=175, help="an area")
    parser.add_argument(
        "--noise", type=float, default=0.01, help="standard deviation of the log of targets"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    console = Console(width=140)
    machine = this_machine(given.device)
    console.print(str(machine))
    began = time.perf_counter()
    file = invent(given.areas, given.records, given.targets, given.noise, given.seed)
    console.print(
        f"invented in {time.perf_counter() - began:.1f} s, {(file.problem.design != 0).mean():.0%}"
        f" of entries not zero; {peak_memory():.2f} GB"
    )
    settings = AreaSharesSettings(
        tau_path=TAU, inside=1.0, share=1.0, tolerance=1e-3, device=given.device, prior_unit=1.0
    )
    with console.status("solving") as status:
        began = time.perf_counter()

        def show(s):
            return status.update(
                f"solving: tau {s.tau:g}, loss {s.loss:.4g}, gradient {s.gradient:.1e},"
                f" {s.products} products"
            )

        result = calibrate_shares(file.problem, settings, progress=show)
        seconds = time.perf_counter() - began
    found = figures(file, result, seconds)
    console.print(table(found))
    for warning in found.warnings:
        console.print(f"warning: {warning}")
    if given.json is not None:
        given.json.write_text(
            json.dumps({"machine": machine.as_dict(), "figures": asdict(found)}, indent=1),
            encoding="utf-8",
        )
    return 0 if found.converged else 1


if __name__ == "__main__":
    raise SystemExit(main())
