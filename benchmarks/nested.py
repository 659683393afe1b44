"""A nation, its states and their districts calibrated at once: the engine against Adam on the same loss, dense and after selection.

    python -m benchmarks.nested [--records 337704] [--national 478] [--state 153] [--district 56] [--states 51] [--districts 436]
                                [--keep 57240] [--adam-epochs 1500] [--threads N] [--device cpu|cuda] [--seed 0] [--json FILE]

The nation is invented, to the measures of published ones: every record lies in one district; the first variables of the national list
have targets for states too, the first of those for districts. Half are counts of persons, half amounts: zero for most, else lognormal,
many with a heavier tail than a sample of a district can carry. Targets are totals of true weights times lognormal noise, more the
smaller the area, so that levels contradict one another and no weights meet all targets. Initial weights differ from the true ones by a
tilt of each district's own and by chance.

Loss, for engine and Adam alike: sum_j ((fit_j - b_j) / s_j)^2 / 2, s_j = max(|b_j|, 1). The engine adds its prior (tau, printed), which
Adam has not; both are measured by the same figures:

    capped    sum_j omega_j min(|fit_j - b_j| / s_j, 1) / sum_j omega_j; omega proportional to the root of s_j, counts and amounts alike in all
    ARE       |fit_j - b_j| / |b_j|, targets of zero left out
    ESS       (sum w)^2 / sum w^2

A target is degenerate where one record's contribution at its initial weight exceeds it. The selection draws exactly --keep records with
probability proportional to dense weight, systematically along districts and a sorted list, and refits them by the same engine.
Adam is that of the ``gradient`` method without a prior, in log weights, learning rate 0.05 falling along a cosine. With fewer epochs
than 1,500 its seconds are multiplied up, and said to be; its loss cannot be, and stands as it is.

Belongs here: the invented nation, the comparison, its table. Does not belong here: methods, other nations.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from scipy import sparse

from benchmarks.machine import peak_memory, this_machine
from calibration_core import CalibrationProblem
from calibration_core.descent import DescentSettings, RecordObjective, adam, check_device
from calibration_core.design_matrix import DesignMatrix
from calibration_core.distances import Raking
from calibration_core.draw import draw_records
from calibration_core.dual_losses import Prior
from calibration_core.geography import GeographyTree
from calibration_core.losses import Square, TargetLoss
from calibration_core.problem import PairProblem, Targets, make_targets
from calibration_core.selection import Selection
from calibration_core.support import ensure_support
from calibration_core.tree_newton import TreeNewtonResult, TreeNewtonSettings, calibrate_tree

LEVELS = ("nation", "state", "district")
# Standard deviation of the log of targets, by level.
NOISE = (0.01, 0.03, 0.06)
PUBLISHED_EPOCHS = 1500
# The engine's prior strength is followed down until the share of targets met within a hundredth rises by less than two thousandths.
TAU = (1e-5, 1e-6, 1e-7, 1e-8, 1e-9)
MET, LEAST_GAIN = 0.01, 0.002
# Records of a district are listed by the size of so many of its variables before the systematic draw.
SORTED_BY = 12


@dataclass(frozen=True)
class Size:
    """How large the nation is."""

    records: int = 337_704
    national: int = 478
    state: int = 153
    district: int = 56
    states: int = 51
    districts: int = 436


@dataclass(frozen=True, eq=False)
class Nation:
    """``problem`` with its records sorted by district; ``amount`` (national variables,) whether one is an amount; ``order`` (records,)
    a size by which lists are sorted."""

    problem: PairProblem
    amount: np.ndarray
    order: np.ndarray


def make_nation(size: Size, seed: int) -> Nation:
    """Invent records, true weights and targets."""
    rng = np.random.default_rng(seed)
    state_of = _split(size.districts, size.states, rng)
    leaf = _split(size.records, size.districts, rng)
    paths = [["US"] * size.districts, [f"s{s:02d}" for s in state_of], [f"d{d:03d}" for d in range(size.districts)]]
    tree = GeographyTree.from_leaves(LEVELS, paths)
    latent = rng.standard_normal((size.records, 3)) + 0.3 * rng.standard_normal((size.districts, 3))[leaf]
    amount = np.arange(size.national) % 2 == 1
    design = np.empty((size.records, size.national))
    for v in range(size.national):
        design[:, v] = _variable(latent, bool(amount[v]), np.random.default_rng([seed, v]))
    initial = 130e6 / size.records * np.exp(0.4 * rng.standard_normal(size.records))
    tilt = 0.25 * rng.standard_normal((size.districts, 3))
    truth = initial * np.exp(0.1 * rng.standard_normal(size.districts)[leaf] + (latent * tilt[leaf]).sum(axis=1) + 0.25 * rng.standard_normal(size.records))
    designs = [design, np.ascontiguousarray(design[:, : size.state]), np.ascontiguousarray(design[:, : size.district])]
    first = np.searchsorted(leaf, np.arange(size.districts + 1))
    values = []
    for depth, columns in enumerate(designs):
        own = np.stack([truth[a:b] @ columns[a:b] for a, b in itertools.pairwise(first)])
        total = tree.sum_leaves(own, depth)
        values.append(total * np.exp(NOISE[depth] * rng.standard_normal(total.shape)))
    scales = [np.maximum(np.abs(b), 1.0) for b in values]
    problem = PairProblem(tree, make_targets(tree, designs, values, scales), leaf, np.arange(size.records), initial)
    return Nation(problem, amount, latent[:, 0])


def _split(count: int, into: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) int64 ascending, every one of ``into`` parts at least once, of sizes that differ by up to some factors of two."""
    share = np.exp(0.3 * rng.standard_normal(into))
    ends = np.floor(np.cumsum(share) / share.sum() * (count - into) + 1e-9).astype(np.int64) + np.arange(1, into + 1)
    ends[-1] = count
    return np.searchsorted(ends, np.arange(count), side="right")


