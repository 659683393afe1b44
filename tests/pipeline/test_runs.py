"""A run of several states in one process: order, failures, history."""

from __future__ import annotations

import os
import signal

import dagster as dg
import polars as pl
import pytest
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.run_events import AssetEvent, failure_message
from pipeline.runs import job_steps, run_profile
from pipeline.settings import RunEnvironment, ensure_instance_home
from tests.pipeline.toy import toy_definitions


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def test_nation_then_states_then_nation_and_all_of_it_in_the_history(environment):
    events: list[AssetEvent] = []
    outcome = run_profile(
        toy_definitions(environment), environment, ["RI", "DE"], listener=events.append
    )
    assert outcome.success
    assert [(job.job, job.partition) for job in outcome.jobs] == [
        (NATIONAL_INPUTS, None),
        (STATES, "RI"),
        (STATES, "DE"),
        (NATIONAL_OUTPUTS, None),
    ]
    assert [(e.kind, e.asset) for e in events][:4] == [
        ("started", "nation"),
        ("finished", "nation"),
        ("started", "weights"),
        ("finished", "weights"),
    ]
    assert set(outcome.jobs[1].seconds) == {"weights"}
    assert pl.read_parquet(environment.table_path("national_report"))["state"].to_list() == [
        "DE",
        "RI",
    ]
    with dg.DagsterInstance.from_config(str(ensure_instance_home(environment))) as instance:
        assert instance.get_materialized_partitions(dg.AssetKey("weights")) == {"RI", "DE"}
        assert instance.get_runs_count() == 4


def test_a_failed_state_leaves_the_others_and_its_own_previous_result(environment):
    assert run_profile(toy_definitions(environment), environment, ["RI", "DE"]).success
    before = environment.table_path("weights", "RI").read_bytes()
    outcome = run_profile(toy_definitions(environment, broken=("RI",)), environment, ["RI", "DE"])
    assert not outcome.success
    assert outcome.failed_states == ["RI"]
    assert "csv_pri.zip" in outcome.jobs[1].failures["weights"]
    assert "Download it again" in outcome.jobs[1].failures["weights"]
    assert "SourceFileError" in outcome.jobs[1].traceback
    assert environment.table_path("weights", "RI").read_bytes() == before
    assert outcome.jobs[2].success
    assert outcome.jobs[-1].job == NATIONAL_OUTPUTS


def test_no_state_starts_when_the_national_inputs_fail(environment):
    outcome = run_profile(
        toy_definitions(environment, nation_broken=True), environment, ["RI", "DE"]
    )
    assert not outcome.success
    assert outcome.not_started == ["RI", "DE"]
    assert len(outcome.jobs) == 1
    assert outcome.jobs[0].failures["nation"].startswith("A raw file is missing.")


def interrupting(kind: str, asset: str, partition: str | None, events: list[AssetEvent]):
    """A listener that presses Ctrl-C at one event."""

    def listen(event: AssetEvent) -> None:
        events.append(event)
        if (event.kind, event.asset, event.partition) == (kind, asset, partition):
            os.kill(os.getpid(), signal.SIGINT)

    return listen


class CtrlC:
    """Asked inside ``weights`` whether the state is broken; for Rhode Island Ctrl-C comes instead
    of an answer, or an error that it caused.
    """

    def __init__(self, way: str) -> None:
        self.way = way

    def __contains__(self, state: str) -> bool:
        if state == "RI" and self.way == "signal":
            os.kill(os.getpid(), signal.SIGINT)
        elif state == "RI":
            raise RuntimeError("the solver was stopped") from KeyboardInterrupt()
        return False


@pytest.fixture(params=["signal", "cause"])
def interrupted(request, environment) -> dg.Definitions:
    return toy_definitions(environment, broken=CtrlC(request.param))


def test_ctrl_c_in_a_state_ends_the_run_and_keeps_what_was_made(environment, interrupted):
    assert run_profile(toy_definitions(environment), environment, ["RI", "DE"]).success
    kept = {
        name: environment.table_path(*name).read_bytes()
        for name in [("weights", "RI"), ("weights", "DE"), ("national_report",)]
    }
    events: list[AssetEvent] = []
    outcome = run_profile(interrupted, environment, ["RI", "DE"], listener=events.append)
    assert outcome.interrupted and not outcome.success
    assert outcome.not_started == ["DE"]
    assert [(job.job, job.partition) for job in outcome.jobs] == [
        (NATIONAL_INPUTS, None),
        (STATES, "RI"),
    ]
    assert (
        outcome.jobs[-1].interrupted_step,
        outcome.jobs[-1].failures,
        outcome.failed_states,
    ) == ("weights", {}, [])
    assert [e.kind for e in events if e.partition == "RI"] == ["started", "interrupted"]
    assert (
        outcome.interruption
        == "Interrupted during RI, asset weights. Not started: DE. What was made before is kept."
    )
    assert {name: environment.table_path(*name).read_bytes() for name in kept} == kept


