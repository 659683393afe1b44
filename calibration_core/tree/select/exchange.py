"""Better pairs for the same k: exchanges within each area that bring weighted totals nearer to what
they should be.

A draw with given inclusion probabilities leaves each area with a sampling error that no refit of
sixty weights removes. Here a drawn pair gives its place, and its weight, to a candidate of the same
area while that lowers

    sum_v ((sum_a g_a x_{r(a) v} - T_v) / s_v)^2  +  kappa^2 sum_c (n_c - m_c)^2

over the places a of the area: g_a is the weight of the place, r(a) the record in it, T_v the goal
and s_v its scale, n_c the number of drawn pairs of cell c and m_c what it was before the first
exchange. The best exchange of all is made first (steepest descent over all pairs of a place and a
candidate); it ends when none helps. kappa = inf exchanges within cells only. k, the weights of the
places, and so the area's total weight, never change; a fixed place (a certainty unit) keeps its
record.

Candidates are themselves a sample drawn with probability proportional to dense weight
(``sampling/candidates.py``), so that a record the dense solution thinks unlikely is unlikely to
come in, and the work is linear in k. For a place a, g_a and g_b x_b cost nothing new: sums over
variables are taken once for each record that is in, and once for each that comes in.

References: exchange algorithms for balanced samples go back to Yates, Philosophical Transactions A
241 (1948) 345-371 (rejective balancing) and, for designs, Fedorov, Theory of Optimal Experiments
(1972); Williamson, Birkin and Rees, Environment and Planning A 30 (1998) 785-816 exchange
households against small-area tables.

Areas are independent of each other, and each is worked on by one thread in a fixed order, so that
results do not depend on how many there are. Where few pairs stand for many targets above the areas
(a state of three counties), the errors of those totals are part of the sum (``Shared``): then one
area follows another, each seeing what those before it left, for some sweeps.

Belongs here: the exchanges. Does not belong here: the first draw (``sampling/``), how goals are
made (``tree/select/pairs.py``), refitting.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from calibration_core.common.threads import map_blocks
from calibration_core.errors import ProblemError, SettingsError

# Most sweeps over areas that share errors; a sweep without an exchange ends them.
_SWEEPS = 4
# An exchange must lower the sum of squares by this share of it, so that rounding cannot keep two
# records swapping for ever.
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class ExchangeSettings:
    """Attributes: ``limit`` most exchanges for each place of an area (a stop that is never reached
    in practice); ``cell_penalty`` kappa: cost, in squared scales, of a cell's count moving by one;
    inf exchanges within cells only; ``threads``.
    """

    limit: float = 8.0
    cell_penalty: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, bad in (
            ("limit", not self.limit >= 0),
            ("cell_penalty", not self.cell_penalty >= 0),
            ("threads", self.threads < 1),
        ):
            if bad:
                raise SettingsError(
                    f"The {name} of the exchanges is {getattr(self, name)}",
                    expected="a number of at least " + ("1" if name == "threads" else "0"),
                )


@dataclass(frozen=True, eq=False)
class Shared:
    """Totals that several areas add to, kept beside each area's own.

    Attributes
    ----------
    rows : (records, columns) float64 contributions.
    slot : (areas, columns) int64: which total a column of an area adds to; -1 where the area has
        none of it.
    goals, scales : (totals,) float64, scales > 0.
    """

    rows: np.ndarray
    slot: np.ndarray
    goals: np.ndarray
    scales: np.ndarray


@dataclass(frozen=True, eq=False)
class ExchangeResult:
    """Attributes: ``record`` (k,) int64 record in each place; ``exchanges`` (areas,) int64 how many
    were made; ``before``, ``after`` (areas,) float64 sum of squares of the area's own totals'
    errors in scales, without shared ones and the penalty on cells; ``stopped`` areas whose limit
    was reached; ``shared_before``, ``shared_after``: the sum of squares of shared totals' errors, 0
    without any.
    """

    record: np.ndarray
    exchanges: np.ndarray
    before: np.ndarray
    after: np.ndarray
    stopped: int
    shared_before: float = 0.0
    shared_after: float = 0.0


def exchange(
    place_offsets: np.ndarray,
    record: np.ndarray,
    weight: np.ndarray,
    fixed: np.ndarray,
    candidate_offsets: np.ndarray,
    candidate: np.ndarray,
    rows: np.ndarray,
    goals: np.ndarray,
    scales: np.ndarray,
    cell: np.ndarray,
    settings: ExchangeSettings,
    shared: Shared | None = None,
) -> ExchangeResult:
    """Exchange drawn records for candidates, area by area.

    Parameters
    ----------
    place_offsets : (areas + 1,) int64: places of area t are place_offsets[t] to place_offsets[t +
        1].
    record : (k,) int64 record in each place, each once an area.
    weight : (k,) float64 > 0 weight of each place.
    fixed : (k,) bool: places that keep their record.
    candidate_offsets, candidate : (areas + 1,) and (m,) int64: the records that may come in,
        ascending within an area. Records already in a place need not be among them.
    rows : (records, variables) float64 x.
    goals : (areas, variables) float64 T.
    scales : (areas, variables) float64 > 0 s; inf leaves a variable out.
    cell : (records,) int64 >= 0.
    shared : totals above the areas that count too.

    Raises
    ------
    ProblemError : shapes disagree, or a weight, goal or scale is not usable.
    """
    areas = place_offsets.size - 1
    _check(
        areas, place_offsets, record, weight, fixed, candidate_offsets, rows, goals, scales, cell
    )
    inverse = np.where(np.isfinite(scales), 1.0 / scales, 0.0)
    wanted = np.where(inverse > 0, goals, 0.0) * inverse
    new = record.astype(np.int64, copy=True)
    made, before, after = np.zeros(areas, dtype=np.int64), np.zeros(areas), np.zeros(areas)
    full = np.zeros(areas, dtype=np.bool_)
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    within = math.isinf(settings.cell_penalty)
    penalty = 0.0 if within else settings.cell_penalty**2
    kinds = int(cell.max(initial=0)) + 1
    shared_rows = (
        np.zeros((rows.shape[0], 0))
        if shared is None
        else np.ascontiguousarray(shared.rows, dtype=np.float64)
    )
    slot = (
        np.zeros((areas, 0), dtype=np.int64)
        if shared is None
        else np.ascontiguousarray(shared.slot, dtype=np.int64)
    )
    over = np.zeros(0) if shared is None else 1.0 / shared.scales
    error = (
        np.zeros(0)
        if shared is None
        else map_blocks(
            lambda totals: _shared_errors(totals, place_offsets, record, weight), [shared]
        )[0]
    )
    first_shared = float(error @ error)
    original = new.copy()
    arguments = (
        place_offsets,
        original,
        new,
        weight,
        fixed,
        candidate_offsets,
        candidate,
        rows,
        wanted,
        inverse,
        shared_rows,
        slot,
        over,
        error,
    )
    options = (cell, kinds, within, penalty, settings.limit)
    threads = settings.threads if shared is None else 1

    def part(first: int, mine: np.ndarray) -> None:
        _exchange_areas(first, areas, threads, *arguments, *options, mine, before, after, full)

    if threads > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(lambda first: part(first, made), range(threads)))
    else:
        start = before
        for sweep in range(1 if shared is None else _SWEEPS):
            mine = np.zeros(areas, dtype=np.int64)
            part(0, mine)
            start = before.copy() if sweep == 0 else start
            made += mine
            if not mine.any():
                break
        before = start
    return ExchangeResult(
        new, made, before, after, int(full.sum()), first_shared, float(error @ error)
    )


def _shared_errors(
    shared: Shared, place_offsets: np.ndarray, record: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """(totals,) errors in scales."""
    totals = np.zeros(shared.goals.size)
    for t in range(place_offsets.size - 1):
        here = slice(place_offsets[t], place_offsets[t + 1])
        has = shared.slot[t] >= 0
        np.add.at(totals, shared.slot[t][has], weight[here] @ shared.rows[record[here]][:, has])
    return (totals - shared.goals) / shared.scales


def _check(
    areas, place_offsets, record, weight, fixed, candidate_offsets, rows, goals, scales, cell
) -> None:
    places = int(place_offsets[-1])
    if (
        record.shape != (places,)
        or weight.shape != (places,)
        or fixed.shape != (places,)
        or candidate_offsets.shape != (areas + 1,)
    ):
        raise ProblemError(
            f"{record.shape} records, {weight.shape} weights, {fixed.shape} fixed,"
            f" {candidate_offsets.shape} candidate offsets",
            expected=f"({places},) for the first three and ({areas + 1},) for the last",
        )
    if (
        goals.shape != (areas, rows.shape[1])
        or scales.shape != goals.shape
        or cell.shape != (rows.shape[0],)
    ):
        raise ProblemError(
            f"goals {goals.shape}, scales {scales.shape}, cell {cell.shape}",
            expected=f"({areas}, {rows.shape[1]}) for the first two, ({rows.shape[0]},) for cell",
        )
    if places and not (np.isfinite(weight).all() and (weight > 0).all()):
        raise ProblemError(
            "The weight of a place is not positive and finite", expected="positive, finite weights"
        )
    if (
        np.isnan(scales).any()
        or (scales <= 0).any()
        or not np.isfinite(goals[np.isfinite(scales)]).all()
    ):
        raise ProblemError(
            "A scale is not positive, or a goal in use is not finite",
            expected="positive scales (inf to leave a variable out) and finite goals",
        )


@numba.njit(cache=True, nogil=True)
def _exchange_areas(
    first,
    areas,
    step,
    place_offsets,
    original,
    record,
    weight,
    fixed,
    candidate_offsets,
    candidate,
    rows,
    wanted,
    inverse,
    shared_rows,
    slot,
    over,
    shared,
    cell,
    kinds,
    within,
    penalty,
    limit,
    made,
    before,
    after,
    full,
):
    """Areas first, first + step, ... one after another; ``record``, ``shared`` (errors of shared
    totals) and the last four are written to.
    """
    moved = np.zeros(kinds)
    for t in range(first, areas, step):
        a0, a1 = place_offsets[t], place_offsets[t + 1]
        c0, c1 = candidate_offsets[t], candidate_offsets[t + 1]
        places, count = a1 - a0, c1 - c0
        if places == 0:
            continue
        # Variables that count here: the area's own, then shared ones. Rows are by variable: sums
        # over variables then run along candidates.
        used, common = np.flatnonzero(inverse[t] > 0.0), np.flatnonzero(slot[t] >= 0)
        own_count, live = used.size, used.size + common.size
        x, y = np.empty((live, count)), np.empty((places, live))
        for i in range(count):
            _fill(
                x[:, i],
                candidate[c0 + i],
                rows,
                used,
                inverse[t],
                shared_rows,
                common,
                slot[t],
                over,
            )
        for a in range(places):
            _fill(y[a], record[a0 + a], rows, used, inverse[t], shared_rows, common, slot[t], over)
        error = np.empty(live)
        for v in range(live):
            if v < own_count:
                total = -wanted[t, used[v]]
                for a in range(places):
                    total += weight[a0 + a] * y[a, v]
                error[v] = total
            else:
                error[v] = shared[slot[t, common[v - own_count]]]
        before[t] = _squares(error[:own_count])
        squares = _squares(error)
        norm, along = np.zeros(count), np.zeros(count)
        for v in range(live):
            e = error[v]
            for i in range(count):
                norm[i] += x[v, i] * x[v, i]
                along[i] += x[v, i] * e
        # For each place: its record's product with every candidate, with the error, with itself.
        cross, own, lean = np.zeros((places, count)), np.zeros(places), np.zeros(places)
        inside = np.zeros(count, dtype=np.bool_)
        for a in range(places):
            _products(y[a], x, cross[a])
            own[a], lean[a] = _squares(y[a]), _dot(y[a], error)
            for i in range(count):
                if candidate[c0 + i] == record[a0 + a]:
                    inside[i] = True
        # Counts of cells against those before the first exchange, in whatever sweep.
        moved[:] = 0.0
        for a in range(a0, a1):
            moved[cell[record[a]]] += 1.0
            moved[cell[original[a]]] -= 1.0
        most, done = int(limit * places), 0
        while done < most:
            best, best_place, best_in = -_LEAST_GAIN * max(squares, 1e-12), -1, -1
            for a in range(places):
                if fixed[a0 + a]:
                    continue
                g = weight[a0 + a]
                here = cell[record[a0 + a]]
                constant = g * g * own[a] - 2.0 * g * lean[a]
                for i in range(count):
                    if inside[i]:
                        continue
                    there = cell[candidate[c0 + i]]
                    change = constant + 2.0 * g * along[i] + g * g * (norm[i] - 2.0 * cross[a, i])
                    if there != here:
                        if within:
                            continue
                        change += 2.0 * penalty * (moved[there] - moved[here] + 1.0)
                    if change < best:
                        best, best_place, best_in = change, a, i
            if best_place < 0:
                break
            a, i = best_place, best_in
            g, leaving, coming = weight[a0 + a], record[a0 + a], candidate[c0 + i]
            moved[cell[leaving]] -= 1.0
            moved[cell[coming]] += 1.0
            for j in range(count):
                if candidate[c0 + j] == leaving:
                    inside[j] = False
                # The products with the error follow from those with the two records.
                along[j] -= g * cross[a, j]
            inside[i] = True
            for v in range(live):
                error[v] += g * (x[v, i] - y[a, v])
                y[a, v] = x[v, i]
            record[a0 + a] = coming
            _products(y[a], x, cross[a])
            own[a] = _squares(y[a])
            for j in range(count):
                along[j] += g * cross[a, j]
            for b in range(places):
                lean[b] = _dot(y[b], error)
            squares = _squares(error)
            done += 1
        made[t] += done
        after[t] = _squares(error[:own_count])
        for v in range(own_count, live):
            shared[slot[t, common[v - own_count]]] = error[v]
        full[t] = done == most and limit > 0.0


@numba.njit(cache=True, nogil=True)
def _fill(out, entering, rows, used, inverse, shared_rows, common, slot, over):
    """A record's contributions in scales, the area's own variables first."""
    for v in range(used.size):
        out[v] = rows[entering, used[v]] * inverse[used[v]]
    for v in range(common.size):
        out[used.size + v] = shared_rows[entering, common[v]] * over[slot[common[v]]]


@numba.njit(cache=True, nogil=True)
def _products(row, x, out):
    """Products of a record's row with those of every candidate; variables it does not touch cost
    nothing.
    """
    out[:] = 0.0
    for v in range(row.size):
        value = row[v]
        if value != 0.0:
            for i in range(out.size):
                out[i] += value * x[v, i]


@numba.njit(cache=True, nogil=True)
def _dot(a, b):
    total = 0.0
    for v in range(a.size):
        total += a[v] * b[v]
    return total


@numba.njit(cache=True, nogil=True)
def _squares(a):
    return _dot(a, a)
