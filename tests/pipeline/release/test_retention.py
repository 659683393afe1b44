"""What is removed: old releases, leftovers, old runs; never what is current, latest or pinned."""

# No `from __future__ import annotations`: Dagster compares the type of `context` itself.
import os
import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import polars as pl
import pytest

from pipeline.partitions import state_partitions
from pipeline.release import retention
from pipeline.release.retention import HISTORY, RELEASE, TEMPORARY, Rules, removable, remove
from pipeline.settings import ensure_instance_home
from tests.pipeline.release.conftest import store_of
from tests.pipeline.release.result import write_result
from tests.pipeline.release.test_make import picture


def releases_of(tmp_path, release, count: int, **first) -> list[str]:
    made = [release(write_result(tmp_path, seed=0), **first).release.id]
    return made + [release(write_result(tmp_path, seed=n)).release.id for n in range(1, count)]


def kinds(found) -> dict[str, list[str]]:
    return {kind: [f.name for f in found if f.kind == kind] for kind in retention.KINDS}


def test_old_releases_go_and_the_newest_latest_and_pinned_stay(tmp_path, release):
    ids = releases_of(tmp_path, release, 5, pin="first")
    environment = write_result(tmp_path, seed=1)
    release(environment)  # The second one is latest again.
    store = store_of(environment)
    current = {k: v for k, v in picture(tmp_path).items() if "releases" not in k}
    found = removable(environment, store, Rules(keep=2))
    assert kinds(found)[RELEASE] == [ids[2]]
    assert found[0].bytes == store.load(ids[2]).bytes > 0
    assert remove(environment, store, found) == found[0].bytes
    assert set(store.ids()) == {ids[0], ids[1], ids[3], ids[4]}
    assert store.latest() == ids[1] and store.pins() == {"first": ids[0]}
    assert {k: v for k, v in picture(tmp_path).items() if "releases" not in k} == current


def test_looking_removes_nothing(tmp_path, release):
    releases_of(tmp_path, release, 3)
    environment = write_result(tmp_path, seed=2)
    before = picture(tmp_path)
    assert kinds(removable(environment, store_of(environment), Rules(keep=1)))[RELEASE]
    assert picture(tmp_path) == before


def test_what_became_latest_meanwhile_stays(tmp_path, release):
    ids = releases_of(tmp_path, release, 3)
    environment = write_result(tmp_path, seed=0)
    store = store_of(environment)
    found = removable(environment, store, Rules(keep=1))
    assert kinds(found)[RELEASE] == ids[:2]
    store.point(ids[0])
    remove(environment, store, found)
    assert set(store.ids()) == {ids[0], ids[2]}


def test_leftovers_go_when_they_are_old(tmp_path, release):
    environment = write_result(tmp_path)
    release(environment)
    store = store_of(environment)
    folder = environment.table_path("weights", "RI").parent
    old = folder / f".weights.parquet.{'ab' * 16}.tmp"
    fresh = folder / f".weights.parquet.{'cd' * 16}.tmp"
    half = store.folder / f"{retention.MAKING}0123456789abcdef.{'0' * 32}"
    half.mkdir()
    # A download that can be continued, and files of somebody else.
    others = [folder / name for name in (".hidden", "notes.tmp", "file.zip.part")]
    sample = folder / ".psam_p44.csv.4711.part"
    for path in (old, fresh, half / "weights.parquet", sample, *others):
        path.write_bytes(b"12345")
    long_ago = time.time() - 2 * 3600
    for path in (old, half, sample, *others):
        os.utime(path, (long_ago, long_ago))
    found = removable(environment, store, Rules())
    assert set(kinds(found)[TEMPORARY]) == set(map(str, (old, half, sample)))
    assert remove(environment, store, found) == 15
    assert not old.exists() and not half.exists() and not sample.exists()
    assert fresh.exists() and all(path.exists() for path in others)


@dg.asset(partitions_def=state_partitions(("RI", "DE")))
def weights(context: dg.AssetExecutionContext):
    return dg.MaterializeResult(value=pl.DataFrame({"weight": [1.0]}))


@dg.asset
def national_fit(context: dg.AssetExecutionContext):
    return dg.MaterializeResult(value=pl.DataFrame({"weight": [1.0]}))


@pytest.fixture
def instance(tmp_path):
    environment = write_result(tmp_path)
    home = ensure_instance_home(environment)
    with dg.DagsterInstance.from_config(str(home)) as found:
        yield found


def run(instance, asset, state=None) -> str:
    keeper = dg.mem_io_manager
    return dg.materialize(
        [asset], instance=instance, partition_key=state, resources={"io_manager": keeper}
    ).run_id


def test_old_runs_go_but_for_those_that_made_what_is_stored(tmp_path, instance, monkeypatch):
    environment = write_result(tmp_path)
    first_ri, first_de = run(instance, weights, "RI"), run(instance, weights, "DE")
    old_nation, nation = run(instance, national_fit), run(instance, national_fit)
    second_ri = run(instance, weights, "RI")
    store = store_of(environment)
    assert kinds(removable(environment, store, Rules()))[HISTORY] == []

    class Later(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=100)

    monkeypatch.setattr(retention, "datetime", Later)
    assert Later.now(UTC) > datetime.now(UTC) + timedelta(days=99)
    found = removable(environment, store, Rules())
    assert set(kinds(found)[HISTORY]) == {first_ri, old_nation}
    files = environment.dagster_home / "history" / "runs"
    assert (files / f"{first_ri}.db").exists() and min(f.bytes for f in found) > 0
    remove(environment, store, found)
    assert {r.run_id for r in instance.get_runs()} == {first_de, nation, second_ri}
    assert not (files / f"{first_ri}.db").exists()
    key = dg.AssetKey("weights")
    assert instance.fetch_materializations(key, limit=9).records[0].run_id == second_ri
    assert removable(environment, store, Rules()) == []


def test_runs_that_a_manifest_names_stay(tmp_path, instance, monkeypatch):
    environment = write_result(tmp_path)
    named, _ = run(instance, weights, "RI"), run(instance, weights, "RI")
    place = environment.manifests / "RI.json"
    place.write_text(place.read_text().replace('"run_id": ""', f'"run_id": "{named}"'))
    monkeypatch.setattr(retention, "timedelta", lambda days: timedelta(days=-1))
    assert removable(environment, store_of(environment), Rules()) == []
    place.write_text(place.read_text().replace(named, ""))
    assert kinds(removable(environment, store_of(environment), Rules()))[HISTORY] == [named]


def test_a_folder_that_was_never_run_has_nothing_to_remove(tmp_path):
    environment = write_result(tmp_path)
    assert removable(environment, store_of(environment), Rules()) == []
    assert not environment.dagster_home.exists()
