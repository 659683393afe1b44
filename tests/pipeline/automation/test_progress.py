"""What a production run needs next, from the statuses of its runs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.automation.progress import progress_of

STATES = ("CA", "RI", "DE")


def progress(attempts, national=None, retries=1):
    return progress_of("origin", STATES, attempts, national, retries)


def test_every_state_is_started_first():
    assert progress({}).to_start == (("CA", 1), ("RI", 1), ("DE", 1))
    assert not progress({}).wants_national


def test_the_national_tables_wait_for_the_last_state_only():
    under_way = progress({"CA": ["made"], "RI": ["made"], "DE": ["waiting"]})
    assert under_way.waiting == ("DE",) and not under_way.wants_national
    assert progress({"CA": ["made"], "RI": ["made"], "DE": ["made"]}).wants_national


def test_a_failed_state_is_started_again_and_then_left_out_by_name():
    once = progress({"CA": ["made"], "RI": ["failed"], "DE": ["made"]})
    assert once.to_start == (("RI", 2),) and not once.wants_national
    twice = progress({"CA": ["made"], "RI": ["failed", "failed"], "DE": ["made"]})
    assert twice.failed == ("RI",) and twice.wants_national and not twice.ended


def test_without_retries_one_failure_is_the_end():
    lost = progress({"CA": ["made"], "RI": ["failed"], "DE": ["made"]}, retries=0)
    assert lost.to_start == () and lost.failed == ("RI",)


def test_a_state_that_a_person_cancelled_is_not_started_again():
    stopped = progress({"CA": ["made"], "RI": ["canceled"], "DE": ["made"]}, retries=5)
    assert stopped.to_start == () and stopped.canceled == ("RI",) and stopped.wants_national


def test_a_rerun_by_hand_counts():
    mended = progress({"CA": ["made"], "RI": ["failed", "failed", "made"], "DE": ["made"]})
    assert mended.made == STATES and mended.failed == ()


def test_without_any_state_there_are_no_national_tables():
    lost = progress({state: ["failed"] for state in STATES}, retries=0)
    assert not lost.wants_national and lost.ended and not lost.clean


@pytest.mark.parametrize("national", ["made", "failed", "canceled"])
def test_the_national_tables_are_asked_for_once(national):
    done = progress({state: ["made"] for state in STATES}, national)
    assert done.ended and not done.wants_national
    assert done.clean == (national == "made")


_ENDS = st.sampled_from(["made", "failed", "canceled"])


@given(st.integers(0, 5), st.data())
def test_it_ends_whatever_runs_come_to(retries, data):
    """Answer every request with any end: the number of requests is bounded, and it ends."""
    attempts: dict[str, list[str]] = {}
    national, asked = None, 0
    for _ in range(3 * (retries + 1) + 3):
        now = progress_of("origin", STATES, attempts, national, retries)
        if now.ended:
            break
        for state, attempt in now.to_start:
            assert attempt == len(attempts.get(state, [])) + 1
            attempts.setdefault(state, []).append(data.draw(_ENDS))
            asked += 1
        if now.wants_national:
            national = data.draw(_ENDS)
    assert now.ended
    assert asked <= len(STATES) * (retries + 1)
    assert sorted((*now.made, *now.failed, *now.canceled)) == sorted(STATES)
