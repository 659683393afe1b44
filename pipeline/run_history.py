"""What Dagster's record of runs says of a state: which assets failed last, which runs are going on,
and which only look so.

Belongs here: reading the record, and ending runs whose process is gone. Does not belong here:
events of one run (``run_events.py``), running (``runs.py``), which tables are stale (``currency``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import dagster as dg
from dagster._core.execution.stats import StepEventStatus

from pipeline.processes import PROCESS_TAG, process_lives

PARTITION_TAG = "dagster/partition"
# A state's newest runs that are looked through for what its assets came to last.
LOOKED_THROUGH = 12
# The nation's runs stand among those of all states in the record.
NATION_LOOKED_THROUGH = 300
_GOING_ON = [
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dataclass(frozen=True)
class History:
    """``failed``: steps that failed when they were last run, with the run's id; ``last``: the
    newest run's id and status; ``going_on``: ids of runs that are under way.
    """

    failed: Mapping[str, str] = field(default_factory=dict)
    last: tuple[str, str] | None = None
    going_on: tuple[str, ...] = ()


def end_dead_runs(instance: dg.DagsterInstance) -> list[str]:
    """End runs of `geocal run` that stand as going on and whose process is gone; their ids."""
    ended = []
    for run in instance.get_runs(dg.RunsFilter(statuses=_GOING_ON)):
        tag = run.tags.get(PROCESS_TAG)
        if tag is not None and not process_lives(tag):
            message = (
                "The process of this run ended without a word (killed, or the machine went down)."
                " Tables that it had made are kept; the next run makes the others."
            )
            instance.report_run_failed(run, message)
            ended.append(run.run_id)
    return ended


def history_of(instance: dg.DagsterInstance, state: str | None) -> History:
    """The record of a state, or of the nation (None)."""
    tags = {PARTITION_TAG: state} if state else None
    limit = LOOKED_THROUGH if state else NATION_LOOKED_THROUGH
    runs = [
        run
        for run in instance.get_runs(dg.RunsFilter(tags=tags), limit=limit)
        if state or PARTITION_TAG not in run.tags
    ][:LOOKED_THROUGH]
    seen: set[str] = set()
    failed: dict[str, str] = {}
    for run in runs:
        for step in instance.get_run_step_stats(run.run_id):
            if step.status == StepEventStatus.FAILURE and step.step_key not in seen:
                failed[step.step_key] = run.run_id
            if step.status in (StepEventStatus.FAILURE, StepEventStatus.SUCCESS):
                seen.add(step.step_key)
    last = (runs[0].run_id, runs[0].status.value) if runs else None
    return History(failed, last, tuple(run.run_id for run in runs if run.status in _GOING_ON))
