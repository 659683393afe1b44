"""The production schedule, and the sensor that carries a production run on.

Belongs here: what asks for runs of a production. Does not belong here: the rules of what comes next
(``progress.py``), files that changed (``changed_files.py``).

The sensor looks at the history of runs, not at single events. What happened while it was off is
seen when it is turned on, and a cancelled run is noticed like a failed one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import dagster as dg

from pipeline.automation.history import BEGINS, FAILED_TAG, joined, recent_productions
from pipeline.automation.progress import Progress
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, PRODUCTION_TAG, STATES
from pipeline.specs.operation import Schedule

if TYPE_CHECKING:
    from pipeline.jobs import AssetJob

SCHEDULE, SENSOR = "production", "production_run"
SECONDS_BETWEEN_LOOKS = 15
PRIORITY_TAG = "dagster/priority"


def production_schedule(job: AssetJob, schedule: Schedule) -> dg.ScheduleDefinition:
    """Begins a production run at the profile's time."""
    return dg.ScheduleDefinition(
        name=SCHEDULE,
        job=job,
        cron_schedule=schedule.cron,
        execution_timezone=schedule.timezone,
        tags={PRODUCTION_TAG: BEGINS},
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description=(
            "Begins a production run of all states with the national inputs. Turn on the sensor"
            f" {SENSOR} as well: it starts the states, and then the national tables."
        ),
    )


def requests(progress: Progress, order: Sequence[str]) -> Iterator[dg.RunRequest]:
    """What a production run needs now: states, the largest first, or the national tables.

    A key is the same for the same request, so that asking twice starts one run.
    """
    for state, attempt in progress.to_start:
        yield state_request(progress.origin, state, attempt, order)
    if progress.wants_national:
        lost = [*progress.failed, *progress.canceled]
        yield dg.RunRequest(
            job_name=NATIONAL_OUTPUTS,
            run_key=f"{progress.origin}:national",
            tags={
                PRODUCTION_TAG: progress.origin,
                **({FAILED_TAG: joined(sorted(lost))} if lost else {}),
            },
        )


def state_request(
    origin: str, state: str, attempt: int, order: Sequence[str], **tags: str
) -> dg.RunRequest:
    """One state of a production run; ``order``: all states, the largest first, which the queue
    takes first too."""
    priority = str(len(order) - list(order).index(state))
    return dg.RunRequest(
        job_name=STATES,
        run_key=f"{origin}:{state}:{attempt}",
        partition_key=state,
        tags={PRODUCTION_TAG: origin, PRIORITY_TAG: priority, **tags},
    )


def production_sensor(
    jobs: dict[str, AssetJob], states: Sequence[str], retries: int
) -> dg.SensorDefinition:
    """Starts the states of a production run, starts failed ones again ``retries`` times, and then
    the national tables, whatever the states came to."""
    follows = [jobs[name] for name in (STATES, NATIONAL_OUTPUTS) if name in jobs]

    @dg.sensor(
        name=SENSOR,
        jobs=follows,
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Carries a production run on: starts every state after the national inputs, starts a"
            f" failed state again {retries} times at most, and makes the national tables once every"
            " state has ended. States that failed are named in the tags of that run."
        ),
    )
    def production_run(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        found = recent_productions(context.instance, states, retries)
        wanted = [request for progress in found for request in requests(progress, states)]
        wanted = [request for request in wanted if request.job_name in jobs]
        if wanted:
            return dg.SensorResult(run_requests=wanted)
        waiting = [
            f"{progress.origin[:8]} waits for {', '.join(progress.waiting) or NATIONAL_OUTPUTS}"
            for progress in found
            if not progress.ended
        ]
        idle = f"No production run is under way; {NATIONAL_INPUTS} begins one."
        return dg.SkipReason("; ".join(waiting) or idle)

    return production_run
