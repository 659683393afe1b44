"""The first phase: a few candidates per area out of a whole pool of records, and the container that
the draws work on.

Drawing 60 of 5,000 records in each of 85,000 areas is 400 million implied pairs. One pass over the
dense weights takes ``times`` x k candidates per area by systematic sampling, with probability
proportional to weight, at most one (p1). Draws of exactly k then work on the candidates with
probabilities p2 = pi / p1 (two-phase sampling: Sarndal, Swensson and Wretman, Model Assisted Survey
Sampling, 1992, chapter 9). A unit with p1 < 1 has p2 = (k - S) / (m - c), the same for all, where c
units are candidates for sure and S is the sum of their pi: so p2 sums to exactly k over every
possible sample of candidates, and the overall inclusion probability is exactly pi = p1 p2.

Belongs here: that phase, the container. Does not belong here: how k of the candidates are drawn
(``cube.py``, ``systematic.py``, ``sampford.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calibration_core.common.area_weights import AreaWeights, Block, weights_of
from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.sampling.loops import first_phase_of

_STREAM = 1


@dataclass(frozen=True, eq=False)
class AreaCandidates:
    """Candidates of each area, and what a drawn one stands for.

    Attributes
    ----------
    offsets : (areas + 1,) int64: candidates of area t are offsets[t] to offsets[t + 1].
    record : (m,) int64, ascending within an area.
    probability : (m,) float64 in (0, 1]: of being drawn, given the candidates; sums to
        ``pairs_per_area`` in each area; one is a certainty.
    weight : (m,) float64: Horvitz-Thompson weight of a drawn unit, dense weight / overall inclusion
        probability.
    first_phase_probability : (m,) float64 in (0, 1]: of being a candidate. Its product with
        ``probability`` is the overall one.
    pairs_per_area : (areas,) int64 units to draw.
    area : (areas,) int64 number of each area: random numbers come from (seed, number), so that an
        area drawn alone comes out the same.
    """

    offsets: np.ndarray
    record: np.ndarray
    probability: np.ndarray
    weight: np.ndarray
    first_phase_probability: np.ndarray
    pairs_per_area: np.ndarray
    area: np.ndarray

    def __post_init__(self) -> None:
        m, areas = self.record.size, self.offsets.size - 1
        for name in ("probability", "weight", "first_phase_probability"):
            if getattr(self, name).shape != (m,):
                raise ProblemError(
                    f"{name} of candidates is {getattr(self, name).shape}", expected=f"({m},)"
                )
        if (
            self.pairs_per_area.shape != (areas,)
            or self.area.shape != (areas,)
            or int(self.offsets[-1]) != m
        ):
            raise ProblemError(
                f"pairs_per_area {self.pairs_per_area.shape}, area {self.area.shape}, last offset"
                f" {int(self.offsets[-1])}",
                expected=f"({areas},) twice, and {m}",
            )
        if m and not (self.probability.min() > 0 and self.probability.max() <= 1):
            raise ProblemError(
                "A candidate's probability is not in (0, 1]",
                expected="units that cannot be drawn left out",
            )
        wrong = np.flatnonzero(
            np.abs(self.sums(self.probability) - self.pairs_per_area)
            > 1e-6 * np.maximum(1, self.pairs_per_area)
        )
        if wrong.size:
            t = int(wrong[0])
            raise ProblemError(
                f"The probabilities of {wrong.size} areas do not sum to the units to draw",
                where=(
                    f"area {int(self.area[t])}: {self.sums(self.probability)[t]:.6f} for"
                    f" {int(self.pairs_per_area[t])}"
                ),
                expected="equal",
            )

    @property
    def areas(self) -> int:
        return self.offsets.size - 1

    @property
    def place(self) -> np.ndarray:
        """(m,) int64: which of the areas each candidate is of, counted from 0."""
        return np.repeat(np.arange(self.areas), np.diff(self.offsets))

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(areas,) float64: sums of (m,) values over each area's candidates."""
        return np.bincount(self.place, np.asarray(values, np.float64), minlength=self.areas)

    def drawn_with(self, probability: np.ndarray) -> AreaCandidates:
        """The candidates of positive ``probability`` (m,), to be drawn with it."""
        keep = probability > 0
        size = np.bincount(self.place[keep], minlength=self.areas)
        offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        return AreaCandidates(
            offsets=offsets,
            record=self.record[keep],
            probability=probability[keep],
            weight=self.weight[keep],
            first_phase_probability=self.first_phase_probability[keep],
            pairs_per_area=self.pairs_per_area,
            area=self.area,
        )

    def find(self, place: np.ndarray, record: np.ndarray) -> np.ndarray:
        """Where each (place, record) stands among the candidates: both are sorted, so one search
        over combined keys finds all."""
        width = int(self.record.max(initial=0)) + 1
        return np.searchsorted(self.place * width + self.record, place * width + record)

    def check_records(self, records: int) -> None:
        """Raise ProblemError where a candidate is not among that many records."""
        if self.record.size and not (self.record.min() >= 0 and self.record.max() < records):
            raise ProblemError(
                f"Candidates name records up to {int(self.record.max())}",
                expected=f"0 to {records - 1}",
            )


