"""Federal income tax returns of the true population, tax year 2022.

Belongs here: filing units, who files, adjusted gross income, taxable Social Security, deductions,
credits and tax, written independently of the pipeline's own tax units so that the sample can check
them. Does not belong here: publishing (``irs.py``).

Law: IRC sections 1, 24, 32, 63, 86 with the amounts of Revenue Procedure 2021-45. Left out on
purpose: preferential rates, the alternative minimum tax, itemised deductions by item.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pipeline.sample.people import Arrays
from pipeline.sample.population import Population, unit_names

STATUSES = ("single", "joint", "head_of_household")
STANDARD_DEDUCTION = np.array([12950.0, 25900.0, 19400.0])
_AGED = np.array([1750.0, 1400.0, 1750.0])
_RATES = np.array([0.10, 0.12, 0.22, 0.24, 0.32, 0.35, 0.37])
_BRACKETS = np.array(
    [
        [0, 10275, 41775, 89075, 170050, 215950, 539900],
        [0, 20550, 83550, 178150, 340100, 431900, 647850],
        [0, 14650, 55900, 89050, 170050, 215950, 539900],
    ],
    dtype=float,
)
# Upper bounds of the ten classes of adjusted gross income in Historic Table 2.
AGI_UPPER = np.array(
    [1, 10_000, 25_000, 50_000, 75_000, 100_000, 200_000, 500_000, 1_000_000], dtype=float
)
# Earned income credit by children 0, 1, 2, 3+: maximum, income at the maximum, start of the phase-
# out (single), phase-out rate.
_EITC = np.array(
    [
        [560, 7320, 9160, 0.0765],
        [3733, 10980, 20130, 0.1598],
        [6164, 15410, 20130, 0.2106],
        [6935, 15410, 20130, 0.2106],
    ]
)


def taxable_social_security(
    benefits: np.ndarray, other_income: np.ndarray, joint: np.ndarray
) -> np.ndarray:
    """Taxable part of Social Security, IRC section 86.

    ``benefits`` and ``other_income`` (AGI without benefits, plus tax-exempt interest) in dollars.
    Up to half is taxable above 25,000 (32,000 joint) of provisional income, up to 85 % above 34,000
    (44,000).
    """
    first, second = np.where(joint, 32000.0, 25000.0), np.where(joint, 44000.0, 34000.0)
    provisional = other_income + 0.5 * benefits
    half = np.minimum(0.5 * benefits, 0.5 * np.maximum(provisional - first, 0.0))
    lower = np.minimum(half, 0.5 * (second - first))
    upper = 0.85 * np.maximum(provisional - second, 0.0) + lower
    return np.where(provisional > second, np.minimum(upper, 0.85 * benefits), half)


def income_tax(taxable: np.ndarray, status: np.ndarray) -> np.ndarray:
    """Ordinary tax on ``taxable`` income for ``status`` (index into STATUSES), IRC section 1, 2022
    brackets.
    """
    edges = _BRACKETS[status]
    steps = np.diff(np.concatenate([[0.0], _RATES]))
    return (np.maximum(taxable[:, None] - edges, 0.0) * steps).sum(axis=1)


def earned_income_credit(
    earned: np.ndarray,
    agi: np.ndarray,
    children: np.ndarray,
    joint: np.ndarray,
    investment: np.ndarray,
    eligible: np.ndarray,
) -> np.ndarray:
    """Earned income credit, IRC section 32: phase-in to the maximum, then out on the larger of
    earnings and AGI.
    """
    top, full, start, rate = _EITC[np.minimum(children, 3)].T
    start = start + np.where(joint, 6130.0, 0.0)
    credit = top * np.clip(earned / full, 0.0, 1.0) - rate * np.maximum(
        np.maximum(earned, agi) - start, 0.0
    )
    return np.where(eligible & (investment <= 10300.0) & (earned > 0), np.maximum(credit, 0.0), 0.0)


def _filing_units(
    population: Population, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Tax unit of every person, and whether the person is a dependent in it.

    Reference person and spouse file together; own children and grandchildren under 19, or under 24
    at college, and relatives with little income depend on them; an unmarried partner and every
    other adult is a unit of one.
    """
    p = population.persons
    r, a, n = p["relationship"], p["age"], len(p["age"])
    gross = (
        p["wages"]
        + np.maximum(p["self_employment"], 0)
        + np.maximum(p["investment_income"], 0)
        + p["retirement"]
        + p["unemployment_compensation"]
    )
    child = np.isin(r, [3, 4]) & ((a < 19) | ((a < 24) & (p["school"] == 5)))
    relative = (r == 5) & (gross < 4400) & (rng.random(n) < 0.75)
    other_minor = np.isin(r, [5, 6]) & (a < 18)
    dependent = child | relative | other_minor
    with_head = (r <= 1) | dependent
    # One key for each unit: the household for the reference person's unit, the person for the rest.
    key = np.where(with_head, p["unit"], population.unit_count + np.arange(n))
    _, unit = np.unique(key, return_inverse=True)
    return unit, dependent


