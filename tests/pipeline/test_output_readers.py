"""Other programs read what geocal stores, whole folders and single files, with no option set."""

import re
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import duckdb
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset
import pyarrow.parquet
import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.errors import StoreError
from pipeline.io_manager import ParquetIOManager
from pipeline.settings import RunEnvironment
from pipeline.weights.table import WEIGHTS_SCHEMA

STATES = dg.StaticPartitionsDefinition(["DE", "RI"])
PERSONS = {"10001": 1.5, "10003": 5.0, "44001": 1.5, "44007": 5.0}
TRACTS = {"DE": ["10001040100", "10003000200"], "RI": ["44001030100", "44007000100"]}


def weights_of(state: str, tracts: bool) -> pl.DataFrame:
    tract = TRACTS[state]
    return pl.DataFrame(
        {
            "household_id": [f"{state}1", f"{state}2"],
            "tract": tract if tracts else [None, None],
            "county": [t[:5] for t in tract],
            "weight": [1.5, 2.5],
        },
        schema=WEIGHTS_SCHEMA,
    )


def households_of(state: str) -> pl.DataFrame:
    """One column of every type that a stored table has."""
    return pl.DataFrame(
        {
            "household_id": [f"{state}1", f"{state}2"],
            "design_weight": [10.0, 20.0],
            "persons": pl.Series([1, 2], dtype=pl.Int32),
            "is_group_quarters": [False, True],
            "tenure": pl.Series([None, "owner"], dtype=pl.String),
        }
    )


@pytest.fixture(scope="module", params=[True, False], ids=["tracts", "counties"])
def stored(request, tmp_path_factory) -> Path:
    """Folder of a profile with weights and households of two states, as the pipeline stores
    them.
    """

    @dg.asset(partitions_def=STATES)
    def weights(context: dg.AssetExecutionContext):
        return dg.MaterializeResult(value=weights_of(context.partition_key, request.param))

    @dg.asset(partitions_def=STATES)
    def selected_households(context: dg.AssetExecutionContext):
        return dg.MaterializeResult(value=households_of(context.partition_key))

    folder = tmp_path_factory.mktemp("stored")
    environment = RunEnvironment("sample", folder / "raw", folder / "output")
    with dg.DagsterInstance.ephemeral() as instance:
        for state in STATES.get_partition_keys():
            dg.materialize(
                [weights, selected_households],
                instance=instance,
                partition_key=state,
                resources={"io_manager": ParquetIOManager(environment)},
            )
    return environment.root


def of_pandas(frame: pd.DataFrame) -> pl.DataFrame:
    return pl.DataFrame(
        {name: frame[name].astype(object).where(frame[name].notna(), None) for name in frame},
        strict=False,
    )


def of_arrow(table: pa.Table) -> pl.DataFrame:
    return pl.DataFrame(table.to_pydict())


def of_duckdb(query: str) -> pl.DataFrame:
    with duckdb.connect() as connection:
        return of_arrow(connection.sql(query).to_arrow_table())


FOLDER: dict[str, Callable[[str], pl.DataFrame]] = {
    "polars": lambda at: pl.read_parquet(f"{at}/"),
    "polars, hive": lambda at: pl.read_parquet(f"{at}/", hive_partitioning=True),
    "polars, scan": lambda at: pl.scan_parquet(f"{at}/").collect(),
    "pandas": lambda at: of_pandas(pd.read_parquet(at)),
    "pyarrow.parquet": lambda at: of_arrow(pa.parquet.read_table(at)),
    "pyarrow.dataset": lambda at: of_arrow(pa.dataset.dataset(at, partitioning="hive").to_table()),
    "duckdb": lambda at: of_duckdb(f"FROM '{at}/*/*.parquet'"),
    "duckdb, hive": lambda at: of_duckdb(
        f"FROM read_parquet('{at}/*/*.parquet', hive_partitioning = true)"
    ),
}
FILE: dict[str, Callable[[str], pl.DataFrame]] = {
    "polars": pl.read_parquet,
    "pandas": lambda at: of_pandas(pd.read_parquet(at)),
    "pyarrow.parquet": lambda at: of_arrow(pa.parquet.read_table(at)),
    "pyarrow.dataset": lambda at: of_arrow(pa.dataset.dataset(at).to_table()),
    "pyarrow.dataset, hive": lambda at: of_arrow(
        pa.dataset.dataset(at, partitioning="hive").to_table()
    ),
    "duckdb": lambda at: of_duckdb(f"FROM '{at}'"),
}
TABLES = ["weights", "selected_households"]


@pytest.mark.parametrize("reader", FOLDER)
@pytest.mark.parametrize("table", TABLES)
def test_a_folder_is_one_table_with_its_states(stored, table, reader):
    found = FOLDER[reader](str(stored / table)).sort("household_id")
    assert found["state"].to_list() == ["DE", "DE", "RI", "RI"]
    parts = [pl.read_parquet(stored / table / f"state={s}" / f"{table}.parquet") for s in TRACTS]
    assert found.drop("state").rows() == pl.concat(parts).rows()


@pytest.mark.parametrize("reader", FILE)
@pytest.mark.parametrize("table", TABLES)
def test_a_file_is_the_table_of_its_state(stored, table, reader):
    made = weights_of("RI", True) if table == "weights" else households_of("RI")
    found = FILE[reader](str(stored / table / "state=RI" / f"{table}.parquet"))
    assert found.drop("state", strict=False).columns == made.columns
    assert found["household_id"].to_list() == ["RI1", "RI2"]
    number = "weight" if table == "weights" else "design_weight"
    assert found[number].to_list() == made[number].to_list()


def test_tables_of_two_folders_are_joined_by_state(stored):
    """State and household are the key of records: a household's id may occur in two states."""
    names = ("weights", "selected_households")
    weights, households = (pd.read_parquet(stored / name) for name in names)
    assert len(weights.merge(households, on=["state", "household_id"])) == 4
    weights, households = (pl.read_parquet(f"{stored / name}/") for name in names)
    assert weights.join(households, on=["state", "household_id"]).height == 4


def readme_blocks(language: str) -> list[str]:
    text = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
    section = text.split("## Reading the weights")[1].split("\n## ")[0]
    return re.findall(rf"```{language}\n(.*?)```", section, re.DOTALL)


@pytest.mark.parametrize("block", readme_blocks("python"), ids=lambda b: b.split()[1])
def test_readme_reads_persons_by_county(stored, monkeypatch, capsys, block):
    monkeypatch.chdir(stored.parents[1])
    exec(block, {})
    printed = capsys.readouterr().out
    for county, persons in PERSONS.items():
        assert re.search(rf"{county}\W+{persons}", printed), printed


def test_readme_reads_persons_by_county_in_sql(stored, monkeypatch):
    monkeypatch.chdir(stored.parents[1])
    (query,) = readme_blocks("sql")
    with duckdb.connect() as connection:
        assert dict(connection.sql(query).fetchall()) == PERSONS


def test_a_table_by_state_may_not_hold_the_column_of_its_folder(tmp_path):
    @dg.asset(partitions_def=STATES)
    def weights(context: dg.AssetExecutionContext):
        return dg.MaterializeResult(value=weights_of("RI", True).with_columns(state=pl.lit("RI")))

    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    with dg.DagsterInstance.ephemeral() as instance, pytest.raises(StoreError, match="'state'"):
        dg.materialize(
            [weights],
            instance=instance,
            partition_key="RI",
            resources={"io_manager": ParquetIOManager(environment)},
        )
    assert not environment.table_path("weights", "RI").exists()
