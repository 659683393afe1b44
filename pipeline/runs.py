"""Running the whole graph of a profile in this one process, recorded in the profile's Dagster
instance.

Belongs here: the order of the jobs, what happens when one fails or is interrupted, and timings out
of Dagster's events. Does not belong here: how progress looks (``pipeline/cli.py``) or what the
assets do.

One warm process costs half a second of bookkeeping a state where a run process of Dagster's own
costs several, and the UI shows the same history.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError

from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.settings import RunEnvironment, ensure_instance_home


@dataclass(frozen=True)
class AssetEvent:
    """A step of a job began, said something, or ended. ``kind`` is ``started``, ``message``,
    ``finished``, ``failed`` or ``interrupted``; ``partition`` a state or None.
    """

    kind: str
    job: str
    partition: str | None
    asset: str
    seconds: float | None = None
    message: str = ""


@dataclass(frozen=True)
class JobOutcome:
    """One job run: which, for which state, whether it succeeded, seconds by asset, and what failed.

    ``interrupted``: Ctrl-C came while it ran; ``interrupted_step`` is the step it stopped, which is
    not among ``failures``, or empty.
    """

    job: str
    partition: str | None
    run_id: str
    success: bool
    seconds: dict[str, float]
    failures: dict[str, str]
    traceback: str = ""
    interrupted: bool = False
    interrupted_step: str = ""


@dataclass(frozen=True)
class ProfileOutcome:
    """All jobs of one call, in the order they ran, the states that were never started, and whether
    Ctrl-C ended it.
    """

    jobs: list[JobOutcome] = field(default_factory=list)
    not_started: list[str] = field(default_factory=list)
    interrupted: bool = False

    @property
    def success(self) -> bool:
        return (
            bool(self.jobs)
            and all(job.success for job in self.jobs)
            and not self.not_started
            and not self.interrupted
        )

    @property
    def failed_states(self) -> list[str]:
        return [
            job.partition
            for job in self.jobs
            if job.partition and not job.success and not job.interrupted
        ]

    @property
    def interruption(self) -> str:
        """What a person should read of Ctrl-C: where it came and which states it kept from
        starting; empty where none came.
        """
        job = next((job for job in self.jobs if job.interrupted), None)
        if job is None:
            return ""
        place = (job.partition or "nation") + (
            f", asset {job.interrupted_step}" if job.interrupted_step else ""
        )
        not_started = f" Not started: {', '.join(self.not_started)}." if self.not_started else ""
        return f"Interrupted during {place}.{not_started} What was made before is kept."


Listener = Callable[[AssetEvent], None]

_INTERRUPTIONS = {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}
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
    """Run one job in this process; ``config`` is run configuration by step. A failure or Ctrl-C is
    an outcome, not an exception.
    """
    definition = definitions.resolve_job_def(job)
    run_id = str(uuid.uuid4())

    def forward(entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if listener is None or entry.step_key is None:
            return
        if event is None:
            if entry.level >= logging.INFO:
                listener(AssetEvent("message", job, partition, entry.step_key, None, entry.message))
        elif event.is_step_start:
            listener(AssetEvent("started", job, partition, event.step_key))
        elif event.is_step_success:
            listener(
                AssetEvent(
                    "finished",
                    job,
                    partition,
                    event.step_key,
                    event.step_success_data.duration_ms / 1000,
                )
            )
        elif event.is_step_failure:
            kind = "interrupted" if is_interruption(event) else "failed"
            listener(
                AssetEvent(kind, job, partition, event.step_key, message=failure_message(event))
            )

    instance.add_event_listener(run_id, forward)
    try:
        result = definition.execute_in_process(
            instance=instance,
            partition_key=partition,
            run_id=run_id,
            run_config={**_QUIET, **({"ops": dict(config)} if config else {})},
            raise_on_error=False,
        )
    except (KeyboardInterrupt, DagsterExecutionInterruptedError):
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceled(run)
        return JobOutcome(job, partition, run_id, False, {}, {}, interrupted=True)
    seconds = {
        e.step_key: round(e.step_success_data.duration_ms / 1000, 3)
        for e in result.all_events
        if e.is_step_success
    }
    stopped = [e for e in result.all_events if e.is_step_failure and is_interruption(e)]
    failed = [e for e in result.all_events if e.is_step_failure and not is_interruption(e)]
    ended = [e.event_specific_data for e in result.all_events if e.is_run_failure]
    interrupted = bool(stopped) or any(
        _names_interruption(getattr(data, "error", None)) for data in ended
    )
    failures = {e.step_key: failure_message(e) for e in failed}
    if not result.success and not failures and not interrupted:
        failures = {
            job: (
                "; ".join(e.message or "" for e in result.all_events if e.is_run_failure)
                or "the run failed before its first step"
            )
        }
    skipped = sorted({e.step_key for e in result.all_events if e.is_step_skipped and e.step_key})
    if skipped and not failures and not interrupted:
        failures = dict.fromkeys(
            skipped,
            "The step was skipped, because a step before it made no table; report this with the"
            " profile and the state.",
        )
    traceback = "\n".join(
        e.step_failure_data.error.to_string()
        for e in failed
        if e.step_failure_data.error is not None
    )
    step = next((e.step_key for e in stopped if e.step_key), "")
    return JobOutcome(
        job,
        partition,
        run_id,
        result.success and not skipped,
        seconds,
        failures,
        traceback,
        interrupted,
        step,
    )


def is_interruption(event: dg.DagsterEvent) -> bool:
    """Whether a step failed because of Ctrl-C: the error, or one that caused it, is Dagster's or
    Python's interruption.
    """
    return event.step_failure_data is not None and _names_interruption(
        event.step_failure_data.error
    )


def _names_interruption(error: Any) -> bool:
    """Whether a recorded error (``SerializableErrorInfo``) or one in its chain of causes is an
    interruption.
    """
    while error is not None:
        if error.cls_name in _INTERRUPTIONS:
            return True
        error = error.cause
    return False


def failure_message(event: dg.DagsterEvent) -> str:
    """What a person should read of a failed step: the GeocalError's text where there is one, else
    the last cause.
    """
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

    A failed state leaves the others standing; national tables are made whenever at least one state
    succeeded now (they read every state that has been materialised, whenever that was). If the
    national inputs fail, no state starts. Ctrl-C ends the call: no further state starts and the
    national tables stay as they were; what was made before is kept.
    """
    home = ensure_instance_home(environment)
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    outcomes: list[JobOutcome] = []
    with dg.DagsterInstance.from_config(str(home)) as instance:
        if NATIONAL_INPUTS in jobs:
            outcomes.append(run_job(definitions, NATIONAL_INPUTS, instance, listener=listener))
            if not outcomes[-1].success or outcomes[-1].interrupted:
                return ProfileOutcome(outcomes, list(states), outcomes[-1].interrupted)
        for number, state in enumerate(states, start=1):
            outcomes.append(
                run_job(
                    definitions,
                    STATES,
                    instance,
                    partition=state,
                    listener=listener,
                    config=state_config,
                )
            )
            if outcomes[-1].interrupted:
                return ProfileOutcome(outcomes, list(states[number:]), True)
        if NATIONAL_OUTPUTS in jobs and any(
            outcome.success and outcome.job == STATES for outcome in outcomes
        ):
            outcomes.append(run_job(definitions, NATIONAL_OUTPUTS, instance, listener=listener))
    return ProfileOutcome(outcomes, [], any(outcome.interrupted for outcome in outcomes))
