"""Running the whole graph of a profile in this one process, recorded in the profile's Dagster
instance.

Belongs here: the order of the jobs, what happens when one fails or is interrupted, and timings out
of Dagster's events. Does not belong here: how progress looks (``pipeline/cli``) or what the
assets do.

One warm process costs half a second of bookkeeping per state where a run process of Dagster's own
costs several, and the UI shows the same history.
"""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterExecutionInterruptedError
from sqlalchemy.exc import DatabaseError

from pipeline import interrupts
from pipeline.errors import StoreError
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.run_events import AssetEvent, JobOutcome, asset_event, job_outcome
from pipeline.settings import IN_PROCESS_SETTINGS, RunEnvironment, ensure_instance_home


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
    an outcome, not an exception; a Ctrl-C that a library swallowed is sent again.
    """
    definition = definitions.resolve_job_def(job)
    run_id = str(uuid.uuid4())
    running = True

    def forward(entry: dg.EventLogEntry) -> None:
        if running:
            interrupts.again()
        event = asset_event(entry, job, partition)
        if listener is not None and event is not None:
            listener(event)

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
        running = False
        interrupts.answered()
        run = instance.get_run_by_id(run_id)
        if run is not None and not run.is_finished:
            instance.report_run_canceled(run)
        return JobOutcome(job, partition, run_id, False, {}, {}, interrupted=True)
    outcome = job_outcome(result.all_events, result.success, job, partition, run_id)
    asked = interrupts.answered()
    return replace(outcome, interrupted=outcome.interrupted or asked)


@contextlib.contextmanager
def _instance(environment: RunEnvironment) -> Iterator[dg.DagsterInstance]:
    """The profile's Dagster instance. Raises StoreError if its databases cannot be used."""
    home = ensure_instance_home(environment)
    try:
        with dg.DagsterInstance.from_config(str(home), IN_PROCESS_SETTINGS) as instance:
            yield instance
    except DatabaseError as error:
        raise StoreError(
            f"Dagster's record of runs cannot be read or written: {error.orig}",
            where=str(home),
            expected="a disk with room, and database files as Dagster wrote them",
            remedy=(
                "Free room on the disk; if a file is damaged, move this folder away: results stay"
                " where they are, and only the record of earlier runs is lost"
            ),
        ) from error


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

    Raises StoreError if the output folder or Dagster's databases in it cannot be used.
    """
    jobs = {job.name for job in definitions.resolve_all_job_defs()}
    outcomes: list[JobOutcome] = []
    with _instance(environment) as instance:
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
