"""Compiling beforehand: what a run calls is compiled, and a run finds it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pipeline.assets.common import PROJECT_ROOT

COUNT = "from pipeline.warm import compile_loops; print(compile_loops().functions)"


@pytest.mark.timeout(1200)
def test_another_process_finds_everything_compiled(tmp_path):
    """With a cache of its own, as on a new machine."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    compiled = [
        int(
            subprocess.run(
                [sys.executable, "-c", COUNT],
                cwd=PROJECT_ROOT,
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(2)
    ]
    assert compiled[0] > 3, "nothing was compiled: is the cache another one?"
    assert compiled[1] == 0
    assert list((tmp_path / "cache").rglob("*.nbi"))
