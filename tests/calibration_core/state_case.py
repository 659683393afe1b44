"""Problems for tests of selection: a small invented state with targets at each level and dense
weights, and random dense weights of every awkward kind.
"""

from __future__ import annotations

import numpy as np

from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.select.balance import Balance
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import JointSettings, SelectionSettings
from calibration_core.tree.solve.newton import TreeNewtonSettings, calibrate_tree

REFINE = TreeNewtonSettings(
    tau_path=(1.0, 0.3, 0.1, 0.03),
    share=(0.0, 0.0, 0.999),
    ratio_bounds=(0.05, 10.0),
    tolerance=1e-8,
    path_tolerance=0.5,
    max_iterations=300,
)


def joint(
    pairs: int, *, seed: int = 1, anchor_strength: float = 0.25, limits=None, **options
) -> JointSettings:
    """Settings for a state of ``make_state``."""
    chosen_by = SelectionSettings(pairs, seed, floor=5, **options)
    return JointSettings(chosen_by, REFINE, anchor_strength, limits)


def make_state(seed: int = 0, records: int = 160, tracts: tuple[int, ...] = (3, 4)) -> Pool:
    """Attributes are nine: six with tract targets, one with county and state targets, two with
    none; there are two classes of cells."""
    rng = np.random.default_rng(seed)
    leaves = sum(tracts)
    county = np.repeat([f"01{c:03d}" for c in range(len(tracts))], tracts)
    tree = GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [["01"] * leaves, county.tolist(), [f"{c}{t:06d}" for t, c in enumerate(county)]],
    )
    persons, income = 1 + rng.poisson(1.5, records), rng.lognormal(10.5, 0.9, records)
    owner, old = rng.random(records) < 0.6, rng.poisson(0.4, records)
    own = np.column_stack(
        [np.ones(records), persons, old, owner, income > 60e3, persons == 1]
    ).astype(float)
    wages = np.where(rng.random(records) < 0.7, np.round(0.8 * income / 1e3), 0.0)
    gains = np.where(
        rng.random(records) < 0.15, np.round(income * rng.lognormal(-1, 1, records) / 1e3), 0.0
    )
    other = (rng.random(records) < 0.3).astype(float)
    attributes = np.column_stack([own, wages, gains, other])
    tilt = (
        0.4
        * rng.standard_normal((leaves, 3))
        @ np.stack([(persons - 2.5) / 1.2, (np.log(income) - 10.5) / 0.9, owner - 0.6])
    )
    truth = np.exp(tilt + 0.2 * rng.standard_normal((leaves, records)))
    truth *= rng.uniform(400, 1500, leaves)[:, None] / truth.sum(axis=1, keepdims=True)
    designs = [attributes[:, :7], attributes[:, :7], own]
    values = [tree.sum_leaves(truth @ d, depth) for depth, d in enumerate(designs)]
    scales = [np.maximum(0.001 * v, 1.0) for v in values[:2]] + [
        2.0 * np.sqrt(np.maximum(values[2], 4.0))
    ]
    values[2] = np.maximum(values[2] + 0.7 * scales[2] * rng.standard_normal(scales[2].shape), 0.0)
    targets = make_targets(tree, designs, values, scales)
    households = truth.sum(axis=1)
    problem = PoolProblem(
        tree,
        targets,
        np.full(records, households.sum() / records),
        np.zeros(records, dtype=np.int64),
        (households / households.sum())[:, None],
    )
    dense = calibrate_tree(problem, TreeNewtonSettings(tau_path=(1.0, 0.1), tolerance=1e-9)).weights
    cell = np.searchsorted([30e3, 60e3], income) * 2 + owner
    number = np.arange(6)
    classes = (
        number[None, :] // 2 == np.arange(3)[:, None],
        number[None, :] % 2 == np.arange(2)[:, None],
    )
    return Pool(tree, targets, dense, cell.astype(np.int64), income, attributes, classes)


def random_problem(seed: int) -> tuple[Pool, Balance, int, int]:
    """(pool, balance, pairs, floor): up to six areas without targets, some empty, some of less than
    a household. Weights are of one size or over many orders of magnitude, and some records are
    certain to be drawn. There are one to three classes of cells, and k goes from one per area to
    every pair.
    """
    rng = np.random.default_rng(seed)
    leaves, records = int(rng.integers(1, 7)), int(rng.integers(2, 40))
    tail = rng.choice([0.0, 1.0, 3.0, 6.0])
    dense = np.exp(tail * rng.standard_normal((leaves, records))) * (
        rng.random((leaves, records)) < rng.uniform(0.3, 1.0)
    )
    dense[:, int(rng.integers(records))] += 0.1
    if rng.random() < 0.5:
        dense[:, int(rng.integers(records))] += 3.0 * dense.sum(axis=1).max()
    dense *= 10.0 ** rng.choice([-4.0, 0.0, 3.0], size=(leaves, 1))
    dense[rng.random(leaves) < 0.2] = 0.0
    dense[0, 0] = max(dense[0, 0], 1e-3)
    cell = rng.integers(0, int(rng.integers(1, 9)), records)
    kinds = int(cell.max()) + 1
    number = np.arange(kinds)
    classes = [
        number[None, :] // 2 == np.unique(number // 2)[:, None],
        number[None, :] % 3 == np.unique(number % 3)[:, None],
        np.eye(kinds, dtype=bool),
    ]
    rows = rng.lognormal(0.0, 1.0, (records, 4)) * (rng.random((records, 4)) < 0.7)
    scales = np.where(rng.random((leaves, 4)) < 0.2, np.inf, rng.uniform(0.1, 10.0, (leaves, 4)))
    least, most = int((dense > 0).any(axis=1).sum()), int((dense > 0).sum())
    pairs = int(
        rng.choice([least, most, rng.integers(least, most + 1), rng.integers(least, most + 1)])
    )
    order, classes = rng.random(records), tuple(classes[: int(rng.integers(1, 4))])
    floor = int(rng.integers(1, 6))
    pool = Pool.of_one_level(dense, cell, order, classes=classes)
    return pool, Balance(rows, pool.dense @ rows, scales), pairs, floor
