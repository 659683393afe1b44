"""Progress: on a terminal from the first moment and inside long steps, in a pipe as plain lines."""

from __future__ import annotations

import os
import re
import subprocess
import time

import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.step_words import StepWords
from tests.pipeline.cli.in_a_terminal import Seen, program, run_in_terminal

SLOW = "tests.pipeline.cli.slow_graph"
# However fast the machine, so much lies between the first words and the first asset.
LOADING = 4.0
HIDE_CURSOR, SHOW_CURSOR = "\x1b[?25l", "\x1b[?25h"


@pytest.fixture(scope="module")
def seen(tmp_path_factory) -> Seen:
    folder = tmp_path_factory.mktemp("terminal")
    command = program(SLOW, "run", "--states", "RI", "--output", str(folder))
    return run_in_terminal(
        command, environment={"GEOCAL_TEST_SECONDS": "4", "GEOCAL_TEST_LOADING": str(LOADING)}
    )


def test_something_is_seen_before_anything_slow_is_loaded(seen):
    words = [seen.after(each) for each in ("starting", "specifications", "loading Dagster")]
    assert words == sorted(words), "what is being done, as it is done"
    assert seen.parts[0][0] <= words[0]
    assert words[-1] < seen.after("stitch") - LOADING, "Dagster loads after it was said"


def test_a_long_step_shows_its_name_its_words_and_its_seconds(seen):
    assert seen.status == 0
    during = seen.text[seen.text.index("stitch") : seen.text.rindex("stitch")]
    assert len(set(re.findall(r"weights (\d+) s", during))) >= 2, "the seconds run on"
    assert len(set(re.findall(r"weights \d+ s: stitch (\d+)", during))) >= 2, "so do its words"
    assert "0 of 1 assets" in during and "RI" in during


def test_what_moves_is_gone_at_the_end_and_the_cursor_is_back(seen):
    left = seen.screen(80)
    assert [line for line in left if "━" in line] == []
    assert left.count("a library's chatter") == 80, "what others print stays, a line each"
    assert not any("loading" in line for line in left)
    assert any(line.startswith("RI") and "1 assets in" in line for line in left)
    assert seen.text.rindex(SHOW_CURSOR) > seen.text.rindex(HIDE_CURSOR)


def test_ctrl_c_ends_in_one_message_and_status_130(tmp_path):
    command = program(SLOW, "run", "--output", str(tmp_path))
    wait = {"GEOCAL_TEST_SECONDS": "120"}
    seen = run_in_terminal(command, environment=wait, press=("stitch", b"\x03"))
    assert seen.status == 130
    said = " ".join(seen.screen(200))
    assert "Interrupted during RI, asset weights. Not started: DE." in said
    assert "Traceback" not in said
    assert seen.text.rindex(SHOW_CURSOR) > seen.text.rindex(HIDE_CURSOR)


def test_ctrl_c_while_everything_is_still_loading_is_answered_too(tmp_path):
    command = program("pipeline.cli", "run", "--output", str(tmp_path))
    seen = run_in_terminal(command, press=("loading Dagster", b"\x03"))
    assert seen.status == 130
    said = " ".join(seen.screen(200))
    assert "Interrupted" in said and "Traceback" not in said


@pytest.mark.parametrize("option", [[], ["--quiet"], ["--verbose"]], ids=["plain", "q", "v"])
def test_in_a_pipe_there_are_lines_and_no_control_characters(tmp_path, option):
    command = program(SLOW, "run", "--states", "RI", "--output", str(tmp_path), *option)
    environment = {**os.environ, "GEOCAL_TEST_SECONDS": "1", "FORCE_COLOR": ""}
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, env=environment, text=True, stdout=subprocess.PIPE
    )
    started = time.monotonic()
    lines = [(time.monotonic() - started, line) for line in process.stdout]
    assert process.wait() == 0
    text = "".join(line for _, line in lines)
    assert not {"\x1b", "\r", "\b"} & set(text)
    assert text.count("a library's chatter\n") == 20
    own = [line for _, line in lines if "chatter" not in line]
    if option == ["--quiet"]:
        assert own == []
        return
    assert own[0].startswith("Profile sample")
    (asset,) = [line for line in own if line.startswith("RI ") and line.rstrip().endswith(" s")]
    assert "weights" in asset
    assert lines[0][0] < lines[-1][0] - 0.9, "the first line did not wait for the work"


def test_words_of_a_step_are_passed_on_at_most_once_in_a_while():
    said: list[str] = []
    words = StepWords(said.append, every=0.2)
    started = time.monotonic()
    calls = 0
    while time.monotonic() - started < 1.0:
        words(f"call {calls}")
        calls += 1
    assert said[0] == "call 0"
    assert len(said) <= 6 < calls


def test_a_step_of_a_solver_is_said_with_its_loss():
    from calibration_core.tree.result import Step

    said: list[str] = []
    StepWords(said.append)(Step(tau=0.1, kind="newton", dual=-1.0, loss=1234.5, gradient=0.003))
    assert said == ["step 1, tau 0.1: loss 1,234.5, largest gradient 3.0e-03"]


def test_a_loop_that_must_be_compiled_is_named_once():
    import numba
    import numpy as np

    from pipeline.step_words import step_words

    @numba.njit
    def inner(x):
        return x + 1

    @numba.njit
    def outer(x):
        return inner(x)

    said: list[str] = []
    with step_words(said.append):
        outer(1)
        outer(2)
        outer(np.float32(1))
    outer(1.0)
    assert [line.split(",")[0] for line in said] == ["compiling outer"] * 2
