"""``geocal`` over the toy graph, with a state that works for seconds and says what it does.

    python -m tests.pipeline.cli.slow_graph run ...

GEOCAL_TEST_SECONDS: how long the state works. GEOCAL_TEST_LOADING: how much longer than on this
machine Dagster takes to load.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from typing import Any
from unittest.mock import patch

from pipeline.cli import main
from pipeline.cli.run import _run

SECONDS = float(os.environ.get("GEOCAL_TEST_SECONDS", "4"))
LOADING = float(os.environ.get("GEOCAL_TEST_LOADING", "0"))
PAUSE = 0.05


class SlowToLoad:
    """Whoever imports Dagster waits ``LOADING`` seconds."""

    @staticmethod
    def find_spec(name: str, path: Any = None, target: Any = None) -> None:
        if name == "dagster":
            time.sleep(LOADING)


def work(context: Any) -> None:
    from pipeline.step_words import step_words

    with step_words(context.log.info) as say:
        for step in range(int(SECONDS / PAUSE)):
            print("a library's chatter")
            say(f"stitch {step}")
            time.sleep(PAUSE)


def definitions(profile: Any, environment: Any) -> Any:
    from tests.pipeline.toy import toy_definitions

    return toy_definitions(environment, work=work)


def run(*asked: Any) -> Any:
    """The run of the toy graph: taken in place here and not before, for that loads Dagster."""
    with patch("pipeline.definitions.build_definitions", definitions):
        return _run(*asked)


if __name__ == "__main__":
    sys.meta_path.insert(0, SlowToLoad())
    with (
        patch("pipeline.cli.run._run", run),
        patch("pipeline.cli.run._print_results", lambda *_: None),
        patch("pipeline.cli.run._needed", lambda *_: contextlib.nullcontext()),
    ):
        main()