def list_path(cell: np.ndarray, order: np.ndarray) -> np.ndarray:
    """(records,) int64: the records sorted by (cell, order, record)."""
    if cell.ndim != 1 or cell.shape != order.shape:
        raise ProblemError(
            f"cell {cell.shape} and order {order.shape}", expected="(records,) twice"
        )
    return np.lexsort((np.arange(cell.size), order, cell))


def first_phase(
    dense: np.ndarray | AreaWeights,
    pairs_per_area: np.ndarray,
    path: np.ndarray,
    seed: int,
    times: int = 8,
    *,
    area: np.ndarray | None = None,
) -> AreaCandidates:
    """Candidates of each area, drawn along a list of the records.

    An area gets min(times x k, records of positive weight) candidates, all certainty units among
    them; with ``times`` 1 they are themselves a systematic draw of k units, all with probability
    one. A record whose weight is too small beside the others for a probability above zero in double
    precision is not a candidate.

    Parameters
    ----------
    dense : (areas, records) >= 0: weights, a table or AreaWeights; read a block of areas at a time.
    pairs_per_area : (areas,) int64 >= 0: units k to draw in each area.
    path : (records,) int64: the records in the order of the list (``list_path``).
    seed, area : random numbers come from (seed, area[t]); by default areas are numbered from 0.
    times : candidates for each unit to draw, at least 1.

    Raises
    ------
    SettingsError : times below 1.
    ProblemError : shapes disagree, or weights are negative or not finite.
    BudgetError : an area has fewer records of positive weight than units to draw.
    """
    dense = weights_of(dense)
    areas, records = dense.shape
    pairs_per_area = np.asarray(pairs_per_area, dtype=np.int64)
    area = np.arange(areas) if area is None else np.asarray(area, dtype=np.int64)
    if times < 1:
        raise SettingsError(f"times is {times}", expected="at least 1")
    if not (pairs_per_area.shape == area.shape == (areas,) and path.shape == (records,)):
        raise ProblemError(
            f"pairs_per_area {pairs_per_area.shape}, area {area.shape}, path {path.shape} for"
            f" dense weights {dense.shape}",
            expected="one per area, one per record",
        )
    if (pairs_per_area < 0).any():
        raise ProblemError(
            f"pairs_per_area is {int(pairs_per_area.min())} somewhere", expected="0 or more"
        )
    dense.check()
    usable = dense.each(lambda block: np.count_nonzero(block.weight, axis=1))
    _check_usable(usable, pairs_per_area, area)
    place = np.empty(records, dtype=np.int64)
    place[path] = np.arange(records)
    found: list[tuple[np.ndarray, ...]] = [()] * areas

    def draw(block: Block) -> None:
        along = np.argsort(place[block.record])
        for t, weights in zip(block.area, block.weight, strict=True):
            count, key = int(pairs_per_area[t]), (seed, int(area[t]))
            wanted = min(count * times, int(usable[t]))
            found[t] = _phase_of_area(weights[along], count, wanted, block.record[along], key)

    dense.map(draw)
    offsets = np.concatenate([[0], np.cumsum([part[0].size for part in found])]).astype(np.int64)
    record, probability, weight, first = (
        np.concatenate(parts) for parts in zip(*found, strict=True)
    )
    return AreaCandidates(offsets, record, probability, weight, first, pairs_per_area, area)


def _check_usable(usable: np.ndarray, pairs_per_area: np.ndarray, area: np.ndarray) -> None:
    short = np.flatnonzero(usable < pairs_per_area)
    if short.size:
        t = int(short[0])
        raise BudgetError(
            f"{short.size} areas have fewer records of positive weight than are wanted",
            where=f"area {int(area[t])}: {usable[t]} records, {pairs_per_area[t]} wanted",
            expected="at least as many records as asked for",
        )


def _phase_of_area(
    weights: np.ndarray, count: int, wanted: int, path: np.ndarray, key: tuple[int, int]
) -> tuple[np.ndarray, ...]:
    """Records ascending, and their probability, weight and first-phase probability; ``weights`` and
    ``path``, the records they are of, along the list.
    """
    if count == 0:
        return (np.zeros(0, dtype=np.int64), *(np.zeros(0) for _ in range(3)))
    start = np.random.default_rng([*key, _STREAM]).random()
    row = np.array(weights, dtype=np.float64)
    place, *values = first_phase_of(row, count, wanted, start)
    record = path[place]
    ascending = np.argsort(record)
    return (record[ascending], *(value[ascending] for value in values))
