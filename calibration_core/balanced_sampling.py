"""Balanced draws of exactly k units: the cube method, with counts of nested cells held within rounding.

The flight phase moves a vector of probabilities pi at random along directions u with X'u = 0, up and down with such chances that its
mean stays, until coordinates reach 0 or 1 and are settled: so the Horvitz-Thompson totals sum_i s_i x_i / pi_i of the balancing
variables stay what they are for the whole population while any direction is left (Deville and Tille, Biometrika 91 (2004) 893-912).
Units are taken in blocks, as in the fast algorithm of Chauvet and Tille (Computational Statistics 21 (2006) 53-62), with the counts
of the cells at hand among the constraints (stratified balancing: Chauvet, Survey Methodology 35 (2009) 115-119). When directions run
out, balancing variables are given up from the last one, the cells never; then the leftover units, at most one a cell, go through the
same at the next coarser level. The result: the inclusion probability of every unit is exactly pi_i, every cell of every level gets its
expected count rounded down or up, and where the probabilities sum to k exactly k are drawn.

A direction is the projection of one Gaussian vector on the null space, so it does not depend on the basis a linear algebra library
happens to return.

Belongs here: the cube method. Does not belong here: cells, probabilities, weights.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import linalg

# Probabilities this close to 0 or 1 are settled: rounding of the steps, far below any probability that matters.
_SETTLED = 1e-9
# Directions of a block beyond the constraints: as many as constraints make the factorisation cheapest per unit settled.
_LEAST_DIRECTIONS = 24
# Share of the balancing variables kept in each round after directions have run out.
_KEEP = 0.7


def cube(probability: np.ndarray, rows: np.ndarray, levels: Sequence[np.ndarray], generator: np.random.Generator) -> np.ndarray:
    """(units,) bool: the draw.

    Parameters
    ----------
    probability : (units,) in [0, 1], summing to a whole number k: inclusion probabilities.
    rows : (units, variables) x_i / pi_i, what a drawn unit adds to each balancing variable; the first variables are held longest.
    levels : nested labels (units,) int64, finest first; a last level that holds all units together is added.
    generator : of the random numbers.
    """
    pi = np.clip(np.asarray(probability, dtype=np.float64).copy(), 0.0, 1.0)
    total = round(float(pi.sum()))
    pi[pi < _SETTLED] = 0.0
    pi[pi > 1.0 - _SETTLED] = 1.0
    scale = np.abs(rows).max(axis=0, initial=0.0)
    rows = rows[:, scale > 0] / scale[scale > 0]
    for level in [*levels, np.zeros(pi.size, dtype=np.int64)]:
        _settle_level(pi, rows, np.asarray(level), generator)
    drawn = pi > 0.5
    _make_exact(drawn, probability, total)
    return drawn


def _settle_level(pi: np.ndarray, rows: np.ndarray, cell: np.ndarray, generator: np.random.Generator) -> None:
    """Settle units in place until no cell of the level has more than one that is not."""
    variables = rows.shape[1]
    open_units = _movable(np.flatnonzero((pi > 0) & (pi < 1)), cell)
    queue = open_units[np.argsort(cell[open_units], kind="stable")]
    held = np.empty(0, dtype=np.int64)
    taken = 0
    while taken < queue.size:
        # Enough units that, after one constraint a cell, there are twice as many unknowns as balancing variables.
        want = 2 * variables + _LEAST_DIRECTIONS
        fresh = cell[queue[taken:]]
        gain = np.cumsum(np.concatenate([[0], fresh[1:] == fresh[:-1]]))
        have = held.size - np.unique(cell[held]).size
        step = int(np.searchsorted(gain, want - have, side="left")) + 1
        block = np.concatenate([held, queue[taken : taken + step]])
        taken += step
        _flight(pi, block, rows[block], cell[block], generator)
        held = block[(pi[block] > 0) & (pi[block] < 1)]
    keep = variables
    held = _movable(held, cell)
    while held.size:
        keep = int(keep * _KEEP)
        _flight(pi, held, rows[held, :keep], cell[held], generator)
        held = _movable(held[(pi[held] > 0) & (pi[held] < 1)], cell)


def _movable(units: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """Those units whose cell has another of them: a lone one cannot move while the cell's count stands."""
    _, inverse, count = np.unique(cell[units], return_inverse=True, return_counts=True)
    return units[count[inverse] > 1]


