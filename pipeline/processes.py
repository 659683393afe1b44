"""Telling one process from any other, for as long as a run is remembered.

A number of a process is used again, and the clock may be set; a process's number together with the
ticks since the machine started at which it began is not.

Belongs here: naming this process, and whether a named one lives. Does not belong here: what is done
about a run whose process is gone (``launcher.py``, ``run_history.py``).
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

PROCESS_TAG = "geocal/process"
"""On a run of ``geocal run``: its process."""
RUN_PROCESS_TAG = "geocal/run_process"
"""On a run that Dagster's daemon started, put there when it begins: the process that does it."""


def process_tag() -> str:
    """This process, told from any other: host, process id, and when it started (in ticks of the
    machine; "" where the system does not say).
    """
    return f"{socket.gethostname()}:{os.getpid()}:{_started(os.getpid())}"


def process_lives(tag: str) -> bool:
    """Whether the process of a tag is there; one of another host is taken to be."""
    host, _, rest = tag.rpartition(":")[0].rpartition(":")
    pid, started = rest, tag.rpartition(":")[2]
    if host != socket.gethostname() or not pid.isdigit():
        return True
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return started in ("", _started(int(pid)))


def _started(pid: int) -> str:
    try:
        # The name of the program, in brackets, may hold spaces; the rest is by place.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""
