"""``data_specs/alignment.yaml``: its keys are variables, its steps need their targets."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pipeline.errors import SpecError
from pipeline.specs.alignment import STEPS, TOP_CLASSES, Control, WageRule, load_alignment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.references import check_profile


def test_every_control_and_watched_figure_is_a_variable() -> None:
    rules, variables = load_alignment(), load_catalog().variables
    keys = [key for step in STEPS for key in rules.keys_of(step)] + rules.watched_keys
    assert [key for key in keys if key not in variables] == []
    assert ("usd_partnership", "agi_200000_499999") in keys
    assert ("returns", "with_capital_gains_agi_1_9999") in keys


def test_classes_are_those_of_the_tax_rules() -> None:
    rules = load_alignment()
    assert list(rules.classes) == [str(number) for number in range(1, 11)]
    assert [rules.classes[name] for name in TOP_CLASSES] == [
        "agi_500000_999999",
        "agi_1000000_plus",
    ]


def test_benefit_groups_do_not_overlap() -> None:
    import polars as pl

    people = pl.DataFrame(
        [(age, sex) for age in range(0, 100) for sex in ("male", "female")],
        schema={"age": pl.Int32, "sex": pl.String},
        orient="row",
    )
    for benefit in load_alignment().benefits:
        inside = people.select(
            pl.sum_horizontal(pl.sql_expr(group.where).cast(pl.Int32) for group in benefit.groups)
        ).to_series()
        assert (inside == 1).all(), benefit.amount


def test_a_control_is_signed_and_completed_by_a_class() -> None:
    control = Control(plus=("usd_a", "returns/with_b"), minus=("usd_c/total",))
    assert list(control.signed("k")) == [
        (("usd_a", "k"), 1.0),
        (("returns", "with_b_k"), 1.0),
        (("usd_c", "total_k"), -1.0),
    ]
    assert list(Control(plus=("usd_c/total",)).signed()) == [(("usd_c", "total"), 1.0)]


def test_a_wage_band_that_ends_before_it_begins_is_refused() -> None:
    with pytest.raises(ValidationError, match="exceed"):
        WageRule.model_validate({"from": 10, "up_to": 5, "dollars": {"plus": ["usd_wages/total"]}})


def test_a_step_without_its_target_file_is_refused_by_name() -> None:
    catalog = load_catalog()
    profile = catalog.profile("rhode_island")
    assert set(profile.records.steps) == set(STEPS)
    fewer = tuple(name for name in profile.targets if name != "state_oasdi_tables")
    with pytest.raises(SpecError, match="ssa_benefits is controlled by persons/oasdi"):
        check_profile(catalog, profile.model_copy(update={"targets": fewer}))


def test_the_sample_takes_no_step() -> None:
    assert load_catalog().profile("sample").records.steps == ()
