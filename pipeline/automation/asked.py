"""A production run that a person asks for: begun through the instance's queue, watched, cancelled.

Belongs here: what ``geocal backfill`` does with Dagster. Does not belong here: words on a terminal
(``cli/backfill.py``), or carrying the run on: the daemon's sensor does (``production.py``).

Nothing runs in the process that asks. Whatever the instance is configured to, processes of this
machine, workers of Celery or jobs of Kubernetes, does the work, and goes on when it has left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.scheduler.instigation import InstigatorStatus
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from pipeline.automation.history import (
    BEGINS,
    GIVEN_UP_TAG,
    WANTED_TAG,
    joined,
    production,
    runs_of,
)
from pipeline.automation.production import SENSOR
from pipeline.automation.progress import Progress
from pipeline.errors import StoreError
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES

_LOCATION = "geocal"
_LAUNCH = """
mutation Begin($parameters: ExecutionParams!) {
  launchRun(executionParams: $parameters) {
    __typename
    ... on LaunchRunSuccess { run { runId } }
    ... on PythonError { message }
    ... on PipelineNotFoundError { message }
  }
}
"""
# What must run for anything to come of it, and what it is called in the settings.
_NEEDED_DAEMONS = ("SENSOR", "QUEUED_RUN_COORDINATOR")
_SECONDS_TO_CANCEL = 90.0


def require_operation(instance: dg.DagsterInstance, workspace: Path) -> None:
    """Raise StoreError if nothing would carry a production run on: no daemon, or its sensor is
    off."""
    found = instance.get_daemon_statuses()
    idle = [name for name in _NEEDED_DAEMONS if name not in found or not found[name].healthy]
    if idle:
        raise StoreError(
            "No daemon looks after this instance",
            where=instance.root_directory,
            expected="a running `geocal ui`, or `dagster-daemon run`",
            remedy="Start one of them, then ask again (docs/operating.md)",
        )
    states = instance.all_instigator_state()
    on = {s.instigator_name for s in states if s.status == InstigatorStatus.RUNNING}
    if SENSOR not in on:
        raise StoreError(
            f"The sensor {SENSOR} is off, which starts the states",
            where=instance.root_directory,
            expected="the sensor turned on",
            remedy=f"dagster sensor start {SENSOR} -w {workspace}",
        )


def begin(instance: dg.DagsterInstance, workspace: Path, states: Sequence[str]) -> str:
    """Put the national inputs of a production run over ``states`` into the queue; returns the run's
    id, which names the production. Raises StoreError if the code location cannot be loaded.
    """
    tags = {PRODUCTION_TAG: BEGINS, WANTED_TAG: joined(states)}
    return _launched(instance, workspace, NATIONAL_INPUTS, tags)


def national_tables(instance: dg.DagsterInstance, workspace: Path) -> str:
    """Put the national tables alone into the queue; returns the run's id. Raises StoreError if the
    code location cannot be loaded.
    """
    return _launched(instance, workspace, NATIONAL_OUTPUTS, {})


def _launched(
    instance: dg.DagsterInstance, workspace: Path, job: str, tags: Mapping[str, str]
) -> str:
    # Here, because it builds Dagster's whole schema.
    from dagster_graphql.cli import execute_query

    parameters: dict[str, Any] = {
        "selector": {
            "repositoryLocationName": _LOCATION,
            "repositoryName": "__repository__",
            "jobName": job,
        },
        "mode": "default",
        "runConfigData": {},
        "executionMetadata": {"tags": [{"key": k, "value": v} for k, v in tags.items()]},
    }
    target = WorkspaceFileTarget([str(workspace)])
    with WorkspaceProcessContext(instance, target) as context:
        answer = execute_query(context, _LAUNCH, {"parameters": parameters})
    launched = (answer.get("data") or {}).get("launchRun") or {}
    if "run" not in launched:
        raise StoreError(
            f"The run was refused: {launched.get('message') or answer.get('errors')}",
            where=str(workspace),
            expected="a code location that loads",
            remedy="Look at the code location in the UI (Deployment), or run `dg check defs`",
        )
    return str(launched["run"]["runId"])


def national_inputs(instance: dg.DagsterInstance, origin: str) -> dg.DagsterRun:
    """The run that began a production. Raises StoreError if there is none."""
    run = instance.get_run_by_id(origin)
    if run is None or run.job_name != NATIONAL_INPUTS:
        raise StoreError(
            f"There is no production run {origin}",
            where=instance.root_directory,
            expected=f"the id of a run of {NATIONAL_INPUTS}",
            remedy="Look for it under Runs in the UI",
        )
    return run


def progress_now(
    instance: dg.DagsterInstance, origin: str, states: Sequence[str], retries: int
) -> Progress:
    """Where a production stands, once its national inputs are made."""
    return production(instance, origin, states, retries)


def cancel(instance: dg.DagsterInstance, origin: str) -> list[str]:
    """Cancel every run of a production that has not ended, and begin no more of them; returns what
    was asked to stop, as job or state. Waits until all have ended, at most ``_SECONDS_TO_CANCEL``.
    """
    instance.add_run_tags(origin, {GIVEN_UP_TAG: "true"})
    asked: dict[str, str] = {}
    until, quiet = time.monotonic() + _SECONDS_TO_CANCEL, 0
    # The daemon may be starting a state at this very moment: look again until it is quiet.
    while quiet < 2 and time.monotonic() < until:
        first = instance.get_run_by_id(origin)
        runs = [
            first,
            *(r for job in (STATES, NATIONAL_OUTPUTS) for r in runs_of(instance, job, origin)),
        ]
        going = [run for run in runs if run is not None and not run.is_finished]
        quiet = 0 if going else quiet + 1
        for run in going:
            if run.run_id not in asked:
                asked[run.run_id] = run.tags.get("dagster/partition", run.job_name)
                _stop(instance, run)
        time.sleep(1)
    return sorted(asked.values())


def _stop(instance: dg.DagsterInstance, run: dg.DagsterRun) -> None:
    if run.status in (dg.DagsterRunStatus.QUEUED, dg.DagsterRunStatus.NOT_STARTED):
        instance.report_run_canceled(run)
        return
    if run.status != dg.DagsterRunStatus.CANCELING:
        instance.report_run_canceling(run)
    # Monitoring ends what does not answer (`cancel_timeout_seconds`).
    instance.run_launcher.terminate(run.run_id)
