"""Dagster's files of SQLite stay open while a run goes on: what is in them, who else reads them,
and what is left when the run ends, is killed, or loses them.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import dagster as dg
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from pipeline import history_files
from pipeline.assets.common import PROJECT_ROOT
from pipeline.instances import profile_instance
from pipeline.jobs import NATIONAL_INPUTS, STATES
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions

NORMAL, FULL = 1, 2
ENDS = ("PIPELINE_FAILURE", "PIPELINE_SUCCESS")

_RUN = """
import os, signal, sys
from pathlib import Path
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions

environment = RunEnvironment("sample", Path(sys.argv[1]) / "raw", Path(sys.argv[1]))

def work(context):
    context.log.info("about to end")
    if sys.argv[2] == "killed":
        os.kill(os.getpid(), signal.SIGKILL)

assert run_profile(toy_definitions(environment, work=work), environment, ["DE"]).success
"""

_FOLLOW = """
import sys, time
import dagster as dg

def seen(entry, cursor):
    print(entry.user_message, flush=True)

with dg.DagsterInstance.from_config(sys.argv[1]) as instance:
    instance.watch_event_logs(sys.argv[2], None, seen)
    print("watching", flush=True)
    sys.stdin.read()
"""


def python(script: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def asked(file: Path, statement: str) -> int:
    """What SQLite answers to a connection of SQLAlchemy, as Dagster makes its own."""
    with create_engine(f"sqlite:///{file}", poolclass=NullPool).connect() as connection:
        return connection.execute(text(statement)).scalar_one()


def logs(home: Path) -> list[str]:
    """Names of files whose log lies beside them."""
    return sorted(path.name.removesuffix("-wal") for path in home.rglob("*.db-wal"))


def stored(file: Path) -> list[str]:
    """Kinds of events in a run's file without its log. Read in another process: to close it here
    would drop the locks of this one.
    """
    script = """
import sqlite3, sys
with sqlite3.connect(f"file:{sys.argv[1]}?immutable=1", uri=True) as alone:
    for (kind,) in alone.execute("SELECT dagster_event_type FROM event_logs ORDER BY id"):
        print(kind)
"""
    return python(script, str(file)).communicate(timeout=60)[0].split()


def opened_below(home: Path) -> list[str]:
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            found.append(str(entry.readlink()))
    return [target for target in found if target.startswith(f"{home}{os.sep}")]


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


@pytest.fixture
def home(environment) -> Path:
    return environment.dagster_home


def runs_below(home: Path) -> Path:
    return home / "history" / "runs"


def make(environment: RunEnvironment, instance: dg.DagsterInstance, work: Callable = print):
    """Nation and one state within an open instance; the state's result."""
    definitions = toy_definitions(environment, work=work)
    for job, state in ((NATIONAL_INPUTS, None), (STATES, "DE")):
        result = definitions.resolve_job_def(job).execute_in_process(
            instance=instance, partition_key=state
        )
    return result


def test_while_a_run_goes_on_logs_stay_and_afterwards_all_is_in_the_files(environment, home):
    seen: dict[str, object] = {}

    def work(context):
        run = f"{context.run.run_id}.db"
        seen["logs"] = logs(home)
        seen["expected"] = sorted(["runs.db", "index.db", "schedules.db", run])
        files = [file for file in home.rglob("*.db") if file.name in seen["expected"]]
        seen["waits"] = [asked(file, "PRAGMA synchronous") for file in files]

    with profile_instance(environment) as instance:
        result = make(environment, instance, work)
    assert set(seen["expected"]) <= set(seen["logs"])
    assert seen["waits"] == [NORMAL] * 4
    assert not list(home.rglob("*.db-*"))
    assert len(stored(runs_below(home) / f"{result.run_id}.db")) >= len(result.all_events)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        kept = [e.dagster_event for e in instance.all_logs(result.run_id) if e.is_dagster_event]
        assert [e.message for e in result.all_events] == [
            e.message for e in kept if e.message in {x.message for x in result.all_events}
        ]
        assert instance.get_materialized_partitions(dg.AssetKey("weights")) == {"DE"}


