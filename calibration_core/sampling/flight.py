"""The compiled flight of the cube method: with counts of cells among its constraints, and without.

The flight moves a vector of probabilities p at random along directions u with A u = 0, up and down
with such chances that its mean stays, until coordinates reach 0 or 1 and are settled. So
Horvitz-Thompson totals A s of the balancing variables stay what they are while any direction is
left (Deville and Tille, Biometrika 91 (2004) 893-912). Units come one at a time, as in the fast
algorithm of Chauvet and Tille (Computational Statistics 21 (2006) 53-62), cell by cell, with the
counts of the cells at hand among the constraints (stratified balancing: Chauvet, Survey Methodology
35 (2009) 115-119).

The units that are neither settled nor free to move are a basis B of the constraints, as in the
simplex method, and M with M B = unit vectors is kept by Gauss-Jordan steps. A unit a that comes in
either joins the basis, or gives the direction (-M a, 1), and takes the place of the basis unit that
it settles. When all units have come, variables are given up from the last one: giving up constraint
c frees the direction M e_c, which changes no other. Cells are not given up: then at most one unit
per cell is open, and these go through the same with the next coarser level, the last of which is
the area, whose count is never given up. So every level's counts end within rounding of what they
were at its start. The work is linear in the units and quadratic in the constraints, 2 x variables +
2 at most however many cells there are.

Of two pivots that differ by rounding the first is taken: last bits of columns decide nothing.

Belongs here: the loops; they are in one file because a compiled function that is kept on disk does
not see changes of a function in another. Does not belong here: checks of arguments and random
streams (``cube.py``), what is balanced (``components.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calibration_core.common.compiled import loop, part

# Probabilities this close to 0 or 1 are settled: rounding of the steps, far below any probability
# that matters.
SETTLED = 1e-10
# A constraint that a unit adds less than this to, beside the largest, adds nothing: rounding of the
# factors.
_DEPENDENT = 1e-9
# The factors are made anew after so many changes, or where their entries say that the basis is
# close to dependent.
_RENEW, _LARGE = 64, 1e5
# A pivot must exceed the best before it by this factor.
_TIE = 1.0 + 1e-9


class Flight(NamedTuple):
    """A flight under way.

    Attributes
    ----------
    p : (units,) float64 probabilities, settled in place.
    columns : (units, variables) float64: what a unit adds to each variable.
    cell : (units,) int64 in 0..cells-1.
    uniform : (n,) float64 random numbers, one used per step.
    factor : ``factor[c, r]`` is M[r, c]: its rows are constraints.
    y : room for M a of the unit at hand.
    kind : of each row of ``factor``: a variable, or variables + a cell.
    unit : ``unit[r]`` is the basis unit that M turns into the unit vector r; -1 where there is none
        yet, -2 where it was settled just now.
    place : the way back from a variable, or variables + a cell, to its row; -1 where not held.
    state : constraints held, uniform numbers used, changes since M was made anew.
    """

    p: np.ndarray
    columns: np.ndarray
    cell: np.ndarray
    uniform: np.ndarray
    factor: np.ndarray
    y: np.ndarray
    kind: np.ndarray
    unit: np.ndarray
    place: np.ndarray
    state: np.ndarray


def new_flight(
    p: np.ndarray, columns: np.ndarray, cell: np.ndarray, uniform: np.ndarray, used: int = 0
) -> Flight:
    """A flight before its first step; ``used`` numbers of ``uniform`` are left out."""
    variables, cells = columns.shape[1], int(cell.max(initial=-1)) + 1
    most = 2 * variables + 3
    return Flight(
        p=p,
        columns=columns,
        cell=cell,
        uniform=uniform,
        factor=np.zeros((most, most)),
        y=np.zeros(most),
        kind=np.zeros(most, dtype=np.int64),
        unit=np.full(most, -1, dtype=np.int64),
        place=np.full(variables + cells, -1, dtype=np.int64),
        state=np.array([0, used, 0], dtype=np.int64),
    )


@loop
def settle(flight: Flight, queue: np.ndarray, by_cell: bool, land: bool) -> int:
    """Settle units in place until no direction is left; returns how many uniform numbers have been
    used.

    Open units come in the order of ``queue``. With ``by_cell`` it is sorted by cell, and counts of
    cells are held until none has more than one open unit; else no cell is held. With ``land`` a
    flight by cell gives up variables too, until no cell has more than one. Else all variables are
    held to the end, and no more units stay open than variables and cells.
    """
    for v in range(flight.columns.shape[1]):
        _hold(flight, v)
    if by_cell:
        _cell_by_cell(flight, queue)
    else:
        for i in queue:
            _enter_renewed(flight, i)
    if by_cell and land:
        _land(flight)
    return flight.state[1]


@part
def _cell_by_cell(flight, queue):
    """Units of one cell after those of another; one alone in its cell waits for the next level."""
    variables, begin = flight.columns.shape[1], 0
    while begin < queue.size:
        here, end = flight.cell[queue[begin]], begin
        while end < queue.size and flight.cell[queue[end]] == here:
            end += 1
        if end - begin > 1:
            _hold(flight, variables + here)
            for n in range(begin, end):
                _enter_renewed(flight, queue[n])
            _release(flight)
        begin = end


@part
def _land(flight):
    """Variables given up from the last one, until only cells are held."""
    for v in range(flight.columns.shape[1] - 1, -1, -1):
        if flight.state[0] <= v + 1:
            break
        _give_up(flight, flight.place[v])
        _release(flight)


@part
def _enter_renewed(flight, i):
    """Unit i comes in; M is made anew where it is due."""
    largest = _enter(flight, i)
    changes = flight.state[2]
    if changes >= _RENEW or (largest > _LARGE and changes > 8):
        _renew(flight)


@part
def _hold(flight, what):
    """One more constraint, which no basis unit adds to."""
    d = flight.state[0]
    for r in range(d):
        flight.factor[d, r] = 0.0
        flight.factor[r, d] = 0.0
    flight.factor[d, d] = 1.0
    flight.unit[d], flight.kind[d], flight.place[what] = -1, what, d
    flight.state[0] = d + 1


@part
def _enter(flight, i):
    """Unit i joins the basis, or moves against it and one of them is settled. Returns the largest
    entry of M a."""
    y, unit = flight.y, flight.unit
    _reach(flight, i)
    largest = 1.0
    for r in range(flight.state[0]):
        largest = max(largest, abs(y[r]))
    fresh = _largest_with(y, unit, -1, flight.state[0])
    if fresh >= 0 and abs(y[fresh]) > _DEPENDENT * largest:
        _pivot(flight, fresh)
        unit[fresh] = i
    else:
        _move(flight, y, -1.0, i)
        swap = _largest_with(y, unit, -2, flight.state[0])
        if 0.0 < flight.p[i] < 1.0 and swap >= 0:
            _pivot(flight, swap)
            unit[swap] = i
        _forget_settled(flight)
    return largest


@part
def _reach(flight, i):
    """y = M a of unit i: its cell's row of the factors, if held, and those of its variables."""
    d, variables = flight.state[0], flight.columns.shape[1]
    y, factor = flight.y, flight.factor
    home = flight.place[variables + flight.cell[i]]
    for r in range(d):
        y[r] = factor[home, r] if home >= 0 else 0.0
    for v in range(variables):
        a, c = flight.columns[i, v], flight.place[v]
        if a != 0.0 and c >= 0:
            for r in range(d):
                y[r] += a * factor[c, r]


