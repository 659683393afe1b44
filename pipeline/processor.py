"""The processor a table was computed on, as far as it can decide the last bits of numbers.

Results do not depend on the number of threads. The last bits of sums, and so the last four of
sixteen digits of weights, do depend on which instructions numpy, the BLAS libraries and torch
choose for a processor. Pairs are chosen by rounded numbers (``calibration_core/common/digits.py``),
so they are the same, unless one of thousands of numbers lies within its own error of the middle
between two rounded ones. These facts tell two such runs apart. They stand in the manifest and in
the metadata of materialisations, never in a table.

Belongs here: what the loaded libraries say of themselves. Does not belong here: the manifest
(``pipeline/manifest.py``), thread limits (``pipeline/settings.py``).
"""

from __future__ import annotations

import os
import platform
import sys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from threadpoolctl import threadpool_info

__all__ = ["processor_facts", "processor_line"]


def processor_facts() -> dict[str, Any]:
    """``model, architecture, numpy, blas, torch, numba`` and ``threads``.

    Of numpy the SIMD extensions in use beyond its baseline, of BLAS the kernel of each library by
    file name. Of torch and numba the instruction set, None where the process has not loaded it. Of
    threads the cores, and how many BLAS, torch and polars may use; these change seconds, not
    numbers.
    """
    libraries = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    torch = sys.modules.get("torch")
    return {
        "model": _model(),
        "architecture": platform.machine(),
        "numpy": list(np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])),
        "blas": {
            Path(lib["filepath"]).name: lib.get("architecture") or lib["internal_api"]
            for lib in libraries
        },
        "torch": torch.backends.cpu.get_cpu_capability() if torch is not None else None,
        "numba": _numba(),
        "threads": {
            "cores": os.cpu_count(),
            "blas": min((lib["num_threads"] for lib in libraries), default=None),
            "torch": torch.get_num_threads() if torch is not None else None,
            "polars": pl.thread_pool_size(),
        },
    }


def processor_line() -> str:
    """What can decide last bits, in one line, without the number of threads."""
    facts = processor_facts()
    parts = {
        "numpy": (facts["numpy"] or ["baseline"])[-1],
        "BLAS": "/".join(sorted(set(facts["blas"].values()))),
        "torch": facts["torch"],
        "numba": facts["numba"],
    }
    told = ", ".join(f"{name} {value}" for name, value in parts.items() if value)
    return f"{facts['model']}: {told}"


@cache
def _model() -> str:
    """The processor's name: of the first core on Linux, else what Python knows."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def _numba() -> str | None:
    """The processor that numba compiles for."""
    if "numba" not in sys.modules:
        return None
    from llvmlite import binding
    from numba import config

    named = getattr(config, "CPU_NAME", None)  # numba sets its options on the module at run time
    return named or binding.get_host_cpu_name()
