"""Random tasks of choosing pairs.

Belongs here: trees, dense weights and targets of a task. Does not belong here: tests.
"""

import numpy as np

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import make_targets
from calibration_core.tree.rivals import PairOutcome, PairTask
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.solve.newton import TreeNewtonSettings

REFINE = TreeNewtonSettings(
    tau_path=(1.0, 0.1), ratio_bounds=(0.05, 10.0), tolerance=1e-6, path_tolerance=0.5
)


LEVELS = ("state", "county", "tract")


def make_tree(rng: np.random.Generator, depth: int) -> GeographyTree:
    """``depth`` levels; the top has one area, or several where it is the only level."""
    if depth == 1:
        return GeographyTree.from_leaves(("tract",), [[f"{i}" for i in range(3)]])
    paths = [["0"] * 5, [f"0{i}" for i in rng.integers(0, 2, 5)], [f"leaf{i}" for i in range(5)]]
    return GeographyTree.from_leaves(LEVELS[3 - depth :], [paths[0], *paths[4 - depth :]])


def make_task(seed: int, depth: int = 2, records: int = 14, fill: float = 0.5) -> PairTask:
    """Targets are noisy totals of the dense weights; about a fifth of the pairs have none, and one
    leaf is empty where there are five.

    ``fill``: pairs asked for as a share of those there are, at random a leaf; 0 is one a leaf and 1
    is all.
    """
    rng = np.random.default_rng(seed)
    tree = make_tree(rng, depth)
    leaves = len(tree.leaves)
    dense = rng.gamma(0.5, 8.0, (leaves, records)) * (rng.random((leaves, records)) < 0.8)
    dense[:, 0] = 1.0
    if leaves == 5:
        dense[3] = 0.0
    category = rng.integers(0, 3, records)
    common = np.column_stack(
        [np.ones(records), category == 0, category == 1, rng.poisson(2.0, records)]
    ).astype(float)
    designs = [
        common if depth == 1 else np.column_stack([common, rng.lognormal(9.0, 1.0, records)])
        for _ in tree.levels
    ]
    values = [
        tree.sum_leaves(dense @ d, depth) * rng.lognormal(0.0, 0.05, (size, d.shape[1]))
        for depth, (d, size) in enumerate(zip(designs, tree.sizes, strict=True))
    ]
    scales = [0.05 * np.abs(v) + 1.0 for v in values]
    scales[-1][0, 1] = np.inf
    targets = make_targets(tree, designs, values, scales)
    order = rng.normal(size=records)
    pool = Pool(tree, targets, dense, category.astype(np.int64), order, common)
    usable = (dense > 0).sum(axis=1)
    wanted = usable * (fill if fill in (0.0, 1.0) else rng.uniform(0, 2 * fill, leaves))
    counts = np.clip(np.round(wanted), np.minimum(1, usable), usable).astype(np.int64)
    return PairTask(pool, counts, seed, REFINE)


def loss_of(task: PairTask, outcome: PairOutcome) -> float:
    """1/2 sum of squared scaled residuals over all levels, written out pair by pair."""
    total = 0.0
    for depth, (design, value, scale) in enumerate(
        zip(
            task.pool.targets.designs,
            task.pool.targets.values,
            task.pool.targets.scales,
            strict=True,
        )
    ):
        fit = np.zeros(value.shape)
        np.add.at(
            fit,
            task.pool.tree.ancestor_of_leaves(depth)[outcome.leaf],
            outcome.weights[:, None] * design[outcome.record],
        )
        total += 0.5 * float((((fit - value) / scale)[np.isfinite(scale)] ** 2).sum())
    return total
