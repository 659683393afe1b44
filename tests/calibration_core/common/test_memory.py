"""The budget of what is kept for speed."""

from __future__ import annotations

import pytest

from calibration_core.common import memory
from calibration_core.errors import SettingsError


@pytest.fixture(autouse=True)
def _as_before():
    before = memory.budget()
    yield
    memory.set_budget(before)


def test_shares_follow_the_budget_and_leave_most_of_it_to_the_problem():
    memory.set_budget(None)
    assert memory.budget() == memory.DEFAULT and memory.kept_in_all() < memory.DEFAULT / 3
    before = memory.kept_bytes("pools")
    memory.set_budget(memory.DEFAULT * 2)
    assert memory.kept_bytes("pools") == 2 * before
    parts = sum(memory.kept_bytes(part) for part in ("pools", "records", "pairs", "weights"))
    assert parts == pytest.approx(memory.kept_in_all(), abs=4)


@pytest.mark.parametrize("size", [0, -1])
def test_a_budget_is_more_than_nothing(size):
    with pytest.raises(SettingsError, match="more than zero"):
        memory.set_budget(size)
