"""One run at a time writes the tables of a state, and one those of the nation.

A lock is a file below ``locks/`` of the profile's output, locked by the operating system for as
long as the process lives: one that was killed holds nothing. Whoever holds it stands in the file,
for whoever comes second. `geocal run` and runs of the UI and the daemon take the same lock.

Belongs here: taking a lock, naming its holder, and removing what a killed run left half written.
Does not belong here: which run needs which lock (``runs.py``, ``definitions.py``).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import BusyError

FOLDER = "locks"
NATION = "nation"
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Holder:
    """Who writes: ``run``: id of the run; ``by``: the command, in words; ``since``: UTC."""

    run: str
    by: str
    pid: int
    host: str
    since: str

    @property
    def words(self) -> str:
        """The holder as a person reads it."""
        return (
            f"{self.by}, run {self.run[:8]}, process {self.pid} on {self.host}, since {self.since}"
        )


@dataclass
class _Held:
    file: Any
    runs: list[str]


_mine: dict[Path, _Held] = {}
_guard = threading.Lock()


def lock_path(root: Path, scope: str) -> Path:
    """The lock of a state (``RI``) or of the ``nation``."""
    return root / FOLDER / f"{scope}.lock"


def holder_of(root: Path, scope: str) -> Holder | None:
    """Who holds the lock at this moment; None where nobody does."""
    path = lock_path(root, scope)
    if path in _mine:
        return _read(path)
    try:
        with path.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return _read(path) or Holder("not known", "another run", 0, "not known", "not known")
    except OSError:
        return None
    return None


@contextlib.contextmanager
def held(
    root: Path,
    scope: str,
    run: str,
    by: str,
    *,
    wait: bool = False,
    say: Callable[[str], None] = lambda words: None,
) -> Iterator[None]:
    """Hold the lock of ``scope``; within this process, or for another process of the same ``run``,
    it may be taken again.

    ``wait``: until the holder is done, which ``say`` is told of, instead of raising. Temporary
    files that a killed run left among the tables of ``scope`` are removed first. Raises BusyError.
    """
    path = lock_path(root, scope)
    with _guard:
        mine = _mine.get(path)
        if mine is not None:
            mine.runs.append(run)
    if mine is None and not _take(root, scope, run, by, wait, say):
        yield  # another process of the same run has it
        return
    try:
        yield
    finally:
        _give_back(path)


def _take(
    root: Path, scope: str, run: str, by: str, wait: bool, say: Callable[[str], None]
) -> bool:
    """Whether the lock is held now; False where the same run has it already."""
    path = lock_path(root, scope)
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.open("a+b")
    told = False
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            holder = _read(path)
            if holder is not None and holder.run == run:
                file.close()
                return False
            if not wait:
                file.close()
                raise _busy(path, scope, holder) from None
            if not told:
                say(f"waiting for {holder.words if holder else 'another run'}")
                told = True
            time.sleep(POLL_SECONDS)
    since = datetime.now(UTC).isoformat(timespec="seconds")
    holder = Holder(run, by, os.getpid(), socket.gethostname(), since)
    file.truncate(0)
    file.write(json.dumps(holder.__dict__).encode())
    file.flush()
    with _guard:
        _mine[path] = _Held(file, [run])
    remove_temporaries(root, scope)
    return True


def _give_back(path: Path) -> None:
    with _guard:
        mine = _mine[path]
        mine.runs.pop()
        if mine.runs:
            return
        del _mine[path]
    with contextlib.suppress(OSError):
        mine.file.truncate(0)
    mine.file.close()


def remove_temporaries(root: Path, scope: str) -> list[Path]:
    """Remove what a killed run left half written among the tables of a state, or of the nation;
    only whoever holds the lock may. Returns what was removed.
    """
    if scope == NATION:
        left = [p for p in root.glob("*/.*.tmp") if p.parent.name != "manifests"]
    else:
        left = [*root.glob(f"*/state={scope}/.*.tmp"), *root.glob(f"manifests/.{scope}.json.*.tmp")]
    for path in left:
        path.unlink(missing_ok=True)
    return sorted(left)


def _read(path: Path) -> Holder | None:
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _busy(path: Path, scope: str, holder: Holder | None) -> BusyError:
    return BusyError(
        f"Another run writes the tables of {scope} now"
        + (f": {holder.words}" if holder is not None else ""),
        where=str(path),
        expected="one run at a time of a state",
        remedy="Wait until it is done and run again, or run with --wait; or end that process",
    )
