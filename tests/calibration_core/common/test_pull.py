"""Who pulls a total that nobody told: by hand, against the solver's own multipliers, and limits."""

import numpy as np
import pytest

from calibration_core.common.pull import log_mean, pull_on
from calibration_core.errors import ProblemError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PoolProblem, make_targets
from calibration_core.tree.result import TreeNewtonSettings
from calibration_core.tree.solve.newton import calibrate_tree


def test_by_hand():
    """Two kinds of record. One told variable counts the first kind only and doubles it, so
    m = (2 - 1) / log 2 there and 1 elsewhere. The outcome is 3 a record of the first kind, 5 of the
    second: coefficient 3, move of the told total 2 x (2 - 1), pull 6; the second kind adds no move.
    """
    prior, calibrated = np.ones(4), np.array([2.0, 2.0, 1.0, 1.0])
    told = np.array([[1.0], [1.0], [0.0], [0.0]])
    outcome = np.array([[3.0], [3.0], [5.0], [5.0]])
    found = pull_on(prior, calibrated, told, outcome, ridge=0.0)
    assert found.told_moved == pytest.approx([2.0])
    assert found.moved == pytest.approx([6.0])
    assert found.by_told == pytest.approx(np.array([[6.0]]))
    assert found.rest == pytest.approx([0.0], abs=1e-12)


def test_of_two_told_the_one_that_moved_pulls():
    """Both told variables go with the outcome; only the second one's total moved."""
    prior = np.ones(4)
    told = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    calibrated = np.array([1.0, 1.0, 0.5, 0.5])
    found = pull_on(prior, calibrated, told, np.array([[1.0], [1.0], [4.0], [4.0]]), ridge=0.0)
    assert found.by_told[:, 0] == pytest.approx([0.0, -4.0])


def solved(areas: int, seed: int = 3, records: int = 60):
    """A calibrated pool with three told variables and an outcome that goes with them."""
    rng = np.random.default_rng(seed)
    names = [f"01{t:03d}" for t in range(areas)]
    tree = GeographyTree.from_leaves(["state", "county"], [["01"] * areas, names])
    told = np.column_stack([np.ones(records), rng.poisson(2.0, records), rng.random(records) < 0.4])
    told = told.astype(float)
    outcome = told[:, 1] * 2 + told[:, 2] * 5 + rng.random(records)
    share = rng.uniform(0.5, 1.5, areas)
    share /= share.sum()
    prior = rng.uniform(5, 15, records)
    state = prior @ told * np.array([1.0, 1.1, 0.8])
    county = np.outer(share, state) * rng.uniform(0.8, 1.25, (areas, 3))
    county *= state / county.sum(axis=0)
    scales = [np.full((1, 3), np.inf), np.ones((areas, 3))]
    targets = make_targets(tree, [told, told], [state[None, :], county], scales)
    group = np.zeros(records, dtype=np.int64)
    problem = PoolProblem(tree, targets, prior, group, share[:, None])
    settings = TreeNewtonSettings(tau_path=(1.0, 0.01), tolerance=1e-10, prior_unit=1.0)
    return problem, calibrate_tree(problem, settings), told, outcome[:, None]


def test_in_one_area_it_is_what_the_multipliers_say():
    """The move of the outcome is lambda' X' M z, exactly, and so is the regression's sum."""
    problem, result, told, outcome = solved(1)
    prior, weights = problem.prior().sum(axis=0), result.weights.sum(axis=0)
    multipliers = result.multipliers[1][0] / problem.targets.scales[1][0]
    mean = log_mean(prior, weights)
    by_multiplier = multipliers * ((told * mean[:, None]).T @ outcome)[:, 0]
    found = pull_on(prior, weights, told, outcome, ridge=0.0)
    assert by_multiplier.sum() == pytest.approx(found.moved[0], rel=1e-9)
    assert found.by_told.sum() == pytest.approx(found.moved[0], rel=1e-9)
    assert found.by_told[2, 0] < 0 < found.by_told[1, 0], "one was told to fall, one to rise"


def test_with_many_areas_the_rest_is_small_and_given():
    problem, result, told, outcome = solved(6)
    found = pull_on(problem.prior().sum(axis=0), result.weights.sum(axis=0), told, outcome)
    assert found.by_told.sum() + found.rest[0] == pytest.approx(found.moved[0], rel=1e-12)
    assert 0 < abs(found.rest[0]) < 0.15 * np.abs(found.by_told).sum()


def test_order_and_repeats_do_not_matter():
    problem, result, told, outcome = solved(4)
    prior, weights = problem.prior().sum(axis=0), result.weights.sum(axis=0)
    plain = pull_on(prior, weights, told, outcome)
    turned = pull_on(prior[::-1], weights[::-1], told[::-1], outcome[::-1])
    np.testing.assert_allclose(turned.by_told, plain.by_told, rtol=1e-9)
    twice = pull_on(prior, weights, np.hstack([told, told[:, 2:]]), outcome)
    assert twice.by_told[2:].sum() == pytest.approx(plain.by_told[2].sum(), rel=5e-3)


def test_what_told_totals_add_up_to_has_nothing_of_its_own():
    rng = np.random.default_rng(5)
    told = rng.poisson(1.0, (200, 3)).astype(float)
    free = rng.random(200)
    outcomes = np.column_stack([told[:, 0] - told[:, 2], told[:, 0] + free, free])
    found = pull_on(np.ones(200), rng.uniform(0.5, 2.0, 200), told, outcomes)
    assert found.own_share[0] < 1e-20
    assert 0.005 < found.own_share[1] < found.own_share[2] <= 1.0


def test_nothing_moved_nothing_pulls():
    told = np.array([[1.0, 0.0], [2.0, 0.0]])
    found = pull_on(np.ones(2), np.ones(2), told, np.array([[1.0], [7.0]]))
    assert not found.by_told.any() and not found.moved.any()


def test_the_mean_lies_between_and_dead_records_have_none():
    prior, weights = (
        np.array([1.0, 1.0, 2.0, 0.0, 3.0]),
        np.array([4.0, 1.0 + 1e-12, 1.0, 1.0, 0.0]),
    )
    mean = log_mean(prior, weights)
    assert mean[0] == pytest.approx(3 / np.log(4)) and mean[1] == pytest.approx(1.0)
    assert 1.0 < mean[2] < 2.0
    assert mean[3] == mean[4] == 0.0


@pytest.mark.parametrize(
    ("prior", "told", "match"),
    [(np.ones(3), np.ones((4, 1)), "shapes"), (-np.ones(4), np.ones((4, 1)), "negative")],
)
def test_faults_are_named(prior, told, match):
    with pytest.raises(ProblemError, match=match):
        pull_on(prior, np.ones(4), told, np.ones((4, 1)))
