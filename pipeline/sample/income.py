"""Money: incomes by source, poverty, tenure, food stamps, housing costs.

Belongs here: amounts in dollars of the settings' year, the official poverty thresholds, what
follows from income. Does not belong here: taxes (``taxes.py``). Capital gains and tax-exempt
interest exist here although no survey asks for them: they are what makes tax data differ from
survey data.
"""

from __future__ import annotations

import numpy as np

from pipeline.sample.composition import GQ_KINDS, Skeleton
from pipeline.sample.geography import Geography
from pipeline.sample.people import Arrays
from pipeline.sample.settings import SampleSettings

SOURCES = (
    *("wages", "self_employment", "investment_income", "social_security", "ssi"),
    *("public_assistance", "retirement", "unemployment_compensation", "other_income"),
)
OASDI_TYPES = (
    *("none", "retired_worker", "retired_spouse", "retired_child", "widow", "surviving_child"),
    *("disabled_worker", "disabled_spouse", "disabled_child"),
)

# Weighted average poverty thresholds 2022 by family size, US Census Bureau (one and two persons:
# under 65, 65 and over).
POVERTY_THRESHOLD = np.array(
    [0, 15225, 19690, 23280, 29950, 35510, 40160, 45690, 50670, 60300], dtype=float
)
_THRESHOLD_OLD = np.array([0, 14036, 17710], dtype=float)


def _round(amount: np.ndarray, step: int = 10) -> np.ndarray:
    return (np.round(amount / step) * step).astype(np.int64)


def _earnings(rng: np.random.Generator, s: Skeleton, p: Arrays) -> tuple[np.ndarray, np.ndarray]:
    n, a = len(s.unit), s.age
    premium = np.interp(
        p["schl"],
        [0, 12, 16, 18, 20, 21, 22, 24],
        [-0.35, -0.22, 0.0, 0.05, 0.14, 0.45, 0.62, 0.95],
    )
    mean = (
        10.82
        + premium
        - 0.00062 * (np.clip(a, 18, 75) - 49.0) ** 2
        + 0.20 * p["standing"]
        - 0.13 * s.female
        - 0.12 * p["disability"]
    )
    effort = np.log(np.maximum(p["weeks"], 1) / 52.0) + 0.9 * np.log(
        np.maximum(p["hours"], 1) / 40.0
    )
    worked = p["weeks"] > 0
    own = p["class_of_worker"] == 2
    incorporated = own & (rng.random(n) < 0.3)
    pay = np.exp(mean + effort + 0.52 * rng.normal(size=n))
    pay = pay * np.where(
        rng.random(n) < 0.009 * np.exp(1.2 * p["score"]), np.exp(rng.exponential(0.9, n)), 1.0
    )
    profit = np.exp(mean - 0.45 + 0.8 * effort + 0.95 * rng.normal(size=n))
    profit = np.where(rng.random(n) < 0.09, -rng.uniform(500, 15000, n), profit)
    side = worked & ~own & (rng.random(n) < 0.045)
    wages = np.where(worked & (~own | incorporated) & (p["class_of_worker"] != 3), pay, 0.0)
    self_employment = np.where(worked & own & ~incorporated, profit, 0.0) + np.where(
        side, np.exp(8.0 + 1.1 * rng.normal(size=n)), 0.0
    )
    return _round(np.minimum(wages, 1_400_000.0)), _round(np.minimum(self_employment, 1_200_000.0))


