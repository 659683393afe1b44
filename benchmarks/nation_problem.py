"""One state of the invented nation as a problem: its tree, its true totals, its targets.

Belongs here: from a population to a PoolProblem. Does not belong here: the population itself
(``nation_population.py``), solving (``nation_states.py``), the run and its table (``nation.py``).
"""

from __future__ import annotations

import itertools

import numpy as np
import polars as pl

from benchmarks.nation_population import (
    COUNTY_EXTRAS,
    STATE_EXTRAS,
    TRACT_VARIABLES,
    StatePool,
    make_pool,
    published,
    true_weights,
)
from benchmarks.nation_states import MARGIN_90
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.reconcile.levels import reconcile_tree

_CHUNK = 200


def one_state(
    geography: pl.DataFrame, households: int, seed: int
) -> tuple[PoolProblem, np.ndarray]:
    """The problem of one state alone, its tables reconciled on its own, and the published margins
    of its tracts.
    """
    tree = GeographyTree.from_leaves(
        ["nation", "state", "county", "tract"],
        [[""] * geography.height, *(geography[c].to_list() for c in ("state", "county", "tract"))],
    )
    pool, span = make_pool(tree.geoids[1][0], households, seed), slice(0, tree.sizes[-1])
    true = [np.zeros((n, TRACT_VARIABLES)) for n in tree.sizes]
    beyond = [np.zeros((1, COUNTY_EXTRAS + STATE_EXTRAS)), np.zeros((tree.sizes[2], COUNTY_EXTRAS))]
    sub = state_tree(tree, span)
    add_truth(pool, sub, span, 0, tree, true, beyond, seed)
    for depth in (2, 1, 0):
        true[depth] = tree.sum_to_parent(true[depth + 1], depth + 1)
    tables = [
        published(t, level, geoids, seed)
        for t, level, geoids in zip(true, tree.levels, tree.geoids, strict=True)
    ]
    agreed = reconcile_tree(tree, [t[0] for t in tables], [t[1] ** 2 for t in tables])
    return state_problem(pool, sub, span, 0, tree, tables, agreed, beyond)


def pool_size(tracts: int) -> int:
    """2,000 households for the smallest state, 5,000 for the largest."""
    return int(2000 + 3000 * min(1.0, tracts / 8000))


def state_spans(tree: GeographyTree) -> list[slice]:
    """Leaves of each state: GEOIDs are sorted, so they lie together."""
    owner = tree.ancestor_of_leaves(1)
    first = np.searchsorted(owner, np.arange(tree.sizes[1] + 1))
    return [slice(int(a), int(b)) for a, b in itertools.pairwise(first)]


def state_tree(tree: GeographyTree, span: slice) -> GeographyTree:
    county = tree.parents[-1][span]
    names = tree.geoids[-2]
    leaves = tree.geoids[-1][span]
    state = leaves[0][:2]
    return GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [[state] * len(leaves), [names[c] for c in county], list(leaves)],
    )


def add_truth(
    pool: StatePool,
    sub: GeographyTree,
    span: slice,
    index: int,
    tree: GeographyTree,
    true,
    beyond,
    seed: int,
) -> None:
    counties = np.zeros((sub.sizes[1], pool.own.shape[0]))
    for begin in range(0, span.stop - span.start, _CHUNK):
        part = slice(begin, min(begin + _CHUNK, span.stop - span.start))
        weights = true_weights(pool, sub, part, seed)
        true[-1][span.start + part.start : span.start + part.stop] = weights @ pool.own
        np.add.at(counties, sub.parents[-1][part], weights)
    first = int(tree.parents[-1][span.start])
    beyond[1][first : first + sub.sizes[1]] = counties @ pool.county_extra
    beyond[0][index] = counties.sum(axis=0) @ np.hstack([pool.county_extra, pool.state_extra])


def state_problem(pool, sub, span, index, tree, tables, agreed, beyond):
    """The state's PoolProblem, and the published 90 % margins of its tracts."""
    first = int(tree.parents[-1][span.start])
    here = [slice(index, index + 1), slice(first, first + sub.sizes[1]), span]
    values = [agreed.values[d][s] for d, s in zip((1, 2, 3), here, strict=True)]
    spread = [np.sqrt(agreed.variances[d][s]) for d, s in zip((1, 2, 3), here, strict=True)]
    extra = [
        published(beyond[0][here[0]], "state", sub.geoids[0], 1)[0],
        published(beyond[1][here[1]], "county", sub.geoids[1], 1)[0],
    ]
    designs = [
        np.hstack([pool.own, pool.county_extra, pool.state_extra]),
        np.hstack([pool.own, pool.county_extra]),
        pool.own,
    ]
    goals = [np.hstack([values[0], extra[0]]), np.hstack([values[1], extra[1]]), values[2]]
    tight = [
        np.hstack([0.1 * s, np.full(e.shape, 0.0)]) for s, e in zip(spread[:2], extra, strict=True)
    ]
    scales = [
        np.maximum(np.maximum(t, 5e-4 * np.abs(g)), 1.0)
        for t, g in zip(tight, goals[:2], strict=True)
    ]
    scales.append(tables[3][1][span])
    households = np.maximum(values[2][:, 0], 1.0)
    targets = make_targets(sub, designs, goals, scales)
    share = (households / households.sum())[:, None]
    prior = np.full(pool.own.shape[0], households.sum() / pool.own.shape[0])
    return (
        PoolProblem(sub, targets, prior, np.zeros(prior.size, dtype=np.int64), share),
        MARGIN_90 * tables[3][1][span],
    )