def _variable(latent: np.ndarray, amount: bool, rng: np.random.Generator) -> np.ndarray:
    """(records,) a count of persons or an amount of money, which the latent traits make likelier or larger."""
    records = latent.shape[0]
    taking = rng.standard_normal(3) * 0.5
    share = float(np.exp(rng.uniform(np.log(0.005), np.log(0.6))))
    score = (latent @ taking + rng.standard_normal(records)) / np.sqrt(1.0 + taking @ taking)
    has = score > -_quantile(share)
    if not amount:
        return np.where(has, 1.0 + rng.poisson(0.6, records), 0.0)
    spread, pull = rng.uniform(0.7, 2.2), 0.4 * rng.standard_normal(3)
    return np.where(has, np.round(np.exp(rng.uniform(5.0, 10.0) + latent @ pull + spread * rng.standard_normal(records))), 0.0)


def _quantile(share: float) -> float:
    """z of which a normal variable stays below with probability ``share``."""
    return float(torch.special.ndtri(torch.tensor(share, dtype=torch.float64)))


# ---------------------------------------------------------------- figures


@dataclass(frozen=True)
class Figures:
    """One set of weights against the targets. ``seconds`` of it alone; ``extrapolated`` where fewer epochs than published were run."""

    name: str
    records: int
    loss: float
    capped: float
    capped_counts: float
    capped_amounts: float
    capped_by_level: tuple[float, ...]
    capped_not_degenerate: float
    median: float
    median_by_level: tuple[float, ...]
    within_1: float
    within_10: float
    ess: float
    seconds: float
    extrapolated: float | None = None
    note: str = ""


