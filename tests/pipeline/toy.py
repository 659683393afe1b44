"""A graph of the real shape and no real work, for tests of jobs, runs and the command line.

``nation`` (no partition) -> ``weights`` (a state) -> ``national_report`` (reads every state). A
state named in ``broken`` fails in ``weights`` with a GeocalError, as a data fault does.
"""

# No `from __future__ import annotations` here: Dagster compares the type of `context` itself, not
# its name.
from collections.abc import Callable

import dagster as dg
import polars as pl

from pipeline.assets.common import permanent
from pipeline.automation.build import follow_up
from pipeline.errors import SourceFileError
from pipeline.io_manager import ParquetIOManager
from pipeline.jobs import build_jobs
from pipeline.partitions import state_partitions
from pipeline.settings import RunEnvironment
from pipeline.specs.operation import Schedule


def toy_definitions(
    environment: RunEnvironment,
    states: tuple[str, ...] = ("DE", "RI"),
    broken: tuple[str, ...] = (),
    nation_broken: bool = False,
    work: Callable[[dg.AssetExecutionContext], None] = lambda context: None,
) -> dg.Definitions:
    """``work``: what ``weights`` does before it answers."""

    @dg.asset
    @permanent
    def nation(context: dg.AssetExecutionContext):
        if nation_broken:
            raise SourceFileError(
                "A raw file is missing",
                where="irs/22in55cmcsv.csv",
                expected="the published file",
                remedy="Download it",
            )
        return dg.MaterializeResult(value=pl.DataFrame({"total": [10.0]}))

    @dg.asset(partitions_def=state_partitions(states))
    @permanent
    def weights(context: dg.AssetExecutionContext, nation: pl.DataFrame):
        work(context)
        if context.partition_key in broken:
            raise SourceFileError(
                "The zip archive cannot be opened",
                where=f"csv_p{context.partition_key.lower()}.zip",
                expected="a zip",
                remedy="Download it again",
            )
        return dg.MaterializeResult(
            value=pl.DataFrame({"weight": [nation["total"][0]], "key": [context.partition_key]})
        )

    @dg.asset(ins={"weights": dg.AssetIn("weights", metadata={"allow_missing_partitions": True})})
    @permanent
    def national_report(context: dg.AssetExecutionContext, weights: dict[str, pl.DataFrame]):
        return dg.MaterializeResult(value=pl.DataFrame({"state": sorted(weights)}))

    assets = [nation, weights, national_report]
    jobs = build_jobs(assets)
    automation = follow_up(jobs, list(states), Schedule(), "sample", environment)
    return dg.Definitions(
        assets=assets,
        jobs=list(jobs.values()),
        schedules=automation.schedules,
        sensors=automation.sensors,
        resources={
            "io_manager": ParquetIOManager(environment, {"profile": "sample", "synthetic": True})
        },
        executor=dg.in_process_executor,
    )
