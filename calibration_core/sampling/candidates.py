"""The first phase: a few candidates an area out of a whole pool of records, and the container that
the draws work on.

Drawing 60 of 5,000 records in each of 85,000 areas is 400 million implied pairs. One pass over the
dense weights takes ``times`` x k candidates an area by systematic sampling with probability
proportional to weight, at most one (p1); draws of exactly k then work on the candidates with
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

from calibration_core.errors import BudgetError, ProblemError, SettingsError
from calibration_core.sampling.systematic import list_rank, phase_areas

_STREAM = 1
# Areas whose rows are handled in one call: bounds what a matrix of another dtype or layout needs as
# a copy.
_BLOCK = 256


@dataclass(frozen=True, eq=False)
class Candidates:
    """Candidates of each area, and what a drawn one stands for.

    Attributes
    ----------
    offsets : (areas + 1,) int64: candidates of area t are offsets[t] to offsets[t + 1].
    record : (m,) int64, ascending within an area.
    probability : (m,) float64 in (0, 1]: of being drawn, given the candidates; sums to ``per_area``
        in each area; one is a certainty.
    weight : (m,) float64: Horvitz-Thompson weight of a drawn unit, dense weight / overall inclusion
        probability.
    first_phase_probability : (m,) float64 in (0, 1]: of being a candidate. Its product with
        ``probability`` is the overall one.
    per_area : (areas,) int64 units to draw.
    area : (areas,) int64 number of each area: random numbers come from (seed, number), so that an
        area drawn alone comes out the same.
    """

    offsets: np.ndarray
    record: np.ndarray
    probability: np.ndarray
    weight: np.ndarray
    first_phase_probability: np.ndarray
    per_area: np.ndarray
    area: np.ndarray

    def __post_init__(self) -> None:
        m, areas = self.record.size, self.offsets.size - 1
        for name in ("probability", "weight", "first_phase_probability"):
            if getattr(self, name).shape != (m,):
                raise ProblemError(
                    f"{name} of candidates is {getattr(self, name).shape}", expected=f"({m},)"
                )
        if (
            self.per_area.shape != (areas,)
            or self.area.shape != (areas,)
            or int(self.offsets[-1]) != m
        ):
            raise ProblemError(
                f"per_area {self.per_area.shape}, area {self.area.shape}, last offset"
                f" {int(self.offsets[-1])}",
                expected=f"({areas},) twice, and {m}",
            )
        if m and not (self.probability.min() > 0 and self.probability.max() <= 1):
            raise ProblemError(
                "A candidate's probability is not in (0, 1]",
                expected="units that cannot be drawn left out",
            )
        wrong = np.flatnonzero(
            np.abs(self.sums(self.probability) - self.per_area)
            > 1e-6 * np.maximum(1, self.per_area)
        )
        if wrong.size:
            t = int(wrong[0])
            raise ProblemError(
                f"The probabilities of {wrong.size} areas do not sum to the units to draw",
                where=(
                    f"area {int(self.area[t])}: {self.sums(self.probability)[t]:.6f} for"
                    f" {int(self.per_area[t])}"
                ),
                expected="equal",
            )

    @property
    def areas(self) -> int:
        return self.offsets.size - 1

    def sums(self, values: np.ndarray) -> np.ndarray:
        """(areas,) float64: sums of (m,) values over each area's candidates."""
        return np.bincount(
            np.repeat(np.arange(self.areas), np.diff(self.offsets)),
            np.asarray(values, dtype=np.float64),
            minlength=self.areas,
        )

    def take(self, areas: np.ndarray) -> Candidates:
        """The candidates of some areas, which keep their numbers."""
        areas = np.asarray(areas, dtype=np.int64)
        size = np.diff(self.offsets)[areas]
        offsets = np.concatenate([[0], np.cumsum(size)]).astype(np.int64)
        index = np.arange(offsets[-1]) + np.repeat(self.offsets[areas] - offsets[:-1], size)
        values = (
            getattr(self, name)[index]
            for name in ("record", "probability", "weight", "first_phase_probability")
        )
        return Candidates(offsets, *values, self.per_area[areas], self.area[areas])

    def check_records(self, records: int) -> None:
        """Raise ProblemError where a candidate is not among that many records."""
        if self.record.size and not (self.record.min() >= 0 and self.record.max() < records):
            raise ProblemError(
                f"Candidates name records up to {int(self.record.max())}",
                expected=f"0 to {records - 1}",
            )


