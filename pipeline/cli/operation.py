"""Commands of ``geocal`` for whoever operates it: names, options, help.

Belongs here: one function per command, as in ``cli/app.py``, which takes these in. Does not belong
here: the work.
"""

from __future__ import annotations

from typing import Annotated

import typer

from pipeline.cli.options import Data, Output, Profile, States, on_terminal
from pipeline.cli.terminal import Terminal

operation = typer.Typer()


@operation.command()
@on_terminal
def backfill(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    output: Output = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Watch until it has ended, or leave at once.")
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Ask for all states, those that are current too.")
    ] = False,
) -> int:
    """Run states that are not current through the instance's queue, the largest first.

    Needs a daemon (`geocal ui`) whose sensor `production_run` is on. `geocal run` needs neither,
    and does the work itself. Ctrl-C cancels what is queued or under way.
    """
    from pipeline.cli.backfill import backfill_states

    return backfill_states(terminal, profile, states, data, output, wait, force)
