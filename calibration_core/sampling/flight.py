"""The compiled flight and landing of the cube method, over one list of units and over the
candidates of many areas.

The flight moves a vector of probabilities p at random along directions u with A u = 0, up and down
with such chances that its mean stays, until coordinates reach 0 or 1 and are settled: so
Horvitz-Thompson totals A s of the balancing variables stay what they are while any direction is
left (Deville and Tille, Biometrika 91 (2004) 893-912). Units come one at a time, as in the fast
algorithm of Chauvet and Tille (Computational Statistics 21 (2006) 53-62), cell by cell, with the
counts of the cells at hand among the constraints (stratified balancing: Chauvet, Survey Methodology
35 (2009) 115-119).

The units that are neither settled nor free to move are a basis B of the constraints, as in the
simplex method, and M with M B = unit vectors is kept by Gauss-Jordan steps: a unit a that comes in
either joins the basis, or gives the direction (-M a, 1), and takes the place of the basis unit that
it settles. When all units have come, variables are given up from the last one: giving up constraint
c frees the direction M e_c, which changes no other. Cells are not given up: then at most one unit a
cell is open, and these go through the same with the next coarser level, the last of which is the
area, whose count is never given up. So every level's counts end within rounding of what they were
at its start. The work is linear in the units and quadratic in the constraints, 2 x variables + 2 at
most however many cells there are.

Belongs here: the loops; they are in one file because a compiled function that is cached does not
see changes of a function in another. Does not belong here: checks of arguments and random streams
(``cube.py``).
"""

from __future__ import annotations

import math

import numba
import numpy as np

# Probabilities this close to 0 or 1 are settled: rounding of the steps, far below any probability
# that matters.
SETTLED = 1e-10
# A constraint that a unit adds less than this to, beside the largest, adds nothing: rounding of the
# factors.
_DEPENDENT = 1e-9
# The factors are made anew after this many changes, or where their entries say that the basis is
# close to dependent.
_RENEW, _LARGE = 64, 1e5
# Components with less than this share of the largest variance are rounding.
_NO_VARIANCE = 1e-12
# Variance below this share of the squared mean is rounding too.
_CONSTANT = 1e-24


@numba.njit(cache=True, nogil=True)
def draw_areas(
    first,
    last,
    number,
    threads,
    offsets,
    record,
    probability,
    weight,
    rows,
    inverse,
    cell,
    kinds,
    held,
    sequence,
    uniform,
    drawn,
):
    """Areas first + number, first + number + threads, ... before last.

    ``sequence`` : candidates of areas first to last, each area's sorted by cell and within it in
        random order; ``uniform`` a number for each.
    """
    for t in range(first + number, last, threads):
        begin, end = offsets[t], offsets[t + 1]
        ahead = begin - offsets[first]
        p, here = np.empty(end - begin), np.empty(end - begin, dtype=np.int64)
        queue, size = np.empty(end - begin, dtype=np.int64), 0
        for i in range(end - begin):
            p[i] = 1.0 if probability[begin + i] > 1.0 - SETTLED else probability[begin + i]
            here[i] = cell[record[begin + i]]
        for i in range(end - begin):
            unit = sequence[ahead + i] - begin
            if p[unit] < 1.0:
                queue[size] = unit
                size += 1
        if size:
            columns = _components(
                p,
                here,
                kinds,
                queue[:size],
                record[begin:end],
                weight[begin:end],
                rows,
                inverse[t % inverse.shape[0]],
                held[t],
            )
            used, land = 0, True
            for _ in range(2):
                # Cells first; then what is left in all of them together.
                used = settle_level(
                    p,
                    columns,
                    here,
                    kinds,
                    queue[:size],
                    uniform[ahead : ahead + end - begin],
                    used,
                    land,
                )
                rest = 0
                for i in range(size):
                    here[queue[i]] = 0
                    if 0.0 < p[queue[i]] < 1.0:
                        queue[rest] = queue[i]
                        rest += 1
                size = rest
        for i in range(end - begin):
            drawn[begin + i] = p[i] > 0.5