def build_tax_units(population: Population) -> pl.DataFrame:
    """One row per filing unit (dependents with a return of their own included), dollars of the tax
    year.

    Columns:

    * household_id, tract (of residence), filing_tract (of the return's address), county_fips and
      state_fips (of filing_tract), filing_status, is_filer, is_dependent_return;
    * persons, individuals (0 on a dependent's own return), elderly (primary taxpayer of 60 or
      over), children (under 17), agi_class (1 to 10 as text), itemizes;
    * incomes: wages, interest, dividends, business, capital_gains, ira, pensions,
      unemployment_compensation, social_security, taxable_social_security, rent, other_income;
    * the return: adjustments, total_income, agi, deduction, standard_deduction,
      itemized_deduction, taxable_income, tax_before_credits, credits, income_tax,
      self_employment_tax, total_tax, eitc, child_credit, additional_child_credit;
    * sums that are published: retirement (ira + pensions), self_employment (business),
      investment_income (interest + dividends).
    """
    settings, p = population.settings, population.persons
    rng = settings.stream("taxes")
    unit, dependent = _filing_units(population, rng)
    a, member = p["age"], ~dependent
    count = int(unit.max()) + 1
    first = np.zeros(count, dtype=np.int64)
    order = np.lexsort((np.arange(len(unit)), dependent, unit))
    heads = order[np.unique(unit[order], return_index=True)[1]]
    first[unit[heads]] = heads

    def total(values: np.ndarray, who: np.ndarray) -> np.ndarray:
        return np.bincount(unit[who], weights=values[who], minlength=count)

    x: Arrays = _incomes(p, total, member)
    own = dependent & ((p["wages"] > 0) | (p["interest"] + p["dividends"] > 1150))
    own &= rng.random(len(a)) < np.where(p["wages"] > 12950, 0.95, 0.42)
    extra = _incomes(p, lambda values, _who: values[own].astype(float), own)
    x = {k: np.concatenate([v, extra[k]]) for k, v in x.items()}
    person = np.concatenate([first, np.flatnonzero(own)])
    alone = own.sum()
    status = np.where(
        total(np.ones(len(a)), member) >= 2,
        1,
        np.where(total(np.ones(len(a)), dependent & (a < 24)) > 0, 2, 0),
    )
    status = np.concatenate([status, np.zeros(alone, dtype=np.int64)])
    young = np.concatenate([total(np.ones(len(a)), dependent & (a < 17)), np.zeros(alone)]).astype(
        np.int64
    )
    claimed = np.concatenate([total(np.ones(len(a)), dependent), np.zeros(alone)]).astype(np.int64)
    elderly = np.concatenate([total(a >= 65, member), np.zeros(alone)]).astype(np.int64)
    members = np.concatenate([total(np.ones(len(a)), member), np.ones(alone)]).astype(np.int64)
    depends = np.arange(len(person)) >= count
    dorm = (population.skeleton.gq_kind[p["unit"][person]] == 0) & (rng.random(len(person)) < 0.8)
    y = _returns(x, status, young, claimed - young, elderly, a[person], depends | dorm)

    gross = (
        x["wages"]
        + np.maximum(x["business"], 0)
        + x["interest"]
        + x["dividends"]
        + np.maximum(x["capital_gains"], 0)
        + x["ira"]
        + x["pensions"]
    )
    gross = (
        gross
        + x["unemployment_compensation"]
        + np.maximum(x["rent"], 0)
        + y["taxable_social_security"]
    )
    must = (gross >= y["standard_deduction"]) | (x["business"] >= 400)
    chance = np.select([depends, must, x["wages"] > 0, gross > 0], [1.0, 0.965, 0.74, 0.24], 0.07)
    prison_or_nursing = p["relationship"][person] == 7
    files = (rng.random(len(person)) < np.where(prison_or_nursing, 0.25 * chance, chance)) & (
        a[person] >= 15
    )
    tract = population.unit_tract[p["unit"][person]]
    filing = _filing_tract(population, rng, tract, p["unit"][person])
    g = population.geography
    return pl.DataFrame(
        {
            "household_id": unit_names(population)[p["unit"][person]],
            "tract": g.tract[tract],
            "filing_tract": g.tract[filing],
            "county_fips": g.county[filing],
            "state_fips": g.state[filing],
            "filing_status": np.array(STATUSES)[status],
            "is_filer": files,
            "is_dependent_return": depends | dorm,
            "persons": members + claimed,
            "individuals": np.where(depends | dorm, 0, members + claimed),
            "elderly": a[person] >= 60,
            "children": young,
            "agi_class": 1 + np.searchsorted(AGI_UPPER, y["agi"], side="right"),
            **x,
            **y,
            "retirement": x["ira"] + x["pensions"],
            "self_employment": x["business"],
            "investment_income": x["interest"] + x["dividends"],
        }
    ).with_columns(pl.col("agi_class").cast(pl.String))


