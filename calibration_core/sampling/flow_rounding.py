"""Rounding of a flow in a network: every edge to its floor or ceiling, by chance, with every edge's
mean kept.

Fractions are whole numbers of units of 2^-40, so that what flows into a node flows out exactly, and
no node has just one fractional edge. Cells of one area are edges from the sets of one nested class
to those of another.

Belongs here: units, nested categories as trees, the pushing of cycles. Does not belong here: tables
(``rounding.py``), more than two classes (``many_classes.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from calibration_core.common.compiled import loop, part
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


def nest(cell_class: np.ndarray | None, cells: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of nested categories: smallest set of each cell (-1 none), parent of each set (-1 none), and
    the distinct sets (sets, cells).
    """
    if cell_class is None:
        return (
            np.full(cells, -1, dtype=np.int64),
            np.zeros(0, dtype=np.int64),
            np.zeros((0, cells), dtype=bool),
        )
    cell_class = np.asarray(cell_class, dtype=bool)
    if cell_class.ndim != 2 or cell_class.shape[1] != cells:
        raise ProblemError(
            f"A class of shape {cell_class.shape}", expected=f"(categories, {cells})"
        )
    sets = np.unique(cell_class[cell_class.any(axis=1)], axis=0)
    sets = sets[np.lexsort((np.arange(len(sets)), -sets.sum(axis=1)))]
    common = sets.astype(np.int64) @ sets.T.astype(np.int64)
    size = np.diag(common)
    nested = (common == 0) | (common == size[:, None]) | (common == size[None, :])
    if not nested.all():
        raise ProblemError(
            "Two categories of a class overlap without one holding the other",
            expected="disjoint or nested categories",
        )
    home, above = np.full(cells, -1, dtype=np.int64), np.full(len(sets), -1, dtype=np.int64)
    for s, members in enumerate(sets):
        # Sets come largest first, so the last to claim a cell is the smallest that holds it.
        above[s] = home[np.flatnonzero(members)[0]]
        home[members] = s
    return home, above, sets


def two_classes(
    unit: np.ndarray, nests: Sequence[tuple], generator: np.random.Generator
) -> np.ndarray:
    """(cells,) 0 or 1: the cells of one area rounded up; cells are edges from the first
    cell_class's sets to the second's.
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


class Network(NamedTuple):
    """Edges with fractional flow, int64 all.

    Attributes: ``tail``, ``head``, ``flow`` (edges,), changed in place; ``offsets`` (nodes + 1,)
    and ``incident`` (2 x edges,): edges at node v are incident[offsets[v]] to
    incident[offsets[v + 1]].
    """

    tail: np.ndarray
    head: np.ndarray
    flow: np.ndarray
    offsets: np.ndarray
    incident: np.ndarray


class Walk(NamedTuple):
    """Attributes, int64 all: ``node``, ``edge`` (nodes + 1,) the path so far; ``position`` (nodes,)
    of a node in it, -1 off it; ``ahead`` (nodes,) the first edge of a node that may be fractional.
    """

    node: np.ndarray
    edge: np.ndarray
    position: np.ndarray
    ahead: np.ndarray


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
    tail, head, flow = (values[edges].astype(np.int64) for values in (tail, head, flow))
    ends = np.concatenate([tail, head])
    offsets = np.zeros(nodes + 1, dtype=np.int64)
    np.cumsum(np.bincount(ends, minlength=nodes), out=offsets[1:])
    incident = (np.argsort(ends, kind="stable") % edges.size).astype(np.int64)
    walk = Walk(
        node=np.zeros(nodes + 1, dtype=np.int64),
        edge=np.zeros(nodes + 1, dtype=np.int64),
        position=np.full(nodes, -1, dtype=np.int64),
        ahead=offsets[:-1].copy(),
    )
    _push_cycles(Network(tail, head, flow, offsets, incident), walk, generator.random(edges.size))
    up[edges] = flow // UNIT
    return up


@loop
def _push_cycles(network, walk, uniform):
    """Make every flow 0 or UNIT. A walk along fractional edges comes back to itself, since no node
    has just one; the cycle is pushed by chance, what lies before it stays as the beginning of the
    next walk.
    """
    pushes = 0
    for start in range(walk.position.size):
        length = 0
        walk.node[0] = start
        walk.position[start] = 0
        while True:
            node = walk.node[length]
            came = walk.edge[length - 1] if length > 0 else -1
            edge = _fractional_edge(network, walk, node, came)
            if edge < 0:
                # Only where nothing fractional is left at the start.
                walk.position[node] = -1
                break
            tail, head = network.tail[edge], network.head[edge]
            other = head if tail == node else tail
            walk.edge[length] = edge
            if walk.position[other] < 0:
                length += 1
                walk.node[length] = other
                walk.position[other] = length
            else:
                first = walk.position[other]
                _push(network, walk, first, length, uniform[pushes])
                pushes += 1
                for p in range(first + 1, length + 1):
                    walk.position[walk.node[p]] = -1
                length = first


@part
def _fractional_edge(network, walk, node, came):
    """An edge of the node with fractional flow, other than the one come by; -1 where there is none.

    Whole edges are passed for good at the front; an edge one came by is skipped for now.
    """
    last = network.offsets[node + 1]
    while walk.ahead[node] < last:
        flow = network.flow[network.incident[walk.ahead[node]]]
        if flow != 0 and flow != UNIT:
            break
        walk.ahead[node] += 1
    for i in range(walk.ahead[node], last):
        edge = network.incident[i]
        if edge != came and network.flow[edge] != 0 and network.flow[edge] != UNIT:
            return edge
    return -1


@part
def _push(network, walk, first, last, chance):
    """The cycle from place ``first`` to ``last`` of the path pushed until an edge is whole."""
    flow = network.flow
    rise, fall = UNIT, UNIT
    for p in range(first, last + 1):
        edge = walk.edge[p]
        if network.tail[edge] == walk.node[p]:
            rise, fall = min(rise, UNIT - flow[edge]), min(fall, flow[edge])
        else:
            rise, fall = min(rise, flow[edge]), min(fall, UNIT - flow[edge])
    move = rise if chance * (rise + fall) < fall else -fall
    for p in range(first, last + 1):
        edge = walk.edge[p]
        flow[edge] += move if network.tail[edge] == walk.node[p] else -move
