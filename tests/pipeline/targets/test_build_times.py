"""Columns that count one month, and amounts that speak of the year after their vintage."""

from __future__ import annotations

import pytest

from pipeline.errors import TargetError
from tests.pipeline.targets.toy_tables import TRACT, build, cells, only

RELATIVE = {"rule": "relative", "share": 0.1, "why": "a test"}
MONTH = {"variable": "usd_income", "domain": "total", "column": "A", "standard_error": RELATIVE}


def test_a_month_times_twelve_with_its_error() -> None:
    row = only(build([MONTH | {"times": 12}], cells((TRACT, "A", 100.0, None))))
    assert row["value"] == 1_200 and row["standard_error"] == pytest.approx(120)
    assert row["carry_rule"] == "none" and row["carry_factor"] == 1


def test_a_year_ahead_is_carried_back_to_a_target_of_the_vintages_own_year() -> None:
    # The series has 2018 and 2022 only: a vintage of 2018 that speaks of 2019 has no value there.
    carry = {"rule": "cpi", "relative_error": 0.03, "why": "a test"}
    ahead = MONTH | {"years_ahead": 1, "carry": carry}
    with pytest.raises(TargetError, match="2019"):
        build([ahead], cells((TRACT, "A", 100.0, None)))
    same = only(build([ahead | {"years_ahead": 0}], cells((TRACT, "A", 100.0, None))))
    assert same["value"] == 100
