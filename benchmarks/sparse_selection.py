"""Which records to keep: learned gates, reweighted L1, draws across categories and draws at random,
each refitted, side by side.

    python -m benchmarks.sparse_selection --records 20000 --targets 300 --keep 600 300 --seeds 3
    [--json FILE]

An invented population is calibrated to noisy totals of some families of targets; every method then
keeps exactly k records. It is judged on the totals it was given and, against the truth, on whole
families it never saw (never on random rows: the rows of one family share their total). Differences
to the random draw are paired by seed.

Belongs here: the population, the comparison, the table. Does not belong here: methods; speed
(``benchmarks.methods``); plots.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import numpy as np
from scipy import sparse, stats

from calibration_core import CalibrationProblem, calibrate, settings_of
from calibration_core.errors import SettingsError

# (method, label, settings); ``records`` and ``seed`` are added.
SPARSE = (
    ("random_subset", "random + refit", {}),
    ("cross_category", "cross_category", {}),
    ("hybrid", "hybrid", {}),
    ("hard_concrete", "hard_concrete", {"refit": False}),
    ("hard_concrete", "hard_concrete + refit", {}),
    ("reweighted_l1", "reweighted_l1 + refit", {}),
)
BASELINE = "random + refit"
_FIXED, _PER_REGION = 108, 24


@dataclass(frozen=True, eq=False)
class Population:
    """A calibration problem and the families it was not given.

    Attributes
    ----------
    problem : fitted families, with noisy totals.
    held_out : (rows, records) CSR, the families withheld.
    truth : (rows,) their totals in the population, without noise.
    families : (rows,) the family of each withheld row.
    """

    problem: CalibrationProblem
    held_out: sparse.csr_array
    truth: np.ndarray
    families: np.ndarray


def population(records: int, targets: int, seed: int) -> Population:
    """Invent records with correlated categories and skewed amounts, and totals of a tilted
    population with sampling noise.

    The number of regions follows from ``targets``: 108 + 24 regions is the number fitted, the
    nearest possible to it.
    """
    rng = np.random.default_rng(seed)
    regions = max(2, round((targets - _FIXED) / _PER_REGION))
    class_, age_score, urban = rng.normal(size=(3, records))
    levels = {
        "region": regions,
        "age": 9,
        "sex": 2,
        "education": 5,
        "size": 5,
        "bracket": 10,
        "industry": 6,
        "tenure": 2,
    }
    scores = {
        "region": 0.4 * urban + rng.normal(size=records),
        "age": age_score,
        "sex": rng.normal(size=records),
        "education": 0.8 * class_ - 0.3 * age_score + 0.3 * urban + rng.normal(size=records),
        "size": -0.5 * np.abs(age_score) + 0.8 * rng.normal(size=records),
        "industry": 0.5 * class_ + 0.4 * urban + rng.normal(size=records),
        "tenure": 0.5 * class_ + 0.6 * age_score - 0.3 * urban + rng.normal(size=records),
    }
    work = np.exp(
        10.3 + 0.55 * class_ - 0.12 * age_score**2 + 0.15 * urban + 0.6 * rng.normal(size=records)
    ) * (rng.random(records) < 0.75)
    interest = np.exp(5.0 + 0.8 * class_ + 0.7 * age_score + 1.3 * rng.normal(size=records)) * (
        rng.random(records) < 0.4
    )
    gains = np.exp(7.0 + 1.0 * class_ + 0.4 * age_score + 1.6 * rng.normal(size=records)) * (
        rng.random(records) < 0.12
    )
    benefits = np.exp(8.5 - 0.4 * class_ + 0.5 * rng.normal(size=records)) * (
        rng.random(records) < 1 / (1 + np.exp(1.0 + 0.8 * class_ - 0.8 * age_score))
    )
    income = work + interest + gains + benefits
    tax = np.maximum(0.0, 0.22 * (income - 15_000))
    scores["bracket"] = income
    code = {name: _cut(score, levels[name], rng) for name, score in scores.items()}
    amount = {"work": work, "interest": interest, "gains": gains, "benefits": benefits, "tax": tax}

    def family(*names: str, of: str = "") -> tuple[str, sparse.csr_array]:
        cell, count = np.zeros(records, dtype=np.int64), 1
        for name in names:
            cell, count = cell * levels[name] + code[name], count * levels[name]
        values = amount[of] if of else np.ones(records)
        label = (of + " by " if of else "") + " x ".join(names)
        return label, sparse.csr_array((values, (cell, np.arange(records))), shape=(count, records))

    fitted = [family(n) for n in ("region", "education", "size", "bracket", "industry", "tenure")]
    fitted += [
        family("age", "sex"),
        family("region", "age"),
        family("region", "bracket"),
        family("industry", "education"),
    ]
    fitted += [family(n, of="work") for n in ("region", "age", "industry", "size")] + [
        family(n, of="interest") for n in ("region", "education")
    ]
    fitted += [family(n, of="benefits") for n in ("region", "size")] + [
        family(n, of="tax") for n in ("region", "tenure")
    ]
    withheld = [
        family("region", "education"),
        family("region", "industry"),
        family("age", "bracket"),
        family("region", "tenure"),
        family("size", "age"),
    ]
    withheld += [
        family("age", of="interest"),
        family("education", of="work"),
        family("age", of="benefits"),
        family("bracket", of="gains"),
    ]
    matrix, names, groups = _stack(fitted)
    held_out, _, families = _stack(withheld)
    design = rng.gamma(4.0, 25.0, size=records)
    tilt = np.exp(0.25 * class_ - 0.2 * age_score + 0.15 * (code["region"] == 1) + 0.1 * urban)
    true = design * tilt * (1.02 / np.average(tilt, weights=design))
    totals = matrix @ true
    support = np.maximum(np.diff(sparse.csr_array(matrix).indptr), 1)
    noisy = totals * np.exp((0.002 + 0.2 / np.sqrt(support)) * rng.normal(size=totals.size))
    supported = totals > 0
    problem = CalibrationProblem(
        matrix[supported],
        noisy[supported],
        design,
        target_names=[n for n, keep in zip(names, supported, strict=True) if keep],
        groups=[g for g, keep in zip(groups, supported, strict=True) if keep],
    )
    truth = held_out @ true
    seen = truth > 0
    return Population(problem, held_out[seen], truth[seen], np.array(families)[seen])


def _cut(score: np.ndarray, levels: int, rng: np.random.Generator) -> np.ndarray:
    shares = rng.dirichlet(np.full(levels, 8.0)).cumsum()[:-1]
    return np.searchsorted(np.quantile(score, shares), score).astype(np.int64)


def _stack(
    families: Sequence[tuple[str, sparse.csr_array]],
) -> tuple[sparse.csr_array, list[str], list[str]]:
    names = [f"{label}: {j}" for label, rows in families for j in range(rows.shape[0])]
    groups = [label for label, rows in families for _ in range(rows.shape[0])]
    return (
        sparse.csr_array(sparse.vstack([rows for _, rows in families], format="csr")),
        names,
        groups,
    )


@dataclass(frozen=True)
class Score:
    """One method on one seed. Errors are absolute relative errors; ``loss`` the mean square of
    those in sample.
    """

    label: str
    keep: int
    seed: int
    kept: int
    converged: bool
    loss: float
    median: float
    mean: float
    held_median: float
    held_mean: float
    effective: float
    seconds: float
    families: dict[str, float] = field(default_factory=dict)


def score(
    population: Population,
    weights: np.ndarray,
    label: str,
    keep: int,
    seed: int,
    seconds: float,
    converged: bool,
) -> Score:
    """Judge weights in sample, against the noisy targets, and held out, against the truth; families
    by their median error.
    """
    problem = population.problem
    inside = np.abs(problem.matrix.totals(weights) - problem.targets) / np.abs(problem.targets)
    outside = np.abs(population.held_out @ weights - population.truth) / population.truth
    families = {
        name: float(np.median(outside[population.families == name]))
        for name in dict.fromkeys(population.families)
    }
    effective = float(weights.sum()) ** 2 / float((weights**2).sum())
    loss, middle, mean = float((inside**2).mean()), float(np.median(inside)), float(inside.mean())
    kept = int((weights != 0).sum())
    return Score(
        label,
        keep,
        seed,
        kept,
        converged,
        loss,
        middle,
        mean,
        float(np.median(outside)),
        float(outside.mean()),
        effective,
        seconds,
        families,
    )


def compare(
    records: int, targets: int, keep: Sequence[int], seeds: int, tell: Callable[[str], None] = print
) -> tuple[list[Score], tuple[int, int]]:
    """All methods that are installed on every seed and k, and the dense calibration as the floor;
    also (targets, records) used.
    """
    scores, missing, size = [], [], (0, 0)
    for seed in range(seeds):
        invented = population(records, targets, seed)
        size = invented.problem.size
        dense = calibrate(invented.problem, "raking", explain=False)
        scores.append(
            score(
                invented,
                dense.weights,
                "dense (all records)",
                records,
                seed,
                dense.seconds,
                dense.converged,
            )
        )
        for k in keep:
            for method, label, extra in SPARSE:
                try:
                    accepted = {f.name for f in fields(settings_of(method))}
                except (ModuleNotFoundError, SettingsError):
                    missing.append(label)
                    continue
                settings = {"records": k, **extra} | ({"seed": seed} if "seed" in accepted else {})
                began = time.perf_counter()
                result = calibrate(invented.problem, method, **settings)
                scores.append(
                    score(
                        invented,
                        result.weights,
                        label,
                        k,
                        seed,
                        time.perf_counter() - began,
                        result.converged,
                    )
                )
                last = scores[-1]
                tell(
                    f"seed {seed}  k {k}  {label:22}  loss {last.loss:.3e}  held out"
                    f" {last.held_mean:.3f}  {last.seconds:.1f} s"
                )
    for label in dict.fromkeys(missing):
        tell(f"not here, so not compared: {label}")
    return scores, size


def paired(scores: Sequence[Score], label: str, keep: int, figure: str) -> tuple[float, float]:
    """(mean, half width of the 95 % interval) of ``figure`` of a method minus the random draw's,
    paired by seed.
    """
    base = {s.seed: getattr(s, figure) for s in scores if s.label == BASELINE and s.keep == keep}
    gaps = np.array(
        [
            getattr(s, figure) - base[s.seed]
            for s in scores
            if s.label == label and s.keep == keep and s.seed in base
        ]
    )
    if gaps.size < 2:
        return float(gaps.mean()) if gaps.size else float("nan"), float("nan")
    return float(gaps.mean()), float(
        stats.t.ppf(0.975, gaps.size - 1) * gaps.std(ddof=1) / np.sqrt(gaps.size)
    )


def table(scores: Sequence[Score]) -> str:
    """Means over seeds, one block a k."""
    lines = []
    for k in sorted({s.keep for s in scores}, reverse=True):
        labels = list(dict.fromkeys(s.label for s in scores if s.keep == k))
        lines += [
            "",
            f"k = {k:,}",
            (
                f"{'method':24}{'kept':>12}{'loss':>11}{'median':>9}{'mean':>9}{'held md':>9}"
                f"{'held mn':>9}{'ESS':>8}{'s':>7}   held-out mean - random"
            ),
        ]
        for label in labels:
            rows = [s for s in scores if s.label == label and s.keep == k]

            def mean(name, rows=rows):
                return float(np.mean([getattr(s, name) for s in rows]))

            kept = "/".join(str(x) for x in sorted({s.kept for s in rows}))
            shares = ("median", "mean", "held_median", "held_mean")
            figures = f"{mean('loss'):11.2e}" + "".join(f"{mean(name):9.2%}" for name in shares)
            gap, half = paired(scores, label, k, "held_mean")
            versus = (
                ""
                if label == BASELINE or np.isnan(gap)
                else f"   {100 * gap:+.1f} +- {100 * half:.1f} points"
            )
            lines.append(
                f"{label:24}{kept:>12}{figures}{mean('effective'):8.0f}{mean('seconds'):7.1f}"
                f"{versus}"
            )
        families = list(rows[0].families)
        if len(labels) > 1:
            lines += [
                "  held-out families, median error",
                "  " + " " * 24 + "".join(f"{name[:17]:>19}" for name in families),
            ]
            for label in labels:
                rows = [s for s in scores if s.label == label and s.keep == k]
                lines.append(
                    "  "
                    + f"{label:24}"
                    + "".join(
                        f"{np.mean([s.families[name] for s in rows]):19.1%}" for name in families
                    )
                )
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--records", type=int, default=20_000)
    parser.add_argument("--targets", type=int, default=300)
    parser.add_argument("--keep", type=int, nargs="+", default=[600, 300])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file for the figures of every seed")
    given = parser.parse_args(arguments)
    scores, (m, n) = compare(given.records, given.targets, given.keep, given.seeds)
    print(
        f"\n{n:,} records x {m} fitted targets, {given.seeds} seeds; means over seeds; absolute"
        " relative errors"
    )
    print(table(scores))
    if given.json:
        head = {
            "records": n,
            "targets": m,
            "seeds": given.seeds,
            "machine": platform.platform(),
            "cores": os.cpu_count(),
        }
        given.json.write_text(
            json.dumps({**head, "scores": [asdict(s) for s in scores]}, indent=1), encoding="utf-8"
        )
    wrong = [s for s in scores if s.keep != n and s.kept != s.keep]
    for s in wrong:
        print(f"! {s.label} kept {s.kept} records instead of {s.keep} on seed {s.seed}")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(main())
