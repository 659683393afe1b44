"""The models of single spec files: what they compute and what they refuse."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.errors import TargetError
from pipeline.specs.factors import FACTOR_ADAPTER, SeriesFactor
from pipeline.specs.profiles import Budget
from pipeline.specs.targets import CarryRule, StandardErrorRule, TargetItem
from pipeline.specs.variables import Variable

SERIES = {
    "id": "x",
    "kind": "series",
    "title": "An index",
    "publisher": "A bureau",
    "url": "https://example.gov",
    "unit": "index",
}


def test_changes_chain_into_an_index() -> None:
    cola = SeriesFactor(**SERIES, percent_changes={2013: 1.7, 2014: 1.5})
    assert cola.factor(2012, 2014) == pytest.approx(1.017 * 1.015)
    assert cola.factor(2014, 2013) == pytest.approx(1 / 1.015)


@given(st.floats(1.0, 1e4), st.floats(1.0, 1e4), st.floats(1.0, 1e4))
def test_factors_chain(a: float, b: float, c: float) -> None:
    series = SeriesFactor(**SERIES, values={1: a, 2: b, 3: c})
    assert series.factor(1, 2) * series.factor(2, 3) == pytest.approx(series.factor(1, 3))


def test_a_missing_year_names_series_and_address() -> None:
    with pytest.raises(TargetError, match=r"Series x has no value for 2030.*https://example.gov"):
        SeriesFactor(**SERIES, values={2018: 1.0}).factor(2018, 2030)


@pytest.mark.parametrize(
    "form",
    [
        pytest.param({"values": {2018: 1.0}, "percent_changes": {2018: 1.0}}, id="both"),
        pytest.param({}, id="neither"),
        pytest.param({"values": {2018: 0.0}}, id="zero"),
        pytest.param({"percent_changes": {2018: 1.0, 2020: 1.0}}, id="gap"),
    ],
)
def test_malformed_series_are_refused(form: dict) -> None:
    with pytest.raises(ValidationError):
        SeriesFactor(**SERIES, **form)


def test_growth_must_run_forwards() -> None:
    point = {"source": "s", "vintage": "2018", "column": "c", "year": 2018}
    with pytest.raises(ValidationError, match="after the start"):
        FACTOR_ADAPTER.validate_python(
            {
                "id": "g",
                "kind": "growth",
                "title": "t",
                "area": "state",
                "start": point,
                "end": point,
            }
        )


def test_one_rule_several_rules_and_none() -> None:
    assert CarryRule(rule="cpi_u", why="w").rule == ("cpi_u",)
    assert CarryRule(rule=["population", "cpi_u"], why="w").rule == ("population", "cpi_u")
    assert CarryRule(rule="none", why="w").rule == ()


@pytest.mark.parametrize("origin", [{}, {"column": "a", "sum": {"plus": ["b"]}}])
def test_an_item_has_exactly_one_origin(origin: dict) -> None:
    with pytest.raises(ValidationError, match="exactly one"):
        TargetItem(variable="persons", domain="total", **origin)


@pytest.mark.parametrize("rule", ["relative", "rounding"])
def test_a_standard_error_rule_needs_a_size(rule: str) -> None:
    with pytest.raises(ValidationError, match="needs a"):
        StandardErrorRule(rule=rule, why="w")


def test_a_variable_no_record_expresses_says_why() -> None:
    common = {
        "variable": "households",
        "domain": "broadband",
        "label": "l",
        "unit": "households",
        "family": "f",
    }
    assert not Variable(**common, over=None, not_expressible="no record holds it").expressible
    for faulty in ({"over": None}, {"over": "households", "not_expressible": "why"}):
        with pytest.raises(ValidationError, match="not_expressible"):
            Variable(**common, **faulty)


def test_the_budget_is_checked() -> None:
    with pytest.raises(ValidationError, match="minimum_pairs exceeds"):
        Budget(pairs_per_area=10, minimum_pairs=20)
