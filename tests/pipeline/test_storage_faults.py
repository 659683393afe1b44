"""A full disk, an output that may only be read, a database that goes away, no memory, a clock that
was set: what is said, what is left standing, and that the next run completes.

Each run is a process of its own over the toy graph. Tests that need a file system of their own, or
PostgreSQL, are skipped by the name of what is missing.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from dagster._core.launcher import WorkerStatus

from pipeline.assets.common import PROJECT_ROOT
from pipeline.instances import opened
from pipeline.launcher import LocalRunLauncher
from pipeline.processes import RUN_PROCESS_TAG, process_tag
from pipeline.settings import RunEnvironment, ensure_instance_home
from pipeline.stored import StoredTables
from tests.pipeline.test_deploy import DEPLOY, empty_database

_SCRIPT = """
import os, resource, subprocess, sys
from pathlib import Path
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from calibration_core.errors import GeocalError
from tests.pipeline.toy import toy_definitions

fault, output = sys.argv[1], Path(sys.argv[2])
environment = RunEnvironment("sample", output / "raw", output)

def work(context):
    if fault == "full":
        with (output / "filler").open("wb") as file:
            try:
                while True:
                    file.write(b"x" * 4096)
                    file.flush()
            except OSError:
                pass
    if fault == "read_only":
        subprocess.run(["mount", "--bind", str(output), str(output)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(output)], check=True)
    if fault == "no_memory":
        now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (now + 2**24, resource.RLIM_INFINITY))
        bytearray(2**31)

try:
    outcome = run_profile(toy_definitions(environment, work=work), environment, ["DE"])
except GeocalError as error:
    print(error)
    sys.exit(1)
for job in outcome.jobs:
    print(job.job, job.success, *job.failures.values())
sys.exit(0 if outcome.success else 1)
"""


def run(fault: str, output: Path) -> tuple[int, str]:
    """Exit status of a run in a process of its own, and what it said."""
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT, fault, str(output)],
        cwd=PROJECT_ROOT,
        env={**os.environ, "PYTHONPATH": str(PROJECT_ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert "Traceback" not in done.stdout
    return done.returncode, done.stdout


def whole(output: Path) -> list[str]:
    """Names of the tables that lie there; each is read, and no temporary file is among them."""
    root = output / "sample"
    assert not list(root.rglob(".*.tmp"))
    for path in root.rglob("*.parquet"):
        pl.read_parquet(path, hive_partitioning=False)
    return sorted(path.stem for path in root.rglob("*.parquet"))


@pytest.fixture
def disk(tmp_path) -> Iterator[Path]:
    """A small file system of its own."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("no file system may be mounted here")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_full_disk_is_said_and_the_next_run_completes(disk):
    status, said = run("full", disk)
    assert status == 1 and "room" in said
    assert whole(disk) == ["nation"]
    (disk / "filler").unlink()
    status, said = run("none", disk)
    assert status == 0, said
    assert whole(disk) == ["nation", "national_report", "weights"]


def test_an_output_that_may_only_be_read_is_said_and_the_next_run_completes(disk):
    status, said = run("read_only", disk)
    assert status == 1 and "may only be read now" in said
    assert whole(disk) == ["nation"]
    # Before any work, where it is so from the start.
    status, said = run("none", disk)
    assert status == 1 and "cannot be written" in said and "--output" in said
    subprocess.run(["umount", "-l", str(disk)], check=True)
    status, said = run("none", disk)
    assert status == 0, said
    assert whole(disk) == ["nation", "national_report", "weights"]


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of memory is Linux's")
def test_a_step_without_memory_fails_in_words(tmp_path):
    status, said = run("no_memory", tmp_path)
    assert status == 1 and "no more memory" in said and "GEOCAL_MEMORY" in said
    assert whole(tmp_path) == ["nation"]
    assert run("none", tmp_path)[0] == 0


