"""Running the whole graph of a profile in this one process, recorded in the profile's Dagster instance.

Belongs here: the order of the jobs, what happens when one fails, and timings out of Dagster's events.
Does not belong here: how progress looks (``pipeline/cli.py``) or what the assets do.

One warm process costs half a second of bookkeeping a state where a run process of Dagster's own costs several,
and the UI shows the same history.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.settings import RunEnvironment, ensure_instance_home


@dataclass(frozen=True)
class AssetEvent:
    """A step of a job began or ended. ``kind`` is ``started``, ``finished`` or ``failed``; ``partition`` a state or None."""

    kind: str
    job: str
    partition: str | None
    asset: str
    seconds: float | None = None
    message: str = ""


@dataclass(frozen=True)
class JobOutcome:
    """One job run: which, for which state, whether it succeeded, seconds by asset, and what failed."""

    job: str
    partition: str | None
    run_id: str
    success: bool
    seconds: dict[str, float]
    failures: dict[str, str]
    traceback: str = ""


@dataclass(frozen=True)
class ProfileOutcome:
    """All jobs of one call, in the order they ran, and the states that were never started."""

    jobs: list[JobOutcome] = field(default_factory=list)
    not_started: list[str] = field(default_factory=list)

    @property
    def success(self) -> bool:
        return bool(self.jobs) and all(job.success for job in self.jobs) and not self.not_started

    @property
    def failed_states(self) -> list[str]:
        return [job.partition for job in self.jobs if job.partition and not job.success]


Listener = Callable[[AssetEvent], None]

_QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


def job_steps(definitions: dg.Definitions, job: str) -> int:
    """Number of steps of a job: the denominator of a progress bar."""
    return len(definitions.resolve_job_def(job).graph.node_defs)


def run_job(
    definitions: dg.Definitions,
    job: str,
    instance: dg.DagsterInstance,
    *,
    partition: str | None = None,
    listener: Listener | None = None,
    config: Mapping[str, Any] | None = None,
) -> JobOutcome:
    """Run one job in this process; ``config`` is run configuration by step. A failure is an outcome, not an exception."""
    definition = definitions.resolve_job_def(job)
    run_id = str(uuid.uuid4())

    def forward(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if listener is None or event is None or event.step_key is None:
            return
        if event.is_step_start:
            listener(AssetEvent("started", job, partition, event.step_key))
        elif event.is_step_success:
            listener(AssetEvent("finished", job, partition, event.step_key, event.step_success_data.duration_ms / 1000))
        elif event.is_step_failure:
            listener(AssetEvent("failed", job, partition, event.step_key, message=failure_message(event)))

    instance.add_event_listener(run_id, forward)
    result = definition.execute_in_process(
        instance=instance, partition_key=partition, run_id=run_id, run_config={**_QUIET, **({"ops": dict(config)} if config else {})}, raise_on_error=False
    )
    seconds = {e.step_key: round(e.step_success_data.duration_ms / 1000, 3) for e in result.all_events if e.is_step_success}
    failed = [e for e in result.all_events if e.is_step_failure]
    failures = {e.step_key: failure_message(e) for e in failed}
    if not result.success and not failures:
        failures = {job: "; ".join(e.message or "" for e in result.all_events if e.is_run_failure) or "the run failed before its first step"}
    skipped = sorted({e.step_key for e in result.all_events if e.is_step_skipped and e.step_key})
    if skipped and not failures:
        failures = dict.fromkeys(skipped, "The step was skipped, because a step before it made no table; report this with the profile and the state.")
    traceback = "\n".join(e.step_failure_data.error.to_string() for e in failed if e.step_failure_data.error is not None)
    return JobOutcome(job, partition, run_id, result.success and not skipped, seconds, failures, traceback)


def failure_message(event: dg.DagsterEvent) -> str:
    """What a person should read of a failed step: the GeocalError's text where there is one, else the last cause."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return (error.message if error is not None else event.message or "unknown failure").strip()


def run_profile(
    definitions: dg.Definitions,
    environment: RunEnvironment,
    states: Sequence[str],
    *,
    listener: Listener | None = None,
    state_config: Mapping[str, Any] | None = None,
) -> ProfileOutcome:
    """National inputs, then each state (with ``state_config`` by step), then the national tables.

    A failed state leaves the others standing; national tables are made whenever at least one state succeeded now
    (they read every state that has been materialised, whenever that was). If the national inputs fail, no state starts.
    """
    home = ensure_instance_home(environment)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    outcomes: list[JobOutcome] = []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        if NATIONAL_INPUTS in jobs:
            outcomes.append(run_job(definitions, NATIONAL_INPUTS, instance, listener=listener))
            if not outcomes[-1].success:
                return ProfileOutcome(outcomes, list(states))
        state_outcomes = [run_job(definitions, STATES, instance, partition=state, listener=listener, config=state_config) for state in states]
        outcomes += state_outcomes
        if NATIONAL_OUTPUTS in jobs and any(outcome.success for outcome in state_outcomes):
            outcomes.append(run_job(definitions, NATIONAL_OUTPUTS, instance, listener=listener))
    return ProfileOutcome(outcomes, [])
