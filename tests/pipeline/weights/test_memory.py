"""What a state needs, and a state beyond the budget."""

from __future__ import annotations

import pytest

from pipeline.errors import MemoryBudgetError
from pipeline.settings import memory_budget, memory_words, peak_memory_mb
from pipeline.weights.memory import need_of, require_memory
from tests.pipeline.weights.toy_state import solvable, tables, targets


def test_a_state_beyond_the_budget_is_refused_with_what_takes_it(profile):
    records = tables()
    state = solvable(records, targets(records), profile)
    need = need_of(state)
    assert (
        require_memory(state, None).total == require_memory(state, need.total).total == need.total
    )
    with pytest.raises(MemoryBudgetError, match=r"process .*GEOCAL_MEMORY.*fewer units"):
        require_memory(state, need.total - 1)


def test_factors_by_hand(profile):
    records = tables()
    state = solvable(records, targets(records), profile)
    leaves, above = len(state.leaves), state.problem.contributions.shape[1]
    own = state.problem.targets.designs[-1].shape[1]
    assert need_of(state).factors == leaves * own * (own + above) * 8


@pytest.mark.parametrize(("stated", "found"), [("8", 8 * 2**30), ("0.5", 2**29), ("", None)])
def test_the_budget_of_the_environment(stated, found):
    assert memory_budget({"GEOCAL_MEMORY": stated}) == found


@pytest.mark.parametrize("stated", ["lots", "0", "-3", "nan", "inf", "8GB"])
def test_a_budget_that_is_none(stated):
    with pytest.raises(MemoryBudgetError, match="gigabytes, such as 8"):
        memory_budget({"GEOCAL_MEMORY": stated})


def test_the_peak_is_said_beside_the_budget(monkeypatch):
    monkeypatch.delenv("GEOCAL_MEMORY", raising=False)
    assert "of" not in memory_words()
    monkeypatch.setenv("GEOCAL_MEMORY", "64")
    assert memory_words().endswith(" of the 65,536 MiB of GEOCAL_MEMORY")
    monkeypatch.setenv("GEOCAL_MEMORY", str(peak_memory_mb() / 2048))
    assert ", MORE than the " in memory_words()
