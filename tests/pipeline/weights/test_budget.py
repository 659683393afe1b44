"""The number of pairs is refused before anything long is computed, and only when it cannot be."""

from __future__ import annotations

import polars as pl
import pytest

from calibration_core.errors import BudgetError
from pipeline.sample.generate import generate_sample
from pipeline.sample.settings import small_settings
from pipeline.specs.catalog import load_catalog
from pipeline.weights import budget
from pipeline.weights.budget import requested_pairs, require_pairs, require_pairs_of_peopled_areas
from pipeline.weights.candidates import candidate_pairs
from pipeline.weights.solve import dense_calibration, select
from tests.pipeline.weights.toy_state import solvable, tables, targets


@pytest.fixture(scope="module")
def state(profile):
    """Six tracts, in one of which nobody lives."""
    goal = targets(tables())
    empty = goal["geoid"] == "44003000200"
    goal = goal.with_columns(value=pl.when(empty).then(0.0).otherwise("value"))
    return solvable(tables(), goal, profile)


@pytest.fixture(scope="module")
def most(state) -> int:
    return candidate_pairs(state.units, state.areas, state.pools)


@pytest.mark.parametrize("pairs", [4, 0, 10**9])
def test_too_few_or_too_many_are_refused_with_the_bound_and_where_it_is_set(state, most, pairs):
    with pytest.raises(BudgetError) as refused:
        require_pairs(state, pairs)
    bound = f"{most:,} or fewer" if pairs > most else "5 or more"
    assert bound in refused.value.expected
    assert f"{pairs:,} pairs are" in refused.value.found and "RI" in refused.value.where
    assert "--pairs" in refused.value.remedy and "sample.yaml" in refused.value.remedy


@pytest.mark.parametrize("pairs", [5, 6, 90, "most"])
def test_what_can_be_kept_is_let_through(state, most, pairs):
    require_pairs(state, most if pairs == "most" else pairs)


def test_the_least_that_is_let_through_is_the_least_that_can_be_selected(state):
    """The bound is the selection's own: an area in which nobody lives needs no pair."""
    dense = dense_calibration(state).weights
    assert select(state, dense, 5).leaf.size == 5
    with pytest.raises(BudgetError):
        select(state, dense, 4)


def test_the_profiles_own_number_is_taken_where_none_is_asked_for(state):
    require_pairs(state, None)
    method = state.profile.budget.model_copy(update={"pairs_per_area": 10**8})
    wasteful = state.profile.model_copy(update={"budget": method})
    with pytest.raises(BudgetError, match="600,000,000 pairs are more"):
        require_pairs(_of(state, wasteful), None)


def _of(state, profile):
    from dataclasses import replace

    return replace(state, profile=profile)


@pytest.mark.parametrize(
    ("config", "found"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"ops": {"selected_pairs": {"config": {"pairs": 7}}}}, 7, id="asked for"),
        pytest.param({"ops": {"weights": {"config": {"pairs": 7}}}}, None, id="another step"),
        pytest.param({"ops": {"selected_pairs": {"config": {}}}}, None, id="no number"),
        pytest.param({"ops": {"selected_pairs": {}}}, None, id="no configuration"),
    ],
)
def test_the_number_is_read_from_the_run_configuration_of_the_selection(config, found):
    assert requested_pairs(config, "selected_pairs") == found


@pytest.fixture(scope="module")
def published(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    generate_sample(folder, small_settings())
    return folder


@pytest.mark.parametrize(("pairs", "refused"), [(1, True), (12, True), (13, False), (500, False)])
def test_publications_alone_say_how_many_tracts_need_a_pair(published, profile, pairs, refused):
    ask = (pairs, profile, load_catalog(), "RI", published)
    if not refused:
        return require_pairs_of_peopled_areas(*ask)
    with pytest.raises(BudgetError, match="fewer than the 13 tracts of RI in which people live"):
        require_pairs_of_peopled_areas(*ask)


def test_a_file_that_is_missing_refuses_nothing_here(tmp_path, profile):
    require_pairs_of_peopled_areas(1, profile, load_catalog(), "RI", tmp_path)


def test_the_population_is_read_only_where_the_list_leaves_it_open(published, profile, monkeypatch):
    read = []
    whole = budget.read_source

    def counted(spec, *rest):
        read.append(spec.id)
        return whole(spec, *rest)

    monkeypatch.setattr(budget, "read_source", counted)
    require_pairs_of_peopled_areas(10_000, profile, load_catalog(), "RI", published)
    assert read == ["tract_puma"]