@dataclass(frozen=True, eq=False)
class _Measure:
    """Targets flattened, top level first, with what weighs them."""

    target: np.ndarray
    scale: np.ndarray
    omega: np.ndarray
    amount: np.ndarray
    level: np.ndarray
    degenerate: np.ndarray

    def __call__(self, name: str, fitted: Sequence[np.ndarray], weights: np.ndarray, seconds: float, **more) -> Figures:
        residual = np.concatenate([f.ravel() for f in fitted]) - self.target
        relative = np.abs(residual) / self.scale
        error = np.abs(residual[self.target != 0]) / np.abs(self.target[self.target != 0])
        capped = lambda where: float((self.omega * np.minimum(relative, 1.0))[where].sum() / self.omega[where].sum())  # noqa: E731
        levels = range(int(self.level.max()) + 1)
        return Figures(
            name=name,
            records=int((weights > 0).sum()),
            loss=0.5 * float((relative**2).sum()),
            capped=capped(slice(None)),
            capped_counts=capped(~self.amount),
            capped_amounts=capped(self.amount),
            capped_by_level=tuple(capped(self.level == depth) for depth in levels),
            capped_not_degenerate=capped(~self.degenerate),
            median=float(np.median(error)),
            median_by_level=tuple(float(np.median(relative[self.level == depth])) for depth in levels),
            within_1=float((error <= 0.01).mean()),
            within_10=float((error <= 0.10).mean()),
            ess=float(weights.sum() ** 2 / (weights**2).sum()),
            seconds=seconds,
            **more,
        )


def measure_of(nation: Nation) -> _Measure:
    """Weights of the targets, and which are degenerate."""
    problem = nation.problem
    targets = problem.targets
    flat = lambda arrays: np.concatenate([a.ravel() for a in arrays])  # noqa: E731
    target, scale = flat(targets.values), flat(targets.scales)
    amount = flat([np.broadcast_to(nation.amount[: v.shape[1]], v.shape) for v in targets.values])
    level = flat([np.full(v.shape, depth) for depth, v in enumerate(targets.values)])
    first = np.searchsorted(problem.leaf, np.arange(len(problem.tree.leaves) + 1))
    largest = np.stack([(problem.prior_weight[a:b, None] * targets.designs[0][a:b]).max(axis=0) for a, b in itertools.pairwise(first)])
    by_level = []
    for depth, value in enumerate(targets.values):
        top = np.zeros((value.shape[0], largest.shape[1]))
        np.maximum.at(top, problem.tree.ancestor_of_leaves(depth), largest)
        by_level.append(top[:, : value.shape[1]] > np.abs(value))
    omega = np.sqrt(scale)
    for part in (amount, ~amount):
        omega[part] *= 0.5 / omega[part].sum()
    return _Measure(target, scale, omega, amount, level, flat(by_level))


# ---------------------------------------------------------------- methods


def select(nation: Nation, dense: np.ndarray, keep: int, seed: int) -> tuple[PairProblem, int, int]:
    """Exactly ``keep`` records, probability proportional to dense weight, with Horvitz-Thompson weights to start from; then, district by
    district, a record given back to targets the draw left without any. Also how many targets were rescued, and how many were not."""
    problem = nation.problem
    few = problem.targets.designs[-1][:, :SORTED_BY]
    facts = CalibrationProblem(few.T, few.T @ dense, dense, cells=problem.leaf)
    draw = draw_records(facts, dense, keep, seed)
    chosen, weight = draw.selected, draw.starting[draw.selected]
    kept = np.searchsorted(problem.leaf[chosen], np.arange(len(problem.tree.leaves) + 1))
    first = np.searchsorted(problem.leaf, np.arange(len(problem.tree.leaves) + 1))
    rescued = lost = 0
    for leaf, ((a, b), (begin, end)) in enumerate(zip(itertools.pairwise(kept), itertools.pairwise(first), strict=True)):
        design, own = problem.targets.designs[-1][begin:end], dense[begin:end]
        missing = (design != 0).any(axis=0) & ~(problem.targets.designs[-1][chosen[a:b]] != 0).any(axis=0)
        if not missing.any():
            continue
        tree = GeographyTree.from_leaves(LEVELS[-1:], [[problem.tree.leaves[leaf]]])
        used = np.isfinite(problem.targets.scales[-1][leaf : leaf + 1]) & (design != 0).any(axis=0)
        drawn = Selection(np.zeros(b - a, dtype=np.int64), chosen[a:b] - begin, weight[a:b], draw.probability[chosen[a:b]], np.array([b - a]), 0, 0.0)
        mended = ensure_support(drawn, own[None, :], tree, [design], [used])
        chosen[a:b], weight[a:b] = mended.record + begin, mended.weight
        rescued, lost = rescued + len(mended.rescued), lost + len(mended.without_support)
    targets = Targets(tuple(d[chosen] for d in problem.targets.designs), problem.targets.values, problem.targets.scales)
    return PairProblem(problem.tree, targets, problem.leaf[chosen], np.arange(keep), weight), rescued, lost


