"""Fixtures of the tests of weights."""

import pytest

from pipeline.specs.catalog import load_catalog


@pytest.fixture(scope="module")
def profile():
    return load_catalog().profile("sample")
