"""Storing tables: layout, atomic replacement, digests, provenance, and what a missing or damaged
file says.
"""

# No `from __future__ import annotations` here: Dagster compares the type of `context` itself, not
# its name.

import gc
import hashlib
import weakref
from pathlib import Path

import dagster as dg
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from polars.testing import assert_frame_equal
from polars.testing.parametric import dataframes

from pipeline.errors import StoreError
from pipeline.io_manager import ParquetIOManager, Table, decode, encode, read_facts, write_atomic
from pipeline.settings import RunEnvironment
from pipeline.stored import content_digest

STATES = dg.StaticPartitionsDefinition(["DE", "RI"])
FRAME = pl.DataFrame({"household_id": ["a", "b"], "weight": [1.5, 2.0]})


@pytest.fixture
def environment(tmp_path: Path) -> RunEnvironment:
    return RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")


def make_assets(fail_on: str | None = None) -> list[dg.AssetsDefinition]:
    @dg.asset
    def nation(context: dg.AssetExecutionContext):
        return dg.MaterializeResult(
            value=Table(
                FRAME,
                {"provenance": [{"file": "a.csv", "member": "", "bytes": 3, "sha256": "0" * 64}]},
            )
        )

    @dg.asset(partitions_def=STATES)
    def weights(context: dg.AssetExecutionContext, nation: pl.DataFrame):
        if context.partition_key == fail_on:
            raise RuntimeError("the solver failed")
        return dg.MaterializeResult(value=nation.with_columns(area=pl.lit(context.partition_key)))

    @dg.asset(ins={"weights": dg.AssetIn("weights", metadata={"allow_missing_partitions": True})})
    def total(context: dg.AssetExecutionContext, weights: dict[str, pl.DataFrame]):
        return dg.MaterializeResult(
            value=pl.DataFrame(
                {"state": sorted(weights), "rows": [weights[k].height for k in sorted(weights)]}
            )
        )

    return [nation, weights, total]


def materialize(
    environment: RunEnvironment,
    selection: str,
    instance: dg.DagsterInstance,
    partition: str | None = None,
    **kwargs,
) -> dg.ExecuteInProcessResult:
    facts = {"profile": "sample", "synthetic": True, "seed": 7}
    return dg.materialize(
        make_assets(kwargs.pop("fail_on", None)),
        selection=[selection],
        instance=instance,
        partition_key=partition,
        resources={"io_manager": ParquetIOManager(environment, facts)},
        **kwargs,
    )


@pytest.fixture
def instance() -> dg.DagsterInstance:
    with dg.DagsterInstance.ephemeral() as ephemeral:
        yield ephemeral


def test_layout_metadata_and_inputs(environment, instance):
    materialize(environment, "nation", instance)
    result = materialize(environment, "weights", instance, "RI")
    path = environment.table_path("weights", "RI")
    assert path == environment.output / "sample" / "weights" / "state=RI" / "weights.parquet"
    (event,) = result.asset_materializations_for_node("weights")
    stored = path.read_bytes()
    assert event.metadata["sha256"].value == hashlib.sha256(stored).hexdigest()
    assert event.metadata["dagster/row_count"].value == 2
    assert event.metadata["label"].value == "SYNTHETIC"
    assert [column.name for column in event.metadata["dagster/column_schema"].value.columns] == [
        "household_id",
        "weight",
        "area",
    ]
    facts = read_facts(path)
    assert facts["synthetic"] is True
    assert facts["partition"] == "RI"
    assert facts["inputs"] == {
        "nation": content_digest(environment.table_path("nation").read_bytes())
    }
    assert read_facts(environment.table_path("nation"))["provenance"][0]["file"] == "a.csv"


def test_same_inputs_give_the_same_bytes_and_another_state_changes_nothing(environment, instance):
    materialize(environment, "nation", instance)
    materialize(environment, "weights", instance, "RI")
    first = environment.table_path("weights", "RI").read_bytes()
    materialize(environment, "weights", instance, "DE")
    assert environment.table_path("weights", "RI").read_bytes() == first
    materialize(environment, "weights", instance, "RI")
    assert environment.table_path("weights", "RI").read_bytes() == first


def test_a_failed_state_keeps_its_previous_table(environment, instance):
    materialize(environment, "nation", instance)
    materialize(environment, "weights", instance, "RI")
    before = environment.table_path("weights", "RI").read_bytes()
    result = materialize(environment, "weights", instance, "RI", fail_on="RI", raise_on_error=False)
    assert not result.success
    assert environment.table_path("weights", "RI").read_bytes() == before
    assert materialize(environment, "weights", instance, "DE", fail_on="RI").success


