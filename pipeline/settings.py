"""Which profile this process serves, where its files lie, and how many threads it may use.

Belongs here: the environment variables, the folder layout below the output folder, the
Dagster instance's own settings file, thread limits and memory of this process. Does not belong
here: what a profile contains (``pipeline/specs/profiles.py``) or how a table is written
(``pipeline/io_manager.py``).
"""

from __future__ import annotations

import math
import os
import resource
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pipeline.errors import MemoryBudgetError, StoreError

PROFILE_VARIABLE = "GEOCAL_PROFILE"
DATA_VARIABLE = "GEOCAL_DATA"
SPECS_VARIABLE = "GEOCAL_SPECS"
OUTPUT_VARIABLE = "GEOCAL_OUTPUT"
MEMORY_VARIABLE = "GEOCAL_MEMORY"
DEFAULT_PROFILE = "sample"
DEFAULT_OUTPUT = "output"

THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "POLARS_MAX_THREADS",
)

MAX_CONCURRENT_RUNS = 2

_INSTANCE_SETTINGS = """\
# Written by geocal whenever it opens this instance; edit the instance in pipeline/settings.py, not
# here.
telemetry:
  enabled: false
concurrency:
  runs:
    # A state's run is one process that solves with several threads: two at a time fill a small
    # machine.
    max_concurrent_runs: {max_concurrent_runs}
run_queue:
  # The defaults look at the queue every five seconds from one thread; a run lasts seconds.
  dequeue_interval_seconds: 1
  dequeue_use_threads: true
  dequeue_num_workers: 4
backfills:
  use_threads: true
  num_workers: 4
  num_submit_workers: 4
sensors:
  # A production run asks for every state at one look.
  use_threads: true
  num_workers: 4
  num_submit_workers: 4
run_launcher:
  # Dagster's own, and it knows whether the process of a run still lives.
  module: pipeline.launcher
  class: LocalRunLauncher
run_monitoring:
  # Without it a killed run process keeps its place in the queue for ever.
  enabled: true
  start_timeout_seconds: 180
  poll_interval_seconds: 30
  free_slots_after_run_end_seconds: 300
freshness:
  # Tables older than the profile allows (`fresh_days`) are shown as overdue.
  enabled: true
run_retries:
  # Only a crashed worker is started again; a failed step is a data error and stays failed.
  enabled: true
  max_retries: 1
  retry_on_asset_or_op_failure: false
"""

IN_PROCESS_SETTINGS = "in_process.yaml"
# In a process of its own a run's output is caught in a file for the UI. `geocal run` has a
# terminal: catching would hide it, and Dagster's helpers would answer Ctrl-C with their tracebacks.
_IN_PROCESS = """\
compute_logs:
  module: dagster._core.storage.noop_compute_log_manager
  class: NoOpComputeLogManager
"""

# The checkout's workspace.yaml says the same, but an installed geocal has no checkout.
_WORKSPACE = """\
# Written by geocal whenever it opens this instance: the code that the UI and its daemon serve.
load_from:
  - python_module:
      module_name: pipeline.definitions
      location_name: geocal
"""


@dataclass(frozen=True)
class RunEnvironment:
    """One profile in one output folder.

    profile : id of the file in ``data_specs/profiles/``.
    data : folder of raw files as published; for a synthetic profile the generator writes it.
    output : folder that holds one folder per profile.
    """

    profile: str
    data: Path
    output: Path

    @property
    def root(self) -> Path:
        """Folder of everything this profile writes."""
        return self.output / self.profile

    @property
    def dagster_home(self) -> Path:
        """Folder of this profile's Dagster instance (run history, event log)."""
        return self.root / "dagster_home"

    @property
    def workspace(self) -> Path:
        """The file that tells Dagster's web server and daemon which code to serve."""
        return self.dagster_home / "workspace.yaml"

    @property
    def manifests(self) -> Path:
        return self.root / "manifests"

    def generated(self) -> RunEnvironment:
        """The same for a synthetic profile: raw files are generated below the output, never into a
        folder of somebody's files.
        """
        return replace(self, data=self.root / "raw")

    def table_path(self, asset: str, partition: str | None = None) -> Path:
        """Where an asset's table lies: ``<asset>/<asset>.parquet``, or one file for each state
        below ``<asset>/state=XX/``.
        """
        folder = self.root / asset
        if partition is not None:
            folder = folder / f"state={partition}"
        return folder / f"{asset}.parquet"

    def variables(self) -> dict[str, str]:
        """The environment of a process that serves this profile (code server, web
        server, ``dg``).
        """
        named = os.environ.get(PROFILE_VARIABLE)
        file = profile_file(named)
        stated = str(file) if file is not None and file.stem == self.profile else self.profile
        specs = os.environ.get(SPECS_VARIABLE)
        return {
            PROFILE_VARIABLE: stated,
            **({SPECS_VARIABLE: specs} if specs else {}),
            DATA_VARIABLE: str(self.data),
            OUTPUT_VARIABLE: str(self.output),
            "DAGSTER_HOME": str(self.dagster_home),
        }


