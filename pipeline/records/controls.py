"""Published figures that records are aligned with.

Belongs here: looking a figure up among the state's targets. Does not belong here: which figures
control what (``data_specs/alignment.yaml``), or the steps.

Records of an earlier year stand for fewer and younger people than the target year has. Steps
therefore see records that have grown (``growth.py``), as the concept gap does, and of a control
only what is a difference of concept and reporting.
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
    """``published``: figure of the target year by (variable, domain), null where withheld."""

    published: Mapping[Key, float | None]

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


def controls_of(targets: pl.DataFrame, state_fips: str) -> Controls:
    """Controls of one state. ``targets``: rows of the target table with the state's own.

    Raises RecordsError if the state's population is not among them.
    """
    own = targets.filter(is_area(STATE, state_fips))
    rows = own.select("variable", "domain", "published_value").iter_rows()
    published = {(variable, domain): value for variable, domain, value in rows}
    if not published.get(POPULATION):
        raise RecordsError(
            "Total persons of the target year is not known",
            where=f"alignment of records, state {state_fips}",
            expected="a published population above zero",
            remedy="Keep the population estimates among the profile's targets",
        )
    return Controls(published)