@pytest.mark.parametrize(
    ("asset", "partition", "jobs", "not_started", "says"),
    [
        pytest.param(
            "nation",
            None,
            1,
            ["RI", "DE"],
            "Interrupted during nation. Not started: RI, DE.",
            id="national inputs",
        ),
        pytest.param(
            "weights",
            "RI",
            2,
            ["DE"],
            "Interrupted during RI. Not started: DE.",
            id="a state's last step",
        ),
        pytest.param(
            "national_report",
            None,
            4,
            [],
            "Interrupted during nation. What was",
            id="national tables",
        ),
    ],
)
def test_ctrl_c_between_steps_is_not_forgotten(
    environment, asset, partition, jobs, not_started, says
):
    outcome = run_profile(
        toy_definitions(environment),
        environment,
        ["RI", "DE"],
        listener=interrupting("finished", asset, partition, []),
    )
    assert outcome.interrupted and not outcome.success
    assert (len(outcome.jobs), outcome.not_started) == (jobs, not_started)
    assert outcome.interruption.startswith(says)


@pytest.mark.parametrize("error", [KeyboardInterrupt, DagsterExecutionInterruptedError])
def test_ctrl_c_outside_any_step_ends_the_run_too(environment, monkeypatch, error):
    whole = dg.JobDefinition.execute_in_process

    def execute(job, **arguments):
        if arguments["partition_key"] == "RI":
            raise error
        return whole(job, **arguments)

    monkeypatch.setattr(dg.JobDefinition, "execute_in_process", execute)
    outcome = run_profile(toy_definitions(environment), environment, ["RI", "DE"])
    assert outcome.interrupted
    assert (
        outcome.interruption
        == "Interrupted during RI. Not started: DE. What was made before is kept."
    )
    assert len(outcome.jobs) == 2


def test_a_failure_is_no_interruption(environment):
    outcome = run_profile(toy_definitions(environment, broken=("RI",)), environment, ["RI", "DE"])
    assert (outcome.interrupted, outcome.interruption) == (False, "")


def test_one_state_can_be_run_again_alone(environment):
    definitions = toy_definitions(environment)
    run_profile(definitions, environment, ["RI", "DE"])
    other = environment.table_path("weights", "DE").read_bytes()
    first = environment.table_path("weights", "RI").read_bytes()
    assert run_profile(definitions, environment, ["RI"]).success
    assert environment.table_path("weights", "RI").read_bytes() == first
    assert environment.table_path("weights", "DE").read_bytes() == other


def test_a_data_error_is_never_retried(environment):
    definitions = toy_definitions(environment, broken=("RI",))
    run_profile(definitions, environment, ["RI"])
    with dg.DagsterInstance.from_config(str(ensure_instance_home(environment))) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name=STATES))
        failures = [
            e.dagster_event
            for e in instance.all_logs(run.run_id)
            if e.dagster_event and e.dagster_event.is_step_failure
        ]
        assert not [
            e
            for e in instance.all_logs(run.run_id)
            if e.dagster_event and e.dagster_event.event_type_value == "STEP_UP_FOR_RETRY"
        ]
    assert (
        failures[0].step_failure_data.user_failure_data.metadata["remedy"].value
        == "Download it again"
    )


def test_steps_of_a_job_are_the_length_of_its_progress_bar(environment):
    definitions = toy_definitions(environment)
    assert [job_steps(definitions, job) for job in (NATIONAL_INPUTS, STATES, NATIONAL_OUTPUTS)] == [
        1,
        1,
        1,
    ]


def test_a_check_that_stops_the_run_is_named_with_what_to_do():
    @dg.asset(check_specs=[dg.AssetCheckSpec("population_agrees", asset="weights", blocking=True)])
    def weights():
        check = dg.AssetCheckResult(check_name="population_agrees", passed=False)
        return dg.MaterializeResult(check_results=[check])

    result = dg.materialize([weights], raise_on_error=False)
    (failure,) = (e for e in result.all_node_events if e.is_step_failure)
    message = failure_message(failure)
    assert "weights: population_agrees" in message and "What to do: " in message
    assert "Dagster" not in message
