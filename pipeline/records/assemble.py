"""From a survey's persons and households to the three record tables of one state, in target-year
dollars.

Belongs here: the order of the steps. Does not belong here: any one step, or what targets ask of the
tables.

1. an item the survey does not ask is borrowed from the donor survey, or approximated by its
   documented proxy;
2. households get the attributes their persons imply;
3. amounts are carried to the target year by the profile's published series;
4. persons are put into tax units under the target year's rules.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from pipeline.records.donation import donate, proxy_unemployment_compensation
from pipeline.records.tax_units import build_tax_units
from pipeline.records.units import build_units
from pipeline.records.uprating import AmountFactor, uprate
from pipeline.specs.catalog import Catalog
from pipeline.specs.factors import SeriesFactor, factor_of
from pipeline.specs.profiles import Profile

DONATED = "unemployment_compensation"


@dataclass(frozen=True)
class Records:
    """``persons``, ``households`` and ``tax_units`` of one state; ``uprated``: amount, factor,
    rule; ``notes``: counted facts as text.
    """

    persons: pl.DataFrame
    households: pl.DataFrame
    tax_units: pl.DataFrame
    uprated: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        return {"persons": self.persons, "households": self.households, "tax_units": self.tax_units}


def uprating_factors(catalog: Catalog, profile: Profile) -> dict[str, AmountFactor]:
    """The factor of every amount the profile carries, from the records' income year to the target
    year; none when they are the same.
    """
    start, end = profile.records.income_year, profile.target_year
    if start == end:
        return {}
    found = {}
    for column, rule in profile.records.uprating.items():
        series = factor_of(catalog.factors, rule, SeriesFactor)
        source = f"{series.publisher}, {series.url}"
        carried = f"{rule} {start} -> {end}"
        found[column] = AmountFactor(series.factor(start, end), carried, source)
    return found


def assemble_records(
    catalog: Catalog,
    profile: Profile,
    persons: pl.DataFrame,
    households: pl.DataFrame,
    donors: pl.DataFrame | None,
) -> Records:
    """Record tables of one state. ``donors``: persons of the donor survey, or None for the proxy.
    Raises RecordsError, TargetError.
    """
    if donors is None:
        people, notes = proxy_unemployment_compensation(persons)
    else:
        people, notes = donate(persons, donors, DONATED, seed=profile.seed)
    units = build_units(people, households)
    carried, applied = uprate(
        {"persons": units.persons, "households": units.households},
        uprating_factors(catalog, profile),
    )
    tax_units, tax_notes = build_tax_units(carried["persons"], profile.target_year)
    texts = tuple(map(str, (*notes, *units.notes, *tax_notes)))
    return Records(carried["persons"], carried["households"], tax_units, applied, texts)