@numba.njit(cache=True, nogil=True)
def _components(p, cell, kinds, units, record, weight, rows, inverse, held):
    """(candidates, components) principal components of what the open units add, the largest entry
    of each 1; strongest first.
    """
    f, n = rows.shape[1], units.size
    held = min(held, f, n)
    if held == 0:
        return np.zeros((p.size, 0))
    added, mean = np.empty((n, f)), np.zeros(f)
    heft, sums = np.zeros(kinds), np.zeros((kinds, f))
    spread = np.empty(n)
    for i in range(n):
        unit = units[i]
        spread[i] = p[unit] * (1.0 - p[unit])
        heft[cell[unit]] += spread[i]
        for v in range(f):
            a = weight[unit] * rows[record[unit], v] * abs(inverse[v])
            added[i, v] = a
            mean[v] += a
            sums[cell[unit], v] += spread[i] * a
    for v in range(f):
        mean[v] /= n
        for c in range(kinds):
            if heft[c] > 0:
                sums[c, v] /= heft[c]
    centred = np.empty((n, f))
    for i in range(n):
        root, c = math.sqrt(spread[i]), cell[units[i]]
        for v in range(f):
            centred[i, v] = root * (added[i, v] - sums[c, v])
    gram = np.dot(centred.T, centred)
    factor = np.ones(f)
    largest_mean = 0.0
    for v in range(f):
        if inverse[v] < 0:
            factor[v] = (
                1.0 / math.sqrt(gram[v, v])
                if gram[v, v] > _CONSTANT * n * mean[v] * mean[v]
                else 0.0
            )
        largest_mean = max(largest_mean, abs(mean[v]) * factor[v])
    for v in range(f):
        for u in range(f):
            gram[v, u] *= factor[v] * factor[u]
    variance, axes = np.linalg.eigh(gram)
    best = variance[f - 1]
    least = max(_NO_VARIANCE * best, _CONSTANT * n * largest_mean * largest_mean)
    while held > 0 and variance[f - held] <= least:
        held -= 1
    chosen = np.empty((f, held))
    for v in range(f):
        for c in range(held):
            chosen[v, c] = axes[v, f - 1 - c] * factor[v]
    for i in range(n):
        for v in range(f):
            added[i, v] -= mean[v]
    scores = np.dot(added, chosen)
    columns = np.zeros((p.size, held))
    for c in range(held):
        largest = 0.0
        for i in range(n):
            largest = max(largest, abs(scores[i, c]))
        if largest > 0:
            for i in range(n):
                columns[units[i], c] = scores[i, c] / largest
    return columns


# The flight. ``factor[c, r]`` is M[r, c], rows of ``factor`` are constraints: ``kind[c]`` is a
# variable, or variables + a cell; ``place`` is the way back, -1 where the constraint is not held.
# ``unit[r]`` is the basis unit that M turns into the unit vector r, -1 where there is none yet.
# ``state``: constraints held, uniform numbers used, changes since M was made anew.


@numba.njit(cache=True, nogil=True)
def settle_level(p, columns, cell, cells, queue, uniform, used, land):
    """Settle units in place until no cell has more than one that is not; returns how many uniform
    numbers have been used.

    p : (units,); columns : (units, variables); cell : (units,) in 0..cells-1; queue : open units,
        sorted by cell; land : false
    to stop when no direction is left, with all variables held.
    """
    variables = columns.shape[1]
    most = 2 * variables + 3
    factor, y = np.zeros((most, most)), np.zeros(most)
    kind, unit = np.zeros(most, dtype=np.int64), np.full(most, -1, dtype=np.int64)
    place = np.full(variables + cells, -1, dtype=np.int64)
    state = np.zeros(3, dtype=np.int64)
    state[1] = used
    for v in range(variables):
        _hold(v, factor, kind, unit, place, state)
    begin = 0
    while begin < queue.size:
        here, end = cell[queue[begin]], begin
        while end < queue.size and cell[queue[end]] == here:
            end += 1
        if end - begin > 1:
            _hold(variables + here, factor, kind, unit, place, state)
            for n in range(begin, end):
                i = queue[n]
                largest = _enter(i, p, columns, cell, factor, unit, place, y, state, uniform)
                if state[2] >= _RENEW or (largest > _LARGE and state[2] > 8):
                    _renew(p, columns, cell, factor, unit, place, y, state, uniform)
            _release(p, columns, cell, factor, kind, unit, place, y, variables, state, uniform)
        begin = end
    for v in range(variables - 1, -1, -1):
        if not land or state[0] <= v + 1:
            break
        _give_up(place[v], p, factor, kind, unit, place, state, uniform)
        _release(p, columns, cell, factor, kind, unit, place, y, variables, state, uniform)
    return state[1]


