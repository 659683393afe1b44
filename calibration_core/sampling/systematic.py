"""Systematic sampling along a sorted list.

Probabilities are laid end to end along the list; a unit is drawn where one of the points u, u + 1,
u + 2, ... falls on it, u uniform on [0, 1) (Madow, Annals of Mathematical Statistics 20 (1949)
333-354). Each unit's inclusion probability is exact, exactly as many are drawn as the probabilities
sum to, and each stretch of the list, so each cell of a list sorted by cell, gets its expected count
rounded down or up.

Belongs here: systematic draws of many areas. Does not belong here: the container of candidates
(``candidates.py``), the compiled loop (``loops.py``), balanced draws (``cube.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.sampling.candidates import AreaCandidates, list_path
from calibration_core.sampling.loops import draw_along

# Third key of the random streams, so that one seed can be used for the first phase and the draw.
_STREAM = 2


def draw_systematic(
    candidates: AreaCandidates, cell: np.ndarray, order: np.ndarray, seed: int
) -> np.ndarray:
    """(m,) bool: candidates drawn along the list sorted by ``cell``, ``order`` and record; exactly
    ``pairs_per_area`` in each area.

    Parameters
    ----------
    cell : (records,) int64.
    order : (records,) float64.
    seed : the start of an area is drawn from (seed, area number).

    Raises ProblemError if cell and order are not of one length, or too short for the records.
    """
    path = list_path(cell, order)
    candidates.check_records(path.size)
    rank = np.empty(path.size, dtype=np.int64)
    rank[path] = np.arange(path.size)
    drawn = np.zeros(candidates.record.size, dtype=np.bool_)
    for t in range(candidates.areas):
        part = np.arange(candidates.offsets[t], candidates.offsets[t + 1])
        part = part[np.argsort(rank[candidates.record[part]])]
        start = np.random.default_rng([seed, int(candidates.area[t]), _STREAM]).random()
        count = int(candidates.pairs_per_area[t])
        drawn[part] = draw_along(candidates.probability[part], count, start)
    return drawn
