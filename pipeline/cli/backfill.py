"""The command ``geocal backfill``: a production run in the instance's queue, watched from here.

Belongs here: words, and what Ctrl-C means. Does not belong here: what is asked of Dagster
(``automation/asked.py``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.cli import FAILED, INTERRUPTED
from pipeline.cli.asked import asked_for
from pipeline.cli.terminal import Terminal
from pipeline.settings import ensure_instance_home

if TYPE_CHECKING:
    import dagster as dg

    from pipeline.automation.progress import Progress

SECONDS_BETWEEN_LOOKS = 2.0


@dataclass
class _Told:
    """What was said already; ``counts``: the last line of counts."""

    states: set[tuple[str, str]] = field(default_factory=set)
    counts: str = ""


def backfill_states(
    terminal: Terminal,
    profile: str | None,
    states: str | None,
    data: Path | None,
    output: Path | None,
    wait: bool,
) -> int:
    """Ask, and watch until it has ended; the exit status is 0 if every state and the national
    tables were made."""
    asked = asked_for(profile, states, data, output)
    from pipeline.automation.asked import begin, require_operation
    from pipeline.instances import HOME_VARIABLE, opened

    named = os.environ.get(HOME_VARIABLE)
    home = Path(named) if named else ensure_instance_home(asked.environment)
    workspace = home / "workspace.yaml"
    for name, value in asked.environment.variables().items():
        os.environ.setdefault(name, value)
    with opened(home) as instance:
        require_operation(instance, workspace)
        terminal.note("Asking for the national inputs", markup=False)
        origin = begin(instance, workspace, asked.states)
        terminal.note(
            f"Production run {origin}: {len(asked.states)} states in the queue's hands",
            markup=False,
        )
        if not wait:
            return 0
        terminal.detail("Ctrl-C cancels all of it; --no-wait leaves it alone", markup=False)
        try:
            return _watch(terminal, instance, origin, asked.states, asked.profile.schedule.retries)
        except KeyboardInterrupt:
            return _cancelled(terminal, instance, origin)


def _watch(
    terminal: Terminal,
    instance: dg.DagsterInstance,
    origin: str,
    states: Sequence[str],
    retries: int,
) -> int:
    from pipeline.automation.asked import national_inputs, progress_now

    told = _Told()
    while not (first := national_inputs(instance, origin)).is_finished:
        time.sleep(SECONDS_BETWEEN_LOOKS)
    if first.status.value != "SUCCESS":
        terminal.error(f"National inputs ended as {first.status.value}; no state was started")
        return FAILED
    terminal.note("National inputs made", markup=False)
    while True:
        progress = progress_now(instance, origin, states, retries)
        _say(terminal, progress, told)
        if progress.ended:
            break
        time.sleep(SECONDS_BETWEEN_LOOKS)
    word = {"made": "made", "failed": "FAILED", "canceled": "cancelled"}
    tables = word.get(progress.national or "", "not made, since no state was")
    terminal.note(f"National tables {tables}", markup=False)
    return 0 if progress.clean else FAILED


def _say(terminal: Terminal, progress: Progress, told: _Told) -> None:
    """States that have ended since the last look, and how many there are of each kind."""
    ended = [("made", state) for state in progress.made]
    ended += [("FAILED", state) for state in progress.failed]
    ended += [("cancelled", state) for state in progress.canceled]
    for word, state in ended:
        if (word, state) not in told.states:
            told.states.add((word, state))
            (terminal.error if word == "FAILED" else terminal.note)(f"{state} {word}")
    left = len(progress.waiting) + len(progress.to_start)
    counts = f"{len(progress.made)} made, {len(progress.failed)} failed, {left} to come"
    if counts != told.counts:
        told.counts = counts
        terminal.detail(counts, markup=False)


def _cancelled(terminal: Terminal, instance: dg.DagsterInstance, origin: str) -> int:
    from pipeline.automation.asked import cancel

    terminal.note("Cancelling what is queued or under way", markup=False)
    stopped = cancel(instance, origin)
    terminal.error(f"Cancelled: {', '.join(stopped) or 'nothing was under way'}")
    return INTERRUPTED
