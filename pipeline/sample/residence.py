"""Where the units of a population live, and how often each of them occurs.

Belongs here: counting units by tract. Does not belong here: what units are (``population.py``),
sampling (``surveys.py``).

In the sample every unit is one household that lives in one tract. In a generated state
(``benchmarks/generate_state.py``) a unit stands for several households like it, which live in
several tracts: a case is a unit in a tract, with its number of times.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Residence:
    """``unit`` and ``tract`` (cases,), indices; ``times`` (cases,), households of the unit's kind
    in the tract, whole numbers of at least 1. A pair of unit and tract is one case.
    """

    unit: np.ndarray
    tract: np.ndarray
    times: np.ndarray
    units: int
    tracts: int

    @classmethod
    def of_inhabitants(cls, unit_tract: np.ndarray, tracts: int) -> Residence:
        """Every unit once, in ``unit_tract`` (units,)."""
        n = len(unit_tract)
        return cls(np.arange(n), unit_tract, np.ones(n, dtype=np.int64), n, tracts)

    def by_tract(self, x: np.ndarray) -> np.ndarray:
        """Total by tract, float64 (tracts,), of ``x`` (units,), a number of each unit."""
        return np.bincount(self.tract, weights=self.times * x[self.unit], minlength=self.tracts)

    @property
    def by_unit(self) -> np.ndarray:
        """How often each unit occurs in all tracts, float64 (units,)."""
        return np.bincount(self.unit, weights=self.times, minlength=self.units)

    def left(self, times: np.ndarray) -> Residence:
        """The cases with other numbers of times (cases,); those with none are left out."""
        stay = times > 0
        return Residence(self.unit[stay], self.tract[stay], times[stay], self.units, self.tracts)


def staying(rng: np.random.Generator, times: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """How many of ``times`` (cases,) remain if each does with ``chance`` (cases,), int64.

    The first household of every case is decided by a uniform number; the others together.
    """
    first = rng.random(len(times)) < chance
    return first + rng.binomial(times - 1, chance)
