"""Limits on starting weights: totals kept, limits held, areas too small for them named."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from calibration_core.errors import SettingsError
from calibration_core.tree.geography import GeographyTree
from calibration_core.tree.problem import PairProblem, make_targets
from calibration_core.tree.select.weight_limits import WeightLimits, limited


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**31),
    st.just(0.0) | st.floats(1e-6, 50.0),
    st.floats(1e-6, 1.0),
    st.sampled_from([None, (0.05, 10.0), (0.5, 1.5)]),
)
def test_totals_are_kept_and_limits_held(seed, smallest, share, ratio_bounds):
    rng = np.random.default_rng(seed)
    leaves = int(rng.integers(1, 6))
    leaf = np.sort(rng.integers(0, leaves, int(rng.integers(1, 60))))
    weight = np.exp(rng.choice([0.3, 3.0]) * rng.standard_normal(leaf.size)) * 10.0 ** rng.uniform(
        -2, 3
    )
    found = limited(weight, leaf, leaves, WeightLimits(smallest, share), ratio_bounds)
    total, count = np.bincount(leaf, weight, leaves), np.bincount(leaf, minlength=leaves)
    np.testing.assert_allclose(np.bincount(leaf, found.weight, leaves), total, rtol=1e-9)
    mean = total / np.maximum(count, 1)
    low, high = np.minimum(smallest, mean / 2), np.maximum(share * total, 2 * mean)
    assert found.relaxed == tuple(np.flatnonzero((count > 0) & (mean / 2 < smallest)))
    if smallest == 0 and share == 1:
        assert found.ratio_bounds is None
        return
    assert (found.weight >= low[leaf] * (1 - 1e-12)).all() and (
        found.weight <= high[leaf] * (1 + 1e-12)
    ).all()
    assert found.changed == (np.abs(found.weight - weight) > 1e-9 * weight).sum()
    bounds = found.ratio_bounds
    assert (bounds[:, 0] * found.weight >= low[leaf] * (1 - 1e-12)).all() and (
        bounds[:, 1] * found.weight <= high[leaf] * (1 + 1e-12)
    ).all()
    if ratio_bounds is not None:
        assert (bounds[:, 0] >= ratio_bounds[0]).all() and (bounds[:, 1] <= ratio_bounds[1]).all()
    # The refit takes them.
    tree = GeographyTree.from_leaves(["tract"], [[f"{t}" for t in range(leaves)]])
    targets = make_targets(tree, [np.ones((1, 1))], [total[:, None]], [np.ones((leaves, 1))])
    PairProblem(tree, targets, leaf, np.zeros(leaf.size, dtype=np.int64), found.weight, bounds)
    # Of two pairs of an area the heavier one stays the heavier.
    for t in range(leaves):
        order = np.argsort(weight[leaf == t])
        assert (np.diff(found.weight[leaf == t][order]) >= -1e-9 * mean[t]).all()


def test_nothing_changes_where_nothing_is_outside():
    weight, leaf = np.array([3.0, 5.0, 4.0, 7.0, 6.0]), np.array([0, 0, 0, 1, 1])
    found = limited(weight, leaf, 3, WeightLimits(1.0, 0.9), None)
    assert found.weight.tolist() == weight.tolist() and found.changed == 0 and found.relaxed == ()
    np.testing.assert_allclose(found.ratio_bounds[:, 0], 1.0 / weight)
    np.testing.assert_allclose(found.ratio_bounds[:, 1] * weight, [10.8] * 3 + [13.0] * 2)
    for limits in (None, WeightLimits()):
        same = limited(weight, leaf, 3, limits, (0.1, 2.0))
        assert same.weight is weight and same.ratio_bounds is None and same.changed == 0


def test_what_lies_outside_goes_to_the_others_in_proportion():
    """0.51 is added to reach the least weight and its two hundredths; 2 and 6 give it
    up as 1 to 3.
    """
    found = limited(
        np.array([0.51, 2.0, 6.0]), np.array([0, 0, 0]), 1, WeightLimits(smallest=1.0), None
    )
    np.testing.assert_allclose(found.weight, [1.02, 2.0 - 0.51 / 4, 6.0 - 3 * 0.51 / 4], rtol=1e-12)
    assert found.changed == 3 and found.relaxed == ()
    # Half of 20 at most, or twice the mean where that is more (here 8), less its two hundredths.
    found = limited(
        np.array([16.0, 1.0, 1.0, 1.0, 1.0]),
        np.zeros(5, dtype=int),
        1,
        WeightLimits(largest_share=0.5),
        None,
    )
    np.testing.assert_allclose(found.weight, [9.8, *[10.2 / 4] * 4], rtol=1e-12)
    found = limited(
        np.array([16.0, 1.0, 1.0, 1.0, 1.0]),
        np.zeros(5, dtype=int),
        1,
        WeightLimits(largest_share=0.1),
        None,
    )
    np.testing.assert_allclose(found.weight, [7.84, *[12.16 / 4] * 4], rtol=1e-12)


def test_an_area_too_small_for_the_smallest_weight_is_named_and_has_half_its_mean():
    weight, leaf = np.array([0.1, 0.9, 30.0, 30.0]), np.array([1, 1, 2, 2])
    found = limited(weight, leaf, 3, WeightLimits(smallest=2.0), None)
    assert found.relaxed == (1,)
    np.testing.assert_allclose(found.weight, [0.255, 0.745, 30.0, 30.0], rtol=1e-12)
    np.testing.assert_allclose(found.ratio_bounds[:2, 0] * found.weight[:2], 0.25)


@pytest.mark.parametrize(
    "bad",
    [{"smallest": -1.0}, {"smallest": np.nan}, {"largest_share": 0.0}, {"largest_share": 1.1}],
)
def test_limits_that_mean_nothing_are_refused(bad):
    with pytest.raises(SettingsError):
        WeightLimits(**bad)
