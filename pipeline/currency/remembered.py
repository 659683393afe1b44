"""A judge with what earlier processes found out: digests of raw files and of stored tables.

Both are kept in ``currency/digests.json`` of the profile's output. It is a memory and no record:
without it, everything is hashed again.

Belongs here: reading and writing that memory. Does not belong here: when a digest may be trusted
(``pipeline/stored.py``, ``raw.py``).
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline.code_used import write_memory
from pipeline.currency.judge import Failed, Judge
from pipeline.currency.making import FOLDER, Makings
from pipeline.currency.raw import RawDigests
from pipeline.settings import RunEnvironment
from pipeline.stored import StoredTables

FILE = "digests.json"


def _memory(path: Path) -> Mapping[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


@contextlib.contextmanager
def judging(makings: Makings, failed: Failed = lambda state: {}) -> Iterator[Judge]:
    """A judge of the profile's output; what it found out is remembered in the end, where the output
    may be written.
    """
    environment: RunEnvironment = makings.environment
    path = environment.root / FOLDER / FILE
    before = _memory(path)
    makings.raw = RawDigests(before.get("raw"))
    tables = StoredTables(environment.root, before.get("tables"), whole=True)
    try:
        yield Judge(makings, tables, failed)
    finally:
        write_memory(makings.code_memory)
        now = time.time_ns()
        after = {"raw": makings.raw.entries(now), "tables": tables.entries(now)}
        if after != before and path.parent.parent.is_dir():
            with contextlib.suppress(OSError):
                # In place: it is a memory, and one that was torn by a kill is none.
                path.parent.mkdir(exist_ok=True)
                path.write_text(json.dumps(after), encoding="utf-8")
