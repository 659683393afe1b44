"""One PUMA's households spread over its block groups: penalised maximum entropy against published
margins of error, solved by the engine.

    python -m benchmarks.knox DIR PUMA [--threads N] [--device cpu|cuda] [--repeat N] [--json FILE]

DIR holds, for PUMA 4701602 say:

* ``cind_4701602.csv.gz``: households x constraints;
* ``cg1_``, ``cg2_``: totals of tracts and block groups; ``sg1_``, ``sg2_``: their standard errors;
* ``wt_``: design weights;
* optionally another program's answers: a JSON with an "expected" table (``*_4701602.json``) and its
  allocation (``*_4701602_alloc.csv.gz``, households x block groups).

There is one row per household or area, named in the first column. A block group's tract is its
GEOID less the last digit.

There are n households of total weight N. q is proportional to the weight and the same in every
block group. Y are the totals of the PUMA (the sum of its block groups), of tracts and of block
groups, and se their standard errors. Minimised over the multipliers l, one per total, is

    F(l) = Y.l / N + log sum_i q_i exp(-x_i.l) + 1/2 sum_j V_j l_j^2,    V = se^2 n / N^2,
    w_i  = N q_i exp(-x_i.l) / sum of the same.

The PUMA's se is a tenth of the root of the sum of squares of its block groups'. (Nagle,
Buttenfield, Leyk and Spielman, Annals of the AAG 104, 2014.) In the engine's terms: targets Y/N of
three levels that share one design, scales sqrt(V), tau 1, the total of weights held at 1. A total
fits its margin if it is off by less than 1.645 standard errors.

Belongs here: mapping, figures of this case. Does not belong here: reading the files
(``knox_files.py``), the solver (``calibration_core/tree/solve/newton.py``).
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from benchmarks.knox_files import LEVELS, TOP_TIGHTER, Case, read_puma
from benchmarks.machine import peak_memory, this_machine
from calibration_core.errors import GeocalError
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonResult, TreeNewtonSettings, calibrate_tree

MARGIN = 1.645
SETTINGS = TreeNewtonSettings(tau_path=(1.0,), hold_total=True, prior_unit=1.0)


def problem_of(case: Case) -> PoolProblem:
    """The engine's problem: shares of the total weight, scales sqrt(V)."""
    households, total, groups = (
        case.design.shape[0],
        float(case.weight.sum()),
        len(case.tree.leaves),
    )
    scale = np.sqrt(households) / total
    targets = make_targets(
        case.tree,
        [case.design] * 3,
        [v / total for v in case.values],
        [e * scale for e in case.errors],
    )
    return PoolProblem(
        case.tree,
        targets,
        case.weight / total,
        np.zeros(households, dtype=np.int64),
        np.full((groups, 1), 1.0 / groups),
    )


def objective(problem: PoolProblem, result: TreeNewtonResult) -> float:
    """F of the docstring at the result's multipliers, evaluated here from its formula, not taken
    from the solver.
    """
    exponent = np.zeros((len(problem.tree.leaves), problem.targets.designs[0].shape[0]))
    value = 0.0
    for depth, (design, target, scale, y) in enumerate(
        zip(
            problem.targets.designs,
            problem.targets.values,
            problem.targets.scales,
            result.multipliers,
            strict=True,
        )
    ):
        multiplier = -y / scale
        value += float((target * multiplier).sum() + 0.5 * ((scale * multiplier) ** 2).sum())
        exponent -= (multiplier @ design.T)[problem.tree.ancestor_of_leaves(depth)]
    highest = exponent.max()
    return value + highest + float(np.log((problem.prior() * np.exp(exponent - highest)).sum()))


@dataclass(frozen=True)
class Figures:
    """What is printed. ``seconds`` of the solve alone; ``fit`` the share of totals within their
    margin, per level.
    """

    puma: str
    households: int
    constraints: int
    areas: tuple[int, ...]
    targets: int
    pairs: int
    objective: float
    expected_objective: float | None
    fit: tuple[float, ...]
    expected_fit: tuple[float | None, ...]
    population: float
    expected_population: float | None
    iterations: int
    factorisations: int
    duality_gap: float
    converged: bool
    largest_difference: float | None
    largest_allocation: float | None
    seconds: float
    reading_seconds: float
    peak_memory_gb: float
    warnings: tuple[str, ...]


