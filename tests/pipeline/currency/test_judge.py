"""What makes a table stale, and what does not; and what a run therefore makes."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.code_used import CodeUsed, code_used
from pipeline.currency import making as making_module
from pipeline.currency.judge import Judge
from pipeline.currency.making import Makings, makings_of
from pipeline.currency.plan import Planner
from pipeline.currency.remembered import judging
from pipeline.definitions import build_definitions
from pipeline.io_manager import decode, encode, read_facts, write_atomic
from pipeline.jobs import NATIONAL_INPUTS, NATIONAL_OUTPUTS, STATES
from pipeline.settings import RunEnvironment
from pipeline.specs.catalog import load_catalog
from pipeline.stored import StoredTables
from tests.pipeline.currency.stand_in import make, make_all
from tests.pipeline.faults import SAMPLE, files_profile, small_sample

JOBS = ((NATIONAL_INPUTS, None), (STATES, "RI"), (STATES, "DE"), (NATIONAL_OUTPUTS, None))


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> RunEnvironment:
    """A small sample, and a stand-in of every table."""
    folder = tmp_path_factory.mktemp("made")
    small_sample(folder / "raw")
    environment = RunEnvironment("sample_files", folder / "raw", folder / "output")
    make_all(makings(environment))
    return environment


def makings(environment: RunEnvironment) -> Makings:
    profile = files_profile()
    return makings_of(profile, environment, build_definitions(profile, environment))


@pytest.fixture
def environment(made, tmp_path) -> RunEnvironment:
    """A copy of it, to be changed."""
    shutil.copytree(made.data, tmp_path / "raw")
    shutil.copytree(made.output, tmp_path / "output")
    return RunEnvironment("sample_files", tmp_path / "raw", tmp_path / "output")


def planner(environment: RunEnvironment, its: Makings | None = None, **more) -> Planner:
    tables = StoredTables(environment.root, whole=True)
    return Planner(Judge(its or makings(environment), tables), more.get("config"), force=False)


def waves(plan: Planner) -> dict[tuple[str, str | None], tuple[str, ...]]:
    """The first wave of every job that has one."""
    found = {(job, state): plan.wave(job, state) for job, state in JOBS}
    return {key: wave.assets for key, wave in found.items() if wave is not None}


def causes(plan: Planner, job: str, state: str | None, asset: str) -> list[tuple[str, str]]:
    return [(cause.kind, cause.what) for cause in plan.stale(job, state)[asset].causes]


def test_what_was_just_made_is_current(environment):
    assert waves(planner(environment)) == {}


def test_nothing_stored_is_one_wave_of_everything(environment):
    shutil.rmtree(environment.root)
    plan = planner(environment)
    wave = plan.wave(STATES, "RI")
    assert len(wave.assets) == wave.total == len(plan.nodes(STATES)) and not wave.behind
    assert "has not been made" in wave.words


def test_a_raw_file_of_one_state_makes_that_state_stale_and_is_named(environment):
    path = environment.data / SAMPLE.profile
    path.write_bytes(path.read_bytes() + b" ")
    plan = planner(environment)
    assert waves(plan) == {(STATES, "RI"): ("acs5_profile_tracts",)}
    assert causes(plan, STATES, "RI", "acs5_profile_tracts") == [("raw", SAMPLE.profile)]
    assert "state_targets" in plan.wave(STATES, "RI").behind
    assert SAMPLE.profile in plan.wave(STATES, "RI").words


def test_a_table_made_again_with_the_same_content_makes_nothing_behind_it_stale(environment):
    path = environment.data / SAMPLE.profile
    path.write_bytes(path.read_bytes() + b" ")
    its = makings(environment)
    make(its, its.graph.nodes["acs5_profile_tracts"], "RI")
    # The manifest lists the files of tables, and this one is another file.
    assert waves(planner(environment)) == {(STATES, "RI"): ("run_manifest",)}


def test_other_content_goes_on_table_by_table_as_far_as_it_changes(environment):
    its = makings(environment)
    node = its.graph.nodes["acs5_profile_tracts"]
    make(its, node, "RI", value=1)
    plan = planner(environment, its)
    assert waves(plan)[STATES, "RI"] == ("state_targets",)
    assert causes(plan, STATES, "RI", "state_targets") == [("input", "acs5_profile_tracts[RI]")]
    make(its, its.graph.nodes["state_targets"], "RI")
    assert waves(planner(environment, its)) == {(STATES, "RI"): ("run_manifest",)}


def test_weights_of_another_input_take_all_that_follows_with_them(environment):
    its = makings(environment)
    make(its, its.graph.nodes["candidate_units"], "RI", value=1)
    wave = planner(environment, its).wave(STATES, "RI")
    assert {"dense_weights", "selected_pairs", "weights", "fit_report"} <= set(wave.assets)
    assert {"selected_persons", "run_manifest"} <= set(wave.assets)
    assert "reconciled_targets" not in wave.assets


def test_a_comment_a_title_and_another_profile_change_nothing(environment):
    profile = files_profile().model_copy(update={"title": "Another title"})
    catalog = load_catalog()
    other = catalog.sources["acs5_tables_download"].model_copy(update={"title": "Other"})
    changed = replace(catalog, sources={**catalog.sources, "acs5_tables_download": other})
    assets = list(build_definitions(profile, environment).assets)
    its = Makings(changed, profile, environment, assets)
    assert "acs5_tables_download" not in profile.sources
    assert waves(planner(environment, its)) == {}


def test_a_target_file_makes_targets_stale_and_no_source(environment):
    catalog, profile = load_catalog(), files_profile()
    spec = catalog.targets["county_irs"]
    item = spec.items[0].model_copy(update={"domain": "another"})
    changed = spec.model_copy(update={"items": (item, *spec.items[1:])})
    assets = list(build_definitions(profile, environment).assets)
    targets = {**catalog.targets, "county_irs": changed}
    its = Makings(replace(catalog, targets=targets), profile, environment, assets)
    found = waves(planner(environment, its))
    assert found[NATIONAL_INPUTS, None] == ("national_targets",)
    assert "state_targets" in found[STATES, "DE"]
    assert not {"acs5_profile_tracts", "microdata_persons", "weights"} & set(found[STATES, "DE"])
    stated = causes(planner(environment, its), STATES, "DE", "state_targets")
    assert stated == [("spec", "targets/county_irs.yaml")]


def test_the_method_makes_weights_stale_and_no_source(environment):
    profile = files_profile()
    method = profile.method.model_copy(update={"growth_by": ()})
    its = Makings(
        load_catalog(),
        profile.model_copy(update={"method": method}),
        environment,
        list(build_definitions(profile, environment).assets),
    )
    found = waves(planner(environment, its))[STATES, "RI"]
    assert "dense_weights" in found and "acs5_profile_tracts" not in found
    stated = causes(planner(environment, its), STATES, "RI", "dense_weights")
    assert stated == [("spec", "profile: method")]


def test_changed_code_is_named_and_makes_stale_what_uses_it(environment, monkeypatch):
    real = making_module.code_used

    def changed(roots) -> CodeUsed:
        used = real(roots)
        place = "calibration_core/tree/solve/newton.py"
        return replace(
            used, parts={**used.parts, **({place: "0" * 12} if place in used.parts else {})}
        )

    monkeypatch.setattr(making_module, "code_used", changed)
    plan = planner(environment)
    found = waves(plan)[STATES, "RI"]
    assert {"dense_weights", "weights"} <= set(found) and "state_targets" not in found
    stated = causes(plan, STATES, "RI", "dense_weights")
    assert stated == [("code", "calibration_core/tree/solve/newton.py")]


def test_another_number_of_pairs_is_another_selection(environment):
    plan = planner(environment, config={"selected_pairs": {"pairs": 77}})
    wave = plan.wave(STATES, "RI")
    assert wave.assets[0] == "selected_pairs" and "weights" in wave.assets
    assert "dense_weights" not in wave.assets
    its = makings(environment)
    make(its, its.graph.nodes["selected_pairs"], "RI", config={"pairs": 77})
    again = planner(environment, config={"selected_pairs": {"pairs": 77}})
    assert "selected_pairs" not in again.stale(STATES, "RI")
    assert causes(planner(environment), STATES, "RI", "selected_pairs") == [("config", "pairs")]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def _without_making(path: Path) -> None:
    facts = read_facts(path)
    del facts["making"]
    write_atomic(path, encode(decode(path, path.read_bytes()), facts))


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        pytest.param(Path.unlink, "missing", id="gone"),
        pytest.param(_cut, "unreadable", id="cut short"),
        pytest.param(_without_making, "unknown", id="of an earlier geocal"),
    ],
)
def test_a_table_that_cannot_be_judged_is_made_again(environment, damage, kind):
    damage(environment.table_path("concept_gaps", "RI"))
    plan = planner(environment)
    assert [each[0] for each in causes(plan, STATES, "RI", "concept_gaps")] == [kind]
    assert waves(plan)[STATES, "RI"] == ("concept_gaps",)


def test_one_table_of_a_step_takes_the_others_of_the_step_with_it(environment):
    environment.table_path("record_tax_units", "RI").unlink()
    wave = planner(environment).wave(STATES, "RI")
    tables = {"record_persons", "record_households", "record_tax_units", "record_donation"}
    assert set(wave.assets) == tables
    assert wave.steps == 1


def test_what_failed_last_is_made_again(environment):
    tables = StoredTables(environment.root)
    judge = Judge(
        makings(environment), tables, lambda state: {"weights": "1234567890"} if state else {}
    )
    wave = Planner(judge, force=False).wave(STATES, "DE")
    assert wave.assets == ("weights",) and "12345678" in wave.words


def test_force_is_everything_once(environment):
    plan = Planner(Judge(makings(environment), StoredTables(environment.root)), force=True)
    assert plan.needs(STATES, "RI")
    assert len(plan.wave(STATES, "RI").assets) == len(plan.nodes(STATES))
    assert plan.wave(STATES, "RI") is None and not plan.needs(STATES, "RI")


def test_a_state_of_another_making_makes_the_nations_tables_stale(environment):
    its = makings(environment)
    make(its, its.graph.nodes["dense_weights"], "DE", value=1)
    plan = planner(environment, its)
    stated = causes(plan, NATIONAL_OUTPUTS, None, "national_fit")
    assert stated == [("input", "fit_report[DE]")]


def test_digests_are_remembered_and_not_taken_again(environment, monkeypatch):
    monkeypatch.setattr("pipeline.stored.SETTLED", 0)
    monkeypatch.setattr("pipeline.currency.raw.SETTLED", 0)
    its = makings(environment)
    with judging(its) as judge:
        assert waves(Planner(judge, force=False)) == {}

    def refuse(*_):
        raise AssertionError("hashed again")

    monkeypatch.setattr("pipeline.stored.stored_of", refuse)
    monkeypatch.setattr("pipeline.currency.raw.hashlib.file_digest", refuse)
    with judging(its) as judge:
        assert waves(Planner(judge, force=False)) == {}
    monkeypatch.undo()
    path = environment.data / SAMPLE.profile
    path.write_bytes(path.read_bytes() + b" ")
    with judging(its) as judge:
        assert waves(Planner(judge, force=False)) == {(STATES, "RI"): ("acs5_profile_tracts",)}


def test_a_torn_memory_is_no_memory(environment):
    (environment.root / "currency" / "digests.json").write_text('{"raw": {')
    with judging(makings(environment)) as judge:
        assert waves(Planner(judge, force=False)) == {}


@pytest.mark.parametrize("rests", ["weights", "source", "survey", "geography", "donor"])
def test_tables_that_rest_on_few_specifications_use_no_code_that_reads_others(environment, rests):
    # `specs.py` lists what these rest on. Where this fails, their code has come to read more.
    others = {"catalog", "variables", "factors", "bystanders"} - (
        {"variables"} if rests == "weights" else set()
    )
    graph = makings(environment).graph
    nodes = [node for node in graph.nodes.values() if node.rests == rests]
    assert nodes
    for node in nodes:
        parts = code_used(node.functions).parts
        used = {Path(part).stem for part in parts if part.startswith("pipeline/specs/")}
        assert not used & others, node.name


def test_a_selection_rests_on_its_cells_and_on_no_target_file(environment):
    its = makings(environment)
    before = its.now("selected_pairs", "RI").specs
    assert "cross_categories/default.yaml" in before
    assert not [name for name in before if name.startswith(("target", "variable", "factor"))]


def test_every_asset_has_its_making_and_an_unknown_one_rests_on_everything(environment):
    its = makings(environment)
    assert its.graph.nodes["concept_gaps"].rests == "all"
    for node in its.graph.nodes.values():
        making = its.now(node.name, "RI" if node.by_state else None)
        assert making.code and (making.specs or node.rests == "manifest"), node.name
