"""The command ``geocal check``: every raw file a profile needs, one line each, and whether they
speak of the same areas.

Belongs here: going through the sources, progress, the table, messages in groups. Does not belong
here: what is checked of a file (``sources/registry.py``) or of all of them (``area_check.py``),
named checks of what files say (``cli/checks.py``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli import FAILED
from pipeline.cli.asked import Asked, asked_for
from pipeline.cli.checks import as_rows, named_checks, print_checks, say_checks
from pipeline.cli.choices import say_choices
from pipeline.cli.terminal import Terminal
from pipeline.settings import ensure_writable
from pipeline.specs import catalog

if TYPE_CHECKING:
    from pipeline.sources.registry import CheckLine

# Below this many columns a table of five columns folds the paths to bits.
NARROW = 100
SHOWN = 5
"""Missing files of one source that a message lists by name."""
AREAS = "areas"
"""The source that lines on areas give: no file by itself."""


def check_files(
    terminal: Terminal,
    profile: str | None,
    states: str | None,
    data: Path | None,
    output: Path | None,
    as_json: bool,
) -> int:
    """Check and print; the exit status is 1 if any file is missing or faulty, or a blocking check
    of what the files say fails.
    """
    asked = asked_for(profile, states, data, output)
    environment = asked.environment
    with _status(terminal) as status:
        if asked.profile.synthetic:
            status("Writing the SYNTHETIC sample")
            ensure_writable(environment, environment.data)
            from pipeline.sample.generate import ensure_sample

            ensure_sample(environment.data)
        lines = _lines(asked, status)
        whole = _whole_states(asked, lines)
        status("Comparing areas" if whole else "No state has all its files")
        areas = _areas(asked, whole)
        checks = named_checks(asked, lines, status)
    unfit = [line for _, line in [*lines, *areas] if not line.ok]
    failed = bool(unfit) or any(check.blocking and not check.passed for check in checks)
    if as_json:
        rows = [{"vintage": vintage, **asdict(line)} for vintage, line in [*lines, *areas]]
        terminal.text(json.dumps(rows + as_rows(checks), indent=2))
        return FAILED if failed else 0
    say_choices(terminal, asked)
    _print(terminal, [*lines, *areas], environment.data)
    print_checks(terminal, checks)
    for message in _in_groups(lines):
        terminal.error(message)
    for _, line in areas:
        if not line.ok:
            terminal.error(f"Areas of {line.state}: {line.message}")
    terminal.result(_counted(lines))
    say_checks(terminal, checks)
    return FAILED if failed else 0


def _counted(lines: Sequence[tuple[str, CheckLine]]) -> str:
    """How many files are ready, missing and faulty, as a sentence."""
    unfit = [line for _, line in lines if not line.ok]
    missing = sum(line.missing for line in unfit)
    said = [f"{len(lines) - len(unfit)} of {len(lines)} files are ready"]
    said += [f"{missing} missing"] if missing else []
    said += [f"{len(unfit) - missing} faulty"] if len(unfit) > missing else []
    return ", ".join(said) + "."


def _lines(asked: Asked, status: Callable[[str], None]) -> list[tuple[str, CheckLine]]:
    from pipeline.sources.registry import check_source

    sources, lines = catalog.load_catalog().sources, []
    for source, vintages in sorted(asked.profile.sources.items()):
        spec = sources[source]
        for vintage in vintages:
            status(f"Reading {source} {vintage}")
            own = [
                s for s in asked.states if vintage in asked.profile.of(s).sources.get(source, ())
            ]
            if not own:
                continue
            # What stands in for a state's own files is another state's no business.
            calls = [[state] for state in own] if spec.coverage == "state" else [own]
            for states in calls:
                checked = check_source(spec, vintage, asked.environment.data, states)
                lines += [(vintage, line) for line in checked]
    return lines


def _whole_states(asked: Asked, lines: list[tuple[str, CheckLine]]) -> list[str]:
    """States of which no file is missing or faulty, the nation's among them."""
    broken = {line.state for _, line in lines if not line.ok}
    return [] if "" in broken else [state for state in asked.states if state not in broken]


def _areas(asked: Asked, states: list[str]) -> list[tuple[str, CheckLine]]:
    """A line for each state on whether all its files name the same areas."""
    from pipeline.area_check import check_areas
    from pipeline.sources.registry import CheckLine

    lines = []
    found = check_areas(catalog.load_catalog(), asked.profile, asked.environment.data, states)
    for state, said in found:
        path = asked.environment.data
        ok = isinstance(said, str)
        line = CheckLine(AREAS, str(path), ok, 0, "", str(said), state=state)
        lines.append((str(asked.profile.target_year), line))
    return lines


def _in_groups(lines: list[tuple[str, CheckLine]]) -> Iterator[str]:
    """One message for all missing files of a source and vintage, one for each faulty file, missing
    ones first."""
    groups: dict[tuple[str, str], list[CheckLine]] = {}
    for vintage, line in lines:
        if line.missing:
            groups.setdefault((line.source, vintage), []).append(line)
    for (source, vintage), missing in groups.items():
        first, *others = missing
        if not others:
            yield f"Missing, {source} {vintage}: {first.message}"
            continue
        paths = ", ".join(Path(line.path).name for line in others[:SHOWN])
        more = f" and {len(others) - SHOWN} more" if len(others) > SHOWN else ""
        yield (
            f"Missing, {source} {vintage}: {len(missing)} files. The first: {first.message} Also"
            f" {paths}{more}, in the same way."
        )
    for vintage, line in lines:
        if not line.ok and not line.missing:
            yield f"Faulty, {line.source} {vintage}: {line.message}"


def _print(terminal: Terminal, lines: list[tuple[str, CheckLine]], data: Path) -> None:
    """A row per file: columns where there is room for them, else what was found below the path."""
    if terminal.quiet:
        return
    wide = terminal.width >= NARROW
    file = Column("file", overflow="fold")
    columns = ("source", "vintage", file, Column("bytes", justify="right"), "result")
    table = Table(*columns) if wide else Table.grid("", file, padding=(0, 1))
    for vintage, line in lines:
        path = Path(line.path)
        name = escape(str(path.relative_to(data) if path.is_relative_to(data) else path))
        if line.source == AREAS:
            name = f"all files of {line.state}"
        unfit = "[red]missing[/red]" if line.missing else "[red]FAULTY[/red]"
        said = escape(line.message) if line.ok else unfit
        terminal.detail(f"{line.path}: {line.bytes:,} bytes, sha256 {line.sha256}", markup=False)
        if wide:
            table.add_row(line.source, vintage, name, f"{line.bytes:,}", said)
        else:
            mark = "ok" if line.ok else said
            found = f": {said}" if line.ok else ""
            table.add_row(mark, f"{name}\n  {line.source} {vintage}{found}")
    terminal.result(table)


@contextlib.contextmanager
def _status(terminal: Terminal) -> Iterator[Callable[[str], None]]:
    """Says what is being read, on standard error, since the output may be JSON: a line that is
    drawn again on a terminal, and elsewhere a line for each with --verbose.
    """
    if terminal.quiet or terminal.verbose or not terminal.err.file.isatty():
        yield terminal.detail
        return
    with terminal.err.status("Reading files") as status:

        def say(text: str) -> None:
            terminal.record(text)
            status.update(text)

        yield say
