"""Named checks as asset checks: a planted error stops what is made from the file, by name."""

from __future__ import annotations

import dagster as dg
import pytest

from pipeline.assets.source_checks import shown
from pipeline.checks import run
from pipeline.checks.results import CheckResult, Measured
from pipeline.definitions import build_definitions
from pipeline.runs import run_profile
from pipeline.sample.breaks import break_sample
from pipeline.sample.generate import generate_sample
from pipeline.settings import RunEnvironment
from pipeline.specs.checks import load_checks
from tests.pipeline.faults import files_profile, small_settings


@pytest.fixture(scope="module")
def environment(tmp_path_factory) -> RunEnvironment:
    folder = tmp_path_factory.mktemp("lies")
    environment = RunEnvironment(files_profile().id, folder / "raw", folder / "output")
    generate_sample(environment.data, small_settings())
    break_sample(environment.data, "dollars_for_thousands")
    return environment


def test_every_check_is_shown_by_some_asset(environment):
    definitions = build_definitions(files_profile(), environment)
    graph = definitions.resolve_asset_graph()
    names = {key.name for key in graph.asset_check_keys}
    # The list of tracts is compared by `geocal check` and by the run itself.
    assert set(load_checks()) - names == {run.SAME_AREAS}
    wages = dg.AssetCheckKey(dg.AssetKey("irs_county"), "ratios_in_band")
    assert wages in graph.asset_check_keys


def test_a_planted_error_stops_the_run_and_is_named(environment):
    outcome = run_profile(build_definitions(files_profile(), environment), environment, ["RI"])
    assert not outcome.success
    said = " ".join(text for job in outcome.jobs for text in job.failures.values())
    assert "ratios_in_band" in said and "irs_county" in said
    assert not environment.table_path("weights", "RI").exists()


def test_a_result_has_its_number_its_threshold_and_where():
    worst = Measured(7.0, 1.0, "44", "A00200", "state 44, A00200 / N00200", "7e+07")
    results = [
        CheckResult("ratios_in_band", "irs_county", "2021", "t", "bands", True, 5, None),
        CheckResult("ratios_in_band", "irs_county", "2022", "t", "bands", True, 5, worst, (worst,)),
    ]
    (check,) = shown(results, ["ratios_in_band"])
    assert not check.passed and check.severity == dg.AssetCheckSeverity.ERROR
    values = {name: value.value for name, value in check.metadata.items()}
    assert (values["number"], values["threshold"], values["judged"]) == (7.0, 1.0, 10)
    assert "state 44" in values["where"] and "1 of 5 fail" in values["2022"]
