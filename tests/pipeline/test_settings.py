"""Environment, folders, instance settings and thread limits."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

from pipeline.errors import StoreError
from pipeline.settings import (
    RunEnvironment,
    ensure_instance_home,
    ensure_writable,
    run_environment,
    thread_variables,
)


def test_an_argument_beats_a_variable_and_a_variable_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    default = run_environment(environ={})
    assert (default.profile, default.output, default.data) == (
        "sample",
        tmp_path / "output",
        tmp_path / "output" / "sample" / "raw",
    )
    environ = {
        "GEOCAL_PROFILE": "rhode_island",
        "GEOCAL_DATA": str(tmp_path / "d"),
        "GEOCAL_OUTPUT": str(tmp_path / "o"),
    }
    assert run_environment(environ=environ) == RunEnvironment(
        "rhode_island", tmp_path / "d", tmp_path / "o"
    )
    assert run_environment("sample", Path("x"), Path("y"), environ) == RunEnvironment(
        "sample", tmp_path / "x", tmp_path / "y"
    )


def test_variables_lead_a_child_process_to_the_same_place(tmp_path):
    environment = RunEnvironment("sample", tmp_path / "d", tmp_path / "o")
    assert run_environment(environ=environment.variables()) == environment
    assert environment.variables()["DAGSTER_HOME"] == str(
        tmp_path / "o" / "sample" / "dagster_home"
    )


def test_the_instance_opens_with_telemetry_off_and_a_fast_queue(tmp_path):
    home = ensure_instance_home(RunEnvironment("sample", tmp_path, tmp_path))
    assert yaml.safe_load((home / "dagster.yaml").read_text())["telemetry"] == {"enabled": False}
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.telemetry_enabled is False
        assert instance.get_concurrency_config().run_queue_config.max_concurrent_runs == 2
    assert (home / ".nux" / "nux.yaml").exists()


def test_instance_settings_are_restored_when_somebody_edits_them(tmp_path):
    environment = RunEnvironment("sample", tmp_path, tmp_path)
    settings = ensure_instance_home(environment) / "dagster.yaml"
    settings.write_text("telemetry: {enabled: true}\n")
    ensure_instance_home(environment)
    assert yaml.safe_load(settings.read_text())["telemetry"]["enabled"] is False


def test_a_folder_that_cannot_be_written_is_refused_with_its_name_and_a_remedy(
    tmp_path, monkeypatch
):
    file = tmp_path / "taken"
    file.write_text("a file")
    for make in (ensure_instance_home, lambda e: ensure_writable(e, e.data)):
        with pytest.raises(StoreError) as caught:
            make(RunEnvironment("sample", file / "sample" / "raw", file))
        assert str(file) in caught.value.found and str(file) in caught.value.where
        assert "--output" in caught.value.remedy and "GEOCAL_OUTPUT" in caught.value.remedy
        assert caught.value.expected
    monkeypatch.setattr("os.access", lambda place, mode: False)
    with pytest.raises(StoreError, match="no permission to write"):
        ensure_instance_home(RunEnvironment("sample", tmp_path, tmp_path / "o"))


def test_instance_settings_that_cannot_be_replaced_are_a_store_error(tmp_path):
    environment = RunEnvironment("sample", tmp_path, tmp_path)
    (environment.dagster_home / "dagster.yaml").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"dagster\.yaml"):
        ensure_instance_home(environment)


@pytest.mark.parametrize(("cores", "runs", "share"), [(8, 2, "4"), (2, 4, "1"), (1, 1, "1")])
def test_concurrent_runs_share_the_cores(monkeypatch, cores, runs, share):
    monkeypatch.setattr("os.cpu_count", lambda: cores)
    limits = thread_variables(runs, {"OMP_NUM_THREADS": "3"})
    assert limits["POLARS_MAX_THREADS"] == share
    assert limits["OMP_NUM_THREADS"] == "3"
