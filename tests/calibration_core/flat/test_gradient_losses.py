"""The losses: one definition for numpy and torch, slopes that are slopes, conjugates that are
conjugates, weights of targets.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse

from calibration_core import CalibrationProblem
from calibration_core.common.losses import LOSSES, make_loss
from calibration_core.errors import SettingsError
from calibration_core.flat.solve.losses import TargetLoss, target_scale, target_weights

GRID = np.linspace(-2.5, 2.5, 1001) + 1e-4


@pytest.mark.parametrize("name", LOSSES)
def test_numpy_and_torch_share_the_definition(name):
    loss = make_loss(name, delta=0.3, cap=0.8, corner=0.05)
    tensor = torch.tensor(GRID, requires_grad=True)
    value = loss.value(tensor)
    value.sum().backward()
    np.testing.assert_allclose(value.detach().numpy(), loss.value(GRID), rtol=1e-14)
    np.testing.assert_allclose(loss.slope(tensor).detach().numpy(), loss.slope(GRID), rtol=1e-14)
    np.testing.assert_allclose(tensor.grad.numpy(), loss.slope(GRID), atol=1e-12)


@pytest.mark.parametrize("name", ["huber", "capped"])
def test_the_conjugate_is_the_squares_within_the_steepest_slope(name):
    loss = make_loss(name, delta=0.3, cap=0.8, corner=0.05).convex
    r = np.linspace(-20, 20, 400_001)
    for slope in np.linspace(-0.999, 0.999, 9) * loss.steepest:
        assert (slope * r - loss.value(r)).max() == pytest.approx(
            slope**2 / (2 * loss.curvature), abs=1e-7
        )


@given(st.floats(-5, 5))
def test_losses_known_by_hand(r):
    size = abs(r)
    assert make_loss("square").value(np.array([r]))[0] == pytest.approx(r * r)
    assert make_loss("huber", delta=0.5).value(np.array([r]))[0] == pytest.approx(
        r * r if size <= 0.5 else size - 0.25
    )
    assert make_loss("capped_square", cap=2.0).value(np.array([r]))[0] == pytest.approx(
        min(r * r, 4.0)
    )
    rounded = make_loss("capped", cap=1.0, corner=0.01).value(np.array([r]))[0]
    assert min(size, 1.0) - 0.005 - 1e-12 <= rounded <= min(size, 1.0) + 1e-12


@pytest.mark.parametrize("name", ["capped", "capped_square"])
@given(at=st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_the_majoriser_touches_and_lies_nowhere_below(name, at):
    loss = TargetLoss(
        make_loss(name, cap=0.8, corner=0.05),
        np.zeros(4),
        np.ones(4),
        np.array([1.0, 2.0, 0.5, 1.0]),
    )
    fitted = np.array(at)
    above = loss.majoriser(fitted)
    lift = loss.value(fitted) - above.value(fitted)
    for other in np.random.default_rng(1).normal(size=(50, 4)):
        assert above.value(other) + lift >= loss.value(other) - 1e-12


def problem() -> CalibrationProblem:
    matrix = np.array([[1.0, 0, 1], [0, 3, 1], [10.5, 0, 2000], [1, 1, 1]])
    names = ("age: young", "age: old", "income", "total")
    return CalibrationProblem(
        matrix,
        [100.0, 400.0, -2500.0, 0.0],
        np.ones(3),
        target_names=names,
        standard_errors=[3.0, 4.0, 5.0, 6.0],
    )


def test_scales():
    # A target of zero has the scale of what the initial weights, brought to the level of the
    # targets, add to it.
    assert problem().level == 50.0
    np.testing.assert_allclose(target_scale(problem()), [100, 400, 2500, 3 * 50])
    np.testing.assert_allclose(target_scale(problem(), epsilon=1.0), [101, 401, 2501, 1])
    np.testing.assert_allclose(
        target_scale(problem(), "relative", epsilon=2.0, relative_size=0.5), [51, 201, 1251, 1]
    )
    np.testing.assert_allclose(target_scale(problem(), "standard_error"), [3, 4, 5, 6])
    np.testing.assert_allclose(
        target_scale(problem(), "both", epsilon=0.0),
        np.sqrt(np.array([100, 400, 2500, 0.0]) ** 2 + np.array([9, 16, 25, 36])),
    )


@pytest.mark.parametrize("thin", [False, True])
def test_bases_weigh_the_same_and_groups_weigh_the_same(thin):
    p = problem()
    p = p.change(matrix=sparse.csr_array(p.matrix.target_major())) if thin else p
    by_basis = target_weights(p, "bases")
    assert by_basis[[0, 1, 3]].sum() == pytest.approx(by_basis[2]) == pytest.approx(2.0)
    np.testing.assert_allclose(by_basis[[0, 1, 3]] / by_basis[3], [10, 20, 1])
    by_group = target_weights(p, "groups")
    np.testing.assert_allclose(by_group, np.array([0.5, 0.5, 1, 1]) * 4 / 3)


@pytest.mark.parametrize(
    "wrong", [np.zeros(4), [1, 2, 3], [1, 1, 1, np.nan], [1, 1, 1, -1], "levels"]
)
def test_weights_that_cannot_be_used_are_refused(wrong):
    with pytest.raises(SettingsError, match="target_weights"):
        target_weights(problem(), wrong)
