"""The sensor that notices changed raw files and asks for exactly the states that read them.

Belongs here: from changed files to requests of runs. Does not belong here: what a change is
(``watched.py``), or carrying the runs on (``production.py``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import dagster as dg

from pipeline.automation.history import (
    BEGINS,
    BEGUN_BY_FILES_TAG,
    CHANGED_TAG,
    FILES,
    WANTED_TAG,
    joined,
)
from pipeline.automation.production import SENSOR as PRODUCTION_SENSOR
from pipeline.automation.production import state_request
from pipeline.automation.watched import (
    ALL_STATES,
    Change,
    Looks,
    compare,
    look_at,
    states_of_changed,
)
from pipeline.jobs import NATIONAL_INPUTS, PRODUCTION_TAG, STATES
from pipeline.locks import NATION

if TYPE_CHECKING:
    from pipeline.jobs import AssetJob

SENSOR = "changed_files"
SECONDS_BETWEEN_LOOKS = 60
NAMED = 5


@dataclass(frozen=True)
class Content:
    """What only reading tells. ``needed``: of these states, whether the nation's inputs are not
    current, and which of the states (``geocal status`` says the same); ``observed``: what Dagster
    does not know yet of the raw files of states or the ``nation``.
    """

    needed: Callable[[dg.DagsterInstance, Sequence[str]], tuple[bool, list[str]]]
    observed: Callable[[dg.DagsterInstance, Sequence[str]], list[dg.AssetObservation]]


def _some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return ", ".join(names[:NAMED]) + more


def requests_for(
    change: Change, states: frozenset[str], order: Sequence[str], now: dict[str, str]
) -> list[dg.RunRequest]:
    """Runs for changed files: national inputs, which begin a whole production run, where the nation
    reads one of them; else the states concerned, the largest first."""
    said = "\n".join(f"{name}={now[name]}" for name in change.changed)
    key = hashlib.sha256(said.encode()).hexdigest()[:12]
    told = {CHANGED_TAG: _some(change.changed), BEGUN_BY_FILES_TAG: FILES}
    if states == ALL_STATES:
        tags = {PRODUCTION_TAG: BEGINS, **told}
        return [dg.RunRequest(job_name=NATIONAL_INPUTS, run_key=f"files-{key}", tags=tags)]
    wanted = [state for state in order if state in states]
    told[WANTED_TAG] = joined(wanted)
    return [state_request(f"files-{key}", state, 1, order, **told) for state in wanted]


def changed_files_sensor(
    jobs: dict[str, AssetJob],
    order: Sequence[str],
    files: Callable[[], dict[str, frozenset[str]]],
    data: Path,
    content: Content | None = None,
) -> dg.SensorDefinition:
    """``files``: gives the files to watch with their states, asked anew at each look, because an
    optional file may have come; ``order``: the states, the largest first; ``content``: leaves out
    what reads a changed file and is current all the same, because the file says what it said."""

    @dg.sensor(
        name=SENSOR,
        jobs=[jobs[NATIONAL_INPUTS], jobs[STATES]],
        minimum_interval_seconds=SECONDS_BETWEEN_LOOKS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=(
            "Notices raw files whose size or time of change differs, waits until they stand still,"
            " and asks for the states that read them; for a file of the nation, for all. The"
            f" sensor {PRODUCTION_SENSOR} must be on: it makes the national tables afterwards."
        ),
    )
    def changed_files(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        before = Looks.from_cursor(context.cursor)
        watched = files()
        now = look_at(watched, data)
        change = compare(before, now)
        if change.settling or not change.changed:
            return dg.SensorResult(
                cursor=change.meanwhile.cursor(), skip_reason=_why_not(before, change, len(now))
            )
        states = states_of_changed(change.changed, watched)
        context.log.info(f"Changed: {_some(change.changed)}")
        seen: list[dg.AssetObservation] = []
        if content is not None:
            whole = states == ALL_STATES
            concerned = list(order) if whole else sorted(states)
            seen = content.observed(context.instance, [NATION, *concerned])
            nation, stale = content.needed(context.instance, concerned)
            if not stale and not (whole and nation):
                said = f"Written again with the same content: {_some(change.changed)}."
                return dg.SensorResult(
                    cursor=change.after.cursor(), skip_reason=said, asset_events=seen
                )
            states = ALL_STATES if whole and nation else frozenset(stale)
        asked = requests_for(change, states, order, now)
        return dg.SensorResult(run_requests=asked, cursor=change.after.cursor(), asset_events=seen)

    return changed_files


def _why_not(before: Looks | None, change: Change, watched: int) -> str:
    if before is None:
        return f"First look: {watched:,} files are taken as they are."
    gone = f" Not there any more: {_some(change.gone)}." if change.gone else ""
    if change.settling:
        return f"Still changing, or just changed: {_some(change.settling)}.{gone}"
    return f"No file changed.{gone}"
