"""The sample's own tax code against worked examples, and the population of returns."""

import numpy as np
import polars as pl
import pytest

from pipeline.sample.files import Folder
from pipeline.sample.generate import read_truth
from pipeline.sample.irs import write_county
from pipeline.sample.taxes import earned_income_credit, income_tax, taxable_social_security


@pytest.mark.parametrize(
    ("benefits", "other", "joint", "taxable"),
    [
        pytest.param(20000, 10000, False, 0, id="below the first threshold"),
        pytest.param(20000, 18000, False, 1500, id="half of the excess over 25,000"),
        # Provisional 45,000: 0.85 x 11,000 + 4,500 = 13,850, less than 85 % of the benefits.
        pytest.param(20000, 35000, False, 13850, id="between"),
        pytest.param(20000, 90000, False, 17000, id="85 % at most"),
        pytest.param(30000, 20000, True, 1500, id="joint, first threshold 32,000"),
        pytest.param(4000, 40000, False, 3400, id="small benefits"),
    ],
)
def test_taxable_social_security_follows_section_86(benefits, other, joint, taxable):
    got = taxable_social_security(
        np.array([benefits], float), np.array([other], float), np.array([joint])
    )
    assert got[0] == pytest.approx(taxable)


@pytest.mark.parametrize(
    ("taxable", "status", "tax"),
    [
        (10275, 0, 1027.5),
        (50000, 0, 1027.5 + 0.12 * 31500 + 0.22 * 8225),
        (83550, 1, 2055 + 0.12 * 63000),
        (0, 2, 0.0),
        (700000, 0, 162718.0 + 0.37 * 160100),
    ],
)
def test_income_tax_follows_the_brackets_of_2022(taxable, status, tax):
    assert income_tax(np.array([taxable], float), np.array([status]))[0] == pytest.approx(tax)


@pytest.mark.parametrize(
    ("earned", "children", "joint", "credit"),
    [
        (15410, 2, False, 6164),
        (7320, 0, False, 560),
        (20130 + 10000, 1, False, 3733 - 1598),
        (60000, 1, False, 0),
        (0, 2, True, 0),
    ],
)
def test_earned_income_credit_at_its_corners(earned, children, joint, credit):
    one = np.array([True])
    got = earned_income_credit(
        np.array([earned], float),
        np.array([earned], float),
        np.array([children]),
        np.array([joint]),
        np.zeros(1),
        one,
    )
    assert got[0] == pytest.approx(credit, abs=7)  # published tables round the phase-in


def test_returns_leave_the_gap_that_life_leaves(folder):
    truth = read_truth(folder)
    filed = truth.tax_units.filter("is_filer")
    persons = truth.persons.height
    assert 0.40 < filed.height / persons < 0.52
    assert 0.70 < filed["individuals"].sum() / persons < 0.92
    assert truth.tax_units.height - filed.height > 0.1 * filed.height
    assert filed["is_dependent_return"].sum() > 300
    assert (filed["filing_tract"] != filed["tract"]).sum() > 100
    survey = truth.persons["wages"].sum()
    assert 0.90 < filed["wages"].sum() / survey < 0.97
    benefits = truth.persons["social_security"].sum()
    assert 0.2 < filed["taxable_social_security"].sum() / benefits < 0.6


def test_a_return_adds_up(folder):
    t = read_truth(folder).tax_units
    parts = [
        "wages",
        "interest",
        "dividends",
        "rent",
        "business",
        "capital_gains",
        "ira",
        "pensions",
        "unemployment_compensation",
        "other_income",
    ]
    assert (
        t.select(pl.sum_horizontal(*parts, "taxable_social_security")).to_series()
        - t["total_income"]
    ).abs().max() < 0.5
    assert ((t["total_income"] - t["adjustments"]) - t["agi"]).abs().max() < 0.5
    assert (t["taxable_social_security"] <= 0.85 * t["social_security"] + 0.5).all()
    assert (t["income_tax"] >= 0).all()
    bounds = (
        t.with_columns(pl.col("agi_class").cast(pl.Int32))
        .group_by("agi_class")
        .agg(pl.col("agi").min().alias("low"), pl.col("agi").max().alias("high"))
        .sort("agi_class")
    )
    assert (bounds["high"][:-1] < bounds["low"][1:]).all()
    assert bounds.filter(pl.col("agi_class") == 3).select(
        pl.col("low") >= 10_000, pl.col("high") < 25_000
    ).row(0) == (True, True)


def test_a_county_writes_0_for_fewer_than_20_returns_and_their_amount(folder, settings, tmp_path):
    filed = read_truth(folder).tax_units.filter("is_filer")
    write_county(Folder(tmp_path), filed.gather_every(20), settings)
    path = tmp_path / f"irs/{settings.year % 100}incyallnoagi.csv"
    rows = pl.read_csv(path, encoding="latin-1").filter(pl.col("COUNTYFIPS") > 0)
    items = [name for name in rows.columns if name[0] == "N" and len(name) == 6]
    counts = rows.select(*items, "MARS1", "MARS2", "MARS4", "ELDERLY").unpivot()["value"]
    assert (counts == 0).any()
    assert counts.filter(counts > 0).min() >= 20
    for name in items:
        assert (rows[f"A{name[1:]}"].filter(rows[name] == 0) == 0).all()
