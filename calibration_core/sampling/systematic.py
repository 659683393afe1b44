"""Systematic sampling along a sorted list: of candidates, of a whole pool row, and the points that
every other module draws by.

Probabilities are laid end to end along the list; a unit is drawn where one of the points u, u + 1,
u + 2, ... falls on it, u uniform on [0, 1) (Madow, Annals of Mathematical Statistics 20 (1949)
333-354). Each unit's inclusion probability is exact, exactly as many are drawn as the probabilities
sum to, and each stretch of the list, so each cell of a list sorted by cell, gets its expected count
rounded down or up.

Belongs here: systematic draws and the compiled passes over areas that they share. Does not belong
here: the container of candidates (``candidates.py``), balanced draws (``cube.py``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numba
import numpy as np

from calibration_core.errors import ProblemError

if TYPE_CHECKING:
    from calibration_core.sampling.candidates import Candidates

# Third key of the random streams, so that one seed can be used for the first phase and for the
# draw.
_STREAM = 2
# Shares this close to one are certain: rounding of sums.
# A probability this small is rounding.
_NEVER = 1e-13
_CERTAIN = 1.0 - 1e-12


@numba.njit(cache=True, nogil=True)
def systematic_points(along: np.ndarray, start: float, count: int) -> np.ndarray:
    """(count,) int64, strictly ascending: the units that points start, start + 1, ... fall on.

    Parameters
    ----------
    along : (units,) float64 cumulative probabilities, ascending; leave units of probability zero
        out of the list.
    start : of the first point, at least 0 and so small that the last point is below along[-1].
    count : points, at most the number of units. Rounding can put two points into one unit or one
        past the end; the next unit is then taken, so that exactly ``count`` different units come
        out.
    """
    places = np.empty(count, dtype=np.int64)
    unit, last = 0, -1
    for j in range(count):
        point = start + j
        while unit < along.size and along[unit] <= point:
            unit += 1
        last = max(unit, last + 1)
        places[j] = min(last, along.size - count + j)
    return places


def draw_systematic(
    candidates: Candidates, cell: np.ndarray, order: np.ndarray, seed: int
) -> np.ndarray:
    """(m,) bool: candidates drawn along the list sorted by ``cell``, ``order`` and record; exactly
    ``per_area`` in each area.

    Parameters
    ----------
    cell : (records,) int64.
    order : (records,) float64.
    seed : the start of an area is drawn from (seed, area number).

    Raises
    ------
    ProblemError : cell and order are not of one length, or too short for the records.
    """
    rank = list_rank(cell, order)
    candidates.check_records(rank.size)
    start = np.array(
        [np.random.default_rng([seed, int(area), _STREAM]).random() for area in candidates.area]
    )
    drawn = np.zeros(candidates.record.size, dtype=np.bool_)
    path = np.lexsort(
        (
            rank[candidates.record],
            np.repeat(np.arange(candidates.areas), np.diff(candidates.offsets)),
        )
    )
    _draw_areas(candidates.offsets, candidates.per_area, path, candidates.probability, start, drawn)
    return drawn


def list_rank(cell: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(records,) int64: place of each record in the list sorted by (cell, order, record)."""
    if cell.ndim != 1 or cell.shape != order.shape:
        raise ProblemError(
            f"cell {cell.shape} and order {order.shape}", expected="(records,) for both"
        )
    path = np.lexsort((np.arange(cell.size), order, cell))
    rank = np.empty(cell.size, dtype=np.int64)
    rank[path] = np.arange(cell.size)
    return rank


