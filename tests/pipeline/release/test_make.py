"""A release: what is in it, its name, what is refused, and that a refusal changes nothing."""

from __future__ import annotations

import json
import shutil
import stat
from pathlib import Path

import polars as pl
import pytest
from upath import UPath

from pipeline.errors import StoreError
from pipeline.release import store as storing
from pipeline.release.store import ReleaseStore, content_id
from pipeline.stored import content_digest, file_digest
from tests.pipeline.release.conftest import store_of
from tests.pipeline.release.result import put, weights_table, write_result


def picture(folder: Path) -> dict[str, str]:
    """Every file below ``folder`` with its digest, and where links point."""
    return {
        str(p.relative_to(folder)): str(p.readlink())
        if p.is_symlink()
        else file_digest(p.read_bytes())
        for p in sorted(folder.rglob("*"))
        if p.is_symlink() or p.is_file()
    }


def test_a_release_holds_what_it_lists_and_is_read_only(tmp_path, release):
    environment = write_result(tmp_path)
    made = release(environment)
    folder, document = made.release.folder, made.release.document
    assert made.new and made.before is None
    assert document["states"] == ["RI", "DE"] and document["states_missing"] == []
    listed = {entry["path"]: entry for entry in document["files"]}
    there = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert there == {*listed, "release.json"}
    for path, entry in listed.items():
        data = (folder / path).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(data), file_digest(data))
        assert not stat.S_IMODE((folder / path).stat().st_mode) & 0o222
    for state in ("RI", "DE"):
        for name in ("weights", "selected_households", "selected_persons", "fit_report"):
            assert f"{name}/state={state}/{name}.parquet" in listed
        assert f"manifests/{state}.json" in listed
    assert {"codebook.json", "certificate.json", "national_fit/national_fit.parquet"} <= set(listed)
    assert (folder.parent / "latest").resolve() == folder


def test_the_same_content_has_the_same_id_and_changes_nothing(tmp_path, release):
    environment = write_result(tmp_path)
    first = release(environment)
    before = picture(tmp_path)
    again = release(environment)
    assert not again.new and again.release.id == first.release.id
    assert picture(tmp_path) == before
    other = release(write_result(tmp_path / "elsewhere"))
    assert other.release.id == first.release.id


def test_manifests_tell_when_and_are_no_part_of_the_id(tmp_path, release):
    environment = write_result(tmp_path)
    first = release(environment)
    place = environment.manifests / "RI.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "created": "later"}))
    assert release(environment).release.id == first.release.id
    assert content_id({"a": "1"}) != content_id({"a": "2"}) != content_id({"b": "2"})


def test_other_weights_are_another_release_with_its_parent(tmp_path, release):
    first = release(write_result(tmp_path))
    second = release(write_result(tmp_path, seed=1))
    assert second.new and second.release.id != first.release.id
    assert second.release.document["parents"] == [first.release.id]
    environment = write_result(tmp_path)
    store = store_of(environment)
    assert store.latest() == second.release.id
    assert {each.id for each in store.all()} == {first.release.id, second.release.id}
    back = release(environment)
    assert not back.new and store.latest() == first.release.id


def test_states_not_run_are_named(tmp_path, release):
    made = release(write_result(tmp_path, states=("RI",)))
    assert made.gathered.absent == ("DE",)
    assert made.release.document["states_missing"] == ["DE"]
    with pytest.raises(StoreError, match="nothing to release"):
        release(write_result(tmp_path / "none", states=("RI",)), states=("DE",))


def test_a_fit_report_of_other_weights_is_refused_or_left_out(tmp_path, release):
    environment = write_result(tmp_path)
    facts = {
        "reconciled_targets[RI]": content_digest(
            environment.table_path("reconciled_targets", "RI").read_bytes()
        )
    }
    put(environment, "weights", "RI", weights_table("RI", 3), facts, pairs=60)
    before = picture(tmp_path)
    with pytest.raises(StoreError, match=r"fit_report\[RI\] was made from weights\[RI\]") as stop:
        release(environment)
    assert "geocal run --profile sample --states RI" in stop.value.remedy
    assert picture(tmp_path) == before
    made = release(environment, partial=True)
    assert made.release.document["states"] == ["DE"]
    assert set(made.release.document["left_out"]) == {"RI", "nation"}
    assert not made.release.document["national_tables"]
    assert not (made.release.folder / "national_fit").exists()


