"""The schedule and the sensors of a profile, in one place.

Belongs here: which of them a profile has. Does not belong here: what any of them does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import dagster as dg

from pipeline.automation.changed_files import Content, changed_files_sensor
from pipeline.automation.production import production_schedule, production_sensor
from pipeline.automation.summaries import summaries_sensor
from pipeline.automation.watched import watched_files
from pipeline.jobs import NATIONAL_INPUTS, STATES
from pipeline.partitions import order_states
from pipeline.settings import RunEnvironment
from pipeline.specs.operation import Schedule
from pipeline.specs.profiles import Profile

if TYPE_CHECKING:
    from pipeline.jobs import AssetJob


@dataclass(frozen=True)
class Automation:
    """What starts runs of a profile by itself; all of it STOPPED until somebody turns it on."""

    schedules: list[dg.ScheduleDefinition]
    sensors: list[dg.SensorDefinition]


def follow_up(
    jobs: dict[str, AssetJob],
    states: Sequence[str],
    schedule: Schedule,
    profile: str,
    environment: RunEnvironment,
) -> Automation:
    """The schedule, the sensor that carries a production run on, and the one that tells of it."""
    return Automation(
        [production_schedule(jobs[NATIONAL_INPUTS], schedule)] if NATIONAL_INPUTS in jobs else [],
        [
            *([production_sensor(jobs, states, schedule.retries)] if STATES in jobs else []),
            summaries_sensor(profile, environment, states, schedule.retries),
        ],
    )


def build_automation(
    jobs: dict[str, AssetJob],
    profile: Profile,
    environment: RunEnvironment,
    content: Content | None = None,
) -> Automation:
    """All of it, for a profile as its file states it (not settled: files that an option would need
    are watched too). ``content``: see ``changed_files_sensor``."""
    states = order_states(profile.states)
    made = follow_up(jobs, states, profile.schedule, profile.id, environment)
    if not {NATIONAL_INPUTS, STATES} <= jobs.keys():
        return made
    watching = changed_files_sensor(
        jobs, states, lambda: watched_files(profile, environment.data), environment.data, content
    )
    return Automation(made.schedules, [*made.sensors, watching])
