"""Exactly k across cells: allocation, draws, starting weights, and the calibration after them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.paper_population import paper_population
from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import BudgetError, SettingsError
from calibration_core.flat.cells import categorical_rows, nearest_filled, pool_thin, record_cells
from calibration_core.flat.design_matrix import DesignMatrix
from calibration_core.flat.select.draw import draw_records
from calibration_core.sampling.cube import cube
from calibration_core.sampling.probabilities import inclusion_probabilities

ROUNDING = 1e-6


def random_problem(seed: int, records: int, cells: int, *, by_pattern: bool) -> CalibrationProblem:
    """Cells of uneven size, weights of uneven size, some zero, one continuous row."""
    rng = np.random.default_rng(seed)
    code = rng.choice(cells, size=records, p=rng.dirichlet(np.full(cells, 0.5)))
    rows = (code[None, :] == np.arange(cells)[:, None]).astype(float)
    rows = np.vstack([rows, rng.lognormal(8, 1, records)])
    weights = rng.gamma(0.4, 5.0, records) * (rng.random(records) < 0.8)
    weights[0] = 1.0
    targets = rows @ weights
    return CalibrationProblem(rows, targets, weights, cells=None if by_pattern else code)


@settings(max_examples=120, deadline=None)
@given(
    st.integers(0, 2**31),
    st.integers(3, 60),
    st.integers(1, 12),
    st.booleans(),
    st.sampled_from(["systematic", "balanced"]),
    st.floats(0, 3),
)
def test_exactly_k_within_rounding_whatever_the_cells(
    seed, records, cells, by_pattern, design, thin
):
    problem = random_problem(seed, records, cells, by_pattern=by_pattern)
    usable = int((problem.start > 0).sum())
    k = int(np.random.default_rng(seed).integers(1, usable + 1))
    drawn = draw_records(problem, problem.start, k, seed, design=design, thin=thin)
    assert drawn.selected.size == np.unique(drawn.selected).size == k
    assert (problem.start[drawn.selected] > 0).all(), "a record of weight zero was drawn"
    assert (np.flatnonzero(drawn.starting) == drawn.selected).all()
    assert drawn.starting.sum() == pytest.approx(problem.start.sum())
    for label in (drawn.cell, drawn.pool):
        share, count = (
            np.bincount(label, drawn.probability),
            np.bincount(label[drawn.selected], minlength=label.max() + 1),
        )
        assert (count >= np.floor(share + ROUNDING)).all()
        assert (count <= np.ceil(share - ROUNDING)).all()
    carried = np.bincount(drawn.pool, drawn.starting, drawn.pools)
    held = np.bincount(drawn.pool[drawn.selected], minlength=drawn.pools) > 0
    if held.all():
        assert np.allclose(carried, np.bincount(drawn.pool, problem.start, drawn.pools)), (
            "a pool does not keep its mass"
        )


@pytest.mark.parametrize("design", ["systematic", "balanced"])
def test_inclusion_probabilities_are_exactly_those_of_the_design(design):
    """Over many seeds each record is drawn as often as its probability says, certainties always."""
    rng = np.random.default_rng(5)
    code = np.repeat(np.arange(6), [5, 4, 3, 3, 2, 1])
    rows = np.vstack([(code == c).astype(float) for c in range(6)] + [rng.lognormal(0, 1, 18)])
    weights = rng.gamma(1.0, 1.0, 18)
    weights[0] = 30.0
    problem = CalibrationProblem(rows, rows @ weights, weights)
    rounds = 1200
    drawn = [draw_records(problem, weights, 7, seed, design=design) for seed in range(rounds)]
    probability = drawn[0].probability
    assert probability.sum() == pytest.approx(7)
    assert probability[0] == 1.0
    assert (probability[1:] < 1.0).any()
    often = np.bincount(np.concatenate([d.selected for d in drawn]), minlength=18) / rounds
    spread = np.sqrt(probability * (1 - probability) / rounds)
    assert (np.abs(often - probability) <= 4.5 * spread + 1e-12).all()
    # Horvitz-Thompson totals are unbiased, the continuous one too.
    estimate = np.mean([rows[-1, d.selected] @ (weights / probability)[d.selected] for d in drawn])
    assert estimate == pytest.approx(rows[-1] @ weights, rel=0.05)


def test_the_cube_holds_balancing_totals_far_better_than_chance():
    rng = np.random.default_rng(3)
    rows, cell = rng.lognormal(0, 1, (800, 6)), rng.integers(0, 5, 800)
    probability = np.full(800, 100 / 800)
    goal = rows.sum(axis=0)
    balanced, random = [], []
    for seed in range(6):
        drawn = cube(probability, rows / probability[:, None], [cell], np.random.default_rng(seed))
        assert drawn.sum() == 100
        balanced.append(np.abs(rows[drawn].sum(axis=0) * 8 / goal - 1).mean())
        chosen = np.random.default_rng(seed).choice(800, 100, replace=False)
        random.append(np.abs(rows[chosen].sum(axis=0) * 8 / goal - 1).mean())
    assert np.mean(balanced) < 0.6 * np.mean(random)


def test_thin_cells_are_pooled_with_the_cell_that_agrees_in_most_margins():
    """States A and B by three ages; A's third age is thin and joins A's second, not B's first."""
    state, age = np.repeat([0, 1], 9), np.tile(np.repeat([0, 1, 2], 3), 2)
    rows = [*(state == s for s in (0, 1)), *(age == a for a in (0, 1, 2))]
    names = ["state: A", "state: B", "age: 0", "age: 1", "age: 2"]
    problem = CalibrationProblem(
        np.array(rows, dtype=float), np.full(5, 9.0), np.ones(18), target_names=names
    )
    cells = record_cells(problem)
    assert cells.count == 6
    assert cells.affinity.tolist() == [1, 1, 0, 1, 1]
    pool = pool_thin(cells, np.array([2.0, 2.0, 0.5, 2.0, 2.0, 2.0]), 1.0)
    assert pool.tolist() == [0, 1, 1, 2, 3, 4]
    assert pool_thin(cells, np.full(6, 0.1), 1.0).tolist() == [0] * 6
    assert pool_thin(cells, np.full(6, 0.1), 0.0).tolist() == [0, 1, 2, 3, 4, 5]
    assert nearest_filled(
        np.array([True, False, False, True, False, False]), cells.affinity
    ).tolist() == [0, 0, 0, 3, 3, 3]


