"""Small random cases of exchange, and their errors written out in numpy.

Belongs here: the oracle. Does not belong here: tests.
"""

import math
from dataclasses import dataclass

import numpy as np

from calibration_core.common.digits import PLACE_BITS, to_choose_by
from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.tree.select.balance import Balance, Shared
from calibration_core.tree.select.exchange import ChosenPairs, ExchangeResult, _sizes, exchange
from calibration_core.tree.select.settings import ExchangeSettings

PENALTIES = (0.0, 0.7, math.inf)


@dataclass(frozen=True, eq=False)
class Case:
    """What ``exchange`` works on, in plain arrays, none with more digits than it looks at."""

    place_offsets: np.ndarray
    record: np.ndarray
    weight: np.ndarray
    fixed: np.ndarray
    candidate_offsets: np.ndarray
    candidate: np.ndarray
    rows: np.ndarray
    goals: np.ndarray
    scales: np.ndarray
    cell: np.ndarray

    def __call__(self, settings: ExchangeSettings, shared: Shared | None = None) -> ExchangeResult:
        pairs = ChosenPairs(self.place_offsets, self.record, self.weight, self.fixed)
        size = np.diff(self.candidate_offsets)
        # Whoever may come in; probabilities do not matter to exchanges.
        even = np.repeat(np.where(size > 0, 1.0, 0.0), size)
        candidates = AreaCandidates(
            self.candidate_offsets, self.candidate, even, even, even, size, np.arange(self.areas)
        )
        balance = Balance(self.rows, self.goals, self.scales, shared)
        return exchange(pairs, candidates, self.cell, balance, settings)

    @property
    def areas(self) -> int:
        return self.place_offsets.size - 1

    def places(self, t: int) -> slice:
        return slice(self.place_offsets[t], self.place_offsets[t + 1])

    def candidates(self, t: int) -> np.ndarray:
        return self.candidate[self.candidate_offsets[t] : self.candidate_offsets[t + 1]]

    def take(self, areas: list[int]) -> "Case":
        places = np.concatenate([np.arange(*self.place_offsets[[t, t + 1]]) for t in areas])

        def offsets(all_):
            return np.concatenate([[0], np.cumsum(np.diff(all_)[areas])])

        return Case(
            offsets(self.place_offsets),
            *(a[places] for a in (self.record, self.weight, self.fixed)),
            offsets(self.candidate_offsets),
            np.concatenate([self.candidates(t) for t in areas]),
            self.rows,
            self.goals[areas],
            self.scales[areas],
            self.cell,
        )


def make_case(seed: int, areas: int = 3, records: int = 14, kinds: int = 3) -> Case:
    """Areas of none to seven places; some places are fixed, some hold a record that is no
    candidate, some variables are left out.
    """
    rng = np.random.default_rng(seed)
    places = rng.integers(0, 8, areas)
    record = [rng.choice(records, n, replace=False) for n in places]
    candidate = [
        np.flatnonzero(
            (rng.random(records) < 0.7)
            | np.isin(np.arange(records), r) & (rng.random(records) < 0.8)
        )
        for r in record
    ]
    rows = rng.lognormal(0, 1, (records, 4)) * (rng.random((records, 4)) < 0.7)
    goals = rng.uniform(0, 20, (areas, 4))
    scales = np.where(rng.random((areas, 4)) < 0.2, np.inf, rng.uniform(0.5, 3, (areas, 4)))
    goals[np.isinf(scales)] = np.nan
    seen = Balance(rows, goals, scales)
    total = int(places.sum())

    def offsets(parts):
        return np.concatenate([[0], np.cumsum([len(p) for p in parts])]).astype(np.int64)

    def flat(parts):
        return np.concatenate([*parts, np.zeros(0, dtype=np.int64)]).astype(np.int64)

    return Case(
        offsets(record),
        flat(record),
        np.concatenate([*(to_choose_by(rng.gamma(2, 1, n) + 0.05, PLACE_BITS) for n in places)]),
        rng.random(total) < 0.15,
        offsets(candidate),
        flat(candidate),
        rows,
        seen.goals,
        seen.scales,
        rng.integers(0, kinds, records),
    )


def value_of(case: Case, t: int, record: np.ndarray, penalty: float, first: np.ndarray) -> float:
    """The sum of squares plus the penalty on cells, of area t with ``record`` in its places;
    ``first``: what was there at the start.
    """
    used = np.isfinite(case.scales[t])
    error = (
        case.weight[case.places(t)] @ case.rows[record][:, used] - case.goals[t, used]
    ) / case.scales[t, used]
    kinds = int(case.cell.max()) + 1
    moved = np.bincount(case.cell[record], minlength=kinds) - np.bincount(
        case.cell[first], minlength=kinds
    )
    return float(error @ error) + (0.0 if not moved.any() else penalty**2 * float(moved @ moved))


def make_large(seed: int, places: int = 260, records: int = 2600, kinds: int = 9) -> Case:
    """An area of so many places between two small ones; every record is a candidate of it."""
    rng = np.random.default_rng(seed)
    counts = np.array([5, places, 3])
    rows = rng.lognormal(0, 1, (records, 12)) * (rng.random((records, 12)) < 0.5)
    record = np.concatenate([rng.choice(records, n, replace=False) for n in counts])
    candidate = [np.arange(50), np.arange(records), np.arange(30, 70)]
    weight = np.concatenate([to_choose_by(rng.gamma(9, 1, n), PLACE_BITS) for n in counts])
    # What a random draw gives on average, in units of its own error.
    area = np.repeat(np.arange(3), counts)
    heft = np.bincount(area, weight)[:, None]
    goals, scales = heft * rows.mean(axis=0), heft * rows.std(axis=0) / np.sqrt(counts)[:, None]
    seen = Balance(rows, goals, scales)
    return Case(
        np.concatenate([[0], np.cumsum(counts)]),
        record,
        weight,
        rng.random(area.size) < 0.05,
        np.concatenate([[0], np.cumsum([c.size for c in candidate])]),
        np.concatenate(candidate),
        rows,
        seen.goals,
        seen.scales,
        rng.integers(0, kinds, records),
    )


def listed(case: Case, record: np.ndarray) -> np.ndarray:
    """Positions of records in the order in which places are taken up and candidates compared."""
    return np.lexsort((record, _sizes(case.rows)[record], case.cell[record]))


def in_passes(places, best_of, squares_of) -> int:
    """Passes over places written out: each takes its best exchange where that gains the pass's
    share of the squares; the last share until none does. ``best_of(place)`` gives (change, how to
    make it); returns how many were made.
    """
    made, shares = 0, [0.1, 0.05, 0.03, 0.02, 0.01, 0.005]
    while True:
        share, before = shares.pop(0) if shares else 1e-9, made
        for place in places:
            change, make = best_of(place)
            if change < -share * max(squares_of(), 1e-12):
                make()
                made += 1
        if share == 1e-9 and made == before:
            return made
