"""Who lives with whom: households by type, and the age, sex and relationship of every person.

Belongs here: the skeleton of the population (units and persons, group quarters included).
Does not belong here: race, schooling, work or money (``people.py``, ``income.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.sample.geography import Geography
from pipeline.sample.settings import SampleSettings

TYPES = (
    *("married", "cohabiting", "mother", "father"),
    *("woman_alone", "man_alone", "roommates", "relatives"),
)
BASE_SHARE = np.array([0.560, 0.065, 0.080, 0.025, 0.145, 0.115, 0.030, 0.045])
RELATIONSHIPS = (
    *("reference_person", "spouse", "unmarried_partner", "child", "grandchild"),
    *("other_relative", "nonrelative", "gq_institutional", "gq_noninstitutional"),
)
GQ_KINDS = ("dorm", "barracks", "nursing", "prison")
AGES = np.arange(18, 96)


@dataclass(frozen=True)
class Skeleton:
    """Units (households, then group-quarters persons as units of one) and persons.

    Per unit: ``unit_tract`` index of the tract, ``unit_type`` index into TYPES (-1 for group
    quarters), ``gq_kind`` index into GQ_KINDS or -1. Per person, sorted by unit and then by
    relationship: ``unit``, ``age`` in years, ``female`` bool, ``relationship`` index into
    RELATIONSHIPS.
    """

    unit_tract: np.ndarray
    unit_type: np.ndarray
    gq_kind: np.ndarray
    unit: np.ndarray
    age: np.ndarray
    female: np.ndarray
    relationship: np.ndarray


def _draw_rows(cumulative: np.ndarray, row: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Draw a category for each element from row ``row`` of ``cumulative`` (rows, categories; each
    row ends in 1).
    """
    flat = (cumulative + np.arange(len(cumulative))[:, None]).ravel()
    return np.minimum(
        np.searchsorted(flat, row + u, side="right") - row * cumulative.shape[1],
        cumulative.shape[1] - 1,
    )


def _cumulative(weights: np.ndarray) -> np.ndarray:
    total = np.cumsum(weights, axis=1)
    return total / total[:, -1:]


def _type_shares(geography: Geography) -> np.ndarray:
    f = geography.features
    one = np.ones(geography.count)
    tilt = np.stack(
        [
            np.exp(0.30 * f["affluence"] - 0.5 * f["urban"] - 1.2 * f["student"]),
            np.exp(-0.3 * f["age"] + 0.3 * f["urban"]),
            np.exp(-0.75 * f["affluence"] - 0.5 * f["age"] + np.log(f["kids"] + 1e-9)),
            np.exp(-0.50 * f["affluence"] - 0.4 * f["age"] + np.log(f["kids"] + 1e-9)),
            np.exp(0.45 * f["age"] + 0.2 * f["urban"]),
            np.exp(0.15 * f["age"] + 0.3 * f["urban"]),
            np.exp(-0.6 * f["age"] + 0.5 * f["urban"] + 1.9 * f["student"]),
            one * np.exp(-0.3 * f["affluence"] + 1.2 * f["hispanic"]),
        ],
        axis=1,
    )
    return _cumulative(BASE_SHARE * tilt)


def _age_shares(geography: Geography) -> np.ndarray:
    """Cumulative shares of the householder's age: (tract x type, ages 18..95)."""
    a = AGES[None, None, :].astype(float)
    centre = np.array([52, 37, 41, 42, 66, 52, 32, 50], dtype=float)[None, :, None]
    spread = np.array([17, 12, 10, 10, 17, 18, 13, 18], dtype=float)[None, :, None]
    base = np.exp(-0.5 * ((a - centre) / spread) ** 2) * np.clip((a - 17) / 9.0, 0.05, 1.0)
    tilt = np.exp(np.clip(geography.features["age"][:, None, None] * (a - 48) / 19.0, -4, 4))
    student = (
        1.0
        + 9.0
        * geography.features["student"][:, None, None]
        * ((a >= 19) & (a <= 25))
        * np.array([0.1, 0.6, 0.1, 0.1, 0.8, 0.8, 2.0, 0.3])[None, :, None]
    )
    return _cumulative((base * tilt * student).reshape(geography.count * len(TYPES), len(AGES)))


