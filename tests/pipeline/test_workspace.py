"""The ways in from outside: workspace.yaml, and `dg` with the project's own settings."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.workspace.context import WorkspaceProcessContext
from dagster._core.workspace.load_target import WorkspaceFileTarget

from pipeline.assets.common import PROJECT_ROOT
from pipeline.settings import RunEnvironment, ensure_instance_home


@pytest.fixture
def served(tmp_path, monkeypatch) -> RunEnvironment:
    """The sample in a folder of its own, named by the environment as a code server sees it."""
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    ensure_instance_home(environment)
    for name, value in {**environment.variables(), "PYTHONPATH": str(PROJECT_ROOT)}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(PROJECT_ROOT)
    return environment


def test_the_location_is_named_as_dg_names_it():
    (entry,) = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())["load_from"]
    project = tomllib.loads((PROJECT_ROOT / "pyproject.toml").read_text())["tool"]["dg"]["project"]
    assert entry["python_module"] == {
        "module_name": "pipeline.definitions",
        "location_name": project["code_location_name"],
    }


def test_the_workspace_of_an_installation_without_checkout_says_the_same(served):
    own = yaml.safe_load((PROJECT_ROOT / "workspace.yaml").read_text())
    assert yaml.safe_load(served.workspace.read_text()) == own


def test_workspace_yaml_loads_the_location_with_its_jobs(served):
    with (
        dg.DagsterInstance.from_config(str(served.dagster_home)) as instance,
        WorkspaceProcessContext(instance, WorkspaceFileTarget(["workspace.yaml"])) as context,
    ):
        request = context.create_request_context()
        assert [entry.load_error for entry in request.get_code_location_entries().values()] == [
            None
        ]
        (repository,) = request.get_code_location("geocal").get_repositories().values()
        assert {"national_inputs", "states", "national_outputs"} <= {
            job.name for job in repository.get_all_jobs()
        }
        assert [schedule.name for schedule in repository.get_schedules()] == ["production"]


def test_dg_check_defs_is_clean(served):
    program = Path(sys.executable).parent / "dg"
    done = subprocess.run(
        [program, "check", "defs"], capture_output=True, text=True, env=dict(os.environ)
    )
    assert done.returncode == 0, done.stderr
    assert "All definitions loaded successfully" in done.stdout + done.stderr
    assert "Warning" not in done.stdout + done.stderr
