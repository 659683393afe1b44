"""What counts as torn after kills."""

from __future__ import annotations

import json

import pytest

from benchmarks.kills import lists_what_is_there

NOW = {"weights/state=RI/weights.parquet": "a1", "nation/nation.parquet": "b2"}


def manifest(**digests: str) -> bytes:
    """Of tables by name, each with the digest it is listed with."""
    paths = {"weights": "weights/state=RI/weights.parquet", "nation": "nation/nation.parquet"}
    tables = {name: {"path": paths[name], "sha256": sha} for name, sha in digests.items()}
    return json.dumps({"created": "2026-11-30T22:00:00", "tables": tables}).encode()


def test_a_manifest_of_another_hour_that_lists_the_tables_there_is_whole():
    assert lists_what_is_there(manifest(weights="a1", nation="b2"), NOW)
    assert lists_what_is_there(manifest(weights="a1"), NOW)


@pytest.mark.parametrize(
    "found",
    [
        pytest.param(manifest(weights="a2", nation="b2"), id="another making's digest"),
        pytest.param(manifest(), id="no table"),
        pytest.param(manifest(weights="a1")[:-9], id="half a file"),
        pytest.param(b"{}", id="empty"),
    ],
)
def test_a_manifest_that_does_not_is_torn(found):
    assert not lists_what_is_there(found, NOW)
    assert not lists_what_is_there(manifest(weights="a1"), {})
