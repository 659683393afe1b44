"""No part above its whole, on trees small enough to see."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from calibration_core.tree.geography import GeographyTree
from pipeline.errors import TargetError
from pipeline.targets.reconcile import reconcile_state
from pipeline.targets.wholes import hold_parts_within_wholes, wholes_of
from tests.pipeline.targets.target_rows import row, table

LEVELS = ("nation", "state", "county")
AREAS = pl.DataFrame({"state_fips": ["15"] * 3, "county_fips": ["15003", "15005", "15007"]})
KEYS = [("persons", "old"), ("persons", "total")]
TREE = GeographyTree.from_leaves(["state", "county"], [["15"] * 3, ["15003", "15005", "15007"]])
BOTH = np.array([True, True])


def values_of(frame: pl.DataFrame, domain: str) -> dict[str, float]:
    rows = frame.filter(pl.col("domain") == domain)
    return dict(rows.select("geoid", "value").iter_rows())


def kalawao(state: dict) -> pl.DataFrame:
    """A county of 86 persons between two large ones that the table controls."""
    counties = [
        row("15003", 1000.0, 0.0),
        row("15005", 86.0, 0.0),
        row("15007", 500.0, 0.0),
        row("15003", 200.0, 0.001, domain="old"),
        row("15005", 12.0, 6.0, domain="old"),
        row("15007", 90.0, 3.0, domain="old"),
    ]
    return reconcile_state(table(*counties), table(state), AREAS, LEVELS).frame


def test_a_county_never_holds_more_of_a_part_than_it_has_persons() -> None:
    frame = kalawao(row("15", 452.0, domain="old"))
    old = values_of(frame, "old")
    assert old["15005"] == pytest.approx(86.0)
    assert old["15"] == pytest.approx(452.0)
    # Without the whole it would have taken 6^2 of 6^2 + 3^2 parts of the 150 that are missing.
    assert old["15007"] == pytest.approx(452.0 - 200.0 - 86.0, rel=1e-4)
    error = frame.filter((pl.col("geoid") == "15005") & (pl.col("domain") == "old"))
    assert error["standard_error"][0] == pytest.approx(6.0)


def test_what_an_area_cannot_hold_lowers_a_sum_that_nobody_published() -> None:
    """A campus tract with more students than the survey has persons: its neighbours stay."""
    counties = [
        row("15003", 100.0, 0.0),
        row("15005", 100.0, 0.0),
        row("15007", 100.0, 0.0),
        row("15003", 120.0, 10.0, domain="old"),
        row("15005", 20.0, 5.0, domain="old"),
        row("15007", 30.0, 5.0, domain="old"),
    ]
    frame = reconcile_state(table(*counties), table(), AREAS, LEVELS).frame
    assert values_of(frame, "old") == pytest.approx(
        {"15": 150.0, "15003": 100.0, "15005": 20.0, "15007": 30.0}
    )


def test_the_state_cannot_have_more_than_its_counties_can_hold() -> None:
    values = [np.array([[150.0, 100.0]]), np.array([[60.0, 50.0], [60.0, 30.0], [30.0, 20.0]])]
    variances = [np.ones((1, 2)), np.ones((3, 2))]
    with pytest.raises(TargetError, match=r"state 15 has 150\.0 persons old") as caught:
        hold_parts_within_wholes(TREE, KEYS, values, variances, BOTH)
    assert "persons/total" in str(caught.value)


def test_the_nearest_values_within_both_bounds_are_taken() -> None:
    rng = np.random.default_rng(7)
    for _ in range(40):
        whole = rng.uniform(1.0, 100.0, 3)
        part, spread = whole * rng.uniform(0.0, 1.6, 3), rng.uniform(0.1, 50.0, 3)
        total = rng.uniform(0.3, 0.95) * whole.sum()
        values = [
            np.array([[total, whole.sum()]]),
            np.column_stack([part * total / part.sum(), whole]),
        ]
        before = values[1][:, 0].copy()
        variances = [np.zeros((1, 2)), np.column_stack([spread, np.zeros(3)])]
        above = hold_parts_within_wholes(TREE, KEYS, values, variances, BOTH)
        x = values[1][:, 0]
        assert (x <= whole * (1 + 1e-9)).all() and (x >= 0).all()
        assert x.sum() == pytest.approx(total)
        assert above == (before > whole * (1 + 1e-7)).sum()
        # One multiplier for all that are free; less for what is held at its whole, more at zero.
        push = (x - before) / spread
        free = (x > 1e-9) & (x < whole * (1 - 1e-9))
        if free.any():
            assert np.ptp(push[free]) < 1e-6 * max(1.0, np.abs(push).max())
            assert (push[x >= whole * (1 - 1e-9)] <= push[free].max() + 1e-6).all()
            assert (push[x <= 1e-9] >= push[free].min() - 1e-6).all()


def test_only_counts_have_a_whole() -> None:
    keys = [("persons", "total"), ("persons", "poor"), ("usd_agi", "total"), ("usd_agi", "top")]
    keys += [("households", "owner")]
    assert wholes_of(keys, np.array([True, True, False, False, True])) == {1: 0}
