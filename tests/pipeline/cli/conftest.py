"""The command line in this process, as a shell would see it, and over a toy graph."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable

import pytest

from tests.pipeline.toy import toy_definitions

Invoke = Callable[..., tuple[int, str, str]]


@pytest.fixture
def invoke(monkeypatch, capsys) -> Invoke:
    """Run the command: exit status, standard output, standard error."""
    from pipeline.cli import main

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["geocal", *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        captured = capsys.readouterr()
        return int(stop.value.code or 0), captured.out, captured.err

    return call


@pytest.fixture
def toy(monkeypatch) -> dict:
    """`geocal run` over the toy graph; what is put in says what is broken."""
    broken: dict = {}
    monkeypatch.setattr(
        "pipeline.definitions.build_definitions",
        lambda profile, environment: toy_definitions(environment, **broken),
    )

    def fit(terminal, asked, states) -> None:
        terminal.result(f"fit of {', '.join(filter(None, states))}")

    monkeypatch.setattr("pipeline.cli.run._print_results", fit)
    # The toy's tables say nothing of their making: all of it is made each time.
    monkeypatch.setattr("pipeline.cli.run._needed", lambda *_: contextlib.nullcontext())
    return broken
