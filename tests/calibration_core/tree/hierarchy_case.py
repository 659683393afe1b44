"""Small random hierarchies, and an independent dense Newton method that solves them.

Belongs here: problems and the oracle. Does not belong here: tests.
"""

from dataclasses import dataclass

import numpy as np
import pytest
from scipy.special import expit, xlogy

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, PoolProblem, make_targets
from calibration_core.tree.solve.newton import TreeNewtonSettings

HIERARCHIES = [
    ("nation",),
    ("nation", "state"),
    ("puma", "tract", "block group"),
    ("nation", "state", "district"),
    ("nation", "state", "county", "tract"),
]


TAU = 0.1


TIGHT = TreeNewtonSettings(tau_path=(1.0, TAU), tolerance=1e-11, prior_unit=1.0)


LINKS = {
    "exponential": {},
    "logit": {"ratio_bounds": (0.2, 4.0)},
    "hold_total": {"hold_total": True},
}


named = pytest.mark.parametrize("names", HIERARCHIES, ids="-".join)


linked = pytest.mark.parametrize("link", LINKS)


def random_tree(rng: np.random.Generator, names: tuple[str, ...]) -> GeographyTree:
    """One area at the top, two or three in each; those of one parent are scattered
    over the level.
    """
    parents = [np.empty(0, dtype=np.int64)]
    for _ in names[1:]:
        count = max(parents[-1].size, 1)
        parents.append(
            rng.permutation(
                np.repeat(np.arange(count), rng.integers(1 if count > 2 else 2, 4, size=count))
            )
        )
    geoids = tuple(tuple(f"{i:03d}" for i in range(max(p.size, 1))) for p in parents)
    return GeographyTree(names, geoids, tuple(parents))


def random_pool(seed: int, names: tuple[str, ...], records: int = 12) -> PoolProblem:
    """Targets are those of tilted weights plus noise, so that levels disagree. Some columns are the
    same at two levels, one is in dollars, some targets are missing, and some leaves have no share
    of a group of records.
    """
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, names)
    leaves = len(tree.leaves)
    common = rng.poisson(1.0, size=(records, 2)).astype(float)
    designs = [
        np.column_stack([common, rng.poisson(1.0, size=(records, int(rng.integers(1, 3))))]).astype(
            float
        )
        for _ in names
    ]
    designs[0] = np.column_stack([designs[0], rng.lognormal(10.0, 1.0, records)])
    group = rng.integers(0, 2, records)
    leaf_prior = rng.dirichlet(np.ones(leaves), size=2).T
    if leaves > 2:
        leaf_prior[0, 0] = 0.0
    record_prior = rng.gamma(2.0, 2.0, size=records)
    tilted = leaf_prior[:, group] * record_prior * np.exp(0.4 * rng.normal(size=(leaves, records)))
    values, scales = [], []
    for depth, design in enumerate(designs):
        total = tree.sum_leaves(tilted, depth) @ design
        scale = (rng.gamma(2.0, 0.3, size=total.shape) + 0.05) * np.maximum(1.0, 0.02 * total)
        values.append(total + scale * rng.normal(size=total.shape))
        scales.append(np.where((rng.random(total.shape) < 0.1) & (depth > 0), np.inf, scale))
    return PoolProblem(
        tree, make_targets(tree, designs, values, scales), record_prior, group, leaf_prior
    )


def as_pairs(problem: PoolProblem, rng: np.random.Generator | None = None) -> PairProblem:
    """All pairs with a prior; with ``rng``, about two thirds of them, and none in the last leaf,
    their priors raised to the same total.
    """
    prior = problem.prior()
    keep = prior > 0
    if rng is not None:
        keep &= rng.random(prior.shape) < 0.7
        keep[-1] &= prior.shape[0] == 1
    leaf, record = np.nonzero(keep)
    return PairProblem(
        problem.tree,
        problem.targets,
        leaf,
        record,
        prior[leaf, record] * (prior.sum() / prior[keep].sum()),
    )


