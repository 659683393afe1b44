"""The command ``geocal check``: every raw file a profile needs, one line each.

Belongs here: going through the sources, progress and the table. Does not belong here: what is
checked of a file (``sources/registry.py``), named checks of what files say (``cli/checks.py``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli import FAILED
from pipeline.cli.asked import Asked, asked_for
from pipeline.cli.checks import as_rows, named_checks, print_checks, say_checks
from pipeline.cli.terminal import Terminal
from pipeline.settings import ensure_writable
from pipeline.specs import catalog

if TYPE_CHECKING:
    from pipeline.sources.registry import CheckLine

# Below this many columns a table of five columns folds the paths to bits.
NARROW = 100


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
        checks = named_checks(asked, lines, status)
    faulty = [line for _, line in lines if not line.ok]
    failed = bool(faulty) or any(check.blocking and not check.passed for check in checks)
    if as_json:
        rows = [{"vintage": vintage, **asdict(line)} for vintage, line in lines]
        terminal.text(json.dumps(rows + as_rows(checks), indent=2))
        return FAILED if failed else 0
    _print(terminal, lines, environment.data)
    print_checks(terminal, checks)
    for line in faulty:
        terminal.error(f"{line.source}: {line.message}")
    terminal.result(f"{len(lines) - len(faulty)} of {len(lines)} files are ready.")
    say_checks(terminal, checks)
    return FAILED if failed else 0


def _lines(asked: Asked, status: Callable[[str], None]) -> list[tuple[str, CheckLine]]:
    from pipeline.sources.registry import check_source

    sources, lines = catalog.load_catalog().sources, []
    for source, vintages in sorted(asked.profile.sources.items()):
        for vintage in vintages:
            status(f"Reading {source} {vintage}")
            checked = check_source(sources[source], vintage, asked.environment.data, asked.states)
            lines += [(vintage, line) for line in checked]
    return lines


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
        said = escape(line.message) if line.ok else "[red]FAULTY[/red]"
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
