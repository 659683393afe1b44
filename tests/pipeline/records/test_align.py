"""The steps on toy records: what they change, what they leave, and that nothing hangs on order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.align import ALIGNMENT_SCHEMA, Task, align_records, changes_by_origin
from pipeline.records.controls import controls_of
from pipeline.records.design_totals import design_totals
from pipeline.records.tax_units import build_tax_units
from pipeline.specs.alignment import LOWER_CLASSES, STEPS, TOP_CLASSES, Control, load_alignment
from pipeline.specs.catalog import load_catalog
from pipeline.specs.variables import Variable

RULES = load_alignment()
YEAR = 2022


@pytest.fixture
def homes(make: Callable) -> tuple[pl.DataFrame, pl.DataFrame]:
    """120 households of two adults and a child, drawn once: incomes to 900,000 dollars."""
    rng = np.random.default_rng(5)
    made = {}
    for number in range(120):
        age = int(rng.integers(20, 90))
        wages = float(np.round(np.exp(rng.normal(10.8, 1.0)), 0)) if age < 67 else 0.0
        if number < 6:
            wages = 500_000.0 + 60_000.0 * number
        made[f"h{number:03d}"] = [
            {
                "age": age,
                "wages": wages,
                "self_employment": float(rng.choice([0, 0, 30_000])),
                "investment_income": float(rng.choice([0, 0, 4_000])),
                "retirement": 12_000.0 if age > 62 and number % 2 else 0.0,
                "social_security": 14_000.0 if age > 66 and number % 3 else 0.0,
                "ssi": 8_000.0 if number % 11 == 0 else 0.0,
                "disability": bool(number % 7 == 0),
                "poverty_ratio": int(rng.integers(20, 500)),
            },
            {"relationship": "other_relative", "age": 70, "sex": "female", "employment": None},
            {"age": int(rng.integers(1, 18)), "employment": None, "school": "grades_1_8"},
        ]
    return make(made)


def targets_for(persons: pl.DataFrame, growth: float = 2.0) -> pl.DataFrame:
    """State targets that the toy records miss; population is ``growth`` times design weights."""
    weight = persons["design_weight"].sum()
    people = {
        "ssi_age_under_18": 200,
        "ssi_age_18_64": 100,
        "ssi_age_65_plus": 60,
        "oasdi": 1_500,
        "oasdi_male_age_65_plus": 400,
        "oasdi_female_age_65_plus": 900,
        "oasdi_age_under_18": 150,
    }
    rows = [("persons", domain, float(value)) for domain, value in people.items()]
    rows += [("persons", "total", growth * weight)]
    dollars = {"age_under_18": 1.8e6, "age_18_64": 0.9e6, "age_65_plus": 0.4e6}
    rows += [("usd_ssi", domain, value) for domain, value in dollars.items()]
    oasdi = {"total": 30e6, "male_age_65_plus": 9e6, "female_age_65_plus": 18e6}
    rows += [("usd_oasdi", d, v) for d, v in (oasdi | {"age_under_18": 1.2e6}).items()]
    rows += [("usd_wages", "total", 150e6), ("usd_retirement", "total", 15e6)]
    for name in LOWER_CLASSES:
        domain = RULES.classes[name]
        rows += [
            ("usd_partnership", domain, -1e5 if name == "1" else 1e5 * int(name)),
            ("usd_self_employment", domain, 2e5),
            ("usd_capital_gains", domain, 4e4 * int(name)),
            ("usd_investment", domain, 3e5),
            ("usd_rent_royalty", domain, -1e5),
            ("returns", f"with_partnership_{domain}", 40.0),
            ("returns", f"with_capital_gains_{domain}", 60.0),
        ]
    for name, count, mean in (("9", 120.0, 660_000.0), ("10", 40.0, 2_500_000.0)):
        domain = RULES.classes[name]
        rows += [("returns", domain, count), ("usd_agi", domain, count * mean)]
        for control in RULES.tail.amounts.values():
            rows += [(key[0], domain, count * mean * 0.25) for key, _ in control.signed(domain)]
    variable, domain, value = zip(*dict.fromkeys(rows), strict=True)
    return pl.DataFrame(
        {"variable": variable, "domain": domain, "published_value": value}
    ).with_columns(level=pl.lit("state"), geoid=pl.lit("44"))


def task(persons: pl.DataFrame, *steps: str, targets: pl.DataFrame | None = None) -> Task:
    found = targets_for(persons) if targets is None else targets
    return Task(steps or STEPS, RULES, found, load_catalog().variables, "44", YEAR, 3)


def totals(persons: pl.DataFrame, households: pl.DataFrame, *keys: tuple[str, str]) -> list[float]:
    """Design-weighted totals, times the growth of the toy's population."""
    catalog = load_catalog()
    units = build_tax_units(persons, YEAR)[0]
    tables = {"persons": persons, "households": households, "tax_units": units}
    found = design_totals(tables, [catalog.variables[key] for key in keys])[0]
    return [2.0 * total for total in found["total"]]