@dataclass(frozen=True)
class Dense:
    """A problem written out: rows of targets in use, divided by their scales, over all pairs."""

    rows: np.ndarray
    right: np.ndarray
    prior: np.ndarray

    @staticmethod
    def of(problem: PoolProblem | PairProblem) -> "Dense":
        if isinstance(problem, PoolProblem):
            leaf, record = (a.ravel() for a in np.indices(problem.prior().shape))
            prior = problem.prior().ravel()
        else:
            leaf, record, prior = problem.leaf, problem.record, problem.prior_weight
        rows, right = [], []
        for depth, (design, value, scale) in enumerate(
            zip(
                problem.targets.designs, problem.targets.values, problem.targets.scales, strict=True
            )
        ):
            area = problem.tree.ancestor_of_leaves(depth)[leaf]
            for a, j in np.argwhere(np.isfinite(scale)):
                rows.append(np.where(area == a, design[record, j], 0.0) / scale[a, j])
                right.append(value[a, j] / scale[a, j])
        return Dense(np.array(rows), np.array(right), prior)

    def ratio_and_slope(self, u: np.ndarray, link: str) -> tuple[np.ndarray, np.ndarray]:
        if link != "logit":
            return np.exp(u), np.exp(u)
        low, high = LINKS["logit"]["ratio_bounds"]
        a = (high - low) / ((1 - low) * (high - 1))
        ratio = low + (high - low) * expit(a * u + np.log((1 - low) / (high - 1)))
        return ratio, (ratio - low) * (high - ratio) / ((1 - low) * (high - 1))

    def weights(self, y: np.ndarray, link: str) -> np.ndarray:
        u = self.rows.T @ y
        if link != "hold_total":
            return self.prior * self.ratio_and_slope(u, link)[0]
        w = self.prior * np.exp(u - u.max())
        return w * (self.prior.sum() / w.sum())

    def gradient(self, y: np.ndarray, tau: float, link: str) -> np.ndarray:
        return self.rows @ self.weights(y, link) - self.right + tau * y

    def solve(self, tau: float, link: str) -> np.ndarray:
        """y by Newton's method on the gradient, damped so that its norm falls, from a strong prior
        down; the dual is strongly convex.
        """
        y = np.zeros(self.right.size)
        for step in range(9):
            y = self.descend(y, tau * 4.0 ** (8 - step), link)
        assert np.abs(self.gradient(y, tau, link)).max() < 1e-10, (
            "the oracle itself must be at the optimum"
        )
        return y

    def descend(self, y: np.ndarray, tau: float, link: str) -> np.ndarray:
        gradient = self.gradient(y, tau, link)
        for _ in range(100):
            w = self.weights(y, link)
            slope = (
                w
                if link == "hold_total"
                else self.prior * self.ratio_and_slope(self.rows.T @ y, link)[1]
            )
            hessian = self.rows @ (slope[:, None] * self.rows.T) + tau * np.eye(y.size)
            if link == "hold_total":
                hessian -= np.outer(self.rows @ w, self.rows @ w) / w.sum()
            step, length = np.linalg.solve(hessian, -gradient), 1.0
            while length > 1e-12:
                new = self.gradient(y + length * step, tau, link)
                if np.linalg.norm(new) < np.linalg.norm(gradient):
                    break
                length *= 0.5
            else:
                break
            y, gradient = y + length * step, new
        return y

    def distance(self, w: np.ndarray, link: str) -> float:
        """Prior distance of weights, written from its definition (0 log 0 = 0)."""
        r, q = w[self.prior > 0] / self.prior[self.prior > 0], self.prior[self.prior > 0]
        if link != "logit":
            return float((q * (xlogy(r, r) - r + 1)).sum())
        low, high = LINKS["logit"]["ratio_bounds"]
        above, below = np.maximum(r - low, 0.0), np.maximum(high - r, 0.0)
        a = (high - low) / ((1 - low) * (high - 1))
        return float(
            (q * (xlogy(above, above / (1 - low)) + xlogy(below, below / (high - 1)))).sum() / a
        )

    def primal(self, w: np.ndarray, tau: float, link: str) -> float:
        return 0.5 * float(((self.rows @ w - self.right) ** 2).sum()) + tau * self.distance(w, link)
