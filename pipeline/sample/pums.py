"""The ACS public use microdata of the sample: person and housing zips per state, 2022 columns.

Belongs here: the sample's weights and replicate weights, the codes of the 2022 data dictionary,
rounding and top-coding. Does not belong here: the population itself, or the pipeline's code lists
(this module has its own, as an independent check).

SERIALNO, ADJINC, RELSHIPP, TYPEHUGQ, JWTRNS, WKWN and blanks for "not in universe" follow the 2022
dictionary. Of the 286 columns of a published person file those are written that say something about
the invented people.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.sample.acs_columns import household_kinds
from pipeline.sample.composition import GQ_KINDS
from pipeline.sample.files import Folder, csv_bytes
from pipeline.sample.population import Population
from pipeline.sample.settings import StateSetting
from pipeline.sample.surveys import draw_weights

SERIALS_PER_STATE = 1_000_000

REPLICATES = 80
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


def integer_weights(weight: np.ndarray, size: np.ndarray, total: int) -> np.ndarray:
    """Whole weights of at least 1 near ``weight`` whose sum over persons (``size`` per unit) is
    ``total`` as nearly as whole numbers allow.

    Largest remainders first: each unit's weight is rounded down, then raised by one in the order of
    its remainder while persons remain.
    """
    scaled = weight * total / np.sum(weight * size)
    low = np.maximum(np.floor(scaled), 1.0)
    order = np.argsort(-(scaled - low), kind="stable")
    missing = total - int(np.sum(low * size))
    reach = np.cumsum(size[order]) <= missing
    low[order[reach]] += 1.0
    return low.astype(np.int64)


def replicate_weights(rng: np.random.Generator, weight: np.ndarray) -> np.ndarray:
    """80 replicate weights by successive differences, shape (units, 80), whole numbers (a few may
    be zero or below, as published).

    Fay and Train: with H a Hadamard matrix, unit i in sorted order gets the factor 1 + 2^-1.5 (H[i,
    r] - H[i+1, r]); here the two rows are drawn at random from an 80 x 80 matrix of signs whose
    columns are balanced.
    """
    signs = np.array([1.0] * 40 + [-1.0] * 40)
    matrix = np.stack([rng.permutation(signs) for _ in range(REPLICATES)])
    first = rng.integers(0, REPLICATES, len(weight))
    second = (first + 1 + rng.integers(0, REPLICATES - 1, len(weight))) % REPLICATES
    factor = 1.0 + 2.0**-1.5 * (matrix[first] - matrix[second])
    return np.round(weight[:, None] * factor).astype(np.int64)


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


def _person_amounts(population: Population) -> dict[str, np.ndarray]:
    """Amounts as the file gives them: dollars before ADJINC, top-coded by state, rounded; PINCP the
    sum of its components.
    """
    p, g = population.persons, population.geography
    state = g.state[population.unit_tract[p["unit"]]]
    money = dict(p)
    money["other"] = p["other_income"] + p["unemployment_compensation"]
    made = {
        code: _rounded(_top_code(money[name], state) / population.settings.adjinc)
        for code, name in _AMOUNTS.items()
    }
    made["PERNP"] = made["WAGP"] + made["SEMP"]
    made["PINCP"] = np.sum([made[code] for code in _AMOUNTS], axis=0)
    return made


def _person_frame(
    population: Population,
    people: np.ndarray,
    serial: np.ndarray,
    state: StateSetting,
    amounts: dict[str, np.ndarray],
) -> pl.DataFrame:
    p, g, settings = population.persons, population.geography, population.settings
    x = {name: values[people] for name, values in p.items() if len(values) == len(p["age"])}
    unit = x["unit"]
    a = x["age"]
    everyone = np.ones(len(people), dtype=bool)
    first = np.searchsorted(p["unit"], unit)
    same_sex = x["female"] == p["female"][first]
    relship = _RELSHIPP[x["relationship"]] + np.where(
        np.isin(x["relationship"], [1, 2]) & same_sex, 2, 0
    )
    relship = np.where((x["relationship"] == 5) & (a > p["age"][first] + 15), 29, relship)
    worker, civilian = x["at_work"], x["employment"] == 0
    esr = np.select(
        [
            civilian & worker,
            civilian,
            x["employment"] == 1,
            (x["employment"] == 2) & worker,
            x["employment"] == 2,
        ],
        [1, 2, 3, 4, 5],
        6,
    )
    grade = np.select(
        [x["school"] == 1, x["school"] == 2, x["school"] == 3, x["school"] == 4, x["schl"] >= 21],
        [1, 2, np.clip(a - 3, 3, 10), np.clip(a - 3, 11, 14), 16],
        15,
    )
    cit = np.select([~x["foreign_born"], x["naturalized"]], [1, 4], 5)
    vehicle = worker & (x["commute"] <= 1) & (x["commute"] >= 0)
    columns: dict[str, pl.Series | np.ndarray | str] = {
        "RT": np.full(len(people), "P"),
        "SERIALNO": serial,
        "DIVISION": np.full(len(people), state.division),
        "SPORDER": people - first + 1,
        "PUMA": g.puma[population.unit_tract[unit]],
        "REGION": np.full(len(people), state.region),
        "ST": np.full(len(people), state.fips),
        "ADJINC": np.full(len(people), round(settings.adjinc * 1e6)),
        "PWGTP": np.zeros(len(people), dtype=np.int64),
        "AGEP": np.where(a >= 90, 94, a),
        "CIT": cit,
        "COW": _blank(_COW[x["class_of_worker"]], x["class_of_worker"] >= 0),
        "DIS": np.where(x["disability"], 1, 2),
        "FER": _blank(np.where(x["gave_birth"], 1, 2), x["female"] & (a >= 15) & (a <= 50)),
        "INTP": _blank(amounts["INTP"][people], a >= 15),
        "JWMNP": _blank(x["minutes"], worker & (x["minutes"] > 0)),
        "JWRIP": _blank(np.where(x["commute"] == 1, 2, 1), vehicle),
        "JWTRNS": _blank(_JWTRNS[x["commute"]], x["commute"] >= 0, 2),
        "LANX": _blank(np.where(x["other_language"], 1, 2), a >= 5),
        "MAR": _MAR[x["marital"]],
        "MIG": _blank(_MIG[x["moved"]], x["moved"] >= 0),
        "MIGSP": _blank(np.where(x["moved"] == 2, 301, int(state.fips)), x["moved"] >= 1, 3),
        "MIL": _blank(np.select([x["employment"] == 2, x["veteran"]], [1, 2], 4), a >= 17),
        "NATIVITY": np.where(x["foreign_born"], 2, 1),
        "OIP": _blank(amounts["OIP"][people], a >= 15),
        "PAP": _blank(amounts["PAP"][people], a >= 15),
        "RELSHIPP": relship,
        "RETP": _blank(amounts["RETP"][people], a >= 15),
        "SCH": _blank(np.where(x["school"] > 0, 2, 1), a >= 3),
        "SCHG": _blank(grade, x["school"] > 0, 2),
        "SCHL": _blank(x["schl"], a >= 3, 2),
        "SEMP": _blank(amounts["SEMP"][people], a >= 15),
        "SEX": np.where(x["female"], 2, 1),
        "SSIP": _blank(amounts["SSIP"][people], a >= 15),
        "SSP": _blank(amounts["SSP"][people], a >= 15),
        "WAGP": _blank(amounts["WAGP"][people], a >= 15),
        "WKHP": _blank(x["hours"], (a >= 16) & (x["weeks"] > 0)),
        "WKWN": _blank(x["weeks"], (a >= 16) & (x["weeks"] > 0)),
        "ESR": _blank(esr, a >= 16),
        "HISP": _blank(np.where(x["hispanic"], np.where(x["race"] == 1, 5, 3), 1), everyone, 2),
        "PERNP": _blank(amounts["PERNP"][people], a >= 16),
        "PINCP": _blank(amounts["PINCP"][people], a >= 15),
        "POVPIP": _blank(x["poverty_ratio"], x["poverty_ratio"] >= 0),
        "RAC1P": _RAC1P[x["race"]],
    }
    return pl.DataFrame(columns)


def _housing_frame(
    population: Population,
    units: np.ndarray,
    serial: np.ndarray,
    state: StateSetting,
    income: np.ndarray,
) -> pl.DataFrame:
    g, settings = population.geography, population.settings
    u = {name: values[units] for name, values in population.units.items()}
    household = population.is_household[units]
    kinds = {name: mask[units] for name, mask in household_kinds(population).items()}
    female = population.persons["female"][population.head[units]]
    hht = np.select(
        [
            kinds["married"],
            kinds["male_family"],
            kinds["female_family"],
            kinds["alone"] & ~female,
            ~female,
            kinds["alone"],
        ],
        [1, 2, 3, 4, 5, 6],
        7,
    )
    gq = np.where(
        np.isin(
            population.skeleton.gq_kind[units],
            [GQ_KINDS.index("nursing"), GQ_KINDS.index("prison")],
        ),
        2,
        3,
    )
    minors = np.bincount(
        population.persons["unit"][population.persons["age"] < 18], minlength=population.unit_count
    )[units]
    old = np.bincount(
        population.persons["unit"][population.persons["age"] >= 65], minlength=population.unit_count
    )[units]
    n = len(units)
    columns: dict[str, pl.Series | np.ndarray] = {
        "RT": np.full(n, "H"),
        "SERIALNO": serial,
        "DIVISION": np.full(n, state.division),
        "PUMA": g.puma[population.unit_tract[units]],
        "REGION": np.full(n, state.region),
        "ST": np.full(n, state.fips),
        "ADJHSG": np.full(n, 1_000_000),
        "ADJINC": np.full(n, round(settings.adjinc * 1e6)),
        "WGTP": np.zeros(n, dtype=np.int64),
        "NP": population.unit_size[units],
        "TYPEHUGQ": np.where(household, 1, gq),
        "BROADBND": _blank(np.where(u["broadband"], 1, 2), household),
        "FS": np.where(u["food_stamps"], 1, 2),
        "LAPTOP": _blank(np.where(u["computer"], 1, 2), household),
        "TEN": _blank(
            np.select([u["mortgage"], u["owner"], u["gross_rent"] > 0], [1, 2, 3], 4), household
        ),
        "VACS": _blank(np.zeros(n), np.zeros(n, dtype=bool)),
        "VALP": _blank(u["home_value"], u["home_value"] > 0),
        "GRNTP": _blank(u["gross_rent"], u["gross_rent"] > 0),
        "HHT": _blank(hht, household),
        "HINCP": _blank(income[units], household),
        "NOC": _blank(minors, household),
        "R65": _blank(np.minimum(old, 2), household),
    }
    return pl.DataFrame(columns)


def _vacant_rows(
    population: Population,
    state: StateSetting,
    like: pl.DataFrame,
    count: int,
    first: int,
    rng: np.random.Generator,
) -> pl.DataFrame:
    """Vacant housing units: NP 0, no tenure, no income, a vacancy status."""
    g = population.geography
    here = np.flatnonzero((g.state == state.fips) & g.populated)
    frame = pl.DataFrame(
        {
            "RT": ["H"] * count,
            "SERIALNO": [f"{population.settings.year}HU{first + i:07d}" for i in range(count)],
            "DIVISION": [state.division] * count,
            "PUMA": g.puma[here[rng.integers(0, len(here), count)]].tolist(),
            "REGION": [state.region] * count,
            "ST": [state.fips] * count,
            "ADJHSG": [1_000_000] * count,
            "ADJINC": [round(population.settings.adjinc * 1e6)] * count,
            "WGTP": rng.integers(7, 17, count),
            "NP": [0] * count,
            "TYPEHUGQ": [1] * count,
            "VACS": rng.integers(1, 8, count).astype(str),
        },
        schema_overrides={
            "ADJHSG": pl.Int64,
            "ADJINC": pl.Int64,
            "NP": pl.Int64,
            "TYPEHUGQ": pl.Int64,
        },
    )
    return pl.concat([like.clear(), frame], how="diagonal")


def _replicate_columns(name: str, weights: np.ndarray) -> pl.DataFrame:
    return pl.DataFrame({f"{name}{r + 1}": weights[:, r] for r in range(REPLICATES)})


def write_pums(
    folder: Folder, population: Population, one_year: np.ndarray, controls: dict[str, int]
) -> None:
    """``csv_p<st>.zip`` and ``csv_h<st>.zip``, members ``psam_p44.csv`` and so on.

    A subsample of the one-year ACS; PWGTP adds up to the published state population exactly, a
    reference person has the weight of the household, WGTP is zero for group quarters.
    """
    settings, g = population.settings, population.geography
    weight = draw_weights(population, settings.surveys["pums"].share, "pums", within=one_year > 0)
    amounts = _person_amounts(population)
    asked = population.persons["age"] >= 15
    income = np.bincount(
        population.persons["unit"][asked],
        weights=amounts["PINCP"][asked],
        minlength=population.unit_count,
    ).astype(np.int64)
    size = population.unit_size
    for place, state in enumerate(settings.states):
        rng = settings.stream(f"pums:{state.postal}")
        units = np.flatnonzero((weight > 0) & (g.state == state.fips)[population.unit_tract])
        household = population.is_household[units]
        # Serial numbers say nothing about where a unit lies: they follow a random order.
        units = units[rng.permutation(len(units))]
        household = population.is_household[units]
        # As in the real files, no serial number occurs in two states.
        number = (
            place * SERIALS_PER_STATE
            + np.arange(1, len(units) + 1) * 7
            + rng.integers(0, 7, len(units))
        )
        serial = np.char.add(
            np.where(household, f"{settings.year}HU", f"{settings.year}GQ"),
            np.char.zfill(number.astype(str), 7),
        )
        order = np.argsort(serial)
        units, household, serial = units[order], household[order], serial[order]
        unit_weight = integer_weights(weight[units], size[units], controls[state.fips])

        position = np.full(population.unit_count, -1)
        position[units] = np.arange(len(units))
        people = np.flatnonzero(position[population.persons["unit"]] >= 0)
        people = people[np.argsort(position[population.persons["unit"][people]], kind="stable")]
        at = position[population.persons["unit"][people]]
        head = np.concatenate([[True], at[1:] != at[:-1]])
        person_weight = _person_weights(rng, unit_weight[at], head, controls[state.fips])

        unit_replicates = replicate_weights(rng, unit_weight.astype(float))
        ratio = person_weight / unit_weight[at]
        person_replicates = np.round(unit_replicates[at] * ratio[:, None]).astype(np.int64)
        persons = _person_frame(population, people, serial[at], state, amounts).with_columns(
            pl.Series("PWGTP", person_weight)
        )
        persons = persons.hstack(_replicate_columns("PWGTP", person_replicates))
        housing_weight = np.where(household, unit_weight, 0)
        housing = _housing_frame(population, units, serial, state, income).with_columns(
            pl.Series("WGTP", housing_weight)
        )
        count = round(household.sum() * settings.vacant_share / (1 - settings.vacant_share))
        vacant = _vacant_rows(population, state, housing, count, int(number.max()) + 1, rng)
        housing = pl.concat([housing, vacant])
        replicates = np.where(household[:, None], unit_replicates, 0)
        replicates = np.concatenate(
            [replicates, replicate_weights(rng, vacant["WGTP"].to_numpy().astype(float))]
        )
        housing = housing.hstack(_replicate_columns("WGTP", replicates))
        base, st = f"acs_pums/{settings.year}_1yr", state.postal.lower()
        readme = (
            f"ACS {settings.year} 1-year PUMS {settings.label}: invented records in the layout of"
            " the US Census Bureau.\n".encode()
        )
        folder.archive(
            f"{base}/csv_p{st}.zip",
            {f"psam_p{state.fips}.csv": csv_bytes(persons), "SYNTHETIC_README.txt": readme},
        )
        folder.archive(
            f"{base}/csv_h{st}.zip",
            {f"psam_h{state.fips}.csv": csv_bytes(housing), "SYNTHETIC_README.txt": readme},
        )


def _person_weights(
    rng: np.random.Generator, weight: np.ndarray, head: np.ndarray, total: int
) -> np.ndarray:
    """Person weights: the household's for the reference person, near it for the others, adding up
    to ``total``.
    """
    jitter = np.where(head, 1.0, rng.gamma(100.0, 0.01, len(weight)))
    made = np.maximum(np.round(weight * jitter), 1.0).astype(np.int64)
    others = np.flatnonzero(~head)
    gap = total - int(made.sum())
    while gap and len(others):
        step = np.sign(gap)
        movable = others[made[others] + step >= 1]
        chosen = rng.permutation(movable)[: abs(gap)]
        made[chosen] += step
        gap = total - int(made.sum())
    return made
