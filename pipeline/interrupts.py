"""Whether somebody asked this process to stop, whatever became of the signal.

Belongs here: noticing Ctrl-C and SIGTERM below Python's handlers, and sending them again. Does not
belong here: what an interrupted run leaves (``runs.py``), or what a person reads of it (``cli``).

An interrupt can be lost. Libraries catch everything around some of their imports, and Dagster
replaces the handler while it writes: a signal of that moment is remembered until the block ends,
and then forgotten. The operating system's own notice (``signal.set_wakeup_fd``) is not: each signal
leaves a byte in a socket, and ``asked`` reads it.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading

STOPPING = (signal.SIGINT, signal.SIGTERM)


class _Notice:
    """The socket, and what has been read out of it."""

    def __init__(self) -> None:
        self.ends: tuple[socket.socket, socket.socket] | None = None
        self.seen = False


_notice = _Notice()


def watch() -> None:
    """Begin to notice. Does nothing outside the main thread, where Python handles no signals."""
    if _notice.ends is not None or threading.current_thread() is not threading.main_thread():
        return
    reading, writing = socket.socketpair()
    reading.setblocking(False)
    writing.setblocking(False)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    _notice.ends = (reading, writing)


def asked() -> bool:
    """Whether SIGINT or SIGTERM has arrived since ``watch``, or since it was ``answered``."""
    _notice.seen = _read() or _notice.seen
    return _notice.seen


def answered() -> bool:
    """``asked``, for who answers it: what was asked is then done with."""
    found, _notice.seen = asked(), False
    return found


def _read() -> bool:
    if _notice.ends is None:
        return False
    with contextlib.suppress(BlockingIOError):
        return any(number in STOPPING for number in _notice.ends[0].recv(4096))
    return False


def again() -> None:
    """Where somebody asked, send SIGINT once more: to be called where a lost one would show, and no
    longer once it was answered."""
    if asked() and threading.current_thread() is threading.main_thread():
        signal.raise_signal(signal.SIGINT)
