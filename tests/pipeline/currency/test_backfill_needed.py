"""Which states `geocal backfill` asks the queue for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from pipeline.cli.asked import Asked
from pipeline.cli.backfill import _needed
from pipeline.instances import profile_instance
from pipeline.settings import RunEnvironment
from tests.pipeline.currency.test_judge import environment, made
from tests.pipeline.faults import SAMPLE, files_profile

__all__ = ["environment", "made"]


@dataclass
class Notes:
    """A terminal that keeps what is said."""

    said: list[str] = field(default_factory=list)

    def note(self, words: str, **_: Any) -> None:
        self.said.append(words)


def needed(environment: RunEnvironment) -> tuple[tuple[str, ...], bool, list[str]]:
    notes = Notes()
    asked = Asked(files_profile(), environment, ("RI", "DE"))
    with profile_instance(environment) as instance:
        states, tables = _needed(notes, asked, instance)
    return states, tables, notes.said


def test_nothing_is_asked_for_where_all_is_current(environment):
    states, tables, said = needed(environment)
    assert (states, tables) == ((), False)
    assert said == [
        "2 states are current: not asked for (--force asks for all)",
        "The national tables are current: nothing to do",
    ]


def test_the_state_whose_file_changed_is_asked_for_alone(environment):
    path = environment.data / SAMPLE.profile
    path.write_bytes(path.read_bytes() + b" ")
    states, _, said = needed(environment)
    assert states == ("RI",)
    assert said == ["1 state is current: not asked for (--force asks for all)"]


def test_a_file_of_the_nation_asks_for_all_that_rest_on_it(environment):
    path = environment.data / SAMPLE.s1901
    path.write_bytes(path.read_bytes() + b" ")
    states, _, said = needed(environment)
    assert states == ("RI", "DE") and said == []


@pytest.mark.parametrize("table", ["national_fit", "national_report"])
def test_national_tables_alone_are_asked_for_without_a_state(environment, table):
    (environment.root / table / f"{table}.parquet").unlink()
    states, tables, said = needed(environment)
    assert (states, tables) == ((), True)
    assert said == ["2 states are current: not asked for (--force asks for all)"]