def profile_file(name: str | None) -> Path | None:
    """The path that ``name`` is, if it is a YAML file's and no name of a profile."""
    if not name or not name.endswith((".yaml", ".yml")):
        return None
    return Path(name).expanduser().resolve()


def profile_id(name: str) -> str:
    """The profile's id: the file's name without its ending, where ``name`` is a path."""
    path = profile_file(name)
    return name if path is None else path.stem


def run_environment(
    profile: str | None = None,
    data: Path | None = None,
    output: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> RunEnvironment:
    """The environment asked for: an argument first, then its variable, then the default. Paths come
    back absolute; a profile given by its file has the file's name.

    The default data folder is where the sample generator writes, ``<output>/sample/raw``: a profile
    of real files without a data folder then fails at its first missing file, by name.
    """
    environ = os.environ if environ is None else environ
    chosen = profile_id(profile or environ.get(PROFILE_VARIABLE) or DEFAULT_PROFILE)
    out = Path(output or environ.get(OUTPUT_VARIABLE) or DEFAULT_OUTPUT).expanduser().resolve()
    named = data or environ.get(DATA_VARIABLE)
    raw = Path(named).expanduser().resolve() if named else out / chosen / "raw"
    return RunEnvironment(chosen, raw, out)


def ensure_instance_home(environment: RunEnvironment) -> Path:
    """Create the Dagster instance's folder with telemetry off, the run queue set and a workspace
    file; returns the folder. Beside ``dagster.yaml`` lies ``in_process.yaml``, the same for a run
    within this process.

    Raises StoreError if the output folder cannot be written.
    """
    home = environment.dagster_home
    ensure_writable(environment, home)
    settings = _INSTANCE_SETTINGS.format(max_concurrent_runs=MAX_CONCURRENT_RUNS)
    wanted = {
        home / "dagster.yaml": settings,
        home / IN_PROCESS_SETTINGS: settings + _IN_PROCESS,
        environment.workspace: _WORKSPACE,
    }
    # The UI's first visit asks for an e-mail address and loads a form from another network; this is
    # its own mark of "seen".
    seen = home / ".nux" / "nux.yaml"
    try:
        for path, text in wanted.items():
            if not path.exists() or path.read_bytes() != text.encode():
                path.write_bytes(text.encode())
        if not seen.exists():
            seen.parent.mkdir(exist_ok=True)
            seen.write_text("seen: 1\n", encoding="utf-8")
    except OSError as error:
        raise _unwritable(
            environment, Path(error.filename or home), error.strerror or str(error)
        ) from error
    return home


def ensure_writable(environment: RunEnvironment, folder: Path) -> None:
    """Create ``folder``, which lies below the output folder. Raises StoreError if it cannot be made
    or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(environment, folder, error.strerror or str(error)) from error
    for place in (environment.root, folder):
        if not os.access(place, os.W_OK | os.X_OK):
            raise _unwritable(environment, place, "no permission to write")


def _unwritable(environment: RunEnvironment, place: Path, reason: str) -> StoreError:
    return StoreError(
        f"The output folder {environment.output} cannot be written ({reason})",
        where=str(place),
        expected="a folder in which geocal may make folders and files",
        remedy=f"Pass --output DIR (or set {OUTPUT_VARIABLE}) with a folder you may write to",
    )


def thread_variables(
    concurrent_runs: int, environ: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Thread limits for each of ``concurrent_runs`` processes sharing this machine; what the user
    set already is kept.
    """
    environ = os.environ if environ is None else environ
    share = max(1, (os.cpu_count() or 1) // max(1, concurrent_runs))
    return {name: environ.get(name, str(share)) for name in THREAD_VARIABLES}


def memory_budget(environ: Mapping[str, str] | None = None) -> int | None:
    """Bytes that this process is to stay within, from ``GEOCAL_MEMORY`` in GB (2^30 bytes); None
    where it is not set. Raises MemoryBudgetError if it is no number above zero.
    """
    stated = (os.environ if environ is None else environ).get(MEMORY_VARIABLE, "").strip()
    if not stated:
        return None
    try:
        size = float(stated)
    except ValueError:
        size = math.nan
    if not 0 < size < math.inf:
        raise MemoryBudgetError(
            f"The memory budget is {stated!r}",
            where=f"environment variable {MEMORY_VARIABLE}",
            expected="gigabytes, such as 8",
            remedy="Correct it, or unset it for no budget",
        )
    return int(size * 2**30)


def memory_words() -> str:
    """The largest memory of this process so far, beside its budget where there is one."""
    peak, budget = peak_memory_mb(), memory_budget()
    words = f"peak memory {peak:,.0f} MiB"
    if budget is None:
        return words
    over = ", MORE than" if peak * 2**20 > budget else " of"
    return f"{words}{over} the {budget / 2**20:,.0f} MiB of {MEMORY_VARIABLE}"


def peak_memory_mb() -> float:
    """Largest resident memory of this process since it started, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)
