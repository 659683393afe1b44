"""Exactly so many records of the invented nation, district by district.

Belongs here: the selection of ``benchmarks.nested``. Does not belong here: the nation
(``nested_nation.py``), the draw itself (``calibration_core.tree.select``).
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from benchmarks.nested_nation import LEVELS, Nation
from calibration_core.sampling.allocation import allocate
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, Targets
from calibration_core.tree.select.balance import Balance
from calibration_core.tree.select.pairs import select_pairs
from calibration_core.tree.select.pool import Pool
from calibration_core.tree.select.settings import SelectionSettings
from calibration_core.tree.select.support import ensure_support


@dataclass(frozen=True, eq=False)
class Kept:
    """The problem of the records kept, and what was done after the draw: ``exchanged`` records,
    district targets given a record back (``rescued``) and left without any (``lost``).
    """

    problem: PairProblem
    exchanged: int
    rescued: int
    lost: int


def pool_of(
    problem: PairProblem, order: np.ndarray, dense: np.ndarray, leaf: int, here: slice
) -> Pool:
    """One district as a pool of its own: its records, its targets, one cell."""
    alone = GeographyTree.from_leaves(LEVELS[2:], [[problem.tree.leaves[leaf]]])
    own = problem.targets
    targets = Targets(
        (own.designs[2][here],),
        (own.values[2][leaf : leaf + 1],),
        (own.scales[2][leaf : leaf + 1],),
    )
    one_cell = np.zeros(here.stop - here.start, dtype=np.int64)
    return Pool(alone, targets, dense[None, here], one_cell, order[here], own.designs[1][here])


def select(
    nation: Nation,
    dense: np.ndarray,
    keep: int,
    seed: int,
    exchanges: float,
    design: str = "systematic",
) -> Kept:
    """Exactly ``keep`` records, district by district, with Horvitz-Thompson weights to start from.

    Every record lies in one district, so each district is a selection of its own: as many records
    as its share of the dense weight. Candidates come in proportion to dense weight along the list
    sorted by size and are drawn by ``design``; then follow at most ``exchanges`` per record kept.
    What is held are the dense totals of the variables of its state. (A state's error is a sum of
    its districts', and the unit of the variables only the state has so much larger.) Targets that
    nothing drawn contributes to are given a record.
    """
    problem, tree = nation.problem, nation.problem.tree
    rows, own = problem.targets.designs[1], problem.targets.designs[2]
    districts = len(tree.leaves)
    share = allocate(
        keep,
        np.bincount(problem.leaf, dense, districts),
        floor=1,
        ceiling=np.bincount(problem.leaf[dense > 0], minlength=districts),
        names=tree.leaves,
    )
    brothers = np.bincount(tree.parents[2])[tree.parents[2]]
    unit = np.ones(rows.shape[1])
    chosen, weight, counts = [], [], np.zeros(3, dtype=np.int64)
    for leaf, (a, b) in enumerate(
        itertools.pairwise(np.searchsorted(problem.leaf, np.arange(districts + 1)))
    ):
        here = slice(a, b)
        unit[own.shape[1] :] = np.sqrt(brothers[leaf])
        goal = dense[None, here] @ rows[here]
        balance = Balance(rows[here], goal, np.where(goal != 0, unit * np.abs(goal), np.inf))
        # A seed of each district's own: as an area each of them is number 0.
        number = int(np.random.SeedSequence([seed, leaf]).generate_state(1, np.uint64)[0])
        settings = SelectionSettings(
            int(share[leaf]), number, floor=1, design=design, exchanges=exchanges, cell_penalty=0.0
        )
        pool = pool_of(problem, nation.order, dense, leaf, here)
        drawn = select_pairs(pool, settings, balance=balance, pairs_per_area=share[leaf : leaf + 1])
        used = np.isfinite(pool.targets.scales[0]) & (own[here] != 0).any(axis=0)
        mended = ensure_support(drawn, pool, [used])
        counts += int(drawn.exchanges.sum()), len(mended.rescued), len(mended.without_support)
        chosen.append(mended.record + a)
        weight.append(mended.weight)
    index = np.concatenate(chosen)
    targets = Targets(
        tuple(d[index] for d in problem.targets.designs),
        problem.targets.values,
        problem.targets.scales,
    )
    return Kept(
        PairProblem(
            tree, targets, problem.leaf[index], np.arange(index.size), np.concatenate(weight)
        ),
        *counts.tolist(),
    )
