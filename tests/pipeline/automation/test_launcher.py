"""A run whose process was killed does not stand as STARTED for ever."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.launcher import WorkerStatus
from dagster._daemon.monitoring.run_monitoring import monitor_started_run

from pipeline.assets.common import PROJECT_ROOT
from pipeline.launcher import LocalRunLauncher, lives, process_of
from pipeline.settings import RunEnvironment, ensure_instance_home

_SCRIPT = """
import sys, time
from pathlib import Path
import dagster as dg
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions

folder = Path(sys.argv[1])
environment = RunEnvironment("sample", folder / "raw", folder / "output")

def work(context):
    print("working", flush=True)
    time.sleep(120)

definitions = toy_definitions(environment, work=work)
with dg.DagsterInstance.from_config(str(environment.dagster_home)) as instance:
    for job, state in (("national_inputs", None), ("states", "DE")):
        definitions.resolve_job_def(job).execute_in_process(instance=instance, partition_key=state)
"""


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    made = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    ensure_instance_home(made)
    return made


@pytest.fixture
def at_work(environment, tmp_path):
    """A process in the middle of a state's run."""
    process = subprocess.Popen(
        [sys.executable, "-c", _SCRIPT, str(tmp_path)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "working\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def started(instance: dg.DagsterInstance) -> dg.DagsterRun:
    filters = dg.RunsFilter(statuses=[dg.DagsterRunStatus.STARTED])
    (run,) = instance.get_runs(filters)
    return run


def test_a_killed_run_is_ended_by_monitoring_and_not_started_again(environment, at_work):
    with dg.DagsterInstance.from_config(str(environment.dagster_home)) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, LocalRunLauncher)
        run = started(instance)
        assert process_of(instance, run.run_id)[0] == at_work.pid
        assert launcher.check_run_worker_health(run).status == WorkerStatus.RUNNING
        at_work.kill()
        at_work.wait()
        health = launcher.check_run_worker_health(run)
        assert health.status == WorkerStatus.FAILED and str(at_work.pid) in health.msg
        record = instance.get_run_record_by_id(run.run_id)
        monitor_started_run(instance, None, record, logging.getLogger())
        ended = instance.get_run_by_id(run.run_id)
    assert ended.status == dg.DagsterRunStatus.FAILURE
    assert ended.tags["dagster/max_retries"] == "0"
    assert ended.tags.get("dagster/will_retry") != "true"


def test_a_run_of_the_terminal_is_stopped_from_the_ui(environment, at_work):
    with dg.DagsterInstance.from_config(str(environment.dagster_home)) as instance:
        run = started(instance)
        assert instance.run_launcher.terminate(run.run_id)
        at_work.wait(timeout=30)
        for _ in range(50):
            if instance.get_run_by_id(run.run_id).is_finished:
                break
            time.sleep(0.1)
        status = instance.get_run_by_id(run.run_id).status
    assert status == dg.DagsterRunStatus.CANCELED


def test_a_number_that_another_process_got_is_not_the_run():
    assert lives(os.getpid(), time.time())
    if Path("/proc/stat").exists():
        assert not lives(os.getpid(), time.time() - 10 * 365 * 86400)


def test_a_process_that_ended_and_nobody_asked_for_is_gone():
    process = subprocess.Popen([sys.executable, "-c", ""])
    since = time.time()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    # Its entry stays until its parent has asked.
    if Path("/proc/stat").exists():
        assert not lives(process.pid, since)
    process.wait()
    assert not lives(process.pid, since)
