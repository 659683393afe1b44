"""The command ``geocal fetch``: bring the publishers' files of a profile.

Belongs here: the folder, progress, and the table at the end. Does not belong here: requests and
decisions (``pipeline/fetch/``).
"""

from __future__ import annotations

import json
import os
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli import FAILED
from pipeline.cli.asked import Asked, asked_for
from pipeline.cli.progress import FetchProgress
from pipeline.cli.terminal import Terminal
from pipeline.errors import ProfileError
from pipeline.settings import DATA_VARIABLE
from pipeline.specs import catalog

if TYPE_CHECKING:
    from pipeline.fetch.fetching import Outcome
    from pipeline.fetch.wanted import Wanted

NARROW = 100
_COLOURS = {"refused": "yellow", "failed": "red"}


def fetch(
    terminal: Terminal,
    profile: str | None,
    states: str | None,
    data: Path | None,
    again: bool,
    dry_run: bool,
    as_json: bool,
) -> int:
    """Fetch and print; the exit status is 1 if any file was refused or failed."""
    asked = _asked(profile, states, data)
    from pipeline.fetch.wanted import wanted_files

    folder = asked.environment.data
    wanted = wanted_files(catalog.load_catalog(), asked.profile, folder, asked.states)
    if dry_run:
        _print_plan(terminal, wanted, folder, as_json)
        return 0
    from pipeline.fetch.fetching import fetch_files
    from pipeline.specs.download import load_download

    folder.mkdir(parents=True, exist_ok=True)
    with FetchProgress(terminal, quiet=as_json) as progress:
        outcomes = fetch_files(wanted, folder, load_download(), progress, again=again)
    if as_json:
        terminal.text(json.dumps([asdict(outcome) for outcome in outcomes], indent=2))
    else:
        print_outcomes(terminal, outcomes)
    return 0 if all(outcome.ready for outcome in outcomes) else FAILED


def _asked(profile: str | None, states: str | None, data: Path | None) -> Asked:
    """What is asked for; a data folder that is named need not be there yet."""
    named = data or os.environ.get(DATA_VARIABLE)
    folder = Path(named).expanduser().resolve() if named else None
    there = folder
    while there is not None and not there.exists():
        there = there.parent
    asked = asked_for(profile, states, there, None)
    if asked.profile.synthetic:
        raise ProfileError(
            f"Profile {asked.profile.id} is synthetic and makes its own files",
            where=f"--profile {asked.profile.id}",
            expected="a profile of real files",
            remedy="Name one with --profile (`geocal profiles` lists them), a folder with --data",
        )
    return replace(asked, environment=replace(asked.environment, data=folder)) if folder else asked


def print_outcomes(terminal: Terminal, outcomes: list[Outcome]) -> None:
    """A row per file, then what each refused or failed one needs, then how many of each kind."""
    if not terminal.quiet:
        wide = terminal.width >= NARROW
        file = Column("file", overflow="fold")
        columns = ("source", "vintage", file, Column("bytes", justify="right"), "result")
        table = Table(*columns) if wide else Table.grid("", file, padding=(0, 1))
        for outcome in outcomes:
            colour = _COLOURS.get(outcome.result)
            said = f"[{colour}]{outcome.result}[/{colour}]" if colour else outcome.result
            size = f"{outcome.bytes:,}" if outcome.bytes else ""
            if wide:
                table.add_row(outcome.source, outcome.vintage, escape(outcome.path), size, said)
            else:
                named = f"{outcome.source} {outcome.vintage}"
                table.add_row(said, f"{escape(outcome.path)}\n  {named} {size}")
        terminal.result(table)
    for outcome in outcomes:
        if not outcome.ready:
            terminal.error(f"{outcome.path}: {outcome.message}")
    counts = Counter(outcome.result for outcome in outcomes)
    said = ", ".join(f"{count} {result}" for result, count in counts.items())
    terminal.result(f"{len(outcomes)} files: {said}.")


def _print_plan(terminal: Terminal, wanted: list[Wanted], folder: Path, as_json: bool) -> None:
    """What would be asked for, without asking."""
    rows = [
        {
            "source": each.spec.id,
            "vintage": each.vintage,
            "path": each.path.relative_to(folder).as_posix(),
            "there": each.path.exists(),
            "optional": each.file.optional,
            "by_hand": each.file.by_hand,
            "address": each.file.url,
        }
        for each in wanted
    ]
    if as_json:
        terminal.text(json.dumps(rows, indent=2))
        return
    for row in rows:
        how = "there" if row["there"] else ("by hand" if row["by_hand"] else "missing")
        terminal.result(f"{how:<8} {row['path']}  {row['address']}", markup=False)
    missing = sum(not row["there"] for row in rows)
    terminal.result(f"{len(rows)} files, {missing} not there. Nothing was asked for.")