def flat_matrix(problem: PairProblem) -> sparse.csr_array:
    """(targets of all levels, top first; records): the same for methods that know no tree."""
    blocks = []
    for depth, design in enumerate(problem.targets.designs):
        rows = sparse.csr_array(design)
        area, width = problem.tree.ancestor_of_leaves(depth)[problem.leaf], design.shape[1]
        index = np.repeat(area * width, np.diff(rows.indptr)) + rows.indices
        blocks.append(sparse.csr_array((rows.data, index.astype(np.int32), rows.indptr), shape=(design.shape[0], problem.tree.sizes[depth] * width)))
    return sparse.hstack(blocks, format="csr").T


def train(problem: PairProblem, epochs: int, device: str, report) -> tuple[np.ndarray, float]:
    """Weights after so many epochs of Adam, and seconds of the epochs alone."""
    flat = lambda arrays: np.concatenate([a.ravel() for a in arrays])  # noqa: E731
    target, scale = flat(problem.targets.values), flat(problem.targets.scales)
    loss = TargetLoss(Square(), target, scale, np.full(target.size, 0.5))
    records, free = problem.prior_weight.size, np.inf
    limits = (np.full(records, -free), np.full(records, free))
    objective = RecordObjective(
        DesignMatrix(flat_matrix(problem)), loss, Prior(0.0, problem.prior_weight, Raking(), None), limits, check_device(device), torch.float64, even=False
    )
    began = time.perf_counter()
    # An improvement of zero asked for: no early stop.
    ended = adam(objective, objective.start, DescentSettings(epochs, improvement=0.0), report, lambda _: False)
    return ended.weights, time.perf_counter() - began


def totals_of(problem: PairProblem, weights: np.ndarray) -> list[np.ndarray]:
    """Totals per level, computed here from the weights and the designs."""
    first = np.searchsorted(problem.leaf, np.arange(len(problem.tree.leaves) + 1))
    answers = []
    for depth, design in enumerate(problem.targets.designs):
        own = np.stack([weights[a:b] @ design[a:b] for a, b in itertools.pairwise(first)])
        answers.append(problem.tree.sum_leaves(own, depth))
    return answers


# ---------------------------------------------------------------- run


