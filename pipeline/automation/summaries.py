"""The sensor that tells of runs that ended.

Belongs here: which runs are new since the last look, and what is remembered. Does not belong here:
words, file and webhook (``notices.py``).

Every ended run is a line in the file. The webhook hears of the end of a production run, of national
inputs that failed (nothing else then starts), and of a failed run that belongs to no production. A
notice that does not get through is tried again at ``TRIES`` looks, then given up.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg
from dagster._core.storage.dagster_run import FINISHED_STATUSES
from dagster._core.storage.tags import PARTITION_NAME_TAG

from pipeline.automation.history import recent_productions, runs_of
from pipeline.automation.notices import (
    FOLDER,
    Notice,
    append_to_file,
    deliver,
    of_production,
    redacted,
    webhook,
)
from pipeline.automation.progress import Progress
from pipeline.errors import DeliveryError
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES
from pipeline.run_events import failure_message
from pipeline.settings import RunEnvironment

SENSOR = "run_summaries"
SECONDS_BETWEEN_LOOKS = 30
TRIES = 3
MOST_AT_A_LOOK = 200
# Runs are found by when they changed; a record written late by another process may carry an earlier
# time than one already seen.
_OVERLAP = timedelta(minutes=5)
_REMEMBERED = 1000


@dataclass
class Memory:
    """``since``: look at runs changed after this time (ISO); ``told``: ids of runs and origins of
    productions told of, oldest first; ``undelivered``: notices with the tries made."""

    since: str
    told: list[str] = field(default_factory=list)
    undelivered: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def from_cursor(cls, cursor: str | None) -> Memory | None:
        try:
            stated = json.loads(cursor or "")
            return cls(stated["since"], list(stated["told"]), list(stated["undelivered"]))
        except (ValueError, KeyError, TypeError):
            return None

    def cursor(self) -> str:
        kept = {**vars(self), "told": self.told[-_REMEMBERED:]}
        return json.dumps(kept, sort_keys=True)


def failures_of(instance: dg.DagsterInstance, run: dg.DagsterRun) -> list[str]:
    """What a person should read of a run that failed, a line for each step; empty of others."""
    if run.status != dg.DagsterRunStatus.FAILURE:
        return []
    entries = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
    said = [f"asset {event.step_key}: {failure_message(event)}" for event in events]
    return [" ".join(text.split()) for text in said] or ["the run ended outside its steps"]


def of_run(instance: dg.DagsterInstance, run: dg.DagsterRun, profile: str) -> Notice:
    """One ended run."""
    place = run.tags.get(PARTITION_NAME_TAG, "nation")
    word = {"SUCCESS": "succeeded", "FAILURE": "FAILED", "CANCELED": "was cancelled"}
    headline = f"Run {run.run_id} ({run.job_name}, {place}) of {profile} {word[run.status.value]}"
    production = run.tags.get(PRODUCTION_TAG) is not None
    calls = run.status == dg.DagsterRunStatus.FAILURE and (
        not production or run.job_name == NATIONAL_INPUTS
    )
    return Notice(headline, tuple(failures_of(instance, run)), calls)


def _new_runs(instance: dg.DagsterInstance, memory: Memory) -> Sequence[dg.DagsterRun]:
    since = datetime.fromisoformat(memory.since)
    filters = dg.RunsFilter(statuses=FINISHED_STATUSES, updated_after=since - _OVERLAP)
    records = instance.get_run_records(
        filters,
        limit=MOST_AT_A_LOOK + len(memory.told),
        order_by="update_timestamp",
        ascending=True,
    )
    known = set(memory.told)
    fresh = [r for r in records if r.dagster_run.run_id not in known][:MOST_AT_A_LOOK]
    if fresh:
        newest = fresh[-1].update_timestamp.astimezone(UTC)
        memory.since = max(since, newest).isoformat()
    return [record.dagster_run for record in fresh]


def _production_notice(instance: dg.DagsterInstance, progress: Progress, profile: str) -> Notice:
    failures: dict[str, list[str]] = {}
    lost = {*progress.failed, *progress.canceled}
    runs = [*runs_of(instance, STATES, progress.origin)]
    tables = runs_of(instance, NATIONAL_OUTPUTS, progress.origin)
    for run in reversed(runs):
        state = run.tags.get(PARTITION_NAME_TAG, "")
        if state in lost:
            # The newest attempt stands for those before it.
            failures[state] = failures_of(instance, run)
    for run in tables[:1]:
        failures["nation"] = failures_of(instance, run)
    return of_production(profile, progress, failures, _seconds(instance, [*runs, *tables]))


def _seconds(instance: dg.DagsterInstance, runs: Sequence[dg.DagsterRun]) -> float | None:
    if not runs:
        return None
    records = instance.get_run_records(dg.RunsFilter(run_ids=[run.run_id for run in runs]))
    begun = [record.start_time for record in records if record.start_time is not None]
    ended = [record.end_time for record in records if record.end_time is not None]
    return max(ended) - min(begun) if begun and ended else None


def _tell(notices: Iterable[Notice], memory: Memory, environment: RunEnvironment) -> None:
    for notice in notices:
        append_to_file(environment.root / FOLDER, notice, datetime.now(UTC))
        if notice.calls:
            entry = {"headline": notice.headline, "lines": list(notice.lines), "tries": 0}
            memory.undelivered.append(entry)


def _deliver_all(memory: Memory, log: Any) -> None:
    url, left = webhook(), []
    for entry in memory.undelivered if url else ():
        try:
            deliver(url or "", Notice(entry["headline"], tuple(entry["lines"])))
        except DeliveryError as error:
            entry["tries"] += 1
            again = entry["tries"] < TRIES
            log.warning(f"{error}" + ("" if again else f"; given up after {TRIES} tries"))
            left += [entry] if again else []
        else:
            log.info(f"Told {redacted(url or '')}: {entry['headline']}")
    memory.undelivered = left


def summaries_sensor(
    profile: str, environment: RunEnvironment, states: Sequence[str], retries: int
) -> dg.SensorDefinition:
    """Writes a summary of every ended run to ``notices/notices.log`` in the profile's output, and
    sends those that call for a person to the webhook."""

    @dg.sensor(
        name=SENSOR,
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            f"Writes what ended to {FOLDER}/{'notices.log'} of the profile's output folder. The end"
            " of a production run and failures that nobody follows up also go to the address in"
            " GEOCAL_WEBHOOK_URL, if it is set. Starts nothing."
        ),
    )
    def run_summaries(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        instance = context.instance
        found = [p for p in recent_productions(instance, states, retries) if p.ended]
        memory = Memory.from_cursor(context.cursor)
        if memory is None:
            memory = Memory(datetime.now(UTC).isoformat(), [p.origin + ":end" for p in found])
            memory.told += [run.run_id for run in _new_runs(instance, memory)]
            return dg.SensorResult(cursor=memory.cursor(), skip_reason="First look.")
        runs = _new_runs(instance, memory)
        notices = [of_run(instance, run, profile) for run in runs]
        memory.told += [run.run_id for run in runs]
        ended = [p for p in found if p.origin + ":end" not in memory.told]
        notices += [_production_notice(instance, progress, profile) for progress in ended]
        memory.told += [progress.origin + ":end" for progress in ended]
        _tell(notices, memory, environment)
        _deliver_all(memory, context.log)
        said = f"{len(notices)} told; {len(memory.undelivered)} not yet delivered."
        return dg.SensorResult(cursor=memory.cursor(), skip_reason=said)

    return run_summaries
