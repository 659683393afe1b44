"""Measures of fit and of weights, against answers worked out by hand."""

import polars as pl
import pytest

from pipeline.reports.fit import summary_by, weight_summary, with_errors, worst_targets
from tests.pipeline.weights.toy_state import tables, targets


def test_errors_and_margins_by_hand():
    frame = (
        targets(tables())
        .head(2)
        .with_columns(
            value=pl.Series([100.0, 0.4]),
            published_value=pl.Series([90.0, 0.0]),
            published_standard_error=pl.Series(
                [100.0, 50.0]
            ),  # widened by carrying, which is no part of a margin
            margin_standard_error=pl.Series([10.0, 5.0]),
            fitted=pl.Series([110.0, 3.0]),
            margin_published=pl.lit(True),
        )
    )
    rows = with_errors(frame)
    assert rows["absolute_relative_error"].to_list() == [pytest.approx(0.1), None]
    assert rows["inside_margin"].to_list() == [True, True]
    assert rows["inside_published"].to_list() == [False, True]
    assert summary_by(frame, "fitted")["zero_targets"].sum() == 1
    assert worst_targets(frame).height == 1


def test_without_a_published_margin_a_target_is_neither_inside_nor_outside():
    frame = (
        targets(tables())
        .head(1)
        .with_columns(margin_standard_error=pl.lit(None, pl.Float64), fitted=pl.col("value"))
    )
    rows = with_errors(frame)
    assert (rows["inside_margin"][0], rows["inside_published"][0]) == (None, None)
    assert summary_by(frame, "fitted")["with_published_margin"][0] == 0
    assert worst_targets(frame)["errors_in_se"][0] is None


def test_weight_summary_by_hand():
    summary = weight_summary(
        pl.DataFrame({"household_id": ["a", "a", "b"], "weight": [1.0, 1.0, 2.0]})
    )
    assert summary["pairs"] == 3
    assert summary["records"] == 2
    assert summary["ess"] == pytest.approx(16 / 6)
    assert summary["design_effect"] == pytest.approx(3 / (16 / 6))
    assert summary["largest_weight_share"] == pytest.approx(0.5)
