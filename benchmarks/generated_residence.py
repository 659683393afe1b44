"""Where the households of a made-up state live: every record stands for many, spread over the
tracts of its PUMA.

The model, for record h and tract t of one PUMA:

    N_ht ~ Poisson(v_h p_ht),   p_ht = s_t exp(theta_t . f_h) / sum over tracts of the same
    v_h = d_h g_h,  g_h gamma with mean 1 and variance c (1 - 1/d)

d_h is the published weight, g_h the error of having sampled one household in d, s_t what makes
tracts as large as they should be. theta_t follows from the features of the tract's kind, its county
and itself, plus smooth noise along the tracts. All tables are counts of N or samples of it, so
microdata and tables come from one model, and no inhabitant is written down.

Belongs here: these weights. Does not belong here: attributes of records
(``pipeline/sample``), sampling and files.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from benchmarks.generated_settings import facts
from pipeline.sample.composition import GQ_KINDS
from pipeline.sample.people import RACES
from pipeline.sample.population import Population, build_population
from pipeline.sample.residence import Residence
from pipeline.sample.settings import SampleSettings

# How strongly tracts follow their features: at 1 they would be as different as the households of
# their own records, and few records could live in two tracts.
_TEMPER = 0.7
# Standard deviation of theta's own noise, for features in standard deviations, and how much of it
# the next tract shares.
_NOISE, _SMOOTH = 0.12, 0.7
# c of the model: 1 would be the error of a sample without controls. Weights of real samples are
# controlled to known populations; and with half of the error a tract is not left to a few records.
_SAMPLED = 0.5
# Published weights of households vary by this share, as in the one-year PUMS.
_WEIGHT_CV = 0.3
# Sizes of tracts vary by this share beyond those of their kinds.
_SIZE_CV = 0.25
_ROUNDS = 4
# Households in which a race is found at least, not Hispanic: one race in a thousand households is
# in none of 1,500 records in a third of all states. Real states have people of every race, and the
# category step of reconciling ends without a result where a whole state has none of one.
_LEAST_OF_A_RACE = 8
# Households of a tract of the usual kind (``data_specs/sample.yaml``), which sizes are relative to.
_USUAL = 620.0


@dataclass(frozen=True)
class MadeUp:
    """A made-up state. ``weight`` (units,) is the design weight d of every record."""

    population: Population
    weight: np.ndarray


def build_state(settings: SampleSettings) -> MadeUp:
    """The records of ``settings`` and where the households live that they stand for."""
    records = _of_every_race(build_population(settings))
    weight, residence = _residence(records)
    return MadeUp(replace(records, residence=residence), weight)


def _of_every_race(records: Population) -> Population:
    """The same, where households of white people alone are of another race if too few are; such
    changes are drawn, and none is made where every race is found often enough.
    """
    p, unit = records.persons, records.skeleton.unit
    race, rng = p["race"].copy(), records.settings.stream("races")
    white = np.ones(records.unit_count, dtype=bool)
    white[unit[(race != 0) | p["hispanic"]]] = False
    free = list(rng.permutation(np.flatnonzero(white & records.is_household)))
    for number in range(1, len(RACES)):
        there = len(np.unique(unit[(race == number) & ~p["hispanic"]]))
        taken = [free.pop() for _ in range(min(max(0, _LEAST_OF_A_RACE - there), len(free)))]
        race[np.isin(unit, taken)] = number
    return replace(records, persons={**p, "race": race})


def _residence(records: Population) -> tuple[np.ndarray, Residence]:
    g, settings = records.geography, records.settings
    rng = settings.stream("residence")
    size = np.where(g.populated, g.sizes["households"] / (_USUAL * settings.scale), 0.0)
    size = size * rng.lognormal(-0.5 * _SIZE_CV**2, _SIZE_CV, g.count)
    size *= facts().households_per_tract * np.count_nonzero(size) / size.sum()
    theta, features = _theta(records, rng), _features(records)
    pumas, of_tract = np.unique(g.puma, return_inverse=True)
    of_unit = of_tract[records.unit_tract]
    by_puma = np.argsort(of_unit, kind="stable")
    edges = np.searchsorted(of_unit[by_puma], np.arange(len(pumas) + 1))
    weight = np.zeros(records.unit_count)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for puma in range(len(pumas)):
        units = by_puma[edges[puma] : edges[puma + 1]]
        tracts = np.flatnonzero((of_tract == puma) & g.populated)
        home = units[records.is_household[units]]
        expansion = size[tracts].sum() / len(home)
        weight[units] = expansion * _varied(rng, _WEIGHT_CV**2, len(units))
        weight[home] *= size[tracts].sum() / weight[home].sum()
        spread = max(_SAMPLED * (1.0 - 1.0 / expansion), 0.05)
        lived = weight[units] * _varied(rng, spread, len(units))
        for who, share in _places(records, units, tracts, features, theta, size):
            times = rng.poisson(lived[who][:, None] * share)
            at, where = np.nonzero(times.T)[::-1]
            parts.append((units[who][at], tracts[where], times[at, where]))
    unit, tract, times = (np.concatenate(each) for each in zip(*parts, strict=True))
    return weight, Residence(unit, tract, times, records.unit_count, g.count)


def _places(
    records: Population,
    units: np.ndarray,
    tracts: np.ndarray,
    features: np.ndarray,
    theta: np.ndarray,
    size: np.ndarray,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of one PUMA: places in ``units`` and p_ht (those units, tracts), for households and for each
    kind of group quarters.
    """
    held = np.flatnonzero(records.is_household[units])
    score = features[units[held]] @ theta[tracts].T
    tilt = np.exp(score - score.max(axis=1, keepdims=True))
    wanted, factor = size[tracts] / size[tracts].sum(), np.ones(len(tracts))
    for _ in range(_ROUNDS):
        share = tilt * factor
        share /= share.sum(axis=1, keepdims=True)
        factor *= wanted / np.maximum(share.mean(axis=0), 1e-9)
    made = [(held, share)]
    for kind, name in enumerate(GQ_KINDS):
        who = np.flatnonzero(records.skeleton.gq_kind[units] == kind)
        if len(who):
            beds = records.geography.sizes[name][tracts].astype(float)
            made.append((who, np.tile(beds / beds.sum(), (len(who), 1))))
    return made