@part
def _largest_with(values, unit, mark, d):
    """The first of the largest entries among rows whose unit is ``mark``; -1 where none is."""
    row = -1
    for r in range(d):
        if unit[r] == mark and (row < 0 or abs(values[r]) > abs(values[row]) * _TIE):
            row = r
    return row


@part
def _forget_settled(flight):
    for r in range(flight.state[0]):
        if flight.unit[r] == -2:
            flight.unit[r] = -1


@part
def _pivot(flight, row):
    d, factor, y = flight.state[0], flight.factor, flight.y
    for c in range(d):
        part = factor[c, row] / y[row]
        if part != 0.0:
            for r in range(d):
                factor[c, r] -= part * y[r]
        factor[c, row] = part
    flight.state[2] += 1


@part
def _move(flight, direction, sign, entering):
    """One step of the flight along sign x direction of the basis units, and 1 of the entering one
    if there is one (>= 0). Rows whose unit is settled are marked -2."""
    d, p, unit = flight.state[0], flight.p, flight.unit
    size = 1.0 if entering >= 0 else 0.0
    for r in range(d):
        if unit[r] >= 0:
            size = max(size, abs(direction[r]))
    least = 1e-12 * size
    up, down = np.inf, np.inf
    if entering >= 0:
        up, down = 1.0 - p[entering], p[entering]
    for r in range(d):
        u = sign * direction[r]
        if unit[r] >= 0 and abs(u) > least:
            rise, fall = _room(p[unit[r]], u)
            up, down = min(up, rise), min(down, fall)
    if up < np.inf:
        step = up if flight.uniform[flight.state[1]] * (up + down) < down else -down
        flight.state[1] += 1
        if entering >= 0:
            p[entering] = _settled(p[entering] + step)
        _step(flight, direction, sign * step, least)