def test_what_failed_is_on_the_disk_at_once_and_so_is_a_run_that_is_over(environment, home):
    """With another process at the files, whose connections keep the logs from being removed."""
    held: list[tuple[sqlite3.Connection, str]] = []
    heard: list[tuple[str, bool, str]] = []

    def work(context):
        reader = sqlite3.connect(runs_below(home) / f"{context.run.run_id}.db")
        reader.execute("SELECT count(*) FROM event_logs").fetchall()
        held.append((reader, context.run.run_id))

    def listener(event):
        if event.kind == "failed":
            file = runs_below(home) / f"{held[-1][1]}.db"
            heard.append((str(event.partition), "STEP_FAILURE" in stored(file), event.asset))

    definitions = toy_definitions(environment, broken=("RI",), work=work)
    outcome = run_profile(definitions, environment, ["RI", "DE"], listener=listener)
    assert outcome.failed_states == ["RI"]
    assert heard == [("RI", True, "weights")]
    for reader, run_id in held:
        assert stored(runs_below(home) / f"{run_id}.db")[-1] in ENDS
        reader.close()
    assert not logs(home)


def test_an_error_within_closes_the_files_too(environment, home):
    with pytest.raises(ZeroDivisionError), profile_instance(environment) as instance:
        make(environment, instance)
        assert logs(home)
        raise ZeroDivisionError
    assert not logs(home)
    assert asked(home / "history" / "runs.db", "PRAGMA synchronous") == FULL


def test_what_was_stored_before_a_kill_is_there_and_the_next_run_completes(environment, home):
    killed = python(_RUN, str(environment.output), "killed")
    assert killed.wait(120) == -signal.SIGKILL
    assert {"runs.db", "index.db"} < set(logs(home))
    with dg.DagsterInstance.from_config(str(home)) as instance:
        (run,) = instance.get_runs(dg.RunsFilter(job_name=STATES))
        assert run.status == dg.DagsterRunStatus.STARTED
        messages = [entry.user_message for entry in instance.all_logs(run.run_id)]
        assert messages[-1].endswith("about to end")
        assert instance.get_latest_materialization_event(dg.AssetKey("nation")) is not None
    for file in home.rglob("*.db"):
        assert asked(file, "PRAGMA quick_check") == "ok", file
    assert run_profile(toy_definitions(environment), environment, ["DE"]).success
    assert not logs(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_run_by_id(run.run_id).status == dg.DagsterRunStatus.FAILURE


def test_two_processes_write_at_once_and_the_last_removes_the_logs(environment, home):
    with profile_instance(environment) as instance:
        make(environment, instance)
        other = python(_RUN, str(environment.output), "whole")
        while other.poll() is None:
            instance.add_run_tags(make(environment, instance).run_id, {"by": "this"})
        assert other.returncode == 0
        assert {"runs.db", "index.db"} <= set(logs(home))
    assert not logs(home)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        runs = instance.get_runs()
        assert all(run.is_success for run in runs)
        assert sum("by" not in run.tags and run.job_name == STATES for run in runs) == 2


def test_others_may_write_read_and_empty_the_log_meanwhile(environment, home):
    with profile_instance(environment) as instance:
        make(environment, instance)
        script = """
import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=0) as other:
    other.execute("BEGIN IMMEDIATE")
    other.execute("DELETE FROM secondary_indexes")
    other.commit()
    print(other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone())
"""
        out, _ = python(script, str(home / "history" / "runs.db")).communicate(timeout=60)
        assert out.strip() == "(0, 0, 0)"
        assert instance.get_runs_count() == 2


def test_another_process_sees_a_message_while_the_step_goes_on(environment, home):
    """As the UI does, which is told by changes of the run's file."""
    seen: list[str] = []

    def work(context):
        follower = python(_FOLLOW, str(home), context.run.run_id)
        assert follower.stdin is not None and follower.stdout is not None
        assert follower.stdout.readline() == "watching\n"
        context.log.info("said while the step goes on")
        for line in follower.stdout:
            seen.append(line)
            if "said while" in line:
                break
        follower.stdin.close()
        follower.wait(60)

    with profile_instance(environment) as instance:
        make(environment, instance, work)
    assert "said while the step goes on" in seen[-1]


def test_threads_may_write_at_once(environment, home):
    @dg.job
    def nothing():
        pass

    with profile_instance(environment) as instance:
        runs = [instance.create_run_for_job(nothing) for _ in range(4)]

        def report(run):
            for number in range(10):
                instance.report_engine_event(str(number), run)

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(report, runs))
        assert [len(instance.all_logs(run.run_id)) for run in runs] == [10] * 4
    assert not logs(home)


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed in /proc")
def test_the_number_of_files_that_are_open_has_a_bound(environment, home):
    @dg.job
    def nothing():
        pass

    with profile_instance(environment) as instance:
        for _ in range(2 * history_files.KEPT):
            instance.report_engine_event("begun", instance.create_run_for_job(nothing))
        assert 0 < len(opened_below(home)) <= 5 * history_files.KEPT
        assert len(logs(home)) == history_files.KEPT
        # What is used again and again is not let go; the index of assets was not used.
        assert "runs.db" in logs(home)
    assert not opened_below(home) and not logs(home)


