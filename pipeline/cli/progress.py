"""Progress of long work: two lines that move on a terminal, plain lines elsewhere.

Belongs here: how progress looks. Does not belong here: the work, or what its result says.

A terminal shows, from the first moment on, what is being done and for how long, also while one
asset works for minutes. The seconds run on in a thread of their own, and an asset's own words
(steps of a solver, rounds of a selection) stand beside them. A pipe or a log gets a line for each
finished asset, and the words of an asset that takes long, at most one line in ten seconds; there
are no control characters in it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from pipeline.cli.terminal import Terminal

if TYPE_CHECKING:
    from pipeline.fetch.fetching import Outcome
    from pipeline.fetch.wanted import Wanted
    from pipeline.run_events import AssetEvent

# Seconds between two lines of one asset where lines stay: often enough to see that it works, too
# seldom to fill a log.
BETWEEN_LINES = 10.0
REFRESHES = 8
BAR = 20


@dataclass
class _Job:
    """The job that is running: for whom, which of how many states, and how far."""

    name: str
    label: str
    place: str
    steps: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)


@dataclass
class _Step:
    """The asset that is running, and what it said last."""

    name: str
    said: str = ""
    started: float = field(default_factory=time.monotonic)
    told: float = field(default_factory=time.monotonic)


class _Moving(ABC):
    """Lines that are drawn again and again while the work goes on, on a terminal."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._started = time.monotonic()
        self._spinner = Spinner("dots", style="cyan")
        self._drawn = contextlib.ExitStack()
        self._live: Live | None = None
        self._still = threading.Event()
        if terminal.live and not terminal.quiet:
            self._live = Live(
                self,
                console=terminal.out,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
            )

    def __enter__(self) -> Self:
        if self._live is not None:
            self._drawn.enter_context(self._terminal.drawn())
            with self._terminal.one_writer:
                self._live.start(refresh=True)
            self._ticker = threading.Thread(target=self._tick, daemon=True)
            self._ticker.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            # What others printed last still belongs above the lines that go now.
            self._drawn.close()
            self._still.set()
            self._ticker.join()
            with self._terminal.one_writer:
                self._live.stop()

    def _refresh(self) -> None:
        """Draw once more. Live's own thread draws beside whoever prints: both then erase the same
        lines, and one of them stays on the screen."""
        if self._live is not None:
            with self._terminal.one_writer:
                self._live.refresh()

    def _tick(self) -> None:
        while not self._still.wait(1 / REFRESHES):
            self._refresh()

    @abstractmethod
    def __rich__(self) -> RenderableType:
        """What stands there now."""

    def _elapsed(self) -> float:
        return time.monotonic() - self._started

    def _row(self, *cells: RenderableType) -> Table:
        row = Table.grid(padding=(0, 1))
        row.add_row(self._spinner, *cells)
        return row


class RunProgress(_Moving):
    """Progress of ``geocal run``; ``listen`` takes the events of ``pipeline/runs.py``."""

    def __init__(self, terminal: Terminal) -> None:
        self._stage = "starting"
        self._states: Sequence[str] = ()
        self._steps_of: Callable[[str], int] = lambda job: 0
        self._job: _Job | None = None
        self._step: _Step | None = None
        super().__init__(terminal)

    def stage(self, text: str, *, tell: bool = False) -> None:
        """What is done before the first asset; ``tell``: a line of its own where lines stay."""
        self._stage = text
        self._terminal.record(text)
        if self._live is not None:
            self._refresh()
        elif tell:
            self._terminal.note(f"{text[0].upper()}{text[1:]} ...")

    def begin(self, states: Sequence[str], steps_of: Callable[[str], int]) -> None:
        """The jobs begin. ``steps_of``: the number of steps of a job, by its name."""
        self._states, self._steps_of = states, steps_of

    def listen(self, event: AssetEvent) -> None:
        """One event of a run."""
        name = event.partition or "nation"
        if event.kind == "planned":
            self._planned(name, event)
            return
        job = self._job
        if job is None or (job.name, job.label) != (event.job, name):
            place, steps = self._place(event.partition), self._steps_of(event.job)
            job = self._job = _Job(event.job, name, place, steps)
        if event.kind == "started":
            self._step = _Step(event.asset)
        elif event.kind == "message":
            self._heard(name, event)
        else:
            self._ended(job, event)

    def _planned(self, name: str, event: AssetEvent) -> None:
        """What of a job is made and why; the bar goes as far as that."""
        self._terminal.note(f"{name:<7} {event.message}", markup=False)
        job = self._job
        if job is None or (job.name, job.label) != (event.job, name):
            job = self._job = _Job(event.job, name, self._place(event.partition), 0)
        job.steps += event.steps

    def _place(self, partition: str | None) -> str:
        if partition is None or len(self._states) < 2:
            return ""
        return f"state {self._states.index(partition) + 1} of {len(self._states)}"

    def _heard(self, label: str, event: AssetEvent) -> None:
        step = self._step
        line = f"{label:<7} {event.asset:<28} {event.message}"
        if step is not None:
            step.said = event.message
        self._terminal.detail(line, markup=False)
        # Words are seen when they come: a short step may end before the next redraw.
        self._refresh()
        if self._terminal.verbose or self._live is not None or step is None:
            return
        now = time.monotonic()
        if now - max(step.started, step.told) >= BETWEEN_LINES:
            step.told = now
            self._terminal.note(f"{line} ({now - step.started:.0f} s)", markup=False)

    def _ended(self, job: _Job, event: AssetEvent) -> None:
        self._step = None
        finished = event.kind == "finished"
        ending = f"{event.seconds or 0.0:6.1f} s" if finished else f"  {event.kind.upper()}"
        line = f"{job.label:<7} {event.asset:<28} {ending}"
        job.done += finished
        if self._live is None:
            self._terminal.note(line)
        elif not finished:
            self._terminal.note(line, style="red")
        else:
            self._terminal.detail(line)
            # A line for each state that is done stays above those that move.
            if job.done == job.steps:
                seconds = time.monotonic() - job.started
                self._terminal.note(f"{job.label:<7} {job.done} assets in {seconds:.1f} s")

    def __rich__(self) -> RenderableType:
        if self._job is None:
            return self._row(_cut(f"{self._stage}, {self._elapsed():.0f} s"))
        job, step = self._job, self._step
        first = self._row(
            Text(job.label, style="bold"),
            ProgressBar(total=max(job.steps, 1), completed=job.done, width=BAR),
            Text(f"{job.done} of {job.steps} assets"),
            Text(job.place),
            Text(f"{self._elapsed():.0f} s", style="cyan"),
        )
        if step is None:
            return Group(first, Text())
        said = f": {step.said}" if step.said else ""
        return Group(first, _cut(f"  {step.name} {time.monotonic() - step.started:.0f} s{said}"))


