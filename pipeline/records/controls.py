"""Published figures that records are aligned with, in the units of the records' own weights.

Belongs here: looking a figure up among the state's targets, and scaling it to the design weights.
Does not belong here: which figures control what (``data_specs/alignment.yaml``), or the steps.

Records of an earlier year stand for fewer people than the target year has. A control is therefore
divided by growth = total persons as published / sum of the persons' design weights: growth of the
population is left to calibration, and a step sees differences of concept and reporting only. The
same number scales records for the concept gap (``pipeline/targets/concept_gap.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipeline.errors import RecordsError
from pipeline.specs.alignment import Control
from pipeline.vocabulary import POPULATION, STATE, is_area

Key = tuple[str, str]


@dataclass(frozen=True)
class Controls:
    """``published``: figure of the target year by (variable, domain), null where withheld;
    ``growth``: published persons over the records' design weights.
    """

    published: Mapping[Key, float | None]
    growth: float

    def figure(self, control: Control, domain: str = "") -> float | None:
        """A control as published; None if one of its parts is withheld. Raises RecordsError for a
        part that is no target of the state.
        """
        total = 0.0
        for key, sign in control.signed(domain):
            if key not in self.published:
                raise RecordsError(
                    f"No target states {'/'.join(key)}, which controls the records",
                    where="alignment of records",
                    expected="every control of data_specs/alignment.yaml among the state's targets",
                    remedy="List its target file in the profile, or take the step out",
                )
            value = self.published[key]
            if value is None:
                return None
            total += sign * value
        return total

    def scaled(self, control: Control, domain: str = "") -> float | None:
        """A control divided by growth: what design-weighted records should total."""
        value = self.figure(control, domain)
        return None if value is None else value / self.growth


def controls_of(targets: pl.DataFrame, state_fips: str, persons: pl.DataFrame) -> Controls:
    """Controls of one state. ``targets``: rows of the target table with the state's own;
    ``persons``: its records with ``design_weight``.

    Raises RecordsError if the state's population is not among them.
    """
    own = targets.filter(is_area(STATE, state_fips))
    rows = own.select("variable", "domain", "published_value").iter_rows()
    published = {(variable, domain): value for variable, domain, value in rows}
    design = float(persons["design_weight"].sort().sum())
    population = published.get(POPULATION)
    if not population or design <= 0:
        raise RecordsError(
            "Total persons is not known both from records and from targets",
            where=f"alignment of records, state {state_fips}",
            expected="a published population and design weights above zero",
            remedy="Keep the population estimates among the profile's targets",
        )
    return Controls(published, population / design)
