"""The tail of a class: its index and the means of its parts."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecordsError
from pipeline.records.pareto import pareto_index, part_means


def test_an_open_class_by_hand() -> None:
    # Mean 3 times the lower end: a / (a - 1) = 3.
    assert pareto_index(1e6, math.inf, 3e6) == pytest.approx(1.5)
    # The upper eighth of a Pareto tail has 8^(1/a) times the mean: 8^(2/3) = 4.
    means = part_means(1e6, math.inf, 1.5, np.array([0.0, 0.125, 1.0]))
    assert means[0] == pytest.approx(12e6)
    assert 0.125 * means[0] + 0.875 * means[1] == pytest.approx(3e6)


def test_a_closed_class_with_index_two_by_hand() -> None:
    # a = 2 on (1, 2): mean = 2 (1 - 1/2) / (1 - 1/4) = 4/3.
    assert part_means(1.0, 2.0, 2.0, np.array([0.0, 1.0]))[0] == pytest.approx(4 / 3)
    assert pareto_index(1.0, 2.0, 4 / 3) == pytest.approx(2.0)


@given(st.floats(0.05, 0.95), st.lists(st.floats(0.01, 1.0), min_size=1, max_size=30))
def test_parts_fall_lie_in_the_class_and_have_its_mean(place, weights) -> None:
    low, high = 5e5, 1e6
    mean = low + place * (high - low)
    index = pareto_index(low, high, mean)
    shares = np.concatenate(([0.0], np.cumsum(weights) / sum(weights)))
    means = part_means(low, high, index, shares)
    assert (means >= low * (1 - 1e-9)).all() and (means <= high * (1 + 1e-9)).all()
    assert (np.diff(means) <= 1e-3).all()
    assert float((np.diff(shares) * means).sum()) == pytest.approx(mean, rel=1e-6)


@pytest.mark.parametrize("mean", [4e5, 5e5, 1e6, 2e6])
def test_a_mean_outside_the_class_is_refused(mean: float) -> None:
    with pytest.raises(RecordsError, match="mean inside the class"):
        pareto_index(5e5, 1e6, mean)
