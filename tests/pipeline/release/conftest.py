"""Releases of a small result: the profile, the default gate, a call that releases."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from pipeline.release.make import Made, Wish, make_release
from pipeline.release.store import ReleaseStore
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.release_gate import load_gate
from tests.pipeline.cli.conftest import invoke as invoke
from tests.pipeline.release.result import STATES

Releasing = Callable[..., Made]


def store_of(environment: RunEnvironment) -> ReleaseStore:
    """Where the tests' releases lie."""
    return ReleaseStore(environment.root / "releases")


@pytest.fixture
def release() -> Releasing:
    """Release what an environment holds; options of ``Wish`` by name."""

    def call(
        environment: RunEnvironment, store: ReleaseStore | None = None, **options: object
    ) -> Made:
        wish = Wish(**{"states": STATES, "gate": load_gate(), **options})
        profile = load_catalog().profile("sample")
        return make_release(
            environment, profile, store or store_of(environment), wish, lambda text: None
        )

    return call