@numba.njit(cache=True, nogil=True)
def _hold(what, factor, kind, unit, place, state):
    """One more constraint, which no basis unit adds to."""
    d = state[0]
    for r in range(d):
        factor[d, r] = 0.0
        factor[r, d] = 0.0
    factor[d, d] = 1.0
    unit[d], kind[d], place[what] = -1, what, d
    state[0] = d + 1


@numba.njit(cache=True, nogil=True)
def _enter(i, p, columns, cell, factor, unit, place, y, state, uniform):
    """Unit i joins the basis, or moves against it and one of them is settled. Returns the largest
    entry of M a.
    """
    d = state[0]
    variables = columns.shape[1]
    home = place[variables + cell[i]]
    for r in range(d):
        y[r] = factor[home, r]
    for v in range(variables):
        a, c = columns[i, v], place[v]
        if a != 0.0 and c >= 0:
            for r in range(d):
                y[r] += a * factor[c, r]
    largest, fresh = 1.0, -1
    for r in range(d):
        largest = max(largest, abs(y[r]))
        if unit[r] == -1 and (fresh < 0 or abs(y[r]) > abs(y[fresh])):
            fresh = r
    if fresh >= 0 and abs(y[fresh]) > _DEPENDENT * largest:
        _pivot(fresh, factor, y, state)
        unit[fresh] = i
    else:
        _move(p, unit, y, -1.0, i, state, uniform)
        swap = -1
        for r in range(d):
            if unit[r] == -2 and (swap < 0 or abs(y[r]) > abs(y[swap])):
                swap = r
        if 0.0 < p[i] < 1.0 and swap >= 0:
            _pivot(swap, factor, y, state)
            unit[swap] = i
        for r in range(d):
            if unit[r] == -2:
                unit[r] = -1
    return largest


@numba.njit(cache=True, nogil=True)
def _pivot(row, factor, y, state):
    d = state[0]
    for c in range(d):
        part = factor[c, row] / y[row]
        if part != 0.0:
            for r in range(d):
                factor[c, r] -= part * y[r]
        factor[c, row] = part
    state[2] += 1


@numba.njit(cache=True, nogil=True)
def _move(p, unit, direction, sign, entering, state, uniform):
    """One step of the flight along sign x direction of the basis units, and 1 of the entering one
    if there is one (>= 0).

    Rows whose unit is settled are marked -2.
    """
    d = state[0]
    size = 1.0 if entering >= 0 else 0.0
    for r in range(d):
        if unit[r] >= 0:
            size = max(size, abs(direction[r]))
    up, down = np.inf, np.inf
    if entering >= 0:
        up, down = 1.0 - p[entering], p[entering]
    for r in range(d):
        u = sign * direction[r]
        if unit[r] >= 0 and abs(u) > 1e-12 * size:
            q = p[unit[r]]
            if u > 0:
                up, down = min(up, (1.0 - q) / u), min(down, q / u)
            else:
                up, down = min(up, -q / u), min(down, (q - 1.0) / u)
    if up == np.inf:
        return
    step = up if uniform[state[1]] * (up + down) < down else -down
    state[1] += 1
    if entering >= 0:
        p[entering] = _settled(p[entering] + step)
    for r in range(d):
        u = sign * direction[r]
        if unit[r] >= 0 and abs(u) > 1e-12 * size:
            q = _settled(p[unit[r]] + step * u)
            p[unit[r]] = q
            if q == 0.0 or q == 1.0:
                unit[r] = -2


@numba.njit(cache=True, nogil=True)
def _settled(q):
    if q < SETTLED:
        return 0.0
    return 1.0 if q > 1.0 - SETTLED else q


