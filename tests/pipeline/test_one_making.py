"""The nation's tables take states of one making, name the others, and one step takes no mix."""

from __future__ import annotations

import dagster as dg
import polars as pl
import pytest

from pipeline.assets.national_reports import NOT_RUN, _of_one_making, left_out
from pipeline.io_manager import ParquetIOManager, read_facts
from pipeline.locks import NATION, held
from pipeline.partitions import state_partitions
from pipeline.settings import RunEnvironment
from pipeline.stored import StoredTables
from tests.pipeline.faults import files_profile
from tests.pipeline.test_locks import other
from tests.pipeline.test_stored import store

STATES = state_partitions(("DE", "RI"))


@pytest.fixture
def environment(tmp_path) -> RunEnvironment:
    return RunEnvironment("sample_files", tmp_path / "raw", tmp_path / "output")


def assets(total: float) -> list[dg.AssetsDefinition]:
    """nation -> targets, weights (from both) -> report over the states."""

    @dg.asset
    def nation():
        return dg.MaterializeResult(value=pl.DataFrame({"total": [total]}))

    @dg.asset(partitions_def=STATES)
    def targets(nation: pl.DataFrame):
        return dg.MaterializeResult(value=nation)

    @dg.asset(partitions_def=STATES)
    def weights(nation: pl.DataFrame, targets: pl.DataFrame):
        return dg.MaterializeResult(value=targets)

    @dg.asset(ins={"weights": dg.AssetIn("weights", metadata={"allow_missing_partitions": True})})
    def report(weights: dict[str, pl.DataFrame]):
        return dg.MaterializeResult(value=pl.DataFrame({"state": sorted(weights)}))

    return [nation, targets, weights, report]


def made(environment, name: str, total: float = 1.0, state: str | None = None, fails=False):
    return dg.materialize(
        assets(total),
        selection=[name],
        partition_key=state,
        resources={"io_manager": ParquetIOManager(environment)},
        raise_on_error=not fails,
    )


def test_only_states_made_from_what_is_there_now_go_into_the_nation(environment):
    made(environment, "nation")
    for state in ("RI", "DE"):
        made(environment, "targets", state=state)
        made(environment, "weights", state=state)
    made(environment, "nation", 2.0)
    made(environment, "targets", state="DE")
    made(environment, "weights", state="DE")
    made(environment, "report")
    report = environment.table_path("report")
    assert pl.read_parquet(report)["state"].to_list() == ["DE"]
    assert list(read_facts(report)["inputs"]) == ["weights[DE]"]


def test_a_state_whose_table_is_damaged_does_not_end_the_nation(environment):
    made(environment, "nation")
    for state in ("RI", "DE"):
        made(environment, "targets", state=state)
        made(environment, "weights", state=state)
    path = environment.table_path("weights", "RI")
    path.write_bytes(path.read_bytes()[:-30])
    assert made(environment, "report").success
    assert pl.read_parquet(environment.table_path("report"))["state"].to_list() == ["DE"]


def test_a_step_on_inputs_of_two_makings_is_refused_and_writes_nothing(environment):
    made(environment, "nation")
    made(environment, "targets", state="RI")
    made(environment, "nation", 2.0)
    result = made(environment, "weights", state="RI", fails=True)
    (failure,) = [event for event in result.all_events if event.is_step_failure]
    error = failure.step_failure_data.error
    while error.cause is not None:
        error = error.cause
    assert "Tables of two makings meet: targets[RI] was made from nation" in error.message
    assert not environment.table_path("weights", "RI").exists()


def test_the_data_version_is_what_a_table_holds(environment):
    with dg.DagsterInstance.ephemeral() as instance:
        versions = []
        for total in (1.0, 1.0, 2.0):
            dg.materialize(
                assets(total),
                selection=["nation"],
                instance=instance,
                resources={"io_manager": ParquetIOManager(environment)},
            )
            event = instance.get_latest_materialization_event(dg.AssetKey("nation"))
            versions.append(event.asset_materialization.tags["dagster/data_version"])
        assert versions[0] == versions[1] != versions[2]
        assert versions[2] == StoredTables(environment.root).look("nation").content


def of_a_state(environment, state: str, nation: str) -> None:
    weights = store(environment.root, f"weights[{state}]", 1, national_targets=nation)
    inputs = {f"weights[{state}]": weights, "national_targets": nation}
    store(environment.root, f"fit_report[{state}]", 1, **inputs)


def test_states_left_out_are_named_with_expected_and_found(environment):
    old = store(environment.root, "national_targets", 1)
    of_a_state(environment, "RI", old)
    assert left_out(files_profile(), environment, ("RI", "DE")) == {"DE": NOT_RUN}
    new = store(environment.root, "national_targets", 2)
    of_a_state(environment, "DE", new)
    out = left_out(files_profile(), environment, ("RI", "DE"))
    assert list(out) == ["RI"] and old[:12] in out["RI"] and new[:12] in out["RI"]
    check = _of_one_making(out)
    assert not check.passed and check.metadata["RI"].value == out["RI"]


@pytest.mark.parametrize("gone", ["fit_report", "weights"])
def test_a_state_with_half_its_tables_is_no_state_that_was_never_run(environment, gone):
    nation = store(environment.root, "national_targets", 1)
    for state in ("RI", "DE"):
        of_a_state(environment, state, nation)
    environment.table_path(gone, "RI").unlink()
    out = left_out(files_profile(), environment, ("RI", "DE"))
    assert list(out) == ["RI"] and gone in out["RI"]
    assert not _of_one_making(out).passed


def test_a_state_that_was_never_run_is_no_mix(environment):
    nation = store(environment.root, "national_targets", 1)
    of_a_state(environment, "RI", nation)
    assert _of_one_making(left_out(files_profile(), environment, ("RI", "DE"))).passed
    assert left_out(files_profile(), environment, ()) == {
        "RI": "a table cannot be read",
        "DE": NOT_RUN,
    }


def under_lock(environment, state: str | None, tags=None) -> dg.ExecuteInProcessResult:
    """A run of Dagster's own, as the UI and the daemon start it."""
    from pipeline.definitions import locking

    manager = locking(ParquetIOManager(environment), files_profile())
    return dg.materialize(
        assets(1.0),
        selection=["targets" if state else "nation"],
        partition_key=state,
        resources={"io_manager": manager},
        tags=tags,
        raise_on_error=False,
    )


def test_a_run_of_dagsters_own_takes_the_same_lock(environment):
    assert under_lock(environment, None).success
    process = other(environment.root, seconds=4)
    refused = under_lock(environment, "RI")
    said = [e.event_specific_data for e in refused.all_events if e.is_run_failure]
    assert not refused.success and f"process {process.pid}" in said[0].error.to_string()
    assert under_lock(environment, "DE").success
    assert under_lock(environment, "RI", {"geocal/wait": "true"}).success
    assert process.wait() == 0
    process.stdout.close()
    with held(environment.root, NATION, "mine", "geocal run"):
        assert under_lock(environment, None).success  # the same process: a run within `geocal run`
