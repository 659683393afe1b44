"""What weights give for every target: fitted totals along the tree, from weights as they are
stored.

    total[l][a, v] = sum over pairs i in area a of level l of  w_i * design[l][record_i, v]

Belongs here: the sums, in plain numpy, so that a stored result can be checked without the solver
that made it. Does not belong here: solving (``tree/solve/newton.py``) or measures of fit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration_core.common.area_weights import AreaWeights, Block, weights_of
from calibration_core.common.columns import Design, rows_of
from calibration_core.common.threads import one_thread
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree, membership

# Pairs whose rows are looked at together.
_PAIRS = 20_000


@one_thread()
def pool_totals(
    tree: GeographyTree, designs: Sequence[Design], weights: np.ndarray | AreaWeights
) -> tuple[np.ndarray, ...]:
    """Totals of dense weights.

    Parameters
    ----------
    tree : levels top first.
    designs : per level, (records, variables) float64.
    weights : (leaves, records) float64, a table or AreaWeights.

    Returns
    -------
    per level, (areas, variables) float64.

    Raises
    ------
    ProblemError : shapes disagree.
    """
    expected = (len(tree.leaves), designs[0].shape[0])
    if weights.shape != expected or len(designs) != len(tree.levels):
        raise ProblemError(
            f"Weights of shape {weights.shape} and {len(designs)} designs",
            expected=f"{expected} and {len(tree.levels)}",
        )
    weights = weights_of(weights)
    sums = [np.zeros((size, d.shape[1])) for size, d in zip(tree.sizes, designs, strict=True)]
    above = [tree.ancestor_of_leaves(depth) for depth in range(len(designs))]

    def of_block(block: Block) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for owner, design in zip(above, designs, strict=True):
            area, row = np.unique(owner[block.area], return_inverse=True)
            held = membership(row, area.size).astype(np.float64) @ block.weight
            found.append((area, held @ rows_of(design, block.record)))
        return found

    for parts in weights.map(of_block):
        for total, (area, part) in zip(sums, parts, strict=True):
            total[area] += part
    return tuple(sums)


def pair_totals(
    tree: GeographyTree,
    designs: Sequence[Design],
    leaf: np.ndarray,
    record: np.ndarray,
    weights: np.ndarray,
) -> tuple[np.ndarray, ...]:
    """Totals of written-out pairs.

    Parameters
    ----------
    tree : levels top first.
    designs : per level, (records, variables) float64.
    leaf, record : (pairs,) int64 indices into the leaves and the designs' records.
    weights : (pairs,) float64.

    Returns
    -------
    per level, (areas, variables) float64.

    Raises
    ------
    ProblemError : shapes disagree.
    """
    if not leaf.shape == record.shape == weights.shape or len(designs) != len(tree.levels):
        raise ProblemError(
            f"Leaves {leaf.shape}, records {record.shape} and weights {weights.shape}",
            expected="one of each per pair, one design per level",
        )
    totals = []
    for depth, design in enumerate(designs):
        total = np.zeros((tree.sizes[depth], design.shape[1]))
        area = tree.ancestor_of_leaves(depth)[leaf]
        for begin in range(0, record.size, _PAIRS):
            some = slice(begin, begin + _PAIRS)
            np.add.at(total, area[some], weights[some, None] * design[record[some]])
        totals.append(total)
    return tuple(totals)
