"""Compiled loops along a list: probabilities capped at one, points of a systematic draw, and the
passes that use both.

They are in one file because a compiled function that is kept on disk does not see changes of a
compiled function, or of a number, in another file. They add in the order of the list and use no
library of linear algebra, so that the same numbers give the same bits on every processor.

Belongs here: those loops, for one area or one list. Does not belong here: checks of arguments,
random streams and loops over areas (``candidates.py``, ``systematic.py``, ``within_cells.py``).
"""

from __future__ import annotations

import math

import numpy as np

from calibration_core.common.compiled import loop, part

# Shares this close to one are certain: far above the rounding of a sum of a million weights, far
# below any probability that matters.
CERTAIN = 1.0 - 1e-9
# A probability below this is the rounding of a difference.
_NEVER = 1e-12
# Sums of probabilities this near a whole number are whole.
_WHOLE = 1e-6


@loop
def capped(weight: np.ndarray, count: int, probability: np.ndarray) -> tuple[int, float]:
    """Probabilities proportional to weight, at most one, summing to count, written to
    ``probability``.

    Returns how many are certain and the sum of the other weights, so that the Horvitz-Thompson
    weight of a unit that is not certain is that sum / (count - certain), the same for all.
    """
    rest = 0.0
    for i in range(weight.size):
        probability[i] = 0.0
        if weight[i] > 0:
            rest += weight[i]
    certain, found = 0, 1
    while found > 0 and certain < count and rest > 0:
        found, rest = _mark_certain(weight, count - certain, rest, probability)
        certain += found
    if certain < count:
        for i in range(weight.size):
            if weight[i] > 0 and probability[i] < 1.0:
                probability[i] = (count - certain) * weight[i] / rest
    return certain, rest


@part
def _mark_certain(weight, count, total, probability):
    """Units whose share of ``count`` reaches one, beside those that are certain already: their
    number, and the sum of the other weights."""
    found, free = 0, 0.0
    for i in range(weight.size):
        if weight[i] > 0 and probability[i] < 1.0:
            if count * weight[i] >= total * CERTAIN:
                probability[i] = 1.0
                found += 1
            else:
                free += weight[i]
    return found, free


@loop
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


@loop
def draw_along(probability: np.ndarray, count: int, start: float) -> np.ndarray:
    """(units,) bool: exactly ``count`` units drawn along the list, certain ones always."""
    drawn = np.zeros(probability.size, dtype=np.bool_)
    open_units = np.empty(probability.size, dtype=np.int64)
    along = np.empty(probability.size)
    size, left, total = 0, count, 0.0
    for i in range(probability.size):
        if probability[i] >= CERTAIN:
            drawn[i] = True
            left -= 1
        elif probability[i] > 0:
            total += probability[i]
            open_units[size] = i
            along[size] = total
            size += 1
    if left > 0 and size > 0:
        for i in range(size):
            along[i] *= left / total
        for i in systematic_points(along[:size], start, left):
            drawn[open_units[i]] = True
    return drawn


@loop
def first_phase_of(row: np.ndarray, count: int, wanted: int, start: float):
    """The first phase of one area (``candidates.py``): ``wanted`` candidates for ``count`` units.

    row : (records,) float64 weights along the list.

    Returns places (candidates,) int64 along the list, and for each the probability of being drawn
    given the candidates, its Horvitz-Thompson weight, and the probability of being a candidate.
    """
    overall, first = np.empty(row.size), np.empty(row.size)
    certain, rest = capped(row, count, overall)
    sure, _ = capped(row, wanted, first)
    chosen, equal = _chosen(row, first, overall, (count, wanted - sure), start)
    size = 0
    for i in range(row.size):
        size += chosen[i]
    places = np.empty(size, dtype=np.int64)
    probability, weight, being = np.empty(size), np.empty(size), np.empty(size)
    n = 0
    for i in range(row.size):
        if chosen[i]:
            places[n] = i
            being[n] = first[i]
            probability[n] = min(1.0, overall[i] if first[i] >= 1.0 else equal)
            weight[n] = row[i] if overall[i] >= 1.0 else rest / (count - certain)
            n += 1
    return places, probability, weight, being


@part
def _chosen(row, first, overall, counts, start):
    """Who is a candidate, and the probability that candidates which are not sure have in common.

    counts : units to draw, and candidates beside those that are sure.
    """
    chosen = np.zeros(row.size, dtype=np.bool_)
    along, place = np.empty(row.size), np.empty(row.size, dtype=np.int64)
    # Overall probabilities of those that are candidates for sure: the others share what is left.
    held, size, total = 0.0, 0, 0.0
    for i in range(row.size):
        if first[i] >= 1.0:
            chosen[i] = overall[i] > 0
            held += overall[i]
        elif first[i] > 0:
            total += row[i]
            along[size] = total
            place[size] = i
            size += 1
    draws = min(counts[1], size)
    equal = (counts[0] - held) / draws if draws > 0 else 0.0
    # What is left can be the rounding of a difference: then none of the others can be drawn.
    if equal > _NEVER:
        for i in range(size):
            along[i] *= draws / total
        for i in systematic_points(along[:size], start, draws):
            chosen[place[i]] = True
    return chosen, equal


@loop
def scale_cells(order, bounds, counts, given, scaled):
    """Probabilities of each stretch of ``order``, at most one, summing to its count, that average
    to the given ones; written to ``scaled``, where cells without a count keep what is there."""
    for c in range(bounds.size - 1):
        if counts[c] > 0:
            _scale_cell(order[bounds[c] : bounds[c + 1]], counts[c], given, scaled)


@part
def _scale_cell(members, count, given, scaled):
    """One stretch. A sum of F + f, F whole, is rounded up to F + 1 with probability f.

    Rounded up, probabilities are in proportion to the given p, capped at one; rounded down, they
    are (p - f up) / (1 - f): at least zero, and one where p is one.
    """
    some, part, size, total = np.empty(members.size, np.int64), np.empty(members.size), 0, 0.0
    for i in members:
        total += given[i]
        scaled[i] = 1.0
        # Certainty units stay certain; the others share what is left.
        if given[i] < 1.0:
            some[size] = i
            part[size] = given[i]
            size += 1
    certain, part, up = members.size - size, part[:size], np.empty(size)
    whole = math.floor(total + _WHOLE)
    fraction = max(total - whole, 0.0)
    if count == whole and _WHOLE < fraction < 1.0 - _WHOLE:
        capped(part, min(whole + 1 - certain, size), up)
        for i in range(size):
            down = (part[i] - fraction * up[i]) / (1.0 - fraction)
            scaled[some[i]] = min(down, 1.0) if down > _NEVER else 0.0
    else:
        capped(part, min(count - certain, size), up)
        for i in range(size):
            scaled[some[i]] = up[i]
