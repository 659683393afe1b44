"""The commands of ``geocal``: names, options, help.

Belongs here: one function per command, with the options it takes; its work is imported when it is
called, so that help and errors in options are there at once. Does not belong here: the work.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Annotated

import typer
import typer.core

from calibration_core.errors import GeocalError
from pipeline.cli import FAILED, INTERRUPTED, current
from pipeline.cli.completion import source_names
from pipeline.cli.operation import operation
from pipeline.cli.options import (
    Break,
    Data,
    Force,
    Json,
    ListOptions,
    Output,
    Pairs,
    Profile,
    State,
    States,
    Wait,
    on_terminal,
)
from pipeline.cli.release_commands import add_to
from pipeline.cli.terminal import Terminal

app = typer.Typer(
    name="geocal",
    help=(
        "Household weights that reproduce official statistics for the nation, states, counties and"
        " census tracts at once.\n\nStart with `geocal run`: it makes a small SYNTHETIC sample and"
        " needs no files. `geocal profiles` lists what else can be run.\n\nExit status: 0 success,"
        " 1 the work failed, 2 wrong usage, 130 interrupted."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(operation)


def call(arguments: Sequence[str]) -> int:
    """Run one command line and return its exit status. Raises KeyboardInterrupt before a command
    has opened its terminal, and SystemExit for help and wrong usage.
    """
    sys.excepthook = _unknown_fault
    command = typer.main.get_command(app)
    try:
        command.main(args=list(arguments), prog_name="geocal")
    except GeocalError as error:
        # Only the log file can be at fault here: the command itself has no terminal yet.
        typer.secho(str(error), fg="red", err=True)
        return FAILED
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else INTERRUPTED
    return 0


def _unknown_fault(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What ``sys.excepthook`` says of an error nobody foresaw: one message, and how to see more."""
    if "--traceback" in sys.argv:
        sys.__excepthook__(kind, error, trace)
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_filename}, line {trace.tb_lineno}" if trace else "not known"
    message = GeocalError(
        f"geocal stopped at an error it does not know: {kind.__name__}: {error}",
        where=place,
        expected="a result, or an error in words",
        remedy="Run it again with --traceback --log-file FILE, and report what FILE then holds",
    )
    typer.secho(str(message), fg="red", err=True)


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.versions import geocal_version

        typer.echo(f"geocal {geocal_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", "-V", callback=_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    # No docstring: the text above the commands is the application's own.
    del version


@app.command()
@on_terminal
def run(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    output: Output = None,
    pairs: Pairs = None,
    force: Force = False,
    wait: Wait = False,
) -> int:
    """Make the weights of a profile's states, where not current, and print how well they fit."""
    from pipeline.cli.run import run_states

    return run_states(terminal, profile, states, data, output, pairs, force, wait)


current.add_to(app)


@app.command()
@on_terminal
def profiles(terminal: Terminal, as_json: Json = False) -> None:
    """List the profiles: what each one reads and for which states."""
    from pipeline.cli.listing import list_profiles

    list_profiles(terminal, as_json)


@app.command()
@on_terminal
def sources(
    terminal: Terminal,
    name: Annotated[
        str | None,
        typer.Argument(
            help="Id of a source, to show all of it: files, columns, units, uses.",
            metavar="NAME",
            show_default=False,
            autocompletion=source_names,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the publications that can be read, or show one: what it is and what it is used for.

    docs/sources.md has all of them on one page, docs/codebook.md the tables that geocal writes."""
    from pipeline.cli.sources import show_sources

    show_sources(terminal, name, as_json)


@app.command()
@on_terminal
def show(
    terminal: Terminal,
    state: State,
    profile: Profile = None,
    output: Output = None,
    bystanders: Annotated[
        bool,
        typer.Option(
            "--bystanders",
            help="Every figure, told or not, against the survey's own estimate, and what pulls it.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a state's last result: fit, worst targets, weights, seconds.

    `docs/dagster.md` explains the JSON.
    """
    from pipeline.cli.listing import show_state

    show_state(terminal, state, profile, output, as_json, bystanders)


@app.command()
@on_terminal
def dense(
    terminal: Terminal,
    state: State,
    folder: Annotated[
        Path, typer.Argument(help="Folder to write, not there yet.", metavar="FOLDER")
    ],
    profile: Profile = None,
    data: Data = None,
    output: Output = None,
    least: Annotated[
        float, typer.Option("--least", help="Leave smaller weights out, in households.", min=0.0)
    ] = 0.0,
) -> None:
    """Write a state's dense weights as rows: household_id, area, weight.

    A run stores what determines them, a rate for each target.
    """
    from pipeline.cli.dense import write_dense

    write_dense(terminal, state, folder, profile, data, output, least)


@app.command()
@on_terminal
def check(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    output: Output = None,
    as_json: Json = False,
) -> int:
    """Look at every raw file a profile needs, and name what is wrong."""
    from pipeline.cli.check import check_files

    return check_files(terminal, profile, states, data, output, as_json)


@app.command()
@on_terminal
def fetch(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    again: Annotated[
        bool, typer.Option("--again", help="Ask for files anew that were fetched before, whole.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be asked for, and ask for nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Download the files a profile needs from their publishers, as far as these let programs.

    What broke off goes on where it ended, what is there is not asked for again, and what only a
    person can download is said with address, name and folder. docs/fetching.md says more.
    """
    from pipeline.cli.fetch import fetch as bring

    return bring(terminal, profile, states, data, again, dry_run, as_json)


@app.command(cls=ListOptions)
@on_terminal
def validate(
    terminal: Terminal,
    hold_out: Annotated[
        list[str],
        typer.Option(
            "--hold-out",
            help="Groups of data_specs/holdout.yaml (education, income, race, ssa, irs ...) or "
            "target families; each is withheld in turn.",
            metavar="NAMES",
            show_default=False,
        ),
    ],
    profile: Profile = None,
    states: States = None,
    data: Data = None,
    output: Output = None,
    pairs_per_area: Annotated[
        str,
        # `--pairs` is what it was called; `geocal run --pairs` means the pairs of a whole state.
        typer.Option(
            "--pairs-per-area",
            "--pairs",
            help="Budgets, in pairs per area on average.",
            metavar="NUMBERS",
        ),
    ] = "20 40 60 100",
    seeds: Annotated[int, typer.Option("--seeds", help="How many draws of each.", min=1)] = 3,
    methods: Annotated[
        str | None,
        typer.Option(
            "--methods",
            help="Sparse methods to compare. Default: all there are.",
            metavar="NAMES",
            show_default=False,
        ),
    ] = None,
    json_file: Annotated[
        Path | None,
        typer.Option(
            "--json",
            help="Also write everything to this file; docs/validation.md describes it.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Also draw error against pairs kept, to this PNG file.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
) -> int:
    """Withhold targets and compare how well sparse methods meet them.

    All methods keep equal numbers of pairs; docs/validation.md says how to read the tables.
    """
    from pipeline.cli.progress import Waiting
    from pipeline.cli.validate import Wanted, run_validation

    wanted = Wanted(hold_out, pairs_per_area, seeds, methods, json_file, plot)
    with Waiting(terminal, "reading the specifications"):
        from pipeline.cli.asked import asked_for

        asked = asked_for(profile, states, data, output)
    return run_validation(terminal, asked, wanted)


@app.command(name="env")
@on_terminal
def environment_variables(
    terminal: Terminal, profile: Profile = None, data: Data = None, output: Output = None
) -> None:
    """Print shell lines that point `dg` and `dagster` at a profile.

    Use them as: eval "$(geocal env --profile sample)"
    """
    from pipeline.cli.serve import print_environment

    print_environment(terminal, profile, data, output)


@app.command()
@on_terminal
def ui(
    terminal: Terminal,
    profile: Profile = None,
    data: Data = None,
    output: Output = None,
    port: Annotated[
        int, typer.Option(help="Port of the UI on 127.0.0.1.", min=1, max=65535, metavar="NUMBER")
    ] = 3000,
) -> int:
    """Open the Dagster UI of a profile, with its daemon; Ctrl-C stops both.

    The daemon runs backfills, schedules and sensors. Both listen on 127.0.0.1 only.
    """
    from pipeline.cli.serve import serve_ui

    return serve_ui(terminal, profile, data, output, port)


@app.command(name="compile")
@on_terminal
def compile_loops(terminal: Terminal) -> None:
    """Compile the numerical loops now, so that no run waits for it.

    Once per machine and version of geocal; a second call finds nothing to do."""
    from pipeline.cli.compile import compile_now

    compile_now(terminal)


@app.command()
@on_terminal
def sample(
    terminal: Terminal,
    folder: Annotated[
        Path | None,
        typer.Argument(help="Where to write the files.", metavar="DIR", show_default=False),
    ] = None,
    break_kind: Break = None,
) -> int:
    """Write the SYNTHETIC sample's raw files, whole or with a planted error."""
    from pipeline.cli.sample import write_sample

    return write_sample(terminal, folder, break_kind)


add_to(app)
