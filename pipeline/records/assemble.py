"""From a survey's persons and households to the three record tables of one state, in target-year
dollars.

Belongs here: the order of the steps. Does not belong here: any one step, or what targets ask of the
tables.

1. items the survey does not ask are borrowed from the donor survey (``data_specs/donation.yaml``),
   or unemployment compensation is approximated by its documented proxy;
2. households get the attributes their persons imply;
3. amounts are carried to the target year by the profile's published series;
4. where the profile lists steps, persons' amounts are aligned with administrative data;
5. persons are put into tax units under the target year's rules.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from pipeline.errors import RecordsError
from pipeline.records.align import ALIGNMENT_SCHEMA, Task, align_records, changes_by_origin
from pipeline.records.donation import (
    Donated,
    Lenders,
    donate_items,
    proxy_unemployment_compensation,
    restated,
)
from pipeline.records.donation_carry import carry_donated, follow_totals
from pipeline.records.donation_table import DONATION_SCHEMA
from pipeline.records.tax_units import build_tax_units
from pipeline.records.units import build_units
from pipeline.records.uprating import AmountFactor, uprate
from pipeline.specs.alignment import load_alignment
from pipeline.specs.catalog import Catalog
from pipeline.specs.donation import DonationItem, load_donation
from pipeline.specs.factors import SeriesFactor, factor_of
from pipeline.specs.profiles import Profile


@dataclass(frozen=True)
class Records:
    """``persons``, ``households`` and ``tax_units`` of one state; ``uprated``: amount, factor,
    rule; ``notes``: counted facts as text; ``alignment``: what each step changed (ALIGNMENT_SCHEMA,
    no rows without steps); ``donation``: what was borrowed (DONATION_SCHEMA, no rows without a
    donor).
    """

    persons: pl.DataFrame
    households: pl.DataFrame
    tax_units: pl.DataFrame
    uprated: pl.DataFrame
    notes: tuple[str, ...]
    alignment: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=ALIGNMENT_SCHEMA))
    donation: pl.DataFrame = field(default_factory=lambda: pl.DataFrame(schema=DONATION_SCHEMA))

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        return {"persons": self.persons, "households": self.households, "tax_units": self.tax_units}


def uprating_factors(catalog: Catalog, profile: Profile) -> dict[str, AmountFactor]:
    """The factor of every amount the profile carries, from the records' income year to the target
    year; none when they are the same.
    """
    return _factors(catalog, profile, profile.records.income_year, profile.target_year)


def _factors(catalog: Catalog, profile: Profile, start: int, end: int) -> dict[str, AmountFactor]:
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
    targets: pl.DataFrame | None = None,
    donor_households: pl.DataFrame | None = None,
) -> Records:
    """Record tables of one state. ``donors``: persons of the donor survey, or None for the proxy;
    ``donor_households``: its households, needed where the profile borrows items of households.
    ``targets``: target rows of the state, which the profile's steps align with; needed where it
    lists any. Raises RecordsError, TargetError.
    """
    given = _donated(catalog, profile, persons, households, donors, donor_households)
    units = build_units(given.persons, given.households)
    factors = uprating_factors(catalog, profile)
    tables = {"persons": units.persons, "households": units.households}
    carried, applied = uprate(tables, factors)
    items = _items(profile) if donors is not None else ()
    carried, more_applied, donation = carry_donated(carried, given.table, items, factors)
    if profile.records.steps:
        task = _task(catalog, profile, carried["persons"], targets)
        aligned = align_records(carried["persons"], carried["households"], task)
        made, followed = follow_totals(carried["persons"], aligned.persons, items)
        table, more = aligned.table, (*aligned.notes, *followed)
    else:
        made, table, more = carried["persons"], pl.DataFrame(schema=ALIGNMENT_SCHEMA), ()
    tax_units, tax_notes = build_tax_units(made, profile.target_year)
    origins = (
        f"{row['amount']}: {row['persons']:,} persons {row['origin']}"
        for row in changes_by_origin(made).iter_rows(named=True)
    )
    texts = (*map(str, (*given.notes, *units.notes, *more, *tax_notes)), *origins)
    uprated = pl.concat([applied, more_applied])
    return Records(made, carried["households"], tax_units, uprated, texts, table, donation)


def _items(profile: Profile) -> tuple[DonationItem, ...]:
    donor = profile.records.donor
    return () if donor is None else load_donation().chosen(donor.items)


def _donated(
    catalog: Catalog,
    profile: Profile,
    persons: pl.DataFrame,
    households: pl.DataFrame,
    donors: pl.DataFrame | None,
    donor_households: pl.DataFrame | None,
) -> Donated:
    """Both tables with what is borrowed, in dollars of the records' income year."""
    donor = profile.records.donor
    if donors is None or donor is None:
        people, notes = proxy_unemployment_compensation(persons)
        return Donated(people, households, pl.DataFrame(schema=DONATION_SCHEMA), notes)
    items, lenders = _items(profile), Lenders(donors, donor_households)
    start = load_donation().income_year(donor.source, donor.vintage)
    end = profile.records.income_year
    if start != end:
        factors = _factors(catalog, profile, start, end)
        lenders = restated(lenders, items, {name: f.value for name, f in factors.items()})
    return donate_items(persons, households, lenders, items, profile.seed)


def _task(
    catalog: Catalog, profile: Profile, persons: pl.DataFrame, targets: pl.DataFrame | None
) -> Task:
    """What the steps of the profile need. Raises RecordsError where targets are missing, or the
    records are of several states.
    """
    states = persons["state_fips"].unique().sort().to_list()
    if targets is None or len(states) != 1:
        raise RecordsError(
            "Records cannot be aligned "
            + ("without targets" if targets is None else f"for {len(states)} states at once"),
            where=f"records: steps of profile {profile.id}",
            expected="records of one state, and the targets of nation and states",
            remedy="Pass the table `national_targets`, and one state at a time",
        )
    return Task(
        profile.records.steps,
        load_alignment(),
        targets,
        catalog.variables,
        states[0],
        profile.target_year,
        profile.seed,
        catalog.growth_groups(profile),
    )
