"""The command ``geocal``: run a profile, list profiles, show a state's result, check files,
validate, open the UI.

Belongs here: options, progress, tables on the terminal, exit statuses. Does not belong here: how a
profile is run (``pipeline/runs.py``) or what a result says (``pipeline/reports/show.py``).

Exit status: 0 success, 1 the work failed (its reason on standard error), 2 wrong usage, 130
interrupted by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from calibration_core.errors import GeocalError
from pipeline.cli_progress import RunProgress
from pipeline.cli_validate import (
    HoldOutOption,
    JsonFileOption,
    ListOptions,
    MethodsOption,
    PlotOption,
    SeedsOption,
    run_validation,
)
from pipeline.cli_validate import PairsOption as BudgetsOption
from pipeline.errors import ProfileError
from pipeline.partitions import order_states, parse_states
from pipeline.settings import (
    DATA_VARIABLE,
    MAX_CONCURRENT_RUNS,
    RunEnvironment,
    ensure_instance_home,
    ensure_writable,
    peak_memory_mb,
    run_environment,
    thread_variables,
)

app = typer.Typer(
    name="geocal",
    help=(
        "Household weights that reproduce official statistics for the nation, states, counties and"
        " census tracts at once.\n\nStart with `geocal run`: it makes a small SYNTHETIC sample and"
        " needs no files. `geocal profiles` lists what else can be run."
    ),
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    add_completion=False,
)
INTERRUPTED = 130
# A pipe or a log has no width of its own, and 80 columns would break every table.
LOG_WIDTH = 132
out = Console(width=None if sys.stdout.isatty() else LOG_WIDTH)
err = Console(stderr=True, width=None if sys.stderr.isatty() else LOG_WIDTH)

ProfileOption = Annotated[
    str | None,
    typer.Option(
        "--profile",
        "-p",
        help="Profile to use (see `geocal profiles`). Default: $GEOCAL_PROFILE, or sample.",
    ),
]
PairsOption = Annotated[
    int | None,
    typer.Option(
        "--pairs",
        help=(
            "Number of (household, area) pairs to keep in each state. Default: the profile's budget"
            " an area."
        ),
        min=1,
        show_default=False,
    ),
]
StatesOption = Annotated[
    str | None,
    typer.Option(
        "--states",
        "-s",
        help=(
            "Postal codes, separated by commas, such as RI,DE. Default: every state of the profile."
        ),
    ),
]
DataOption = Annotated[
    Path | None,
    typer.Option(
        "--data",
        "-d",
        help="Folder of raw files as published. Default: $GEOCAL_DATA; the sample writes its own.",
    ),
]
OutputOption = Annotated[
    Path | None,
    typer.Option(
        "--output",
        "-o",
        help="Folder for results and run history. Default: $GEOCAL_OUTPUT, or ./output.",
    ),
]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="On failure, also print where in the code it happened.")
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="Print JSON on standard output instead of tables.")
]


def _version(wanted: bool) -> None:
    if wanted:
        from pipeline.manifest import geocal_version

        typer.echo(f"geocal {geocal_version()}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_version, is_eager=True, help="Print the version and stop."
        ),
    ] = False,
) -> None:
    # No docstring: the text above the commands is the application's own.
    del version


def _resolve(profile: str | None, data: Path | None, output: Path | None):
    """The profile and its environment.

    Raises ProfileError for an unknown profile, and for a profile of real files without a data
    folder or with the generator's own.
    """
    from pipeline.specs.catalog import load_catalog

    environment = run_environment(profile, data, output)
    loaded = load_catalog().profile(environment.profile)
    if loaded.synthetic:
        if data is not None:
            raise ProfileError(
                f"Profile {loaded.id} is synthetic and makes its own files",
                where=f"--data {data}",
                expected="no data folder",
                remedy="Leave --data out, or name a profile of real files (`geocal profiles`)",
            )
        return loaded, environment.generated()
    if not environment.data.is_dir():
        raise ProfileError(
            f"Profile {loaded.id} reads real files, and there is no data folder",
            where=str(environment.data),
            expected="a folder of raw files as published",
            remedy=(
                f"Pass --data DIR (or set GEOCAL_DATA); `geocal check --profile {loaded.id} --data"
                " DIR` then says which files are wanted"
            ),
        )
    from pipeline.sample.generate import STAMP

    if (environment.data / STAMP).exists():
        raise ProfileError(
            f"Profile {loaded.id} reads real files, and the folder holds SYNTHETIC files",
            where=str(environment.data / STAMP),
            expected=(
                "a folder of raw files as published, without the stamp of the sample generator"
            ),
            remedy=(
                f"Pass --data DIR (or set {DATA_VARIABLE}) with the published files; the made-up"
                " ones are read by `geocal run --profile sample`"
            ),
        )
    return loaded, environment


def _chosen(states: str | None, loaded) -> list[str]:
    """The states of ``--states`` in the order they run; all of the profile's where it was not
    given. Raises ProfileError for none or unknown ones.
    """
    if states is not None and not states.replace(",", " ").strip():
        there = f"states of profile {loaded.id}: {', '.join(order_states(loaded.states))}"
        remedy = "Name one or more, separated by commas, or leave --states out for all of them"
        raise ProfileError(
            "No state is named",
            where=f"--states {shlex.quote(states)}",
            expected=there,
            remedy=remedy,
        )
    return parse_states(states, loaded.states, loaded.id)


def _one_state(text: str, loaded) -> str:
    """The argument STATE as a postal code. Raises ProfileError unless it is exactly one state of
    the profile.
    """
    there, asked = order_states(loaded.states), text.strip().upper()
    if asked not in there:
        found = (
            f"Profile {loaded.id} has no state {asked}"
            if asked and "," not in asked
            else f"One state is expected, not {text!r}"
        )
        remedy = "Name one of them; for several, show one after the other"
        raise ProfileError(
            found,
            where="the argument STATE",
            expected=f"one state of this profile: {', '.join(there)}",
            remedy=remedy,
        )
    return asked


@app.command()
def run(
    profile: ProfileOption = None,
    states: StatesOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    pairs: PairsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Run every asset of a profile for the chosen states and print how well the weights fit."""
    loaded, environment = _resolve(profile, data, output)
    chosen = _chosen(states, loaded)
    ensure_instance_home(environment)
    from pipeline.definitions import build_definitions
    from pipeline.runs import run_profile

    started = time.monotonic()
    out.print(f"Profile [bold]{loaded.id}[/bold]: {loaded.title}", highlight=False, soft_wrap=True)
    if loaded.synthetic:
        out.print(
            "[bold red]SYNTHETIC[/bold red]: every figure below comes from a made-up population."
        )
    definitions = build_definitions(loaded, environment)
    config = {"selected_pairs": {"config": {"pairs": pairs}}} if pairs is not None else None
    with RunProgress(definitions, out) as progress:
        outcome = run_profile(
            definitions, environment, chosen, listener=progress.listen, state_config=config
        )
    for job in outcome.jobs:
        for step, message in job.failures.items():
            err.print(
                f"FAILED {job.partition or 'nation'}, asset {step}: {message}",
                style="red",
                highlight=False,
                markup=False,
            )
        if traceback and job.traceback:
            err.print(job.traceback, highlight=False, markup=False)
    if outcome.interrupted:
        err.print(outcome.interruption, style="red", highlight=False, markup=False, soft_wrap=True)
    elif outcome.not_started:
        err.print(f"Not started: {', '.join(outcome.not_started)}", style="red")
    _print_results(
        environment, [job.partition for job in outcome.jobs if job.partition and job.success]
    )
    _print_seconds(outcome.jobs)
    out.print(
        f"{time.monotonic() - started:.1f} s in all, peak memory {peak_memory_mb():,.0f} MiB;"
        f" results in {environment.root}",
        highlight=False,
        soft_wrap=True,
    )
    if outcome.interrupted:
        raise typer.Exit(INTERRUPTED)
    if not outcome.success:
        raise typer.Exit(1)


