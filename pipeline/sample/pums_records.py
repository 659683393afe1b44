"""Records of the sample's PUMS: person and housing rows under their published names and codes.

Belongs here: the codes of the 2022 data dictionary, rounding and top-coding. Does not belong here:
weights and files (``pums.py``), the population itself, or the pipeline's code lists (this module
has its own, as an independent check).

RELSHIPP, TYPEHUGQ, JWTRNS, WKWN and blanks for "not in universe" follow the 2022 dictionary. Of the
286 columns of a published person file those are written that say something about the invented
people.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.sample.acs_columns import household_kinds
from pipeline.sample.composition import GQ_KINDS
from pipeline.sample.population import Population
from pipeline.sample.settings import StateSetting

_RELSHIPP = np.array([20, 21, 22, 25, 30, 33, 34, 37, 38])
_RAC1P = np.array([1, 2, 3, 6, 7, 8, 9])
_MAR = np.array([1, 2, 3, 4, 5])
_MIG = np.array([1, 3, 2])
_COW = np.array([1, 3, 6, 8])
_JWTRNS = np.array([1, 1, 2, 10, 9, 11])
_AMOUNTS = {
    "WAGP": "wages",
    "SEMP": "self_employment",
    "INTP": "investment_income",
    "SSP": "social_security",
    "SSIP": "ssi",
    "PAP": "public_assistance",
    "RETP": "retirement",
    "OIP": "other",
}


def _top_code(values: np.ndarray, state: np.ndarray) -> np.ndarray:
    """Amounts above the state's 99.5th percentile (of the positive) become the mean of those above
    it.
    """
    out = values.astype(float)
    for s in np.unique(state):
        here = state == s
        positive = out[here & (out > 0)]
        if len(positive) < 200:
            continue
        limit = np.quantile(positive, 0.995)
        above = here & (out > limit)
        if above.any():
            out[above] = out[above].mean()
    return out


def _rounded(values: np.ndarray) -> np.ndarray:
    """Census rounding: to 10 below 1,000, to 100 below 50,000, to 1,000 above."""
    size = np.abs(values)
    step = np.select([size < 1000, size < 50000], [10.0, 100.0], 1000.0)
    rounded = np.round(values / step) * step
    return np.where((size > 0) & (rounded == 0), np.sign(values) * 4.0, rounded).astype(np.int64)


def _blank(values: np.ndarray, known: np.ndarray, width: int = 0) -> pl.Series:
    """Whole numbers as text, zero-filled to ``width``, null where not in universe."""
    text = pl.Series(values.astype(np.int64)).cast(pl.String)
    if width:
        text = text.str.zfill(width)
    return pl.DataFrame({"t": text, "k": known}).select(pl.when("k").then("t"))["t"]


def person_amounts(population: Population) -> dict[str, np.ndarray]:
    """Amounts as the file gives them: dollars before ADJINC, top-coded by state, rounded; PINCP the
    sum of its components.
    """
    p, g = population.persons, population.geography
    state = g.state[population.unit_tract[p["unit"]]]
    money = p | {"other": p["other_income"] + p["unemployment_compensation"]}
    adjinc = population.settings.adjinc
    made = {
        code: _rounded(_top_code(money[name], state) / adjinc) for code, name in _AMOUNTS.items()
    }
    made["PERNP"] = made["WAGP"] + made["SEMP"]
    made["PINCP"] = np.sum([made[code] for code in _AMOUNTS], axis=0)
    return made


def _repeated(value: object, count: int) -> np.ndarray:
    return np.full(count, value)


def _relationship(x: dict[str, np.ndarray], reference: dict[str, np.ndarray]) -> np.ndarray:
    """RELSHIPP; couples of one sex have codes of their own, and a relative far older than the
    reference person is a parent.
    """
    code, a = x["relationship"], x["age"]
    same_sex = np.isin(code, [1, 2]) & (x["female"] == reference["female"])
    relship = _RELSHIPP[code] + np.where(same_sex, 2, 0)
    return np.where((code == 5) & (a > reference["age"] + 15), 29, relship)


def _labour(x: dict[str, np.ndarray]) -> np.ndarray:
    """ESR."""
    at_work, status = x["at_work"], x["employment"]
    civilian, armed = status == 0, status == 2
    cases = [civilian & at_work, civilian, status == 1, armed & at_work, armed]
    return np.select(cases, [1, 2, 3, 4, 5], 6)


def _grade(x: dict[str, np.ndarray]) -> np.ndarray:
    """SCHG."""
    a, school = x["age"], x["school"]
    cases = [*(school == i for i in (1, 2, 3, 4)), x["schl"] >= 21]
    return np.select(cases, [1, 2, np.clip(a - 3, 3, 10), np.clip(a - 3, 11, 14), 16], 15)


def person_frame(
    population: Population,
    people: np.ndarray,
    serial: np.ndarray,
    state: StateSetting,
    amounts: dict[str, np.ndarray],
) -> pl.DataFrame:
    """Rows of ``people`` (indices), whose units have ``serial``; PWGTP is zero."""
    p, g, n = population.persons, population.geography, len(people)
    x = {name: values[people] for name, values in p.items()}
    a, unit, worker = x["age"], x["unit"], x["at_work"]
    first = np.searchsorted(p["unit"], unit)
    reference = {name: p[name][first] for name in ("age", "female")}
    cit = np.select([~x["foreign_born"], x["naturalized"]], [1, 4], 5)
    vehicle = worker & (x["commute"] <= 1) & (x["commute"] >= 0)
    origin = np.where(x["hispanic"], np.where(x["race"] == 1, 5, 3), 1)
    military = np.select([x["employment"] == 2, x["veteran"]], [1, 2], 4)
    moved_from = np.where(x["moved"] == 2, 301, int(state.fips))
    worked, fertile = (a >= 16) & (x["weeks"] > 0), x["female"] & (a >= 15) & (a <= 50)
    money = {code: _blank(values[people], a >= 15) for code, values in amounts.items()}
    columns: dict[str, pl.Series | np.ndarray] = {
        "RT": _repeated("P", n),
        "SERIALNO": serial,
        "DIVISION": _repeated(state.division, n),
        "SPORDER": people - first + 1,
        "PUMA": g.puma[population.unit_tract[unit]],
        "REGION": _repeated(state.region, n),
        "ST": _repeated(state.fips, n),
        "ADJINC": _repeated(round(population.settings.adjinc * 1e6), n),
        "PWGTP": np.zeros(n, dtype=np.int64),
        "AGEP": np.where(a >= 90, 94, a),
        "CIT": cit,
        "COW": _blank(_COW[x["class_of_worker"]], x["class_of_worker"] >= 0),
        "DIS": np.where(x["disability"], 1, 2),
        "FER": _blank(np.where(x["gave_birth"], 1, 2), fertile),
        "INTP": money["INTP"],
        "JWMNP": _blank(x["minutes"], worker & (x["minutes"] > 0)),
        "JWRIP": _blank(np.where(x["commute"] == 1, 2, 1), vehicle),
        "JWTRNS": _blank(_JWTRNS[x["commute"]], x["commute"] >= 0, 2),
        "LANX": _blank(np.where(x["other_language"], 1, 2), a >= 5),
        "MAR": _MAR[x["marital"]],
        "MIG": _blank(_MIG[x["moved"]], x["moved"] >= 0),
        "MIGSP": _blank(moved_from, x["moved"] >= 1, 3),
        "MIL": _blank(military, a >= 17),
        "NATIVITY": np.where(x["foreign_born"], 2, 1),
        "OIP": money["OIP"],
        "PAP": money["PAP"],
        "RELSHIPP": _relationship(x, reference),
        "RETP": money["RETP"],
        "SCH": _blank(np.where(x["school"] > 0, 2, 1), a >= 3),
        "SCHG": _blank(_grade(x), x["school"] > 0, 2),
        "SCHL": _blank(x["schl"], a >= 3, 2),
        "SEMP": money["SEMP"],
        "SEX": np.where(x["female"], 2, 1),
        "SSIP": money["SSIP"],
        "SSP": money["SSP"],
        "WAGP": money["WAGP"],
        "WKHP": _blank(x["hours"], worked),
        "WKWN": _blank(x["weeks"], worked),
        "ESR": _blank(_labour(x), a >= 16),
        "HISP": _blank(origin, a >= 0, 2),
        "PERNP": _blank(amounts["PERNP"][people], a >= 16),
        "PINCP": money["PINCP"],
        "POVPIP": _blank(x["poverty_ratio"], x["poverty_ratio"] >= 0),
        "RAC1P": _RAC1P[x["race"]],
    }
    return pl.DataFrame(columns)


def housing_frame(
    population: Population,
    units: np.ndarray,
    serial: np.ndarray,
    state: StateSetting,
    person_income: np.ndarray,
) -> pl.DataFrame:
    """Rows of ``units`` (indices); WGTP is zero, HINCP the sum of its members' PINCP."""
    g, p, n = population.geography, population.persons, len(units)
    u = {name: values[units] for name, values in population.units.items()}
    household = population.is_household[units]
    kinds = {name: mask[units] for name, mask in household_kinds(population).items()}
    man = ~p["female"][population.head[units]]
    cases = [kinds["married"], kinds["male_family"], kinds["female_family"]]
    hht = np.select([*cases, kinds["alone"] & man, man, kinds["alone"]], [1, 2, 3, 4, 5, 6], 7)
    institutions = [GQ_KINDS.index("nursing"), GQ_KINDS.index("prison")]
    gq = np.where(np.isin(population.skeleton.gq_kind[units], institutions), 2, 3)
    income = population.sum_by_unit(person_income, p["age"] >= 15).astype(np.int64)
    minors = population.count_by_unit(p["age"] < 18)[units]
    old = population.count_by_unit(p["age"] >= 65)[units]
    tenure = np.select([u["mortgage"], u["owner"], u["gross_rent"] > 0], [1, 2, 3], 4)
    columns: dict[str, pl.Series | np.ndarray] = {
        "RT": _repeated("H", n),
        "SERIALNO": serial,
        "DIVISION": _repeated(state.division, n),
        "PUMA": g.puma[population.unit_tract[units]],
        "REGION": _repeated(state.region, n),
        "ST": _repeated(state.fips, n),
        "ADJHSG": _repeated(1_000_000, n),
        "ADJINC": _repeated(round(population.settings.adjinc * 1e6), n),
        "WGTP": np.zeros(n, dtype=np.int64),
        "NP": population.unit_size[units],
        "TYPEHUGQ": np.where(household, 1, gq),
        "BROADBND": _blank(np.where(u["broadband"], 1, 2), household),
        "FS": np.where(u["food_stamps"], 1, 2),
        "LAPTOP": _blank(np.where(u["computer"], 1, 2), household),
        "TEN": _blank(tenure, household),
        "VACS": _blank(np.zeros(n), np.zeros(n, dtype=bool)),
        "VALP": _blank(u["home_value"], u["home_value"] > 0),
        "GRNTP": _blank(u["gross_rent"], u["gross_rent"] > 0),
        "HHT": _blank(hht, household),
        "HINCP": _blank(income[units], household),
        "NOC": _blank(minors, household),
        "R65": _blank(np.minimum(old, 2), household),
    }
    return pl.DataFrame(columns)


def vacant_frame(
    population: Population,
    state: StateSetting,
    like: pl.DataFrame,
    count: int,
    first: int,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Vacant housing units with the columns of ``like``: NP 0, no tenure, no income, a vacancy
    status. Serial numbers run from ``first``.
    """
    g = population.geography
    here = np.flatnonzero((g.state == state.fips) & g.populated)
    serial = [f"{population.settings.year}HU{first + i:07d}" for i in range(count)]
    frame = pl.DataFrame(
        {
            "RT": _repeated("H", count),
            "SERIALNO": pl.Series(serial, dtype=pl.String),
            "DIVISION": _repeated(state.division, count),
            "PUMA": g.puma[here[rng.integers(0, len(here), count)]],
            "REGION": _repeated(state.region, count),
            "ST": _repeated(state.fips, count),
            "ADJHSG": _repeated(1_000_000, count),
            "ADJINC": _repeated(round(population.settings.adjinc * 1e6), count),
            "WGTP": rng.integers(7, 17, count),
            "NP": _repeated(0, count),
            "TYPEHUGQ": _repeated(1, count),
            "VACS": rng.integers(1, 8, count).astype(str),
        }
    )
    return pl.concat([like.clear(), frame], how="diagonal")
