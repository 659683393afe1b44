"""One contender in a process of its own, under a limit of time and memory.

Belongs here: commands, environments, limits, what comes back. Does not belong here: who is run
(``contenders.py``), what the answer is worth (``methods.py``).
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.contenders import Contender
from benchmarks.peers.protocol import Data

HERE = Path(__file__).resolve().parent / "peers"


@dataclass(frozen=True)
class Limits:
    """Per contender: seconds, bytes of resident memory, calls, threads."""

    seconds: float
    memory: float
    repeat: int
    threads: int


def run_contender(
    c: Contender, python: str, data: Path, folder: Path, limits: Limits
) -> tuple[dict, np.ndarray | None]:
    """(report, weights). A report of a run that failed has "error"."""
    out = folder / f"out{'.bin' if c.module == 'R' else '.npy'}"
    out.unlink(missing_ok=True)
    if c.module == "R":
        command = _r_command(c, data, folder, out, limits)
    else:
        command = [
            python,
            str(HERE / c.runner),
            str(data),
            str(out),
            c.argument,
            str(limits.repeat),
            str(limits.seconds),
        ]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    environment |= {
        f"{lib}_NUM_THREADS": str(limits.threads)
        for lib in ("OMP", "OPENBLAS", "MKL", "NUMBA", "RAYON", "NUMEXPR", "POLARS_MAX")
    }
    if not c.module:
        environment["PYTHONPATH"] = str(HERE.parent.parent)
    with (folder / "stdout").open("w+") as stdout, (folder / "stderr").open("w+") as stderr:
        process = subprocess.Popen(
            command, stdout=stdout, stderr=stderr, env=environment, text=True
        )
        stopped = _watch(process, limits)
        stdout.seek(0), stderr.seek(0)
        lines, complaints = stdout.read().strip().splitlines(), stderr.read().strip().splitlines()
    if stopped:
        return {"error": stopped}, None
    report = _last_report(lines)
    if report is None:
        return {
            "error": (
                f"exit status {process.returncode}:"
                f" {complaints[-1][:200] if complaints else 'no message'}"
            )
        }, None
    if not out.exists():
        return report, None
    return report, np.fromfile(out) if c.module == "R" else np.load(out)


def _last_report(lines: list[str]) -> dict | None:
    try:
        report = json.loads(lines[-1]) if lines else None
    except ValueError:
        return None
    return report if isinstance(report, dict) else None


def _watch(process: subprocess.Popen, limits: Limits) -> str:
    """Wait; kill at a limit and say which, else return an empty string."""
    began = time.monotonic()
    while process.poll() is None:
        if time.monotonic() - began > limits.seconds:
            process.kill()
            process.wait()
            return f"stopped after {limits.seconds:g} s"
        used = _resident(process.pid)
        if used > limits.memory:
            process.kill()
            process.wait()
            return f"stopped at {used / 1e9:.1f} GB of memory"
        time.sleep(0.02)
    return ""


def _resident(pid: int) -> int:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _r_command(c: Contender, data: Path, folder: Path, out: Path, limits: Limits) -> list[str]:
    loaded = Data(str(data), c.argument)
    matrix, targets = loaded.dense()
    matrix.ravel(order="F").tofile(folder / "matrix.bin")
    loaded.weights.tofile(folder / "weights.bin")
    targets.tofile(folder / "targets.bin")
    sizes = [str(matrix.shape[0]), str(matrix.shape[1])]
    files = [str(folder / name) for name in ("weights.bin", "targets.bin")]
    tail = [c.argument, str(limits.repeat), str(limits.seconds), str(loaded.low), str(loaded.high)]
    return [
        "Rscript",
        str(HERE / c.runner),
        str(folder / "matrix.bin"),
        *sizes,
        *files,
        str(out),
        *tail,
    ]
