"""The kinds of columns that ACS tables publish, and counting them over the true population.

Belongs here: counts, ratios and medians as numbers of units, and the masks that several tables use.
Does not belong here: the columns of any one table (``acs_profile_columns.py``,
``acs_table_columns.py``), sampling (``surveys.py``), text (``acs_files.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pipeline.sample.population import Population


@dataclass(frozen=True)
class Count:
    """Persons, households or dollars: ``x`` per unit. ``base`` is the column whose share the
    percentage is; None: a universe of its own.
    """

    x: np.ndarray
    base: str | None = None


@dataclass(frozen=True)
class Ratio:
    """A mean or a percentage: sum of ``top`` over sum of ``bottom`` times ``scale``.
    ``percent_only``: published in PE, not in E.
    """

    top: np.ndarray
    bottom: np.ndarray
    decimals: int
    scale: float = 1.0
    percent_only: bool = False


@dataclass(frozen=True)
class Median:
    """The median of ``values`` over elements in ``universe``; ``unit`` says whose weight each
    element carries.
    """

    values: np.ndarray
    unit: np.ndarray
    universe: np.ndarray
    decimals: int = 0


Column = Count | Ratio | Median


class Counter:
    """Counts of persons and households by unit, from masks over the true population. Incomes are
    multiplied by ``income_factor``.
    """

    def __init__(self, population: Population, income_factor: float) -> None:
        self.population = population
        self.p = population.persons
        self.u = population.units
        self.unit = self.p["unit"]
        self.household = population.is_household
        self.income_factor = income_factor

    def persons(self, mask: np.ndarray) -> np.ndarray:
        return self.population.count_by_unit(mask).astype(float)

    def households(self, mask: np.ndarray | None = None) -> np.ndarray:
        return (self.household if mask is None else self.household & mask).astype(float)

    def sum(self, name: str, mask: np.ndarray) -> np.ndarray:
        """Sum of a quantity of persons over those in ``mask``."""
        return self.population.sum_by_unit(self.p[name], mask)

    def dollars(self, name: str) -> np.ndarray:
        """Aggregate of an income over household members of 15 and over."""
        asked = (self.p["age"] >= 15) & self.household[self.unit]
        return self.sum(name, asked) * self.income_factor

    def any_person(self, mask: np.ndarray) -> np.ndarray:
        return self.persons(mask) > 0

    def income(self) -> np.ndarray:
        return self.u["household_income"] * self.income_factor

    def median_of_units(self, values: np.ndarray, universe: np.ndarray) -> Median:
        return Median(values, np.arange(len(values)), universe)


def household_kinds(population: Population) -> dict[str, np.ndarray]:
    """Masks over units: family, married, male_family, female_family, nonfamily, alone. A family
    holds a relative of the reference person.
    """
    s = population.skeleton
    relatives = population.count_by_unit(np.isin(s.relationship, [1, 3, 4, 5])) > 0
    household, size = population.is_household, population.unit_size
    spouse = population.count_by_unit(s.relationship == 1) > 0
    female = s.female[population.head]
    family = household & relatives
    return {
        "family": family,
        "married": family & spouse,
        "male_family": family & ~spouse & ~female,
        "female_family": family & ~spouse & female,
        "nonfamily": household & ~family,
        "alone": household & (size == 1),
    }


def classes(values: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """Index of the class of each value: 0 below ``upper[0]``, ..., len(upper) at or above the last
    bound.
    """
    return np.searchsorted(upper, values, side="right")
