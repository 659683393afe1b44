"""What people are and do: origin, schooling, health, work, moving.

Belongs here: every personal attribute except money. Does not belong here: who lives with whom
(``composition.py``) or incomes (``income.py``). Codes are indices into the label tuples below; -1
means not in universe.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri

from pipeline.sample.composition import GQ_KINDS, Skeleton
from pipeline.sample.geography import Geography
from pipeline.sample.settings import SampleSettings

RACES = ("white", "black", "aian", "asian", "nhpi", "other", "two_or_more")
MARITAL = ("married", "widowed", "divorced", "separated", "never_married")
SCHOOLS = ("not_enrolled", "preschool", "kindergarten", "grades_1_8", "grades_9_12", "college")
EMPLOYMENT = ("employed", "unemployed", "armed_forces", "not_in_labor_force")
CLASSES = ("private", "government", "self_employed", "unpaid_family")
COMMUTES = ("drove_alone", "carpooled", "public_transit", "walked", "other_means", "worked_home")
MOVED = ("same_house", "different_house_us", "abroad")

Arrays = dict[str, np.ndarray]


def _pick(rng: np.random.Generator, shares: np.ndarray) -> np.ndarray:
    """Draw one category per row of ``shares`` (rows, categories; need not sum to one)."""
    total = np.cumsum(shares, axis=1)
    return (total < (rng.random(len(shares)) * total[:, -1])[:, None]).sum(axis=1)


def _origin(rng: np.random.Generator, s: Skeleton, g: Geography) -> Arrays:
    """Race, Hispanic origin, nativity, citizenship, language: drawn for the household, with
    exceptions inside it.
    """
    f, n_units, n = g.features, len(s.unit_tract), len(s.unit)
    t = s.unit_tract
    hispanic_unit = rng.random(n_units) < f["hispanic"][t]
    rest = np.clip(1.0 - f["black"] - f["asian"] - 0.055, 0.05, 1.0)
    shares = np.stack(
        [
            rest[t],
            f["black"][t],
            np.full(n_units, 0.006),
            f["asian"][t],
            np.full(n_units, 0.001),
            np.full(n_units, 0.015),
            np.full(n_units, 0.035),
        ],
        axis=1,
    )
    shares[hispanic_unit] = [0.27, 0.06, 0.015, 0.005, 0.001, 0.37, 0.28]
    race_unit = _pick(rng, shares)
    race, hispanic = race_unit[s.unit], hispanic_unit[s.unit]
    mixed = rng.random(n) < np.where(s.relationship == 3, 0.06, 0.03)
    race = np.where(
        mixed, _pick(rng, np.tile([0.45, 0.1, 0.01, 0.06, 0.002, 0.06, 0.3], (n, 1))), race
    )
    hispanic = hispanic ^ (rng.random(n) < 0.012)
    chance = np.select(
        [hispanic, race == 3, race == 1, race == 5], [0.40, 0.62, 0.14, 0.30], 0.055
    ) * np.clip(0.75 + 0.7 * f["urban"][t][s.unit], 0.5, 1.5)
    family = rng.random(n_units)[s.unit]
    foreign = np.where(rng.random(n) < 0.75, family, rng.random(n)) < chance * np.select(
        [s.age < 10, s.age < 25], [0.12, 0.45], 1.0
    )
    naturalized = foreign & (rng.random(n) < np.clip(0.15 + 0.0115 * s.age, 0, 0.8))
    other = rng.random(n) < np.select(
        [foreign & (race != 0), foreign, hispanic, race == 3], [0.88, 0.6, 0.58, 0.45], 0.035
    )
    return {
        "race": race,
        "hispanic": hispanic,
        "foreign_born": foreign,
        "naturalized": naturalized,
        "citizen": ~foreign | naturalized,
        "other_language": other,
    }


_ATTAINMENT = np.array([1, 8, 10, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24])
_SHARES = np.array(
    [
        0.012,
        0.012,
        0.012,
        0.010,
        0.012,
        0.014,
        0.018,
        0.225,
        0.04,
        0.06,
        0.135,
        0.085,
        0.215,
        0.105,
        0.02,
        0.025,
    ]
)


def _schooling(
    rng: np.random.Generator,
    s: Skeleton,
    standing: np.ndarray,
    foreign: np.ndarray,
    dorm: np.ndarray,
    student: np.ndarray,
) -> Arrays:
    """Attainment (ACS SCHL codes 1 to 24, 0 below age 3) and current enrolment."""
    n, a = len(s.unit), s.age
    score = (
        0.55 * standing
        + 0.83 * rng.normal(size=n)
        - 0.006 * np.clip(a - 45, -20, 40)
        - 0.35 * (foreign & (standing < 0))
    )
    cut = ndtri(np.cumsum(_SHARES)[:-1])
    adult = _ATTAINMENT[np.searchsorted(cut, score)]
    # Grades lag age by six years give or take one; codes 4..15 are grades 1..12.
    grade = np.clip(a - 6 + (rng.random(n) < 0.3), 0, 12)
    enrolled = np.select(
        [a < 3, a < 5, a == 5, a < 16, a < 18, dorm, a < 25, a < 35],
        [
            0.0,
            0.5,
            0.93,
            0.985,
            0.94,
            1.0,
            np.clip(0.26 + 0.20 * score + 0.45 * student, 0.02, 0.97),
            np.clip(0.08 + 0.04 * score, 0.01, 0.3),
        ],
        0.015,
    )
    enrolled = rng.random(n) < enrolled
    school = np.select(
        [
            a < 3,
            ~enrolled,
            a < 5,
            (a == 5),
            (a <= 13) | (grade <= 8),
            a <= 17,
            (a == 18) & ~dorm & (rng.random(n) < 0.55),
        ],
        [-1, 0, 1, 2, 3, 4, 4],
        5,
    )
    completed = np.select([grade <= 0], [3], 3 + np.clip(grade - 1, 0, 12))
    young = np.select(
        [a < 3, a < 5, a == 5], [0, np.where(enrolled, 2, 1), np.where(enrolled, 3, 2)], completed
    )
    limit = np.select([a < 18, a == 18, a < 21, a < 23, a < 26], [15, 18, 19, 20, 22], 24)
    schl = np.where(a < 18, young, np.minimum(adult, limit))
    schl = np.where((school == 5) & (schl < 16), 16 + 2 * (a > 18), schl)
    schl = np.where((school == 4) & (a >= 18), 14, schl)
    return {"schl": schl, "school": school, "score": score}


def _work(
    rng: np.random.Generator,
    s: Skeleton,
    g: Geography,
    p: Arrays,
    gq: np.ndarray,
    young_child: np.ndarray,
) -> Arrays:
    """Employment, weeks, hours, class of worker, commuting; universe age 16 and over."""
    n, a, t = len(s.unit), s.age, s.unit_tract[s.unit]
    f = g.features
    base = np.interp(
        a,
        [16, 18, 21, 24, 30, 50, 56, 61, 64, 67, 71, 78, 90],
        [0.24, 0.52, 0.74, 0.87, 0.92, 0.92, 0.85, 0.73, 0.54, 0.32, 0.20, 0.08, 0.01],
    )
    base = (
        base
        - 0.36 * p["disability"] * (a < 70)
        + 0.05 * np.clip(p["score"], -1.5, 1.5)
        - 0.14 * (p["school"] >= 4)
        - 0.14 * (s.female & young_child)
    )
    base = np.where(gq == GQ_KINDS.index("dorm"), 0.38, base)
    active = (a >= 16) & (rng.random(n) < np.clip(base, 0.0, 0.97))
    jobless = rng.random(n) < np.clip(0.045 - 0.022 * p["standing"] + 0.05 * (a < 22), 0.015, 0.2)
    military = (
        (a >= 18)
        & (a < 45)
        & (rng.random(n) < np.where(s.relationship <= 1, 1.4, 0.3) * f["military"][t] + 0.0015)
    )
    military = np.where(gq == GQ_KINDS.index("barracks"), True, military)
    inside = (gq == GQ_KINDS.index("nursing")) | (gq == GQ_KINDS.index("prison"))
    employment = np.select(
        [a < 16, inside, military, active & jobless, active], [-1, 3, 2, 1, 0], 3
    )
    at_work = ((employment == 0) | (employment == 2)) & (rng.random(n) < 0.972)
    worked = np.select(
        [employment == 0, employment == 2, employment == 1],
        [0.985, 1.0, 0.5],
        np.where((a >= 16) & (a < 72), 0.09, 0.015),
    ) > rng.random(n)
    worked &= (a >= 16) & ~inside
    full_year = rng.random(n) < np.select(
        [employment == 2, (employment == 0) & (a >= 25), employment == 0], [0.97, 0.85, 0.5], 0.08
    )
    weeks = np.where(
        worked, np.where(full_year, rng.integers(50, 53, n), rng.integers(4, 50, n)), 0
    )
    part = rng.random(n) < np.clip(
        0.10 + 0.5 * (p["school"] >= 4) + 0.25 * (a > 66) + 0.09 * s.female, 0, 0.9
    )
    hours = np.where(
        worked,
        np.where(part, rng.integers(8, 35, n), np.clip(np.round(rng.normal(41, 5, n)), 35, 80)),
        0,
    ).astype(np.int64)
    kind = _pick(
        rng,
        np.stack(
            [
                np.full(n, 0.76),
                np.full(n, 0.14),
                np.clip(0.045 + 0.0016 * (a - 30) + 0.02 * p["standing"], 0.01, 0.3),
                np.full(n, 0.002),
            ],
            axis=1,
        ),
    )
    in_class = (employment == 0) | (employment == 1) | worked
    class_of_worker = np.where((a >= 16) & in_class, np.where(employment == 2, 1, kind), -1)
    urban = f["urban"][t]
    commute = _pick(
        rng,
        np.stack(
            [
                np.full(n, 0.70) - 0.20 * urban * (p["standing"] < 0.3),
                0.085 - 0.02 * p["standing"].clip(-2, 2),
                0.01 + 0.075 * urban * (p["standing"] < 0.2) + 0.015 * urban,
                0.015
                + 0.04 * urban
                + 0.35 * (gq == GQ_KINDS.index("dorm"))
                + 0.10 * f["student"][t],
                np.full(n, 0.02),
                np.clip(0.10 + 0.08 * p["score"], 0.02, 0.4),
            ],
            axis=1,
        ).clip(0.003),
    )
    commute = np.where(at_work, commute, -1)
    minutes = np.clip(
        np.round(
            rng.gamma(2.2, 1.0, n)
            * np.select([commute == 2, commute == 3], [19, 6], 12 - 2.5 * urban)
        ),
        1,
        150,
    ).astype(np.int64)
    minutes = np.where((commute >= 0) & (commute < 5), minutes, 0)
    return {
        "employment": employment,
        "at_work": at_work,
        "weeks": weeks,
        "hours": hours,
        "class_of_worker": class_of_worker,
        "commute": commute,
        "minutes": minutes,
    }


def _marital(rng: np.random.Generator, s: Skeleton, unit_type: np.ndarray) -> np.ndarray:
    a, n = s.age, len(s.unit)
    couple = (s.relationship <= 1) & (unit_type == 0)
    never = np.interp(a, [18, 25, 35, 50, 70, 90], [0.995, 0.90, 0.55, 0.30, 0.10, 0.06])
    widowed = np.interp(a, [40, 60, 75, 85, 95], [0.005, 0.10, 0.42, 0.68, 0.80]) * np.where(
        s.female, 1.15, 0.6
    )
    u = rng.random(n)
    single = np.select(
        [
            (a < 15) | (u < never),
            u < never + (1 - never) * widowed,
            u < never + (1 - never) * (widowed + (1 - widowed) * 0.84),
        ],
        [4, 1, 2],
        3,
    )
    extra = (s.relationship == 5) & (a >= 50) & (rng.random(n) < 0.25)
    return np.where(couple | extra, 0, single)


def build_people(s: Skeleton, g: Geography, settings: SampleSettings) -> Arrays:
    """All personal attributes except money, one array per attribute, in the order of the skeleton's
    persons.

    ``standing`` (of the household) and ``score`` (of the person) are the latent advantages that
    incomes are drawn from.
    """
    rng = settings.stream("people")
    n, a, t = len(s.unit), s.age, s.unit_tract[s.unit]
    f = g.features
    gq = s.gq_kind[s.unit]
    p = _origin(rng, s, g)
    p["standing"] = (f["affluence"][s.unit_tract] + 0.65 * rng.normal(size=len(s.unit_tract)))[
        s.unit
    ]
    p |= _schooling(
        rng, s, p["standing"], p["foreign_born"], gq == GQ_KINDS.index("dorm"), f["student"][t]
    )
    risk = np.interp(
        a,
        [0, 4, 5, 17, 18, 34, 50, 64, 74, 85, 95],
        [0.006, 0.008, 0.05, 0.06, 0.06, 0.07, 0.11, 0.18, 0.24, 0.44, 0.62],
    )
    risk = np.where(
        gq == GQ_KINDS.index("nursing"),
        0.96,
        np.where(gq == GQ_KINDS.index("barracks"), 0.01, risk * np.exp(-0.38 * p["standing"])),
    )
    p["disability"] = rng.random(n) < risk
    own_infant = (
        np.bincount(s.unit[(s.relationship == 3) & (a == 0)], minlength=len(s.unit_tract)) > 0
    )
    small_child = (
        np.bincount(s.unit[(s.relationship == 3) & (a < 6)], minlength=len(s.unit_tract)) > 0
    )
    parent = s.relationship <= 2
    p |= _work(rng, s, g, p, gq, small_child[s.unit] & parent)
    unit_type = s.unit_type[s.unit]
    p["marital"] = _marital(rng, s, unit_type)
    p["gave_birth"] = (
        s.female & (a >= 15) & (a <= 50) & parent & (own_infant[s.unit] | (rng.random(n) < 0.004))
    )
    served = np.interp(
        a, [17, 25, 40, 60, 70, 80, 95], [0.0, 0.02, 0.045, 0.07, 0.14, 0.24, 0.26]
    ) * np.where(s.female, 0.18, 1.75)
    p["veteran"] = (
        (a >= 17) & (p["employment"] != 2) & (rng.random(n) < served * (1 + 2 * f["military"][t]))
    )
    mobility = np.clip(
        0.13
        - 0.0022 * (np.clip(a, 20, 75) - 45)
        + 0.10 * f["student"][t]
        + 0.05 * f["urban"][t]
        + 0.12 * f["military"][t],
        0.02,
        0.6,
    )
    u = np.where(rng.random(n) < 0.8, rng.random(len(s.unit_tract))[s.unit], rng.random(n))
    moved = np.where(u < np.where(np.isin(gq, [0, 1]), 0.55, mobility), 1, 0)
    moved = np.where(
        (moved == 1) & (rng.random(n) < np.where(p["foreign_born"], 0.22, 0.015)), 2, moved
    )
    p["moved"] = np.where(a < 1, -1, moved)
    return p
