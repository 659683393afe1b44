"""The commands about releases and maps: names, options, help.

Belongs here: one function per command, as in ``cli/app.py``, which adds them to ``geocal``. Does
not belong here: the work.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.cli.options import Json, Output, Profile, State, States, on_terminal
from pipeline.cli.terminal import Terminal

To = Annotated[
    str | None,
    typer.Option(
        "--to",
        help="Folder of the releases, of this machine or as s3://BUCKET/FOLDER. Default: releases/ "
        "in the profile's folder of results.",
        metavar="FOLDER",
        show_default=False,
    ),
]


@on_terminal
def release(
    terminal: Terminal,
    profile: Profile = None,
    states: States = None,
    output: Output = None,
    to: To = None,
    partial: Annotated[
        bool,
        typer.Option(
            "--partial",
            help="Leave out, and name, states and national tables that do not belong together.",
        ),
    ] = False,
    pin: Annotated[
        str | None,
        typer.Option(
            "--pin",
            help="Keep it under this name: `geocal clean` never removes it.",
            metavar="NAME",
            show_default=False,
        ),
    ] = None,
    approvals: Annotated[
        Path | None,
        typer.Option(
            "--approvals",
            help="YAML file of approved changes, each with reason, person and last day.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    gate: Annotated[
        Path | None,
        typer.Option(
            "--gate",
            help="Thresholds in place of data_specs/release_gate.yaml.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check and compare, and write nothing.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Release the stored results: an immutable set, named by its content, with its certificate.

    It is compared with the last release and refused (exit status 1, nothing changed) where totals
    moved or targets went further than data_specs/release_gate.yaml and --approvals allow.
    docs/releases.md says more.
    """
    from pipeline.cli.release import ReleaseOptions, make

    wanted = ReleaseOptions(
        profile, states, output, to, partial, pin, approvals, gate, dry_run, as_json
    )
    return make(terminal, wanted)


@on_terminal
def releases(
    terminal: Terminal,
    profile: Profile = None,
    output: Output = None,
    to: To = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file and compare it with its SHA-256.")
    ] = False,
    as_json: Json = False,
) -> int:
    """List the releases of a profile, oldest first, with the names they are pinned under."""
    from pipeline.cli.release import show

    return show(terminal, profile, output, to, verify, as_json)


_Which = "A release (id or its beginning, latest, name of a pin), a folder, or current: the results"


@on_terminal
def diff(
    terminal: Terminal,
    a: Annotated[
        str, typer.Argument(help=f"{_Which} as they are stored now.", metavar="A")
    ] = "latest",
    b: Annotated[str, typer.Argument(help="The later one, named alike.", metavar="B")] = "current",
    profile: Profile = None,
    output: Output = None,
    to: To = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            "--threshold",
            help="Moves up to so many per cent are counted and not named. Default: 1.",
            metavar="PERCENT",
            min=0.0,
            show_default=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two releases: totals told or not, targets, weights, records, fit, raw files.

    With --verbose, lists are whole.
    """
    from pipeline.cli.release import diff as compare

    compare(terminal, a, b, profile, output, to, threshold, as_json)


@on_terminal
def clean(
    terminal: Terminal,
    profile: Profile = None,
    output: Output = None,
    to: To = None,
    keep: Annotated[
        int,
        typer.Option("--keep", help="How many of the newest releases stay.", min=1, metavar="N"),
    ] = 5,
    history_days: Annotated[
        int,
        typer.Option(
            "--history-days",
            help="Dagster's record of a run stays so many days.",
            min=1,
            metavar="DAYS",
        ),
    ] = 90,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Remove what is neither current nor released: old releases, leftovers, old run history.

    Current tables, the latest release and pinned ones are never removed, nor is the record of a run
    that made a table which is stored now.
    """
    from pipeline.cli.release import clean as remove

    remove(terminal, profile, output, to, keep, history_days, dry_run, as_json)


@on_terminal
def draw_map(
    terminal: Terminal,
    state: State,
    file: Annotated[
        Path, typer.Argument(help="Picture to write: .png, .svg or .html.", metavar="FILE")
    ],
    variable: Annotated[
        str | None,
        typer.Option(
            "--variable",
            help="Draw what the weights give for it, told or not, such as persons/veterans.",
            metavar="VARIABLE/DOMAIN",
            show_default=False,
        ),
    ] = None,
    fit: Annotated[
        bool, typer.Option("--fit", help="Draw how well targets are met. The default.")
    ] = False,
    per: Annotated[
        str | None,
        typer.Option(
            "--per",
            help="Divide --variable by another, such as persons/total.",
            metavar="VARIABLE/DOMAIN",
            show_default=False,
        ),
    ] = None,
    boundaries: Annotated[
        list[Path] | None,
        typer.Option(
            "--boundaries",
            help="GeoJSON or TopoJSON of counties or tracts, by GEOID; may be given several times."
            " Default: a grid of tiles.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    profile: Profile = None,
    output: Output = None,
) -> None:
    """Draw a state by tract and county: its fit, or any variable.

    Without boundaries each county is a block of squares, one for each tract.
    """
    from pipeline.cli.map import MapOptions, draw

    named = tuple(boundaries or ())
    draw(terminal, MapOptions(state, file, variable, fit, per, named, profile, output))


def add_to(app: typer.Typer) -> None:
    """Add these commands to ``geocal``."""
    for command in (release, releases, diff, clean):
        app.command()(command)
    app.command(name="map")(draw_map)
