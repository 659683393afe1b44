"""What an operator sees beside the tables: owners, links, checks of each state, the gate."""

# No `from __future__ import annotations` here: Dagster compares the type of `context` itself.
import dagster as dg
import polars as pl
import pytest

from pipeline.assets.common import check_spec
from pipeline.assets.names import DENSE, GATE, NATIONAL_TARGETS
from pipeline.definitions import build_definitions
from pipeline.io_manager import ParquetIOManager
from pipeline.partitions import state_partitions
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.codebook import load_codebook
from pipeline.specs.profiles import Profile

PROFILES = sorted(load_catalog().profiles)


def definitions_of(profile: str, folder, **more) -> dg.Definitions:
    content = load_catalog().profile(profile).model_dump() | more
    stated = Profile.model_validate(content) if more else load_catalog().profile(profile)
    return build_definitions(stated, RunEnvironment(profile, folder / "raw", folder / "output"))


@pytest.mark.parametrize("profile", PROFILES)
def test_a_state_starts_only_when_the_nation_is_complete(profile, tmp_path):
    """Else a backfill of both makes several runs of one state: seen, five."""
    graph = definitions_of(profile, tmp_path).resolve_asset_graph()
    gate = dg.AssetKey(GATE)

    def above(key: dg.AssetKey) -> set[dg.AssetKey]:
        parents = graph.get(key).parent_keys
        return set(parents).union(*(above(parent) for parent in parents))

    # Raw files are observed, never made: they wait for nobody.
    made = {key for key in graph.get_all_asset_keys() if graph.get(key).is_materializable}
    of_states = {key for key in made if graph.get(key).is_partitioned}
    before_states = {key for key in above(gate) & made if not graph.get(key).is_partitioned}
    assert above(gate) & made == before_states
    for key in of_states:
        up = above(key) & made
        assert gate in up, key
        national = {each for each in up if not graph.get(each).is_partitioned}
        assert national <= before_states | {gate}, key


def test_no_asset_has_a_backfill_policy(tmp_path):
    """With one, Dagster 1.13 gives a run a range of partitions, and every step is refused."""
    graph = definitions_of("sample", tmp_path).resolve_asset_graph()
    assert {graph.get(key).backfill_policy for key in graph.get_all_asset_keys()} == {None}


def test_owners_and_tags_of_the_profile_are_at_every_asset(tmp_path):
    stated = {"owners": ["team:weights", "a@example.org"], "tags": {"unit": "micro"}}
    definitions = definitions_of("sample", tmp_path, **stated)
    graph = definitions.resolve_asset_graph()
    for key in graph.get_all_asset_keys():
        node = graph.get(key)
        assert node.owners == ["team:weights", "a@example.org"], key
        wanted = {"unit": "micro", "geocal/profile": "sample", "geocal/synthetic": "true"}
        assert wanted.items() <= node.tags.items(), key
        # What the asset itself says stays.
        assert node.kinds, key


def test_what_is_delivered_grows_old(tmp_path):
    graph = definitions_of("sample", tmp_path, schedule={"fresh_days": 3}).resolve_asset_graph()
    policies = {
        key.to_user_string(): graph.get(key).freshness_policy for key in graph.get_all_asset_keys()
    }
    old = {name for name, policy in policies.items() if policy is not None}
    assert old == {"weights", "national_fit", "national_report"}
    assert policies["weights"].fail_window.to_timedelta().days == 3


@pytest.mark.parametrize("profile", PROFILES)
def test_every_source_links_to_its_publisher(profile, tmp_path):
    graph = definitions_of(profile, tmp_path).resolve_asset_graph()
    read = [
        key
        for key in graph.get_all_asset_keys()
        if graph.get(key).group_name == "sources" and key.path != ["synthetic_raw_files"]
    ]
    for key in read:
        metadata = graph.get(key).metadata
        assert metadata["page"].value.startswith("http"), key
        assert metadata["publisher"], key
        assert any(name.startswith("file of ") for name in metadata), key