def first_phase(
    dense: np.ndarray,
    per_area: np.ndarray,
    cell: np.ndarray,
    order: np.ndarray,
    seed: int,
    times: int = 8,
    *,
    area: np.ndarray | None = None,
) -> Candidates:
    """Candidates of each area, drawn along the list sorted by cell, order and record.

    An area gets min(times x k, records of positive weight) candidates, all certainty units among
    them; with ``times`` 1 they are themselves a systematic draw of k units, all with probability
    one. A record whose weight is too small beside the others for a probability above zero in double
    precision is not a candidate.

    Parameters
    ----------
    dense : (areas, records) >= 0: weights; read a block of areas at a time, never copied whole.
    per_area : (areas,) int64 >= 0: units k to draw in each area.
    cell : (records,) int64; order : (records,) float64: what the list is sorted by.
    seed, area : random numbers come from (seed, area[t]); by default areas are numbered from 0.
    times : candidates for each unit to draw, at least 1.

    Raises
    ------
    SettingsError : times below 1.
    ProblemError : shapes disagree, or weights are negative or not finite.
    BudgetError : an area has fewer records of positive weight than units to draw.
    """
    areas, records = dense.shape
    per_area = np.asarray(per_area, dtype=np.int64)
    area = np.arange(areas, dtype=np.int64) if area is None else np.asarray(area, dtype=np.int64)
    if times < 1:
        raise SettingsError(f"times is {times}", expected="at least 1")
    if (
        per_area.shape != (areas,)
        or area.shape != (areas,)
        or cell.shape != (records,)
        or (per_area < 0).any()
    ):
        raise ProblemError(
            f"per_area {per_area.shape}, area {area.shape}, cell {cell.shape} for dense weights"
            f" {dense.shape}",
            expected="one an area, one a record, no negative count",
        )
    rank = list_rank(cell, order)
    usable = np.zeros(areas, dtype=np.int64)
    for first in range(0, areas, _BLOCK):
        block = dense[first : first + _BLOCK]
        if not (np.isfinite(block).all() and (block >= 0).all()):
            raise ProblemError(
                "Dense weights are negative or not finite",
                where=f"areas {first} to {first + len(block) - 1}",
                expected="finite weights >= 0",
            )
        usable[first : first + _BLOCK] = (block > 0).sum(axis=1)
    short = np.flatnonzero(usable < per_area)
    if short.size:
        t = int(short[0])
        raise BudgetError(
            f"{short.size} areas have fewer records of positive weight than are wanted",
            where=f"area {int(area[t])}: {usable[t]} records, {per_area[t]} wanted",
            expected="at least as many records as asked for",
        )
    wanted = np.minimum(per_area * times, usable)
    offsets = np.concatenate([[0], np.cumsum(wanted)]).astype(np.int64)
    record, found = np.empty(offsets[-1], dtype=np.int64), np.zeros(areas, dtype=np.int64)
    probability, weight, first_probability = (np.empty(offsets[-1]) for _ in range(3))
    start = np.array(
        [np.random.default_rng([seed, int(number), _STREAM]).random() for number in area]
    )
    for first in range(0, areas, _BLOCK):
        part = slice(first, first + _BLOCK)
        block = np.ascontiguousarray(dense[part], dtype=np.float64)
        phase_areas(
            block,
            per_area[part],
            wanted[part],
            rank,
            start[part],
            offsets[part],
            record,
            probability,
            weight,
            first_probability,
            found[part],
        )
    if (found < wanted).any():
        keep = np.arange(offsets[-1]) - np.repeat(offsets[:-1], wanted) < np.repeat(found, wanted)
        record, probability, weight, first_probability = (
            values[keep] for values in (record, probability, weight, first_probability)
        )
        offsets = np.concatenate([[0], np.cumsum(found)]).astype(np.int64)
    return Candidates(offsets, record, probability, weight, first_probability, per_area, area)


def systematic_over_pool(
    dense: np.ndarray,
    per_area: np.ndarray,
    cell: np.ndarray,
    order: np.ndarray,
    seed: int,
    *,
    area: np.ndarray | None = None,
) -> Candidates:
    """Systematic draw of ``per_area`` units straight over each area's whole pool row: candidates
    that are all drawn (probability one).

    Parameters and errors are those of ``first_phase``; ``first_phase_probability`` is the inclusion
    probability of the draw.
    """
    return first_phase(dense, per_area, cell, order, seed, 1, area=area)
