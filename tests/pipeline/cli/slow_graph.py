"""``geocal`` over the toy graph, with a state that works for seconds and says what it does.

    python -m tests.pipeline.cli.slow_graph run ...

GEOCAL_TEST_SECONDS: how long the state works.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any
from unittest.mock import patch

from pipeline.cli import main
from pipeline.step_words import step_words

SECONDS = float(os.environ.get("GEOCAL_TEST_SECONDS", "4"))
PAUSE = 0.05


def work(context: Any) -> None:
    with step_words(context.log.info) as say:
        for step in range(int(SECONDS / PAUSE)):
            print("a library's chatter")
            say(f"stitch {step}")
            time.sleep(PAUSE)


def definitions(profile: Any, environment: Any) -> Any:
    from tests.pipeline.toy import toy_definitions

    return toy_definitions(environment, work=work)


if __name__ == "__main__":
    with (
        patch("pipeline.definitions.build_definitions", definitions),
        patch("pipeline.cli.run._print_results", lambda *_: None),
        patch("pipeline.cli.run._needed", lambda *_: contextlib.nullcontext()),
    ):
        main()