def _incomes(
    p: Arrays, total: Callable[[np.ndarray, np.ndarray], np.ndarray], who: np.ndarray
) -> Arrays:
    pensions = p["retirement"] - p["ira"]
    business = np.where(
        p["self_employment"] > 0, np.round(0.78 * p["self_employment"]), p["self_employment"]
    )
    parts = {
        "wages": np.round(
            0.955 * p["wages"]
        ),  # salary deferrals and premiums are not taxable wages
        "interest": p["interest"],
        "dividends": p["dividends"],
        "rent": p["rent"],
        "business": business,  # depreciation and under-reporting
        "capital_gains": p["capital_gains"],
        "exempt_interest": p["exempt_interest"],
        "ira": p["ira"],
        "pensions": np.round(0.93 * pensions),
        "unemployment_compensation": p["unemployment_compensation"],
        "social_security": p["social_security"],
        "other_income": np.round(0.25 * p["other_income"]),
    }
    x = {name: total(values, who).astype(float) for name, values in parts.items()}
    x["capital_gains"] = np.maximum(x["capital_gains"], -3000.0)
    return x


def _returns(
    x: Arrays,
    status: np.ndarray,
    young: np.ndarray,
    others: np.ndarray,
    elderly: np.ndarray,
    age: np.ndarray,
    claimed: np.ndarray,
) -> Arrays:
    joint = status == 1
    y: Arrays = {}
    y["self_employment_tax"] = np.round(
        np.where(x["business"] >= 434, 0.153 * 0.9235 * x["business"], 0.0)
    )
    y["adjustments"] = np.round(0.5 * y["self_employment_tax"]) + np.where(
        x["wages"] > 30000, np.round(0.002 * x["wages"]), 0.0
    )
    names = (
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
    )
    before = sum(x[k] for k in names)
    y["taxable_social_security"] = np.round(
        taxable_social_security(
            x["social_security"], before - y["adjustments"] + x["exempt_interest"], joint
        )
    )
    y["total_income"] = before + y["taxable_social_security"]
    y["agi"] = y["total_income"] - y["adjustments"]
    earned = x["wages"] + np.maximum(x["business"], 0.0)
    standard = STANDARD_DEDUCTION[status] + _AGED[status] * elderly
    y["standard_deduction"] = np.where(claimed, np.clip(earned + 400.0, 1150.0, standard), standard)
    itemised = np.round(
        0.085 * np.maximum(y["agi"], 0.0) * np.where(y["agi"] > 90000, 1.0, 0.35)
        + np.where(y["agi"] > 120000, 11000.0, 1500.0)
    )
    y["itemizes"] = itemised > y["standard_deduction"]
    y["itemized_deduction"] = np.where(y["itemizes"], itemised, 0.0)
    y["deduction"] = np.where(y["itemizes"], itemised, y["standard_deduction"])
    y["taxable_income"] = np.maximum(y["agi"] - y["deduction"], 0.0)
    y["tax_before_credits"] = np.round(income_tax(y["taxable_income"], status))
    phase_out = 0.05 * np.maximum(y["agi"] - np.where(joint, 400000.0, 200000.0), 0.0)
    credit = np.maximum(2000.0 * young + 500.0 * others - phase_out, 0.0)
    y["child_credit"] = np.minimum(credit, y["tax_before_credits"])
    left = np.maximum(np.minimum(credit - y["child_credit"], 1500.0 * young), 0.0)
    y["additional_child_credit"] = np.round(
        np.minimum(left, 0.15 * np.maximum(earned - 2500.0, 0.0))
    )
    y["credits"] = np.minimum(
        y["child_credit"]
        + np.where(y["taxable_income"] > 60000, np.round(0.004 * y["tax_before_credits"]), 0.0),
        y["tax_before_credits"],
    )
    y["income_tax"] = y["tax_before_credits"] - y["credits"]
    y["total_tax"] = y["income_tax"] + y["self_employment_tax"]
    eligible = ~claimed & ((young > 0) | ((age >= 25) & (age < 65)))
    investment = x["interest"] + x["dividends"] + np.maximum(x["capital_gains"], 0.0)
    y["eitc"] = np.round(earned_income_credit(earned, y["agi"], young, joint, investment, eligible))
    return y


def _filing_tract(
    population: Population, rng: np.random.Generator, tract: np.ndarray, unit: np.ndarray
) -> np.ndarray:
    """Returns carry the filing address: half of the students in dormitories file from a home
    elsewhere in the state, 0.6 % of others too.
    """
    g = population.geography
    dorm = population.skeleton.gq_kind[unit] == 0
    moves = rng.random(len(tract)) < np.where(dorm, 0.5, 0.006)
    target = tract.copy()
    for state in np.unique(g.state):
        homes = np.flatnonzero((g.state == state) & g.populated)
        who = np.flatnonzero(moves & (g.state[tract] == state))
        target[who] = homes[rng.integers(0, len(homes), len(who))]
    return target
