"""What a profile took by the files at hand, and specs of a team's own, in words.

Belongs here: the notes that ``geocal check`` and ``geocal run`` print before anything else. Does
not belong here: how a choice is made (``sources/settled.py``) or which specs count
(``specs/roots.py``).
"""

from __future__ import annotations

from pathlib import PurePosixPath

from rich.markup import escape

from pipeline.cli.asked import Asked
from pipeline.cli.terminal import Terminal
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Taken


def say_choices(terminal: Terminal, asked: Asked) -> None:
    """A line for each option that was taken, with the states that take it and what that costs; then
    every spec that stands in place of one of ours."""
    groups: dict[tuple[str, str, tuple[str, ...]], list[Taken]] = {}
    for taken in asked.profile.made(*asked.states):
        groups.setdefault((taken.need, taken.option.name, taken.lacking[:1]), []).append(taken)
    for (need, option, _), made in groups.items():
        states = ", ".join(taken.postal or "all states" for taken in made)
        terminal.note(escape(f"{need} of {states}: {option}.{_against(made[0])}"))
    for text in load_catalog().overrides():
        terminal.note(escape(f"Your own in place of ours: {text}"))


def _against(taken: Taken) -> str:
    """What is missing for a better option, and what that costs; of several files the first."""
    if taken.lacking:
        return f" No option has its files; {_files(taken.lacking)} is not there."
    without = "; ".join(f"for {name}: {_files(files)}" for name, files in taken.passed_by)
    return f" Costs: {taken.costs}. Not there {without}." if taken.costs else ""


def _files(files: tuple[str, ...]) -> str:
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return f"{PurePosixPath(files[0])}{more}"
