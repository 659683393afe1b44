"""The invented nation of ``benchmarks.nested``, and how weights for it are measured.

The nation, its measures and the figures are described in ``nested.py``.

Belongs here: records, true weights, targets, figures. Does not belong here: methods, the
comparison.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, make_targets

LEVELS = ("nation", "state", "district")
# Standard deviation of the log of targets, by level.
NOISE = (0.01, 0.03, 0.06)


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
    """``problem`` with its records sorted by district; ``amount`` (national variables,) whether one
    is an amount; ``order`` (records,) a size by which lists are sorted.
    """

    problem: PairProblem
    amount: np.ndarray
    order: np.ndarray


def make_nation(size: Size, seed: int) -> Nation:
    """Invent records, true weights and targets."""
    rng = np.random.default_rng(seed)
    state_of = _split(size.districts, size.states, rng)
    leaf = _split(size.records, size.districts, rng)
    paths = [
        ["US"] * size.districts,
        [f"s{s:02d}" for s in state_of],
        [f"d{d:03d}" for d in range(size.districts)],
    ]
    tree = GeographyTree.from_leaves(LEVELS, paths)
    latent = (
        rng.standard_normal((size.records, 3))
        + 0.3 * rng.standard_normal((size.districts, 3))[leaf]
    )
    amount = np.arange(size.national) % 2 == 1
    design = np.empty((size.records, size.national))
    for v in range(size.national):
        design[:, v] = _variable(latent, bool(amount[v]), np.random.default_rng([seed, v]))
    initial = 130e6 / size.records * np.exp(0.4 * rng.standard_normal(size.records))
    tilt = 0.25 * rng.standard_normal((size.districts, 3))
    truth = initial * np.exp(
        0.1 * rng.standard_normal(size.districts)[leaf]
        + (latent * tilt[leaf]).sum(axis=1)
        + 0.25 * rng.standard_normal(size.records)
    )
    designs = [
        design,
        np.ascontiguousarray(design[:, : size.state]),
        np.ascontiguousarray(design[:, : size.district]),
    ]
    first = np.searchsorted(leaf, np.arange(size.districts + 1))
    values = []
    for depth, columns in enumerate(designs):
        own = np.stack([truth[a:b] @ columns[a:b] for a, b in itertools.pairwise(first)])
        total = tree.sum_leaves(own, depth)
        values.append(total * np.exp(NOISE[depth] * rng.standard_normal(total.shape)))
    scales = [np.maximum(np.abs(b), 1.0) for b in values]
    problem = PairProblem(
        tree, make_targets(tree, designs, values, scales), leaf, np.arange(size.records), initial
    )
    return Nation(problem, amount, latent[:, 0])


def _split(count: int, into: int, rng: np.random.Generator) -> np.ndarray:
    """(count,) int64 ascending, every one of ``into`` parts at least once, of sizes that differ by
    up to some factors of two.
    """
    share = np.exp(0.3 * rng.standard_normal(into))
    ends = np.floor(np.cumsum(share) / share.sum() * (count - into) + 1e-9).astype(
        np.int64
    ) + np.arange(1, into + 1)
    ends[-1] = count
    return np.searchsorted(ends, np.arange(count), side="right")


def _variable(latent: np.ndarray, amount: bool, rng: np.random.Generator) -> np.ndarray:
    """(records,) a count of persons or an amount of money, which the latent traits make likelier or
    larger.
    """
    records = latent.shape[0]
    taking = rng.standard_normal(3) * 0.5
    share = float(np.exp(rng.uniform(np.log(0.005), np.log(0.6))))
    score = (latent @ taking + rng.standard_normal(records)) / np.sqrt(1.0 + taking @ taking)
    has = score > -special.ndtri(share)
    if not amount:
        return np.where(has, 1.0 + rng.poisson(0.6, records), 0.0)
    spread, pull = rng.uniform(0.7, 2.2), 0.4 * rng.standard_normal(3)
    return np.where(
        has,
        np.round(
            np.exp(rng.uniform(5.0, 10.0) + latent @ pull + spread * rng.standard_normal(records))
        ),
        0.0,
    )


@dataclass(frozen=True)
class Figures:
    """One set of weights against the targets. ``seconds`` of it alone; ``extrapolated`` where fewer
    epochs than published were run.
    """

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
class Measure:
    """Targets flattened, top level first, with what weighs them."""

    target: np.ndarray
    scale: np.ndarray
    omega: np.ndarray
    amount: np.ndarray
    level: np.ndarray
    degenerate: np.ndarray

    def __call__(
        self, name: str, fitted: Sequence[np.ndarray], weights: np.ndarray, seconds: float, **more
    ) -> Figures:
        residual = np.concatenate([f.ravel() for f in fitted]) - self.target
        relative = np.abs(residual) / self.scale
        error = np.abs(residual[self.target != 0]) / np.abs(self.target[self.target != 0])

        def capped(where):
            return float(
                (self.omega * np.minimum(relative, 1.0))[where].sum() / self.omega[where].sum()
            )

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
            median_by_level=tuple(
                float(np.median(relative[self.level == depth])) for depth in levels
            ),
            within_1=float((error <= 0.01).mean()),
            within_10=float((error <= 0.10).mean()),
            ess=float(weights.sum() ** 2 / (weights**2).sum()),
            seconds=seconds,
            **more,
        )


def measure_of(nation: Nation) -> Measure:
    """Weights of the targets, and which are degenerate."""
    problem = nation.problem
    targets = problem.targets

    def flat(arrays):
        return np.concatenate([a.ravel() for a in arrays])

    target, scale = flat(targets.values), flat(targets.scales)
    amount = flat([np.broadcast_to(nation.amount[: v.shape[1]], v.shape) for v in targets.values])
    level = flat([np.full(v.shape, depth) for depth, v in enumerate(targets.values)])
    first = np.searchsorted(problem.leaf, np.arange(len(problem.tree.leaves) + 1))
    largest = np.stack(
        [
            (problem.prior_weight[a:b, None] * targets.designs[0][a:b]).max(axis=0)
            for a, b in itertools.pairwise(first)
        ]
    )
    by_level = []
    for depth, value in enumerate(targets.values):
        top = np.zeros((value.shape[0], largest.shape[1]))
        np.maximum.at(top, problem.tree.ancestor_of_leaves(depth), largest)
        by_level.append(top[:, : value.shape[1]] > np.abs(value))
    omega = np.sqrt(scale)
    for part in (amount, ~amount):
        omega[part] *= 0.5 / omega[part].sum()
    return Measure(target, scale, omega, amount, level, flat(by_level))
