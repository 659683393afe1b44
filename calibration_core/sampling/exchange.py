"""The compiled exchange: drawn units of one area give their places to better ones.

While that lowers the sum of squared errors

    sum_v e_v^2  +  kappa^2 sum_c (n_c - m_c)^2,        e_v = sum_a w_a x_{r(a) v} - T_v

over the places a of the area, each place in turn takes the candidate that gains most there. In the
first passes over the places only exchanges that gain much are made, which leaves the others to the
places that gain most by them; passes go on until none helps. Here w_a is the weight of the place
and r(a) the unit in it; x and T are in units of error; n_c is the number of units of cell c and m_c
what it was at first. kappa = inf exchanges within cells only. The number of units, and the weights
of the places, never change.

For a place a, w_a and w_b x_b cost nothing new: sums over variables are taken once for each unit
that is in, and once for each that comes in. Of candidates whose gains differ by rounding the first
comes in. Sums are taken in one order, so that the same numbers give the same exchanges on every
processor.

To make the best exchange of all places every time (steepest descent) compares all of them anew for
each: on Rhode Island's tracts (120 of 1,950, 424 variables) it leaves 2 % more of the squares than
the passes do, in twice the time.

Products of rows, places x candidates of them, take most of the time and depend on no error: they
may be made ahead (``products_of``), and then a few places of an area exchange with a few candidates
(``exchange_some``).

Belongs here: that loop, which both wings use. Does not belong here: goals and units of error, who
may come in (``tree/select/exchange.py``, ``flat/select/repair.py``), which places of a large area
meet which candidates (``exchange_blocks.py``).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from calibration_core.common.compiled import loop, part

# An exchange must lower the sum of squares by this share of it, so that rounding cannot keep two
# units swapping for ever.
LEAST_GAIN = 1e-9
# And beat the best before it by this share, so that rounding does not choose between equals.
_TIE = 1e-10
# Squares below this are rounding.
_NOTHING = 1e-12
# Share of the sum of squares that an exchange must gain, pass by pass. After a draw of 120 of 1,950
# they leave 24.5 % of the squares; with 0.1, 0.03, 0.01 and 0.003 24.9 % are left, with 0.02 alone
# 24.6 % after a quarter more exchanges, each of which moves a cell.
_PASSES = (0.1, 0.05, 0.03, 0.02, 0.01, 0.005)
# Records whose rows are copied together: of 390 columns, 64 take 1.3 ms a pass of 1,920 records, 8
# take 1.4, and eight rows read in place 2.3.
_TOGETHER = 64


class Places(NamedTuple):
    """One area as it stands.

    Attributes
    ----------
    weight : (places,) float64 > 0.
    fixed : (places,) bool: keeps its unit.
    unit : (places,) int64 unit in each place, changed in place.
    rows : (places, variables) float64 x of those units, changed in place.
    cell : (places,) int64 their cells, changed in place.
    error : (variables,) float64 e, changed in place.
    moved : (cells,) float64 n_c - m_c, changed in place.
    """

    weight: np.ndarray
    fixed: np.ndarray
    unit: np.ndarray
    rows: np.ndarray
    cell: np.ndarray
    error: np.ndarray
    moved: np.ndarray


class Entrants(NamedTuple):
    """Who may come in: ``unit`` (candidates,) int64, ``rows`` (variables, candidates) float64,
    ``cell`` (candidates,) int64. Units in a place may be among them."""

    unit: np.ndarray
    rows: np.ndarray
    cell: np.ndarray


class Products(NamedTuple):
    """``cross`` (places, candidates) float64 products of rows; ``own`` (places,), ``norm``
    (candidates,) float64 squares. They follow the exchanges."""

    cross: np.ndarray
    own: np.ndarray
    norm: np.ndarray


class _Standing(NamedTuple):
    """``cross``, ``own``, ``norm`` as Products; ``along`` (candidates,) products with the error;
    ``inside`` (candidates,) bool, and ``shut`` (candidates,) inf where it holds, else 0; ``moved``
    (candidates,) of the candidate's cell; ``change`` (candidates,) room for a place's changes."""

    cross: np.ndarray
    own: np.ndarray
    norm: np.ndarray
    along: np.ndarray
    inside: np.ndarray
    shut: np.ndarray
    moved: np.ndarray
    change: np.ndarray


@loop
def exchange_places(places: Places, entrants: Entrants, kappa: float, limit: int) -> int:
    """Make exchanges until none helps, at most ``limit``; returns how many were made."""
    if not (places.unit.size and entrants.unit.size):
        return 0
    inside = np.zeros(entrants.unit.size, dtype=np.bool_)
    for a in range(places.unit.size):
        for i in range(entrants.unit.size):
            if entrants.unit[i] == places.unit[a]:
                inside[i] = True
    products = _products(places.rows, entrants.rows)
    return _descend(places, entrants, products, inside, kappa, limit, LEAST_GAIN)


@loop
def columns_of(
    rows: np.ndarray, record: np.ndarray, variable: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """(variables used, records asked) float64: rows (records, variables) of some records, of
    some variables, times ``unit`` (variables used,) float64. Some records at a time, whose rows are
    copied first: so each stretch of memory is fetched once and stored once."""
    out = np.empty((variable.size, record.size))
    some = np.empty((_TOGETHER, rows.shape[1]))
    for begin in range(0, record.size, _TOGETHER):
        count = min(_TOGETHER, record.size - begin)
        for i in range(count):
            for j in range(rows.shape[1]):
                some[i, j] = rows[record[begin + i], j]
        for v in range(variable.size):
            for i in range(count):
                out[v, begin + i] = some[i, variable[v]] * unit[v]
    return out


@loop
def columns_of_store(
    small: np.ndarray, large: np.ndarray, place: np.ndarray, record: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """``columns_of`` of a store (``common/columns.py``): ``place`` (variables used,) int64 is a
    column of ``small`` (records, a) uint8, or -1 less a column of ``large`` (records, b) float64.
    """
    counts = small.shape[1]
    out = np.empty((place.size, record.size))
    some = np.empty((_TOGETHER, counts + large.shape[1]))
    for begin in range(0, record.size, _TOGETHER):
        count = min(_TOGETHER, record.size - begin)
        for i in range(count):
            r = record[begin + i]
            for j in range(counts):
                some[i, j] = small[r, j]
            for j in range(large.shape[1]):
                some[i, counts + j] = large[r, j]
        for v in range(place.size):
            at = place[v] if place[v] >= 0 else counts - 1 - place[v]
            for i in range(count):
                out[v, begin + i] = some[i, at] * unit[v]
    return out


@loop
def products_of(rows: np.ndarray, entering: np.ndarray) -> Products:
    """Of the rows of places (places, variables) and of candidates (variables, candidates), both
    float64: what exchanges between them need, whatever the error is by then."""
    return _products(rows, entering)


@loop
def exchange_some(
    places: Places,
    entrants: Entrants,
    products: Products,
    inside: np.ndarray,
    kappa: float,
    limit: int,
    least: float,
) -> int:
    """As ``exchange_places``, of some places of an area and some of its candidates.

    Parameters
    ----------
    places : ``weight`` to ``cell`` of these places; ``error`` and ``moved`` of the whole area.
    products : ``products_of`` their rows, changed in place.
    inside : (candidates,) bool: whether the unit is in any place of the area, changed in place.
    least : an exchange must lower the sum of squares by this share of it, ``LEAST_GAIN`` or more.
    """
    if not (places.unit.size and entrants.unit.size):
        return 0
    return _descend(places, entrants, products, inside, kappa, limit, least)


@part
def _descend(places, entrants, products, inside, kappa, limit, least):
    variables, count = entrants.rows.shape
    along, done = np.zeros(count), 0
    for v in range(variables):
        for i in range(count):
            along[i] += entrants.rows[v, i] * places.error[v]
    shut, moved = np.zeros(count), np.empty(count)
    for i in range(count):
        moved[i] = places.moved[entrants.cell[i]]
        if inside[i]:
            shut[i] = np.inf
    change = np.empty(count)
    now = _Standing(products.cross, products.own, products.norm, along, inside, shut, moved, change)
    number = 0
    while True:
        share = max(least, _PASSES[number]) if number < len(_PASSES) else least
        made = _pass(places, entrants, now, kappa, limit - done, share)
        done += made
        if done >= limit or (share <= least and not made):
            return done
        number += 1


@part
def _pass(places, entrants, now, kappa, limit, share):
    """Let every place take its best candidate where that gains enough; how many did."""
    made = 0
    for place in range(places.unit.size):
        if made == limit:
            break
        if places.fixed[place]:
            continue
        entering = _best(places, entrants, now, place, kappa, share)
        if entering >= 0:
            _swap(places, entrants, now, place, entering)
            made += 1
    return made


@part
def _products(rows, entering):
    variables, count = entering.shape
    cross, own, norm = np.zeros((rows.shape[0], count)), np.empty(rows.shape[0]), np.zeros(count)
    for v in range(variables):
        for i in range(count):
            norm[i] += entering[v, i] * entering[v, i]
    for a in range(rows.shape[0]):
        _add_products(rows[a], entering, cross[a])
        own[a] = _dot(rows[a], rows[a])
    return Products(cross, own, norm)


@part
def _best(places, entrants, now, place, kappa, share):
    """The candidate that gains most in a place; -1 where none gains enough."""
    squares = max(_dot(places.error, places.error), _NOTHING)
    best, found = -share * squares, -1
    change, along, norm, shut, cross = now.change, now.along, now.norm, now.shut, now.cross[place]
    w = places.weight[place]
    constant = w * w * now.own[place] - 2.0 * w * _dot(places.rows[place], places.error)
    for i in range(change.size):
        change[i] = (constant + (2.0 * w * along[i] + w * w * (norm[i] - 2.0 * cross[i]))) + shut[i]
    here = places.cell[place]
    _add_cells(change, places.moved[here], here, entrants.cell, now, kappa)
    if _least(change) < best - _TIE * squares:
        for i in range(change.size):
            if change[i] < best - _TIE * squares:
                best, found = change[i], i
    return found


@part
def _add_cells(change, left, here, cells, now, kappa):
    """What the counts of cells add to the change; ``left`` is what the place's cell has moved."""
    if kappa == np.inf:
        for i in range(change.size):
            change[i] += 0.0 if cells[i] == here else np.inf
    elif kappa > 0.0:
        price, moved = 2.0 * kappa * kappa, now.moved
        for i in range(change.size):
            change[i] += 0.0 if cells[i] == here else price * (moved[i] - left + 1.0)


