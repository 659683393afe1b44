"""Production runs as Dagster's history has them.

Belongs here: tags of production runs, and reading runs into ``Progress``. Does not belong here: the
rules (``progress.py``) or asking for runs (``production.py``).

A production run is named by its origin: the id of the run of ``national_inputs`` that began it, or
``files-...`` where changed files of single states did. Every other run of it carries the origin
under the tag ``geocal/production``, so that a run started again in the UI still belongs to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import dagster as dg
from dagster._core.storage.tags import AUTO_RETRY_RUN_ID_TAG, PARTITION_NAME_TAG, WILL_RETRY_TAG

from pipeline.automation.progress import Progress, Status, progress_of
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES

BEGINS = "true"
"""Value of the production tag on the run of national inputs that begins a production run."""
WANTED_TAG = "geocal/wanted_states"
"""States of a production run that is not over all of them: on its first run, or on each run of a
state where it began with changed files."""
FAILED_TAG = "geocal/failed_states"
"""On the run of national tables: states that failed or were cancelled in this production run."""
CHANGED_TAG = "geocal/changed_files"
GIVEN_UP_TAG = "geocal/given_up"
"""On the first run of a production that a person cancelled: nothing more of it is begun."""
BEGUN_BY_FILES_TAG = "geocal/begun_by"
FILES = "changed_files"

# As many production runs are looked after at a time; older ones have ended, or nobody waits.
RECENT = 5
_RECENT_RUNS = 300


def status_of(run: dg.DagsterRun) -> Status:
    """What a run came to. One that crashed and that Dagster itself will start again is waiting."""
    if run.status == dg.DagsterRunStatus.SUCCESS:
        return "made"
    if run.status == dg.DagsterRunStatus.CANCELED:
        return "canceled"
    if run.status == dg.DagsterRunStatus.FAILURE:
        again = run.tags.get(WILL_RETRY_TAG) == "true" and AUTO_RETRY_RUN_ID_TAG not in run.tags
        return "waiting" if again else "failed"
    return "waiting"


def listed(text: str | None) -> list[str]:
    """Postal codes of a tag."""
    return [part for part in (text or "").split(",") if part]


def recent_productions(
    instance: dg.DagsterInstance, states: Sequence[str], retries: int
) -> list[Progress]:
    """The newest production runs whose states have begun or may begin, newest first."""
    wanted: dict[str, list[str]] = {}
    began = dg.RunsFilter(
        job_name=NATIONAL_INPUTS,
        tags={PRODUCTION_TAG: BEGINS},
        statuses=[dg.DagsterRunStatus.SUCCESS],
    )
    for run in instance.get_runs(began, limit=RECENT):
        if GIVEN_UP_TAG not in run.tags:
            asked = set(listed(run.tags.get(WANTED_TAG)) or states)
            wanted[run.run_id] = [state for state in states if state in asked]
    by_files = dg.RunsFilter(job_name=STATES, tags={BEGUN_BY_FILES_TAG: FILES})
    for run in instance.get_runs(by_files, limit=_RECENT_RUNS):
        origin = run.tags.get(PRODUCTION_TAG)
        if origin is not None and len(wanted) < 2 * RECENT:
            # What the profile no longer has cannot be asked for.
            asked = set(listed(run.tags.get(WANTED_TAG)))
            wanted.setdefault(origin, [state for state in states if state in asked])
    return [production(instance, origin, wanted[origin], retries) for origin in wanted]


def production(
    instance: dg.DagsterInstance, origin: str, states: Sequence[str], retries: int
) -> Progress:
    """One production run over ``states``."""
    attempts: dict[str, list[Status]] = {}
    for run in reversed(runs_of(instance, STATES, origin)):
        attempts.setdefault(run.tags.get(PARTITION_NAME_TAG, ""), []).append(status_of(run))
    tables = [status_of(run) for run in runs_of(instance, NATIONAL_OUTPUTS, origin)]
    return progress_of(origin, states, attempts, tables[0] if tables else None, retries)


def runs_of(instance: dg.DagsterInstance, job: str, origin: str) -> Sequence[dg.DagsterRun]:
    """Runs of one job that belong to a production run, newest first."""
    return instance.get_runs(dg.RunsFilter(job_name=job, tags={PRODUCTION_TAG: origin}))


def joined(states: Iterable[str]) -> str:
    """Postal codes as a tag has them."""
    return ",".join(states)
