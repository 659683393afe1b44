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

import numpy as np

from calibration_core.common.compiled import loop, part
from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.sampling.loops import CERTAIN

_STREAM = 4
# No unit that is not certain counts as more likely than this: odds p / (1 - p) stay finite.
_MOST = 1.0 - 1e-12


def draw_sampford(candidates: AreaCandidates, seed: int) -> np.ndarray:
    """(m,) bool: exactly ``pairs_per_area`` candidates of each area, certainty units always; random
    numbers from (seed, area number).
    """
    drawn = candidates.probability >= CERTAIN
    for t in range(candidates.areas):
        part = slice(int(candidates.offsets[t]), int(candidates.offsets[t + 1]))
        generator = np.random.default_rng([seed, int(candidates.area[t]), _STREAM])
        uniform = generator.random(part.stop - part.start)
        open_units = part.start + np.flatnonzero(~drawn[part])
        count = int(candidates.pairs_per_area[t]) - int(drawn[part].sum())
        if count > 0:
            probability = candidates.probability[open_units]
            probability = np.minimum(probability * (count / probability.sum()), _MOST)
            drawn[open_units] = _draw(probability, count, uniform)
    return drawn


@part
def _chances(p, count):
    """(units + 1, 2, count + 1): chance[i, f, j] is the weight of completions by units i, i + 1,
    ... that draw j more, with the special one among them (f = 1) or not (f = 0)."""
    units = p.size
    chance = np.zeros((units + 1, 2, count + 1))
    chance[units, 0, 0] = 1.0
    for i in range(units - 1, -1, -1):
        inside, outside = p[i], 1.0 - p[i]
        here, after = chance[i], chance[i + 1]
        here[0, 0] = outside * after[0, 0]
        for j in range(1, count + 1):
            here[0, j] = outside * after[0, j] + inside * after[0, j - 1]
            here[1, j] = (
                outside * after[1, j]
                + inside * after[1, j - 1]
                + inside * outside * after[0, j - 1]
            )
    return chance


@loop
def _draw(p, count, uniform):
    """(units,) bool: the draw, unit after unit; p in (0, 1) sums to ``count``."""
    drawn = np.zeros(p.size, dtype=np.bool_)
    chance = _chances(p, count)
    j, special = count, 1
    for i in range(p.size):
        if j == 0:
            break
        point = uniform[i] * chance[i, special, j]
        ordinary = p[i] * chance[i + 1, special, j - 1]
        unusual = p[i] * (1.0 - p[i]) * chance[i + 1, 0, j - 1] if special else 0.0
        # A unit that the sample cannot be completed without is taken whatever rounding says.
        needed = j == p.size - i
        if point < ordinary or (needed and unusual == 0.0):
            drawn[i] = True
            j -= 1
        elif point < ordinary + unusual or needed:
            drawn[i] = True
            j -= 1
            special = 0
    return drawn
