"""Starting runs on this machine, and noticing that one is gone.

Belongs here: how Dagster's daemon asks whether the process of a run still lives, and how it is
stopped. Does not belong here: launching elsewhere (``deploy/`` configures Dagster's own launchers
for Celery and Kubernetes), or what a run does.

Dagster's launcher for one machine does not answer that question, so that a run whose process was
killed stands as STARTED for ever. Every run of geocal names its process in its event log, those of
``geocal run`` too.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.storage.tags import GRPC_INFO_TAG, MAX_RETRIES_TAG

from pipeline.processes import PROCESS_TAG, RUN_PROCESS_TAG, process_lives

_PROC = Path("/proc")
# An event is stamped after its process began; clocks of the two are read in different ways.
_SECONDS_OF_CLOCKS = 2.0


def process_of(instance: dg.DagsterInstance, run_id: str) -> tuple[int, float] | None:
    """The process that a run's newest event names, and when it did; None before the first."""
    entries = instance.all_logs(run_id, of_type=dg.DagsterEventType.ENGINE_EVENT)
    for entry in reversed(entries):
        data: Any = entry.dagster_event.event_specific_data if entry.dagster_event else None
        found = (getattr(data, "metadata", None) or {}).get("pid")
        if found is not None and str(found.value).isdigit():
            return int(found.value), entry.timestamp
    return None


def lives(pid: int, since: float) -> bool:
    """Whether the process that had this number at the time ``since`` (seconds of the epoch) still
    runs; a number that another process has got meanwhile does not count, where the system tells.
    """
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    try:
        after = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
        booted = next(
            int(line.split()[1])
            for line in (_PROC / "stat").read_text().splitlines()
            if line.startswith("btime")
        )
    except (OSError, StopIteration):
        return True
    began = booted + int(after[19]) / os.sysconf("SC_CLK_TCK")
    return after[0] != "Z" and began <= since + _SECONDS_OF_CLOCKS


class LocalRunLauncher(DefaultRunLauncher):
    """Dagster's launcher for one machine, which also knows whether a run's process lives. Not for
    daemon and code location in different containers: they do not see each other's processes.
    """

    @property
    def supports_check_run_worker_health(self) -> bool:
        return True

    def check_run_worker_health(self, run: dg.DagsterRun) -> CheckRunHealthResult:
        """FAILED where the process that the run named is gone."""
        found = process_of(self._instance, run.run_id)
        # The tag knows better: it holds when the clock was set meanwhile.
        tag = run.tags.get(RUN_PROCESS_TAG) or run.tags.get(PROCESS_TAG)
        there = process_lives(tag) if tag else found is None or lives(*found)
        if there or found is None:
            return CheckRunHealthResult(WorkerStatus.RUNNING)
        if GRPC_INFO_TAG not in run.tags:
            # One of `geocal run`: who killed that does not want it started again elsewhere.
            self._instance.add_run_tags(run.run_id, {MAX_RETRIES_TAG: "0"})
        return CheckRunHealthResult(
            WorkerStatus.FAILED, f"The process of this run ({found[0]}) is gone: it was killed"
        )

    def terminate(self, run_id: str) -> bool:
        """Stop a run; one of ``geocal run`` as Ctrl-C in its terminal would, with all that call was
        asked for.
        """
        run = self._instance.get_run_by_id(run_id)
        found = process_of(self._instance, run_id)
        if run is None or GRPC_INFO_TAG in run.tags or found is None or not lives(*found):
            return super().terminate(run_id)
        self._instance.report_run_canceling(run)
        try:
            os.kill(found[0], signal.SIGINT)
        except OSError:
            return False
        return True
