"""Repairing a draw before any weight is refined: exchanges within pools of cells that bring the
starting totals closer to the targets.

Let e be the error of the Horvitz-Thompson totals in units of the targets. While it lowers
||e||^2, a drawn record gives its place to one of its pool that is not drawn, those that gain much
first (``sampling/exchange.py``, the loop that the tree wing uses too). A drawn record adds a w /
pi. Only records whose inclusion probabilities are of one size, within a factor of four, are
exchanged, so a rare record does not stand in for a common one. k and the count of every pool stay.
This is a deterministic local search, like the purposive exchange of balanced designs (Valliant,
Dorfman and Royall, Finite Population Sampling, 2000, section 3.4); inclusion probabilities hold
only roughly afterwards.

Belongs here: who may be exchanged for whom. Does not belong here: the loop, the draw (``draw.py``),
swaps judged by refitted weights (``swaps.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calibration_core.common.digits import SUM_BITS, rounded
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.sampling.exchange import Entrants, Places, exchange_places

# Records of a pool looked at together: enough for one exchange, and few enough for a cache.
_WINDOW = 256
# A pass that gains less than this share of the squared error is the last.
_LEAST_GAIN = 1e-3
# Most exchanges per record drawn: a stop that is never reached in practice.
_LIMIT = 8


@dataclass(frozen=True, eq=False)
class Repairable:
    """What a draw is repaired by.

    Attributes
    ----------
    matrix : (targets, records).
    contribution : (records,) w / pi, the Horvitz-Thompson weight a record has if drawn.
    probability : (records,); only those strictly between 0 and 1 are exchanged.
    pool : (records,) int64.
    goal, scale : (targets,) totals wanted, and what one unit of error is.
    """

    matrix: DesignMatrix
    contribution: np.ndarray
    probability: np.ndarray
    pool: np.ndarray
    goal: np.ndarray
    scale: np.ndarray

    def rows(self, units: np.ndarray) -> np.ndarray:
        """(units, targets) float64: what each unit adds if drawn, in units of error."""
        part = self.matrix.by_record[units]
        part = part.toarray() if self.matrix.is_sparse else part
        return np.ascontiguousarray(part * (self.contribution[units, None] / self.scale))

    def windows(self) -> Iterator[np.ndarray]:
        """Stretches of records of one pool and of like probability."""
        units = np.flatnonzero((self.probability > 0) & (self.probability < 1))
        # A power of four, exactly: the exponent of the number, halved.
        size = np.frexp(self.probability[units])[1] // 2
        order = np.lexsort((units, size, self.pool[units]))
        units, size = units[order], size[order]
        new = (np.diff(self.pool[units], prepend=-1) != 0) | (np.diff(size, prepend=0) != 0)
        for stretch in np.split(units, np.flatnonzero(new)):
            yield from (stretch[i : i + _WINDOW] for i in range(0, stretch.size, _WINDOW))


def repair(design: Repairable, selected: np.ndarray, sweeps: int) -> tuple[np.ndarray, int]:
    """(selected ascending, exchanges made).

    Parameters
    ----------
    selected : (k,) the draw.
    sweeps : passes over the pools at most; it stops when a pass gains less than a thousandth.
    """
    inside = np.zeros(design.probability.size, dtype=bool)
    inside[selected] = True
    totals = design.matrix.totals(np.where(inside, design.contribution, 0.0))
    error = rounded((totals - design.goal) / design.scale, SUM_BITS)
    windows, made = list(design.windows()), 0
    for _ in range(sweeps):
        before = float(error @ error)
        made += sum(_exchange(design, units, inside, error) for units in windows)
        if float(error @ error) >= (1.0 - _LEAST_GAIN) * before:
            break
    return np.flatnonzero(inside), made


def _exchange(design: Repairable, units: np.ndarray, inside: np.ndarray, error: np.ndarray) -> int:
    """Exchanges of one stretch; ``inside`` and ``error`` change in place."""
    drawn = np.flatnonzero(inside[units])
    if drawn.size == 0 or drawn.size == units.size:
        return 0
    rows = design.rows(units)
    places = Places(
        weight=np.ones(drawn.size),
        fixed=np.zeros(drawn.size, dtype=bool),
        unit=units[drawn],
        rows=rows[drawn],
        cell=np.zeros(drawn.size, dtype=np.int64),
        error=error,
        moved=np.zeros(1),
    )
    entrants = Entrants(units, np.ascontiguousarray(rows.T), np.zeros(units.size, dtype=np.int64))
    made = exchange_places(places, entrants, 0.0, _LIMIT * drawn.size)
    inside[units] = False
    inside[places.unit] = True
    return made
