"""The real definitions of every profile: they load, their graph has the promised shape, and states
materialise from the sample.
"""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import dagster as dg
import polars as pl
import pytest

from pipeline.assets.common import PROJECT_ROOT
from pipeline.assets.names import GATE
from pipeline.currency import specs
from pipeline.currency.making import makings_of
from pipeline.definitions import build_definitions, run_facts
from pipeline.io_manager import read_facts
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.partitions import order_states
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile

PROFILES = sorted(load_catalog().profiles)
GROUPS = {
    "national_targets": ("targets", False),
    "state_targets": ("targets", True),
    "reconciled_targets": ("targets", True),
    "concept_gaps": ("candidates", True),
    "survey_estimates": ("candidates", True),
    "record_persons": ("candidates", True),
    "record_tax_units": ("candidates", True),
    "candidate_units": ("candidates", True),
    "dense_weights": ("weights", True),
    "selected_pairs": ("weights", True),
    "weights": ("weights", True),
    "selected_households": ("weights", True),
    "fit_report": ("reports", True),
    "selection_report": ("reports", True),
    "bystander_report": ("reports", True),
    "run_manifest": ("reports", True),
    "national_report": ("reports", False),
    "geography": ("sources", False),
    "microdata_persons": ("sources", True),
    "microdata_replicates": ("sources", True),
}


