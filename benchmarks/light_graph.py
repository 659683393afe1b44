"""A code location of the real shape and little work, so that many kills cost little.

Nation, then for each state of the profile a chain of tables that take a third of a second each,
then a table over all states. Storage, locks, jobs, sensors and the run's process are those of
``pipeline``; only the assets are stand-ins, and their figures are SYNTHETIC.

Belongs here: these assets. Does not belong here: what is done to their runs (``kills.py``).
"""

# No `from __future__ import annotations` here: Dagster compares the type of `context` itself, not
# its name.
import time
import zlib

import dagster as dg
import numpy as np
import polars as pl

from pipeline.automation.build import follow_up
from pipeline.definitions import locking
from pipeline.io_manager import ParquetIOManager
from pipeline.jobs import build_jobs
from pipeline.partitions import order_states, state_partitions
from pipeline.settings import run_environment
from pipeline.specs.catalog import load_catalog

STEPS = 12
_ROWS, _SECONDS = 100_000, 0.3


def _table(*words: str) -> pl.DataFrame:
    """The same figures for the same words."""
    rng = np.random.default_rng(zlib.crc32("/".join(words).encode()))
    return pl.DataFrame({"value": rng.random(_ROWS)})


def _step(number: int, partitions: dg.PartitionsDefinition) -> dg.AssetsDefinition:
    before = "nation" if number == 0 else f"step_{number - 1}"

    @dg.asset(name=f"step_{number}", partitions_def=partitions, ins={"above": dg.AssetIn(before)})
    def step(context: dg.AssetExecutionContext, above: pl.DataFrame):
        time.sleep(_SECONDS)
        own = _table(f"step_{number}", context.partition_key)
        return dg.MaterializeResult(value=own.with_columns(total=pl.lit(above["value"].sum())))

    return step


@dg.definitions
def defs() -> dg.Definitions:
    """The stand-ins of the profile that the environment names."""
    environment = run_environment()
    profile = load_catalog().profile(environment.profile)
    partitions = state_partitions(profile.states)

    @dg.asset
    def nation():
        time.sleep(_SECONDS)
        return dg.MaterializeResult(value=_table("nation"))

    last = {"tables": dg.AssetIn(f"step_{STEPS - 1}", metadata={"allow_missing_partitions": True})}

    @dg.asset(ins=last)
    def national_report(tables: dict[str, pl.DataFrame]):
        return dg.MaterializeResult(value=pl.DataFrame({"state": sorted(tables)}))

    assets = [nation, *(_step(number, partitions) for number in range(STEPS)), national_report]
    jobs = build_jobs(assets)
    schedule = profile.schedule
    states = order_states(profile.states)
    automation = follow_up(jobs, states, schedule, profile.id, environment)
    manager = ParquetIOManager(environment, {"profile": profile.id, "synthetic": True})
    return dg.Definitions(
        assets=assets,
        jobs=list(jobs.values()),
        schedules=automation.schedules,
        sensors=automation.sensors,
        resources={"io_manager": locking(manager, profile)},
        executor=dg.in_process_executor,
    )
