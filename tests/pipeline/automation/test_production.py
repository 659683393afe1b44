"""A production run from its schedule to the national tables, with the runs that its sensor asks
for really run.
"""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest
from dagster._core.storage.tags import RUN_KEY_TAG

from pipeline.automation.history import BEGINS, FAILED_TAG
from pipeline.automation.production import SCHEDULE, SENSOR
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def run(definitions, instance, job, tags=None, partition=None) -> dg.ExecuteInProcessResult:
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, tags=tags, partition_key=partition, raise_on_error=False
    )


def look(definitions, instance, cursor=None, sensor=SENSOR):
    """One evaluation of a sensor as the daemon makes it: run keys already known are left out."""
    context = dg.build_sensor_context(instance=instance, cursor=cursor, definitions=definitions)
    tick = definitions.resolve_sensor_def(sensor).evaluate_tick(context)
    fresh = [
        request
        for request in tick.run_requests or ()
        if not instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: request.run_key}))
    ]
    return tick, fresh


def carry_on(definitions, instance, most: int = 20) -> list[dg.RunRequest]:
    """Look and run what was asked for, until nothing is."""
    asked = []
    for _ in range(most):
        _, requests = look(definitions, instance)
        if not requests:
            return asked
        for request in requests:
            tags = {**request.tags, RUN_KEY_TAG: request.run_key}
            run(definitions, instance, request.job_name, tags, request.partition_key)
        asked += requests
    raise AssertionError(f"still asking after {most} looks")


def test_a_clean_production_run(environment):
    definitions = toy_definitions(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        assert run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS}).success
        asked = carry_on(definitions, instance)
    jobs = [(request.job_name, request.partition_key) for request in asked]
    assert jobs == [(STATES, "DE"), (STATES, "RI"), (NATIONAL_OUTPUTS, None)]
    assert FAILED_TAG not in asked[-1].tags
    report = pl.read_parquet(environment.table_path("national_report"))
    assert report["state"].to_list() == ["DE", "RI"]


def test_one_state_fails_and_the_nation_is_made_without_it(environment):
    definitions = toy_definitions(environment, ("CA", "DE", "RI"), broken=("DE",))
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        asked = carry_on(definitions, instance)
        tick, none = look(definitions, instance)
    assert [r.partition_key for r in asked if r.job_name == STATES].count("DE") == 2
    assert asked[-1].job_name == NATIONAL_OUTPUTS
    assert asked[-1].tags[FAILED_TAG] == "DE"
    assert none == [] and "No production run is under way" in tick.skip_message
    report = pl.read_parquet(environment.table_path("national_report"))
    assert report["state"].to_list() == ["CA", "RI"]


def test_automation_does_not_loop_on_failures(environment):
    """Everything fails: each state is tried twice, the nation not at all, and then it is quiet."""
    definitions = toy_definitions(environment, broken=("DE", "RI"))
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        asked = carry_on(definitions, instance)
        assert len(asked) == 4 and {r.job_name for r in asked} == {STATES}
        for _ in range(5):
            assert look(definitions, instance)[1] == []


def test_nothing_follows_national_inputs_that_failed(environment):
    definitions = toy_definitions(environment, nation_broken=True)
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        assert look(definitions, instance)[1] == []


def test_runs_outside_a_production_start_nothing(environment):
    definitions = toy_definitions(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS)
        run(definitions, instance, STATES, partition="DE")
        assert look(definitions, instance)[1] == []


def test_a_state_that_is_cancelled_does_not_hold_the_nation_back(environment):
    definitions = toy_definitions(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        nation = run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        _, (first, second) = look(definitions, instance)
        run(definitions, instance, STATES, first.tags, first.partition_key)
        tags = {**second.tags, "dagster/partition": second.partition_key}
        queued = instance.create_run_for_job(definitions.resolve_job_def(STATES), tags=tags)
        tick, none = look(definitions, instance)
        assert none == [] and f"waits for {second.partition_key}" in tick.skip_message
        instance.report_run_canceled(queued)
        _, (request,) = look(definitions, instance)
    assert request.run_key == f"{nation.run_id}:national"
    assert request.tags[FAILED_TAG] == second.partition_key


def test_the_largest_state_has_the_highest_priority(environment):
    definitions = toy_definitions(environment, ("CA", "TX", "WY"))
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        _, requests = look(definitions, instance)
    ranks = {r.partition_key: int(r.tags["dagster/priority"]) for r in requests}
    assert ranks["CA"] > ranks["TX"] > ranks["WY"]


def test_a_run_that_dagster_will_start_again_itself_is_not_started_twice(environment):
    definitions = toy_definitions(environment, ("DE",))
    with dg.DagsterInstance.ephemeral() as instance:
        run(definitions, instance, NATIONAL_INPUTS, {PRODUCTION_TAG: BEGINS})
        _, (request,) = look(definitions, instance)
        tags = {**request.tags, "dagster/partition": "DE", "dagster/will_retry": "true"}
        job = definitions.resolve_job_def(STATES)
        crashed = instance.create_run_for_job(job, tags=tags)
        instance.report_run_failed(crashed)
        assert look(definitions, instance)[1] == []
        instance.add_run_tags(crashed.run_id, {"dagster/auto_retry_run_id": "another"})
        again = instance.create_run_for_job(job, tags={**request.tags, "dagster/partition": "DE"})
        instance.report_run_failed(again)
        # Both attempts are spent, and none was made: there is nothing for the nation.
        assert look(definitions, instance)[1] == []


def test_the_schedule_begins_a_production_run(environment):
    definitions = toy_definitions(environment)
    schedule = definitions.resolve_schedule_def(SCHEDULE)
    with dg.DagsterInstance.ephemeral() as instance:
        tick = schedule.evaluate_tick(dg.build_schedule_context(instance=instance))
    (request,) = tick.run_requests
    assert request.tags[PRODUCTION_TAG] == BEGINS
    assert schedule.job_name == NATIONAL_INPUTS
