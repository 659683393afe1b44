"""What Dagster's events of a run say, in words of this project.

Belongs here: reading Dagster's events into what a listener hears and what a job came to. Does not
belong here: running anything (``pipeline/runs.py``).
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg
from dagster._core.errors import DagsterAssetCheckFailedError, DagsterExecutionInterruptedError

_INTERRUPTIONS = {DagsterExecutionInterruptedError.__name__, KeyboardInterrupt.__name__}


@dataclass(frozen=True)
class AssetEvent:
    """A step of a job began, said something, or ended. ``kind`` is ``started``, ``message``,
    ``finished``, ``failed`` or ``interrupted``; ``partition`` a state or None. Before its steps a
    job may be ``planned``: ``message`` says what is made and why, in so many ``steps``.
    """

    kind: str
    job: str
    partition: str | None
    asset: str
    seconds: float | None = None
    message: str = ""
    steps: int = 0


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


def asset_event(entry: dg.EventLogEntry, job: str, partition: str | None) -> AssetEvent | None:
    """What an entry of the event log says of a step; None where it says nothing of one."""
    event, step = entry.dagster_event, entry.step_key
    if step is None:
        return None
    if event is None:
        # An asset's own words (``context.log.info``).
        told = int(entry.level) >= logging.INFO
        return AssetEvent("message", job, partition, step, None, entry.message) if told else None
    if event.is_step_start:
        return AssetEvent("started", job, partition, step)
    if event.is_step_success:
        seconds = event.step_success_data.duration_ms / 1000
        return AssetEvent("finished", job, partition, step, seconds)
    if event.is_step_failure:
        kind = "interrupted" if is_interruption(event) else "failed"
        return AssetEvent(kind, job, partition, step, message=failure_message(event))
    return None


def job_outcome(
    events: Sequence[dg.DagsterEvent], success: bool, job: str, partition: str | None, run_id: str
) -> JobOutcome:
    """What a finished run of one job came to."""
    ended = [e.event_specific_data for e in events if e.is_run_failure]
    broken = [e for e in events if e.is_step_failure]
    stopped = [e for e in broken if is_interruption(e)]
    failed = [e for e in broken if not is_interruption(e)]
    errors = [e.step_failure_data.error for e in failed if e.step_failure_data.error is not None]
    interrupted = bool(stopped) or any(
        _names_interruption(getattr(data, "error", None)) for data in ended
    )
    failures = {str(e.step_key): failure_message(e) for e in failed}
    skipped = sorted({e.step_key for e in events if e.is_step_skipped and e.step_key})
    if (skipped or not success) and not failures and not interrupted:
        failures = _without_a_failed_step(events, skipped if success else (), job)
    return JobOutcome(
        job,
        partition,
        run_id,
        success and not skipped,
        {
            str(e.step_key): round(e.step_success_data.duration_ms / 1000, 3)
            for e in events
            if e.is_step_success
        },
        failures,
        "\n".join(error.to_string() for error in errors),
        interrupted,
        next((e.step_key for e in stopped if e.step_key), ""),
    )


def _without_a_failed_step(
    events: Sequence[dg.DagsterEvent], skipped: Sequence[str], job: str
) -> dict[str, str]:
    """Why a run came to nothing in which no step failed."""
    if skipped:
        said = (
            "The step was skipped, because a step before it made no table; report this with the"
            " profile and the state."
        )
        return dict.fromkeys(skipped, said)
    said = "; ".join(e.message or "" for e in events if e.is_run_failure)
    return {job: said or "the run failed before its first step"}


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
    the last cause. Of a check that stops the run, which one, and where its figures are.
    """
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is not None and error.cls_name == DagsterAssetCheckFailedError.__name__:
        # Dagster's own words are a class, a count and then one line per check.
        failed = ", ".join(error.message.strip().splitlines()[1:])
        return (
            f"A check that stops the run failed: {failed}. Where: the table was stored, what is"
            " made from it was not. Expected: what the check's description says. What to do: read"
            " its figures on the asset's page `Checks` in `geocal ui`, or of untold figures in"
            " `geocal show STATE --bystanders`; correct their cause and run the state again"
        )
    return (error.message if error is not None else event.message or "unknown failure").strip()