def test_benefits_meet_persons_within_half_a_weight_and_dollars_exactly(homes) -> None:
    persons, households = homes
    made = align_records(persons, households, task(persons, "ssa_benefits")).persons
    keys = [("persons", "ssi_age_under_18"), ("persons", "oasdi_female_age_65_plus")]
    keys += [("usd_ssi", "age_18_64"), ("usd_oasdi", "total")]
    children, women, ssi, oasdi = totals(made, households, *keys)
    # Records weigh 10, times growth of 2: half a weight is 10.
    assert abs(children - 200) <= 10 and abs(women - 900) <= 10
    assert ssi == pytest.approx(0.9e6) and oasdi == pytest.approx(30e6)


def test_who_loses_ssi_has_social_security_first(homes) -> None:
    persons, households = homes
    found = targets_for(persons)
    none = (pl.col("domain") == "ssi_age_18_64") & (pl.col("variable") == "persons")
    more = (pl.col("domain") == "oasdi") & (pl.col("variable") == "persons")
    figure = pl.when(none).then(20.0).when(more).then(1_900.0).otherwise("published_value")
    fewer = found.with_columns(figure.alias("published_value"))
    made = align_records(persons, households, task(persons, "ssa_benefits", targets=fewer)).persons
    lost = (made["ssi_reported"] > 0) & (made["ssi"] == 0) & (made["age"] < 65)
    assert lost.sum() > 3
    assert (made.filter(lost)["social_security"] > 0).all()


def test_returns_hold_what_the_irs_counts(homes) -> None:
    persons, households = homes
    run = task(persons, "taxable_wages", "return_income")
    made = align_records(persons, households, run).persons
    classes = [RULES.classes[name] for name in ("6", "7")]
    keys = [("usd_wages", "total"), ("usd_retirement", "total")]
    keys += [("usd_partnership", domain) for domain in classes]
    wages, retirement, *partnership = totals(made, households, *keys)
    assert wages == pytest.approx(150e6, rel=1e-4)
    assert retirement == pytest.approx(15e6, rel=1e-4)
    assert partnership == pytest.approx([6e5, 7e5], rel=1e-3)


def test_the_tail_has_count_and_sum_of_its_classes_and_keeps_ranks(homes) -> None:
    persons, households = homes
    made = align_records(persons, households, task(persons, "top_tail")).persons
    domains = [RULES.classes[name] for name in TOP_CLASSES]
    counts = totals(made, households, *(("returns", domain) for domain in domains))
    dollars = totals(made, households, *(("usd_agi", domain) for domain in domains))
    assert counts == [120, 40]
    assert dollars == pytest.approx([120 * 660_000, 40 * 2_500_000])
    before, after = (build_tax_units(p, YEAR)[0].filter("is_filer") for p in (persons, made))
    top = before.sort("agi", descending=True).head(8)["household_id"].to_list()
    assert after.sort("agi", descending=True).head(8)["household_id"].to_list() == top


def test_rows_in_another_order_give_the_same_records(homes) -> None:
    persons, households = homes
    run = task(persons)
    first = align_records(persons, households, run)
    shuffled = persons.sample(fraction=1.0, shuffle=True, seed=2)
    again = align_records(shuffled, households, run)
    assert first.persons.equals(again.persons) and first.table.equals(again.table)
    assert first.notes == again.notes


def test_steps_are_taken_in_their_own_order(homes) -> None:
    persons, households = homes
    forward = align_records(persons, households, task(persons, *STEPS))
    backward = align_records(persons, households, task(persons, *reversed(STEPS)))
    assert forward.persons.equals(backward.persons)