@pytest.mark.skipif(sys.platform != "linux", reason="open files are listed in /proc")
def test_a_fork_has_none_of_the_files(environment, home):
    with profile_instance(environment) as instance:
        make(environment, instance)
        child = os.fork()
        if not child:
            os._exit(len(opened_below(home)))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        make(environment, instance)
        assert opened_below(home)
        assert instance.get_runs_count() == 4
    assert not logs(home)


def test_files_made_anew_in_the_same_place_keep_their_logs(environment, home):
    """Who removes the record and begins another loses nothing when the first is closed."""
    file = home / "history" / "runs.db"
    with profile_instance(environment) as instance:
        make(environment, instance)
        for path in home.rglob("*.db*"):
            path.unlink()
        anew = sqlite3.connect(file)
        anew.execute("PRAGMA journal_mode=WAL")
        anew.execute("CREATE TABLE other (number INTEGER)")
        anew.execute("INSERT INTO other VALUES (7)")
        anew.commit()
    assert logs(home) == ["runs.db"]
    assert asked(file, "SELECT number FROM other") == 7
    anew.close()
    assert not logs(home)
    assert asked(file, "SELECT number FROM other") == 7


def test_what_has_no_log_or_lies_elsewhere_is_left_alone(environment, home, tmp_path):
    with profile_instance(environment):
        for plain in (home / "plain.db", tmp_path / "elsewhere.db"):
            with create_engine(f"sqlite:///{plain}", poolclass=NullPool).begin() as connection:
                connection.execute(text("CREATE TABLE one (number INTEGER)"))
            assert asked(plain, "PRAGMA synchronous") == FULL
        with sqlite3.connect(tmp_path / "elsewhere.db") as other:
            other.execute("PRAGMA journal_mode=WAL")
        other.close()
        assert asked(tmp_path / "elsewhere.db", "PRAGMA synchronous") == FULL
        assert not logs(tmp_path / "elsewhere.db")
        assert asked(home / "history" / "runs.db", "PRAGMA synchronous") == NORMAL
        # In a transaction that excludes all others: nobody else holds a lock.
        with sqlite3.connect(home / "plain.db", timeout=0) as other:
            other.execute("BEGIN EXCLUSIVE")
        other.close()
    with create_engine("sqlite://").connect() as connection:
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == FULL
