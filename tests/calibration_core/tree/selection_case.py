"""Pools that several tests of selection make.

Belongs here: those pools. Does not belong here: tests.
"""

import numpy as np

from calibration_core.tree.select.pool import Pool


def plain(dense: np.ndarray, cell: np.ndarray | None = None, **known) -> Pool:
    """Records in the order of their number, in one cell where none are given."""
    records = dense.shape[1]
    cell = np.zeros(records, dtype=int) if cell is None else cell
    return Pool.of_one_level(dense, cell, np.arange(float(records)), **known)
