"""Factors by name: the kind asked for, or what is there instead."""

from __future__ import annotations

import pytest

from pipeline.errors import TargetError
from pipeline.specs.catalog import load_catalog
from pipeline.specs.factors import RatioFactor, SeriesFactor, factor_of


def test_a_factor_of_the_kind_asked_for_is_given() -> None:
    factors = load_catalog().factors
    series = next(f for f in factors.values() if isinstance(f, SeriesFactor))
    assert factor_of(factors, series.id, SeriesFactor) is series


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("nothing", "'nothing' is missing", id="unknown"),
        pytest.param("a series", "is of kind series", id="another-kind"),
    ],
)
def test_an_unknown_factor_and_one_of_another_kind_are_refused(name: str, words: str) -> None:
    factors = load_catalog().factors
    series = next(f for f in factors.values() if isinstance(f, SeriesFactor))
    with pytest.raises(TargetError, match=words) as caught:
        factor_of(factors, series.id if name == "a series" else name, RatioFactor)
    assert "RatioFactor" in str(caught.value)
