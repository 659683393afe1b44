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
    from pipeline.cli.asked import Asked

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
    force: bool,
) -> int:
    """Ask for the states that are not current, or with ``force`` for all, and watch until that has
    ended; the exit status is 0 if every state and the national tables were made."""
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
        wanted, tables = (asked.states, True) if force else _needed(terminal, asked, instance)
        if not wanted:
            return _tables_alone(terminal, instance, workspace, wait) if tables else 0
        terminal.note("Asking for the national inputs", markup=False)
        origin = begin(instance, workspace, wanted)
        terminal.note(
            f"Production run {origin}: {len(wanted)} states in the queue's hands", markup=False
        )
        if not wait:
            return 0
        terminal.detail("Ctrl-C cancels all of it; --no-wait leaves it alone", markup=False)
        try:
            return _watch(terminal, instance, origin, wanted, asked.profile.schedule.retries)
        except KeyboardInterrupt:
            return _cancelled(terminal, instance, origin)


def _needed(
    terminal: Terminal, asked: Asked, instance: dg.DagsterInstance
) -> tuple[tuple[str, ...], bool]:
    """States that are not current, and whether the national tables are not."""
    from pipeline.cli.current import planning
    from pipeline.definitions import build_definitions
    from pipeline.jobs import NATIONAL_OUTPUTS

    definitions = build_definitions(asked.profile, asked.environment)
    with planning(asked, definitions, None, force=False) as planned:
        planner = planned(instance)
        wanted = tuple(state for state in asked.states if planner.stale_from_the_start(state))
        tables = planner.needs(NATIONAL_OUTPUTS, None)
    if (current := len(asked.states) - len(wanted)) > 0:
        are = "1 state is" if current == 1 else f"{current} states are"
        terminal.note(f"{are} current: not asked for (--force asks for all)")
    if not wanted and not tables:
        terminal.note("The national tables are current: nothing to do")
    return wanted, tables


def _tables_alone(
    terminal: Terminal, instance: dg.DagsterInstance, workspace: Path, wait: bool
) -> int:
    from pipeline.automation.asked import national_tables

    run_id = national_tables(instance, workspace)
    terminal.note("Asking for the national tables alone", markup=False)
    while wait:
        run = instance.get_run_by_id(run_id)
        if run is None or run.is_finished:
            made = run is not None and run.is_success
            terminal.note(f"National tables {'made' if made else 'FAILED'}", markup=False)
            return 0 if made else FAILED
        time.sleep(SECONDS_BETWEEN_LOOKS)
    return 0


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
