"""Categories that add up, crossed with each other and with areas, against a generic solver."""

import cvxpy as cp
import numpy as np
import pytest

from calibration_core.categories import Group, reconcile_categories
from calibration_core.errors import ProblemError

# total; male, female; young, old; the four cells of age by sex
CROSSED = [Group(0, (1, 2)), Group(0, (3, 4)), Group(1, (5, 6)), Group(2, (7, 8)), Group(3, (5, 7)), Group(4, (6, 8))]


def noisy(seed: int, areas: int):
    rng = np.random.default_rng(seed)
    cells = rng.gamma(2.0, 50.0, size=(areas, 4))
    truth = np.column_stack(
        [cells.sum(axis=1), cells[:, 0] + cells[:, 1], cells[:, 2] + cells[:, 3], cells[:, 0] + cells[:, 2], cells[:, 1] + cells[:, 3], cells]
    )
    variance = rng.gamma(2.0, 10.0, size=truth.shape)
    return truth, truth + rng.normal(size=truth.shape) * np.sqrt(variance), variance


def generic(y, v, groups, parent=None, totals=None):
    x = cp.Variable(y.shape, nonneg=True)
    constraints = [x[:, g.parent] == cp.sum(x[:, list(g.children)], axis=1) for g in groups]
    if totals is not None:
        constraints += [cp.sum(x[np.flatnonzero(parent == b), :], axis=0) == totals[b] for b in range(totals.shape[0])]
    cp.Problem(cp.Minimize(cp.sum(cp.multiply(1 / v, cp.square(x - y)))), constraints).solve(
        solver="CLARABEL", tol_gap_abs=1e-11, tol_gap_rel=1e-11, tol_feas=1e-11
    )
    return x.value


@pytest.mark.parametrize("seed", range(5))
def test_crossed_groups_equal_a_generic_solver(seed):
    _, y, v = noisy(seed, 3)
    result = reconcile_categories(y, v, CROSSED, nonnegative=np.ones(9, dtype=bool))
    assert result.converged
    assert result.gap_after.max() < 1e-9 < result.gap_before.max()
    assert np.abs(result.values - generic(y, v, CROSSED)).max() < 1e-4


@pytest.mark.parametrize("seed", range(3))
def test_categories_and_areas_add_up_together(seed):
    truth, y, v = noisy(seed, 6)
    parent = np.array([0, 0, 0, 1, 1, 1])
    totals = np.array([truth[parent == b].sum(axis=0) * 1.02 for b in range(2)])
    result = reconcile_categories(y, v, CROSSED, nonnegative=np.ones(9, dtype=bool), parent_area=parent, totals=totals)
    assert result.converged
    for b in range(2):
        assert np.allclose(result.values[parent == b].sum(axis=0), totals[b], rtol=1e-9)
    assert np.abs(result.values - generic(y, v, CROSSED, parent, totals)).max() < 1e-3


def test_a_held_value_does_not_move():
    _, y, v = noisy(1, 2)
    v[:, 0] = 0.0
    result = reconcile_categories(y, v, CROSSED, nonnegative=np.ones(9, dtype=bool))
    assert result.converged
    assert result.values[:, 0].tolist() == y[:, 0].tolist()


def test_two_children_by_hand():
    """10 against 4 + 4 with variances 0, 1, 3: the missing 2 is shared 1 : 3."""
    result = reconcile_categories(np.array([[10.0, 4.0, 4.0]]), np.array([[0.0, 1.0, 3.0]]), [Group(0, (1, 2))], nonnegative=np.ones(3, dtype=bool))
    assert result.values[0].tolist() == pytest.approx([10.0, 4.5, 5.5])


def test_counts_stay_at_zero_and_amounts_may_not():
    y, v = np.array([[1.0, 3.0, 1.0]]), np.array([[0.0, 1.0, 100.0]])
    counts = reconcile_categories(y, v, [Group(0, (1, 2))], nonnegative=np.ones(3, dtype=bool))
    assert counts.values[0].tolist() == pytest.approx([1.0, 1.0, 0.0], abs=1e-9)
    assert counts.pinned == 1
    amounts = reconcile_categories(y, v, [Group(0, (1, 2))], nonnegative=np.zeros(3, dtype=bool))
    assert amounts.values[0, 2] < 0


def test_values_that_cannot_add_up_are_told():
    result = reconcile_categories(np.array([[10.0, 4.0, 4.0]]), np.zeros((1, 3)), [Group(0, (1, 2))], nonnegative=np.ones(3, dtype=bool))
    assert not result.converged
    assert result.gap_after[0] == pytest.approx(0.2)


def test_other_variables_are_left_alone():
    y = np.array([[10.0, 4.0, 4.0, np.nan, 7.0]])
    result = reconcile_categories(y, np.array([[1.0, 1.0, 1.0, np.inf, 1.0]]), [Group(0, (1, 2))], nonnegative=np.ones(5, dtype=bool))
    assert np.isnan(result.values[0, 3])
    assert result.values[0, 4] == 7.0


def test_a_missing_member_is_refused():
    with pytest.raises(ProblemError, match="not finite"):
        reconcile_categories(np.array([[10.0, np.nan, 4.0]]), np.ones((1, 3)), [Group(0, (1, 2))], nonnegative=np.ones(3, dtype=bool))