def figures(
    case: Case, problem: PoolProblem, result: TreeNewtonResult, seconds: float, reading: float
) -> Figures:
    """Everything worth telling about one solve."""
    total = float(case.weight.sum())
    weights = result.weights * total
    leaf = weights @ case.design
    fit = []
    for depth in range(3):
        off = np.abs(case.tree.sum_leaves(leaf, depth) - case.values[depth])
        margin = MARGIN * (case.errors[depth] / TOP_TIGHTER if depth == 0 else case.errors[depth])
        fit.append(float((off < margin).mean()))
    known = case.expected or {}
    difference = None if case.allocation is None else float(np.abs(weights - case.allocation).max())
    return Figures(
        puma=case.puma,
        households=case.design.shape[0],
        constraints=case.design.shape[1],
        areas=case.tree.sizes,
        targets=problem.targets.count,
        pairs=weights.size,
        objective=objective(problem, result),
        expected_objective=known.get("dual_objective"),
        fit=tuple(fit),
        expected_fit=(None, known.get("moe_fit_tract"), known.get("moe_fit_bg")),
        population=(
            float(leaf[:, case.constraints.index("population")].sum())
            if "population" in case.constraints
            else float("nan")
        ),
        expected_population=known.get("pop_hat"),
        iterations=result.iterations,
        factorisations=result.factorisations,
        duality_gap=result.duality_gap,
        converged=result.converged,
        largest_difference=difference,
        largest_allocation=None if case.allocation is None else float(case.allocation.max()),
        seconds=seconds,
        reading_seconds=reading,
        peak_memory_gb=peak_memory(),
        warnings=result.warnings,
    )


def table(f: Figures) -> Table:
    """Figures beside what is expected."""
    title = (
        f"PUMA {f.puma}: {f.households:,} households x {f.constraints} constraints x"
        f" ({' + '.join(str(n) for n in f.areas)}) areas, {f.targets:,} totals"
    )
    answer = Table("", "geocal", "expected", title=title)

    def known(v, form):
        return "" if v is None else format(v, form)

    answer.add_row("dual objective", f"{f.objective:.13f}", known(f.expected_objective, ".13f"))
    for name, fit, expected in zip(LEVELS, f.fit, f.expected_fit, strict=True):
        answer.add_row(
            f"within the published 90 % margin, {name}", f"{fit:.6f}", known(expected, ".6f")
        )
    answer.add_row("population", f"{f.population:,.4f}", known(f.expected_population, ",.4f"))
    if f.largest_difference is not None:
        answer.add_row(
            "largest difference from the expected allocation",
            f"{f.largest_difference:.2e} households",
            f"largest {f.largest_allocation:.4f}, six digits",
        )
    answer.add_row("iterations (factorisations)", f"{f.iterations} ({f.factorisations})", "")
    answer.add_row("converged, relative duality gap", f"{f.converged}, {f.duality_gap:.1e}", "")
    answer.add_row("seconds (reading apart)", f"{f.seconds:.2f} ({f.reading_seconds:.2f})", "")
    answer.add_row("peak memory", f"{f.peak_memory_gb:.2f} GB", "")
    return answer


def main(arguments: Sequence[str] | None = None) -> int:
    """Read, solve, print; 0 if it converged."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.knox",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("puma", metavar="PUMA")
    parser.add_argument("--threads", type=int, help="threads of torch; default its own")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--repeat",
        type=int,
        default=1,
        help="solve so many times from the start; the least seconds are given",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="figures as JSON too")
    given = parser.parse_args(arguments)
    if given.threads:
        torch.set_num_threads(given.threads)
    console = Console(width=140)
    machine = this_machine(given.device)
    console.print(str(machine))
    began = time.perf_counter()
    try:
        case = read_puma(given.folder, given.puma)
    except GeocalError as error:
        console.print(str(error), style="red", highlight=False)
        return 2
    reading, seconds = time.perf_counter() - began, float("inf")
    settings = replace(SETTINGS, device=given.device)
    with console.status("solving") as status:
        for _ in range(max(1, given.repeat)):
            began = time.perf_counter()
            problem = problem_of(case)
            result = calibrate_tree(
                problem,
                settings,
                progress=lambda step: status.update(f"solving: gradient {step.gradient:.1e}"),
            )
            seconds = min(seconds, time.perf_counter() - began)
    found = figures(case, problem, result, seconds, reading)
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
