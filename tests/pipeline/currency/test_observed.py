"""Raw files in Dagster's graph: their versions are their content, and what rests on a changed one
is shown as out of date, of that state alone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from pipeline.assets.raw_files import raw_key
from pipeline.currency.making import Makings, makings_of
from pipeline.currency.observed import observations
from pipeline.definitions import build_definitions
from pipeline.settings import RunEnvironment
from tests.pipeline.faults import SAMPLE, files_profile, small_sample

SOURCE = "acs5_profile_tracts"


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "raw"
    small_sample(folder)
    return folder


@pytest.fixture
def environment(files, tmp_path) -> RunEnvironment:
    shutil.copytree(files, tmp_path / "raw")
    return RunEnvironment("sample_files", tmp_path / "raw", tmp_path / "output")


def built(environment: RunEnvironment) -> tuple[dg.Definitions, Makings]:
    definitions = build_definitions(files_profile(), environment)
    return definitions, makings_of(files_profile(), environment, definitions)


def report(instance: dg.DagsterInstance, makings: Makings) -> list[tuple[str, str | None]]:
    found = observations(instance, makings, [None, "RI", "DE"])
    for each in found:
        instance.report_runless_asset_event(each)
    return [(each.asset_key.path[-1], each.partition) for each in found]


def test_only_what_is_new_is_reported(environment):
    _, makings = built(environment)
    with dg.DagsterInstance.ephemeral() as instance:
        first = report(instance, makings)
        assert (SOURCE, "RI") in first and ("irs_county", None) in first
        assert report(instance, makings) == []
        path = environment.data / SAMPLE.profile
        path.write_bytes(path.read_bytes() + b" ")
        assert report(instance, built(environment)[1]) == [(SOURCE, "RI")]


def test_a_changed_file_makes_that_state_out_of_date_in_the_ui(environment):
    definitions, makings = built(environment)
    assets = [a for a in definitions.assets if isinstance(a, dg.AssetsDefinition)]
    (own,) = [a for a in assets if dg.AssetKey(SOURCE) in a.keys]
    with dg.DagsterInstance.ephemeral() as instance:
        report(instance, makings)
        for state in ("RI", "DE"):
            done = dg.materialize(
                [own, *(a for a in definitions.assets if isinstance(a, dg.AssetSpec))],
                selection=[SOURCE],
                partition_key=state,
                instance=instance,
                resources={"io_manager": definitions.resources["io_manager"]},
            )
            assert done.success

        def standing(state: str) -> StaleStatus:
            resolver = CachingStaleStatusResolver(
                instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance)
            )
            return resolver.get_status(dg.AssetKey(SOURCE), state)

        assert standing("RI") == standing("DE") == StaleStatus.FRESH
        path = environment.data / SAMPLE.profile
        path.write_bytes(path.read_bytes() + b" ")
        report(instance, built(environment)[1])
        assert standing("RI") == StaleStatus.STALE
        assert standing("DE") == StaleStatus.FRESH
    assert raw_key(SOURCE).path == ["raw", SOURCE]