@part
def _least(values):
    """The least of them, eight beside each other; inf of none."""
    found, last = np.full(8, np.inf), values.size - values.size % 8
    for i in range(0, last, 8):
        for j in range(8):
            found[j] = min(found[j], values[i + j])
    for i in range(last, values.size):
        found[0] = min(found[0], values[i])
    return found.min()


@part
def _swap(places, entrants, products, place, entering):
    w, row, cross = places.weight[place], places.rows[place], products.cross[place]
    leaving, left, come = places.unit[place], places.cell[place], entrants.cell[entering]
    places.moved[left] -= 1.0
    places.moved[come] += 1.0
    for i in range(entrants.unit.size):
        if entrants.unit[i] == leaving:
            products.inside[i], products.shut[i] = False, 0.0
        if entrants.cell[i] == left or entrants.cell[i] == come:
            products.moved[i] = places.moved[entrants.cell[i]]
        # The products with the error follow from those with the two rows.
        products.along[i] -= w * cross[i]
        cross[i] = 0.0
    products.inside[entering], products.shut[entering] = True, np.inf
    for v in range(row.size):
        x = entrants.rows[v, entering]
        places.error[v] += w * (x - row[v])
        row[v] = x
    places.unit[place], places.cell[place] = entrants.unit[entering], entrants.cell[entering]
    _add_products(row, entrants.rows, cross)
    products.own[place] = _dot(row, row)
    for i in range(entrants.unit.size):
        products.along[i] += w * cross[i]


@part
def _add_products(row, rows, out):
    """Products of a row with those of every candidate, four variables at a time; variables it does
    not touch cost nothing."""
    used = np.flatnonzero(row)
    n = used.size - used.size % 4
    for k in range(0, n, 4):
        s, t, u, v = used[k], used[k + 1], used[k + 2], used[k + 3]
        a, b, c, d = row[s], row[t], row[u], row[v]
        for i in range(out.size):
            out[i] += (a * rows[s, i] + b * rows[t, i]) + (c * rows[u, i] + d * rows[v, i])
    for k in range(n, used.size):
        a, s = row[used[k]], used[k]
        for i in range(out.size):
            out[i] += a * rows[s, i]


@part
def _dot(a, b):
    """Four sums beside each other, always in the same order."""
    n = a.size - a.size % 4
    s, t, u, v = 0.0, 0.0, 0.0, 0.0
    for i in range(0, n, 4):
        s += a[i] * b[i]
        t += a[i + 1] * b[i + 1]
        u += a[i + 2] * b[i + 2]
        v += a[i + 3] * b[i + 3]
    for i in range(n, a.size):
        s += a[i] * b[i]
    return (s + t) + (u + v)