@numba.njit(cache=True, nogil=True)
def _renew(p, columns, cell, factor, unit, place, y, state, uniform):
    """M made anew from the basis, each unit at the row where it adds most; a unit that turns out
    dependent moves.
    """
    d = state[0]
    basis = unit.copy()
    for c in range(d):
        for r in range(d):
            factor[c, r] = 0.0
        factor[c, c] = 1.0
        unit[c] = -1
    for r in range(d):
        i = basis[r]
        if i >= 0:
            _enter(i, p, columns, cell, factor, unit, place, y, state, uniform)
    state[2] = 0


@numba.njit(cache=True, nogil=True)
def _give_up(c, p, factor, kind, unit, place, state, uniform):
    """Constraint number c is no longer held; where the basis leaves no room for that, its units
    move along the direction this frees.
    """
    d = state[0]
    size = 0.0
    for r in range(d):
        size = max(size, abs(factor[c, r]))
    row = _free_row(c, factor, unit, d)
    if row < 0 or abs(factor[c, row]) <= _DEPENDENT * size:
        _move(p, unit, factor[c], 1.0, -1, state, uniform)
        for r in range(d):
            if unit[r] == -2:
                unit[r] = -1
        row = _free_row(c, factor, unit, d)
    _remove(c, row, factor, kind, unit, place, state)


@numba.njit(cache=True, nogil=True)
def _free_row(c, factor, unit, d):
    """The row without a unit in which constraint c counts most; -1 where every row has a unit."""
    row = -1
    for r in range(d):
        if unit[r] == -1 and (row < 0 or abs(factor[c, r]) > abs(factor[c, row])):
            row = r
    return row


@numba.njit(cache=True, nogil=True)
def _remove(c, row, factor, kind, unit, place, state):
    """Constraint number c taken out of the others through a row without a unit; both go."""
    d = state[0]
    if row < 0:
        # Only rounding leads here: the unit that counts most for the constraint gives up its row
        # and waits for the next level.
        row = 0
        for r in range(d):
            if abs(factor[c, r]) > abs(factor[c, row]):
                row = r
        unit[row] = -1
    for other in range(d):
        if other != c:
            part = factor[other, row] / factor[c, row] if factor[c, row] != 0.0 else 0.0
            if part != 0.0:
                for r in range(d):
                    factor[other, r] -= part * factor[c, r]
    # The last constraint and the last row take the places that are free now.
    last = d - 1
    place[kind[c]] = -1
    if c != last:
        for r in range(d):
            factor[c, r] = factor[last, r]
        kind[c] = kind[last]
        place[kind[c]] = c
    if row != last:
        for other in range(d):
            factor[other, row] = factor[other, last]
        unit[row] = unit[last]
    unit[last] = -1
    state[0] = last


@numba.njit(cache=True, nogil=True)
def _release(p, columns, cell, factor, kind, unit, place, y, variables, state, uniform):
    """Cells with one basis unit or none: the unit waits for the next level, since alone it cannot
    move, and the cell is not held any more.

    No other basis unit adds to such a cell, so some row without a unit does. Where the factors say
    otherwise, rounding has let a dependent unit into the basis: they are made anew, once.
    """
    renewed = False
    c = state[0] - 1
    while c >= 0:
        alone, count = -1, 0
        for r in range(state[0]):
            if unit[r] >= 0 and variables + cell[unit[r]] == kind[c]:
                alone, count = r, count + 1
        if kind[c] < variables or count > 1:
            c -= 1
            continue
        if count == 1:
            unit[alone] = -1
        row = _free_row(c, factor, unit, state[0])
        if not renewed and (
            row < 0 or abs(factor[c, row]) <= _DEPENDENT * _largest(factor[c, : state[0]])
        ):
            _renew(p, columns, cell, factor, unit, place, y, state, uniform)
            renewed, c = True, state[0] - 1
            continue
        _remove(c, row, factor, kind, unit, place, state)
        c -= 1


@numba.njit(cache=True, nogil=True)
def _largest(row):
    size = 0.0
    for r in range(row.size):
        size = max(size, abs(row[r]))
    return size
