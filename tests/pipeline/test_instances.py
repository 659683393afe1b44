"""Which record of runs a profile has, and what is said when its database does not answer."""

from __future__ import annotations

import socket

import pytest
import yaml

from pipeline.errors import StoreError
from pipeline.instances import opened, operated_home, profile_instance
from pipeline.settings import RunEnvironment


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


@pytest.fixture
def home(tmp_path):
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    return folder


def test_the_operated_instance_is_that_of_this_profile_and_output_only(environment, home):
    named = {"DAGSTER_HOME": str(home), **_of(environment)}
    assert operated_home(environment, named) == home
    assert operated_home(environment, {}) is None
    assert operated_home(environment, {"DAGSTER_HOME": str(home)}) is None
    for key, value in (("GEOCAL_PROFILE", "other"), ("GEOCAL_OUTPUT", "elsewhere")):
        assert operated_home(environment, {**named, key: value}) is None, key
    # `geocal env` names the profile's own.
    own = {**named, "DAGSTER_HOME": str(environment.dagster_home)}
    assert operated_home(environment, own) is None
    (home / "dagster.yaml").unlink()
    assert operated_home(environment, named) is None


def _of(environment: RunEnvironment) -> dict[str, str]:
    return {"GEOCAL_PROFILE": environment.profile, "GEOCAL_OUTPUT": str(environment.output)}


def test_a_database_that_does_not_answer_is_said_in_words_without_its_password(home):
    pytest.importorskip("dagster_postgres", reason="the extra deploy is not installed")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"postgresql://somebody:a_secret@127.0.0.1:{port}/none"
    settings = {"storage": {"postgres": {"postgres_url": url}}, "telemetry": {"enabled": False}}
    (home / "dagster.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(StoreError, match="does not answer") as error, opened(home):
        pass
    assert "a_secret" not in str(error.value) and "tables are not kept there" in str(error.value)


def test_a_damaged_record_names_the_folder(environment):
    with profile_instance(environment):
        pass
    for path in environment.dagster_home.rglob("*.db"):
        path.write_bytes(b"not a database" * 100)
    with (
        pytest.raises(StoreError, match="cannot be read or written"),
        profile_instance(environment) as instance,
    ):
        instance.get_runs()


def test_other_errors_are_left_as_they_are(home):
    with pytest.raises(ZeroDivisionError), opened(home):
        raise ZeroDivisionError
