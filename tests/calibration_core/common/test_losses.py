"""Losses: squares that majorise them, slopes that are slopes, digits that are kept."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from calibration_core.common.losses import PseudoHuber, Square, make_loss

LOSSES = {
    "square": Square(),
    "huber": make_loss("huber", delta=0.7),
    "pseudo_huber": PseudoHuber(0.7),
    "pseudo_huber_inf": PseudoHuber(float("inf")),
    "capped": make_loss("capped", cap=1.3, corner=0.2),
    "capped_square": make_loss("capped_square", cap=1.3),
}
GRID = np.linspace(-6.0, 6.0, 2401) + 1e-4


@pytest.mark.parametrize("name", LOSSES)
@given(at=st.floats(-5.0, 5.0))
def test_the_square_of_the_majorising_weight_touches_and_lies_nowhere_below(name, at):
    loss, here = LOSSES[name], np.array([at])
    weight = loss.majorising(here)[0]
    lift = loss.value(here)[0] - weight * at * at
    assert (weight * GRID**2 + lift >= loss.value(GRID) - 1e-12).all()
    assert 2.0 * weight * at == pytest.approx(loss.slope(here)[0], rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("name", LOSSES)
def test_near_zero_and_beyond_the_bend_it_is_what_the_table_says(name):
    loss, r = LOSSES[name], np.array([1e-3, 1e8])
    near, far = loss.value(r)
    assert near == pytest.approx(1e-6 / (0.4 if name == "capped" else 1.0), rel=1e-5)
    expected = {"huber": 1.4e8, "pseudo_huber": 1.4e8, "capped": 1.3, "capped_square": 1.69}
    assert far == pytest.approx(expected.get(name, 1e16), rel=1e-7)


@pytest.mark.parametrize("name", LOSSES)
def test_numpy_and_torch_agree_and_the_slope_is_the_slope(name):
    loss, tensor = LOSSES[name], torch.tensor(GRID, requires_grad=True)
    value = loss.value(tensor)
    value.sum().backward()
    np.testing.assert_allclose(value.detach().numpy(), loss.value(GRID), rtol=1e-14)
    np.testing.assert_allclose(tensor.grad.numpy(), loss.slope(GRID), rtol=1e-12, atol=1e-14)
    weight = loss.majorising(tensor.detach()).numpy()
    np.testing.assert_allclose(weight, loss.majorising(GRID), rtol=1e-14)


def test_pseudo_huber_keeps_its_digits_where_the_textbook_form_loses_them():
    r = np.geomspace(1e-12, 1e-4, 50)
    # The Taylor series of 2 delta^2 (sqrt(1 + (r / delta)^2) - 1), whose next term is below 1e-16.
    series = r * r * (1.0 - (r / 0.7) ** 2 / 4.0)
    np.testing.assert_allclose(PseudoHuber(0.7).value(r), series, rtol=1e-14)