def definitions_of(profile: str, folder: Path) -> dg.Definitions:
    return build_definitions(
        load_catalog().profile(profile), RunEnvironment(profile, folder / "raw", folder / "output")
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_profile_loads(profile, tmp_path):
    dg.Definitions.validate_loadable(definitions_of(profile, tmp_path))


@pytest.mark.parametrize("profile", PROFILES)
def test_groups_and_partitions(profile, tmp_path):
    graph = definitions_of(profile, tmp_path).resolve_asset_graph()
    for name, (group, partitioned) in GROUPS.items():
        node = graph.get(dg.AssetKey(name))
        assert node.group_name == group, name
        assert node.is_partitioned is partitioned, name
        if partitioned:
            assert node.partitions_def.get_partition_keys() == order_states(
                load_catalog().profile(profile).states
            )


@pytest.mark.parametrize("profile", PROFILES)
def test_every_asset_belongs_to_exactly_one_job_and_says_what_it_is(profile, tmp_path):
    definitions = definitions_of(profile, tmp_path)
    graph = definitions.resolve_asset_graph()
    members = [
        key
        for job in (NATIONAL_INPUTS, STATES, NATIONAL_OUTPUTS)
        for key in definitions.resolve_job_def(job).asset_layer.selected_asset_keys
    ]
    # Raw files are observed, and made by nobody.
    assert sorted(members) == sorted(graph.materializable_asset_keys)
    for key in graph.materializable_asset_keys:
        node = graph.get(key)
        assert node.description and node.group_name and node.code_version and node.kinds, key


def test_data_flows_one_way_through_the_groups(tmp_path):
    graph = definitions_of("rhode_island", tmp_path).resolve_asset_graph()
    below = {
        "raw_files": set(),
        "sources": {"sources", "raw_files"},
        "targets": {"sources", "targets", "candidates"},
        "candidates": {"sources", "targets", "candidates"},
    }
    below |= {
        "weights": {*below["candidates"], "weights"},
        "reports": {*below["candidates"], "weights", "reports"},
    }
    # The gate holds no table: nothing flows through it.
    gate = dg.AssetKey(GATE)
    for key in graph.get_all_asset_keys() - {gate}:
        parents = {graph.get(p).group_name for p in graph.get(key).parent_keys - {gate}}
        assert parents <= below[graph.get(key).group_name], key


def test_hard_rules_block_and_thresholds_do_not(tmp_path):
    specs: dict[tuple[str, str], bool] = {}
    for asset in definitions_of("sample", tmp_path).assets:
        specs |= {
            (spec.asset_key.to_user_string(), spec.name): spec.blocking
            for spec in asset.check_specs
        }
    assert specs[("selected_pairs", "exactly_k")] is True
    assert specs[("dense_weights", "converged")] is True
    assert specs[("fit_report", "every_target_accounted_for")] is True
    assert specs[("fit_report", "share_inside_margin")] is False


def test_nothing_starts_by_itself(tmp_path):
    definitions = definitions_of("sample", tmp_path)
    assert [schedule.default_status for schedule in definitions.schedules] == [
        dg.DefaultScheduleStatus.STOPPED
    ]
    assert {sensor.default_status for sensor in definitions.sensors} == {
        dg.DefaultSensorStatus.STOPPED
    }
    assert {sensor.name for sensor in definitions.sensors} == {
        "production_run",
        "run_summaries",
        "changed_files",
    }


def test_the_schedule_is_the_profiles(tmp_path):
    schedule = {"cron": "30 4 * * 1", "timezone": "America/New_York", "retries": 3}
    content = load_catalog().profile("sample").model_dump() | {"schedule": schedule}
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    definitions = build_definitions(Profile.model_validate(content), environment)
    (made,) = definitions.schedules
    assert (made.cron_schedule, made.execution_timezone) == ("30 4 * * 1", "America/New_York")
    sensor = definitions.resolve_sensor_def("production_run")
    assert "3 times" in sensor.description


def test_only_a_synthetic_profile_makes_raw_files_and_says_so(tmp_path):
    made = dg.AssetKey("synthetic_raw_files")
    assert (
        made
        not in definitions_of("rhode_island", tmp_path).resolve_asset_graph().get_all_asset_keys()
    )
    sample = definitions_of("sample", tmp_path).resolve_asset_graph()
    assert "SYNTHETIC" in sample.get(made).description
    sources = [
        key
        for key in sample.get_all_asset_keys()
        if sample.get(key).group_name == "sources" and key != made
    ]
    assert all(made in sample.get(key).parent_keys for key in sources)


def test_importing_the_code_location_loads_nothing_heavy():
    script = (
        "import pipeline.definitions, sys; print([m for m in ('torch', 'scipy', 'altair',"
        " 'vl_convert', 'pandas') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture(scope="module")
def sample(tmp_path_factory) -> RunEnvironment:
    folder = tmp_path_factory.mktemp("sample")
    return RunEnvironment("sample", folder / "raw", folder / "output")


def test_states_materialise_one_by_one_with_an_ephemeral_instance(sample):
    definitions = build_definitions(load_catalog().profile("sample"), sample)
    with dg.DagsterInstance.ephemeral() as instance:

        def materialize(*names: str, partition: str | None = None) -> dg.ExecuteInProcessResult:
            resources = {"io_manager": definitions.resources["io_manager"]}
            return dg.materialize(
                list(definitions.assets),
                selection=[dg.AssetKey(n) for n in names],
                instance=instance,
                resources=resources,
                partition_key=partition,
            )

        assert materialize("synthetic_raw_files").success
        assert materialize("geography", "cps_asec_persons", "cps_asec_households").success
        for state in order_states(load_catalog().profile("sample").states):
            result = materialize(
                "microdata_persons",
                "microdata_households",
                "record_persons",
                "record_households",
                "record_tax_units",
                "record_donation",
                partition=state,
            )
            assert result.success
        judged = {e.check_name: e for e in result.get_asset_check_evaluations()}
        assert judged["near_donors"].severity == dg.AssetCheckSeverity.WARN
        assert judged["near_donors"].metadata["columns"].value == 24
        alone = materialize("record_persons", partition="RI")
        assert [e.asset_key.to_user_string() for e in alone.get_asset_materialization_events()] == [
            "record_persons"
        ]
        assert instance.get_materialized_partitions(dg.AssetKey("record_households")) == {
            "RI",
            "DE",
        }
        (event,) = result.asset_materializations_for_node("microdata")[:1]
    assert {"preview", "plot", "files", "sha256", "dagster/column_schema", "peak_memory_mb"} <= set(
        event.metadata
    )
    assert "SYNTHETIC" in event.metadata["label"].value
    lent = pl.read_parquet(sample.table_path("record_donation", "RI"))
    assert lent.height == 24 and set(lent["status"]) <= {"donated", "absent"}
    persons = pl.read_parquet(sample.table_path("record_persons", "RI"))
    assert {"child_support", "child_support_origin", "medicaid"} <= set(persons.columns)
    assert persons["state_fips"].unique().to_list() == ["44"]
    facts = read_facts(sample.table_path("microdata_persons", "RI"))
    assert facts["synthetic"] is True
    assert [Path(item["file"]).name for item in facts["provenance"]] == [
        "csv_hri.zip",
        "csv_pri.zip",
    ]
    assert not any(item["file"].startswith("/") for item in facts["provenance"])
    assert set(read_facts(sample.table_path("record_persons", "RI"))["inputs"]) == {
        "microdata_persons[RI]",
        "microdata_households[RI]",
        "cps_asec_persons",
        "cps_asec_households",
    }


def test_a_faulty_file_stops_its_asset_with_the_four_answers(tmp_path):
    environment = RunEnvironment("rhode_island", tmp_path / "raw", tmp_path / "output")
    definitions = build_definitions(load_catalog().profile("rhode_island"), environment)
    with dg.DagsterInstance.ephemeral() as instance:
        result = dg.materialize(
            list(definitions.assets),
            selection=["irs_historic_table_2"],
            instance=instance,
            resources={"io_manager": definitions.resources["io_manager"]},
            raise_on_error=False,
        )
    (failure,) = [event.step_failure_data for event in result.all_events if event.is_step_failure]
    assert "missing" in failure.user_failure_data.description
    assert {"found", "where", "expected", "remedy"} <= set(failure.user_failure_data.metadata)
    assert not environment.table_path("irs_historic_table_2").exists()


@pytest.mark.parametrize(
    ("profile", "changed", "stale"),
    [
        pytest.param(
            "rhode_island",
            "method.yaml",
            {"reconciled_targets", "candidate_units", "dense_weights", "bystander_report"},
            id="families that a selection balances",
        ),
        pytest.param(
            "rhode_island",
            "categories.yaml",
            {"national_targets", "reconciled_targets"},
            id="categories",
        ),
        pytest.param(
            "rhode_island", "alignment.yaml", {"record_persons", "record_alignment"}, id="alignment"
        ),
        pytest.param("sample", "donation.yaml", {"record_persons", "record_donation"}, id="donor"),
    ],
)
def test_what_a_changed_file_decides_is_stale(monkeypatch, tmp_path, profile, changed, stale):
    def versions() -> dict[str, str | None]:
        graph = definitions_of(profile, tmp_path).resolve_asset_graph()
        return {k.to_user_string(): graph.get(k).code_version for k in graph.get_all_asset_keys()}

    before = versions()
    read, catalog = specs.read_yaml, load_catalog()
    if changed == "categories.yaml":
        name = min(catalog.categories)
        other = dict(catalog.categories) | {"of_this_test": catalog.categories[name]}
        catalog = replace(catalog, categories=other)
        monkeypatch.setattr("pipeline.definitions.load_catalog", lambda: catalog)
    elif changed == "method.yaml":
        stated = catalog.profile("rhode_island")
        method = stated.method.model_copy(update={"balanced": ("of_this_test",)})
        own = stated.model_copy(update={"method": method})
        monkeypatch.setattr(type(catalog), "profile", lambda self, name: own)
    else:
        monkeypatch.setattr(
            specs, "read_yaml", lambda path, name: [read(path, name), name == changed]
        )
    after = versions()
    assert stale <= {name for name, version in after.items() if version != before[name]}


def test_the_versions_that_the_ui_compares_are_those_of_status(tmp_path):
    profile = load_catalog().profile("sample")
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    definitions = build_definitions(profile, environment)
    graph, makings = (
        definitions.resolve_asset_graph(),
        makings_of(profile, environment, definitions),
    )
    for name in makings.graph.nodes:
        assert graph.get(dg.AssetKey(name)).code_version == makings.version(name), name


def test_a_comment_in_a_specification_makes_nothing_stale(monkeypatch, tmp_path):
    def versions() -> dict[str, str | None]:
        graph = definitions_of("rhode_island", tmp_path).resolve_asset_graph()
        return {k.to_user_string(): graph.get(k).code_version for k in graph.get_all_asset_keys()}

    before, read = versions(), Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: read(path) + b"# a word" * (path.suffix == ".yaml")
    )
    assert versions() == before


def test_what_a_table_does_not_rest_on_leaves_its_bytes_alone(monkeypatch, sample):
    """Every run of national inputs writes these tables again; after an edit elsewhere, with the
    same bytes, or each state's manifest would list files that are no longer there."""
    profile, names = load_catalog().profile("sample"), ("geography", "cps_asec_households")

    def made() -> dict[str, bytes]:
        definitions = build_definitions(profile, sample)
        with dg.DagsterInstance.ephemeral() as instance:
            resources = {"io_manager": definitions.resources["io_manager"]}
            for keys in (("synthetic_raw_files",), names):
                result = dg.materialize(
                    list(definitions.assets),
                    selection=[dg.AssetKey(key) for key in keys],
                    instance=instance,
                    resources=resources,
                )
                assert result.success
        return {name: sample.table_path(name).read_bytes() for name in names}

    before, facts = made(), run_facts(profile)
    monkeypatch.setattr("pipeline.definitions.code_version", lambda *_: "0123456789ab")
    monkeypatch.setattr("pipeline.definitions.spec_digest", lambda *_: "other")
    assert made() == before
    assert run_facts(profile) != facts
    assert {"making", "seed"} <= read_facts(sample.table_path("geography")).keys()
