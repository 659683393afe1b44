"""What only the CPS asks of the sample's people: kinds of other income and of retirement income,
health insurance, SNAP benefits, housing and energy aid.

Belongs here: these items of the whole population, so that their truth is known. Does not belong
here: the CPS file (``cps.py``), or amounts that other surveys ask for too (``income.py``).

They are drawn from a stream of their own after everything else: no other file knows of them. Shares
and amounts are invented, near what the real surveys have.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.sample.people import Arrays
from pipeline.sample.population import Population

STREAM = "items of the CPS alone"
OTHER_KINDS = (
    *("child_support", "alimony", "veterans_payments", "workers_compensation"),
    *("educational_assistance", "financial_assistance", "anything_else"),
)
RETIREMENT_KINDS = ("pensions", "annuities", "survivor_benefits", "disability_benefits")


@dataclass(frozen=True)
class LentItems:
    """``persons`` (persons,) and ``units`` (units,): dollars, or true and false, by item."""

    persons: Arrays
    units: Arrays


def lent_items(population: Population) -> LentItems:
    """The items of everybody; deterministic for given settings."""
    rng = population.settings.stream(STREAM)
    p, unit = population.persons, population.skeleton.unit
    minors = np.bincount(unit[p["age"] < 18], minlength=population.unit_count)
    persons = _other_income(rng, p, minors[unit] > 0) | _retirement(rng, p)
    persons |= _insurance(rng, population)
    return LentItems(persons, _aid(rng, population, minors))


def _drawn(rng: np.random.Generator, chances: np.ndarray) -> np.ndarray:
    """A kind for each, int64 (n,), by ``chances`` (kinds, n), which need not add up to 1."""
    steps = np.cumsum(chances, axis=0)
    return np.sum(rng.random(chances.shape[1]) * steps[-1] >= steps, axis=0)


def _other_income(rng: np.random.Generator, p: Arrays, with_children: np.ndarray) -> Arrays:
    """Each amount of other income is of one kind, which hangs on who has it."""
    a, woman, veteran = p["age"], p["female"], p["veteran"]
    apart = np.isin(p["marital"], [2, 3, 4])
    one = np.ones(len(a))
    chances = np.array(
        [
            np.where(with_children & apart, np.where(woman, 6.0, 1.0), 0.05),
            np.where((p["marital"] == 2) & woman, 0.4, 0.02),
            np.where(veteran, 8.0, 0.05),
            np.where((a < 67) & (p["weeks"] < 50), 0.5, 0.1),
            np.where(p["school"] >= 4, 4.0, 0.05),
            0.3 * one,
            0.5 * one,
        ]
    )
    kind = _drawn(rng, chances)
    return {name: np.where(kind == k, p["other_income"], 0) for k, name in enumerate(OTHER_KINDS)}


def _retirement(rng: np.random.Generator, p: Arrays) -> Arrays:
    """Withdrawals are what the population has as ``ira``; the rest is of one kind, and one pension
    in eight has an annuity of a fifth of it beside.
    """
    a, rest = p["age"], p["retirement"] - p["ira"]
    widowed, one = p["marital"] == 1, np.ones(len(a))
    chances = np.array(
        [
            6.0 * one,
            0.5 * one,
            np.where(widowed & p["female"], 3.0, 0.1),
            np.where(p["disability"] & (a < 67), 3.0, 0.05),
        ]
    )
    kind = _drawn(rng, chances)
    made = {name: np.where(kind == k, rest, 0) for k, name in enumerate(RETIREMENT_KINDS)}
    beside = np.where(rng.random(len(a)) < 0.125, made["pensions"] // 50 * 10, 0)
    made["pensions"], made["annuities"] = made["pensions"] - beside, made["annuities"] + beside
    return made | {"retirement_withdrawals": p["ira"]}


def _insurance(rng: np.random.Generator, population: Population) -> Arrays:
    p = population.persons
    a, ratio = p["age"], np.where(p["poverty_ratio"] < 0, 100, p["poverty_ratio"])
    draw = rng.random((4, len(a)))
    full_time = (p["weeks"] >= 40) & (p["hours"] >= 35) & (p["class_of_worker"] <= 1)
    # A household's best job covers its children, and most spouses.
    covered_jobs = full_time & (
        draw[0] < np.interp(ratio, [0, 150, 300, 500], [0.2, 0.5, 0.8, 0.9])
    )
    unit = population.skeleton.unit
    somebody = np.bincount(unit[covered_jobs], minlength=population.unit_count)[unit] > 0
    employer = covered_jobs | (somebody & (a < 65) & (draw[1] < np.where(a < 18, 0.9, 0.6)))
    medicare = (a >= 65) & (draw[1] < 0.96) | ((a >= 18) & (p["oasdi_type"] == 6))
    chance = np.interp(ratio, [0, 138, 200, 300], [0.75, 0.6, 0.25, 0.03]) * np.where(
        a < 18, 1.2, 0.8
    )
    medicaid = ~employer & (draw[2] < chance) & (a < 65) | (p["ssi"] > 0)
    market = ~employer & ~medicare & ~medicaid & (draw[3] < 0.35)
    private, public = employer | market, medicare | medicaid
    return {
        "health_insurance": private | public,
        "private_insurance": private,
        "employer_insurance": employer,
        "marketplace_insurance": market,
        "public_insurance": public,
        "medicare": medicare,
        "medicaid": medicaid,
    }


def _aid(rng: np.random.Generator, population: Population, minors: np.ndarray) -> Arrays:
    u, size, home = population.units, population.unit_size, population.is_household
    head = population.head
    ratio = np.where(population.persons["poverty_ratio"][head] < 0, 300, 1)
    ratio = np.where(ratio == 1, population.persons["poverty_ratio"][head], ratio)
    draw = rng.random((4, len(size)))
    # Near the maximum allotment of 2022 (939 dollars a month for four), less for who earns.
    most = 2_000.0 + 2_300.0 * np.minimum(size, 6)
    share = np.clip(1.0 - ratio / 260.0, 0.1, 1.0) * (0.5 + 0.5 * draw[0])
    snap = np.where(u["food_stamps"], np.round(most * share / 12) * 12, 0).astype(np.int64)
    renter = home & ~u["owner"]
    poor = np.interp(ratio, [0, 100, 200, 300], [0.35, 0.3, 0.1, 0.0])
    public = renter & (draw[1] < 0.45 * poor)
    rent = renter & ~public & (draw[1] < poor)
    cold = np.interp(ratio, [0, 150, 200], [0.22, 0.15, 0.01]) * np.where(
        u["food_stamps"], 1.5, 0.8
    )
    energy = home & (draw[2] < cold)
    value = np.where(energy, np.round((200 + 700 * draw[3]) / 10) * 10, 0).astype(np.int64)
    return {
        "snap_benefits": snap,
        "public_housing": public,
        "rent_subsidy": rent,
        "energy_assistance": energy,
        "energy_benefits": value,
    }
