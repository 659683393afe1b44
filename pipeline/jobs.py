"""Jobs, the production schedule, and the sensors that carry a production run from the nation to the
states and back.

Belongs here: what runs together and what starts it. Does not belong here: assets.

Three jobs cover the graph, because a run has one partition or none: ``national_inputs`` (no
partition), ``states`` (one partition per run; backfill it for all), ``national_outputs`` (no
partition, reads every state). The schedule and both sensors are STOPPED until somebody turns them
on in the UI.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from dagster._core.definitions.unresolved_asset_job_definition import (
        UnresolvedAssetJobDefinition as AssetJob,
    )

NATIONAL_INPUTS = "national_inputs"
STATES = "states"
NATIONAL_OUTPUTS = "national_outputs"
PRODUCTION_TAG = "geocal/production"
PRODUCTION_CRON = "0 2 1 * *"


def build_jobs(assets: Sequence[dg.AssetsDefinition]) -> dict[str, AssetJob]:
    """The jobs by name. An unpartitioned asset with a partitioned ancestor belongs to
    ``national_outputs``; one without, to ``national_inputs``.
    """
    partitioned = {
        key for asset in assets for key in asset.keys if asset.partitions_def is not None
    }
    parents = {key: set(asset.asset_deps[key]) for asset in assets for key in asset.keys}

    def below_a_state(key: dg.AssetKey) -> bool:
        return key in partitioned or any(below_a_state(parent) for parent in parents.get(key, ()))

    inputs = [key for key in parents if not below_a_state(key)]
    outputs = [key for key in parents if key not in partitioned and below_a_state(key)]
    members = {NATIONAL_INPUTS: inputs, STATES: sorted(partitioned), NATIONAL_OUTPUTS: outputs}
    described = {
        NATIONAL_INPUTS: (
            "Read every national publication and build the nation's and states' targets."
        ),
        STATES: (
            "Everything of one state, from its files to its weights and report. One run per state;"
            " backfill for several."
        ),
        NATIONAL_OUTPUTS: "Tables of the nation made from all states that have weights.",
    }
    return {
        name: dg.define_asset_job(
            name, selection=dg.AssetSelection.assets(*sorted(keys)), description=described[name]
        )
        for name, keys in members.items()
        if keys
    }


def build_schedules(jobs: dict[str, AssetJob]) -> list[dg.ScheduleDefinition]:
    """A production run on the first of every month: it starts the national job, and the sensors do
    the rest.
    """
    if NATIONAL_INPUTS not in jobs:
        return []
    return [
        dg.ScheduleDefinition(
            name="production",
            job=jobs[NATIONAL_INPUTS],
            cron_schedule=PRODUCTION_CRON,
            tags={PRODUCTION_TAG: "true"},
            default_status=dg.DefaultScheduleStatus.STOPPED,
            description=(
                "A production run of all states: national inputs on the first of the month; turn on"
                " the sensors states_after_national and national_after_states as well, which start"
                " every state and then the national tables."
            ),
        )
    ]


def build_sensors(jobs: dict[str, AssetJob], states: Sequence[str]) -> list[dg.SensorDefinition]:
    """``states_after_national`` and ``national_after_states``, for runs that carry the production
    tag.
    """
    sensors: list[dg.SensorDefinition] = []
    if NATIONAL_INPUTS in jobs and STATES in jobs:

        @dg.run_status_sensor(
            name="states_after_national",
            run_status=dg.DagsterRunStatus.SUCCESS,
            monitored_jobs=[jobs[NATIONAL_INPUTS]],
            request_job=jobs[STATES],
            default_status=dg.DefaultSensorStatus.STOPPED,
            description=(
                "Starts one run for each state after the national inputs of a production run"
                " succeeded."
            ),
        )
        def states_after_national(
            context: dg.RunStatusSensorContext,
        ) -> list[dg.RunRequest] | dg.SkipReason:
            run = context.dagster_run
            if PRODUCTION_TAG not in run.tags:
                return dg.SkipReason(
                    f"Run {run.run_id} is no production run (tag {PRODUCTION_TAG})."
                )
            return [
                dg.RunRequest(
                    run_key=f"{run.run_id}:{state}",
                    partition_key=state,
                    tags={PRODUCTION_TAG: run.run_id},
                )
                for state in states
            ]

        sensors.append(states_after_national)
    if STATES in jobs and NATIONAL_OUTPUTS in jobs:

        @dg.run_status_sensor(
            name="national_after_states",
            run_status=dg.DagsterRunStatus.SUCCESS,
            monitored_jobs=[jobs[STATES]],
            request_job=jobs[NATIONAL_OUTPUTS],
            default_status=dg.DefaultSensorStatus.STOPPED,
            description=(
                "Starts the national tables once every state of a production run succeeded; a"
                " failed state holds them back."
            ),
        )
        def national_after_states(
            context: dg.RunStatusSensorContext,
        ) -> dg.RunRequest | dg.SkipReason:
            origin = context.dagster_run.tags.get(PRODUCTION_TAG)
            if origin is None:
                return dg.SkipReason("Not part of a production run.")
            finished = context.instance.get_runs(
                dg.RunsFilter(
                    job_name=STATES,
                    tags={PRODUCTION_TAG: origin},
                    statuses=[dg.DagsterRunStatus.SUCCESS],
                )
            )
            waiting = sorted(set(states) - {run.tags.get("dagster/partition") for run in finished})
            if waiting:
                return dg.SkipReason(f"Waiting for {', '.join(waiting)}.")
            return dg.RunRequest(run_key=f"{origin}:national", tags={PRODUCTION_TAG: origin})

        sensors.append(national_after_states)
    return sensors
