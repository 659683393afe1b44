"""A production run that a person asks for: refused with words, begun in the queue, cancelled."""

from __future__ import annotations

import os

import dagster as dg
import pytest
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._daemon.types import DaemonHeartbeat
from dagster._time import get_current_timestamp

from pipeline.assets.common import PROJECT_ROOT
from pipeline.automation import asked
from pipeline.automation.history import BEGINS, GIVEN_UP_TAG, WANTED_TAG, recent_productions
from pipeline.automation.production import SENSOR
from pipeline.errors import StoreError
from pipeline.instances import opened
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES
from pipeline.settings import RunEnvironment, ensure_instance_home
from tests.pipeline.automation.test_production import carry_on, look, run
from tests.pipeline.toy import toy_definitions


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    made = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    ensure_instance_home(made)
    return made


def alive(instance: dg.DagsterInstance) -> None:
    for name in ("SENSOR", "QUEUED_RUN_COORDINATOR"):
        instance.add_daemon_heartbeat(DaemonHeartbeat(get_current_timestamp(), name, "id", []))


def test_without_a_daemon_nothing_is_asked(environment):
    with (
        opened(environment.dagster_home) as instance,
        pytest.raises(StoreError, match="No daemon looks after") as caught,
    ):
        asked.require_operation(instance, environment.workspace)
    assert "geocal ui" in caught.value.expected


def test_with_the_sensor_off_nothing_is_asked(environment, monkeypatch):
    with opened(environment.dagster_home) as instance:
        alive(instance)
        with pytest.raises(StoreError, match=f"{SENSOR} is off") as caught:
            asked.require_operation(instance, environment.workspace)
        assert f"dagster sensor start {SENSOR}" in caught.value.remedy

        class On:
            instigator_name, status = SENSOR, InstigatorStatus.RUNNING

        monkeypatch.setattr(type(instance), "all_instigator_state", lambda self, *a, **k: [On()])
        asked.require_operation(instance, environment.workspace)


def test_the_national_inputs_are_put_into_the_queue(environment, monkeypatch):
    variables = {**environment.variables(), "PYTHONPATH": str(PROJECT_ROOT)}
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    with opened(environment.dagster_home) as instance:
        origin = asked.begin(instance, environment.workspace, ["RI"])
        queued = instance.get_run_by_id(origin)
        assert queued.status == dg.DagsterRunStatus.QUEUED
        assert queued.job_name == NATIONAL_INPUTS
        assert queued.tags[PRODUCTION_TAG] == BEGINS and queued.tags[WANTED_TAG] == "RI"
        assert asked.national_inputs(instance, origin).run_id == origin
        with pytest.raises(StoreError, match="no production run"):
            asked.national_inputs(instance, "another")
    assert os.environ["GEOCAL_PROFILE"] == "sample"


def test_only_the_states_asked_for_are_run(environment):
    definitions = toy_definitions(environment, ("CA", "DE", "RI"))
    with dg.DagsterInstance.ephemeral() as instance:
        tags = {PRODUCTION_TAG: BEGINS, WANTED_TAG: "RI,DE"}
        run(definitions, instance, NATIONAL_INPUTS, tags)
        made = carry_on(definitions, instance)
    assert [(r.job_name, r.partition_key) for r in made] == [
        (STATES, "DE"),
        (STATES, "RI"),
        (NATIONAL_OUTPUTS, None),
    ]


def test_cancelling_leaves_a_true_status_and_begins_nothing_more(environment, monkeypatch):
    monkeypatch.setattr(asked.time, "sleep", lambda seconds: None)
    definitions = toy_definitions(environment, ("CA", "DE", "RI"))
    with dg.DagsterInstance.ephemeral() as instance:
        first = run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        _, requests = look(definitions, instance)
        run(definitions, instance, STATES, requests[0].tags, requests[0].partition_key)
        job = definitions.resolve_job_def(STATES)
        waiting = [
            instance.create_run_for_job(
                job, tags={**request.tags, "dagster/partition": request.partition_key}
            )
            for request in requests[1:]
        ]
        assert asked.cancel(instance, first.run_id) == ["DE", "RI"]
        for each in waiting:
            status = instance.get_run_by_id(each.run_id).status
            assert status == dg.DagsterRunStatus.CANCELED
        assert GIVEN_UP_TAG in instance.get_run_by_id(first.run_id).tags
        assert look(definitions, instance)[1] == []
        assert recent_productions(instance, ["CA", "DE", "RI"], 1) == []
