"""Rounding of a flow in a network: every edge to its floor or ceiling, by chance, with every edge's
mean kept.

Fractions are whole numbers of units of 2^-40, so that what flows into a node flows out exactly, and
no node has just one fractional edge. Cells of one area are edges from the sets of one nested family
to those of another.

Belongs here: units, nested families as trees, the pushing of cycles. Does not belong here: tables
(``rounding.py``), more than two families (``many_families.py``).
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from calibration_core.errors import ProblemError

UNIT = 1 << 40


def units_of(expected: np.ndarray) -> np.ndarray:
    """(areas, cells) int64 fractions in units of 2^-40, rows a multiple of one: what a row lacks is
    given to its middlemost fraction.
    """
    whole = np.floor(expected + 0.5 / UNIT)
    unit = np.clip(np.rint((expected - whole) * UNIT), 0, UNIT - 1).astype(np.int64)
    lack = (-unit.sum(axis=1)) % UNIT
    lack = np.where(lack > UNIT // 2, lack - UNIT, lack)
    for t in np.flatnonzero(lack):
        middle = np.argsort(-np.minimum(unit[t], UNIT - unit[t]), kind="stable")
        left = int(lack[t])
        for c in middle:
            # Rows are whole to 1e-6: one cell takes all of it unless every fraction is as small as
            # that.
            room = min(int(unit[t, c]), UNIT - 1 - int(unit[t, c]))
            step = max(-room, min(room, left))
            unit[t, c] += step
            left -= step
            if left == 0:
                break
        if left:
            # Fractions that sum to next to nothing: the row is whole without them.
            unit[t] = 0
    return unit


def nest(family: np.ndarray | None, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of a nested family: smallest set of each cell (-1 none), parent of each set (-1 none), and
    the distinct sets (sets, cells).
    """
    if family is None:
        return (
            np.full(cells, -1, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.zeros((0, cells), dtype=bool),
        )
    family = np.asarray(family, dtype=bool)
    if family.ndim != 2 or family.shape[1] != cells:
        raise ProblemError(f"A family of shape {family.shape}", expected=f"(categories, {cells})")
    sets = np.unique(family[family.any(axis=1)], axis=0)
    sets = sets[np.lexsort((np.arange(len(sets)), -sets.sum(axis=1)))]
    common = sets.astype(np.int64) @ sets.T.astype(np.int64)
    size = np.diag(common)
    nested = (common == 0) | (common == size[:, None]) | (common == size[None, :])
    if not nested.all():
        raise ProblemError(
            "Two categories of a family overlap without one holding the other",
            expected="disjoint or nested categories",
        )
    home, above = np.full(cells, -1, dtype=np.int64), np.full(len(sets), -1, dtype=np.int64)
    for s, members in enumerate(sets):
        # Sets come largest first, so the last to claim a cell is the smallest that holds it.
        above[s] = home[np.flatnonzero(members)[0]]
        home[members] = s
    return home, above, sets


def two_families(
    unit: np.ndarray, nests: Sequence[tuple], generator: np.random.Generator
) -> np.ndarray:
    """(cells,) 0 or 1: the cells of one area rounded up; cells are edges from the first family's
    sets to the second's.
    """
    place = np.flatnonzero(unit)
    if place.size == 0:
        return np.zeros(unit.size, dtype=np.int64)
    empty = nest(None, unit.size)
    first, second = (nests[i] if i < len(nests) else empty for i in range(2))
    shift = first[1].size + 1
    tails, heads, flows = [first[0][place] + 1], [shift + second[0][place] + 1], [unit[place]]
    for (_, above, sets), base, outward in ((first, 0, True), (second, shift, False)):
        ends = base + above + 1, base + np.arange(above.size) + 1
        tails.append(ends[0] if outward else ends[1])
        heads.append(ends[1] if outward else ends[0])
        flows.append((sets @ unit) % UNIT)
    up = np.zeros(unit.size, dtype=np.int64)
    nodes = shift + second[1].size + 1
    up[place] = round_flow(
        np.concatenate(tails), np.concatenate(heads), np.concatenate(flows), nodes, generator
    )[: place.size]
    return up


def round_flow(
    tail: np.ndarray, head: np.ndarray, flow: np.ndarray, nodes: int, generator: np.random.Generator
) -> np.ndarray:
    """(edges,) int64 0 or 1: edges whose flow is rounded up. ``flow`` (edges,) int64 fractions in
    units, conserved but for whole numbers at every node.
    """
    edges = np.flatnonzero(flow)
    up = np.zeros(flow.size, dtype=np.int64)
    if edges.size == 0:
        return up
    # Edges in random order: which cells trade with which then has no pattern.
    edges = edges[generator.permutation(edges.size)]
    tail, head, flow = (
        tail[edges].astype(np.int64),
        head[edges].astype(np.int64),
        flow[edges].astype(np.int64),
    )
    ends = np.concatenate([tail, head])
    order = np.argsort(ends, kind="stable")
    offsets = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(ends, minlength=nodes), out=offsets[1:])
    _push_cycles(
        tail,
        head,
        flow,
        offsets,
        (order % edges.size).astype(np.int64),
        generator.random(edges.size),
        UNIT,
    )
    up[edges] = flow // UNIT
    return up


@numba.njit(cache=True)
def _push_cycles(tail, head, flow, offsets, incident, uniform, unit):
    """Make every flow 0 or ``unit``. A walk along fractional edges comes back to itself, since no
    node has just one; the cycle is pushed by chance, what lies before it stays as the beginning of
    the next walk.
    """
    nodes = offsets.size - 1
    next_edge = offsets[:-1].copy()
    position = np.full(nodes, -1, dtype=np.int64)
    path_node = np.empty(nodes + 1, dtype=np.int64)
    path_edge = np.empty(nodes + 1, dtype=np.int64)
    pushes = 0
    for start in range(nodes):
        length = 0
        path_node[0] = start
        position[start] = 0
        while True:
            node = path_node[length]
            came = path_edge[length - 1] if length > 0 else -1
            # Whole edges are passed for good at the front; an edge one came by is skipped for now.
            while next_edge[node] < offsets[node + 1]:
                e = incident[next_edge[node]]
                if flow[e] == 0 or flow[e] == unit:
                    next_edge[node] += 1
                else:
                    break
            found = -1
            for i in range(next_edge[node], offsets[node + 1]):
                e = incident[i]
                if e != came and flow[e] != 0 and flow[e] != unit:
                    found = e
                    break
            if found < 0:
                # Only where nothing fractional is left at the start.
                position[node] = -1
                break
            other = head[found] if tail[found] == node else tail[found]
            path_edge[length] = found
            if position[other] < 0:
                length += 1
                path_node[length] = other
                position[other] = length
                continue
            first = position[other]
            rise, fall = unit, unit
            for p in range(first, length + 1):
                e = path_edge[p]
                if tail[e] == path_node[p]:
                    rise, fall = min(rise, unit - flow[e]), min(fall, flow[e])
                else:
                    rise, fall = min(rise, flow[e]), min(fall, unit - flow[e])
            move = rise if uniform[pushes] * (rise + fall) < fall else -fall
            pushes += 1
            for p in range(first, length + 1):
                e = path_edge[p]
                flow[e] += move if tail[e] == path_node[p] else -move
            for p in range(first + 1, length + 1):
                position[path_node[p]] = -1
            length = first
    return pushes
