"""Progress of long work on the terminal: a live bar, or lines where there is no terminal.

Belongs here: how progress looks. Does not belong here: the work, or what its result says.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class RunProgress:
    """Progress by job and state: a bar each on a terminal, a line for each finished asset
    elsewhere.
    """

    def __init__(self, definitions, out: Console) -> None:
        self._definitions, self._out = definitions, out
        self._tasks: dict[tuple[str, str | None], object] = {}
        self._live = out.is_terminal
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<16}"),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.fields[asset]}"),
            console=out,
        )

    def __enter__(self) -> RunProgress:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def listen(self, event) -> None:
        label = event.partition or event.job.replace("_", " ")
        if not self._live:
            if event.kind != "started":
                ending = (
                    f"{event.seconds:6.1f} s"
                    if event.kind == "finished"
                    else f"  {event.kind.upper()}"
                )
                self._out.print(f"{label:<16} {event.asset:<28} {ending}", highlight=False)
            return
        key = (event.job, event.partition)
        if key not in self._tasks:
            from pipeline.runs import job_steps

            self._tasks[key] = self._progress.add_task(
                label, total=job_steps(self._definitions, event.job), asset=""
            )
        advance = 1 if event.kind == "finished" else 0
        shown = (
            event.asset
            if event.kind == "started"
            else (f"[red]{event.kind}[/red]" if event.kind != "finished" else "")
        )
        self._progress.update(self._tasks[key], advance=advance, asset=shown)


class StepProgress:
    """Progress: a bar with the present step on a terminal, a line for each problem elsewhere."""

    def __init__(self, out: Console, total: int) -> None:
        self._out, self._live = out, out.is_terminal
        columns = (
            SpinnerColumn(),
            BarColumn(bar_width=28),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
        )
        self._progress = Progress(*columns, console=out)
        self._task = self._progress.add_task("", total=total)

    def __enter__(self) -> StepProgress:
        if self._live:
            self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._progress.stop()

    def __call__(self, what: str, steps: int) -> None:
        self._progress.update(self._task, advance=steps, description=what)
        # In a log, one line for a state and for each dense calibration is enough.
        if not self._live and what.endswith((": reading", ": dense", ": nothing to withhold")):
            done = self._progress.tasks[0]
            self._out.print(f"{done.completed:.0f} of {done.total:.0f}  {what}", highlight=False)
