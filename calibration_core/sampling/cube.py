"""Balanced draws of exactly k units by the cube method: of one list of units, and of the candidates
of many areas.

Every unit is drawn with exactly its probability, counts of cells come out within rounding of their
expectation, and Horvitz-Thompson totals of the balancing variables stay near what they are over all
units (Deville and Tille, Biometrika 91 (2004) 893-912). How is in ``flight.py``.

Belongs here: what callers use. Does not belong here: the compiled loops (``flight.py``,
``components.py``), probabilities and weights (``candidates.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from calibration_core.common.columns import Design, largest_of
from calibration_core.common.lists import Lists
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.sampling.components import components
from calibration_core.sampling.flight import SETTLED, new_flight, settle

_STREAM = 3
# Components held for each unit drawn. After exchanges 80, 60, 40 and 20 of them leave 24.5 % of the
# squares of a draw of 120 of 1,950, and 10 leave 24.7 (Rhode Island's tracts, 424 variables); the
# draw takes 20.6 s of the processor with 80 and 13.8 with 40.
_HELD = 1 / 3
# Components held at most: a flight takes time in proportion to their square for each unit. At 600
# of 9,600 units and 306 variables all of them take ten times as long as 80. Blocks of exchanges
# leave 0.155 scales after 40 and 0.144 after 80 (benchmarks/selection_spread).
_MOST_HELD = 80


@dataclass(frozen=True, eq=False)
class CubeBalance:
    """What a draw of many areas balances.

    Attributes
    ----------
    rows : (records, variables) float64 x.
    scale : (areas, variables) float64 > 0, the size of an error that counts as one; inf leaves a
        variable out. None: each variable's own standard deviation in the area, so that all count
        the same.
    variables : components held at most in an area; None for a third of the units drawn that are not
        certain, and no more than 80.
    """

    rows: Design
    scale: np.ndarray | None = None
    variables: int | None = None


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
    rows = np.asarray(rows, dtype=np.float64)
    size = np.abs(rows).max(axis=0, initial=0.0)
    columns = np.ascontiguousarray(rows[:, size > 0] / size[size > 0])
    return _drawn(probability, columns, levels, generator.random(len(rows)))


def draw_cube(
    candidates: AreaCandidates, balance: CubeBalance, cell: np.ndarray, seed: int, threads: int = 1
) -> np.ndarray:
    """(m,) bool: candidates drawn, exactly ``pairs_per_area`` in each area, each with exactly its
    probability.

    A drawn unit adds a_i = weight_i x_i / scale to the totals. With more variables than a small
    sample can hold, the strongest principal components of a_i are held, strongest first. The
    variance is that left after cells' counts are held, sum_i p_i (1 - p_i) (a_i - mean of the
    cell)^2 (Hajek's approximation; Deville and Tille, Journal of Statistical Planning and Inference
    128 (2005) 569-591).

    Parameters
    ----------
    cell : (records,) int64, cells whose counts are held within rounding of their expectation.
    seed : the random numbers of an area come from (seed, area number).
    threads : areas are shared out among them; the draw does not depend on how many.

    Raises
    ------
    ProblemError : shapes disagree, a scale is not positive, or a row is not finite.
    SettingsError : fewer than one thread, or variables below 0.
    """
    _check(candidates, balance, cell, threads)
    labels = np.unique(cell, return_inverse=True)[1].astype(np.int64).ravel()
    drawn = np.zeros(candidates.record.size, dtype=np.bool_)

    def area(t: int) -> None:
        part = slice(int(candidates.offsets[t]), int(candidates.offsets[t + 1]))
        drawn[part] = _draw_area(candidates, balance, labels, seed, t)

    if threads == 1:
        for t in range(candidates.areas):
            area(t)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(area, range(candidates.areas)))
    return drawn


def _draw_area(
    candidates: AreaCandidates, balance: CubeBalance, labels: np.ndarray, seed: int, t: int
) -> np.ndarray:
    part = slice(int(candidates.offsets[t]), int(candidates.offsets[t + 1]))
    record, p = candidates.record[part], candidates.probability[part]
    generator = np.random.default_rng([seed, int(candidates.area[t]), _STREAM])
    shuffle, uniform = generator.random((2, record.size))
    # Units of a cell come in random order, so that no two are tied together by the order of the
    # list.
    order = np.lexsort((shuffle, labels[record]))
    units = order[p[order] <= 1.0 - SETTLED]
    if not units.size:
        return p > 0.5
    scale = None if balance.scale is None else balance.scale[t]
    used = np.arange(balance.rows.shape[1]) if scale is None else np.flatnonzero(scale < np.inf)
    each = np.ones(used.size) if scale is None else 1.0 / scale[used]
    weight = candidates.weight[part][units]
    added = Lists.of_records(balance.rows, used, record[units], weight, each)
    label, p_open = labels[record[units]], p[units]
    held = balance.variables
    if held is None:
        certain = record.size - units.size
        open_places = int(candidates.pairs_per_area[t]) - certain
        held = min(_MOST_HELD, max(1, round(open_places * _HELD)))
    columns = components(added, used.size, p_open, label, scale is None, held)
    drawn = p > 1.0 - SETTLED
    drawn[units] = _drawn(p_open, columns, [label], uniform)
    return drawn


def _drawn(
    probability: np.ndarray, columns: np.ndarray, levels: Sequence[np.ndarray], uniform: np.ndarray
) -> np.ndarray:
    """(units,) bool: the flight through each level, and last through all units together."""
    p = np.clip(np.asarray(probability, dtype=np.float64), 0.0, 1.0)
    total = round(float(p.sum()))
    p[p < SETTLED] = 0.0
    p[p > 1.0 - SETTLED] = 1.0
    used = 0
    for level in [*levels, np.zeros(p.size, dtype=np.int64)]:
        open_units = np.flatnonzero((p > 0) & (p < 1))
        _, label = np.unique(np.asarray(level)[open_units], return_inverse=True)
        cell = np.zeros(p.size, dtype=np.int64)
        cell[open_units] = label
        queue = open_units[np.argsort(label, kind="stable")]
        used = settle(new_flight(p, columns, cell, uniform, used), queue, True, True)
    drawn = p > 0.5
    _make_exact(drawn, np.asarray(probability), total)
    return drawn


def _check(
    candidates: AreaCandidates, balance: CubeBalance, cell: np.ndarray, threads: int
) -> None:
    if threads < 1 or (balance.variables is not None and balance.variables < 0):
        raise SettingsError(
            f"threads is {threads}, variables is {balance.variables}",
            expected="at least 1 thread, at least 0 variables",
        )
    rows = balance.rows
    candidates.check_records(rows.shape[0])
    if cell.shape != (rows.shape[0],) or not np.isfinite(largest_of(rows)).all():
        raise ProblemError(
            f"cell is {cell.shape} for rows {rows.shape}, or a row is not finite",
            expected="one cell per record, finite rows",
        )
    wanted = (candidates.areas, rows.shape[1])
    scale = balance.scale
    if scale is not None and (scale.shape != wanted or not (scale > 0).all()):
        raise ProblemError(
            f"scale is {scale.shape}, or not positive",
            expected=f"{wanted}, positive, inf to leave one out",
        )


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
