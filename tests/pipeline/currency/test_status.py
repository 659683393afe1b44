"""A row for each state: what it says, and in which order things count."""

from __future__ import annotations

import json
import shutil

import pytest

from pipeline.currency.status import rows
from pipeline.locks import held
from pipeline.run_history import History
from tests.pipeline.currency.stand_in import make
from tests.pipeline.currency.test_judge import environment, made, makings, planner
from tests.pipeline.faults import SAMPLE

__all__ = ["environment", "made"]


def standing(environment, history=lambda state: History()) -> dict[str, tuple[str, str]]:
    found = rows(planner(environment), ("RI", "DE"), history)
    json.dumps([row.plain() for row in found])
    return {row.name: (row.standing, row.why) for row in found}


def test_all_is_current(environment):
    assert {name: each[0] for name, each in standing(environment).items()} == dict.fromkeys(
        ("nation", "RI", "DE"), "current"
    )


def test_stale_says_why_and_never_run_is_another_thing(environment):
    path = environment.data / SAMPLE.profile
    path.write_bytes(path.read_bytes() + b" ")
    for folder in environment.root.glob("*/state=DE"):
        shutil.rmtree(folder)
    found = standing(environment)
    assert found["RI"][0] == "stale" and SAMPLE.profile in found["RI"][1]
    assert found["DE"][0] == "never run"


def test_a_state_behind_a_stale_table_of_the_nation_is_not_called_current(environment):
    its = makings(environment)
    path = environment.data / SAMPLE.s1901
    path.write_bytes(path.read_bytes() + b" ")
    found = standing(environment)
    assert found["RI"][0] == "stale" and "the nation's acs5_s1901_counties" in found["RI"][1]
    make(its, its.graph.nodes["acs5_s1901_counties"], None)
    assert standing(environment)["nation"][0] == "current"


@pytest.mark.parametrize("status", ["current", "running"])
def test_a_state_that_somebody_writes_is_running(environment, status):
    with held(environment.root, "RI" if status == "running" else "TX", "mine", "geocal run"):
        assert standing(environment)["RI"][0] == status
    going = History(going_on=("abcdefgh12",))
    found = standing(environment, lambda state: going if state == "DE" else History())
    assert found["DE"] == ("running", "run abcdefgh")


def test_a_table_that_failed_last_makes_its_state_failed(environment):
    from pipeline.currency.judge import Judge
    from pipeline.currency.plan import Planner
    from pipeline.stored import StoredTables

    failed = History({"weights": "1234567890"}, ("1234567890", "FAILURE"))
    judge = Judge(
        makings(environment),
        StoredTables(environment.root),
        lambda state: failed.failed if state == "RI" else {},
    )
    found = rows(Planner(judge, force=False), ("RI", "DE"), lambda state: failed)
    row = {each.name: each for each in found}["RI"]
    assert row.standing == "failed" and row.stale == ("weights",) and row.run == "1234567890"
    assert "weights" in row.why and "12345678" in row.why
