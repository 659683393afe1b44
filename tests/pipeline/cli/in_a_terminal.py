"""Programs in a pseudo-terminal, as a person sees them.

Belongs here: running a command, with its output and when each part of it came, and what stands on
the screen afterwards. Does not belong here: what should stand there.
"""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import sys
import termios
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.assets.common import PROJECT_ROOT

LINES = 50
CONTROL = re.compile(r"\x1b\[([?0-9;]*)([A-Za-z])|\r|\n|[^\x1b\r\n]+")


@dataclass(frozen=True)
class Seen:
    """``parts``: (seconds since the start, text) as they came; ``status``: the exit status."""

    parts: tuple[tuple[float, str], ...]
    status: int

    @property
    def text(self) -> str:
        return "".join(text for _, text in self.parts)

    def after(self, words: str) -> float:
        """Seconds until ``words`` had come."""
        so_far = ""
        for seconds, text in self.parts:
            so_far += text
            if words in so_far:
                return seconds
        raise AssertionError(f"{words!r} never came in {self.text!r}")

    def screen(self, columns: int) -> list[str]:
        """The lines that are left, oldest first: moved and erased as the terminal does."""
        return screen_of(self.text, columns)


def program(module: str, *arguments: str) -> list[str]:
    """The command line of a Python module of this project."""
    return [sys.executable, "-m", module, *arguments]


def run_in_terminal(
    command: Sequence[str],
    *,
    columns: int = 80,
    environment: Mapping[str, str] | None = None,
    press: tuple[str, bytes] | None = None,
    limit: float = 240.0,
) -> Seen:
    """Run ``command`` in a terminal of ``columns``, from the project's folder.

    ``press``: (words, keys): keys pressed once when the words have come, b"\\x03" for Ctrl-C.
    """
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(PROJECT_ROOT)
        os.execve(command[0], list(command), {**os.environ, "TERM": "xterm", **(environment or {})})
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", LINES, columns, 0, 0))
    started, parts = time.monotonic(), []
    while text := _read(terminal, started + limit):
        parts.append((time.monotonic() - started, text))
        if press is not None and press[0] in "".join(each for _, each in parts):
            os.write(terminal, press[1])
            press = None
    os.close(terminal)
    return Seen(tuple(parts), os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]))


def _read(terminal: int, deadline: float) -> str:
    """The next output; empty at the end. The kernel says EIO when the last program has gone."""
    ready, _, _ = select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise AssertionError("the program went on too long")
    try:
        return os.read(terminal, 65536).decode("utf-8", "replace")
    except OSError:
        return ""


def screen_of(text: str, columns: int) -> list[str]:
    """What a terminal of ``columns`` shows of ``text``: enough of one to follow lines that are
    drawn again (carriage return, line feed, cursor up, erase).
    """
    lines: list[list[str]] = [[]]
    row = column = 0
    for mark in CONTROL.finditer(text):
        if mark.group(2) == "A":
            row -= int(mark.group(1) or 1)
        elif mark.group(2) == "K":
            lines[row] = [] if mark.group(1) == "2" else lines[row][:column]
        elif mark.group(2):
            continue
        elif mark.group() == "\r":
            column = 0
        elif mark.group() == "\n":
            row += 1
        else:
            for letter in mark.group():
                if column == columns:
                    row, column = row + 1, 0
                _put(lines, row, column, letter)
                column += 1
        while len(lines) <= row:
            lines.append([])
    return ["".join(line).rstrip() for line in lines]


def _put(lines: list[list[str]], row: int, column: int, letter: str) -> None:
    while len(lines) <= row:
        lines.append([])
    line = lines[row]
    line.extend(" " * (column + 1 - len(line)))
    line[column] = letter