@part
def _step(flight, direction, step, least):
    """Basis units moved; those that are settled by it are marked."""
    p, unit = flight.p, flight.unit
    for r in range(flight.state[0]):
        if unit[r] >= 0 and abs(direction[r]) > least:
            q = _settled(p[unit[r]] + step * direction[r])
            p[unit[r]] = q
            if q == 0.0 or q == 1.0:
                unit[r] = -2


@part
def _room(q, u):
    """How far a probability can go along u and against it."""
    if u > 0:
        return (1.0 - q) / u, q / u
    return -q / u, (q - 1.0) / u


@part
def _settled(q):
    if q < SETTLED:
        return 0.0
    return 1.0 if q > 1.0 - SETTLED else q


@part
def _renew(flight):
    """M made anew from the basis, each unit at the row where it adds most; a unit that turns out
    dependent moves."""
    d, unit = flight.state[0], flight.unit
    basis = unit[:d].copy()
    for c in range(d):
        for r in range(d):
            flight.factor[c, r] = 0.0
        flight.factor[c, c] = 1.0
        unit[c] = -1
    for i in basis:
        if i >= 0:
            _enter(flight, i)
    flight.state[2] = 0


@part
def _give_up(flight, c):
    """Constraint number c is no longer held; where the basis leaves no room for that, its units
    move along the direction this frees."""
    d, row_of_c = flight.state[0], flight.factor[c]
    row = _largest_with(row_of_c, flight.unit, -1, d)
    if row < 0 or abs(row_of_c[row]) <= _DEPENDENT * _largest(row_of_c, d):
        _move(flight, row_of_c, 1.0, -1)
        _forget_settled(flight)
        row = _largest_with(row_of_c, flight.unit, -1, d)
    _remove(flight, c, row)


@part
def _remove(flight, c, row):
    """Constraint number c taken out of the others through a row without a unit; both go."""
    d, factor = flight.state[0], flight.factor
    if row < 0:
        # Only rounding leads here: the unit that counts most for the constraint gives up its row
        # and waits for the next level.
        row = 0
        for r in range(d):
            if abs(factor[c, r]) > abs(factor[c, row]):
                row = r
        flight.unit[row] = -1
    for other in range(d):
        if other != c and factor[c, row] != 0.0:
            part = factor[other, row] / factor[c, row]
            if part != 0.0:
                for r in range(d):
                    factor[other, r] -= part * factor[c, r]
    _close_gap(flight, c, row)


@part
def _close_gap(flight, c, row):
    """The last constraint and the last row take the places that are free now."""
    last, factor = flight.state[0] - 1, flight.factor
    flight.place[flight.kind[c]] = -1
    if c != last:
        for r in range(last + 1):
            factor[c, r] = factor[last, r]
        flight.kind[c] = flight.kind[last]
        flight.place[flight.kind[c]] = c
    if row != last:
        for other in range(last + 1):
            factor[other, row] = factor[other, last]
        flight.unit[row] = flight.unit[last]
    flight.unit[last] = -1
    flight.state[0] = last


@part
def _release(flight):
    """Cells with one basis unit or none: the unit waits for the next level, since alone it cannot
    move, and the cell is not held any more.

    No other basis unit adds to such a cell, so some row without a unit does. Where the factors say
    otherwise, rounding has let a dependent unit into the basis: they are made anew, once.
    """
    renewed = False
    c = flight.state[0] - 1
    while c >= 0:
        count, alone = _units_of(flight, flight.kind[c])
        if flight.kind[c] < flight.columns.shape[1] or count > 1:
            c -= 1
            continue
        if count == 1:
            flight.unit[alone] = -1
        held = flight.factor[c]
        row = _largest_with(held, flight.unit, -1, flight.state[0])
        weak = row < 0 or abs(held[row]) <= _DEPENDENT * _largest(held, flight.state[0])
        if weak and not renewed:
            _renew(flight)
            renewed, c = True, flight.state[0] - 1
        else:
            _remove(flight, c, row)
            c -= 1


@part
def _units_of(flight, kind):
    """How many basis units are in the cell of constraint ``kind``, and the row of the last."""
    count, row, variables = 0, -1, flight.columns.shape[1]
    for r in range(flight.state[0]):
        if flight.unit[r] >= 0 and variables + flight.cell[flight.unit[r]] == kind:
            count, row = count + 1, r
    return count, row


@part
def _largest(row, d):
    size = 0.0
    for r in range(d):
        size = max(size, abs(row[r]))
    return size
