"""`geocal ui` over three SYNTHETIC made-up states, as processes of their own.

Belongs here: the states' files, the command's processes, what lies on disk afterwards, and what can
be asked without a browser. Does not belong here: what is seen and clicked (``pages.py``).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from benchmarks.generate_state import generate
from benchmarks.generated_folder import PROFILE as MADE_UP
from benchmarks.generated_settings import size_of
from benchmarks.services import free_port, tree_of
from pipeline.assets.common import PROJECT_ROOT

PROFILE = "browsed"
STATES = ("DE", "RI", "VT")
OWNER = "weights"
# The smallest state whose tables of returns add up: 8 tracts fail a check that stops the nation.
_TRACTS, _PUMAS, _PAIRS, _SEED = 16, 2, 12, 20240711
# A quick method: one strength of the prior, no rounds of selection.
_SETTINGS = {
    "id": PROFILE,
    "like": MADE_UP,
    "title": "SYNTHETIC states, looked at in a browser",
    "owners": [f"team:{OWNER}"],
    "tags": {"cost_centre": "micro"},
    "method": {
        "dense": {"tau_path": [1.0]},
        "refine": {"tau_path": [1.0]},
        "selection": {"rounds": 0},
    },
}
# Of a machine that others use too: web server and daemon load the graph at the same time.
_SECONDS_TO_START, _SECONDS_TO_END = 900.0, 60.0


def make_states(folder: Path) -> None:
    """Made-up states in the publishers' formats, and the profile that reads them."""
    generate([size_of(p, tracts=_TRACTS, pumas=_PUMAS, seed=_SEED) for p in STATES], folder, _PAIRS)
    (folder / "specs" / "profiles" / f"{PROFILE}.yaml").write_text(yaml.safe_dump(_SETTINGS))


@dataclass(frozen=True)
class Served:
    """A running UI. ``data``: raw files, which a test may damage; ``root``: the profile's results;
    ``log``: what its processes said.
    """

    url: str
    data: Path
    root: Path
    log: Path

    def microdata(self, state: str) -> Path:
        """The archive of a state's person records."""
        return self.data / "acs_pums" / "2022_1yr" / f"csv_p{state.lower()}.zip"

    def digests(self, *states: str) -> dict[str, str]:
        """SHA-256 of every table of these states, by its path below ``root``."""
        return {
            path.relative_to(self.root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for state in states
            for path in sorted(self.root.glob(f"*/state={state}/*.parquet"))
        }


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Served]:
    """The UI of new states below ``folder``, ready to be asked; ended by Ctrl-C."""
    data, output, log = folder / "data", folder / "output", folder / "ui.log"
    make_states(data)
    port = free_port()
    # None of the caller's profile, folders or instance.
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("GEOCAL_", "DAGSTER_"))}
    environ = {**kept, "GEOCAL_SPECS": str(data / "specs"), "PYTHONPATH": str(PROJECT_ROOT)}
    command = [sys.executable, "-m", "pipeline.cli", "ui", "--profile", PROFILE]
    command += ["--data", str(data), "--output", str(output), "--port", str(port)]
    served = Served(f"http://127.0.0.1:{port}", data, output / PROFILE, log)
    with log.open("wb") as said:
        process = subprocess.Popen(
            command, env=environ, cwd=folder, stdout=said, stderr=said, start_new_session=True
        )
    try:
        _wait_until_ready(served, process)
        yield served
    finally:
        _stop(process)


def _wait_until_ready(served: Served, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _SECONDS_TO_START
    while not _answers(f"{served.url}/server_info"):
        if process.poll() is not None or time.monotonic() > until:
            raise AssertionError(f"The UI did not start:\n{served.log.read_text()[-3000:]}")
        time.sleep(0.5)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Ctrl-C for the command, which ends its programs; whatever of them is left is killed."""
    below = tree_of(process.pid)
    process.send_signal(signal.SIGINT)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(timeout=_SECONDS_TO_END)
    for pid in below:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
