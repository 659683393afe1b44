"""More than one machine: what deploy/ says is valid, and runs really go through PostgreSQL and
Celery where these answer.

The extra ``deploy`` and two services are needed for the second part; each test that cannot run is
skipped by the name of what is missing.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest
import yaml
from dagster._core.instance.config import dagster_instance_config

from benchmarks import services
from benchmarks.services import answers
from pipeline.assets.common import PROJECT_ROOT
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.settings import RunEnvironment, ensure_instance_home
from tests.pipeline.toy import toy_definitions

DEPLOY = PROJECT_ROOT / "deploy"
REDIS = "redis://127.0.0.1:6379"


@pytest.mark.parametrize("name", ["one_machine", "celery"])
def test_settings_of_an_instance_are_ones_that_dagster_knows(name, tmp_path):
    text = (DEPLOY / "dagster" / f"{name}.yaml").read_text()
    (tmp_path / "dagster.yaml").write_text(text)
    config, _ = dagster_instance_config(str(tmp_path))
    assert config["run_monitoring"]["enabled"] and config["freshness"]["enabled"]
    assert config["telemetry"]["enabled"] is False
    # Secrets come from the environment.
    assert set(config["storage"]["postgres"]["postgres_url"]) == {"env"}


def test_what_holds_for_one_machine_holds_for_several(tmp_path):
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    local = yaml.safe_load((ensure_instance_home(environment) / "dagster.yaml").read_text())
    for name in ("one_machine", "celery"):
        stated = yaml.safe_load((DEPLOY / "dagster" / f"{name}.yaml").read_text())
        for key in ("telemetry", "run_queue", "backfills", "sensors", "run_retries", "freshness"):
            assert stated[key] == local[key], (name, key)
        assert stated["run_monitoring"].items() >= local["run_monitoring"].items(), name


def test_nothing_is_pickled_on_the_way_to_a_worker():
    text = (DEPLOY / "celery" / "dagster_celery_config.py").read_text()
    said: dict[str, object] = {}
    environ = {"GEOCAL_BROKER_URL": "redis://a", "GEOCAL_RESULTS_URL": "redis://b"}
    with pytest.MonkeyPatch.context() as patch:
        for key, value in environ.items():
            patch.setenv(key, value)
        exec(compile(text, "dagster_celery_config.py", "exec"), said)
    assert said["accept_content"] == ["json"]
    assert said["task_serializer"] == said["result_serializer"] == "json"
    assert said["worker_max_tasks_per_child"] == 1


def test_the_image_and_its_parts_run_without_root():
    image = (DEPLOY / "Dockerfile").read_text()
    assert image.count("FROM ") == 2 and "USER 10001" in image
    parts = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    ours = {n: s for n, s in parts["services"].items() if s.get("image") == "geocal"}
    assert set(ours) == {"code", "web", "daemon", "worker"}
    for name, service in ours.items():
        assert service["cap_drop"] == ["ALL"] and service["read_only"], name
    # The UI is offered on loopback of the host only.
    ports = [port for service in parts["services"].values() for port in service.get("ports", ())]
    assert ports == ["127.0.0.1:3000:3000"]


def test_no_secret_stands_in_a_file():
    for path in sorted(DEPLOY.rglob("*")):
        if path.is_file():
            words = path.read_text().lower()
            for line in words.splitlines():
                if "password" in line and "=" in line and not line.lstrip().startswith("#"):
                    assert line.rstrip().endswith("=") or "${" in line or "$$" in line, path


@contextlib.contextmanager
def empty_database() -> Iterator[str]:
    """The address of an empty database, which is removed afterwards; skips where there is none."""
    psycopg2 = pytest.importorskip("psycopg2", reason="the extra deploy is not installed")
    pytest.importorskip("dagster_postgres", reason="the extra deploy is not installed")
    if not answers(5432):
        pytest.skip("PostgreSQL does not answer on 127.0.0.1:5432")
    with contextlib.ExitStack() as stack:
        try:
            address = stack.enter_context(services.database())
        except psycopg2.OperationalError as error:
            pytest.skip(f"PostgreSQL refuses the user postgres: {error}")
        yield address


@pytest.fixture
def database() -> Iterator[str]:
    with empty_database() as address:
        yield address


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


@pytest.fixture
def home(tmp_path, database, monkeypatch) -> Path:
    """An instance's folder as deploy/ has it for Celery."""
    monkeypatch.setenv("GEOCAL_POSTGRES_URL", database)
    monkeypatch.setenv("GEOCAL_BROKER_URL", f"{REDIS}/14")
    monkeypatch.setenv("GEOCAL_RESULTS_URL", f"{REDIS}/15")
    monkeypatch.setenv("GEOCAL_RUN_LOGS", str(tmp_path / "logs"))
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def test_runs_are_recorded_in_postgresql(home, environment):
    (home / "dagster.yaml").write_text((DEPLOY / "dagster" / "one_machine.yaml").read_text())
    definitions = toy_definitions(environment)
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert "Postgres" in type(instance.run_storage).__name__
        for job, state in ((NATIONAL_INPUTS, None), (STATES, "DE"), (NATIONAL_OUTPUTS, None)):
            job_def = definitions.resolve_job_def(job)
            assert job_def.execute_in_process(instance=instance, partition_key=state).success
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 3
        assert instance.get_materialized_partitions(dg.AssetKey("weights")) == {"DE"}