def test_patterns_and_categorical_rows_do_not_depend_on_how_the_matrix_is_stored():
    problem = paper_population("complex", records=300)
    dense = DesignMatrix(problem.matrix.target_major().toarray())
    assert (categorical_rows(dense) == categorical_rows(problem.matrix)).all()
    assert categorical_rows(dense).sum() == (problem.matrix.support[:69] > 0).sum() > 60
    assert (record_cells(problem).code == record_cells(problem.change(matrix=dense)).code).all()


def test_mass_of_cells_without_record_is_counted_and_carried():
    """Four cells, two records: without pooling two cells stay empty; their mass is in the file all
    the same.
    """
    rows = np.kron(np.eye(4), np.ones(5))
    problem = CalibrationProblem(rows, rows @ np.ones(20), np.ones(20))
    result = calibrate(problem, "cross_category", records=2, thin=0.0, refit="none")
    assert result.details["pools_without_record"] == result.details["cells_without_record"] == 2
    assert result.details["pool_mass_moved"] == result.details["mass_moved"] == pytest.approx(0.5)
    assert result.weights.sum() == pytest.approx(20)
    (warning,) = result.warned("mass_moved")
    assert warning.size == pytest.approx(0.5)
    assert "2 of 4 cells" in warning.message
    assert not calibrate(problem, "cross_category", records=8, refit="none").warned("mass_moved")


def test_the_same_seed_is_the_same_file_and_another_seed_another():
    problem = paper_population("simple", records=600)
    first, again, other = (
        calibrate(problem, "cross_category", records=60, seed=seed).weights for seed in (3, 3, 4)
    )
    assert first.tobytes() == again.tobytes()
    assert (first > 0).tolist() != (other > 0).tolist()


def test_global_random_state_is_neither_read_nor_changed():
    problem = paper_population("simple", records=400)
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    first = calibrate(problem, "cross_category", records=40).selected
    assert (np.random.get_state()[1] == state).all()
    np.random.seed(2)
    assert (calibrate(problem, "cross_category", records=40).selected == first).all()