def _children(
    rng: np.random.Generator, head_age: np.ndarray, kind: np.ndarray, kids: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Own children at home: (household position, age). Every single parent has at least one."""
    mean = (
        np.select([kind == 0, kind == 1, kind == 2, kind == 3], [2.55, 0.85, 2.0, 1.7], 0.0) * kids
    )
    tries = np.minimum(rng.poisson(mean), 6)
    owner = np.repeat(np.arange(len(head_age)), tries)
    age = np.floor(head_age[owner] - rng.normal(29.5, 5.8, len(owner))).astype(np.int64)
    stays = np.select([age < 0, age < 18, age < 24, age < 35], [0.0, 0.97, 0.5, 0.16], 0.02)
    keep = (rng.random(len(owner)) < stays) & (head_age[owner] - age >= 15)
    owner, age = owner[keep], age[keep]
    lacking = np.flatnonzero(
        ((kind == 2) | (kind == 3)) & (np.bincount(owner, minlength=len(head_age)) == 0)
    )
    forced = np.clip(head_age[lacking] - 28 + rng.integers(-4, 5, len(lacking)), 0, 30)
    forced = np.minimum(forced, head_age[lacking] - 15)
    return np.concatenate([owner, lacking]), np.concatenate([age, forced])


@dataclass(frozen=True)
class _Heads:
    """Householders: ``kind`` index into TYPES, age and sex, and the features of their tracts."""

    kind: np.ndarray
    age: np.ndarray
    female: np.ndarray
    features: dict[str, np.ndarray]

    @property
    def count(self) -> int:
        return len(self.kind)


_Part = tuple[np.ndarray, np.ndarray, np.ndarray, int]
"""Persons of one relationship: their units, ages, whether female, and index into RELATIONSHIPS."""


def _partner(rng: np.random.Generator, heads: _Heads, kind: int, relationship: int) -> _Part:
    who = np.flatnonzero(heads.kind == kind)
    older = np.where(heads.female[who], 2.0, -2.0)
    age = np.clip(np.round(heads.age[who] + older + rng.normal(0, 4.0, len(who))), 18, 97)
    same_sex = rng.random(len(who)) < (0.012 if relationship == 1 else 0.08)
    return who, age.astype(np.int64), heads.female[who] == same_sex, relationship


def _grandchildren(rng: np.random.Generator, heads: _Heads) -> _Part:
    n = heads.count
    share = np.where(heads.age >= 47, 0.035 * np.exp(-0.6 * heads.features["affluence"]), 0.0)
    chance = share * np.isin(heads.kind, [0, 2, 4, 7])
    owner = np.repeat(np.arange(n), (rng.random(n) < chance) * (1 + rng.poisson(0.5, n)))
    age = np.minimum(rng.integers(0, 17, len(owner)), heads.age[owner] - 36)
    return owner, age, rng.random(len(owner)) < 0.49, 4


def _relatives(rng: np.random.Generator, heads: _Heads) -> _Part:
    """Parents and siblings of the householder, above all in households of relatives."""
    n, kind = heads.count, heads.kind
    crowd = np.exp(-0.4 * heads.features["affluence"] + 1.3 * heads.features["hispanic"])
    sharing, some = 1 + rng.poisson(0.45, n), (rng.random(n) < 0.045 * crowd) * 1
    count = np.where(kind == 7, sharing, some) * (kind != 4) * (kind != 5)
    owner = np.repeat(np.arange(n), count)
    m, head_age = len(owner), heads.age[owner]
    older = rng.random(m) < 0.45
    parent, sibling = head_age + rng.integers(20, 34, m), head_age + rng.integers(-14, 13, m)
    age = np.clip(np.where(older, parent, sibling), 4, 96).astype(np.int64)
    return owner, age, rng.random(m) < np.where(older, 0.68, 0.5), 5


def _roommates(rng: np.random.Generator, heads: _Heads) -> _Part:
    n, kind = heads.count, heads.kind
    sharing = 1 + rng.poisson(0.7 + 0.9 * heads.features["student"])
    some = (rng.random(n) < 0.012) * np.isin(kind, [0, 1, 2, 3, 7])
    owner = np.repeat(np.arange(n), np.where(kind == 6, sharing, some).astype(np.int64))
    age = np.clip(np.round(heads.age[owner] + rng.normal(0, 6, len(owner))), 17, 90)
    return owner, age.astype(np.int64), rng.random(len(owner)) < 0.47, 6


_STUDENT_AGES = ([18, 19, 20, 21, 22, 23], [0.30, 0.30, 0.20, 0.13, 0.05, 0.02])
_GQ_FEMALE = {"dorm": 0.54, "barracks": 0.15, "nursing": 0.67, "prison": 0.08}


def _residents(rng: np.random.Generator, kind: str, start: int, size: int) -> _Part:
    """Residents of one kind of group quarters, a unit each from ``start`` on."""
    # All four are drawn whatever the kind: numbers drawn later, and so the files, depend on it.
    ages = {
        "dorm": rng.choice(_STUDENT_AGES[0], size, p=_STUDENT_AGES[1]),
        "barracks": np.clip(19 + rng.exponential(4.0, size), 18, 45),
        "nursing": np.clip(np.round(rng.normal(82, 9, size)), 45, 99),
        "prison": np.clip(20 + rng.exponential(16.0, size), 18, 78),
    }
    female = rng.random(size) < _GQ_FEMALE[kind]
    relationship = 8 if kind in ("dorm", "barracks") else 7
    return start + np.arange(size), ages[kind].astype(np.int64), female, relationship


def build_skeleton(geography: Geography, settings: SampleSettings) -> Skeleton:
    """Draw households tract by tract, their members, then the residents of dormitories, barracks,
    nursing homes and prisons.
    """
    rng = settings.stream("composition")
    tract = np.repeat(np.arange(geography.count), geography.sizes["households"])
    n = len(tract)
    kind = _draw_rows(_type_shares(geography), tract, rng.random(n))
    head_age = AGES[_draw_rows(_age_shares(geography), tract * len(TYPES) + kind, rng.random(n))]
    of_one_sex = [kind == 2, kind == 3, kind == 4, kind == 5]
    head_female = np.select(of_one_sex, [1.0, 0.0, 1.0, 0.0], 0.47) > rng.random(n)
    features = {name: values[tract] for name, values in geography.features.items()}
    heads = _Heads(kind, head_age, head_female, features)

    parts: list[_Part] = [(np.arange(n), head_age, head_female, 0)]
    parts += [_partner(rng, heads, 0, 1), _partner(rng, heads, 1, 2)]
    owner, child_age = _children(rng, head_age, kind, features["kids"])
    parts.append((owner, child_age, rng.random(len(owner)) < 0.488, 3))
    parts += [_grandchildren(rng, heads), _relatives(rng, heads), _roommates(rng, heads)]

    unit_tract, unit_type, gq_kind = [tract], [kind], [np.full(n, -1)]
    for code, name in enumerate(GQ_KINDS):
        where = np.repeat(np.arange(geography.count), geography.sizes[name])
        parts.append(_residents(rng, name, sum(map(len, unit_tract)), len(where)))
        unit_tract.append(where)
        unit_type.append(np.full(len(where), -1))
        gq_kind.append(np.full(len(where), code))

    unit = np.concatenate([part[0] for part in parts])
    relationship = np.concatenate([np.full(len(part[0]), part[3]) for part in parts])
    order = np.lexsort((np.arange(len(unit)), relationship, unit))
    return Skeleton(
        unit_tract=np.concatenate(unit_tract),
        unit_type=np.concatenate(unit_type),
        gq_kind=np.concatenate(gq_kind),
        unit=unit[order],
        age=np.maximum(np.concatenate([part[1] for part in parts])[order], 0),
        female=np.concatenate([part[2] for part in parts])[order],
        relationship=relationship[order],
    )
