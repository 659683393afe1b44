"""Standard errors of cells, sums and products."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.specs.targets import StandardErrorRule
from pipeline.targets.standard_errors import (
    carried_standard_error,
    cell_standard_error,
    product_standard_error,
    sum_standard_error,
)

VALUE = np.array([100.0, 0.0, np.nan, 50.0])
MARGIN = np.array([16.45, 12.0, np.nan, np.nan])
NOT = np.zeros(4, bool)


def rule(**parts: object) -> StandardErrorRule:
    return StandardErrorRule(why="a test", **parts)


def test_acs_margin_is_divided_and_a_zero_count_keeps_its_margin() -> None:
    error = cell_standard_error(rule(rule="acs_margin"), VALUE, MARGIN, NOT)
    assert error[0] == pytest.approx(10.0)
    assert error[1] == pytest.approx(12.0 / 1.645)
    assert np.isnan(error[2])
    assert np.isnan(error[3]), "a value without a margin is of unknown error, not exact"


def test_controlled_cells_are_exact() -> None:
    error = cell_standard_error(
        rule(rule="acs_margin"), VALUE, MARGIN, np.array([True, False, False, True])
    )
    assert error[[0, 3]].tolist() == [0.0, 0.0]


def test_relative_rule_has_a_floor_and_keeps_the_missing_missing() -> None:
    error = cell_standard_error(rule(rule="relative", share=0.1, floor=6.0), VALUE, MARGIN, NOT)
    np.testing.assert_allclose(error, [10.0, 6.0, np.nan, 6.0])


def test_rounding_rule_is_the_uniform_error_and_a_share() -> None:
    error = cell_standard_error(
        rule(rule="rounding", unit=10.0, relative=0.01),
        np.array([0.0, 1000.0]),
        np.full(2, np.nan),
        np.zeros(2, bool),
    )
    np.testing.assert_allclose(error, [10 / np.sqrt(12), np.hypot(10 / np.sqrt(12), 10.0)])


def test_exact_rule() -> None:
    assert cell_standard_error(
        rule(rule="exact"), np.array([5.0]), np.array([np.nan]), np.array([False])
    ).tolist() == [0.0]


@given(st.lists(st.floats(1e-3, 1e6), min_size=1, max_size=6))
def test_sum_error_lies_between_the_largest_part_and_the_plain_sum(parts: list[float]) -> None:
    total = float(sum_standard_error(np.array(parts)))
    assert max(parts) * (1 - 1e-12) <= total <= sum(parts) * (1 + 1e-12)


def test_sum_with_an_unknown_part_is_unknown() -> None:
    assert np.isnan(sum_standard_error(np.array([1.0, np.nan])))


@given(
    st.floats(1, 1e3), st.floats(1, 1e3), st.floats(0, 10), st.floats(0, 10), st.floats(0.01, 10)
)
def test_product_error_adds_relative_errors_in_quadrature(
    a: float, b: float, sa: float, sb: float, scale: float
) -> None:
    error = float(
        product_standard_error(np.array(a), np.array(b), np.array(sa), np.array(sb), scale)
    )
    assert error / (scale * a * b) == pytest.approx(np.hypot(sa / a, sb / b), abs=1e-12)


def test_product_error_agrees_with_simulation() -> None:
    rng = np.random.default_rng(3)
    draws = rng.normal(400, 12, 200_000) * rng.normal(90_000, 3_000, 200_000)
    assert float(
        product_standard_error(np.array(400.0), np.array(9e4), np.array(12.0), np.array(3e3))
    ) == pytest.approx(draws.std(), rel=0.02)


def test_carrying_scales_the_error_and_adds_its_own() -> None:
    error = carried_standard_error(np.array([3.0]), np.array([2.0]), np.array([100.0]), 0.08)
    assert error.tolist() == pytest.approx([10.0])