def test_unpartitioned_downstream_reads_the_states_there_are(environment, instance):
    materialize(environment, "nation", instance)
    materialize(environment, "weights", instance, "DE")
    materialize(environment, "total", instance)
    assert pl.read_parquet(environment.table_path("total")).rows() == [("DE", 2)]
    materialize(environment, "weights", instance, "RI")
    materialize(environment, "total", instance)
    assert pl.read_parquet(environment.table_path("total"))["state"].to_list() == ["DE", "RI"]


def test_the_hive_layout_reads_as_one_table(environment, instance):
    materialize(environment, "nation", instance)
    for state in ("DE", "RI"):
        materialize(environment, "weights", instance, state)
    frame = pl.read_parquet(
        environment.root / "weights" / "**" / "*.parquet", hive_partitioning=True
    )
    assert sorted(frame["state"].unique()) == ["DE", "RI"]
    assert frame.height == 4


def test_a_missing_upstream_table_says_what_to_run(environment, instance):
    result = materialize(environment, "weights", instance, "RI", raise_on_error=False)
    (failure,) = [e for e in result.all_events if e.is_step_failure]
    text = failure.step_failure_data.error.to_string()
    assert "The table nation has not been made" in text
    assert "dg launch --assets nation" in text
    assert not environment.table_path("weights", "RI").exists()


def test_a_damaged_table_is_named(environment, instance):
    materialize(environment, "nation", instance)
    path = environment.table_path("nation")
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(
        StoreError, match=r"cannot be read.*nation\.parquet.*materialise its asset again"
    ):
        read_facts(path)
    with pytest.raises(StoreError, match="cannot be read"):
        decode(path, path.read_bytes())


def test_a_foreign_parquet_file_has_no_facts(tmp_path):
    FRAME.write_parquet(tmp_path / "other.parquet")
    with pytest.raises(StoreError, match="carries no geocal facts"):
        read_facts(tmp_path / "other.parquet")


def test_an_asset_that_returns_no_table_is_refused_before_anything_is_written(
    environment, instance
):
    @dg.asset
    def wrong():
        return dg.MaterializeResult(value=[1, 2])

    result = dg.materialize(
        [wrong],
        instance=instance,
        resources={"io_manager": ParquetIOManager(environment)},
        raise_on_error=False,
    )
    assert not result.success
    assert not environment.table_path("wrong").exists()


def test_an_interrupted_write_leaves_the_old_file_and_no_debris(tmp_path, monkeypatch):
    path = tmp_path / "a" / "t.parquet"
    write_atomic(path, b"old")

    def fail(self, target):
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["t.parquet"]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    frame=dataframes(
        max_cols=4,
        max_size=20,
        allowed_dtypes=[pl.String, pl.Float64, pl.Int64, pl.Boolean, pl.Int32],
    )
)
def test_every_frame_survives_the_round_trip_with_its_facts(frame):
    facts = {"seed": 3, "provenance": [{"file": "ä.csv"}]}
    data = encode(frame, facts)
    assert data == encode(frame, dict(reversed(facts.items())))
    assert_frame_equal(decode(Path("x"), data), frame)


def test_a_run_in_one_process_lets_go_of_a_table_once_it_is_stored(environment):
    alive = []

    @dg.asset
    def table() -> pl.DataFrame:
        frame = pl.DataFrame({"a": range(3)})
        alive.append(weakref.ref(frame))
        return frame

    @dg.asset(deps=[table])
    def after(context) -> pl.DataFrame:
        gc.collect()
        alive.append(alive[0]() is None)
        return pl.DataFrame({"a": [1]})

    manager = {"io_manager": ParquetIOManager(environment)}
    assert dg.materialize([table, after], resources=manager).success
    assert alive[1] is True


def test_a_large_process_frees_circles_of_earlier_steps_before_the_next(environment, monkeypatch):
    monkeypatch.setattr("pipeline.io_manager._LARGE_MB", 0)
    alive = []

    @dg.asset
    def first() -> pl.DataFrame:
        frame, circle = pl.DataFrame({"a": range(3)}), []
        circle += [frame, circle]
        alive.append(weakref.ref(frame))
        gc.disable()
        return pl.DataFrame({"a": [1]})

    @dg.asset
    def second(first: pl.DataFrame) -> pl.DataFrame:
        alive.append(alive[0]() is None)
        return first

    try:
        manager = {"io_manager": ParquetIOManager(environment)}
        assert dg.materialize([first, second], resources=manager).success
    finally:
        gc.enable()
    assert alive[1] is True