@pytest.fixture
def worker(home, environment, monkeypatch) -> Iterator[Path]:
    """One Celery worker that takes runs; returns where its words go."""
    pytest.importorskip("dagster_celery", reason="the extra deploy is not installed")
    redis = pytest.importorskip("redis", reason="the extra deploy is not installed")
    if not answers(6379):
        pytest.skip("Redis does not answer on 127.0.0.1:6379")
    (home / "dagster.yaml").write_text((DEPLOY / "dagster" / "celery.yaml").read_text())
    variables = {
        **environment.variables(),
        "DAGSTER_HOME": str(home),
        "PYTHONPATH": f"{DEPLOY / 'celery'}{os.pathsep}{PROJECT_ROOT}",
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(PROJECT_ROOT)
    stores = [redis.Redis(port=6379, db=number) for number in (14, 15)]
    for store in stores:
        store.flushdb()
    said = home / "worker.log"
    with said.open("w") as log:
        options = "-Q dagster -c 1 --loglevel info -n"
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "-A", "dagster_celery.app", "worker"),
                *options.split(),
                f"test-{os.getpid()}@%h",
            ],
            stdout=log,
            stderr=log,
        )
    yield said
    process.terminate()
    process.wait(timeout=30)
    for store in stores:
        store.flushdb()


def test_a_run_goes_through_the_queue_to_a_celery_worker(worker, home, environment):
    from dagster._core.workspace.context import WorkspaceProcessContext
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster._daemon.run_coordinator.queued_run_coordinator_daemon import (
        QueuedRunCoordinatorDaemon,
    )
    from dagster_graphql.test.utils import execute_dagster_graphql

    launch = """mutation($p: ExecutionParams!) {launchRun(executionParams: $p)
        {__typename ... on LaunchRunSuccess {run {runId}} ... on PythonError {message}}}"""
    selector = {
        "repositoryLocationName": "geocal",
        "repositoryName": "__repository__",
        "jobName": NATIONAL_INPUTS,
        "assetSelection": [{"path": ["synthetic_raw_files"]}],
    }
    target = ModuleTarget("pipeline.definitions", None, str(PROJECT_ROOT), "geocal")
    with (
        dg.DagsterInstance.from_config(str(home)) as instance,
        WorkspaceProcessContext(instance, target) as workspace,
    ):
        answer = execute_dagster_graphql(
            workspace.create_request_context(),
            launch,
            variables={"p": {"selector": selector, "mode": "default", "runConfigData": {}}},
        )
        run_id = answer.data["launchRun"]["run"]["runId"]
        assert instance.get_run_by_id(run_id).status == dg.DagsterRunStatus.QUEUED
        list(QueuedRunCoordinatorDaemon(interval_seconds=1).run_iteration(workspace))
        for _ in range(240):
            if instance.get_run_by_id(run_id).is_finished:
                break
            time.sleep(0.5)
        run = instance.get_run_by_id(run_id)
        assert run.status == dg.DagsterRunStatus.SUCCESS, worker.read_text()[-3000:]
        assert "dagster-celery/task_id" in run.tags
    assert (environment.generated().data).is_dir()
    assert "succeeded" in worker.read_text()
