"""Options that several commands share, and what every command has around its work.

Belongs here: option declarations, completion in the shell, and the wrapper that opens the terminal
and puts an error into words. Does not belong here: commands, or checks of what was asked for
(``cli/asked.py``).

Imported for every ``--help``, so nothing here imports Dagster, polars or the specs at the top.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import os
import platform
import shlex
import sys
import time
import traceback as tracebacks
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
import typer.core

from calibration_core.errors import GeocalError
from pipeline.cli import FAILED, INTERRUPTED
from pipeline.cli.completion import profile_names, state_codes
from pipeline.cli.terminal import Terminal, Verbosity, opened
from pipeline.errors import StoreError
from pipeline.settings import PROFILE_VARIABLE, SPECS_VARIABLE, profile_file
from pipeline.versions import geocal_version


def _place(text: str) -> Path:
    """A path. An empty one is refused: it comes of a shell variable that is not set, and Python
    would take it for the present folder."""
    if not text.strip():
        raise typer.BadParameter("it is empty; name a folder or a file, or leave the option out")
    return Path(text)


Profile = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Profile to use (see `geocal profiles`), or the path of a YAML file of your own. "
        "Default: $GEOCAL_PROFILE, or sample.",
        metavar="NAME",
        autocompletion=profile_names,
        show_default=False,
    ),
]
States = Annotated[
    str | None,
    typer.Option(
        "--states",
        "-s",
        help="Postal codes, separated by commas, such as RI,DE. Default: all of the profile.",
        metavar="CODES",
        autocompletion=state_codes,
        show_default=False,
    ),
]
State = Annotated[
    str,
    typer.Argument(
        help="Postal code of the state, such as RI.", metavar="STATE", autocompletion=state_codes
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        help="Folder of raw files as published. Default: $GEOCAL_DATA; the sample makes its own.",
        metavar="DIR",
        parser=_place,
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for results and run history. Default: $GEOCAL_OUTPUT, or ./output.",
        metavar="DIR",
        parser=_place,
        show_default=False,
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")
]
Pairs = Annotated[
    int | None,
    typer.Option(
        "--pairs",
        help="Number of (household, area) pairs to keep in each state. "
        "Default: the profile's budget per area times the areas.",
        metavar="K",
        min=1,
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Make every table anew, current or not.")]
Wait = Annotated[
    bool,
    typer.Option(
        "--wait", help="Wait where another run writes the same state, instead of failing."
    ),
]
Break = Annotated[
    str | None,
    typer.Option(
        "--break",
        help="Plant an error of this kind in one file; `list` says which there are.",
        metavar="KIND",
        show_default=False,
    ),
]

_Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Say more: steps and versions.")]
_Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say results and errors only.")]
Specs = Annotated[
    list[Path] | None,
    typer.Option(
        "--specs",
        help="Folder of your own profiles, sources, targets and variables, added to ours or over "
        "them; may be given several times. Default: $GEOCAL_SPECS.",
        metavar="DIR",
        parser=_place,
        show_default=False,
    ),
]
_LogFile = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        help="Also append everything, steps and errors, to FILE.",
        metavar="FILE",
        parser=_place,
    ),
]
_Traceback = Annotated[
    bool, typer.Option("--traceback", help="With an error, also print where in the code it arose.")
]
_AROUND = {
    "verbose": (_Verbose, False),
    "quiet": (_Quiet, False),
    "log_file": (_LogFile, None),
    "traceback": (_Traceback, False),
}

LISTS = ("--hold-out", "--pairs-per-area", "--pairs", "--methods", "--states", "-s")


class ListOptions(typer.core.TyperCommand):
    """A command whose list options take several words (``--pairs 20 40``), commas, or both."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        joined: list[str] = []
        for word in args:
            follows = len(joined) >= 2 and joined[-2] in LISTS
            if follows and not word.startswith("-"):
                joined[-1] += f",{word}"
            else:
                joined.append(word)
        return super().parse_args(ctx, joined)


def on_terminal(work: Callable[..., int | None]) -> Callable[..., None]:
    """A command of ``work(terminal, ...)``: with the options that every command has.

    ``work`` returns the exit status (None: success). A GeocalError, a full or forbidden disk, and
    Ctrl-C end in one message on standard error.
    """

    @functools.wraps(work)
    def command(
        *, verbose: bool, quiet: bool, log_file: Path | None, traceback: bool, **chosen: Any
    ) -> None:
        if verbose and quiet:
            raise typer.BadParameter("--verbose and --quiet exclude each other: leave one out")
        name_specs(chosen.pop("specs", None), chosen.get("profile"))
        with opened(Verbosity(int(verbose) - int(quiet), traceback), log_file) as terminal:
            status = _ended(terminal, lambda: work(terminal, **chosen))
        raise typer.Exit(status)

    own = list(inspect.signature(work, eval_str=True).parameters.values())[1:]
    if any(parameter.name in ("profile", "as_json") for parameter in own):
        kind = inspect.Parameter.KEYWORD_ONLY
        own.append(inspect.Parameter("specs", kind, default=None, annotation=Specs))
    around = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=option)
        for name, (option, default) in _AROUND.items()
    ]
    parameters = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own] + around
    # What typer reads options from.
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010
    command.__annotations__ = {p.name: p.annotation for p in parameters}
    return command


def name_specs(specs: list[Path] | None, profile: str | None) -> None:
    """Put folders and file into the environment, which everything here and every process that a
    command starts reads them from."""
    if specs:
        named = (str(folder.expanduser().resolve()) for folder in specs)
        os.environ[SPECS_VARIABLE] = os.pathsep.join(named)
    file = profile_file(profile)
    if file is not None:
        os.environ[PROFILE_VARIABLE] = str(file)


def _ended(terminal: Terminal, work: Callable[[], int | None]) -> int:
    """The exit status of ``work``, its error in words."""
    started = time.monotonic()
    terminal.record(f"geocal {shlex.join(sys.argv[1:])}")
    terminal.detail(f"geocal {geocal_version()}, Python {platform.python_version()}")
    try:
        with _recorded(terminal):
            status = work() or 0
    except GeocalError as error:
        terminal.error(str(error))
        status = FAILED
    except BrokenPipeError:
        raise
    except OSError as error:
        terminal.error(str(_of_the_system(error)))
        status = FAILED
    except KeyboardInterrupt:
        terminal.error("Interrupted. What was made before is kept.")
        status = INTERRUPTED
    terminal.detail(f"exit status {status} after {time.monotonic() - started:.1f} s")
    return status


@contextlib.contextmanager
def _recorded(terminal: Terminal) -> Iterator[None]:
    """Put the traceback of whatever ends the work into the log file, and show it if asked to."""
    try:
        yield
    finally:
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, KeyboardInterrupt):
            terminal.trace("".join(tracebacks.format_exception(error)))


def _of_the_system(error: OSError) -> StoreError:
    """A refusal of the operating system (disk full, no permission) as one of ours."""
    place = ", ".join(str(name) for name in (error.filename, error.filename2) if name)
    return StoreError(
        f"The operating system refused: {error.strerror or error}",
        where=place or "not said",
        expected="a disk with room, and files that may be read and written",
        remedy="Free room or change the permission, or pass --output with another folder",
    )
