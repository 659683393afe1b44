"""The named checks at the end of ``geocal check``: what is right in form and may be wrong.

Belongs here: asking for them, their table and their errors. Does not belong here: the checks
(``pipeline/checks``), files that cannot be read (``cli/check.py``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Column, Table

from pipeline.cli.asked import Asked
from pipeline.cli.terminal import Terminal
from pipeline.specs import catalog

if TYPE_CHECKING:
    import polars as pl

    from pipeline.checks.results import CheckResult
    from pipeline.sources.registry import CheckLine


def named_checks(
    asked: Asked, lines: Sequence[tuple[str, CheckLine]], status: Callable[[str], None]
) -> list[CheckResult]:
    """Every named check of the tables whose files are all in order: states that read the same
    files are checked together."""
    from pipeline.checks.of_profile import checks_of_profile

    found = []
    sources, data = catalog.load_catalog().sources, asked.environment.data
    held: dict[tuple[str, str], pl.DataFrame] = {}
    for profile in asked.profile.variants:
        states = [postal for postal in asked.states if asked.profile.of(postal) == profile]
        faulty = {
            (line.source, vintage)
            for vintage, line in lines
            if not line.ok and line.state in ("", *states)
        }
        if not states:
            continue
        for result in checks_of_profile(profile, sources, data, states, faulty, held):
            status(f"Check {result.name} {result.source}")
            found.append(result)
    return found


def as_rows(checks: Sequence[CheckResult]) -> list[dict[str, Any]]:
    """For JSON, after the rows of files: ``check, ok, blocking, judged, number, threshold``."""
    return [
        {
            "vintage": check.vintage,
            "source": check.source,
            "check": check.name,
            "ok": check.passed,
            "blocking": check.blocking,
            "judged": check.judged,
            "number": check.worst.number if check.worst else None,
            "threshold": check.worst.threshold if check.worst else None,
            "message": check.words,
        }
        for check in checks
    ]


def print_checks(terminal: Terminal, checks: Sequence[CheckResult]) -> None:
    """A row per check of each table that had something to judge."""
    judged = [check for check in checks if check.judged]
    if terminal.quiet or not judged:
        return
    names = ("check", "table", Column("judged", justify="right"), "result")
    table = Table(*names, title="Do the figures make sense?", title_justify="left")
    for check in judged:
        of = f"{check.source} {check.vintage}".strip() or "between tables"
        bad = "FAILS" if check.blocking else "differs"
        said = "ok" if check.passed else f"[red]{bad}[/red], {len(check.failing):,}"
        taken = f", {sum(check.accepted.values()):,} accepted" if check.accepted else ""
        table.add_row(check.name, escape(of), f"{check.judged:,}", said + taken)
    terminal.result(table)


def say_checks(terminal: Terminal, checks: Sequence[CheckResult]) -> None:
    """Each check that fails, as an error or (where it blocks nothing) as a remark; and a count."""
    from pipeline.checks.run import failure

    for check in checks:
        if check.passed:
            continue
        if check.blocking:
            terminal.error(str(failure(check, "")))
        else:
            terminal.result(escape(f"Note: check {check.name} {check.source}: {check.words}"))
    judged = [check for check in checks if check.judged]
    good = sum(check.passed for check in judged)
    terminal.result(f"{good} of {len(judged)} checks of what the files say pass.")
