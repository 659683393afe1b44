"""The one known population behind every file of the sample.

Belongs here: putting geography, composition, people and income together, and the contract's
canonical tables of it. Does not belong here: sampling, publishing, tax units.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from pipeline.sample.composition import RELATIONSHIPS, Skeleton, build_skeleton
from pipeline.sample.geography import Geography, build_geography
from pipeline.sample.income import build_income
from pipeline.sample.people import (
    CLASSES,
    COMMUTES,
    EMPLOYMENT,
    MARITAL,
    MOVED,
    RACES,
    SCHOOLS,
    Arrays,
    build_people,
)
from pipeline.sample.residence import Residence
from pipeline.sample.settings import SampleSettings

_AMOUNTS = (
    *("wages", "self_employment", "investment_income", "social_security", "ssi"),
    *("public_assistance", "retirement", "other_income", "unemployment_compensation"),
    "total_income",
)


@dataclass(frozen=True)
class Population:
    """Every person and unit of the two states.

    ``persons`` arrays have one entry per person in the order of ``skeleton``; ``units`` arrays one
    per household or group-quarters person. Amounts are dollars of ``settings.year``.
    ``residence`` says where units live; the tract in ``skeleton`` is where a unit's attributes come
    from. In the sample both are the same.
    """

    settings: SampleSettings
    geography: Geography
    skeleton: Skeleton
    persons: Arrays
    units: Arrays
    residence: Residence

    @property
    def unit_count(self) -> int:
        return len(self.skeleton.unit_tract)

    @property
    def is_household(self) -> np.ndarray:
        return self.skeleton.unit_type >= 0

    @property
    def unit_size(self) -> np.ndarray:
        return np.bincount(self.skeleton.unit, minlength=self.unit_count)

    @property
    def unit_tract(self) -> np.ndarray:
        return self.skeleton.unit_tract

    def by_tract(self, x: np.ndarray) -> np.ndarray:
        """Total by tract, float64 (tracts,), of ``x`` (units,) over all who live there."""
        return self.residence.by_tract(x)

    def count_by_unit(self, mask: np.ndarray) -> np.ndarray:
        """Persons of ``mask`` in each unit."""
        return np.bincount(self.skeleton.unit[mask], minlength=self.unit_count)

    def sum_by_unit(self, values: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Sum of ``values`` (persons,) over those of ``mask`` in each unit."""
        unit = self.skeleton.unit[mask]
        return np.bincount(unit, weights=values[mask], minlength=self.unit_count)

    def persons_of(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Indices of the persons of ``units``, in the order of ``units``, and for each the place of
        his unit in it.
        """
        place = np.full(self.unit_count, -1)
        place[units] = np.arange(len(units))
        of_person = place[self.skeleton.unit]
        people = np.flatnonzero(of_person >= 0)
        people = people[np.argsort(of_person[people], kind="stable")]
        return people, of_person[people]

    @property
    def head(self) -> np.ndarray:
        """Index of the reference person (or the only person) of each unit: persons are sorted by
        unit and relationship.
        """
        return np.searchsorted(self.skeleton.unit, np.arange(self.unit_count))


def build_population(settings: SampleSettings) -> Population:
    """Draw the population. Deterministic for given settings."""
    geography = build_geography(settings)
    skeleton = build_skeleton(geography, settings)
    people = build_people(skeleton, geography, settings)
    money, units = build_income(skeleton, geography, people, settings)
    people |= money
    people |= {"age": skeleton.age, "female": skeleton.female, "unit": skeleton.unit}
    people["relationship"] = skeleton.relationship
    residence = Residence.of_inhabitants(skeleton.unit_tract, geography.count)
    return Population(settings, geography, skeleton, people, units, residence)


def _labels(codes: np.ndarray, labels: tuple[str, ...]) -> pl.Series:
    """Label of each code; -1 becomes null."""
    table = pl.Series("label", [*labels, None], dtype=pl.String)
    return table.gather(np.where(codes < 0, len(labels), codes))


def _masked(values: np.ndarray, known: np.ndarray, dtype: type[pl.DataType]) -> pl.Series:
    frame = pl.DataFrame({"value": values, "known": known})
    return frame.select(pl.when(pl.col("known")).then(pl.col("value").cast(dtype)))["value"]


def unit_names(population: Population) -> np.ndarray:
    """``TRUTH-0000001``: the household_id of every unit in the truth tables."""
    number = np.arange(1, population.unit_count + 1).astype(str)
    return np.char.add("TRUTH-", np.char.zfill(number, 7))


def canonical_persons(population: Population) -> pl.DataFrame:
    """The population in the contract's ``persons`` schema, weight 1, plus ``county_fips`` filled,
    ``tract``, ``oasdi_type`` code and ``ssi_any_age``.

    Universes are those of the ACS: incomes null below 15, weeks and hours null below 16 and 0 for
    who did not work, employment below 16, and so on. ``other_income`` excludes unemployment
    compensation.
    """
    p, s, g = population.persons, population.skeleton, population.geography
    a, t = s.age, s.unit_tract[s.unit]
    adult, everyone = a >= 15, np.ones(len(a), dtype=bool)
    civilian = ~(s.relationship == 7) & (p["employment"] != 2)
    first = np.searchsorted(s.unit, s.unit)
    columns: dict[str, pl.Series | np.ndarray | str] = {
        "household_id": unit_names(population)[s.unit],
        "person_number": (np.arange(len(a)) - first + 1).astype(np.int32),
        "state_fips": g.state[t],
        "puma": np.char.add(g.state[t], g.puma[t]),
        "county_fips": g.county[t],
        "is_group_quarters": s.relationship >= 7,
        "design_weight": np.ones(len(a)),
        "age": a.astype(np.int32),
        "sex": _labels(s.female.astype(np.int64), ("male", "female")),
        "relationship": _labels(s.relationship, RELATIONSHIPS),
        "marital_status": _labels(p["marital"], MARITAL),
        "race": _labels(p["race"], RACES),
        "hispanic": p["hispanic"],
        "education": _masked(p["schl"], a >= 3, pl.Int32),
        "school": _labels(p["school"], SCHOOLS),
        "employment": _labels(p["employment"], EMPLOYMENT),
        "at_work": _masked(p["at_work"], a >= 16, pl.Boolean),
        "class_of_worker": _labels(p["class_of_worker"], CLASSES),
        "commute": _labels(p["commute"], COMMUTES),
        "disability": _masked(p["disability"], everyone, pl.Boolean),
        "veteran": _masked(p["veteran"], a >= 17, pl.Boolean),
        "foreign_born": p["foreign_born"],
        "citizen": p["citizen"],
        "naturalized": p["naturalized"],
        "other_language": _masked(p["other_language"], a >= 5, pl.Boolean),
        "moved": _labels(p["moved"], MOVED),
        "gave_birth": _masked(p["gave_birth"], s.female & (a >= 15) & (a <= 50), pl.Boolean),
        "poverty_ratio": _masked(p["poverty_ratio"], p["poverty_ratio"] >= 0, pl.Int32),
        "weeks_worked": _masked(p["weeks"], a >= 16, pl.Int32),
        "hours_worked": _masked(p["hours"], a >= 16, pl.Int32),
    }
    columns |= {name: _masked(p[name].astype(np.float64), adult, pl.Float64) for name in _AMOUNTS}
    columns |= {
        "tract": g.tract[t],
        "civilian_noninstitutional": civilian,
        "ssi_any_age": p["ssi"].astype(np.float64),
    }
    frame = pl.DataFrame(columns)
    return frame.select(
        "household_id", "person_number", pl.lit("truth").alias("source"), *frame.columns[2:]
    )


def canonical_households(population: Population) -> pl.DataFrame:
    """The population's units in the contract's ``households`` schema, weight 1, plus ``tract``."""
    g, t, household = population.geography, population.unit_tract, population.is_household
    u = population.units
    tenure = np.where(household, np.where(u["owner"], 0, 1), -1)
    income = u["household_income"].astype(np.float64)
    return pl.DataFrame(
        {
            "household_id": unit_names(population),
            "source": np.full(population.unit_count, "truth"),
            "state_fips": g.state[t],
            "puma": np.char.add(g.state[t], g.puma[t]),
            "county_fips": g.county[t],
            "is_group_quarters": ~household,
            "design_weight": np.ones(population.unit_count),
            "persons": population.unit_size.astype(np.int32),
            "tenure": _labels(tenure, ("owner", "renter")),
            "household_income": _masked(income, household, pl.Float64),
            "food_stamps": _masked(u["food_stamps"], household, pl.Boolean),
            "tract": g.tract[t],
        }
    )
