"""Exchanges within areas: never worse, what steepest descent written out in numpy makes, and all
that they must leave alone.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.common.digits import PLACE_BITS, SUM_BITS, rounded, to_choose_by
from calibration_core.errors import ProblemError, SettingsError
from calibration_core.sampling.candidates import AreaCandidates
from calibration_core.tree.select.balance import Balance, Shared
from calibration_core.tree.select.exchange import ChosenPairs, ExchangeResult, exchange
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


def changes(case: Case, t: int, record: np.ndarray, penalty: float, first: np.ndarray):
    """(change, place, record coming in) of every exchange there is."""
    now = value_of(case, t, record, penalty, first)
    for a in np.flatnonzero(~case.fixed[case.places(t)]):
        for coming in case.candidates(t):
            if coming not in record and (
                penalty < math.inf or case.cell[coming] == case.cell[record[a]]
            ):
                new = record.copy()
                new[a] = coming
                yield value_of(case, t, new, penalty, first) - now, a, coming


def steepest(case: Case, t: int, penalty: float) -> tuple[np.ndarray, int]:
    """The best of all exchanges, again and again, every value summed anew."""
    first = case.record[case.places(t)]
    record, made = first.copy(), 0
    while True:
        best = min(changes(case, t, record, penalty, first), default=(0.0, 0, 0))
        if best[0] >= -1e-9 * max(value_of(case, t, record, 0.0, record), 1e-12):
            return record, made
        record[best[1]] = best[2]
        made += 1


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_exchanges_are_those_of_steepest_descent(seed, penalty):
    case = make_case(seed)
    result = case(ExchangeSettings(50.0, penalty))
    for t in range(case.areas):
        want, made = steepest(case, t, penalty)
        assert result.record[case.places(t)].tolist() == want.tolist()
        assert result.exchanges[t] == made
    assert result.stopped == 0


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_never_worse_and_at_the_end_no_exchange_helps(seed, penalty):
    case = make_case(seed, areas=2)
    before = case.record.copy()
    result = case(ExchangeSettings(50.0, penalty))
    assert (case.record == before).all()
    kinds = int(case.cell.max()) + 1
    for t in range(case.areas):
        first, last = before[case.places(t)], result.record[case.places(t)]
        assert len(set(last)) == last.size
        assert set(last) <= set(first) | set(case.candidates(t))
        fixed = case.fixed[case.places(t)]
        assert (last[fixed] == first[fixed]).all()
        start, end = (
            value_of(case, t, first, penalty, first),
            value_of(case, t, last, penalty, first),
        )
        assert end < start or (result.exchanges[t] == 0 and (last == first).all())
        assert min(
            (c[0] for c in changes(case, t, last, penalty, first)), default=0.0
        ) >= -1e-8 * max(end, 1.0)
        if last.size:
            assert result.before[t] == pytest.approx(start, rel=1e-9)
            assert result.after[t] == pytest.approx(
                value_of(case, t, last, 0.0, first), rel=1e-7, abs=1e-12
            )
        if penalty == math.inf:
            assert (
                np.bincount(case.cell[first], minlength=kinds)
                == np.bincount(case.cell[last], minlength=kinds)
            ).all()


@pytest.mark.parametrize("penalty", PENALTIES)
def test_threads_and_other_areas_change_nothing(penalty):
    case = make_case(3, areas=9, records=40)
    one, three = (case(ExchangeSettings(8.0, penalty, threads)) for threads in (1, 3))
    for name in ("record", "exchanges", "before", "after"):
        assert getattr(one, name).tolist() == getattr(three, name).tolist()
    assert one.exchanges.sum() > 0
    some = [1, 4, 7]
    part = case.take(some)(ExchangeSettings(8.0, penalty))
    assert (
        part.record.tolist() == np.concatenate([one.record[case.places(t)] for t in some]).tolist()
    )
    assert part.after.tolist() == one.after[some].tolist()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_the_order_of_records_and_of_places_changes_nothing(seed, penalty):
    """Weights and rows are continuous, so that no two exchanges are worth the same but those that
    change nothing.
    """
    case = make_case(seed)
    rng = np.random.default_rng(seed)
    case = replace(case, rows=case.rows + 0.01 * rng.random(case.rows.shape))
    number = rng.permutation(case.cell.size)
    swap = np.concatenate(
        [
            np.arange(*case.place_offsets[[t, t + 1]])[
                rng.permutation(np.diff(case.place_offsets)[t])
            ]
            for t in range(case.areas)
        ]
    )
    rows, cell = np.empty_like(case.rows), np.empty_like(case.cell)
    rows[number], cell[number] = case.rows, case.cell
    candidate = np.concatenate([np.sort(number[case.candidates(t)]) for t in range(case.areas)])
    other = replace(
        case,
        record=number[case.record[swap]],
        weight=case.weight[swap],
        fixed=case.fixed[swap],
        candidate=candidate,
        rows=rows,
        cell=cell,
    )
    plain, renumbered = case(ExchangeSettings(8.0, penalty)), other(ExchangeSettings(8.0, penalty))
    assert renumbered.record.tolist() == number[plain.record[swap]].tolist()
    assert renumbered.exchanges.tolist() == plain.exchanges.tolist()


def make_shared(case: Case, seed: int) -> Shared:
    """Three totals that areas add to in turn, some not at all, by columns that areas' own variables
    need not have.
    """
    rng = np.random.default_rng([seed, 1])
    rows = rng.lognormal(0, 1, (case.cell.size, 2)) * (rng.random((case.cell.size, 2)) < 0.7)
    slot = np.column_stack([rng.choice([-1, 0, 1], case.areas), rng.choice([-1, 2], case.areas)])
    goals = rounded(rng.uniform(5, 40, 3), SUM_BITS)
    return Shared(rows, slot, goals, rng.uniform(0.5, 3, 3))


def shared_value(case: Case, shared: Shared, record: np.ndarray) -> float:
    """Sum of squares of the errors of shared totals, added up place by place."""
    totals = np.zeros(shared.goals.size)
    for t in range(case.areas):
        for a in range(case.place_offsets[t], case.place_offsets[t + 1]):
            for column, slot in enumerate(shared.slot[t]):
                if slot >= 0:
                    totals[slot] += case.weight[a] * shared.rows[record[a], column]
    return float((((totals - shared.goals) / shared.scales) ** 2).sum())


def possible_exchanges(case, t, record, penalty):
    """Records of all places after each exchange that area ``t`` may make."""
    for a in case.place_offsets[t] + np.flatnonzero(~case.fixed[case.places(t)]):
        for coming in case.candidates(t):
            if coming in record[case.places(t)] or (
                penalty == math.inf and case.cell[coming] != case.cell[record[a]]
            ):
                continue
            new = record.copy()
            new[a] = coming
            yield new


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_shared_totals_count_as_the_areas_own_do(seed, penalty):
    """Area after area, the best exchange by its own errors and the shared ones as they then stand:
    written out, sweep by sweep, until none helps or four sweeps are made.
    """
    case = make_case(seed)
    shared = make_shared(case, seed)
    result = case(ExchangeSettings(50.0, penalty), shared)
    record, made = case.record.copy(), np.zeros(case.areas, dtype=int)

    def own(t, r, kappa=0.0):
        return value_of(case, t, r[case.places(t)], kappa, case.record[case.places(t)])

    for _ in range(4):
        before = made.copy()
        for t in range(case.areas):
            while True:
                now, best = (
                    own(t, record, penalty) + shared_value(case, shared, record),
                    (0.0, None),
                )
                for new in possible_exchanges(case, t, record, penalty):
                    change = own(t, new, penalty) + shared_value(case, shared, new) - now
                    best = min(best, (change, new), key=lambda pair: pair[0])
                if best[0] >= -1e-9 * max(now, 1e-12):
                    break
                record, made[t] = best[1], made[t] + 1
        if (made == before).all():
            break
    assert result.record.tolist() == record.tolist() and result.exchanges.tolist() == made.tolist()
    # Errors of shared totals are rounded to 30 bits.
    assert result.shared_before == pytest.approx(shared_value(case, shared, case.record), rel=1e-8)
    assert result.shared_after == pytest.approx(
        shared_value(case, shared, record), rel=1e-7, abs=1e-10
    )
    for t in np.flatnonzero(np.diff(case.place_offsets)):
        assert result.before[t] == pytest.approx(own(t, case.record), rel=1e-9)

    def value(r):
        return sum(own(t, r, penalty) for t in range(case.areas)) + shared_value(case, shared, r)

    assert value(record) < value(case.record) or not made.any()


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


def test_the_one_exchange_that_meets_the_goal():
    """Two places of weight 2 and 3 hold 1 and 10; the goal is 2 * 4 + 3 * 10, and the cell of the
    record with 4 is another.
    """
    rows = np.array([[1.0], [4.0], [10.0]])
    case = Case(
        np.array([0, 2]),
        np.array([0, 2]),
        np.array([2.0, 3.0]),
        np.zeros(2, dtype=bool),
        np.array([0, 3]),
        np.arange(3),
        rows,
        np.array([[38.0]]),
        np.array([[2.0]]),
        np.array([0, 1, 0]),
    )
    result = case(ExchangeSettings())
    assert result.record.tolist() == [1, 2] and result.exchanges.tolist() == [1]
    assert result.before.tolist() == pytest.approx([9.0], rel=1e-3)
    assert result.after[0] == pytest.approx(0.0, abs=1e-9)
    # The gain of 9 squared scales is worth 2 kappa^2 up to kappa = 2.12.
    assert case(ExchangeSettings(cell_penalty=2.1)).record.tolist() == [1, 2]
    assert case(ExchangeSettings(cell_penalty=2.2)).record.tolist() == [0, 2]
    assert replace(case, fixed=np.array([True, False]))(ExchangeSettings()).record[0] == 0
    assert case(ExchangeSettings(limit=0.0)).exchanges.tolist() == [0]


def test_a_limit_that_is_reached_is_counted():
    case = make_case(1, areas=6, records=60)
    free = case(ExchangeSettings(50.0))
    held = case(ExchangeSettings(0.5))
    most = np.diff(case.place_offsets) // 2
    assert (held.exchanges == np.minimum(free.exchanges, most)).all()
    assert free.stopped == 0 < ((free.exchanges > most) & (most > 0)).sum() <= held.stopped


@pytest.mark.parametrize(
    ("name", "value"),
    [("weight", -1.0), ("weight", np.nan), ("scales", 0.0), ("scales", np.nan), ("goals", np.inf)],
)
def test_numbers_that_cannot_be_used_are_refused(name, value):
    case = make_case(2)
    array = getattr(case, name).copy()
    array[np.isfinite(array)] = value
    with pytest.raises(ProblemError):
        replace(case, **{name: array})(ExchangeSettings())


def test_shapes_and_settings_are_checked():
    case = make_case(2)
    for name in ("record", "fixed", "candidate_offsets", "goals", "cell"):
        with pytest.raises(ProblemError):
            replace(case, **{name: getattr(case, name)[:-1]})(ExchangeSettings())
    for bad in ({"limit": -1.0}, {"cell_penalty": math.nan}, {"threads": 0}):
        with pytest.raises(SettingsError):
            ExchangeSettings(**bad)