@pytest.mark.parametrize(
    ("design", "seeds", "share"), [("systematic", 40, 0.8), ("balanced", 40, 0.5)]
)
def test_continuous_totals_after_the_draw_beat_random_draws(design, seeds, share):
    """Three records a cell, so that the order within cells counts."""
    problem = paper_population("simple", records=1500)
    income = problem.size[0] - 1
    ours, random = [], []
    for seed in range(seeds):
        drawn = draw_records(problem, problem.start, 600, seed, design=design)
        chosen = np.random.default_rng(seed).choice(1500, 600, replace=False)
        equal = np.bincount(chosen, minlength=1500) * 2.5
        for weights, errors in ((drawn.starting, ours), (equal, random)):
            errors.append(abs(problem.matrix.totals(weights)[income] / problem.targets[income] - 1))
    assert np.mean(ours) < share * np.mean(random)


def test_more_draws_are_no_worse_before_the_refit():
    problem = paper_population("complex", records=1000)
    errors = [
        calibrate(problem, "cross_category", records=150, draws=draws, refit="none").details[
            "error_after_selection"
        ]
        for draws in (1, 5, 20)
    ]
    assert errors[0] >= errors[1] >= errors[2]
    assert errors[2] < errors[0]


@pytest.mark.parametrize(
    ("sparsity", "kept"), [(0.5, 2500), (0.8, 1000), (0.9, 500), (0.95, 250), (0.98, 100)]
)
def test_sparsity_is_met_exactly(sparsity, kept):
    result = calibrate(paper_population("simple"), "cross_category", sparsity=sparsity, refit="ipf")
    assert result.selected.size == result.details["records"] == kept


def test_ipf_meets_the_margins_and_names_the_amounts_it_misses():
    problem = paper_population("complex")
    result = calibrate(problem, "cross_category", sparsity=0.9, refit="ipf")
    rows = categorical_rows(problem.matrix)
    assert not result.converged  # the amounts are missed
    assert result.relative_errors[rows].max() < 1e-8
    (warning,) = result.warned("targets_missed")
    assert set(warning.targets) == {"income", "wages", "benefits"}
    assert warning.size == pytest.approx(result.relative_errors[~rows].max())


def test_raking_meets_every_row_and_dense_weights_can_be_drawn_by():
    problem = paper_population("complex", records=2000)
    tilt = np.where(problem.matrix.row(0) > 0, 1.5, 0.9)
    problem = problem.change(targets=problem.matrix.totals(tilt))
    for weights in ("initial", "dense"):
        result = calibrate(problem, "cross_category", records=300, weights=weights)
        assert result.converged
        assert result.relative_errors.max() < 1e-8
    by_dense = calibrate(
        problem, "cross_category", records=300, weights="dense", refit="none"
    ).details["probability"]
    assert (
        by_dense[problem.matrix.row(0) > 0].mean()
        > 1.5 * by_dense[problem.matrix.row(0) == 0].mean()
    )


def test_too_few_records_for_the_targets_is_not_called_converged():
    result = calibrate(paper_population("complex", records=1000), "cross_category", records=10)
    assert not result.converged
    assert result.warned("targets_missed")
    assert result.selected.size == 10


@pytest.mark.parametrize(
    ("settings_", "error", "words"),
    [
        ({}, SettingsError, "neither"),
        ({"records": 5, "sparsity": 0.5}, SettingsError, "both|Both"),
        ({"records": 0}, SettingsError, "records is 0"),
        ({"sparsity": 1.0}, SettingsError, "sparsity is 1.0"),
        ({"records": 5, "refit": "gradient"}, SettingsError, "refit is 'gradient'"),
        ({"records": 5, "weights": "best"}, SettingsError, "weights is 'best'"),
        ({"records": 5, "draws": 0}, SettingsError, "draws is 0"),
        ({"records": 5, "seed": -1}, SettingsError, "seed is -1"),
        ({"records": 5, "tolerance": 0.0}, SettingsError, "tolerance is 0.0"),
        ({"records": 99}, BudgetError, "99 records are asked for, the problem has 20"),
        ({"records": 19}, BudgetError, "only 18 of 20 have a positive weight"),
    ],
)
def test_impossible_requests_are_refused_with_the_numbers(settings_, error, words):
    weights = np.ones(20)
    weights[:2] = 0.0
    problem = CalibrationProblem(np.ones((1, 20)), [18.0], weights)
    with pytest.raises(error, match=words):
        calibrate(problem, "cross_category", **settings_)


def test_probabilities_cap_certainties_and_leave_zero_weights_out():
    probability = inclusion_probabilities(np.array([0.0, 1.0, 1.0, 2.0, 100.0]), 3)
    assert probability.tolist() == pytest.approx([0.0, 0.5, 0.5, 1.0, 1.0])
