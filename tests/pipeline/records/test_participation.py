"""Who receives a benefit after alignment: draws, order, counts and dollars by hand."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.records.participation import aligned_receipt, draws, nearest_prefix

HALF = np.full(4, 0.5)


def receipt(amount, controls, *, weight=None, odds=None, race=HALF, level=HALF, **more):
    amount = np.asarray(amount, dtype=float)
    weight = np.full(len(amount), 10.0) if weight is None else np.asarray(weight, dtype=float)
    odds = np.ones(len(amount)) if odds is None else np.asarray(odds, dtype=float)
    return aligned_receipt(amount, weight, odds, np.asarray(race), level, controls, **more)


def test_draws_depend_on_the_key_alone_and_lie_inside_zero_and_one() -> None:
    keys = pl.DataFrame({"household_id": ["a", "a", "b"], "person_number": [1, 2, 1]})
    first = draws(keys, 7, "44|ssi")
    assert np.array_equal(draws(keys[::-1], 7, "44|ssi")[::-1], first)
    assert ((first > 0) & (first < 1)).all() and len(set(first)) == 3
    assert not np.array_equal(draws(keys, 8, "44|ssi"), first)
    assert not np.array_equal(draws(keys, 7, "10|ssi"), first)


@pytest.mark.parametrize(
    ("wanted", "expected"), [(0, 0), (4, 0), (6, 1), (14, 1), (16, 2), (31, 3), (-5, 0)]
)
def test_nearest_prefix(wanted: float, expected: int) -> None:
    assert nearest_prefix(np.full(3, 10.0), wanted) == expected


def test_added_persons_are_the_first_of_the_race_and_dollars_are_exact() -> None:
    # Two of four receive; SSA counts three. Races at equal odds: person 3 (u = 0.9) arrives first.
    found = receipt([100, 300, 0, 0], (30, 8_000), race=[0.5, 0.5, 0.2, 0.9])
    # The median of 100 and 300 at level 0.5 is the lower; all times 8,000 / (10 (100 + 300 + 100)).
    assert found.amount.tolist() == pytest.approx([160, 480, 0, 160])
    assert (found.added, found.taken_out, found.short) == (1, 0, 0)
    assert found.factor == pytest.approx(1.6)


def test_odds_decide_who_comes_first() -> None:
    # -log(0.2) / 10 = 0.16 arrives before -log(0.7) / 1 = 0.36.
    found = receipt([100, 0, 0], (20, 2_000), odds=[1, 10, 1], race=[0.5, 0.2, 0.7], level=HALF[:3])
    assert (found.amount > 0).tolist() == [True, True, False]


def test_the_least_likely_are_taken_out_first() -> None:
    # Taking out runs with 1 / odds: times are 0.69 x odds.
    found = receipt([100, 200, 300, 400], (20, 10_000), odds=[5, 0.1, 3, 0.2])
    assert (found.amount > 0).tolist() == [True, False, True, False]
    assert found.amount[0] == pytest.approx(250) and found.amount[2] == pytest.approx(750)
    assert found.taken_out == 2


def test_offered_amounts_come_before_all_others() -> None:
    offered = np.array([0.0, 0.0, 50.0, 0.0])
    found = receipt([100, 0, 0, 0], (20, 1_500), race=[0.5, 0.99, 0.01, 0.5], offered=offered)
    assert (found.amount > 0).tolist() == [True, False, True, False]
    assert found.amount.tolist() == pytest.approx([100, 0, 50, 0])


def test_a_control_out_of_reach_is_counted() -> None:
    found = receipt([100, 0, 0, 0], (60, 1_000))
    assert found.added == 3 and found.short == pytest.approx(20)


def test_a_group_without_receivers_takes_amounts_of_the_pool() -> None:
    pool = (np.array([10.0, 20.0]), np.array([1.0, 1.0]))
    found = receipt([0, 0, 0, 0], (20, 600), pool=pool, level=np.array([0.1, 0.9, 0.4, 0.6]))
    assert sorted(found.amount)[:2] == [0, 0]
    assert float((found.amount * 10).sum()) == pytest.approx(600)


@given(
    st.lists(st.tuples(st.integers(0, 900), st.integers(1, 200)), min_size=2, max_size=40),
    st.floats(0.1, 0.9),
    st.integers(0, 10_000),
)
def test_counts_err_by_half_a_weight_and_dollars_by_nothing(people, share, seed) -> None:
    amount = np.array([a if a > 450 else 0 for a, _ in people], dtype=float)
    weight = np.array([w for _, w in people], dtype=float)
    rng = np.random.default_rng(seed)
    race, level, odds = rng.uniform(0.01, 0.99, (3, len(people)))
    persons = share * weight.sum()
    found = aligned_receipt(amount, weight, odds, race, level, (persons, 12_345.0))
    counted = weight[found.amount > 0].sum()
    assert abs(counted - persons) <= weight.max() / 2 + 1e-9
    if counted:
        assert (found.amount * weight).sum() == pytest.approx(12_345.0)
    order = rng.permutation(len(people))
    again = aligned_receipt(
        amount[order], weight[order], odds[order], race[order], level[order], (persons, 12_345.0)
    )
    assert again.amount == pytest.approx(found.amount[order])
