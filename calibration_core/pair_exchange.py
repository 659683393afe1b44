"""Better pairs for the same k: exchanges within each area that bring weighted totals nearer to what they should be.

A draw with given inclusion probabilities leaves each area with a sampling error that no refit of sixty weights removes. Here a drawn
pair gives its place, and its weight, to a candidate of the same area while that lowers

    sum_v ((sum_a g_a x_{r(a) v} - T_v) / s_v)^2  +  kappa^2 sum_c (n_c - m_c)^2

over the places a of the area: g_a is the weight of the place, r(a) the record in it, T_v the goal and s_v its scale, n_c the number of
drawn pairs of cell c and m_c what it was before the first exchange. The best exchange of all is made first (steepest descent over all
pairs of a place and a candidate); it ends when none helps. kappa = inf exchanges within cells only. k, the weights of the places, and so
the area's total weight, never change; a fixed place (a certainty unit) keeps its record.

Candidates are themselves a sample drawn with probability proportional to dense weight (``sampling/candidates.py``), so that a record the
dense solution thinks unlikely is unlikely to come in, and the work is linear in k. For a place a, g_a and g_b x_b cost nothing new:
sums over variables are taken once for each record that is in, and once for each that comes in.

References: exchange algorithms for balanced samples go back to Yates, Philosophical Transactions A 241 (1948) 345-371 (rejective balancing)
and, for designs, Fedorov, Theory of Optimal Experiments (1972); Williamson, Birkin and Rees, Environment and Planning A 30 (1998)
785-816 exchange households against small-area tables.

Areas are independent of each other, and each is worked on by one thread in a fixed order, so that results do not depend on how many there are.

Belongs here: the exchanges. Does not belong here: the first draw (``sampling/``), how goals are made (``selection.py``), refitting.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numba
import numpy as np

from calibration_core.errors import ProblemError, SettingsError

# An exchange must lower the sum of squares by this share of it, so that rounding cannot keep two records swapping for ever.
_LEAST_GAIN = 1e-9


@dataclass(frozen=True)
class ExchangeSettings:
    """Attributes: ``limit`` most exchanges for each place of an area (a stop that is never reached in practice);
    ``cell_penalty`` kappa: cost, in squared scales, of a cell's count moving by one; inf exchanges within cells only; ``threads``."""

    limit: float = 8.0
    cell_penalty: float = 0.0
    threads: int = 1

    def __post_init__(self) -> None:
        for name, bad in (("limit", not self.limit >= 0), ("cell_penalty", not self.cell_penalty >= 0), ("threads", self.threads < 1)):
            if bad:
                raise SettingsError(
                    f"The {name} of the exchanges is {getattr(self, name)}", expected="a number of at least " + ("1" if name == "threads" else "0")
                )


@dataclass(frozen=True, eq=False)
class ExchangeResult:
    """Attributes: ``record`` (k,) int64 record in each place; ``exchanges`` (areas,) int64 how many were made; ``before``, ``after`` (areas,)
    float64 sum of squares of the totals' errors in scales, without the penalty on cells; ``stopped`` areas whose limit was reached."""

    record: np.ndarray
    exchanges: np.ndarray
    before: np.ndarray
    after: np.ndarray
    stopped: int


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
) -> ExchangeResult:
    """Exchange drawn records for candidates, area by area.

    Parameters
    ----------
    place_offsets : (areas + 1,) int64: places of area t are place_offsets[t] to place_offsets[t + 1].
    record : (k,) int64 record in each place, each once an area.
    weight : (k,) float64 > 0 weight of each place.
    fixed : (k,) bool: places that keep their record.
    candidate_offsets, candidate : (areas + 1,) and (m,) int64: the records that may come in, ascending within an area. Records already in
        a place need not be among them.
    rows : (records, variables) float64 x.
    goals : (areas, variables) float64 T.
    scales : (areas, variables) float64 > 0 s; inf leaves a variable out.
    cell : (records,) int64 >= 0.

    Raises
    ------
    ProblemError : shapes disagree, or a weight, goal or scale is not usable.
    """
    areas = place_offsets.size - 1
    _check(areas, place_offsets, record, weight, fixed, candidate_offsets, rows, goals, scales, cell)
    inverse = np.where(np.isfinite(scales), 1.0 / scales, 0.0)
    wanted = np.where(inverse > 0, goals, 0.0) * inverse
    new = record.astype(np.int64, copy=True)
    made, before, after = np.zeros(areas, dtype=np.int64), np.zeros(areas), np.zeros(areas)
    full = np.zeros(areas, dtype=np.bool_)
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    within = math.isinf(settings.cell_penalty)
    penalty = 0.0 if within else settings.cell_penalty**2
    kinds = int(cell.max(initial=0)) + 1
    arguments = (place_offsets, new, weight, fixed, candidate_offsets, candidate, rows, wanted, inverse, cell, kinds, within, penalty, settings.limit)

    def part(first: int) -> None:
        _exchange_areas(first, areas, settings.threads, *arguments, made, before, after, full)

    if settings.threads == 1:
        part(0)
    else:
        with ThreadPoolExecutor(settings.threads) as pool:
            list(pool.map(part, range(settings.threads)))
    return ExchangeResult(new, made, before, after, int(full.sum()))


