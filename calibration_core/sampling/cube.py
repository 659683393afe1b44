"""Balanced draws of exactly k units by the cube method: of one list of units, and of the candidates
of many areas.

Every unit is drawn with exactly its probability, counts of cells come out within rounding of their
expectation, and Horvitz-Thompson totals of the balancing variables stay near what they are over all
units (Deville and Tille, Biometrika 91 (2004) 893-912). How is in ``flight.py``.

Belongs here: what callers use. Does not belong here: the compiled loops (``flight.py``),
probabilities and weights (``candidates.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from threadpoolctl import threadpool_limits

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.sampling.candidates import Candidates
from calibration_core.sampling.flight import SETTLED, draw_areas, settle_level

_STREAM = 3
# Components held for each unit drawn. On Rhode Island's tracts (60 of 480, 66 variables) totals
# come closer up to about this share, and no more after it.
_HELD = 2 / 3
# Areas whose random numbers are held at a time.
_BLOCK = 1024


def cube(
    probability: np.ndarray,
    rows: np.ndarray,
    levels: Sequence[np.ndarray],
    generator: np.random.Generator,
) -> np.ndarray:
    """(units,) bool: the draw.

    Parameters
    ----------
    probability : (units,) in [0, 1], summing to a whole number k: inclusion probabilities.
    rows : (units, variables) x_i / pi_i, what a drawn unit adds to each balancing variable; the
        first variables are held longest.
    levels : nested labels (units,) int64, finest first; a last level that holds all units together
        is added. Units of a cell come in the order given.
    generator : of the random numbers.
    """
    p = np.clip(np.asarray(probability, dtype=np.float64), 0.0, 1.0)
    total = round(float(p.sum()))
    p[p < SETTLED] = 0.0
    p[p > 1.0 - SETTLED] = 1.0
    rows = np.asarray(rows, dtype=np.float64)
    size = np.abs(rows).max(axis=0, initial=0.0)
    columns = np.ascontiguousarray(rows[:, size > 0] / size[size > 0])
    uniform = generator.random(p.size)
    used = 0
    for level in [*levels, np.zeros(p.size, dtype=np.int64)]:
        open_units = np.flatnonzero((p > 0) & (p < 1))
        _, label = np.unique(np.asarray(level)[open_units], return_inverse=True)
        cell = np.zeros(p.size, dtype=np.int64)
        cell[open_units] = label
        used = settle_level(
            p,
            columns,
            cell,
            int(label.max(initial=-1)) + 1,
            open_units[np.argsort(label, kind="stable")],
            uniform,
            used,
            True,
        )
    drawn = p > 0.5
    _make_exact(drawn, probability, total)
    return drawn


def draw_cube(
    candidates: Candidates,
    rows: np.ndarray,
    scale: np.ndarray | None,
    cell: np.ndarray,
    seed: int,
    threads: int = 1,
    variables: int | None = None,
) -> np.ndarray:
    """(m,) bool: candidates drawn, exactly ``per_area`` in each area, each with exactly its
    probability.

    A drawn unit adds a_i = weight_i x_i / scale to the totals. With more variables than a small
    sample can hold, the r strongest principal components of a_i are held, strongest first, where
    the variance is that left after cells' counts are held, sum_i p_i (1 - p_i) (a_i - mean of the
    cell)^2 (Hajek's approximation; Deville and Tille, Journal of Statistical Planning and Inference
    128 (2005) 569-591).

    Parameters
    ----------
    rows : (records, f) float64 x.
    scale : (areas, f) float64 > 0, the size of an error that counts as one; inf leaves a variable
        out. None: each variable's own standard deviation in the area, so that all count the same.
    cell : (records,) int64, cells whose counts are held within rounding of their expectation.
    seed : the random numbers of an area come from (seed, area number).
    threads : areas are shared out among them; the draw does not depend on how many.
    variables : r, components held at most; by default two thirds of the units drawn that are not
        certain.

    Raises
    ------
    ProblemError : shapes disagree, a scale is not positive, or a row is not finite.
    SettingsError : fewer than one thread, or variables below 0.
    """
    if threads < 1 or (variables is not None and variables < 0):
        raise SettingsError(
            f"threads is {threads}, variables is {variables}",
            expected="at least 1 thread, at least 0 variables",
        )
    rows = np.ascontiguousarray(rows, dtype=np.float64)
    candidates.check_records(rows.shape[0])
    if cell.shape != (rows.shape[0],) or not np.isfinite(rows).all():
        raise ProblemError(
            f"cell is {cell.shape} for rows {rows.shape}, or a row is not finite",
            expected="one cell a record, finite rows",
        )
    if scale is None:
        # Negative: each variable in units of its own standard deviation.
        inverse = np.full((1, rows.shape[1]), -1.0)
    else:
        if scale.shape != (candidates.areas, rows.shape[1]) or not (scale > 0).all():
            raise ProblemError(
                f"scale is {scale.shape}, or not positive",
                expected=f"({candidates.areas}, {rows.shape[1]}), positive, inf to leave one out",
            )
        inverse = 1.0 / scale
    certain = candidates.sums(candidates.probability > 1.0 - SETTLED).astype(np.int64)
    held = (
        np.rint((candidates.per_area - certain) * _HELD).astype(np.int64)
        if variables is None
        else np.full(candidates.areas, variables, dtype=np.int64)
    )
    held = np.maximum(held, 1 if variables is None else 0)
    drawn = np.zeros(candidates.record.size, dtype=np.bool_)
    labels = np.unique(cell, return_inverse=True)[1].astype(np.int64)
    kinds = int(labels.max(initial=-1)) + 1
    offsets = candidates.offsets
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(threads) as pool:
        for first in range(0, candidates.areas, _BLOCK):
            last = min(first + _BLOCK, candidates.areas)
            begin, end = int(offsets[first]), int(offsets[last])
            size = np.diff(offsets[first : last + 1])
            uniform = np.empty((2, end - begin))
            for area, a, b in zip(
                candidates.area[first:last],
                offsets[first:last] - begin,
                offsets[first + 1 : last + 1] - begin,
                strict=True,
            ):
                uniform[:, a:b] = np.random.default_rng([seed, int(area), _STREAM]).random(
                    (2, int(b - a))
                )
            # Units of a cell come in random order, so that no two are tied together by the order of
            # the list.
            sequence = begin + np.lexsort(
                (
                    uniform[0],
                    labels[candidates.record[begin:end]],
                    np.repeat(np.arange(last - first), size),
                )
            )
            shared = (
                offsets,
                candidates.record,
                candidates.probability,
                candidates.weight,
                rows,
                inverse,
                labels,
                kinds,
                held,
                sequence,
                uniform[1],
                drawn,
            )
            list(
                pool.map(
                    lambda number, first=first, last=last, shared=shared: draw_areas(
                        first, last, number, threads, *shared
                    ),
                    range(threads),
                )
            )
    for t in np.flatnonzero(candidates.sums(drawn) != candidates.per_area):
        part = slice(int(offsets[t]), int(offsets[t + 1]))
        _make_exact(drawn[part], candidates.probability[part], int(candidates.per_area[t]))
    return drawn


def _make_exact(drawn: np.ndarray, probability: np.ndarray, total: int) -> None:
    """Rounding of the steps may leave one unit too many or too few: settle it on the least certain
    units.
    """
    surplus = int(drawn.sum()) - total
    if surplus > 0:
        inside = np.flatnonzero(drawn)
        drawn[inside[np.argsort(probability[inside], kind="stable")[:surplus]]] = False
    elif surplus < 0:
        outside = np.flatnonzero(~drawn & (probability > 0))
        drawn[outside[np.argsort(-probability[outside], kind="stable")[:-surplus]]] = True