@pytest.mark.parametrize("profile", PROFILES)
def test_checks_of_a_state_are_kept_by_state(profile, tmp_path):
    for asset in definitions_of(profile, tmp_path).assets:
        if isinstance(asset, dg.AssetSpec):
            assert asset.key.path[0] == "raw"
            continue
        for spec in asset.check_specs:
            assert spec.partitions_def == asset.partitions_def, spec.key


def test_one_states_pass_does_not_hide_anothers_failure():
    states = state_partitions(["DE", "RI"])
    spec = check_spec("even", "weights", "It is even.", blocking=False, partitions=states)

    @dg.asset(partitions_def=states, check_specs=[spec])
    def weights(context: dg.AssetExecutionContext):
        passed = context.partition_key == "RI"
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=passed)])

    with dg.DagsterInstance.ephemeral() as instance:
        for state in ("DE", "RI"):
            dg.materialize([weights], partition_key=state, instance=instance, raise_on_error=False)
        history = instance.event_log_storage.get_asset_check_execution_history(spec.key, limit=9)
    told = {}
    for record in history:
        evaluation = record.event.dagster_event.asset_check_evaluation_data
        told[evaluation.partition] = evaluation.passed
    assert told == {"DE": False, "RI": True}


def test_a_blocking_check_of_a_state_still_stops_what_is_downstream():
    states = state_partitions(["DE"])
    spec = check_spec("even", "weights", "It is even.", blocking=True, partitions=states)

    @dg.asset(partitions_def=states, check_specs=[spec])
    def weights():
        return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=False)])

    @dg.asset(partitions_def=states, deps=[weights])
    def report() -> None: ...

    result = dg.materialize([weights, report], partition_key="DE", raise_on_error=False)
    made = {e.asset_key.to_user_string() for e in result.get_asset_materialization_events()}
    assert made == {"weights"} and not result.success


def test_columns_are_described_where_they_are_shown(tmp_path):
    environment = RunEnvironment("sample", tmp_path / "raw", tmp_path / "output")
    words = load_codebook().words

    @dg.asset
    def weights():
        return pl.DataFrame({"household_id": ["a"], "weight": [2.0], "another": [1]})

    result = dg.materialize(
        [weights], resources={"io_manager": ParquetIOManager(environment, {}, words=words)}
    )
    (event,) = result.get_asset_materialization_events()
    schema = event.materialization.metadata["dagster/column_schema"].value
    told = {column.name: column.description for column in schema.columns}
    assert told["another"] is None
    assert "household" in told["household_id"].lower()
    assert "Unit: " in told["weight"]


@pytest.mark.parametrize(
    ("change", "state_is_stale", "nation_is_stale"),
    [
        pytest.param({"title": "Another"}, False, False, id="title"),
        pytest.param({"owners": ["team:a"], "tags": {"a": "b"}}, False, False, id="owners"),
        pytest.param({"schedule": {"cron": "0 3 * * *"}}, False, False, id="schedule"),
        pytest.param({"states": ["RI"]}, False, False, id="states"),
        pytest.param(
            {"budget": {"pairs_per_area": 61, "minimum_pairs": 2}}, True, False, id="budget"
        ),
        pytest.param({"target_year": 2023}, True, True, id="target year"),
        pytest.param({"held_out_classes": ["census"]}, True, True, id="held out"),
    ],
)
def test_which_edits_of_a_profile_make_what_stale(
    change, state_is_stale, nation_is_stale, tmp_path
):
    def versions(**more) -> list[str | None]:
        assets = definitions_of("sample", tmp_path, **more).assets
        specs = {s.key.to_user_string(): s for asset in assets for s in asset.specs}
        return [specs[name].code_version for name in (DENSE, NATIONAL_TARGETS)]

    before, after = versions(), versions(**change)
    assert [a != b for a, b in zip(before, after, strict=True)] == [state_is_stale, nation_is_stale]
