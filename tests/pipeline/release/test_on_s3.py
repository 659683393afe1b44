"""Releases on a store that renames nothing: an S3-compatible server in this process.

Skipped, by name, where moto or s3fs is not installed.
"""

from __future__ import annotations

import pytest

from pipeline.release.diff import compare
from pipeline.release.retention import Rules, removable, remove
from pipeline.release.store import ReleaseStore, place_of
from tests.pipeline.release.result import write_result

server = pytest.importorskip("moto.server", reason="moto[server,s3] is not installed")
s3fs = pytest.importorskip("s3fs", reason="s3fs is not installed")


@pytest.fixture
def bucket(monkeypatch):
    """The address of an empty bucket."""
    running = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    running.start()
    host, port = running.get_host_and_port()
    address = f"http://{host}:{port}"
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "none",
        "AWS_SECRET_ACCESS_KEY": "none",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem(endpoint_url=address).mkdir("bucket")
    yield "s3://bucket/releases"
    running.stop()


def test_releases_on_s3(bucket, tmp_path, release):
    store = ReleaseStore(place_of(bucket))
    assert (store.ids(), store.latest(), store.pins()) == ([], None, {})
    first = release(write_result(tmp_path), store, pin="first").release
    assert not release(write_result(tmp_path), store).new
    second = release(write_result(tmp_path, seed=1), store).release
    third = release(write_result(tmp_path, seed=2), store).release
    assert store.latest() == third.id and third.document["parents"] == [second.id]
    assert first.damaged() == third.damaged() == []
    assert compare(store.find("first").tables, store.find("latest").tables).states == ("RI", "DE")
    environment = write_result(tmp_path, seed=2)
    found = removable(environment, store, Rules(keep=1))
    assert [each.name for each in found] == [second.id]
    remove(environment, store, found)
    assert store.ids() == sorted([first.id, third.id])
