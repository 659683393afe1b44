"""Repairing a draw before any weight is refined: exchanges within pools of cells that bring the
starting totals closer to the targets.

For every record drawn in turn, the record of its pool that is not drawn and whose exchange lowers
||e + (x_j - x_i) / s||^2 most takes its place, e the relative error of the Horvitz-Thompson totals
and x = a w / pi what a drawn record adds. Only records whose inclusion probabilities differ by less
than a factor are exchanged, so a rare record does not stand in for a common one. k and the count of
every pool stay. This is a deterministic local search, like the purposive exchange of balanced
designs (Valliant, Dorfman and Royall, Finite Population Sampling, 2000, section 3.4); inclusion
probabilities hold only roughly afterwards.

Belongs here: this search. Does not belong here: the draw (``draw.py``), swaps judged by refitted
weights (``swaps.py``).
"""

from __future__ import annotations

import itertools

import numpy as np

from calibration_core.flat.design_matrix import DesignMatrix

_FACTOR = 3.0
# Records of a pool looked at for one exchange: the pool's list is sorted, so a stretch around the
# record is alike, and enough.
_WINDOW = 256
_LEAST_GAIN = 1e-3


def repair(
    matrix: DesignMatrix,
    contribution: np.ndarray,
    probability: np.ndarray,
    pool: np.ndarray,
    selected: np.ndarray,
    goal: np.ndarray,
    scale: np.ndarray,
    sweeps: int,
) -> tuple[np.ndarray, int]:
    """(selected ascending, exchanges made).

    Parameters
    ----------
    matrix : (targets, records).
    contribution : (records,) w / pi, the Horvitz-Thompson weight a record has if drawn.
    probability : (records,); only those strictly between 0 and 1 are exchanged.
    pool : (records,) int64.
    selected : (k,) the draw.
    goal, scale : (targets,) totals wanted, and what one unit of error is.
    sweeps : passes over the drawn records at most; it stops when a pass gains less than a
        thousandth.
    """
    inside = np.zeros(probability.size, dtype=bool)
    inside[selected] = True
    weights = np.where(inside, contribution, 0.0)
    error = (matrix.totals(weights) - goal) / scale
    open_units = np.flatnonzero((probability > 0) & (probability < 1))
    open_units = open_units[np.argsort(pool[open_units], kind="stable")]
    of_pool = np.flatnonzero(np.diff(pool[open_units], prepend=-1, append=np.iinfo(np.int64).max))
    made = 0
    for _ in range(sweeps):
        before = float(error @ error)
        for begin, end in itertools.pairwise(of_pool):
            units = open_units[begin:end]
            for first in range(0, units.size, _WINDOW):
                made += _exchange(
                    units[first : first + _WINDOW],
                    inside,
                    matrix,
                    contribution,
                    probability,
                    error,
                    scale,
                )
        if float(error @ error) >= (1.0 - _LEAST_GAIN) * before:
            break
    return np.flatnonzero(inside), made


def _exchange(units, inside, matrix, contribution, probability, error, scale) -> int:
    """Best exchange for each drawn unit of a stretch, one after another; ``inside`` and ``error``
    change in place.
    """
    drawn = np.flatnonzero(inside[units])
    if drawn.size == 0 or drawn.size == units.size:
        return 0
    part = matrix.by_record[units]
    rows = (part.toarray() if matrix.is_sparse else part) * (contribution[units, None] / scale)
    norms = np.einsum("ij,ij->i", rows, rows)
    p, made = probability[units], 0
    for i in drawn:
        # ||e - x_i + x_j||^2 - ||e||^2, with r = e - x_i: the terms that depend on j, against the
        # same for j = i.
        rest = error - rows[i]
        change = norms + 2.0 * (rows @ rest)
        able = ~inside[units] & (p * _FACTOR > p[i]) & (p < _FACTOR * p[i])
        j = int(np.where(able, change, np.inf).argmin())
        if able[j] and change[j] < change[i] - 1e-12:
            inside[units[i]], inside[units[j]] = False, True
            error += rows[j] - rows[i]
            made += 1
    return made