def _flight(pi: np.ndarray, units: np.ndarray, rows: np.ndarray, cell: np.ndarray, generator: np.random.Generator) -> None:
    """Move pi of ``units`` along null directions of (cell counts, rows) until there are none."""
    labels, inverse = np.unique(cell, return_inverse=True)
    if units.size <= labels.size:
        return
    counts = np.zeros((units.size, labels.size))
    counts[np.arange(units.size), inverse] = 1.0
    basis = _null_space(np.hstack([counts, rows]))
    gauss = generator.standard_normal(units.size)
    direction = basis @ (basis.T @ gauss)
    p = pi[units]
    while basis.shape[1]:
        size = np.abs(direction).max(initial=0.0)
        if size < 1e-10:
            gauss = generator.standard_normal(units.size)
            direction = basis @ (basis.T @ gauss)
            continue
        step = direction / size
        step[np.abs(step) < 1e-13] = 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            up = np.where(step > 0, (1 - p) / step, np.where(step < 0, -p / step, np.inf)).min()
            down = np.where(step > 0, p / step, np.where(step < 0, (p - 1) / step, np.inf)).min()
        p = p + up * step if generator.random() * (up + down) < down else p - down * step
        now = ((p < _SETTLED) | (p > 1 - _SETTLED)) & (step != 0)
        p[now] = np.round(p[now])
        if not now.any():
            break
        for unit in np.flatnonzero(now):
            basis, gone = _without(basis, unit)
            # The projection on what is left is the old one less its part along the direction that went.
            direction -= gone * float(gone @ gauss)
            direction[unit] = 0.0
    pi[units] = p


def _null_space(matrix: np.ndarray) -> np.ndarray:
    """Orthonormal basis of {u : matrix' u = 0}, (units, directions)."""
    if matrix.shape[1] == 0:
        return np.asfortranarray(np.eye(matrix.shape[0]))
    q, r, _ = linalg.qr(matrix, mode="full", pivoting=True, check_finite=False)
    diagonal = np.abs(np.diagonal(r))
    rank = int((diagonal > 1e-10 * max(diagonal[0], 1e-300)).sum())
    return np.asfortranarray(q[:, rank:])


def _without(basis: np.ndarray, unit: int) -> tuple[np.ndarray, np.ndarray]:
    """Orthonormal basis of the directions that leave ``unit`` alone, and the unit vector that went (zeros if none had to).

    One Householder reflection from the right turns the row of ``unit`` into a multiple of the first axis; the first column then goes.
    The basis is changed in place.
    """
    row = basis[unit].copy()
    norm = float(np.sqrt(row @ row))
    if norm < 1e-10:
        basis[unit] = 0.0
        return basis, np.zeros(basis.shape[0])
    gone = basis @ (row / norm)
    # v = row + sign |row| e_1, so that basis @ v = |row| (gone + sign basis[:, 0]).
    sign = 1.0 if row[0] >= 0 else -1.0
    image = norm * (gone + sign * basis[:, 0])
    row[0] += sign * norm
    scale = 2.0 / float(row @ row)
    rest = basis[:, 1:]
    if rest.shape[1]:
        rest = linalg.blas.dger(-scale, image, row[1:], a=rest, overwrite_a=1)
        rest[unit] = 0.0
    return rest, gone


def _make_exact(drawn: np.ndarray, probability: np.ndarray, total: int) -> None:
    """Rounding of the steps may leave one unit too many or too few: settle it on the least certain units."""
    surplus = int(drawn.sum()) - total
    if surplus > 0:
        inside = np.flatnonzero(drawn)
        drawn[inside[np.argsort(probability[inside], kind="stable")[:surplus]]] = False
    elif surplus < 0:
        outside = np.flatnonzero(~drawn & (probability > 0))
        drawn[outside[np.argsort(-probability[outside], kind="stable")[:-surplus]]] = True