def test_a_state_made_from_other_national_targets_is_refused(tmp_path, release):
    """One state fails after the national inputs changed; the other is new."""
    write_result(tmp_path)
    environment = write_result(tmp_path, states=("RI",), national_seed=5)
    with pytest.raises(StoreError, match=r"reconciled_targets\[DE\] was made from national"):
        release(environment)


def test_national_tables_of_other_states_are_refused(tmp_path, release):
    environment = write_result(tmp_path, of_nation=("RI",))
    with pytest.raises(StoreError, match="national_fit: it lacks DE"):
        release(environment)
    made = release(environment, partial=True)
    assert made.release.document["states"] == ["RI", "DE"]
    assert not made.release.document["national_tables"]


def test_a_table_that_is_gone_or_damaged_is_refused(tmp_path, release):
    environment = write_result(tmp_path)
    environment.table_path("reconciled_targets", "DE").unlink()
    with pytest.raises(StoreError, match="which is not stored any more"):
        release(environment)
    environment = write_result(tmp_path / "b")
    environment.table_path("selected_persons", "DE").write_bytes(b"torn")
    with pytest.raises(StoreError, match=r"selected_persons\[DE\]"):
        release(environment)


def test_a_failing_check_that_blocks_refuses(tmp_path, release):
    """Fitted figures that do not follow from the weights: a report made of other figures."""

    def lie(fit: pl.DataFrame) -> pl.DataFrame:
        lying = (pl.col("level") == "state") & (pl.col("domain") == "total")
        return fit.with_columns(
            fitted=pl.when(lying).then(pl.col("fitted") * 1.001).otherwise("fitted")
        )

    environment = write_result(tmp_path, change_fit=lie)
    with pytest.raises(StoreError, match="figures_follow_from_weights RI"):
        release(environment)
    assert not (environment.root / "releases").exists()


def test_the_certificate_has_numbers_and_says_what_it_cannot_tell(tmp_path, release):
    made = release(write_result(tmp_path))
    said = json.loads((made.release.folder / "certificate.json").read_bytes())
    checks = {(c["name"], c["state"]): c for c in said["checks"]}
    assert checks["exactly_k", "RI"]["numbers"] == {"pairs": 60, "budget": 60}
    assert checks["nation_adds_up", ""]["numbers"]["figures"] == 4
    assert checks["levels_add_up", "DE"]["passed"] and checks["levels_add_up", "DE"]["numbers"]
    assert "weights.converged RI" in said["not_told"] and said["failed"] == []


def test_a_table_replaced_while_it_is_released_is_noticed(tmp_path, release, monkeypatch):
    environment = write_result(tmp_path)
    real = ReleaseStore.write

    def replaced(self, files, document):
        environment.table_path("weights", "RI").write_bytes(b"another run")
        return real(self, files, document)

    monkeypatch.setattr(ReleaseStore, "write", replaced)
    with pytest.raises(StoreError, match="replaced while it was released"):
        release(environment)
    store = store_of(environment)
    assert store.ids() == [] and store.latest() is None
    assert [p.name for p in store.folder.iterdir() if p.name != storing.LOCK] == []


def test_latest_is_a_file_where_there_are_no_links(tmp_path, release, monkeypatch):
    def refuse(self, target, target_is_directory=False):
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    environment = write_result(tmp_path)
    made = release(environment)
    pointer = environment.root / "releases" / "latest"
    assert not pointer.is_symlink() and pointer.read_text() == f"{made.release.id}\n"
    monkeypatch.undo()
    second = release(write_result(tmp_path, seed=1))
    assert pointer.is_symlink() and store_of(environment).latest() == second.release.id


def test_a_store_without_renaming_gets_its_list_last(tmp_path, release):
    store = ReleaseStore(UPath("memory://bucket/releases"))
    environment = write_result(tmp_path)
    made = release(environment, store, pin="first")
    assert store.latest() == made.release.id == store.find("first").id
    assert store.load(made.release.id).damaged() == []
    second = release(write_result(tmp_path, seed=1), store)
    assert second.release.document["parents"] == [made.release.id]
    store.remove(made.release.id)
    assert store.ids() == [second.release.id]
    half = store.folder / "0123456789abcdef" / "weights.parquet"
    half.parent.mkdir(parents=True)
    half.write_bytes(b"half")
    assert store.ids() == [second.release.id]


