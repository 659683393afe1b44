"""A small invented state: 120 households in two PUMAs, six tracts, two counties, and targets around
its records' own totals.

Belongs here: its tables, and its steps taken in order. Does not belong here: assertions.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.specs.cross_categories import load_cross_categories
from pipeline.specs.variables import Variable
from pipeline.targets.build import TARGET_SCHEMA
from pipeline.weights.candidates import build_candidates
from pipeline.weights.places import Places
from pipeline.weights.problem import SolvableState, build_problem
from pipeline.weights.solve import dense_calibration, refine, select

GEOGRAPHY = pl.DataFrame(
    {
        "state_fips": ["44"] * 6,
        "county_fips": ["44001"] * 3 + ["44003"] * 3,
        "tract": [f"44001000{i}00" for i in range(3)] + [f"44003000{i}00" for i in range(3)],
        "puma": ["4400100"] * 3 + ["4400300"] * 3,
    }
)
VARIABLES = [
    Variable(
        variable="persons",
        domain="total",
        label="Persons",
        unit="persons",
        over="persons",
        family="age",
    ),
    Variable(
        variable="persons",
        domain="age_65_plus",
        label="65+",
        unit="persons",
        over="persons",
        where="age >= 65",
        family="age",
    ),
    Variable(
        variable="households",
        domain="total",
        label="Households",
        unit="households",
        over="households",
        where="not is_group_quarters",
        family="households",
    ),
    Variable(
        variable="persons",
        domain="never",
        label="Nobody",
        unit="persons",
        over="persons",
        where="age > 200",
        family="age",
    ),
]


def tables(count: int = 120, seed: int = 1) -> dict[str, pl.DataFrame]:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 5, count)
    ids = [f"h{i:04d}" for i in range(count)]
    owner = np.repeat(np.arange(count), sizes)
    age = rng.integers(0, 95, owner.size)
    households = pl.DataFrame(
        {
            "household_id": ids,
            "puma": np.where(np.arange(count) % 2 == 0, "4400100", "4400300"),
            "design_weight": rng.integers(5, 30, count).astype(float),
            "is_group_quarters": [False] * count,
            "household_type": ["married_couple" if n > 1 else "female_householder" for n in sizes],
            "persons": sizes,
            "household_income": rng.gamma(2.0, 30000.0, count),
            "persons_65_plus": np.bincount(owner, weights=age >= 65, minlength=count).astype(int),
            "children_under_18": np.bincount(owner, weights=age < 18, minlength=count).astype(int),
        }
    )
    persons = pl.DataFrame(
        {
            "household_id": [ids[i] for i in owner],
            "person_number": np.arange(owner.size),
            "age": age,
        }
    )
    return {
        "persons": persons,
        "households": households,
        "tax_units": pl.DataFrame({"household_id": ids}),
    }


def targets(records: dict[str, pl.DataFrame], scale: float = 1.0) -> pl.DataFrame:
    """Tract, county and state targets around equal shares of the records' own totals."""
    weight = dict(records["households"].select("household_id", "design_weight").iter_rows())
    people = records["persons"].with_columns(w=pl.col("household_id").replace_strict(weight))
    totals = {
        ("persons", "total"): people["w"].sum(),
        ("persons", "age_65_plus"): people.filter(pl.col("age") >= 65)["w"].sum(),
        ("households", "total"): records["households"]["design_weight"].sum(),
        ("persons", "never"): 5.0,
    }
    shares = np.array([0.1, 0.2, 0.15, 0.2, 0.3, 0.05])
    tilt = {
        "age_65_plus": np.array([1.3, 0.8, 1.0, 1.1, 0.9, 1.2]),
        "total": np.ones(6),
        "never": np.ones(6),
    }
    rows = []
    for (variable, domain), total in totals.items():
        leaf = scale * total * shares * tilt[domain]
        parts = [("tract", g, v) for g, v in zip(GEOGRAPHY["tract"], leaf, strict=True)]
        parts += [
            ("county", "44001", leaf[:3].sum()),
            ("county", "44003", leaf[3:].sum()),
            ("state", "44", leaf.sum()),
        ]
        for level, geoid, v in parts:
            rows.append(
                {
                    "level": level,
                    "geoid": geoid,
                    "variable": variable,
                    "domain": domain,
                    "family": "f",
                    "unit": "households" if variable == "households" else "persons",
                    "value": float(v),
                    "standard_error": 0.05 * float(v),
                    "published_value": float(v),
                    "published_standard_error": 0.05 * float(v),
                    "margin_standard_error": 0.05 * float(v) if level == "tract" else None,
                    "margin_published": level == "tract",
                    "source": "s",
                    "vintage": "2022",
                    "carry_rule": "none",
                    "carry_factor": 1.0,
                    "status": "published",
                    "role": "calibrate",
                    "reason": "",
                }
            )
    return pl.DataFrame(rows, schema=TARGET_SCHEMA)


def candidates(records, goal, *, elsewhere=0.2, link=GEOGRAPHY):
    places = Places(GEOGRAPHY, link, "tract", elsewhere)
    return build_candidates(records, VARIABLES, goal, places, load_cross_categories())


def solvable(records, goal, profile):
    """The state as every step from the dense calibration on takes it."""
    made = candidates(records, goal)
    problem = build_problem(goal, made.units, GEOGRAPHY, profile)
    cells = made.cells.table
    return SolvableState(
        profile, "RI", GEOGRAPHY, goal, made.units, made.areas, made.pools, cells, problem
    )


def solve(records, goal, profile, pairs=90):
    """(state, dense result, pairs drawn, refined pairs)."""
    state = solvable(records, goal, profile)
    dense = dense_calibration(state)
    drawn = select(state, dense.weights, pairs)
    return state, dense, drawn, refine(state, dense.weights, drawn)
