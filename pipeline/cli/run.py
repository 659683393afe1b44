"""The command ``geocal run``: every asset of a profile, with progress from the first second.

Belongs here: what is said before, during and after, and the exit status. Does not belong here: the
order of jobs (``pipeline/runs.py``), how progress looks (``cli/progress.py``), what a result says
(``reports/show.py``).
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calibration_core.errors import GeocalError
from pipeline.cli import FAILED, INTERRUPTED, staying, stop_if_asked
from pipeline.cli.progress import RunProgress
from pipeline.cli.terminal import Terminal
from pipeline.settings import ensure_instance_home, ensure_writable, memory_words

if TYPE_CHECKING:
    from dagster import Definitions

    from pipeline.cli.asked import Asked
    from pipeline.cli.current import Needing
    from pipeline.run_events import JobOutcome
    from pipeline.runs import ProfileOutcome

SLOWEST = 10


def run_states(
    terminal: Terminal,
    profile: str | None,
    states: str | None,
    data: Path | None,
    output: Path | None,
    pairs: int | None,
    force: bool = False,
    wait: bool = False,
) -> int:
    """Run, and return the exit status: 0, 1 if anything failed, 130 after Ctrl-C."""
    started = time.monotonic()
    with RunProgress(terminal) as progress:
        progress.stage("reading the specifications")
        from pipeline.cli.asked import asked_for

        asked = asked_for(profile, states, data, output)
        if pairs is not None:
            progress.stage("comparing --pairs with the areas")
            _require_pairs(asked, pairs)
        ensure_instance_home(asked.environment)
        _say_what_runs(terminal, asked)
        progress.stage("loading Dagster and the pipeline", tell=True)
        outcome = _run(progress, asked, pairs, force, wait)
    _say_what_failed(terminal, outcome)
    _print_results(terminal, asked, [j.partition for j in outcome.jobs if j.success])
    if outcome.current:
        terminal.note(
            f"Current, so nothing was made: {', '.join(outcome.current)} (`geocal show STATE` shows"
            " the result, `geocal run --force` makes it again)",
            markup=False,
        )
    _say_who_is_left_out(terminal, asked)
    _print_seconds(terminal, outcome.jobs)
    terminal.note(
        f"{time.monotonic() - started:.1f} s in all, {memory_words()};"
        f" results in {asked.environment.root}",
        markup=False,
    )
    if outcome.interrupted:
        return INTERRUPTED
    return 0 if outcome.success else FAILED


def _run(
    progress: RunProgress, asked: Asked, pairs: int | None, force: bool, wait: bool
) -> ProfileOutcome:
    with staying():
        from pipeline.definitions import build_definitions
        from pipeline.runs import job_steps, run_profile

        definitions = build_definitions(asked.profile, asked.environment)
    progress.begin(asked.states, lambda job: job_steps(definitions, job))
    stop_if_asked()
    config: dict[str, Any] = {}
    if pairs is not None:
        config = {"selected_pairs": {"config": {"pairs": pairs}}}
    with _needed(asked, definitions, pairs, force) as needed:
        return run_profile(
            definitions,
            asked.environment,
            asked.states,
            listener=progress.listen,
            state_config=config,
            needed=needed,
            wait=wait,
        )


def _needed(asked: Asked, definitions: Definitions, pairs: int | None, force: bool) -> Needing:
    """What of each job is not current; of ``force``, all."""
    from pipeline.cli.current import planning

    return planning(asked, definitions, pairs, force=force)


def _require_pairs(asked: Asked, pairs: int) -> None:
    from pipeline.specs.catalog import load_catalog
    from pipeline.weights.budget import require_pairs_of_peopled_areas

    if asked.profile.synthetic:
        from pipeline.sample.generate import ensure_sample

        ensure_writable(asked.environment, asked.environment.data)
        ensure_sample(asked.environment.data)
    for state in asked.states:
        own = asked.profile.of(state)
        require_pairs_of_peopled_areas(pairs, own, load_catalog(), state, asked.environment.data)


def _say_what_runs(terminal: Terminal, asked: Asked) -> None:
    terminal.note(f"Profile [bold]{asked.profile.id}[/bold]: {asked.profile.title}")
    if asked.profile.synthetic:
        terminal.note(
            "[bold red]SYNTHETIC[/bold red]: every figure below comes from a made-up population."
        )
    environment = asked.environment
    from pipeline.cli.choices import say_choices

    say_choices(terminal, asked)
    terminal.detail(f"States {', '.join(asked.states)}", markup=False)
    terminal.detail(f"Raw files {environment.data}", markup=False)
    terminal.detail(f"Results {environment.root}", markup=False)


def _say_what_failed(terminal: Terminal, outcome: ProfileOutcome) -> None:
    for job in outcome.jobs:
        for step, message in job.failures.items():
            terminal.error(f"FAILED {job.partition or 'nation'}, asset {step}: {message}")
        if job.traceback:
            terminal.trace(job.traceback)
    if outcome.interrupted:
        terminal.error(outcome.interruption)
    elif outcome.not_started:
        terminal.error(f"Not started: {', '.join(outcome.not_started)}")


def _say_who_is_left_out(terminal: Terminal, asked: Asked) -> None:
    """States with weights that the nation's tables do without, and why."""
    from pipeline.assets.names import NATIONAL_FIT
    from pipeline.assets.national_reports import NOT_RUN, left_out

    if not asked.environment.table_path(NATIONAL_FIT).exists():
        return
    for state, why in left_out(asked.profile, asked.environment, asked.profile.states).items():
        if why != NOT_RUN and asked.environment.table_path("weights", state).exists():
            terminal.warn(
                f"{state} is left out of the nation's tables: {why}. Run `geocal run --states"
                f" {state}`"
            )


def _print_results(terminal: Terminal, asked: Asked, states: Iterable[str | None]) -> None:
    from pipeline.reports.show import state_report
    from pipeline.reports.show_tables import print_fit, print_untold

    for state in filter(None, states):
        try:
            report = state_report(asked.environment, state)
        except GeocalError as error:
            terminal.error(str(error))
        else:
            print_fit(report, terminal)
            print_untold(report, terminal)


def _print_seconds(terminal: Terminal, jobs: Iterable[JobOutcome]) -> None:
    """The slowest assets of the run, summed over its states."""
    total: dict[str, float] = {}
    for job in jobs:
        for step, seconds in job.seconds.items():
            total[step] = total.get(step, 0.0) + seconds
    slowest = sorted(total.items(), key=lambda item: -item[1])[:SLOWEST]
    if slowest:
        text = ", ".join(f"{step} {seconds:.1f}" for step, seconds in slowest)
        terminal.note(
            f"Seconds by asset, slowest first: {text}; all {len(total)}: {sum(total.values()):.1f}"
        )
