"""Fixtures shared by every test.

Belongs here: where real data may lie, and isolation from the caller's environment. Does not belong
here: fixtures of one part.
"""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

from pipeline import interrupts

# Whoever starts the tests in the background has them ignore Ctrl-C, and every process that they
# start: what tests of interrupts send would then arrive nowhere.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# No deadline: how long a first call takes says how busy the machine is, and nothing of the code.
settings.register_profile("geocal", deadline=None)
settings.load_profile("geocal")

REALDATA_VARIABLE = "GEOCAL_REALDATA"
_ISOLATED = ("GEOCAL_PROFILE", "GEOCAL_DATA", "GEOCAL_OUTPUT", "DAGSTER_HOME", "COLUMNS")


def realdata_folder() -> Path:
    """The folder of real files: $GEOCAL_REALDATA, or ``shared/realdata`` beside the checkout."""
    named = os.environ.get(REALDATA_VARIABLE)
    return Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "realdata"


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of real publications, read only; a test that needs it is skipped, by name, where there
    is none.
    """
    folder = realdata_folder()
    if not folder.is_dir():
        pytest.skip(f"real data are not at {folder} (set {REALDATA_VARIABLE})")
    return folder


@pytest.fixture(autouse=True)
def isolated_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the caller's profile, folders or Dagster instance."""
    for name in _ISOLATED:
        monkeypatch.delenv(name, raising=False)
    # An interrupt that an earlier test sent is that test's.
    interrupts.answered()
