"""Calibration of weights to totals: arrays in, frozen results out. No files, no dataframes, no
orchestration.

    from calibration_core import CalibrationProblem, advise, calibrate
    from calibration_core import from_margins, rake          # a table and named margins

Belongs here: the public names, loaded when they are asked for, so that importing one does not load
torch; and a place for compiled loops, named before any of them is loaded. Does not belong here:
code.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from calibration_core.common.compile_cache import ensure_compile_cache

ensure_compile_cache(Path(__file__).parent)

if TYPE_CHECKING:
    # The names below are found when they are asked for; an editor reads them here.
    from calibration_core.flat.advice import advise
    from calibration_core.flat.api import METHODS, calibrate, settings_of
    from calibration_core.flat.conflicts.diagnosis import diagnose
    from calibration_core.flat.from_margins import from_margins, rake
    from calibration_core.flat.methods.entropy import moment_problem
    from calibration_core.flat.problem import CalibrationProblem
    from calibration_core.flat.result import CalibrationResult, CalibrationWarning

_PUBLIC = {
    "CalibrationProblem": "calibration_core.flat.problem",
    "CalibrationResult": "calibration_core.flat.result",
    "CalibrationWarning": "calibration_core.flat.result",
    "METHODS": "calibration_core.flat.api",
    "advise": "calibration_core.flat.advice",
    "calibrate": "calibration_core.flat.api",
    "diagnose": "calibration_core.flat.conflicts.diagnosis",
    "from_margins": "calibration_core.flat.from_margins",
    "moment_problem": "calibration_core.flat.methods.entropy",
    "rake": "calibration_core.flat.from_margins",
    "settings_of": "calibration_core.flat.api",
}
__all__ = [
    "METHODS",
    "CalibrationProblem",
    "CalibrationResult",
    "CalibrationWarning",
    "advise",
    "calibrate",
    "diagnose",
    "from_margins",
    "moment_problem",
    "rake",
    "settings_of",
]


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module 'calibration_core' has no attribute {name!r}")
    return getattr(importlib.import_module(_PUBLIC[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_PUBLIC]
