"""The commands ``geocal ui`` and ``geocal env``: a profile in Dagster's own programs.

Belongs here: the environment and the processes of the UI. Does not belong here: what they serve
(``pipeline/definitions.py``).
"""

from __future__ import annotations

import errno
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from pipeline.cli.asked import asked_for
from pipeline.cli.terminal import Terminal
from pipeline.errors import StoreError
from pipeline.settings import (
    MAX_CONCURRENT_RUNS,
    RunEnvironment,
    ensure_instance_home,
    thread_variables,
)

ADDRESS = "127.0.0.1"
# Longer than the slowest orderly end seen of a web server with a run in progress (about 10 s).
SECONDS_TO_END = 20


def print_environment(
    terminal: Terminal, profile: str | None, data: Path | None, output: Path | None
) -> None:
    """The shell lines that point Dagster's programs at a profile."""
    asked = asked_for(profile, None, data, output)
    ensure_instance_home(asked.environment)
    terminal.detail(f"Profile {asked.profile.id}: {asked.profile.title}", markup=False)
    for name, value in asked.environment.variables().items():
        terminal.text(f"export {name}={shlex.quote(value)}")


def serve_ui(
    terminal: Terminal, profile: str | None, data: Path | None, output: Path | None, port: int
) -> int:
    """Web server and daemon of a profile, until one ends or Ctrl-C; returns the exit status."""
    from pipeline.assets.common import PROJECT_ROOT

    asked = asked_for(profile, None, data, output)
    _require_free(port)
    threads = thread_variables(MAX_CONCURRENT_RUNS)
    variables = {**os.environ, **threads, **asked.environment.variables()}
    programs = Path(sys.executable).parent
    workspace = ["-w", str(asked.environment.workspace)]
    level = "warning" if terminal.quiet else "debug" if terminal.verbose else "info"
    web, daemon = (str(programs / name) for name in ("dagster-webserver", "dagster-daemon"))
    where = ["-h", ADDRESS, "-p", str(port)]
    commands = [
        [web, *where, "--dagster-log-level", level, *workspace],
        [daemon, "run", "--log-level", level, *workspace],
    ]
    _make_record(asked.environment)
    terminal.note(f"Profile {asked.profile.id} at http://{ADDRESS}:{port} (Ctrl-C stops it)")
    return serve(commands, variables, PROJECT_ROOT, terminal)


def serve(
    commands: list[list[str]], variables: dict[str, str], folder: Path, terminal: Terminal
) -> int:
    """Run the commands side by side until one ends or a signal comes; then stop the others.

    Returns the exit status: 0 after Ctrl-C, else that of the program that ended first.
    """
    processes = [subprocess.Popen(command, env=variables, cwd=folder) for command in commands]
    status = 0
    try:
        while all(process.poll() is None for process in processes):
            time.sleep(0.3)
        status = next((process.returncode for process in processes if process.returncode), 1)
    except KeyboardInterrupt:
        terminal.note("Stopping")
    finally:
        for process in processes:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        for process in processes:
            try:
                process.wait(timeout=SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                process.kill()
    return status


def _make_record(environment: RunEnvironment) -> None:
    """Create the databases of a new profile's record of runs before two programs do so at once, of
    which one would end with "table run_tags already exists".
    """
    from pipeline.instances import opened

    with opened(ensure_instance_home(environment)):
        pass


def _require_free(port: int) -> None:
    """Raise StoreError if another program listens at the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((ADDRESS, port))
        except OSError as error:
            reason = "is in use" if error.errno == errno.EADDRINUSE else "may not be used"
            raise StoreError(
                f"Port {port} of {ADDRESS} {reason} ({error.strerror})",
                where=f"--port {port}",
                expected="a free port",
                remedy="Stop the other program, or pass --port with another number",
            ) from error
