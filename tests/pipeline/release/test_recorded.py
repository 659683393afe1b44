"""Dagster's records of checks: those of the very run that made a table, of no other."""

# No `from __future__ import annotations`: Dagster compares the type of `context` itself.
import dagster as dg
import pytest

from pipeline.partitions import state_partitions
from pipeline.release.recorded import national_checks, recorded_checks, recorded_runs
from tests.pipeline.release.result import write_result

CHECK = dg.AssetCheckSpec("converged", asset="weights")


def asset_of(passed: dict[str, bool]) -> dg.AssetsDefinition:
    @dg.asset(partitions_def=state_partitions(("RI", "DE")), check_specs=[CHECK])
    def weights(context: dg.AssetExecutionContext):
        result = dg.AssetCheckResult(
            check_name="converged",
            passed=passed[context.partition_key],
            metadata={"status": "found", "steps": 7, "table": dg.MetadataValue.md("x" * 500)},
        )
        return dg.MaterializeResult(check_results=[result])

    return weights


@pytest.fixture
def instance():
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def run(instance: dg.DagsterInstance, state: str, passed: bool) -> str:
    done = dg.materialize(
        [asset_of({state: passed})], instance=instance, partition_key=state, raise_on_error=False
    )
    return done.run_id


def manifest(run_id: str, state: str) -> dict:
    path = f"weights/state={state}/weights.parquet"
    return {"tables": {"weights": {"run_id": run_id, "path": path}}}


def test_one_states_pass_does_not_stand_for_another(instance):
    failed, passed = run(instance, "RI", False), run(instance, "DE", True)
    [ri] = recorded_checks(instance, "RI", manifest(failed, "RI"))
    [de] = recorded_checks(instance, "DE", manifest(passed, "DE"))
    assert (ri.name, ri.state, ri.passed, ri.refuses) == ("weights.converged", "RI", False, True)
    assert (de.state, de.passed) == ("DE", True)
    assert ri.numbers == {"status": "found", "steps": 7}


def test_a_run_that_is_not_recorded_is_said_not_to_be_told(instance):
    [check] = recorded_checks(instance, "RI", manifest("gone", "RI"))
    assert check.passed is None and not check.refuses
    [check] = recorded_checks(None, "RI", manifest("gone", "RI"))
    assert check.passed is None


def test_national_records_of_other_tables_do_not_count(instance):
    spec = dg.AssetCheckSpec("whole", asset="national_fit")

    @dg.asset(check_specs=[spec])
    def national_fit(context: dg.AssetExecutionContext):
        result = dg.AssetCheckResult(check_name="whole", passed=True)
        return dg.MaterializeResult(metadata={"sha256": "aa"}, check_results=[result])

    dg.materialize([national_fit], instance=instance)
    assert [c.name for c in national_checks(instance, {"national_fit": "aa"})] == [
        "national_fit.whole"
    ]
    assert national_checks(instance, {"national_fit": "bb"}) == []


def test_no_instance_is_made_for_it(tmp_path):
    environment = write_result(tmp_path)
    with recorded_runs(environment) as found:
        assert found is None
    assert not environment.dagster_home.exists()