@app.command()
def profiles(as_json: JsonOption = False) -> None:
    """List the profiles: what each one reads and for which states."""
    from pipeline.specs.catalog import load_catalog

    found = load_catalog().profiles
    if as_json:
        rows = [
            {
                "id": p.id,
                "title": p.title,
                "synthetic": p.synthetic,
                "states": list(p.states),
                "target_year": p.target_year,
                "levels": list(p.levels),
            }
            for p in found.values()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = Table("profile", "what it is", "states", "year", "finest level", "files")
    for item in found.values():
        files = "generated (SYNTHETIC)" if item.synthetic else "--data DIR"
        table.add_row(
            item.id,
            item.title,
            ", ".join(order_states(item.states)),
            str(item.target_year),
            item.finest_level,
            files,
        )
    out.print(table)


@app.command()
def show(
    state: Annotated[str, typer.Argument(help="Postal code of the state, such as RI.")],
    profile: ProfileOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a state's last result: fit by level, worst targets, weights, seconds and memory.
    `docs/dagster.md` explains the JSON.
    """
    from pipeline.reports.show import print_state, state_report
    from pipeline.specs.catalog import load_catalog

    environment = run_environment(profile, None, output)
    postal = _one_state(state, load_catalog().profile(environment.profile))
    report = state_report(environment, postal)
    if as_json:
        typer.echo(json.dumps(report, indent=2))
    else:
        print_state(report, out)


@app.command()
def check(
    profile: ProfileOption = None,
    states: StatesOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    as_json: JsonOption = False,
) -> None:
    """Look at every raw file a profile needs: is it there, whole, and of the layout and vintage
    expected?
    """
    from pipeline.sources.registry import check_source
    from pipeline.specs.sources import load_source

    loaded, environment = _resolve(profile, data, output)
    chosen = _chosen(states, loaded)
    if loaded.synthetic:
        ensure_writable(environment, environment.data)
        from pipeline.sample.generate import ensure_sample

        ensure_sample(environment.data)
    lines = []
    with err.status("Reading files") as status:
        for source, vintages in sorted(loaded.sources.items()):
            for vintage in vintages:
                status.update(f"Reading {source} {vintage}")
                lines += [
                    (vintage, line)
                    for line in check_source(load_source(source), vintage, environment.data, chosen)
                ]
    faulty = [line for _, line in lines if not line.ok]
    if as_json:
        typer.echo(
            json.dumps([{"vintage": vintage, **asdict(line)} for vintage, line in lines], indent=2)
        )
    else:
        table = Table("source", "vintage", Column("file", overflow="fold"), "bytes", "result")
        for vintage, line in lines:
            path = Path(line.path)
            name = (
                path.relative_to(environment.data).as_posix()
                if path.is_relative_to(environment.data)
                else line.path
            )
            table.add_row(
                line.source,
                vintage,
                name,
                f"{line.bytes:,}",
                line.message if line.ok else "[red]FAULTY[/red]",
            )
        out.print(table)
        for line in faulty:
            err.print(
                f"{line.source}: {line.message}",
                style="red",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )
        out.print(f"{len(lines) - len(faulty)} of {len(lines)} files are ready.", highlight=False)
    if faulty:
        raise typer.Exit(1)


@app.command(cls=ListOptions)
def validate(
    hold_out: HoldOutOption,
    profile: ProfileOption = None,
    states: StatesOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    pairs: BudgetsOption = "20 40 60 100",
    seeds: SeedsOption = 3,
    methods: MethodsOption = None,
    json_file: JsonFileOption = None,
    plot: PlotOption = None,
) -> None:
    """Withhold whole families of targets and report how well every sparse method meets them, at
    equal numbers of pairs (docs/validation.md).
    """
    loaded, environment = _resolve(profile, data, output)
    raise typer.Exit(
        run_validation(
            loaded,
            environment,
            _chosen(states, loaded),
            hold_out,
            pairs,
            seeds,
            methods,
            json_file,
            plot,
            out,
        )
    )


@app.command(name="env")
def environment_variables(
    profile: ProfileOption = None, data: DataOption = None, output: OutputOption = None
) -> None:
    """Print the shell lines that point `dg` and `dagster` at a profile: eval "$(geocal env
    --profile sample)".
    """
    _, environment = _resolve(profile, data, output)
    ensure_instance_home(environment)
    for name, value in environment.variables().items():
        typer.echo(f"export {name}={shlex.quote(value)}")


@app.command()
def ui(
    profile: ProfileOption = None,
    data: DataOption = None,
    output: OutputOption = None,
    port: Annotated[
        int, typer.Option(help="Port of the UI on 127.0.0.1.", min=1, max=65535)
    ] = 3000,
) -> None:
    """Open the Dagster UI of a profile on 127.0.0.1, with the daemon that runs backfills, schedules
    and sensors. Ctrl-C stops both.
    """
    from pipeline.assets.common import PROJECT_ROOT

    loaded, environment = _resolve(profile, data, output)
    ensure_instance_home(environment)
    variables = {**os.environ, **thread_variables(MAX_CONCURRENT_RUNS), **environment.variables()}
    programs = Path(sys.executable).parent
    workspace = ["-w", str(PROJECT_ROOT / "workspace.yaml")]
    commands = [
        [str(programs / "dagster-webserver"), "-h", "127.0.0.1", "-p", str(port), *workspace],
        [str(programs / "dagster-daemon"), "run", *workspace],
    ]
    out.print(f"Profile {loaded.id} at http://127.0.0.1:{port} (Ctrl-C stops it)", highlight=False)
    raise typer.Exit(_serve(commands, variables, PROJECT_ROOT))


def _serve(commands: list[list[str]], variables: dict[str, str], folder: Path) -> int:
    """Run the commands side by side until one ends or a signal comes; then stop the others. Returns
    the exit status.
    """

    def stop(signum: int, frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, stop)
    processes = [subprocess.Popen(command, env=variables, cwd=folder) for command in commands]
    status = 0
    try:
        while all(process.poll() is None for process in processes):
            time.sleep(0.3)
        status = next((process.returncode for process in processes if process.returncode), 1)
    except KeyboardInterrupt:
        out.print("Stopping")
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                process.kill()
    return status


def _print_results(environment: RunEnvironment, states: list[str]) -> None:
    from pipeline.reports.show import print_fit, state_report

    for state in states:
        try:
            print_fit(state_report(environment, state), out)
        except GeocalError as error:
            err.print(str(error), style="red", highlight=False, markup=False)


def _print_seconds(jobs) -> None:
    """The slowest assets of the run, summed over its states."""
    total: dict[str, float] = {}
    for job in jobs:
        for step, seconds in job.seconds.items():
            total[step] = total.get(step, 0.0) + seconds
    slowest = sorted(total.items(), key=lambda item: -item[1])[:10]
    if slowest:
        text = ", ".join(f"{step} {seconds:.1f}" for step, seconds in slowest)
        out.print(
            f"Seconds by asset, slowest first: {text}; all {len(total)}: {sum(total.values()):.1f}",
            highlight=False,
            soft_wrap=True,
        )


def main() -> None:
    """Entry point: a GeocalError becomes its message on standard error and exit status 1."""
    try:
        app()
    except GeocalError as error:
        if "--traceback" in sys.argv:
            err.print_exception()
        err.print(str(error), style="red", highlight=False, markup=False, soft_wrap=True)
        raise SystemExit(1) from error


if __name__ == "__main__":
    main()
