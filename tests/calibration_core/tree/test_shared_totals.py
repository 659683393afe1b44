"""Exchanges that see totals of areas above: what passes over places written out in numpy make.

Belongs here: totals that areas share. Does not belong here: an area's own
(``test_pair_exchange.py``).
"""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.common.digits import SUM_BITS, rounded
from calibration_core.tree.select.balance import Shared
from calibration_core.tree.select.settings import ExchangeSettings
from tests.calibration_core.tree.exchange_case import (
    PENALTIES,
    Case,
    in_passes,
    listed,
    make_case,
    value_of,
)


def make_shared(case: Case, seed: int) -> Shared:
    """Three totals that areas add to in turn, some not at all, by columns that areas' own variables
    need not have.
    """
    rng = np.random.default_rng([seed, 1])
    rows = rng.lognormal(0, 1, (case.cell.size, 2)) * (rng.random((case.cell.size, 2)) < 0.7)
    slot = np.column_stack([rng.choice([-1, 0, 1], case.areas), rng.choice([-1, 2], case.areas)])
    goals = rounded(rng.uniform(5, 40, 3), SUM_BITS)
    return Shared(rows, slot, goals, rng.uniform(0.5, 3, 3))


def shared_value(case: Case, shared: Shared, record: np.ndarray, slots=slice(None)) -> float:
    """Sum of squares of the errors of shared totals, added up place by place."""
    totals = np.zeros(shared.goals.size)
    for t in range(case.areas):
        for a in range(case.place_offsets[t], case.place_offsets[t + 1]):
            for column, slot in enumerate(shared.slot[t]):
                if slot >= 0:
                    totals[slot] += case.weight[a] * shared.rows[record[a], column]
    return float((((totals - shared.goals) / shared.scales)[slots] ** 2).sum())


def possible_exchanges(case, t, record, place, penalty):
    """Records of all places after each exchange that a place of area ``t`` may make."""
    a = case.place_offsets[t] + place
    if case.fixed[a]:
        return
    for coming in case.candidates(t)[listed(case, case.candidates(t))]:
        if coming in record[case.places(t)] or (
            penalty == math.inf and case.cell[coming] != case.cell[record[a]]
        ):
            continue
        new = record.copy()
        new[a] = coming
        yield new


class Written:
    """Passes over places, each exchange by the area's own errors and the shared ones as they then
    stand, written out."""

    def __init__(self, case: Case, shared: Shared, penalty: float) -> None:
        self.case, self.shared, self.penalty = case, shared, penalty
        self.record = case.record.copy()

    def alone(self, t, record, kappa=0.0):
        case = self.case
        first = case.record[case.places(t)]
        return value_of(case, t, record[case.places(t)], kappa, first)

    def all_shared(self, record, slots=slice(None)):
        return shared_value(self.case, self.shared, record, slots)

    def value(self, t, record):
        return self.alone(t, record, self.penalty) + self.all_shared(record)

    def squares(self, t):
        """Of what the area can change."""
        slots = self.shared.slot[t][self.shared.slot[t] >= 0]
        return self.alone(t, self.record) + self.all_shared(self.record, slots)

    def best_of(self, t, place):
        now, best = self.value(t, self.record), (0.0, self.record)
        for new in possible_exchanges(self.case, t, self.record, place, self.penalty):
            best = min(best, (self.value(t, new) - now, new), key=lambda pair: pair[0])
        return best[0], lambda: np.copyto(self.record, best[1])

    def area(self, t):
        """Exchange in one area; how many were made."""
        places = listed(self.case, self.record[self.case.places(t)])
        return in_passes(places, partial(self.best_of, t), partial(self.squares, t))

    def whole(self, record):
        own = sum(self.alone(t, record, self.penalty) for t in range(self.case.areas))
        return own + self.all_shared(record)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_shared_totals_count_as_the_areas_own_do(seed, penalty):
    """Area after area, sweep by sweep, until none helps or four sweeps are made."""
    case = make_case(seed)
    shared = make_shared(case, seed)
    result = case(ExchangeSettings(50.0, penalty), shared)
    other, made = Written(case, shared, penalty), np.zeros(case.areas, dtype=int)
    for _ in range(4):
        now = [other.area(t) for t in range(case.areas)]
        made += now
        if not sum(now):
            break
    record = other.record
    assert result.record.tolist() == record.tolist() and result.exchanges.tolist() == made.tolist()
    # Errors of shared totals are rounded to 30 bits.
    assert result.shared_before == pytest.approx(shared_value(case, shared, case.record), rel=1e-8)
    assert result.shared_after == pytest.approx(
        shared_value(case, shared, record), rel=1e-7, abs=1e-10
    )
    for t in np.flatnonzero(np.diff(case.place_offsets)):
        assert result.before[t] == pytest.approx(other.alone(t, case.record), rel=1e-9)
    assert other.whole(record) < other.whole(case.record) or not made.any()


def test_shared_totals_know_no_threads_and_none_is_as_none_given():
    case = make_case(3, areas=9, records=40)
    shared = make_shared(case, 3)
    one, three = (case(ExchangeSettings(8.0, 0.5, threads), shared) for threads in (1, 3))
    assert (
        one.record.tolist() == three.record.tolist()
        and one.shared_after == three.shared_after < one.shared_before
    )
    nothing = replace(shared, slot=np.full_like(shared.slot, -1))
    assert (
        case(ExchangeSettings(8.0), nothing).record.tolist()
        == case(ExchangeSettings(8.0)).record.tolist()
    )
