"""Two runs of one state: one writes, the other fails at once or waits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.locks import NATION, held, holder_of, lock_path, remove_temporaries

HOLD = """
import sys, time
from pathlib import Path
from pipeline.locks import held
with held(Path(sys.argv[1]), "RI", sys.argv[2], "geocal run"):
    print("held", flush=True)
    time.sleep(float(sys.argv[3]))
"""


def other(root: Path, run: str = "other-run", seconds: float = 60) -> subprocess.Popen:
    """Another process that holds the lock of RI."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(root), run, str(seconds)],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).resolve().parents[2],
    )
    assert process.stdout.readline() == b"held\n"
    return process


@pytest.fixture
def busy(tmp_path):
    process = other(tmp_path)
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_the_second_fails_at_once_and_names_the_first(tmp_path, busy):
    with pytest.raises(BusyError) as error, held(tmp_path, "RI", "mine", "geocal run"):
        pass
    said = str(error.value)
    assert f"process {busy.pid}" in said and "other-ru" in said and "--wait" in said
    assert holder_of(tmp_path, "RI").pid == busy.pid
    with held(tmp_path, "DE", "mine", "geocal run"):
        assert holder_of(tmp_path, "DE").pid == os.getpid()


def test_a_killed_process_holds_nothing(tmp_path, busy):
    os.kill(busy.pid, signal.SIGKILL)
    busy.wait()
    assert holder_of(tmp_path, "RI") is None
    with held(tmp_path, "RI", "mine", "geocal run"):
        assert holder_of(tmp_path, "RI").run == "mine"


def test_waiting_lasts_until_the_first_is_done_and_says_so(tmp_path):
    process = other(tmp_path, seconds=1.5)
    said: list[str] = []
    started = time.monotonic()
    with held(tmp_path, "RI", "mine", "geocal run", wait=True, say=said.append):
        assert process.wait() == 0
    process.stdout.close()
    assert time.monotonic() - started > 0.5
    assert len(said) == 1 and f"process {process.pid}" in said[0]


def test_the_same_process_and_the_same_run_go_in_again(tmp_path):
    with held(tmp_path, "RI", "mine", "geocal run"):
        with held(tmp_path, "RI", "of Dagster", "a run"):
            pass
        assert holder_of(tmp_path, "RI").run == "mine"
    assert holder_of(tmp_path, "RI") is None
    process = other(tmp_path, run="shared")
    with held(tmp_path, "RI", "shared", "a step of the same run"):
        assert holder_of(tmp_path, "RI").pid == process.pid
    process.kill()
    process.wait()
    process.stdout.close()


def test_what_a_killed_run_left_is_removed_under_the_lock_and_nothing_else(tmp_path):
    names = (
        "weights/state=RI/.weights.parquet.12ab.tmp",
        "manifests/.RI.json.12ab.tmp",
        "weights/state=DE/.weights.parquet.12ab.tmp",
        "manifests/.DE.json.12ab.tmp",
        "geography/.geography.parquet.12ab.tmp",
        "weights/state=RI/weights.parquet",
        "weights/state=RI/notes.tmp",
    )
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")
    with held(tmp_path, "RI", "mine", "geocal run"):
        there = [name for name in names if (tmp_path / name).exists()]
    assert there == [*names[2:5], *names[5:]]
    assert remove_temporaries(tmp_path, NATION) == [tmp_path / names[4]]
    assert lock_path(tmp_path, "RI").is_file()