@numba.njit(cache=True, nogil=True)
def _draw_areas(offsets, per_area, path, probability, start, drawn):
    for t in range(offsets.size - 1):
        first, last = offsets[t], offsets[t + 1]
        open_units = np.empty(last - first, dtype=np.int64)
        along = np.empty(last - first)
        size, left, total = 0, per_area[t], 0.0
        for i in path[first:last]:
            p = probability[i]
            if p >= _CERTAIN:
                drawn[i] = True
                left -= 1
            elif p > 0:
                total += p
                open_units[size] = i
                along[size] = total
                size += 1
        if left <= 0 or size == 0:
            continue
        for i in range(size):
            along[i] *= left / total
        for i in systematic_points(along[:size], start[t], left):
            drawn[open_units[i]] = True


@numba.njit(cache=True, nogil=True)
def capped(weight: np.ndarray, count: int, probability: np.ndarray) -> tuple[int, float]:
    """Probabilities proportional to weight, at most one, summing to count, written to
    ``probability``.

    The same as ``calibration_core.sampling.allocation.inclusion_probabilities``. Returns how many
    are certain and the sum of the other weights, so that the Horvitz-Thompson weight of a unit that
    is not certain is that sum / (count - certain), the same for all.
    """
    certain, rest = 0, 0.0
    for i in range(weight.size):
        probability[i] = 0.0
        if weight[i] > 0:
            rest += weight[i]
    while certain < count and rest > 0:
        # Shares with all certain units found so far taken out; a unit is certain where its share
        # reaches one.
        left = count - certain
        found, free = 0, 0.0
        for i in range(weight.size):
            if weight[i] > 0 and probability[i] < 1.0:
                if left * weight[i] >= rest * _CERTAIN:
                    probability[i] = 1.0
                    found += 1
                else:
                    free += weight[i]
        certain += found
        rest = free
        if found == 0:
            break
    if certain < count:
        for i in range(weight.size):
            if weight[i] > 0 and probability[i] < 1.0:
                probability[i] = (count - certain) * weight[i] / rest
    return certain, rest


@numba.njit(cache=True, nogil=True)
def phase_areas(
    dense,
    per_area,
    wanted,
    rank,
    start,
    offsets,
    record,
    probability,
    weight,
    first_probability,
    found,
):
    """First phase of each area, as ``candidates.first_phase`` describes; results are written to the
    last five arguments.

    Where an area has fewer candidates than offsets leave room for (weights so small that their
    probability is zero), ``found`` says how many.
    """
    records = dense.shape[1]
    row, overall, first = np.empty(records), np.empty(records), np.empty(records)
    chosen = np.empty(records, dtype=np.bool_)
    along = np.empty(records)
    place = np.empty(records, dtype=np.int64)
    for t in range(dense.shape[0]):
        found[t] = 0
        count = wanted[t]
        if count == 0:
            continue
        for r in range(records):
            row[rank[r]] = dense[t, r]
        certain, rest = capped(row, per_area[t], overall)
        sure, _ = capped(row, count, first)
        # Sum of overall probabilities of the units that are candidates for sure: what is left is
        # shared equally by the others.
        held, size, total = 0.0, 0, 0.0
        for i in range(records):
            chosen[i] = False
            if first[i] >= 1.0:
                chosen[i] = overall[i] > 0
                held += overall[i]
            elif first[i] > 0:
                total += row[i]
                along[size] = total
                place[size] = i
                size += 1
        draws = min(count - sure, size)
        equal = 0.0
        if draws > 0:
            equal = (per_area[t] - held) / draws
        if equal <= _NEVER:
            # What is left for them is the rounding of a difference: none of them can be drawn.
            draws = 0
        if draws > 0:
            for i in range(size):
                along[i] *= draws / total
            for i in systematic_points(along[:size], start[t], draws):
                chosen[place[i]] = True
        n = offsets[t]
        for r in range(records):
            i = rank[r]
            if chosen[i]:
                record[n] = r
                first_probability[n] = first[i]
                probability[n] = min(1.0, overall[i] if first[i] >= 1.0 else equal)
                weight[n] = row[i] if overall[i] >= 1.0 else rest / (per_area[t] - certain)
                n += 1
        found[t] = n - offsets[t]
