"""Which weights a method can give a record at all, and what single targets can reach with them.

    box:    low_i <= w_i <= high_i
    reach:  min and max of a_j.w over the box = sum_i min / max of (a_ij low_i, a_ij high_i), in
    closed form

Belongs here: the box of weights and one target at a time. Does not belong here: targets together
(``relaxation.py``), words.
"""

from __future__ import annotations

import numpy as np
from scipy import sparse

from calibration_core.common.distances import Linear
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.problem import CalibrationProblem

# (low, high) on the weights, each (records,).
Box = tuple[np.ndarray, np.ndarray]


def box(problem: CalibrationProblem, distance=None) -> Box:
    """(low, high), each (records,): the weights that can be given.

    Parameters
    ----------
    problem : its bounds; weights are not negative unless a lower bound under zero was asked for.
    distance : a Distance of ``common/distances.py``: then exactly the range of its weights (linear
        without bounds reaches all numbers).

    A record whose initial weight is zero stays at zero: every method multiplies initial weights.
    """
    start = problem.start
    if distance is None:
        low, high = problem.limits
        low = np.where(np.isneginf(low), 0.0, low)
    elif isinstance(distance, Linear):
        low, high = np.full(start.shape, -np.inf), np.full(start.shape, np.inf)
    elif hasattr(distance, "low"):
        with np.errstate(invalid="ignore"):
            low, high = distance.low * start, distance.high * start
    else:
        low, high = np.zeros_like(start), np.full(start.shape, np.inf)
    live = start > 0
    return np.where(live, low, 0.0), np.where(live, high, 0.0)


def reach(matrix: DesignMatrix, low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(least, most), each (targets,): the range of A w over the box, one target at a time; -inf and
    inf where nothing limits it.
    """
    least, most = np.zeros(matrix.targets), np.zeros(matrix.targets)
    negative = _negative(matrix)
    for total, rising_end, falling_end in ((least, low, high), (most, high, low)):
        total += _finite_total(matrix.by_record, rising_end)
        if negative is not None:
            total += _finite_total(negative, falling_end) - _finite_total(negative, rising_end)
    open_high, open_low = np.isposinf(high), np.isneginf(low)
    if open_high.any() or open_low.any():
        rises = (
            _touched(matrix.by_record, 1.0, open_high),
            _touched(matrix.by_record, 1.0, open_low),
        )
        falls = (
            (False, False)
            if negative is None
            else (_touched(negative, -1.0, open_high), _touched(negative, -1.0, open_low))
        )
        most[rises[0] | falls[1]] = np.inf
        least[rises[1] | falls[0]] = -np.inf
    return least, most


def _negative(matrix: DesignMatrix):
    """The negative entries by record, as a sparse matrix; None if there are none."""
    x = matrix.by_record
    values = x.data if matrix.is_sparse else x
    if values.size == 0 or values.min() >= 0:
        return None
    if not matrix.is_sparse:
        return sparse.csr_array(np.minimum(x, 0.0))
    place = np.flatnonzero(values < 0)
    record = np.searchsorted(x.indptr, place, side="right") - 1
    return sparse.csr_array((values[place], (record, x.indices[place])), shape=x.shape)


def _finite_total(by_record, end: np.ndarray) -> np.ndarray:
    finite = np.where(np.isfinite(end), end, 0.0)
    return by_record.T @ finite if finite.any() else np.zeros(by_record.shape[1])


def _touched(by_record, sign: float, records: np.ndarray) -> np.ndarray:
    """(targets,) bool: targets to which one of ``records`` (bool) has an entry of this sign."""
    if not records.any():
        return np.zeros(by_record.shape[1], dtype=bool)
    if not sparse.issparse(by_record):
        return (sign * by_record[records] > 0).any(axis=0)
    hit = np.bincount(
        by_record.indices[
            (sign * by_record.data > 0) & np.repeat(records, np.diff(by_record.indptr))
        ],
        minlength=by_record.shape[1],
    )
    return hit > 0
