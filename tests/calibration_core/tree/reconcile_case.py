"""Trees and estimates of the tests of reconciliation.

Belongs here: those. Does not belong here: tests.
"""

import numpy as np

from calibration_core.tree.geography import GeographyTree

INF = np.inf


def tree_of(counties: int, tracts: int) -> GeographyTree:
    leaves = counties * tracts
    return GeographyTree.from_leaves(
        ["state", "county", "tract"],
        [
            ["44"] * leaves,
            [f"c{i // tracts}" for i in range(leaves)],
            [f"t{i:03d}" for i in range(leaves)],
        ],
    )


def incidence(tree: GeographyTree, depth: int) -> np.ndarray:
    matrix = np.zeros((tree.sizes[depth], len(tree.leaves)))
    matrix[tree.ancestor_of_leaves(depth), np.arange(len(tree.leaves))] = 1.0
    return matrix


def estimates_of(
    rng: np.random.Generator,
    tree: GeographyTree,
    *,
    missing: float,
    exact: float,
    noise: float = 2.0,
    truth=None,
):
    """One variable: noisy sums of a positive truth, some missing, some exact (and then true)."""
    truth = rng.gamma(2.0, 20.0, size=len(tree.leaves)) if truth is None else truth
    y, v = [], []
    for depth in range(len(tree.levels)):
        total = incidence(tree, depth) @ truth
        kind = rng.random(total.size)
        variance = np.where(
            kind < missing,
            INF,
            np.where(kind > 1 - exact, 0.0, rng.choice([0.5, 1.0, 9.0], size=total.size)),
        )
        y.append(
            np.where(variance == 0, total, total + noise * rng.normal(size=total.size))[:, None]
        )
        v.append(variance[:, None])
    return y, v
