"""The services of a production on this machine, for benchmarks: PostgreSQL's database, code
location, daemon, web server, and workers of Celery or runs as processes of their own.

All of it is configured by the files of ``deploy/``, with ports, a database and numbers of Redis of
their own; the database is dropped in the end, and Redis' two numbers are emptied. The extra
``deploy`` must be installed, PostgreSQL and Redis must answer on 127.0.0.1.

Belongs here: starting, watching, killing and stopping these processes. Does not belong here: what
is asked of them (``backfill.py``, ``kills.py``).
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from pipeline.settings import THREAD_VARIABLES, RunEnvironment

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
POSTGRES = "postgresql://postgres@127.0.0.1:5432"
REDIS = "redis://127.0.0.1:6379"
SENSORS = ("production_run",)
_READY_SECONDS = 180.0
# Looking at all processes costs a hundredth of a second.
_SAMPLE_SECONDS = 2.0
_PROC = Path("/proc")

Launcher = Literal["celery", "processes"]


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def tree_of(pid: int) -> list[int]:
    """A process and all that descend from it, those gone meanwhile left out."""
    children: dict[int, list[int]] = {}
    for path in _PROC.glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        at = waiting.pop()
        found.append(at)
        waiting += children.get(at, [])
    return found


def peak_mb(pid: int) -> float:
    """Largest resident memory of a process so far, in MiB; 0 of one that is gone."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        for line in (_PROC / str(pid) / "status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) / 1024
    return 0.0


