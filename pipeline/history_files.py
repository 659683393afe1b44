"""The SQLite files of a record of runs, held open for as long as this process uses the record.

Dagster opens and closes a connection for each event. The last connection of a file to close writes
the log of what is new (``-wal``) back into the file, and waits for the disk: twice for each event.
While one connection of our own stays open, no other is the last. Meanwhile each commit goes into
the log without waiting (``synchronous=NORMAL``). A process that is killed loses nothing by that. A
machine that loses power may lose what came after the last ``write_back``; the files stay whole.

Dagster's UI follows a run by the changes of its file. What is new is now in the log beside it, so
the file's time is set after each write.

No other code of this process may open such a file meanwhile but through SQLite: closing it would
drop the locks of all its connections (https://sqlite.org/howtocorrupt.html).

Belongs here: connections of our own to those files, and how commits wait. Does not belong here:
which record there is and its errors (``instances.py``), or what it says (``run_history.py``).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.pool import ConnectionPoolEntry

KEPT = 8
"""Files of one record held open at a time, those used last: three that all runs share, and those of
some runs. Each takes four or five of the files that a process may open: its log, the log's index,
and itself, which SQLite opens for each connection and closes with the last."""

_FILE = "geocal_history_file"


class _Record:
    """The files of the record in ``home`` that are held open, least lately used first."""

    def __init__(self, home: Path) -> None:
        self._below = tuple(f"{path}{os.sep}" for path in {home.absolute(), home.resolve()})
        self._kept: OrderedDict[str, sqlite3.Connection] = OrderedDict()

    def has(self, file: str) -> bool:
        return file.startswith(self._below)

    def keep(self, file: str) -> bool:
        """Hold ``file`` open; False if it has no log beside it (yet), so that it cannot be."""
        if file not in self._kept:
            keeper = _keeper(file)
            if keeper is None:
                return False
            self._kept[file] = keeper
        self._kept.move_to_end(file)
        if len(self._kept) > KEPT:
            _close(self._kept.popitem(last=False)[1])
        return True

    def let_go(self) -> None:
        while self._kept:
            _close(self._kept.popitem()[1])


_open: list[_Record] = []
_lock = threading.Lock()


@contextlib.contextmanager
def held_open(home: Path) -> Iterator[None]:
    """Hold SQLite files below ``home`` open from their first use by SQLAlchemy in this process.

    Enclose the use of the instance in it: when it ends, the logs are written back and removed,
    unless another process still has them open.
    """
    record = _Record(home)
    with _lock:
        _open.append(record)
    try:
        yield
    finally:
        with _lock:
            _open.remove(record)
            record.let_go()


def write_back() -> None:
    """Bring what was written so far to the disk, and close the files until their next use: when a
    run is over, or something was written that a loss of power must not take back.
    """
    with _lock:
        for record in _open:
            record.let_go()


def _keeper(file: str) -> sqlite3.Connection | None:
    """A connection that keeps the log of ``file``, and holds no lock that anybody waits for; None
    if the file has no log. It never makes a file, and never waits.
    """
    keeper = sqlite3.connect(
        f"{Path(file).as_uri()}?mode=rw",
        uri=True,
        timeout=0,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        (mode,) = keeper.execute("PRAGMA journal_mode").fetchone()
        if mode == "wal":
            # A connection counts once it has read.
            keeper.execute("SELECT count(*) FROM sqlite_master").fetchall()
            return keeper
    except sqlite3.Error:
        keeper.close()
        raise
    keeper.close()
    return None


def _close(keeper: sqlite3.Connection) -> None:
    # Whoever opens the file next writes back what cannot be written now.
    with contextlib.suppress(sqlite3.Error):
        # Closing does this only if nobody else has the file open.
        keeper.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
    with contextlib.suppress(sqlite3.Error):
        keeper.close()


@event.listens_for(Engine, "connect")
def _connected(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Hold the file of a new connection open, and let its commits not wait for the disk. What
    cannot be done is left: Dagster's own statement meets the same cause, and that is said.
    """
    if not _open or not isinstance(connection, sqlite3.Connection):
        return
    with contextlib.suppress(sqlite3.Error):
        file = str(connection.execute("PRAGMA database_list").fetchone()[2])
        with _lock:
            kept = [record.keep(file) for record in _open if record.has(file)]
        if any(kept):
            connection.execute("PRAGMA synchronous=NORMAL")
            entry.info[_FILE] = file


@event.listens_for(Engine, "close")
def _closed(connection: Any, entry: ConnectionPoolEntry) -> None:
    """Show those who watch the file that something was written."""
    file = entry.info.pop(_FILE, None)
    if file is not None and connection.total_changes:
        with contextlib.suppress(OSError):
            os.utime(file)


def _before_fork() -> None:
    # SQLite's connections must not be carried into another process; the next use opens new ones.
    _lock.acquire()
    for record in _open:
        record.let_go()


os.register_at_fork(
    before=_before_fork, after_in_parent=_lock.release, after_in_child=_lock.release
)
