"""What a selection lost at once: cells with dense weight and no pair, and who carries their mass.

Belongs here: that account. Does not belong here: the comparison of whole distributions
(``loss_report.py``), how mass is moved (``sampling/moved_mass.py``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from calibration_core.common.area_weights import Block
from calibration_core.common.threads import one_thread
from calibration_core.sampling.moved_mass import moved_mass
from calibration_core.tree.select.pool import Pool


@dataclass(frozen=True, eq=False)
class LostCells:
    """Cells of leaves with dense weight that have no pair.

    Attributes
    ----------
    count : number of (leaf, cell).
    share : of all dense weight that lies in them; NaN where there is no weight.
    moved : (count, 3) int64: leaf, cell, and the cell that carries its mass instead (the nearest
        with a pair, -1 where the leaf has none).
    mass : (count,) float64 dense weight moved.
    """

    count: int
    share: float
    moved: np.ndarray
    mass: np.ndarray


@one_thread()
def lost_cells(pool: Pool, leaf: np.ndarray, record: np.ndarray) -> LostCells:
    """Account for what pairs (leaf, record), both (k,) int64, leave without a pair."""
    kinds = pool.cells

    def by_cell(block: Block) -> np.ndarray:
        shape, one = (block.record.size, kinds), np.ones(block.record.size)
        place = (np.arange(block.record.size), pool.cell[block.record])
        return block.weight @ sparse.csr_array((one, place), shape=shape)

    mass = pool.weights.each(by_cell)
    code = leaf * kinds + pool.cell[record]
    counts = np.bincount(code, minlength=pool.leaves * kinds).reshape(pool.leaves, kinds)
    affinity = np.zeros((kinds, kinds)) if pool.affinity is None else pool.affinity
    moved = moved_mass(mass, counts, affinity)
    total = float(mass.sum())
    where = np.column_stack([moved.area, moved.source, moved.target]).astype(np.int64)
    share = float(moved.mass.sum()) / total if total > 0 else math.nan
    return LostCells(int(moved.mass.size), share, where, moved.mass)