def main(arguments: Sequence[str] | None = None) -> int:
    """Invent, calibrate, select, refit, train, print; 0 if the engine converged both times."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.nested", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in asdict(Size()).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--keep", type=int, default=57_240)
    parser.add_argument("--adam-epochs", type=int, default=PUBLISHED_EPOCHS, help="0: leave Adam out")
    parser.add_argument("--tau", type=float, nargs="+", default=list(TAU), help="path of the engine's prior strength, down")
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
    nation = make_nation(Size(**{name: getattr(given, name) for name in asdict(Size())}), given.seed)
    problem = nation.problem
    measure = measure_of(nation)
    console.print(
        f"invented in {time.perf_counter() - began:.1f} s: {problem.leaf.size:,} records, {problem.targets.count:,} targets "
        f"({', '.join(f'{v.size:,} {name}' for v, name in zip(problem.targets.values, LEVELS, strict=True))}), "
        f"{(problem.targets.designs[0] != 0).mean():.0%} of entries not zero, {measure.degenerate.mean():.1%} of targets degenerate"
    )
    invented_memory = peak_memory()
    rows = [measure("initial weights", totals_of(problem, problem.prior_weight), problem.prior_weight, 0.0)]
    rule = {"inside": MET, "share": (1.0,) * len(LEVELS), "least_gain": LEAST_GAIN}
    settings = TreeNewtonSettings(tau_path=tuple(given.tau), **rule, tolerance=1e-4, max_iterations=200, device=given.device)
    warnings, honest = [], True
    with console.status("engine") as status:
        show = lambda step: status.update(f"engine: tau {step.tau:g}, {step.kind}, loss {step.loss:.4g}, gradient {step.gradient:.1e}")  # noqa: E731
        began = time.perf_counter()
        dense = calibrate_tree(problem, settings, progress=show)
        rows.append(measure("engine, dense", totals_of(problem, dense.weights), dense.weights, time.perf_counter() - began, note=note_of(dense)))
        began = time.perf_counter()
        kept, rescued, lost = select(nation, dense.weights, given.keep, given.seed)
        selecting = time.perf_counter() - began
        rows.append(
            measure(
                "engine, selected",
                totals_of(kept, kept.prior_weight),
                kept.prior_weight,
                selecting,
                note=f"starting weights, before the refit; district targets given a record back {rescued:,}, left without {lost:,}",
            )
        )
        began = time.perf_counter()
        refitted = calibrate_tree(kept, settings, progress=show)
        rows.append(
            measure("engine, selected, refitted", totals_of(kept, refitted.weights), refitted.weights, time.perf_counter() - began, note=note_of(refitted))
        )
        for result in (dense, refitted):
            warnings += result.warnings
            honest &= result.converged
    engine_seconds, engine_memory = sum(r.seconds for r in rows), peak_memory()
    if given.adam_epochs:
        with Progress(console=console, transient=True) as progress:
            task = progress.add_task("Adam", total=given.adam_epochs)
            weights, seconds = train(problem, given.adam_epochs, given.device, lambda _: progress.advance(task))
        longer = PUBLISHED_EPOCHS / given.adam_epochs
        note = (
            ""
            if longer == 1
            else f"loss as it stands after {given.adam_epochs:,}; seconds extrapolated to {PUBLISHED_EPOCHS:,} epochs: {seconds * longer:,.0f}"
        )
        extra = {"extrapolated": seconds * longer if longer > 1 else None, "note": note}
        rows.append(measure(f"Adam, dense, {given.adam_epochs:,} epochs", totals_of(problem, weights), weights, seconds, **extra))
    for printed in tables(rows):
        console.print(printed)
    console.print(
        f"engine in all {engine_seconds:.1f} s; peak memory {invented_memory:.2f} GB after inventing, {engine_memory:.2f} GB after the engine, {peak_memory():.2f} GB at the end"
    )
    if given.adam_epochs:
        ours, adams = rows[1], rows[-1]
        console.print(
            f"engine dense over Adam: loss {ours.loss / adams.loss:.3f}, capped {ours.capped / adams.capped:.3f}, median {ours.median / adams.median:.3f}"
        )
    for warning in warnings:
        console.print(f"warning: {warning}")
    if given.json is not None:
        content = {"machine": machine.as_dict(), "size": asdict(Size(**{name: getattr(given, name) for name in asdict(Size())}))}
        content |= {"keep": given.keep, "seed": given.seed, "degenerate": float(measure.degenerate.mean()), "figures": [asdict(r) for r in rows]}
        content |= {"engine_seconds": engine_seconds, "engine_peak_gb": engine_memory, "peak_gb": peak_memory(), "warnings": warnings}
        given.json.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return 0 if honest else 1


def note_of(result: TreeNewtonResult) -> str:
    """How the solver ended."""
    return f"{result.status}; tau {result.tau:g}, {result.iterations} steps, {result.factorisations} factorisations, relative gap {result.duality_gap:.1e}"


def tables(rows: Sequence[Figures]) -> list[Table]:
    """Errors; then by level, and remarks."""
    errors = Table("", "records", "loss", "capped", "counts", "amounts", "not degenerate", "median ARE", "within 1 %", "within 10 %", "ESS", "seconds")
    levels = Table("", *(f"capped, {name}" for name in LEVELS), *(f"median, {name}" for name in LEVELS), "")
    for r in rows:
        shares = [f"{v:.2%}" for v in (r.capped, r.capped_counts, r.capped_amounts, r.capped_not_degenerate, r.median, r.within_1, r.within_10)]
        errors.add_row(r.name, f"{r.records:,}", f"{r.loss:,.2f}", *shares, f"{r.ess:,.0f}", f"{r.seconds:.1f}")
        levels.add_row(r.name, *(f"{v:.2%}" for v in r.capped_by_level), *(f"{v:.2%}" for v in r.median_by_level), r.note)
    return [errors, levels]


if __name__ == "__main__":
    raise SystemExit(main())
