"""Controlled rounding: expected counts of cells made whole, with the sums of categories kept.

Expected counts m, whose sum is whole, become counts n with n_c the floor or the ceiling of m_c, E
n_c = m_c, the same sum, and the sum of every category within the floor and the ceiling of its own
expected sum. Where categories form two nested classes (areas and cells; or two classes with their
coarser values) such an n always exists and is found by flow. Sets are nodes of a network and
expected sums are flows. Cycles of fractional flow are pushed one way or the other, with
probabilities that keep each flow's mean, until all flow is whole (Causey, Cox and Ernst, JASA 80
(1985) 903-909; Cox, JASA 82 (1987) 520-524). Fractions are counted in units of 2^-40, so that
conservation of flow is exact. One push makes an edge whole; work is linear in cells times the
length of a cycle.

With three classes or more n need not exist. Then a random walk keeps all sums as long as it can
(flight phase of the cube method, Deville and Tille, Biometrika 91 (2004) 893-912). The few cells
still fractional are settled by the distribution of least expected misses that keeps all means
(landing phase by linear programming, ibid.), classes first in order counting most. What a category
misses is reported.

Two simpler questions are answered here too. ``largest_remainders``: no chance, each count as near
to its share as the total allows (Hamilton's method). ``round_balanced``: one list of cells rounded
by chance, balanced on what a record of each cell adds to some margins (the cube method).

Belongs here: whole counts from expected counts. Does not belong here: which records are drawn, the
mass of cells left without a record (``moved_mass.py``), how many an area gets (``allocation.py``).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from calibration_core.errors import ProblemError
from calibration_core.sampling.cube import cube
from calibration_core.sampling.flow_rounding import UNIT, nest, two_classes, units_of
from calibration_core.sampling.many_classes import HARD, many_classes, outside_by

# Row sums nearer to a whole number than this are whole: probabilities of many units add up to it.
_WHOLE = 1e-6
# Shares nearer to a whole number than this, relatively, are whole: rounding of one division.
_SLOP = 1e-9


@dataclass(frozen=True)
class Miss:
    """A category whose count is outside the floor and ceiling of its expected count.

    Attributes: ``area``, ``cell_class``, ``category`` indices; ``expected``; ``count``; ``by`` > 0
    how far outside.
    """

    area: int
    cell_class: int
    category: int
    expected: float
    count: int
    by: int


@dataclass(frozen=True, eq=False)
class Rounding:
    """Attributes: ``counts`` (areas, cells) int64; ``misses`` categories that could not be held;
    ``landed`` number of areas that needed the landing phase; ``relaxed`` number of (area, class)
    that the flight phase could not balance to its end.
    """

    counts: np.ndarray
    misses: tuple[Miss, ...] = ()
    landed: int = 0
    relaxed: int = 0


def round_areas(
    expected: np.ndarray,
    classes: Sequence[np.ndarray],
    seed: int,
    *,
    index: np.ndarray | None = None,
) -> Rounding:
    """Round the cells of each area by itself, holding the categories of several classes.

    Area t uses ``default_rng([seed, index[t]])``, so its counts do not depend on which other areas
    there are.

    Parameters
    ----------
    expected : (areas, cells) float64 >= 0, each row summing to a whole number.
    classes : one (categories, cells) bool per class, most important first; each nested. The first
        two are held always, the others where possible, else missed by as little as can be expected,
        those first in order counting most.
    seed, index : the second (areas,) int64, default 0, 1, ...

    Raises ProblemError if expected counts are negative or not finite, a row does not sum to a whole
    number, or a class is not nested.
    """
    expected = _checked(expected)
    areas, cells = expected.shape
    nests = [nest(c, cells) for c in classes]
    sets = [np.asarray(c, dtype=bool).reshape(-1, cells) for c in classes]
    label = np.arange(areas) if index is None else np.asarray(index)
    units = units_of(expected)
    counts = np.floor(expected + 0.5 / UNIT).astype(np.int64)
    misses: list[Miss] = []
    landed = relaxed = 0
    for t in range(areas):
        generator = np.random.default_rng([seed, int(label[t])])
        if len(nests) <= HARD:
            counts[t] += two_classes(units[t], nests, generator)
            continue
        up, given_up = many_classes(units[t] / UNIT, sets, nests, generator)
        counts[t] += up
        landed += given_up >= 0
        relaxed += max(given_up, 0)
        misses += _misses(t, expected[t], counts[t], sets)
    return Rounding(counts, tuple(misses), landed, relaxed)


def round_balanced(
    share: np.ndarray, profile: np.ndarray | None, generator: np.random.Generator
) -> np.ndarray:
    """(cells,) int64 counts: each share rounded down or up at random, mean the share, summing to
    the sum of shares.

    Parameters
    ----------
    share : (cells,) float64 >= 0, summing to a whole number.
    profile : (cells, variables) what one record of the cell adds to each margin, or None: margins
        that rounding keeps balanced.
    generator : of the random numbers.

    Raises ProblemError as ``round_areas``.
    """
    share = _checked(np.asarray(share)[None, :])
    fraction = units_of(share)[0] / UNIT
    counts = np.floor(share[0] + 0.5 / UNIT).astype(np.int64)
    up = np.flatnonzero(fraction)
    if up.size:
        balance = np.zeros((up.size, 0)) if profile is None else profile[up]
        counts[up[cube(fraction[up], balance, [], generator)]] += 1
    return counts


def largest_remainders(
    share: np.ndarray,
    total: int,
    low: np.ndarray,
    high: np.ndarray,
    start: np.ndarray | None = None,
) -> np.ndarray:
    """(areas,) int64 counts summing to ``total``, each within its bounds.

    Counts begin at ``start``, by default the shares rounded down, and go up or down by one where
    the share is furthest away, again and again; of equal distances the first goes (Hamilton's
    method, where ``start`` is the default).

    Parameters
    ----------
    share : (areas,) float64.
    low, high : (areas,) int64 bounds, whose sums ``total`` lies between.

    Raises ProblemError where ``total`` is out of reach.
    """
    if not int(np.sum(low)) <= total <= int(np.sum(high)):
        raise ProblemError(
            f"{total:,} are to be shared out",
            expected=f"{int(np.sum(low)):,} to {int(np.sum(high)):,}, the sums of the bounds",
        )
    # A share that is whole but for rounding is whole.
    start = np.floor(share + _SLOP * np.maximum(1.0, share)) if start is None else start
    whole = np.clip(start.astype(np.int64), low, high)
    missing = total - int(whole.sum())
    step = 1 if missing > 0 else -1
    room = high - whole if step > 0 else whole - low
    # Distances equal but for rounding are ties.
    distance = np.round(step * (whole - share), 9)
    heap = [(float(distance[i]), int(i)) for i in np.flatnonzero(room > 0)]
    heapq.heapify(heap)
    for _ in range(abs(missing)):
        ahead, i = heapq.heappop(heap)
        whole[i] += step
        room[i] -= 1
        if room[i] > 0:
            heapq.heappush(heap, (ahead + 1.0, i))
    return whole


def _checked(expected: np.ndarray) -> np.ndarray:
    expected = np.asarray(expected, dtype=np.float64)
    if expected.ndim != 2:
        raise ProblemError(f"Expected counts of shape {expected.shape}", expected="(areas, cells)")
    if not np.isfinite(expected).all() or (expected < 0).any():
        raise ProblemError(
            "An expected count is negative or not finite", expected="finite numbers >= 0"
        )
    total = expected.sum(axis=1)
    off = np.abs(total - np.rint(total)) > _WHOLE
    if off.any():
        first = int(np.flatnonzero(off)[0])
        raise ProblemError(
            f"The expected counts of an area sum to {total[first]:.9g}",
            where=f"area {first}",
            expected="a whole number in every area",
        )
    return expected


def _misses(
    area: int, expected: np.ndarray, counts: np.ndarray, sets: list[np.ndarray]
) -> list[Miss]:
    found = []
    for number, members in enumerate(sets):
        sums, got = members @ expected, members.astype(np.int64) @ counts
        outside = outside_by(sums, got)
        found += [
            Miss(area, number, int(c), float(sums[c]), int(got[c]), int(outside[c]))
            for c in np.flatnonzero(outside)
        ]
    return found
