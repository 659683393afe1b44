"""Distances: numpy and torch agree, slopes are slopes, no digits are lost near a bound."""

from __future__ import annotations

from decimal import Decimal, localcontext

import numpy as np
import pytest
import torch

from calibration_core.common.distances import BoundedRaking, Linear, Logit, Raking, TruncatedLinear
from calibration_core.errors import SettingsError

LOW, HIGH = np.linspace(0.0, 0.9, 401), np.linspace(1.2, 8.0, 401)
PLAIN = [Linear(), Raking()]
BOUNDED = [
    kind(low, high)
    for kind in (TruncatedLinear, BoundedRaking, Logit)
    for low, high in ((0.2, 5.0), (LOW, HIGH))
]
GRID = np.linspace(-3.0, 3.0, 401) + 1e-4


def name_of(distance: object) -> str:
    own = np.ndim(getattr(distance, "low", 0.0)) > 0
    return type(distance).__name__ + ("_per_record" if own else "")


def on_torch(distance):
    if np.ndim(getattr(distance, "low", 0.0)) == 0:
        return distance
    return type(distance)(torch.tensor(distance.low), torch.tensor(distance.high))


@pytest.mark.parametrize("distance", PLAIN + BOUNDED, ids=name_of)
def test_numpy_and_torch_agree(distance):
    theirs, u = on_torch(distance), torch.tensor(GRID)
    ratio, tensor = distance.ratio(GRID), theirs.ratio(u)
    assert tensor.dtype == torch.float64
    pairs = [
        (tensor, ratio),
        (theirs.slope(u, tensor), distance.slope(GRID, ratio)),
        (theirs.integral(u, tensor), distance.integral(GRID, ratio)),
        (theirs.value(tensor), distance.value(ratio)),
    ]
    if distance.exponential:
        pairs.append((theirs.log_ratio(u), distance.log_ratio(GRID)))
    for mine, other in pairs:
        np.testing.assert_allclose(mine.numpy(), other, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("distance", PLAIN + BOUNDED, ids=name_of)
def test_g_is_the_slope_of_h_and_its_own_slope_is_its_slope(distance):
    step = 1e-5
    ahead, behind, ratio = (distance.ratio(GRID + s) for s in (step, -step, 0.0))
    # A kink of a cut distance may lie between the two points; there is at most one of each kind.
    slope = (ahead - behind) / (2 * step)
    wrong = np.abs(slope - distance.slope(GRID, ratio)) > 1e-6 * np.maximum(1.0, np.abs(slope))
    assert wrong.sum() <= 2
    rise = distance.integral(GRID + step, ahead) - distance.integral(GRID - step, behind)
    np.testing.assert_allclose(rise / (2 * step), ratio, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("convert", [np.asarray, torch.tensor], ids=["numpy", "torch"])
@pytest.mark.parametrize(("low", "high"), [(0.0, 10.0), (0.9, 1.5), (0.05, 1.01)])
def test_the_slope_of_logit_keeps_its_digits_up_to_the_bounds(low, high, convert):
    """Against 50 decimal digits. (r - low)(high - r), the same on paper, is 0 from where the ratio
    rounds to its bound.
    """
    distance = Logit(low, high)
    steepness = (high - low) / ((1 - low) * (high - 1))
    u = np.concatenate([-np.geomspace(1e-3, 500.0, 40), np.geomspace(1e-3, 500.0, 40)]) / steepness
    argument = convert(u)
    found = np.asarray(distance.slope(argument, distance.ratio(argument)))
    with localcontext() as context:
        context.prec = 50
        lower, upper = Decimal(low), Decimal(high)
        room, below, above = upper - lower, 1 - lower, upper - 1
        exact = []
        for x in u:
            rise = (Decimal(float(x)) * room / (below * above)).exp()
            exact.append(float(room * room * rise / (above + below * rise) ** 2))
    np.testing.assert_allclose(found, exact, rtol=1e-12)
    assert (found > 0).all()


@pytest.mark.parametrize("own", [False, True], ids=["numbers", "tensors"])
@pytest.mark.parametrize(("low", "high"), [(1.0, 2.0), (0.5, 1.0), (np.nan, 2.0), (0.5, np.inf)])
def test_logit_refuses_bounds_that_do_not_enclose_one(low, high, own):
    with pytest.raises(SettingsError, match="logit"):
        Logit(*((torch.tensor([x]) for x in (low, high)) if own else (low, high)))


def test_some_leaves_of_a_batch_keep_their_bounds():
    low, high = torch.tensor([[0.1], [0.5]]), torch.tensor([[3.0], [2.0]])
    for kind in (TruncatedLinear, BoundedRaking, Logit):
        taken = kind(low, high).take(torch.tensor([1]))
        assert isinstance(taken, kind)
        assert taken.low.tolist() == [[0.5]] and taken.high.tolist() == [[2.0]]
        alone = kind(0.1, 3.0)
        assert alone.take(torch.tensor([1])) is alone
