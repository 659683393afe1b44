"""The hybrid: exactly k, every target met where k allows it, and the truth told where
it does not.
"""

import numpy as np
import pytest

from benchmarks.paper_population import SCENARIOS, paper_population
from benchmarks.problems import margins_and_amounts
from calibration_core import CalibrationProblem, calibrate
from calibration_core.errors import BudgetError, SettingsError
from calibration_core.flat.select.draw import draw_records
from calibration_core.flat.select.refit import refit
from calibration_core.flat.select.swaps import improve
from calibration_core.flat.solve.compromise import residual_scale


def paper_loss(result) -> float:
    """The paper's loss: sum of ((fitted - target) / (target + 1))^2."""
    return float(((result.residuals / (result.problem.targets + 1.0)) ** 2).sum())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_all_targets_of_the_papers_population_at_95_percent_sparsity(scenario):
    result = calibrate(paper_population(scenario), "hybrid", sparsity=0.95)
    assert result.selected.size == 250
    assert result.converged
    assert paper_loss(result) < 1e-15
    assert result.effective_sample_size > 200


@pytest.mark.parametrize("records", [1, 2, 17, 150, 399, 400])
def test_k_is_exact_from_one_to_all(records):
    problem = paper_population("continuous", records=400)
    result = calibrate(problem, "hybrid", records=records)
    assert result.selected.size == records
    assert (result.weights >= 0).all()
    assert result.converged == bool(result.targets_met.all())


def test_all_records_kept_is_the_dense_solution():
    problem = margins_and_amounts(300, 3, 3, 2)
    dense, sparse = calibrate(problem, "raking"), calibrate(problem, "hybrid", sparsity=0.0)
    assert np.allclose(dense.weights, sparse.weights, rtol=1e-7)


def test_few_records_meet_by_swaps_what_the_draw_alone_cannot():
    """Seventy records for 72 targets of rank 55: the draw misses cells; swaps bring every one in,
    at k unchanged.
    """
    problem = paper_population("complex")
    without = calibrate(problem, "hybrid", records=70, swaps=0)
    result = calibrate(problem, "hybrid", records=70)
    assert not without.converged
    assert without.warned("too_few_records")
    assert paper_loss(without) > 0.1
    assert result.converged
    assert result.details["swaps"] > 0
    assert result.selected.size == 70
    assert paper_loss(result) < 1e-15


def test_swaps_never_raise_the_loss_and_never_admit_a_record_without_weight():
    problem = margins_and_amounts(800, 6, 4, 3)
    weights = calibrate(problem, "raking").weights.copy()
    weights[::5] = 0.0
    drawn = draw_records(problem, weights, 16, 1)
    before = refit(problem, drawn.selected, drawn.starting)
    better = improve(problem, drawn.selected, drawn.starting, weights > 0, 0.0, 30)
    after = refit(problem, better.selected, better.starting)
    loss = [
        ((problem.matrix.totals(f.weights) - problem.targets) / residual_scale(problem)) ** 2
        for f in (before, after)
    ]
    assert better.swaps > 0
    assert loss[1].sum() < 0.9 * loss[0].sum()
    assert better.selected.size == 16
    assert (weights[better.selected] > 0).all()


def test_records_of_zero_initial_weight_never_come_in():
    problem = margins_and_amounts(600, 4, 3, 2)
    start = problem.start.copy()
    start[100:300] = 0.0
    problem = problem.change(initial_weights=start)
    result = calibrate(problem, "hybrid", records=40)
    assert result.selected.size == 40
    assert not set(result.selected) & set(range(100, 300))
    with pytest.raises(BudgetError, match="only 400 of 600 have a positive weight"):
        calibrate(problem, "hybrid", records=401)


def test_a_conflict_is_compromised_as_well_as_all_records_can_and_not_called_converged():
    """One margin a tenth larger than the other: k records reach the loss of all 1,000."""
    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 3, 1000), rng.integers(0, 4, 1000)
    rows = np.vstack(
        [*(a == i for i in range(3)), *(b == i for i in range(4)), rng.lognormal(8, 1, 1000)]
    ).astype(float)
    targets = rows.sum(axis=1)
    targets[:3] *= 1.1
    problem = CalibrationProblem(rows, targets, np.ones(1000))
    dense = calibrate(problem, "raking")
    result = calibrate(problem, "hybrid", records=80)
    assert not dense.converged
    assert not result.converged
    assert result.warned("targets_missed")
    assert result.details["error_after_refinement"] == pytest.approx(
        result.details["dense_error"], rel=0.01
    )
    assert not result.warned("too_few_records")


def test_details_say_what_selection_cost():
    result = calibrate(paper_population("complex"), "hybrid", records=250)
    details = result.details
    assert details["cells"] == 200
    drawn = np.unique(
        result.problem.matrix.by_record[result.selected][:, :69].toarray(), axis=0
    ).shape[0]
    assert details["cells_without_record"] == 200 - drawn
    assert details["error_after_selection"] > 1e3 * details["error_after_refinement"]
    assert details["effective_sample_size"] == pytest.approx(result.effective_sample_size)
    assert result.warned("mass_moved")[0].size == details["mass_moved"] > 0


def test_more_draws_and_repair_bring_totals_closer_before_refinement():
    problem = paper_population("continuous", records=1500)

    def mean(**s):
        return np.mean(
            [
                calibrate(problem, "hybrid", records=150, seed=seed, **s).details[
                    "error_after_selection"
                ]
                for seed in range(4)
            ]
        )

    plain = mean(draws=1, repair=0)
    assert mean(draws=5, repair=0) < 0.9 * plain
    assert mean(draws=1, repair=5) < 0.6 * plain


def test_repair_keeps_k_and_the_count_of_every_pool():
    problem = margins_and_amounts(1200, 5, 3, 4)
    before, after = (
        draw_records(
            problem,
            problem.start,
            90,
            1,
            sweeps=sweeps,
            totals=problem.matrix.totals(problem.start),
        )
        for sweeps in (0, 5)
    )
    assert after.exchanges > 0
    assert after.error < 0.7 * before.error
    counts = [np.bincount(d.pool[d.selected], minlength=d.pools).tolist() for d in (before, after)]
    assert counts[0] == counts[1]
    assert sum(counts[1]) == np.unique(after.selected).size == 90


def test_the_same_seed_is_the_same_file_and_another_seed_another():
    problem = paper_population("complex", records=1000)
    first, again, other = (
        calibrate(problem, "hybrid", records=80, seed=seed).weights for seed in (3, 3, 4)
    )
    assert first.tobytes() == again.tobytes()
    assert (first > 0).tolist() != (other > 0).tolist()


def test_upper_bounds_on_weights_hold_for_the_records_kept():
    problem = paper_population("simple", records=1000).change(weight_bounds=(0.0, 12.0))
    result = calibrate(problem, "hybrid", records=120)
    assert result.converged
    assert result.selected.size == 120
    assert result.weights.max() <= 12.0


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"design": "random"}, "design is 'random'"),
        ({"swaps": -1}, "swaps is -1"),
        ({"compromise": "best"}, "compromise is 'best'"),
        ({"draws": 0}, "draws is 0"),
        ({"repair": -1}, "repair is -1"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(SettingsError, match=words):
        calibrate(paper_population("simple", records=100), "hybrid", records=10, **settings)
