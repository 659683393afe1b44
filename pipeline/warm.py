"""Compiling the numerical loops before anybody waits for them.

Belongs here: a state small enough for seconds, taken through the very steps of a run, and a flat
problem. Does not belong here: a list of loops: what the steps call is compiled, for the types they
call it with.

Numba compiles a function for the types it is called with, at the first call, and keeps the machine
code beside the source file (or in the user's cache folder, or in ``NUMBA_CACHE_DIR``), for this
processor, until the file changes.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILE = "sample"
STATE = "RI"
FLAT_RECORDS = 40
# Few pairs call the same loops with the same types as many.
PAIRS_PER_AREA = 25


@dataclass(frozen=True)
class Compiled:
    """``functions`` compiled by this call (0: all were there), and ``seconds`` that took in all."""

    functions: int
    seconds: float


def compile_loops(say: Callable[[str], Any] = lambda text: None) -> Compiled:
    """Take a small SYNTHETIC state through the steps of a run. ``say`` hears each loop's name."""
    from pipeline.step_words import step_words

    named: list[str] = []

    def heard(text: str) -> None:
        if text.startswith("compiling"):
            named.append(text)
            say(text)

    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="geocal-compile-") as folder, step_words(heard):
        _small_state(Path(folder))
    return Compiled(len(named), time.monotonic() - started)


def _small_state(folder: Path) -> None:
    import numpy as np
    from threadpoolctl import threadpool_limits

    from calibration_core import CalibrationProblem, calibrate
    from pipeline.loaded_state import load_state
    from pipeline.sample.generate import generate_sample
    from pipeline.sample.settings import small_settings
    from pipeline.steps import dense_weights, refined_weights, selected_pairs

    generate_sample(folder, small_settings())
    state = load_state(PROFILE, STATE, folder).ready
    # Several threads for so little work only wait for one another: minutes on a busy machine.
    with threadpool_limits(1):
        dense, _ = dense_weights(state)
        pairs, _ = selected_pairs(state, dense, PAIRS_PER_AREA * len(state.leaves))
        refined_weights(state, dense, pairs)
        # The flat wing draws with the same loops, and with types of its own.
        group = np.arange(FLAT_RECORDS) % 2
        flat = CalibrationProblem(
            np.array([group == 0, group == 1], dtype=float),
            targets=[FLAT_RECORDS, 2 * FLAT_RECORDS],
            initial_weights=np.ones(FLAT_RECORDS),
        )
        calibrate(flat, "cross_category", records=FLAT_RECORDS // 2, seed=1)