class Proxy:
    """Connections to PostgreSQL, which can be cut and refused."""

    def __init__(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.port = self.server.getsockname()[1]
        self.pairs: list[socket.socket] = []
        self.refuses = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self.server.accept()
            except OSError:
                return
            if self.refuses:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", 5432))
            self.pairs += [near, far]
            for one, other in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(one, other), daemon=True).start()

    @staticmethod
    def _pass_on(one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := one.recv(65536):
                other.sendall(data)
        with contextlib.suppress(OSError):
            other.shutdown(socket.SHUT_RDWR)

    def cut(self, *, refuse: bool) -> None:
        """Cut every connection; with ``refuse``, take no new one."""
        self.refuses = refuse
        for each in self.pairs:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.pairs.clear()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    made = Proxy()
    yield made
    made.cut(refuse=True)
    made.server.close()


@pytest.fixture
def operated(tmp_path, proxy, monkeypatch) -> Iterator[tuple[Path, RunEnvironment]]:
    """An instance whose record is in PostgreSQL behind the proxy, and a profile's environment."""
    with empty_database() as address:
        name = address.rsplit("/", 1)[1]
        url = f"postgresql://postgres@127.0.0.1:{proxy.port}/{name}"
        monkeypatch.setenv("GEOCAL_POSTGRES_URL", url)
        monkeypatch.setenv("GEOCAL_RUN_LOGS", str(tmp_path / "logs"))
        home = tmp_path / "home"
        home.mkdir()
        (home / "dagster.yaml").write_text((DEPLOY / "dagster" / "one_machine.yaml").read_text())
        yield home, RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def _state(environment: RunEnvironment, instance: dg.DagsterInstance, work) -> bool:
    from tests.pipeline.toy import toy_definitions

    definitions = toy_definitions(environment, work=work)
    jobs = (("national_inputs", None), ("states", "DE"))
    return all(
        definitions.resolve_job_def(job)
        .execute_in_process(instance=instance, partition_key=state)
        .success
        for job, state in jobs
    )


def test_connections_that_are_cut_during_a_run_are_made_anew(operated, proxy):
    home, environment = operated
    with opened(home) as instance:
        assert _state(environment, instance, lambda context: proxy.cut(refuse=False))
    assert whole(environment.output) == ["nation", "weights"]


def test_a_database_that_is_gone_ends_the_run_and_the_next_completes(operated, proxy):
    home, environment = operated
    with pytest.raises(Exception, match="does not answer") as error, opened(home) as instance:
        _state(environment, instance, lambda context: proxy.cut(refuse=True))
    assert "tables are not kept there" in str(error.value)
    assert set(whole(environment.output)) <= {"nation", "weights"}
    proxy.refuses = False
    with opened(home) as instance:
        assert _state(environment, instance, lambda context: None)
    assert whole(environment.output) == ["nation", "weights"]


def test_a_run_goes_on_when_the_clock_is_set(tmp_path, monkeypatch):
    """Set an hour ahead, a process seems to have begun after the events it wrote."""
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    ensure_instance_home(environment)
    monkeypatch.setattr("pipeline.launcher.lives", lambda pid, since: False)
    monkeypatch.setattr("pipeline.launcher.process_of", lambda instance, run: (os.getpid(), 0.0))

    @dg.job
    def nothing():
        pass

    with opened(environment.dagster_home) as instance:
        launcher = instance.run_launcher
        assert isinstance(launcher, LocalRunLauncher)
        plain = instance.create_run_for_job(nothing)
        assert launcher.check_run_worker_health(plain).status == WorkerStatus.FAILED
        tagged = instance.create_run_for_job(nothing, tags={RUN_PROCESS_TAG: process_tag()})
        assert launcher.check_run_worker_health(tagged).status == WorkerStatus.RUNNING
        host = process_tag().split(":")[0]
        gone = instance.create_run_for_job(nothing, tags={RUN_PROCESS_TAG: f"{host}:999999:1"})
        assert launcher.check_run_worker_health(gone).status == WorkerStatus.FAILED


@pytest.mark.parametrize("shift", [-86_400, 86_400], ids=["set back", "set ahead"])
def test_a_table_written_under_another_clock_is_looked_at_again(tmp_path, shift):
    path = tmp_path / "nation" / "nation.parquet"
    path.parent.mkdir()
    pl.DataFrame({"total": [1.0]}).write_parquet(path)
    first = StoredTables(tmp_path)
    before = first.look("nation")
    known = first.entries(path.stat().st_mtime_ns + 10**10)
    size, was = path.stat().st_size, path.stat().st_mtime_ns
    pl.DataFrame({"total": [2.0]}).write_parquet(path)
    os.utime(path, ns=(was + shift * 10**9, was + shift * 10**9))
    assert path.stat().st_size == size
    after = StoredTables(tmp_path, known).look("nation")
    assert before is not None and after is not None and after.content != before.content