def _cut(text: str) -> Text:
    return Text(text, no_wrap=True, overflow="ellipsis")


class Waiting(_Moving):
    """What is being done now, of work whose length is not known: called with each thing."""

    def __init__(self, terminal: Terminal, what: str) -> None:
        self._what = what
        super().__init__(terminal)

    def __call__(self, what: str) -> None:
        self._what = what
        self._terminal.detail(what, markup=False)

    def __rich__(self) -> RenderableType:
        return self._row(_cut(f"{self._what}, {self._elapsed():.0f} s"))


class FetchProgress(_Moving):
    """Progress of ``geocal fetch``: the file that comes with its speed, or lines that stay."""

    def __init__(self, terminal: Terminal, *, quiet: bool = False) -> None:
        self._name, self._place, self._why = "", "", ""
        self._have, self._first, self._size = 0, -1, 0
        self._since = self._told = time.monotonic()
        # Lines on standard output would stand in the JSON.
        self._note = terminal.detail if quiet else terminal.note
        super().__init__(terminal)

    def begins(self, wanted: Wanted, number: int, of: int) -> None:
        self._name, self._place, self._why = wanted.path.name, f"file {number} of {of}", ""
        self._have, self._first, self._size = 0, -1, 0
        self._since = self._told = time.monotonic()
        self._terminal.detail(f"{self._place}: {self._name} from {wanted.file.url}", markup=False)

    def moved(self, have: int, total: int | None) -> None:
        if self._first < 0:
            self._first = have
        self._have, self._size, self._why = have, total or 0, ""
        now = time.monotonic()
        if self._live is None and now - self._told >= BETWEEN_LINES:
            self._told = now
            self._note(f"{self._name}: {self._bytes()}", markup=False)

    def waits(self, why: str, seconds: float) -> None:
        self._why = f"{why}; next attempt in {seconds:.0f} s"
        self._note(f"{self._name}: {self._why}", markup=False)

    def ends(self, outcome: Outcome) -> None:
        said = f": {outcome.message}" if outcome.ready and outcome.message else ""
        self._note(f"{outcome.result:<14} {outcome.path}{said}", markup=False)

    def _bytes(self) -> str:
        seconds = time.monotonic() - self._since
        speed = (self._have - max(self._first, 0)) / seconds / 1e6 if seconds > 1 else 0.0
        of = f" of {self._size / 1e6:,.1f}" if self._size else ""
        return f"{self._have / 1e6:,.1f}{of} MB" + (f", {speed:.1f} MB per s" if speed else "")

    def __rich__(self) -> RenderableType:
        return self._row(
            Text(self._place),
            ProgressBar(total=self._size or None, completed=self._have, width=BAR),
            _cut(f"{self._name}: {self._why or self._bytes()}"),
        )


class StepProgress(_Moving):
    """Progress of ``geocal validate``: a bar with the present step, or lines that stay."""

    def __init__(self, terminal: Terminal, total: int) -> None:
        self._total, self._done = total, 0
        self._what = "starting"
        super().__init__(terminal)

    def __call__(self, what: str, steps: int) -> None:
        self._done, self._what = self._done + steps, what
        line = f"{self._done:.0f} of {self._total:.0f}  {what}"
        # In a log, one line for a state and for each dense calibration is enough.
        rare = what.endswith((": reading", ": dense", ": nothing to withhold"))
        if self._live is None and rare and not self._terminal.verbose:
            self._terminal.note(line, markup=False)
        else:
            self._terminal.detail(line, markup=False)

    def __rich__(self) -> RenderableType:
        elapsed = self._elapsed()
        rest = elapsed / self._done * (self._total - self._done) if self._done else None
        return self._row(
            ProgressBar(total=max(self._total, 1), completed=self._done, width=BAR),
            Text(f"{self._done:.0f} of {self._total:.0f}"),
            Text(f"{elapsed:.0f} s" + ("" if rest is None else f", {rest:.0f} s left"), "cyan"),
            _cut(self._what),
        )
