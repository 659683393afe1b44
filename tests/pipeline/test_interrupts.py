"""An interrupt that a library swallowed, or Dagster forgot, still ends the run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SWALLOWED = """
import contextlib, os, signal
from pipeline import interrupts

interrupts.watch()
assert not interrupts.asked()
with contextlib.suppress(BaseException):
    os.kill(os.getpid(), signal.{signal})
    import time
    time.sleep(5)
assert interrupts.asked() and interrupts.asked()
try:
    interrupts.again()
except KeyboardInterrupt:
    print("came again")
assert interrupts.answered() and not interrupts.asked()
interrupts.again()
"""

# Dagster puts its own handler back when the block ends, and forgets what came inside it.
LOST = """
import os, signal, sys
from pathlib import Path
from dagster._utils.interrupts import capture_interrupts
from pipeline import interrupts
from pipeline.runs import run_profile
from pipeline.settings import RunEnvironment
from tests.pipeline.toy import toy_definitions

interrupts.watch()
pressed = []

def press(event):
    if (event.kind, event.asset, event.partition) == ("{kind}", "weights", "DE") and not pressed:
        pressed.append(event)
        with capture_interrupts():
            os.kill(os.getpid(), signal.SIGINT)

root = Path(sys.argv[1])
environment = RunEnvironment("sample", root / "raw", root / "output")
outcome = run_profile(toy_definitions(environment), environment, ["DE", "RI"], listener=press)
print(len(pressed), outcome.interrupted, outcome.not_started, outcome.interruption)
"""


def said(program: str, *arguments: str) -> str:
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("signal", ["SIGINT", "SIGTERM"])
def test_a_signal_is_noticed_whoever_swallows_it(signal: str) -> None:
    ignored = "signal.signal(signal.SIGTERM, lambda *_: None)\n" if signal == "SIGTERM" else ""
    program = SWALLOWED.format(signal=signal).replace("time.sleep(5)", "time.sleep(0.1)")
    assert said("import signal\n" + ignored + program) == "came again\n"


@pytest.mark.parametrize("kind", ["started", "finished"])
def test_a_signal_that_dagster_forgot_ends_the_run_all_the_same(kind: str, tmp_path: Path) -> None:
    found = said(LOST.format(kind=kind), str(tmp_path))
    assert found.startswith("1 True ['RI'] Interrupted during DE"), found
