"""Exchanges within areas: never worse, what passes over the places written out in numpy make, and
all that they must leave alone.
"""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import ProblemError, SettingsError
from calibration_core.tree.select.settings import ExchangeSettings
from tests.calibration_core.tree.exchange_case import (
    PENALTIES,
    Case,
    in_passes,
    listed,
    make_case,
    value_of,
)


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


def exchanged(case: Case, t: int, penalty: float) -> tuple[np.ndarray, int]:
    """Passes over the places, every value summed anew."""
    first = case.record[case.places(t)]
    record = first.copy()

    def best_of(place: int):
        ordered = case.candidates(t)[listed(case, case.candidates(t))].tolist()
        here = [c for c in changes(case, t, record, penalty, first) if c[1] == place]
        here.sort(key=lambda c: ordered.index(c[2]))
        change, _, coming = min(here, key=lambda c: c[0], default=(0.0, 0, 0))
        return change, lambda: record.__setitem__(place, coming)

    def squares_of() -> float:
        return value_of(case, t, record, 0.0, record)

    return record, in_passes(listed(case, first), best_of, squares_of)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from(PENALTIES))
def test_exchanges_are_those_of_passes_over_the_places(seed, penalty):
    case = make_case(seed)
    result = case(ExchangeSettings(50.0, penalty))
    for t in range(case.areas):
        want, made = exchanged(case, t, penalty)
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
