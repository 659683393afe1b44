"""The commands ``geocal status`` and ``geocal why``, and what ``geocal run`` leaves out.

Belongs here: asking which tables are current, and printing the answer. Does not belong here: the
verdicts (``pipeline/currency``).
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from pipeline.cli.completion import state_codes
from pipeline.cli.options import Data, Json, Output, Pairs, Profile, States, on_terminal
from pipeline.cli.terminal import Terminal

if TYPE_CHECKING:
    from dagster import DagsterInstance, Definitions

    from pipeline.cli.asked import Asked
    from pipeline.currency.judge import Verdict
    from pipeline.currency.plan import Planner
    from pipeline.currency.status import Row
    from pipeline.settings import RunEnvironment

    Needing = AbstractContextManager[Callable[[DagsterInstance], Planner]]

_COLOURS = {"current": "green", "stale": "yellow", "failed": "red", "running": "cyan"}


def add_to(app: typer.Typer) -> None:
    """Give the application these commands."""
    app.command()(status)
    app.command()(why)


@contextlib.contextmanager
def planning(
    asked: Asked, definitions: Definitions, pairs: int | None, *, force: bool
) -> Iterator[Callable[[DagsterInstance], Planner]]:
    """A planner of what is asked for, once there is an instance to ask for failed steps."""
    from pipeline.currency.making import makings_of
    from pipeline.currency.plan import Planner
    from pipeline.currency.remembered import judging
    from pipeline.run_history import history_of

    opened: list[DagsterInstance] = []
    makings = makings_of(asked.profile, asked.environment, definitions)
    config = {} if pairs is None else {"selected_pairs": {"pairs": pairs}}
    with judging(makings, lambda state: history_of(opened[0], state).failed) as judge:

        def planner(instance: DagsterInstance) -> Planner:
            opened.append(instance)
            return Planner(judge, config, force=force)

        yield planner


@on_terminal
def status(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    output: Output = None,
    pairs: Pairs = None,
    as_json: Json = False,
) -> None:
    """Show every state at a glance: current, stale (why), failed, running, never run.

    Current is what a run would not make again. docs/current.md says what counts.
    """
    from pipeline.currency.status import rows
    from pipeline.run_history import history_of

    with _asking(terminal, profile, states, data, output, pairs) as (asked, planner, instance):
        found = rows(planner, asked.states, lambda state: history_of(instance, state))
    if as_json:
        terminal.text(json.dumps([row.plain() for row in found], indent=2))
    else:
        _print_status(terminal, found)


@on_terminal
def why(
    terminal: Terminal,
    state: Annotated[
        str,
        typer.Argument(
            help="Postal code of the state, such as RI, or `nation`.",
            metavar="STATE",
            autocompletion=state_codes,
        ),
    ],
    profile: Profile = None,
    data: Data = None,
    output: Output = None,
    pairs: Pairs = None,
    as_json: Json = False,
) -> None:
    """Say what a run would make again for a state, and because of which file, spec or code."""
    from pipeline.cli.asked import one_state
    from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES

    nation = state.strip().lower() == "nation"
    with _asking(terminal, profile, None, data, output, pairs) as (asked, planner, _):
        postal = None if nation else one_state(state, asked.profile)
        if postal is None:
            jobs = (NATIONAL_INPUTS, NATIONAL_OUTPUTS)
            found = {k: v for job in jobs for k, v in planner.stale(job, None).items()}
        else:
            jobs, found = (NATIONAL_INPUTS, STATES), planner.stale_from_the_start(postal)
        total = sum(len(planner.nodes(job)) for job in jobs)
    if as_json:
        terminal.text(json.dumps([_plain(verdict) for verdict in found.values()], indent=2))
    else:
        _print_why(terminal, postal or "nation", found, total)


@contextlib.contextmanager
def _asking(
    terminal: Terminal,
    profile: str | None,
    states: str | None,
    data: Path | None,
    output: Path | None,
    pairs: int | None,
) -> Iterator[tuple[Asked, Planner, DagsterInstance]]:
    """What is asked about, a planner that knows what is current, and the record of runs, in which
    runs whose process is gone have been ended. Where nothing was run yet nothing is written: a
    folder named by mistake is not made."""
    from pipeline.cli.asked import asked_for
    from pipeline.cli.progress import Waiting

    with Waiting(terminal, "comparing what is stored with what a run would make"):
        asked = asked_for(profile, states, data, output)
        from pipeline.definitions import build_definitions
        from pipeline.run_history import end_dead_runs

        definitions = build_definitions(asked.profile, asked.environment)
        with (
            planning(asked, definitions, pairs, force=False) as planned,
            _records_of(asked.environment) as instance,
        ):
            for run in end_dead_runs(instance):
                terminal.detail(f"Run {run} stood as going on, and its process is gone: ended")
            yield asked, planned(instance), instance


def _records_of(environment: RunEnvironment) -> AbstractContextManager[DagsterInstance]:
    """The record of runs of whoever operates this profile, or its own; an empty one, in memory,
    where there is none."""
    from dagster import DagsterInstance

    from pipeline.instances import opened, operated_home, profile_instance

    if (home := operated_home(environment)) is not None:
        return opened(home)
    there = environment.dagster_home.is_dir()
    return profile_instance(environment) if there else DagsterInstance.ephemeral()


def _print_status(terminal: Terminal, found: list[Row]) -> None:
    table = Table("", "is", "stale", "may follow", "why")
    for row in found:
        colour = _COLOURS.get(row.standing)
        standing = f"[{colour}]{row.standing}[/{colour}]" if colour else row.standing
        number = f"{len(row.stale)} of {row.of}" if row.stale or row.behind else ""
        follow = str(len(row.behind)) if row.behind else ""
        table.add_row(row.name, standing, number, follow, escape(row.why))
    terminal.result(table)


def _print_why(terminal: Terminal, name: str, found: dict[str, Verdict], total: int) -> None:
    if not found:
        terminal.result(f"{name}: all {total} assets are current; a run would make nothing")
        return
    own = {asset: verdict for asset, verdict in found.items() if verdict.causes}
    terminal.result(f"{name}: {len(own)} of {total} assets would be made again:")
    for asset, verdict in own.items():
        terminal.result(f"  {asset}", markup=False, style="bold")
        for words in dict.fromkeys(cause.words for cause in verdict.causes):
            terminal.result(f"    {words}", markup=False)
    behind = [asset for asset, verdict in found.items() if not verdict.causes]
    if behind:
        terminal.result(
            f"Made again only if what they are made from comes out otherwise: {', '.join(behind)}",
            markup=False,
        )


def _plain(verdict: Verdict) -> dict[str, Any]:
    causes = [
        {"kind": c.kind, "what": c.what, "before": c.old, "now": c.new} for c in verdict.causes
    ]
    return {
        "asset": verdict.asset,
        "state": verdict.state,
        "causes": causes,
        "behind": list(verdict.behind),
    }
