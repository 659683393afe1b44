"""Cross-categories of records: which cell a record is in, which cells are neighbours, and the
pooling of thin cells.

A cell is what the user says (``problem.cells``) or else the record's pattern over the 0/1 rows,
margin after margin. Cells are put in lexicographic order of their patterns, so cells that agree in
their first margins stand together; how many margins two cells next to each other agree in is their
affinity. Thin cells (an expected count below a threshold) are joined to the neighbour of highest
affinity first, as one collapses the last categories of a cross table first (Kalton and
Flores-Cervantes, Journal of Official Statistics 19, 2003, 81-97), until no pool is thin. Every pool
is a stretch of the ordered cells.

Belongs here: cells, their order and their pools. Does not belong here: how many records a cell gets
(``flat/select/cell_allocation.py``), draws.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.problem import CalibrationProblem


@dataclass(frozen=True, eq=False)
class RecordCells:
    """The cells of a problem's records.

    Attributes
    ----------
    code : (records,) int64 in 0..count-1: the cell of each record; codes follow the order of the
        cells.
    count : number of cells.
    affinity : (count - 1,) int64: the number of leading margins that cell c and cell c + 1 agree
        in; zeros for cells given by the user.
    source : "given" (problem.cells), "pattern" (over the 0/1 rows), or "none" (no 0/1 row: all
        records are one cell).
    """

    code: np.ndarray
    count: int
    affinity: np.ndarray
    source: str


def categorical_rows(matrix: DesignMatrix) -> np.ndarray:
    """(targets,) bool: rows of zeros and ones, in any unit, that some record counts in."""
    return matrix.indicators & (matrix.support > 0)


def record_cells(problem: CalibrationProblem) -> RecordCells:
    """The cell of every record: as given, or by pattern over the 0/1 rows."""
    n = problem.matrix.records
    if problem.cells is not None:
        labels, code = np.unique(problem.cells, return_inverse=True)
        return RecordCells(
            code.astype(np.int64).ravel(),
            labels.size,
            np.zeros(max(labels.size - 1, 0), dtype=np.int64),
            "given",
        )
    rows = np.flatnonzero(categorical_rows(problem.matrix))
    if rows.size == 0:
        return RecordCells(np.zeros(n, dtype=np.int64), 1, np.zeros(0, dtype=np.int64), "none")
    # Margins in the order of their first row; the rows of a margin together.
    first: dict[str, int] = {}
    margin = np.array([first.setdefault(problem.groups[j], len(first)) for j in rows])
    by_margin = np.argsort(margin, kind="stable")
    rows, margin = rows[by_margin], margin[by_margin]
    packed = np.empty((n, (rows.size + 7) // 8), dtype=np.uint8)
    for begin, block in problem.matrix.blocks():
        # Bits inverted, so that the first category of a margin sorts first.
        packed[begin : begin + block.shape[0]] = np.packbits(block[:, rows] == 0, axis=1)
    patterns, code = np.unique(packed, axis=0, return_inverse=True)
    differ = np.unpackbits(patterns[1:] ^ patterns[:-1], axis=1)[:, : rows.size]
    return RecordCells(
        code.astype(np.int64).ravel(),
        patterns.shape[0],
        margin[differ.argmax(axis=1)].astype(np.int64),
        "pattern",
    )


def pool_thin(cells: RecordCells, share: np.ndarray, least: float) -> np.ndarray:
    """(count,) int64 pool of each cell, 0.. in the order of the cells: neighbours joined until no
    pool's share is under ``least``.

    Parameters
    ----------
    cells : the ordered cells.
    share : (count,) expected number of records of each cell.
    least : smallest expected number of a pool; 0 leaves every cell alone. If all cells together
        have less, they are one pool.

    Pairs of neighbours are visited by falling affinity, pairs of equal affinity by rising joint
    share; a pair is joined where one of the two pools is thin.
    """
    count = cells.count
    parent, total = np.arange(count), share.astype(np.float64).copy()
    # A share that is a whole number but for rounding is not thin.
    least = least - 1e-9

    def root(c: int) -> int:
        while parent[c] != c:
            parent[c] = parent[parent[c]]
            c = parent[c]
        return c

    # A pool left thin by one sweep had thick neighbours only at pairs already passed: a second
    # sweep settles it.
    while least > 0 and count > 1:
        order = np.lexsort((share[1:] + share[:-1], -cells.affinity))
        joined = False
        for pair in order:
            a, b = root(int(pair)), root(int(pair) + 1)
            if a != b and min(total[a], total[b]) < least:
                parent[b] = a
                total[a] += total[b]
                joined = True
        if not joined:
            break
    roots = np.array([root(c) for c in range(count)])
    return np.unique(roots, return_inverse=True)[1].astype(np.int64).ravel()


def nearest_filled(filled: np.ndarray, affinity: np.ndarray) -> np.ndarray:
    """For every stretch of cells, the nearest one that is ``filled``: the side whose least affinity
    on the way is higher, else the closer.

    Parameters
    ----------
    filled : (stretches,) bool, at least one True.
    affinity : (stretches - 1,) of each to the next.
    """
    n = filled.size
    answer = np.arange(n)
    left, left_affinity = np.full(n, -1), np.full(n, -1)
    right, right_affinity = np.full(n, -1), np.full(n, -1)
    for c in range(1, n):
        left[c], left_affinity[c] = (
            (c - 1, affinity[c - 1])
            if filled[c - 1]
            else (left[c - 1], min(left_affinity[c - 1], affinity[c - 1]))
        )
    for c in range(n - 2, -1, -1):
        right[c], right_affinity[c] = (
            (c + 1, affinity[c])
            if filled[c + 1]
            else (right[c + 1], min(right_affinity[c + 1], affinity[c]))
        )
    for c in np.flatnonzero(~filled).tolist():
        go_left = right[c] < 0 or (
            left[c] >= 0 and (left_affinity[c], left[c] - c) >= (right_affinity[c], c - right[c])
        )
        answer[c] = left[c] if go_left else right[c]
    return answer
