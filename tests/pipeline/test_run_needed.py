"""A run that makes what is needed, under locks; and what the record says of runs that died."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass, field

import dagster as dg
import pytest

from pipeline.instances import profile_instance
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.locks import NATION, held
from pipeline.processes import PROCESS_TAG, process_lives, process_tag
from pipeline.run_events import AssetEvent
from pipeline.run_history import end_dead_runs, history_of
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from tests.pipeline.test_locks import other
from tests.pipeline.toy import toy_definitions


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


@dataclass(frozen=True)
class Wave:
    assets: tuple[str, ...]
    words: str = "1 of 1 assets, because it has to be"

    @property
    def steps(self) -> int:
        return len(self.assets)


@dataclass
class Needs:
    """Waves by job and state, each given once; ``always``: the same again and again."""

    waves: dict[tuple[str, str | None], list[Wave]]
    always: bool = False
    given: list[tuple[str, str | None]] = field(default_factory=list)

    def needs(self, job: str, state: str | None) -> bool:
        return bool(self.waves.get((job, state)))

    def wave(self, job: str, state: str | None) -> Wave | None:
        left = self.waves.get((job, state), [])
        if not left:
            return None
        self.given.append((job, state))
        return left[0] if self.always else left.pop(0)


ALL = {
    (NATIONAL_INPUTS, None): [Wave(("nation",))],
    (STATES, "RI"): [Wave(("weights",))],
    (STATES, "DE"): [Wave(("weights",))],
    (NATIONAL_OUTPUTS, None): [Wave(("national_report",))],
}


def needing(*keys: tuple[str, str | None]) -> Needs:
    return Needs({key: list(ALL[key]) for key in keys})


def test_nothing_needed_runs_nothing_and_is_a_success(environment):
    assert run_profile(toy_definitions(environment), environment, ["RI", "DE"]).success
    events: list[AssetEvent] = []
    outcome = run_profile(
        toy_definitions(environment),
        environment,
        ["RI", "DE"],
        needed=lambda _: needing(),
        listener=events.append,
    )
    assert outcome.success and outcome.jobs == [] and outcome.current == ["RI", "DE"]
    assert [(e.partition, e.message) for e in events] == [
        ("RI", "current, nothing to do"),
        ("DE", "current, nothing to do"),
    ]
    with profile_instance(environment) as instance:
        assert instance.get_runs_count() == 4


def test_only_the_state_that_needs_it_runs_and_says_why(environment):
    assert run_profile(toy_definitions(environment), environment, ["RI", "DE"]).success
    events: list[AssetEvent] = []
    outcome = run_profile(
        toy_definitions(environment),
        environment,
        ["RI", "DE"],
        needed=lambda _: needing((STATES, "DE"), (NATIONAL_OUTPUTS, None)),
        listener=events.append,
    )
    assert [(job.job, job.partition) for job in outcome.jobs] == [
        (STATES, "DE"),
        (NATIONAL_OUTPUTS, None),
    ]
    assert outcome.success and outcome.current == ["RI"]
    planned = [(e.partition, e.message, e.steps) for e in events if e.kind == "planned"]
    assert planned[1] == ("DE", "1 of 1 assets, because it has to be", 1)


def test_what_is_not_current_after_it_was_made_is_a_failure_in_words(environment):
    assert run_profile(toy_definitions(environment), environment, ["RI"]).success
    waves = Needs({(STATES, "RI"): [Wave(("weights",), "because its table is gone")]}, always=True)
    outcome = run_profile(toy_definitions(environment), environment, ["RI"], needed=lambda _: waves)
    assert not outcome.success and outcome.failed_states == ["RI"]
    assert "because its table is gone" in outcome.jobs[0].failures["weights"]
    assert waves.given.count((STATES, "RI")) == 2


def test_a_state_that_another_run_writes_fails_and_the_others_do_not(environment):
    process = other(environment.root)
    try:
        outcome = run_profile(toy_definitions(environment), environment, ["RI", "DE"])
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
    assert outcome.failed_states == ["RI"]
    assert f"process {process.pid}" in outcome.jobs[1].failures["lock"]
    assert outcome.jobs[2].success and not environment.table_path("weights", "RI").exists()


def test_waiting_runs_the_state_once_the_other_is_done(environment):
    process = other(environment.root, seconds=1.5)
    outcome = run_profile(toy_definitions(environment), environment, ["RI"], wait=True)
    process.stdout.close()
    assert process.wait() == 0 and outcome.success


def test_a_national_run_elsewhere_starts_no_state(environment):
    with held(environment.root, NATION, "mine", "geocal run"):
        outcome = subprocess.run(
            [sys.executable, "-c", NATIONAL, str(environment.output)],
            capture_output=True,
            text=True,
            check=True,
        )
    assert outcome.stdout.splitlines()[-1] == "['RI'] lock"


NATIONAL = """
import sys
from pathlib import Path
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions

