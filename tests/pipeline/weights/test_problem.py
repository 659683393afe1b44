"""A state's targets as arrays: places, scales, seeds."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pipeline.errors import StoreError
from pipeline.vocabulary import design_columns
from pipeline.weights.problem import (
    attributes_of,
    build_problem,
    columns_without_target,
    design_matrix,
    state_seed,
)
from tests.pipeline.weights.toy_state import GEOGRAPHY, candidates, solvable, tables, targets


def test_a_carried_margin_sets_the_scale_of_a_tract_without_the_error_of_carrying(profile):
    records = tables()
    goal = targets(records)
    tract = pl.col("level") == "tract"
    wide = {
        name: pl.when(tract).then(4 * pl.col(name)).otherwise(name)
        for name in ("standard_error", "published_standard_error")
    }
    unknown = pl.lit(None, pl.Float64)
    frames = (
        goal,
        goal.with_columns(**wide),
        goal.with_columns(**wide, margin_standard_error=unknown),
    )
    plain, carried, unstated = (
        build_problem(frame, candidates(records, frame).units, GEOGRAPHY, profile).targets.scales
        for frame in frames
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, carried, strict=True))
    assert (unstated[-1] > 1.5 * plain[-1]).all()


def test_scales_by_hand(profile):
    """Tract: the margin's error, at least one person; county: a tenth of the reconciled error, at
    least 0.2 % of the value; state: at least 0.1 %."""
    records = tables()
    goal = targets(records)
    tract, county = (pl.col("level") == level for level in ("tract", "county"))
    error = pl.when(tract).then(0.2).when(county).then(30.0).otherwise(1e-6)
    goal = goal.with_columns(standard_error=error, margin_standard_error=pl.lit(None, pl.Float64))
    problem = build_problem(goal, candidates(records, goal).units, GEOGRAPHY, profile)
    values, scales = problem.targets.values, problem.targets.scales
    np.testing.assert_allclose(scales[0], np.maximum(0.001 * values[0], 1.0))
    np.testing.assert_allclose(scales[1], np.maximum(3.0, 0.002 * values[1]))
    assert (scales[2] == 1.0).all()


def test_a_concept_error_is_added_and_never_tightened(profile):
    records = tables()
    goal = targets(records)
    wide = goal.with_columns(concept_error=0.1 * pl.col("value"))
    frames = (goal, wide)
    plain, modelled = (
        build_problem(frame, candidates(records, frame).units, GEOGRAPHY, profile).targets
        for frame in frames
    )
    for before, after, values in zip(plain.scales, modelled.scales, plain.values, strict=True):
        np.testing.assert_allclose(after, np.hypot(before, 0.1 * np.abs(values)))


def test_evidence_is_fitted_at_a_share_of_its_own_standard_error(profile):
    records = tables()
    goal = targets(records)
    soft = (pl.col("level") == "state") & (pl.col("domain") == "age_65_plus")
    role = pl.when(soft).then(pl.lit("evidence")).otherwise("role")
    told = build_problem(goal, candidates(records, goal).units, GEOGRAPHY, profile)
    held = goal.with_columns(role=role)
    problem = build_problem(held, candidates(records, held).units, GEOGRAPHY, profile)
    column = problem.grid.keys[0].index(("persons", "age_65_plus"))
    assert problem.grid.rows[0][0, column] >= 0
    error = held.filter(soft)["standard_error"][0]
    share = profile.method.survey_evidence.scale_share
    assert problem.targets.scales[0][0, column] == pytest.approx(share * error)
    assert told.targets.scales[0][0, column] == pytest.approx(0.1 * error)


def test_a_place_without_a_target_has_no_scale(profile):
    records = tables()
    gone = (pl.col("geoid") == GEOGRAPHY["tract"][2]) & (pl.col("domain") == "age_65_plus")
    goal = targets(records).with_columns(
        role=pl.when(gone).then(pl.lit("validation")).otherwise("role")
    )
    problem = build_problem(goal, candidates(records, goal).units, GEOGRAPHY, profile)
    column = problem.grid.keys[2].index(("persons", "age_65_plus"))
    assert np.isinf(problem.targets.scales[2][2, column])
    assert problem.grid.rows[2][2, column] == -1
    assert np.isinf(problem.targets.scales[2]).sum() == 1


def test_designs_are_the_columns_of_the_units(profile):
    records = tables()
    units = candidates(records, targets(records)).units
    keys = [("persons", "total"), ("households", "total")]
    design = design_matrix(units, keys)
    assert design[:, 0].tolist() == units["persons|total"].to_list()
    assert design[:, 1].tolist() == units["households|total"].to_list()
    assert design_matrix(units, []).shape == (units.height, 0)
    assert attributes_of(units).shape == (units.height, 4)


def test_columns_without_a_target_are_those_no_target_speaks_of_whatever_its_role(profile):
    records = tables()
    goal = targets(records)
    state = solvable(records, goal, profile)
    assert columns_without_target(state).tolist() == []
    kept = goal.filter(pl.col("domain") != "age_65_plus")
    set_aside = goal.with_columns(role=pl.lit("validation"))
    place = state.units.columns.index("persons|age_65_plus") - state.units.columns.index(
        design_columns(state.units.columns)[0]
    )
    assert columns_without_target(replace(state, targets=kept)).tolist() == [place]
    assert columns_without_target(replace(state, targets=set_aside)).tolist() == []
    # The survey's own estimate of the state says nothing of a tract: of a family that selection
    # balances the column is kept as if nothing spoke of it, of any other it is not.
    is_soft = pl.col("domain") == "age_65_plus"
    for family, places in (("race_by_age", [place]), ("work", [])):
        soft = goal.with_columns(
            role=pl.when(is_soft).then(pl.lit("evidence")).otherwise("role"),
            family=pl.when(is_soft).then(pl.lit(family)).otherwise("family"),
        )
        assert columns_without_target(replace(state, targets=soft)).tolist() == places


def test_seeds_depend_on_run_state_and_purpose_only():
    assert state_seed(1, "44", "selection") == state_seed(1, "44", "selection")
    asked = [(s, f, p) for s in (1, 2) for f in ("44", "10") for p in ("selection", "other")]
    assert len({state_seed(*each) for each in asked}) == 8


def test_a_step_without_the_table_it_needs_says_which(profile):
    records = tables()
    state = solvable(records, targets(records), profile)
    assert state.table("areas") is state.areas and state.table("cells") is state.cells
    with pytest.raises(StoreError, match="made without its table of cells"):
        replace(state, cells=None).table("cells")
