"""Mass of cells that got no record: moved to the nearest cell of the area that has one, and
counted.

Belongs here: the moves as data. Does not belong here: counts (``rounding.py``), or weights of
records.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError


@dataclass(frozen=True, eq=False)
class MovedMass:
    """Mass of cells without a record, and where it went; one row per move.

    Attributes
    ----------
    area, source, target : (moves,) int64; target -1: the area has no record at all, its mass has
        nowhere to go.
    mass : (moves,) float64.
    carried : (areas, cells) float64 mass after the moves; sums of areas that have a record are
        those before.
    share : (areas,) float64 moved share of each area's mass, 0 where it has none.
    """

    area: np.ndarray
    source: np.ndarray
    target: np.ndarray
    mass: np.ndarray
    carried: np.ndarray
    share: np.ndarray


def moved_mass(mass: np.ndarray, counts: np.ndarray, affinity: np.ndarray) -> MovedMass:
    """Move the mass of each cell without a record to the nearest cell of the same area that has
    one.

    Nearest is the highest affinity; of equals the one with most mass there, then the first.

    Parameters
    ----------
    mass : (areas, cells) float64 >= 0, dense weight or expected count.
    counts : (areas, cells) int64 records drawn.
    affinity : (cells, cells) numbers, for example of leading classes in common.

    Raises ProblemError if shapes disagree.
    """
    mass, counts, affinity = (
        np.asarray(mass, dtype=np.float64),
        np.asarray(counts),
        np.asarray(affinity),
    )
    if counts.shape != mass.shape or affinity.shape != (mass.shape[1], mass.shape[1]):
        raise ProblemError(
            f"counts {counts.shape} and affinity {affinity.shape}",
            expected=f"{mass.shape} and ({mass.shape[1]}, {mass.shape[1]})",
        )
    area, source = np.nonzero((mass > 0) & (counts == 0))
    target = np.full(area.size, -1, dtype=np.int64)
    for t in np.unique(area):
        here = area == t
        filled = np.flatnonzero(counts[t] > 0)
        if filled.size:
            by_mass = filled[np.argsort(-mass[t, filled], kind="stable")]
            target[here] = by_mass[np.argmax(affinity[np.ix_(source[here], by_mass)], axis=1)]
    amount = mass[area, source]
    carried = mass.copy()
    carried[area, source] = 0.0
    np.add.at(carried, (area[target >= 0], target[target >= 0]), amount[target >= 0])
    total = mass.sum(axis=1)
    share = np.bincount(area, amount, mass.shape[0]) / np.where(total > 0, total, 1.0)
    return MovedMass(area, source, target, amount, carried, share)
