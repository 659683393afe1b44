"""Sampford's design: a fixed number of units with exact inclusion probabilities and high entropy,
nothing balanced.

P(s) is proportional to prod_{i in s} p_i / (1 - p_i) times sum_{i in s} (1 - p_i); with sum p = n
the inclusion probability of unit i is exactly p_i (Sampford, Biometrika 54 (1967) 499-513).
Expanding the sum, one unit of the sample is special: it counts p_i (1 - p_i), each other drawn unit
p_j, each unit left out 1 - p_l, and P(s) is the sum over who is special. So units can be decided
one after the other, given the chance that the rest of the list completes the sample, which a
recursion from the end of the list gives, as for conditional Poisson sampling (Chen, Dempster and
Liu, Biometrika 81 (1994) 457-469). Nothing is rejected and drawn again: the work is units x n
whatever the probabilities, where Sampford's own procedure needs about exp(n^2 / 2N) tries. All
terms are probabilities, so nothing overflows.

Belongs here: that design. Does not belong here: systematic or balanced draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

if TYPE_CHECKING:
    from calibration_core.sampling.candidates import Candidates

_STREAM = 4
_CERTAIN = 1.0 - 1e-12


def draw_sampford(candidates: Candidates, seed: int) -> np.ndarray:
    """(m,) bool: exactly ``per_area`` candidates of each area, certainty units always; random
    numbers from (seed, area number).
    """
    drawn = np.zeros(candidates.record.size, dtype=np.bool_)
    for t in range(candidates.areas):
        part = slice(int(candidates.offsets[t]), int(candidates.offsets[t + 1]))
        uniform = np.random.default_rng([seed, int(candidates.area[t]), _STREAM]).random(
            part.stop - part.start
        )
        _draw(candidates.probability[part], int(candidates.per_area[t]), uniform, drawn[part])
    return drawn


@numba.njit(cache=True, nogil=True)
def _draw(probability, count, uniform, drawn):
    open_units = np.empty(probability.size, dtype=np.int64)
    units, n, total = 0, count, 0.0
    for i in range(probability.size):
        if probability[i] >= _CERTAIN:
            drawn[i] = True
            n -= 1
        else:
            open_units[units] = i
            total += probability[i]
            units += 1
    if n <= 0:
        return
    p = np.empty(units)
    for i in range(units):
        p[i] = min(probability[open_units[i]] * (n / total), _CERTAIN)
    # chance[i, j, f]: weight of completions by units i, i + 1, ... that draw j more, with the
    # special one among them (f = 1) or not (f = 0).
    chance = np.zeros((units + 1, 2, n + 1))
    chance[units, 0, 0] = 1.0
    for i in range(units - 1, -1, -1):
        inside, outside = p[i], 1.0 - p[i]
        here, after = chance[i], chance[i + 1]
        here[0, 0] = outside * after[0, 0]
        for j in range(1, n + 1):
            here[0, j] = outside * after[0, j] + inside * after[0, j - 1]
            here[1, j] = (
                outside * after[1, j]
                + inside * after[1, j - 1]
                + inside * outside * after[0, j - 1]
            )
    j, special = n, 1
    for i in range(units):
        if j == 0:
            return
        point = uniform[i] * chance[i, special, j]
        ordinary = p[i] * chance[i + 1, special, j - 1]
        unusual = p[i] * (1.0 - p[i]) * chance[i + 1, 0, j - 1] if special else 0.0
        # A unit that the sample cannot be completed without is taken whatever rounding says.
        if point < ordinary or (j == units - i and unusual == 0.0):
            drawn[open_units[i]] = True
            j -= 1
        elif point < ordinary + unusual or j == units - i:
            drawn[open_units[i]] = True
            j -= 1
            special = 0