def _varied(rng: np.random.Generator, variance: float, count: int) -> np.ndarray:
    """Gamma numbers with mean 1."""
    return rng.gamma(1.0 / variance, variance, count)


def _features(records: Population) -> np.ndarray:
    """What tracts tilt households by, (units, 9): rows of group quarters are not used."""
    p, head, s = records.persons, records.head, records.skeleton
    race = p["race"][head]
    college = records.count_by_unit(p["school"] == 5) > 0
    armed = records.count_by_unit(p["employment"] == 2) > 0
    own_child = (s.relationship == 3) & (s.age < 18)
    columns = (
        p["standing"][head],
        (s.age[head] - 48.0) / 19.0,
        p["hispanic"][head],
        race == 1,
        race == 3,
        np.minimum(records.count_by_unit(own_child), 4),
        records.units["owner"],
        college,
        armed,
    )
    return np.stack([np.asarray(column, dtype=float) for column in columns], axis=1)


def _theta(records: Population, rng: np.random.Generator) -> np.ndarray:
    """theta (tracts, 9). The main part is the slope of the logarithm of how often a household with
    a feature lives in a tract of these features, as the sample's generator draws them
    (``composition.py``, ``people.py``, ``income.py``): for a normal feature mean / variance, for a
    share the logarithm of the odds.
    """
    f = records.geography.features

    def odds(share: np.ndarray) -> np.ndarray:
        inside = np.clip(share, 0.005, 0.95)
        return np.log(inside / (1.0 - inside))

    main = np.stack(
        [
            f["affluence"] / 0.65**2,
            f["age"],
            odds(f["hispanic"]),
            odds(f["black"]),
            odds(f["asian"]),
            np.log(np.maximum(f["kids"], 0.3)),
            f["owner"],
            1.5 * f["student"],
            odds(1.4 * f["military"] + 0.002),
        ],
        axis=1,
    )
    own = rng.normal(0.0, _NOISE, main.shape)
    for tract in range(1, len(own)):
        own[tract] = _SMOOTH * own[tract - 1] + (1.0 - _SMOOTH**2) ** 0.5 * own[tract]
    return _TEMPER * main + own