def _social_security(
    rng: np.random.Generator, s: Skeleton, p: Arrays, inside: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    n, a = len(s.unit), s.age
    working = (p["employment"] == 0) | (p["employment"] == 2)
    old = rng.random(n) < np.interp(
        a, [61, 62, 64, 66, 67, 70, 80], [0.0, 0.25, 0.36, 0.68, 0.80, 0.92, 0.95]
    ) * np.where(working & (a < 70), 0.6, 1.0)
    disabled = (a >= 20) & (a < 66) & p["disability"] & ~working & (rng.random(n) < 0.40)
    widow = (a >= 60) & (p["marital"] == 1) & (rng.random(n) < 0.35)
    minor = (a < 18) & (rng.random(n) < 0.032)
    kind = np.select(
        [inside, disabled, old & widow, old & s.female & (rng.random(n) < 0.07), old, widow, minor],
        [0, 6, 4, 2, 1, 4, rng.choice([3, 5, 5, 8, 8, 8], n)],
        0,
    )
    kind = np.where(inside & (a >= 65), 1, kind)
    amount = np.select(
        [kind == 0, kind == 6, np.isin(kind, [2, 4]), kind == 1], [0, 16200, 14800, 20800], 8600
    ) * np.exp(0.33 * rng.normal(size=n) + 0.08 * np.clip(p["score"], -2, 2))
    return kind, np.where(kind > 0, _round(np.clip(amount, 1200, 48000)), 0)


def build_income(
    s: Skeleton, g: Geography, p: Arrays, settings: SampleSettings
) -> tuple[Arrays, Arrays]:
    """Amounts per person and facts per unit.

    Persons: SOURCES, ``total_income``, ``interest``, ``dividends``, ``rent``, ``capital_gains``,
    ``exempt_interest``, ``ira`` (part of retirement), ``oasdi_type``, ``poverty_ratio`` (-1 not in
    universe). Surveys ask for incomes from age 15; benefits of younger children are in the arrays
    (SSA counts them) and are blanked by whoever writes a survey. Units: ``household_income``
    (members 15 and over), ``owner``, ``food_stamps``, ``mortgage``, ``home_value``, ``gross_rent``,
    ``computer``, ``broadband``.
    """
    rng = settings.stream("income")
    n, a, unit = len(s.unit), s.age, s.unit
    n_units = len(s.unit_tract)
    gq = s.gq_kind[unit]
    inside = (gq == GQ_KINDS.index("nursing")) | (gq == GQ_KINDS.index("prison"))
    m: Arrays = {}
    m["wages"], m["self_employment"] = _earnings(rng, s, p)
    m["oasdi_type"], m["social_security"] = _social_security(rng, s, p, inside)

    has = rng.random(n) < np.interp(
        a, [50, 58, 63, 66, 75], [0.01, 0.08, 0.28, 0.46, 0.52]
    ) * np.exp(0.28 * np.clip(p["score"], -2, 1.5))
    m["retirement"] = np.where(
        has & (a >= 40),
        _round(np.exp(9.75 + 0.30 * p["score"] + 0.85 * rng.normal(size=n)).clip(300, 260000)),
        0,
    )
    m["ira"] = np.where(rng.random(n) < 0.3, m["retirement"], 0)

    taste = 0.35 * p["standing"] + 0.25 * p["score"] + 0.012 * (a - 45)
    saver = (a >= 20) & ~inside & (rng.random(n) < np.clip(0.13 + 0.16 * taste, 0.01, 0.7))
    m["interest"] = np.where(
        saver, _round(np.exp(5.6 + 1.6 * rng.normal(size=n) + 0.5 * taste).clip(10, 150000)), 0
    )
    m["dividends"] = np.where(
        saver & (rng.random(n) < 0.5),
        _round(np.exp(7.3 + 1.5 * rng.normal(size=n) + 0.6 * taste).clip(10, 400000)),
        0,
    )
    landlord = (a >= 28) & (rng.random(n) < np.clip(0.025 + 0.018 * taste, 0.003, 0.15))
    m["rent"] = np.where(
        landlord,
        _round(
            np.where(
                rng.random(n) < 0.2,
                -rng.uniform(200, 9000, n),
                np.exp(8.8 + 0.8 * rng.normal(size=n)).clip(100, 90000),
            )
        ),
        0,
    )
    m["investment_income"] = m["interest"] + m["dividends"] + m["rent"]
    sells = (m["dividends"] > 0) & (rng.random(n) < 0.5) | ((a >= 30) & (rng.random(n) < 0.012))
    m["capital_gains"] = np.where(
        sells,
        _round(
            np.where(
                rng.random(n) < 0.25,
                -rng.uniform(50, 3000, n),
                np.exp(7.9 + 1.7 * rng.normal(size=n) + 0.6 * taste).clip(10, 2_500_000),
            )
        ),
        0,
    )
    m["exempt_interest"] = np.where(
        (m["dividends"] > 0) & (rng.random(n) < 0.12), _round(np.exp(7.5 + rng.normal(size=n))), 0
    )

    chance = np.select(
        [p["employment"] == 1, p["employment"] == 0, (a >= 18) & (a < 66)],
        [0.42, 0.022, 0.012],
        0.0,
    )
    m["unemployment_compensation"] = np.where(
        (rng.random(n) < chance) & ~inside & (a >= 18),
        _round(rng.gamma(1.6, 3000.0, n).clip(150, 24000)),
        0,
    )
    m["other_income"] = np.where(
        (a >= 18) & (rng.random(n) < 0.05),
        _round(np.exp(8.3 + rng.normal(size=n)).clip(100, 60000)),
        0,
    )

    own = np.sum([m[k] for k in SOURCES if k not in ("ssi", "public_assistance")], axis=0)
    before = np.bincount(unit, weights=own, minlength=n_units)[unit]
    working = (p["employment"] == 0) | (p["employment"] == 2)
    poor = (own < 13500) & (before < 48000) & ~inside
    chance = np.select(
        [a >= 65, a >= 18],
        [0.24 * np.exp(-0.5 * p["standing"]), np.where(p["disability"] & ~working, 0.62, 0.0)],
        np.where(p["disability"], 0.34, 0.0),
    )
    chance = np.where((gq == GQ_KINDS.index("nursing")), 0.12, chance * poor)
    m["ssi"] = np.where(
        rng.random(n) < chance,
        _round(
            np.clip(
                10092 - 0.55 * np.maximum(own, 0) * (own < 13500) - rng.exponential(1500, n),
                360,
                11400,
            )
        ),
        0,
    )
    kids = np.bincount(unit[a < 18], minlength=n_units)[unit]
    aided = (s.relationship == 0) & (
        rng.random(n)
        < np.where((before < 22000) & (kids > 0), 0.20, np.where(before < 16000, 0.035, 0.001))
    )
    m["public_assistance"] = np.where(aided, _round(rng.uniform(300, 6800, n)), 0)
    m["total_income"] = np.sum([m[k] for k in SOURCES], axis=0)
    asked = a >= 15

    u: Arrays = {}
    u["household_income"] = np.bincount(
        unit, weights=np.where(asked, m["total_income"], 0), minlength=n_units
    ).astype(np.int64)
    m["poverty_ratio"] = _poverty(s, m["total_income"] * asked)
    u |= _dwelling(rng, s, g, p, m, u["household_income"])
    return m, u


def _poverty(s: Skeleton, income: np.ndarray) -> np.ndarray:
    """Income of the family (reference person and relatives) or of the unrelated person, in percent
    of the threshold, 0 to 501.
    """
    n, n_units = len(s.unit), len(s.unit_tract)
    related = np.isin(s.relationship, [0, 1, 3, 4, 5])
    size = np.bincount(s.unit[related], minlength=n_units)
    total = np.bincount(s.unit[related], weights=income[related], minlength=n_units)
    head_age = np.zeros(n_units)
    head_age[s.unit[s.relationship == 0]] = s.age[s.relationship == 0]

    def ratio(money: np.ndarray, count: np.ndarray, age: np.ndarray) -> np.ndarray:
        line = POVERTY_THRESHOLD[np.clip(count, 1, 9)]
        line = np.where((count <= 2) & (age >= 65), _THRESHOLD_OLD[np.clip(count, 1, 2)], line)
        return np.clip(np.round(100.0 * money / line), 0, 501).astype(np.int64)

    family = ratio(total, size, head_age)[s.unit]
    alone = ratio(income, np.ones(n, dtype=np.int64), s.age)
    result = np.where(related, family, alone)
    barracks_or_inside = np.isin(s.gq_kind[s.unit], [0, 1, 2, 3])
    return np.where(barracks_or_inside | (~related & (s.age < 15)), -1, result)


def _dwelling(
    rng: np.random.Generator, s: Skeleton, g: Geography, p: Arrays, m: Arrays, income: np.ndarray
) -> Arrays:
    n_units = len(s.unit_tract)
    head = np.flatnonzero((s.relationship == 0) | (s.relationship >= 7))
    t = s.unit_tract
    age, standing = s.age[head], p["standing"][head]
    money = np.log(np.maximum(income, 4000) / 65000.0)
    score = (
        0.45
        + 0.045 * (np.clip(age, 20, 70) - 45)
        + 0.65 * money
        + g.features["owner"][t]
        + 0.35 * (s.unit_type == 0)
        - 0.6 * g.features["student"][t]
    )
    owner = (rng.random(n_units) < 1.0 / (1.0 + np.exp(-score))) & (s.unit_type >= 0)
    ratio = np.full(n_units, 300)
    ratio[s.unit[head]] = m["poverty_ratio"][head]
    aided = (
        np.bincount(
            s.unit, weights=(m["ssi"] > 0) | (m["public_assistance"] > 0), minlength=n_units
        )
        > 0
    )
    stamps = rng.random(n_units) < np.select(
        [aided, ratio < 100, ratio < 185], [0.70, 0.47, 0.25], 0.025
    )
    value = np.exp(
        12.65
        + 0.30 * g.features["affluence"][t]
        + 0.22 * standing
        + 0.12 * money
        + 0.35 * rng.normal(size=n_units)
    )
    rent = np.exp(
        7.10
        + 0.18 * g.features["affluence"][t]
        + 0.08 * standing
        + 0.08 * money
        + 0.28 * rng.normal(size=n_units)
    )
    computer = rng.random(n_units) < np.clip(
        0.985 - 0.004 * np.maximum(age - 60, 0) + 0.04 * money, 0.4, 0.995
    )
    return {
        "owner": owner,
        "mortgage": (
            owner & (rng.random(n_units) < np.interp(age, [30, 50, 65, 80], [0.9, 0.8, 0.45, 0.15]))
        ),
        "food_stamps": stamps & (s.unit_type >= 0),
        "home_value": np.where(owner, np.round(value / 1000) * 1000, 0).astype(np.int64),
        "gross_rent": (
            np.where(
                ~owner & (s.unit_type >= 0) & (rng.random(n_units) > 0.03),
                np.round(rent / 10) * 10,
                0,
            ).astype(np.int64)
        ),
        "computer": computer,
        "broadband": computer & (rng.random(n_units) < 0.95),
    }
