"""A publisher on this machine, one wanted file, and `geocal fetch` for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fetch_faults import QUICK, mirrored, wanted_of
from benchmarks.loopback import Publisher
from pipeline.fetch.fetching import Outcome, fetch_files
from pipeline.fetch.network import MIRROR_VARIABLE

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


class Silent:
    """A listener that keeps what it hears."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def begins(self, wanted, number, of) -> None:
        self.heard.append(f"{number} of {of}")

    def moved(self, have, total) -> None:
        self.heard.append(f"{have} of {total}")

    def waits(self, why, seconds) -> None:
        self.heard.append(why)

    def ends(self, outcome) -> None:
        self.heard.append(outcome.result)


@pytest.fixture(autouse=True)
def no_proxy_of_the_machine(monkeypatch) -> None:
    for name in [*PROXIES, *(name.lower() for name in PROXIES), MIRROR_VARIABLE]:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def publisher():
    with Publisher() as server:
        yield server


@pytest.fixture
def wanted(tmp_path):
    return wanted_of("pep_counties", tmp_path)


@pytest.fixture
def fetch(publisher, tmp_path: Path) -> Callable[..., Outcome]:
    """Fetch one file through a mirror: what became of it."""

    def one(wanted, *answers, settings=QUICK, environ=None, **how) -> Outcome:
        if answers:
            publisher.answers[mirrored(wanted)] = list(answers)
        environ = {MIRROR_VARIABLE: publisher.address} if environ is None else environ
        listener = how.pop("listener", Silent())
        (outcome,) = fetch_files([wanted], tmp_path, settings, listener, environ=environ, **how)
        return outcome

    return one