environment = RunEnvironment("sample", Path("raw"), Path(sys.argv[1]))
outcome = run_profile(toy_definitions(environment), environment, ["RI"])
print(outcome.not_started, *outcome.jobs[0].failures)
"""


@pytest.mark.parametrize("asset", ["nation", "weights"])
def test_an_output_folder_removed_meanwhile_is_said_in_words(environment, asset):
    def remove(event: AssetEvent) -> None:
        if (event.kind, event.asset) == ("started", asset):
            shutil.rmtree(environment.root)

    with pytest.raises(Exception) as error:
        run_profile(toy_definitions(environment), environment, ["RI"], listener=remove)
    assert type(error.value).__name__ == "StoreError"
    assert "was removed while a run wrote to it" in str(error.value)


def started(instance: dg.DagsterInstance, tag: str) -> str:
    """A run that stands as going on."""

    @dg.job
    def nothing():
        pass

    run = instance.create_run_for_job(nothing, tags={PROCESS_TAG: tag, "dagster/partition": "RI"})
    instance.handle_new_event(
        dg.EventLogEntry(
            error_info=None,
            level="debug",
            user_message="",
            run_id=run.run_id,
            timestamp=0.0,
            dagster_event=dg.DagsterEvent(
                event_type_value="PIPELINE_START", job_name="nothing", message="started"
            ),
        )
    )
    return run.run_id


def test_a_run_whose_process_is_gone_is_ended_and_no_other():
    gone = subprocess.Popen([sys.executable, "-c", "pass"])
    gone.wait()
    host = process_tag().split(":")[0]
    with dg.DagsterInstance.ephemeral() as instance:
        dead = started(instance, f"{host}:{gone.pid}:1")
        reused = started(instance, f"{host}:{os.getpid()}:1")
        mine = started(instance, process_tag())
        elsewhere = started(instance, f"another.host:{gone.pid}:1")
        assert len(history_of(instance, "RI").going_on) == 4
        assert sorted(end_dead_runs(instance)) == sorted([dead, reused])
        status = {run: instance.get_run_by_id(run).status.value for run in (dead, mine, elsewhere)}
        assert status == {dead: "FAILURE", mine: "STARTED", elsewhere: "STARTED"}
        assert end_dead_runs(instance) == []


def test_this_process_lives():
    assert process_lives(process_tag())
    assert process_lives("another.host:1:2")


def test_the_record_names_what_failed_last_until_it_succeeds(environment):
    run_profile(toy_definitions(environment, broken=("RI",)), environment, ["RI", "DE"])
    with profile_instance(environment) as instance:
        assert list(history_of(instance, "RI").failed) == ["weights"]
        assert not history_of(instance, "DE").failed and not history_of(instance, None).failed
    run_profile(toy_definitions(environment), environment, ["RI"])
    with profile_instance(environment) as instance:
        assert history_of(instance, "RI").failed == {}
        assert history_of(instance, "RI").last[1] == "SUCCESS"
