"""Probabilities of candidates made to sum to a whole number in every cell of every area.

The expected count of a cell, the sum of its candidates' probabilities, is rounded down or up
(``rounding.py``), and the probabilities of its candidates are scaled to that count so that over
both roundings they average to what they were. A draw within rounding of every cell then gives
exactly these counts.

Belongs here: that step between the first phase and the draw. Does not belong here: the rounding
(``rounding.py``), the compiled loop (``loops.py``), the draws.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.sampling.loops import scale_cells
from calibration_core.sampling.rounding import round_areas


def round_cells(
    candidates: AreaCandidates, cell: np.ndarray, classes: Sequence[np.ndarray], seed: int
) -> tuple[AreaCandidates, int]:
    """Candidates whose probabilities sum to a whole number in every cell of every area, and how
    many categories of classes the rounding could not keep within one of their expectation.

    Candidates of cells that are rounded to nothing are left out.

    Parameters
    ----------
    cell : (records,) int64 >= 0.
    classes : one (categories, cells) bool for each class of cells, as ``rounding.round_areas``.
    """
    if not classes or not candidates.record.size:
        return candidates, 0
    kinds = int(cell.max(initial=-1)) + 1
    code = candidates.place * kinds + cell[candidates.record]
    shape = candidates.areas, kinds
    expected = np.bincount(code, candidates.probability, shape[0] * kinds).reshape(shape)
    # Sums of probabilities are whole to rounding of the sums; the largest entry takes up the rest.
    largest = expected.argmax(axis=1)
    expected[np.arange(shape[0]), largest] += candidates.pairs_per_area - expected.sum(axis=1)
    rounding = round_areas(np.maximum(expected, 0.0), classes, seed, index=candidates.area)
    counts = rounding.counts.ravel()
    order = np.argsort(code, kind="stable")
    bounds = np.flatnonzero(np.diff(code[order], prepend=-1, append=-1))
    probability = np.zeros(candidates.record.size)
    stretch = counts[code[order[bounds[:-1]]]]
    scale_cells(order, bounds, stretch, candidates.probability, probability)
    return candidates.drawn_with(probability), len(rounding.misses)


def each_cell_an_area(
    candidates: AreaCandidates, cell: np.ndarray
) -> tuple[AreaCandidates, np.ndarray]:
    """Candidates regrouped so that each cell of each area is an area of its own, and (m,) int64
    where each stands among the given ones. Probabilities must sum to a whole number by cell."""
    kinds = int(cell.max(initial=-1)) + 1
    here = cell[candidates.record]
    order = np.argsort(candidates.place * kinds + here, kind="stable")
    code = (candidates.place * kinds + here)[order]
    _, first, size = np.unique(code, return_index=True, return_counts=True)
    offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
    record, probability, weight, being = (
        values[order]
        for values in (
            candidates.record,
            candidates.probability,
            candidates.weight,
            candidates.first_phase_probability,
        )
    )
    counts = np.rint(np.add.reduceat(probability, first)) if first.size else np.zeros(0)
    number = (np.repeat(candidates.area, np.diff(candidates.offsets)) * kinds + here)[order][first]
    made = AreaCandidates(
        offsets, record, probability, weight, being, counts.astype(np.int64), number
    )
    return made, order
