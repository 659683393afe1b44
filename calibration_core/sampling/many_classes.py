"""Rounding one area's cells under more than two classes, where not every category's sum can always
be held.

The flight keeps all sums by a random walk as long as it can; a linear programme settles the rest at
the least expected miss.

Belongs here: flight and landing for one area. Does not belong here: two classes, which flow rounds
exactly (``flow_rounding.py``).
"""

from __future__ import annotations

import numpy as np

from calibration_core.sampling.flight import new_flight, settle
from calibration_core.sampling.flow_rounding import UNIT, two_classes, units_of

SMALL = 1e-9
# The landing enumerates 2^cells completions; with more cells left than this, the last class is no
# longer balanced in the flight.
_ENUMERATED = 12
_PRIORITY = 64.0
# Two nested classes always can be held: they are never given up.
HARD = 2


def many_classes(
    part: np.ndarray, sets: list[np.ndarray], nests: list[tuple], generator: np.random.Generator
) -> tuple[np.ndarray, int]:
    """(cells,) 0 or 1: cells of one area rounded up; and how many classes the flight gave up, -1
    if it needed no landing.
    """
    start = part
    kept = len(sets)
    while True:
        rows = np.concatenate(
            [np.ones((1, part.size)), *(s.astype(np.float64) for s in sets[:kept])]
        )
        part = _flight(part, rows, start, generator)
        left = np.flatnonzero((part > 0) & (part < 1))
        if left.size == 0 and kept == len(sets):
            return part.astype(np.int64), -1
        if left.size <= _ENUMERATED or kept == HARD:
            break
        kept -= 1
    answer = _landing(part, left, start, sets, generator) if 0 < left.size <= _ENUMERATED else None
    if answer is None:
        answer = (
            np.rint(part).astype(np.int64)
            if left.size == 0
            else _settle(part, start, sets, nests, generator)
        )
    return answer, len(sets) - kept


def _settle(
    part: np.ndarray,
    start: np.ndarray,
    sets: list[np.ndarray],
    nests: list[tuple],
    generator: np.random.Generator,
) -> np.ndarray:
    """The first two classes held by flow, from where the flight ended; from its start should
    rounding errors have broken a sum.
    """
    for origin in (part, start):
        unit = units_of(origin[None, :])[0]
        answer = np.floor(origin + 0.5 / UNIT).astype(np.int64) + two_classes(
            unit, nests[:HARD], generator
        )
        if all(outside_by(s @ start, s @ answer).max(initial=0) == 0 for s in sets[:HARD]):
            break
    return answer


def _flight(
    part: np.ndarray, rows: np.ndarray, start: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Random walk on the cells and one slack per category (what its sum lacks to its ceiling), all
    sums with their slack kept.
    """
    sums = rows @ start
    high = np.ceil(sums - SMALL)
    slack = np.clip(high - rows @ part, 0.0, 1.0)
    slack[np.abs(slack) < SMALL] = 0.0
    slack[slack > 1 - SMALL] = 1.0
    fixed = np.abs(sums - np.rint(sums)) < SMALL
    slack[fixed] = 0.0
    point = np.concatenate([part, slack])
    columns = np.vstack([rows.T, np.eye(rows.shape[0])])
    order = np.concatenate([generator.permutation(part.size), part.size + np.arange(slack.size)])
    flight = new_flight(
        point, columns, np.zeros(point.size, dtype=np.int64), generator.random(point.size)
    )
    settle(flight, order[(point[order] > 0) & (point[order] < 1)], False, False)
    return point[: part.size]


def _landing(
    part: np.ndarray,
    left: np.ndarray,
    start: np.ndarray,
    sets: list[np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray | None:
    """Draw a completion from the distribution with mean ``part`` of least expected miss; None
    should no such distribution be found.
    """
    bits = (np.arange(1 << left.size)[:, None] >> np.arange(left.size)) & 1
    base = np.floor(part).astype(np.int64)
    bits = bits[bits.sum(axis=1) == round(float(start.sum())) - int(base.sum())]
    cost = np.zeros(bits.shape[0])
    for number, members in enumerate(sets):
        whole = members.astype(np.int64)
        counts = bits @ whole[:, left].T + whole @ base
        outside = outside_by(members @ start, counts).sum(axis=1)
        # The first two are never missed; of the others those first in order count most.
        each = np.inf if number < HARD else _PRIORITY ** (len(sets) - 1 - number)
        cost[outside > 0] += each * outside[outside > 0]
    usable = np.isfinite(cost)
    bits, cost = bits[usable], cost[usable]
    if bits.shape[0] == 0:
        return None
    # Few draws come here, and reading it takes a sixth of a second.
    from scipy.optimize import linprog

    solved = linprog(
        cost,
        A_eq=np.vstack([bits.T, np.ones(bits.shape[0])]),
        b_eq=np.append(part[left], 1.0),
        bounds=(0, None),
        method="highs-ds",
    )
    if solved.status != 0:
        return None
    chance = np.maximum(solved.x, 0.0)
    answer = base.copy()
    drawn = np.searchsorted(np.cumsum(chance), generator.random() * chance.sum(), side="right")
    answer[left] += bits[min(int(drawn), chance.size - 1)]
    return answer


def outside_by(expected: np.ndarray, count: np.ndarray) -> np.ndarray:
    """How far whole sums lie outside the floor and ceiling of expected ones."""
    low, high = np.floor(expected + SMALL), np.ceil(expected - SMALL)
    return np.maximum(np.maximum(low - count, count - high), 0)