def test_what_was_reported_stays_beside_what_was_aligned(homes) -> None:
    persons, households = homes
    made = align_records(persons, households, task(persons)).persons
    plain = persons.sort("household_id", "person_number")
    for name in ("social_security", "ssi", "retirement", "self_employment", "investment_income"):
        assert made[f"{name}_reported"].equals(plain[name].rename(f"{name}_reported"))
        changed = made[name].fill_null(0.0) != plain[name].fill_null(0.0)
        assert (made[f"{name}_origin"] != "reported").equals(changed.rename(f"{name}_origin"))
    for name in ("wages", "total_income", "poverty_ratio"):
        assert made[name].equals(plain[name])
    gains = made.filter(pl.col("capital_gains") != 0)["capital_gains_origin"]
    assert set(gains) == {"aligned", "donated"}
    counted = changes_by_origin(made)
    assert counted.filter(pl.col("amount") == "capital_gains")["persons"].sum() == gains.len()


def test_the_table_shows_every_step_before_and_after(homes) -> None:
    persons, households = homes
    table = align_records(persons, households, task(persons)).table
    assert table.schema == pl.Schema(ALIGNMENT_SCHEMA)
    assert table["step"].unique(maintain_order=True).to_list() == list(STEPS)
    row = table.row(
        by_predicate=(pl.col("step") == "ssa_benefits")
        & (pl.col("variable") == "usd_oasdi")
        & (pl.col("domain") == "total"),
        named=True,
    )
    assert row["controls"] and row["published"] == 30e6 and row["after"] == pytest.approx(30e6)
    before = 2.0 * float((persons["social_security"].fill_null(0.0) * 10).sum())
    assert row["before"] == pytest.approx(before)


def test_a_withheld_control_leaves_the_group_as_reported(homes) -> None:
    persons, households = homes
    held = pl.col("domain") == "ssi_age_under_18"
    targets = targets_for(persons).with_columns(
        pl.when(held).then(None).otherwise("published_value").alias("published_value")
    )
    made = align_records(persons, households, task(persons, "ssa_benefits", targets=targets))
    assert made.persons.filter((pl.col("age") < 15) & (pl.col("ssi") > 0)).is_empty()
    assert any(note.code == "control_withheld" for note in made.notes)


def test_a_control_that_is_no_target_is_refused_by_name(homes) -> None:
    persons, households = homes
    targets = targets_for(persons).filter(pl.col("domain") != "ssi_age_18_64")
    with pytest.raises(RecordsError, match="ssi_age_18_64"):
        align_records(persons, households, task(persons, "ssa_benefits", targets=targets))


def test_differences_of_controls_are_signed(homes) -> None:
    controls = controls_of(targets_for(homes[0]), "44")
    rest = Control(plus=("persons/oasdi",), minus=("persons/oasdi_male_age_65_plus",))
    assert controls.figure(rest) == 1_100
    by_class = Control(plus=("usd_investment", "usd_rent_royalty"))
    assert controls.figure(by_class, RULES.classes["3"]) == pytest.approx(2e5)


def test_steps_see_the_ages_of_the_target_year_and_weights_stay_the_surveys(homes) -> None:
    """Old persons grow threefold, others by half: SSA's count is met with these weights."""
    persons, households = homes
    old = pl.col("age") >= 65
    weighs = [
        persons.filter(old)["design_weight"].sum(),
        persons.filter(~old)["design_weight"].sum(),
    ]
    grown = {"old": 3.0 * weighs[0], "young": 1.5 * weighs[1]}
    goal = targets_for(persons, growth=sum(grown.values()) / sum(weighs))
    ages = goal.head(2).with_columns(
        variable=pl.lit("persons"),
        domain=pl.Series(list(grown)),
        published_value=pl.Series(list(grown.values()), dtype=pl.Float64),
    )
    of_age = {"old": "age >= 65", "young": "age < 65"}
    groups = tuple(
        Variable(
            variable="persons",
            domain=d,
            label=d,
            unit="persons",
            over="persons",
            where=where,
            family="age",
        )
        for d, where in of_age.items()
    )
    asked = replace(task(persons, "ssa_benefits", targets=pl.concat([goal, ages])), groups=groups)
    made = align_records(persons, households, asked)
    key = ["household_id", "person_number"]
    kept = made.persons.select(*key, "design_weight").sort(key)
    assert kept.equals(persons.select(*key, "design_weight").sort(key))
    row = made.table.filter((pl.col("domain") == "ssi_age_65_plus") & pl.col("controls"))
    takers = made.persons.filter(old & (pl.col("ssi") > 0))["design_weight"].sum()
    assert row["after"][0] == pytest.approx(3.0 * takers)
    assert row["after"][0] == pytest.approx(row["published"][0], rel=0.25)
