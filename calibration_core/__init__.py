"""Calibration of weights to totals: arrays in, frozen results out. No files, no dataframes, no
orchestration.

    from calibration_core import CalibrationProblem, advise, calibrate

Belongs here: the public names, loaded when they are asked for, so that importing one does not load
torch; and a place for compiled loops, named before any of them is loaded. Does not belong here:
code.
"""

from __future__ import annotations

import importlib
from pathlib import Path

from calibration_core.common.compile_cache import ensure_compile_cache

ensure_compile_cache(Path(__file__).parent)

_PUBLIC = {
    "CalibrationProblem": "calibration_core.flat.problem",
    "CalibrationResult": "calibration_core.flat.result",
    "CalibrationWarning": "calibration_core.flat.result",
    "METHODS": "calibration_core.flat.api",
    "advise": "calibration_core.flat.advice",
    "calibrate": "calibration_core.flat.api",
    "diagnose": "calibration_core.flat.conflicts.diagnosis",
    "settings_of": "calibration_core.flat.api",
}
__all__ = sorted(_PUBLIC)


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'calibration_core' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
