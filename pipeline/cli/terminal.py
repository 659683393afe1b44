"""What the command line says, and where: results, notes, details and errors; terminal and log file.

Belongs here: the two streams and the log file, and which of the three a line goes to. Does not
belong here: what is said, or how progress looks (``cli/progress.py``).

========  ===============  ==========================
kind      stream           shown
========  ===============  ==========================
result    standard output  always
note      standard output  unless ``--quiet``
detail    standard error   with ``--verbose`` only
error     standard error   always
========  ===============  ==========================

All four go to the log file, if there is one. Details are no part of standard output, which may
be JSON.

Dagster points the file descriptors 1 and 2 at files while an asset works. The streams here are
copies of what the descriptors were at the start, so they go on to the terminal and know that it
is one.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console, RenderableType

from pipeline.errors import StoreError

# A pipe or a log has no width of its own, and 80 columns would fold every table.
LOG_WIDTH = 132
SECONDS_FOR_THE_REST = 1.0


@dataclass(frozen=True)
class Verbosity:
    """How much is said. ``level``: -1 quiet, 0 usual, 1 verbose; ``traceback``: with each error."""

    level: int = 0
    traceback: bool = False


class Terminal:
    """The streams of one call of ``geocal``. Made by ``opened``."""

    def __init__(
        self, out: Console, err: Console, verbosity: Verbosity, log: TextIO | None
    ) -> None:
        # Held by whoever prints or draws: several threads do.
        self.one_writer = threading.RLock()
        self.out, self.err, self.verbosity, self._log = out, err, verbosity, log
        # While lines are drawn again on standard output, all else must go through its console, or
        # it would be drawn over.
        self.drawing = False

    @property
    def quiet(self) -> bool:
        """Whether only results and errors are wanted."""
        return self.verbosity.level < 0

    @property
    def verbose(self) -> bool:
        """Whether details are wanted too."""
        return self.verbosity.level > 0

    @property
    def live(self) -> bool:
        """Whether standard output is a terminal on which a line can be drawn again."""
        return self.out.file.isatty() and not self.out.is_dumb_terminal

    @property
    def width(self) -> int:
        """Columns that a result may take."""
        return self.out.width

    def result(self, what: RenderableType, **how: Any) -> None:
        """What was asked for."""
        self._say(self.out, what, shown=True, **how)

    # So that a report prints itself on a terminal as on a rich console.
    print = result

    def text(self, text: str) -> None:
        """A result for programs: exactly these characters and the end of the line."""
        self.out.out(text, highlight=False)
        self.record(text)

    def note(self, what: RenderableType, **how: Any) -> None:
        """What is good to know meanwhile."""
        self._say(self.out, what, shown=not self.quiet, **how)

    def detail(self, what: RenderableType, **how: Any) -> None:
        """What only helps to find something out."""
        self._say(self.err, what, shown=self.verbose, **how)

    def warn(self, text: str) -> None:
        """What somebody else found worth a warning, on standard error."""
        self._say(self.err, text, shown=not self.quiet, style="yellow", markup=False)

    def error(self, text: str) -> None:
        """What went wrong, in words, on standard error."""
        self._say(self.err, text, shown=True, style="red", markup=False)

    @contextlib.contextmanager
    def drawn(self) -> Iterator[None]:
        """While lines are drawn again: all that anybody prints goes above them, a line at a time.

        What is written to the descriptors 1 and 2 (a library's warning, a panic) would stand in
        the middle of them. Only where both are the terminal's, which the streams here copied.
        """
        self.drawing = True
        sys.stdout.flush()
        sys.stderr.flush()
        saved = [os.dup(1), os.dup(2)]
        end, start = os.pipe()
        for number, copy in ((1, saved[0]), (2, saved[1])):
            if os.isatty(copy):
                os.dup2(start, number)
        os.close(start)
        reader = threading.Thread(target=self._relay, args=(end,), daemon=True)
        reader.start()
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, copy in ((1, saved[0]), (2, saved[1])):
                os.dup2(copy, number)
                os.close(copy)
            # A program left behind may hold the other end; what it prints is of no interest here.
            reader.join(timeout=SECONDS_FOR_THE_REST)
            self.drawing = False

    def _relay(self, end: int) -> None:
        with os.fdopen(end, "r", encoding="utf-8", errors="replace") as lines:
            for line in lines:
                self.note(line.rstrip("\n"), markup=False)

    def trace(self, text: str) -> None:
        """Where in the code an error arose: into the log file, and shown if asked to."""
        if self.verbosity.traceback:
            self.error(text)
        else:
            self.record(text)

    def record(self, text: str) -> None:
        """Write to the log file alone, the time before each line."""
        if self._log is not None:
            now = time.strftime("%Y-%m-%d %H:%M:%S")
            self._log.writelines(f"{now}  {line.rstrip()}\n" for line in text.splitlines())
            self._log.flush()

    def _say(self, console: Console, what: RenderableType, *, shown: bool, **how: Any) -> None:
        how = {"highlight": False, **how}
        if shown:
            through = self.out if self.drawing and self.err.file.isatty() else console
            # A person reads whole words; in a file one sentence is one line, to be searched for.
            one_line = isinstance(what, str) and through.width == LOG_WIDTH
            with self.one_writer:
                through.print(what, **{"soft_wrap": one_line, **how})
        if self._log is not None:
            written = io.StringIO()
            plain = Console(file=written, width=LOG_WIDTH, no_color=True)
            plain.print(what, **{"soft_wrap": isinstance(what, str), **how})
            self.record(written.getvalue())


class _OfLibraries(logging.Handler):
    """What libraries log as a warning or worse: its words on standard error, its traceback in the
    log file alone. What a library says of Ctrl-C is in the log file alone: the user knows.
    """

    def __init__(self, terminal: Terminal) -> None:
        super().__init__(logging.WARNING)
        self._terminal = terminal

    def emit(self, record: logging.LogRecord) -> None:
        error = record.exc_info[1] if record.exc_info else None
        words = f"{record.name}: {record.getMessage()}"
        if isinstance(error, KeyboardInterrupt):
            self._terminal.record(words)
            return
        self._terminal.warn(words)
        if error is not None:
            self._terminal.trace("".join(traceback.format_exception(error)))


@contextlib.contextmanager
def opened(verbosity: Verbosity, log_file: Path | None = None) -> Iterator[Terminal]:
    """The terminal of one call. Raises StoreError if the log file cannot be written."""
    with contextlib.ExitStack() as stack:
        out, err = (stack.enter_context(_copied(stream)) for stream in (sys.stdout, sys.stderr))
        log = stack.enter_context(_log_file(log_file)) if log_file is not None else None
        terminal = Terminal(_console(out), _console(err), verbosity, log)
        handler = _OfLibraries(terminal)
        logging.getLogger().addHandler(handler)
        stack.callback(logging.getLogger().removeHandler, handler)
        yield terminal


class _Stream(Console):
    """A console whose reader may go away (``geocal run | head``): the work goes on unheard."""

    def on_broken_pipe(self) -> None:
        self.file = io.StringIO()
        self.quiet = True


def _console(stream: TextIO) -> Console:
    width = None if stream.isatty() or os.environ.get("COLUMNS") else LOG_WIDTH
    return _Stream(file=stream, width=width)


@contextlib.contextmanager
def _copied(stream: TextIO | None) -> Iterator[TextIO]:
    """A stream on a copy of the descriptor; the stream itself where it has none (a test's).

    Nothing is said on a stream that the caller closed (``geocal run >&-``), which Python leaves
    out.
    """
    if stream is None:
        with Path(os.devnull).open("w", encoding="utf-8") as nothing:
            yield nothing
        return
    try:
        copy = os.dup(stream.fileno())
    except io.UnsupportedOperation:
        yield stream
        return
    stream.flush()
    copied = os.fdopen(copy, "w", encoding=stream.encoding, errors="replace", buffering=1)
    try:
        yield copied
    finally:
        # Every line was written when it was said; what is left here was refused before.
        with contextlib.suppress(OSError):
            copied.close()


def _log_file(path: Path) -> TextIO:
    try:
        return path.expanduser().open("a", encoding="utf-8")
    except OSError as error:
        raise StoreError(
            f"The log file cannot be written ({error.strerror})",
            where=f"--log-file {path}",
            expected="a file in a folder that exists and that you may write to",
            remedy="Name another file",
        ) from error
