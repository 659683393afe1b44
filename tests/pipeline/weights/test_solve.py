"""From tables to weights on a small invented state: dense calibration, exactly k, refinement."""

import hashlib

import numpy as np
import polars as pl
import pytest

from calibration_core.errors import BudgetError
from pipeline.reports.fit import fitted_targets, summary_by
from pipeline.vocabulary import POPULATION, is_variable
from pipeline.weights.candidates import candidate_pairs
from pipeline.weights.solve import refine
from pipeline.weights.table import pairs_table, stored_pairs, weights_table
from tests.pipeline.weights.toy_state import GEOGRAPHY, candidates, solve, tables, targets


def test_the_whole_path_fits_and_keeps_exactly_k(profile):
    records = tables()
    goal = targets(records)
    state, dense, drawn, refined = solve(records, goal, profile)
    final = refined.result
    assert dense.converged and final.converged
    frame = weights_table(state, drawn, final.weights)
    assert frame.height == 90
    assert (drawn.pairs_per_area == np.bincount(drawn.leaf)).all() and drawn.rounds > 0
    fits = {"fitted_dense": dense.fitted, "fitted": final.fitted}
    fit = fitted_targets(goal, state.problem, fits)
    summary = summary_by(fit, "fitted")
    assert summary["level"].to_list() == ["state", "county", "tract"]
    assert summary.filter(pl.col("level") == "tract")["share_inside_margin"][0] == 1.0
    assert summary.filter(pl.col("level") == "state")["worst_are"][0] < 0.005
    again = frame.join(records["households"].select("household_id", "persons"), on="household_id")
    people = again.group_by("tract").agg((pl.col("weight") * pl.col("persons")).sum())
    tracts = fit.filter((pl.col("level") == "tract") & is_variable(POPULATION)).sort("geoid")
    summed = people.sort("tract")["weight"].to_list()
    assert summed == pytest.approx(tracts["fitted"].to_list(), rel=1e-9)


def test_a_variable_nobody_supports_is_named_with_the_reason(profile):
    records = tables()
    goal = targets(records)
    state, dense, _, _ = solve(records, goal, profile)
    assert state.problem.unsupported == (("persons", "never"),)
    fit = fitted_targets(goal, state.problem, {"fitted": dense.fitted})
    never = fit.filter(pl.col("domain") == "never")
    assert never["fitted"].null_count() == never.height
    assert set(never["not_fitted_reason"]) == {"no record of this state contributes to it"}


def test_row_order_changes_nothing(profile):
    records = tables()
    goal = targets(records)
    shuffled = {
        name: frame.sample(fraction=1.0, shuffle=True, seed=5) for name, frame in records.items()
    }
    other = goal.sample(fraction=1.0, shuffle=True, seed=6)
    digests = []
    for given, aims in ((records, goal), (shuffled, other)):
        state, _, drawn, refined = solve(given, aims, profile)
        frame = weights_table(state, drawn, refined.result.weights)
        digests.append(hashlib.sha256(frame.write_csv().encode()).hexdigest())
    assert digests[0] == digests[1]


def test_pairs_stored_and_read_back_are_refitted_alike(profile):
    records = tables()
    state, dense, drawn, refined = solve(records, targets(records), profile)
    table = pairs_table(state, drawn, dense.weights, 90)
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=2)
    again = refine(state, dense.weights, stored_pairs(state, shuffled))
    assert (again.result.weights == refined.result.weights).all()
    assert again.starting.shape == (90,)


def test_threads_change_nothing(profile, monkeypatch):
    import torch

    records, before = tables(), torch.get_num_threads()
    goal = targets(records)
    results = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            place = "pipeline.weights.settings.workers"
            monkeypatch.setattr(place, lambda threads=threads: threads)
            _, _, drawn, refined = solve(records, goal, profile)
            results.append((drawn.leaf.tolist(), drawn.record.tolist(), refined.result.weights))
    finally:
        torch.set_num_threads(before)
    assert results[0][:2] == results[1][:2]
    assert np.abs(results[0][2] / results[1][2] - 1).max() < 1e-9


def test_an_area_without_people_gets_no_record_and_counts_for_no_pair(profile):
    records, empty = tables(), GEOGRAPHY["tract"][5]
    value = pl.when(pl.col("geoid") == empty).then(0.0).otherwise("value")
    goal = targets(records).with_columns(value=value)
    state, _, drawn, _ = solve(records, goal, profile)
    assert drawn.pairs_per_area[state.leaves.index(empty)] == 0
    assert drawn.pairs_per_area.sum() == 90
    assert any("have no population" in note for note in candidates(records, goal).notes)
    assert candidate_pairs(state.units, state.areas, state.pools) == state.units.height * 5


@pytest.mark.parametrize(("pairs", "words"), [(5, "k is 5 for 6 areas"), (10_000, "pairs exist")])
def test_impossible_budgets_are_refused_and_say_where_the_number_is_set(profile, pairs, words):
    records = tables()
    with pytest.raises(BudgetError, match=words) as refused:
        solve(records, targets(records), profile, pairs=pairs)
    assert "budget.pairs_per_area in data_specs/profiles/sample.yaml" in refused.value.remedy