@dataclass
class Services:
    """``environment``: the profile's folders; ``folder``: of the instance and of what processes
    say; ``workers``: how many runs at a time; ``threads``: of each of them; ``redis``: the first of
    two numbers of Redis that are used; ``poll_seconds``: of monitoring, the files' own if None;
    ``module``: of the code location.
    """

    environment: RunEnvironment
    folder: Path
    workers: int
    launcher: Launcher = "celery"
    threads: int = 1
    redis: int = 5
    webserver: bool = True
    poll_seconds: int | None = None
    specs: Path | None = None
    module: str = "pipeline.definitions"
    peaks: dict[str, float] = field(default_factory=dict)
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _stopped: threading.Event = field(default_factory=threading.Event)

    @property
    def home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.folder / "home"

    @property
    def variables(self) -> dict[str, str]:
        """The environment of every process."""
        limits = dict.fromkeys(THREAD_VARIABLES, str(self.threads))
        return {
            **os.environ,
            "GEOCAL_PROFILE": self.environment.profile,
            "GEOCAL_DATA": str(self.environment.data),
            "GEOCAL_OUTPUT": str(self.environment.output),
            **({"GEOCAL_SPECS": str(self.specs)} if self.specs else {}),
            "DAGSTER_HOME": str(self.home),
            "GEOCAL_POSTGRES_URL": self._database,
            "GEOCAL_BROKER_URL": f"{REDIS}/{self.redis}",
            "GEOCAL_RESULTS_URL": f"{REDIS}/{self.redis + 1}",
            "GEOCAL_RUN_LOGS": str(self.folder / "logs"),
            "GEOCAL_CODE_HOST": "127.0.0.1",
            "PYTHONPATH": f"{DEPLOY / 'celery'}{os.pathsep}{ROOT}",
            **limits,
        }

    @contextlib.contextmanager
    def running(self) -> Iterator[Services]:
        """All of them started and ready; in the end stopped, the database dropped."""
        self.home.mkdir(parents=True)
        (self.folder / "logs").mkdir()
        with database() as self._database:
            self._flush()
            self._configure()
            watching = threading.Thread(target=self._watch, daemon=True)
            # Whoever stops a benchmark (`timeout` does so) gets nothing left running either.
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
            try:
                for name in self.names:
                    self.start(name)
                self._wait_until_ready()
                watching.start()
                yield self
            finally:
                self._stopped.set()
                self._stop_all()
                self._flush()

    @property
    def names(self) -> list[str]:
        """The processes, in the order in which they start."""
        workers = [f"worker {n + 1}" for n in range(self.workers)]
        own = workers if self.launcher == "celery" else []
        return ["code location", "daemon", *(["web server"] if self.webserver else []), *own]

    def start(self, name: str) -> None:
        """Start one process, as a service manager would; its words go to a file of its name."""
        python, workspace = sys.executable, str(self.home / "workspace.yaml")
        place = f"-h 127.0.0.1 -p {self._ports[0]} -m {self.module} --location-name geocal"
        web = f"-h 127.0.0.1 -p {self._ports[1]} -w {workspace}"
        celery = f"-Q dagster -c 1 --loglevel info -n {name.replace(' ', '')}-{os.getpid()}@%h"
        commands = {
            "code location": [*f"{python} -m dagster code-server start {place}".split()],
            "daemon": [*f"{python} -m dagster._daemon run -w {workspace}".split()],
            "web server": [*f"{python} -m dagster_webserver {web}".split()],
        }
        worker = [*f"{python} -m celery -A dagster_celery.app worker {celery}".split()]
        with (self.folder / f"{name.replace(' ', '_')}.log").open("ab") as log:
            self._processes[name] = subprocess.Popen(
                commands.get(name, worker),
                stdout=log,
                stderr=log,
                env=self.variables,
                cwd=ROOT,
                start_new_session=True,
            )

    def pid(self, name: str) -> int:
        """Number of a process."""
        return self._processes[name].pid

    def revive(self, name: str) -> None:
        """Kill a process and start it anew."""
        process = self._processes[name]
        process.kill()
        process.wait()
        self.start(name)

    def revive_dead(self) -> list[str]:
        """Start processes that are gone, as a service manager would; their names."""
        gone = [name for name, process in self._processes.items() if process.poll() is not None]
        for name in gone:
            self.start(name)
        return gone

    def geocal(self, *arguments: str, **more: Any) -> subprocess.Popen[bytes]:
        """A command of geocal in the same environment."""
        command = [sys.executable, "-m", "pipeline.cli", *arguments]
        return subprocess.Popen(
            command, env=self.variables, cwd=ROOT, start_new_session=True, **more
        )

    def dagster(self, *arguments: str) -> None:
        """A command of Dagster's; raises CalledProcessError if it fails."""
        command = [sys.executable, "-m", "dagster", *arguments]
        command += ["-w", str(self.home / "workspace.yaml")]
        subprocess.run(command, env=self.variables, cwd=ROOT, check=True, capture_output=True)

    def url(self, path: str = "") -> str:
        """Address of the web server."""
        return f"http://127.0.0.1:{self._ports[1]}/{path}"

    def _configure(self) -> None:
        self._ports = (free_port(), free_port())
        file = {"celery": "celery.yaml", "processes": "one_machine.yaml"}[self.launcher]
        stated = yaml.safe_load((DEPLOY / "dagster" / file).read_text())
        stated["concurrency"]["runs"]["max_concurrent_runs"] = self.workers
        if self.poll_seconds is not None:
            stated["run_monitoring"]["poll_interval_seconds"] = self.poll_seconds
        (self.home / "dagster.yaml").write_text(yaml.safe_dump(stated))
        workspace = (DEPLOY / "workspace.yaml").read_text()
        (self.home / "workspace.yaml").write_text(workspace.replace("4000", str(self._ports[0])))
        seen = self.home / ".nux" / "nux.yaml"
        seen.parent.mkdir()
        seen.write_text("seen: 1\n")

    def _wait_until_ready(self) -> None:
        until = time.monotonic() + _READY_SECONDS
        ports = self._ports[: 2 if self.webserver else 1]
        while not all(map(answers, ports)):
            if time.monotonic() > until:
                raise TimeoutError(f"Services did not start; see {self.folder}/*.log")
            time.sleep(0.5)
        for sensor in SENSORS:
            self.dagster("sensor", "start", sensor)
        time.sleep(15.0)  # the daemon's first heartbeats

    def _watch(self) -> None:
        while not self._stopped.wait(_SAMPLE_SECONDS):
            for name, process in list(self._processes.items()):
                for number, pid in enumerate(tree_of(process.pid)):
                    role = self._role(name, pid, number)
                    self.peaks[role] = max(self.peaks.get(role, 0.0), peak_mb(pid))

    def _role(self, name: str, pid: int, number: int) -> str:
        """What a process below that of ``name`` is."""
        if number == 0:
            return name
        if name.startswith("worker") or "execute_run" in _command(pid):
            return f"a run of {name}"
        return f"{name}, below it"

    def _stop_all(self) -> None:
        """Ask all to end, workers first; what has not after 20 seconds is killed."""
        pids = [pid for process in self._processes.values() for pid in tree_of(process.pid)]
        for name in reversed(self.names):
            if name in self._processes:
                with contextlib.suppress(ProcessLookupError):
                    self._processes[name].send_signal(signal.SIGTERM)
        for process in self._processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=20)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def _flush(self) -> None:
        import redis

        for number in (self.redis, self.redis + 1):
            redis.Redis(port=6379, db=number).flushdb()


@contextlib.contextmanager
def database() -> Iterator[str]:
    """The address of a new database, dropped in the end."""
    import psycopg2

    connection = psycopg2.connect(f"{POSTGRES}/postgres")
    connection.autocommit = True
    name = f"geocal_bench_{uuid.uuid4().hex[:8]}"
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE DATABASE {name}")
    try:
        yield f"{POSTGRES}/{name}"
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"DROP DATABASE {name} WITH (FORCE)")
        connection.close()


def _command(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def answers(port: int) -> bool:
    """Whether something listens on this port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def environment_of(variables: Mapping[str, str]) -> Iterator[None]:
    """This process's own environment as the services have it, for opening their instance."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