def _check(areas, place_offsets, record, weight, fixed, candidate_offsets, rows, goals, scales, cell) -> None:
    places = int(place_offsets[-1])
    if record.shape != (places,) or weight.shape != (places,) or fixed.shape != (places,) or candidate_offsets.shape != (areas + 1,):
        raise ProblemError(
            f"{record.shape} records, {weight.shape} weights, {fixed.shape} fixed, {candidate_offsets.shape} candidate offsets",
            expected=f"({places},) for the first three and ({areas + 1},) for the last",
        )
    if goals.shape != (areas, rows.shape[1]) or scales.shape != goals.shape or cell.shape != (rows.shape[0],):
        raise ProblemError(
            f"goals {goals.shape}, scales {scales.shape}, cell {cell.shape}",
            expected=f"({areas}, {rows.shape[1]}) for the first two, ({rows.shape[0]},) for cell",
        )
    if places and not (np.isfinite(weight).all() and (weight > 0).all()):
        raise ProblemError("The weight of a place is not positive and finite", expected="positive, finite weights")
    if np.isnan(scales).any() or (scales <= 0).any() or not np.isfinite(goals[np.isfinite(scales)]).all():
        raise ProblemError("A scale is not positive, or a goal in use is not finite", expected="positive scales (inf to leave a variable out) and finite goals")


@numba.njit(cache=True, nogil=True)
def _exchange_areas(
    first, areas, step, place_offsets, record, weight, fixed, candidate_offsets, candidate, rows, wanted, inverse, cell, kinds, within, penalty, limit, made, before, after, full
):  # fmt: skip
    """Areas first, first + step, ... one after another; ``record`` and the last four are written to."""
    moved = np.zeros(kinds)
    for t in range(first, areas, step):
        a0, a1 = place_offsets[t], place_offsets[t + 1]
        c0, c1 = candidate_offsets[t], candidate_offsets[t + 1]
        places, count = a1 - a0, c1 - c0
        if places == 0:
            continue
        # Variables that count here, and their rows by variable: sums over variables then run along candidates.
        used = np.flatnonzero(inverse[t] > 0.0)
        live = used.size
        x = np.empty((live, count))
        error = np.empty(live)
        for v in range(live):
            scale = inverse[t, used[v]]
            for i in range(count):
                x[v, i] = rows[candidate[c0 + i], used[v]] * scale
            total = -wanted[t, used[v]]
            for a in range(a0, a1):
                total += weight[a] * rows[record[a], used[v]] * scale
            error[v] = total
        norm = np.zeros(count)
        along = np.zeros(count)
        for v in range(live):
            e = error[v]
            for i in range(count):
                norm[i] += x[v, i] * x[v, i]
                along[i] += x[v, i] * e
        squares = 0.0
        for v in range(live):
            squares += error[v] * error[v]
        before[t] = squares
        # For each place: its record's product with every candidate, with the error, with itself.
        cross = np.zeros((places, count))
        own = np.zeros(places)
        lean = np.zeros(places)
        inside = np.zeros(count, dtype=np.bool_)
        for a in range(places):
            _place(a, record[a0 + a], rows, used, inverse[t], x, error, cross, own, lean)
            for i in range(count):
                if candidate[c0 + i] == record[a0 + a]:
                    inside[i] = True
        moved[:] = 0.0
        most = int(limit * places)
        done = 0
        while done < most:
            floor = -_LEAST_GAIN * max(squares, 1e-12)
            best, best_place, best_in = floor, -1, -1
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
            inside[i] = True
            # The products with the error follow from those with the two records.
            for j in range(count):
                along[j] -= g * cross[a, j]
            for v in range(live):
                error[v] += g * (rows[coming, used[v]] - rows[leaving, used[v]]) * inverse[t, used[v]]
            record[a0 + a] = coming
            _place(a, coming, rows, used, inverse[t], x, error, cross, own, lean)
            for j in range(count):
                along[j] += g * cross[a, j]
            for b in range(places):
                total = 0.0
                for v in range(live):
                    total += rows[record[a0 + b], used[v]] * inverse[t, used[v]] * error[v]
                lean[b] = total
            squares = 0.0
            for v in range(live):
                squares += error[v] * error[v]
            done += 1
        made[t] = done
        after[t] = squares
        full[t] = done == most and most > 0


@numba.njit(cache=True, nogil=True)
def _place(a, entering, rows, used, inverse, x, error, cross, own, lean):
    """Products of the record in place ``a`` with every candidate (cross), with itself (own) and with the error (lean)."""
    count = x.shape[1]
    for i in range(count):
        cross[a, i] = 0.0
    itself, product = 0.0, 0.0
    for v in range(used.size):
        value = rows[entering, used[v]] * inverse[used[v]]
        itself += value * value
        product += value * error[v]
        if value != 0.0:
            for i in range(count):
                cross[a, i] += value * x[v, i]
    own[a], lean[a] = itself, product