def test_names_find_releases(tmp_path, release):
    environment = write_result(tmp_path)
    made = release(environment, pin="spring")
    store = store_of(environment)
    for name in ("latest", "spring", made.release.id, made.release.id[:6]):
        assert store.find(name).id == made.release.id
    with pytest.raises(StoreError, match="There is no release 'autumn'") as stop:
        store.find("autumn")
    assert "spring" in stop.value.expected
    second = release(write_result(tmp_path, seed=1))
    with pytest.raises(StoreError, match="is that of release"):
        store.pin("spring", second.release.id)
    for name in ("latest", "a/b", "", "0123456789abcdef"):
        with pytest.raises(StoreError, match="is no name"):
            store.pin(name, made.release.id)


def test_a_changed_file_of_a_release_is_noticed(tmp_path, release):
    environment = write_result(tmp_path)
    made = release(environment)
    path = made.release.folder / "weights" / "state=RI" / "weights.parquet"
    path.chmod(0o644)
    path.write_bytes(path.read_bytes() + b" ")
    assert made.release.damaged() == ["weights/state=RI/weights.parquet"]
    with pytest.raises(StoreError, match="not what the release lists"):
        made.release.tables.table("weights", "RI")
    with pytest.raises(StoreError, match="not what the release lists"):
        release(environment)
    shutil.rmtree(made.release.folder)
    again = release(environment)
    assert again.release.id == made.release.id and again.release.damaged() == []


def test_a_damaged_release_of_the_same_content_is_refused(tmp_path, release):
    environment = write_result(tmp_path)
    made = release(environment)
    release(write_result(tmp_path, seed=1))
    (made.release.folder / "codebook.json").unlink()
    with pytest.raises(StoreError, match=r"was released before, and codebook\.json"):
        release(write_result(tmp_path))


def test_a_folder_of_another_profile_is_refused(tmp_path, release):
    environment = write_result(tmp_path)
    made = release(environment)
    document = made.release.folder / "release.json"
    document.chmod(0o644)
    document.write_text(json.dumps({**made.release.document, "profile": "other"}))
    with pytest.raises(StoreError, match="holds releases of profile other"):
        release(write_result(tmp_path, seed=1))


def test_two_releases_at_once(tmp_path, release, monkeypatch):
    """One at a time; and none that was compared with a release which is not the last any more."""
    environment = write_result(tmp_path)
    first = release(environment)
    store = store_of(environment)
    environment = write_result(tmp_path, seed=1)
    with store.one_writer(), pytest.raises(StoreError, match="works in this folder"):
        release(environment)
    assert store.latest() == first.release.id
    monkeypatch.setattr(ReleaseStore, "latest", Turning([first.release.id, "f" * 16]))
    with pytest.raises(StoreError, match="Another release was made meanwhile"):
        release(environment)
    monkeypatch.undo()
    assert store.ids() == [first.release.id]
    assert release(environment).new


class Turning:
    """``latest`` as another process changes it between two questions."""

    def __init__(self, answers: list[str]) -> None:
        self.answers = answers

    def __call__(self) -> str:
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def test_a_name_that_is_taken_is_refused_before_anything_is_written(tmp_path, release):
    environment = write_result(tmp_path)
    first = release(environment, pin="spring")
    environment = write_result(tmp_path, seed=1)
    with pytest.raises(StoreError, match="is that of release"):
        release(environment, pin="spring")
    assert store_of(environment).ids() == [first.release.id]


def test_a_store_that_nothing_can_reach_is_said_in_words():
    with pytest.raises(StoreError, match="no way to reach nosuch://bucket"):
        storing.place_of("nosuch://bucket/releases")


def test_a_dry_run_writes_nothing(tmp_path, release):
    environment = write_result(tmp_path)
    before = picture(tmp_path)
    assert release(environment, dry_run=True).release is None
    assert picture(tmp_path) == before
    assert storing.RELEASES not in {p.name for p in environment.root.iterdir()}
