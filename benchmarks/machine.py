"""The machine a benchmark ran on, and what it used of it: named beside every figure, since a figure
without its machine says nothing.

Belongs here: facts of the machine and of this process. Does not belong here: problems, methods,
what a benchmark measures.
"""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Machine:
    """``cores`` this process may use, ``threads`` of torch, ``device`` by name, ``load`` over the
    last minute (others' work makes times long).
    """

    processor: str
    cores: int
    threads: int
    device: str
    load: float
    python: str
    torch: str

    def __str__(self) -> str:
        at = f"{self.processor}, {self.cores} cores, {self.threads} threads, device {self.device}"
        return f"{at}; load {self.load:.1f} at the start; Python {self.python}, torch {self.torch}"

    def as_dict(self) -> dict:
        return asdict(self)


def this_machine(device: str = "cpu") -> Machine:
    """Facts of the machine; ``device`` is what torch calls it."""
    named = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    cores = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Machine(
        _processor(),
        cores,
        torch.get_num_threads(),
        named,
        load,
        platform.python_version(),
        torch.__version__,
    )


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def peak_memory() -> float:
    """Largest resident memory of this process so far, in GB; NaN where the system does not say."""
    try:
        import resource
    except ImportError:
        return float("nan")
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / 1e9 if platform.system() == "Darwin" else largest * 1024 / 1e9
