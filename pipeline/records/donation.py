"""Filling columns that one survey lacks from another survey, or from a documented proxy.

Belongs here: the order of the items, facts of persons and households that cells need, dollars of
another year, the proxy for unemployment compensation. Does not belong here: the draw
(``hot_deck.py``), one item (``donated_items.py``), reading either survey, or using what is filled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from pipeline.errors import RecordsError
from pipeline.ordered_sums import series_total
from pipeline.records.donated_items import Given, give_item, origins
from pipeline.records.donation_table import DONATION_SCHEMA, far_from_donors, rows_of
from pipeline.records.units import build_units
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.donor_schema import AMOUNT_ITEMS
from pipeline.sources.microdata.schema import COMPONENTS
from pipeline.specs.donation import Donation, DonationItem, load_donation

UNEMPLOYMENT = "unemployment_compensation"
MIN_AGE = 15
FULL_TIME = 35
"""Usual hours a week from which work is full-time (Bureau of Labor Statistics)."""
_KEYS = ["household_id", "person_number"]


@dataclass(frozen=True, eq=False)
class Donated:
    """``persons`` and ``households`` with the columns of the items and their ``x_origin``;
    ``table`` (DONATION_SCHEMA) in dollars of the tables given; ``notes``: counted facts.
    """

    persons: pl.DataFrame
    households: pl.DataFrame
    table: pl.DataFrame
    notes: tuple[SourceNote, ...]


@dataclass(frozen=True, eq=False)
class Lenders:
    """The donor survey: ``persons`` and ``households`` (None where no item is of households), in
    dollars of the records' income year.
    """

    persons: pl.DataFrame
    households: pl.DataFrame | None = None
    notes: tuple[SourceNote, ...] = field(default=())


def donate_items(
    persons: pl.DataFrame,
    households: pl.DataFrame,
    lenders: Lenders,
    items: Sequence[DonationItem],
    seed: int,
    rules: Donation | None = None,
) -> Donated:
    """The tables with every column of ``items`` that the donors have, items in the order given.

    ``unemployment_compensation`` is the documented proxy where no item gives it. Raises
    RecordsError if a table lacks a trait, or households are asked for and not lent.
    """
    rules = rules or load_donation()
    proxied, proxy_notes = proxy_unemployment_compensation(persons)
    before = {UNEMPLOYMENT: _weighted(proxied, UNEMPLOYMENT)}
    states = persons["state_fips"].unique().to_list()
    state = states[0] if len(states) == 1 else None
    notes, rows, gave = list(lenders.notes), [], set[str]()
    of_persons = [item for item in items if item.level == "person"]
    of_households = [item for item in items if item.level == "household"]
    made, lent = persons, with_household(lenders.persons)
    for item in of_persons:
        given = give_item(item, with_household(made), lent, rules.traits, seed)
        made = _with_values(made, given)
        rows.append(rows_of(given, state, before, rules.limits))
        notes += given.notes
        gave |= set(given.columns)
    if UNEMPLOYMENT not in gave:
        made, notes = made.drop(UNEMPLOYMENT, strict=False), [*notes, *proxy_notes]
        proxy = proxied.select(*_KEYS, UNEMPLOYMENT)
        made = made.join(proxy, on=_KEYS, how="left", maintain_order="left")
    homes = households
    if of_households:
        told = with_householder(persons, households)
        lent = with_householder(lenders.persons, _lent_households(lenders, of_households))
        for item in of_households:
            given = give_item(item, told, lent, rules.traits, seed)
            homes = _with_values(homes, given)
            rows.append(rows_of(given, state, _receipt(item, told), rules.limits))
            notes += given.notes
    table = pl.concat(rows) if rows else pl.DataFrame(schema=DONATION_SCHEMA)
    notes += [SourceNote("far_from_donors", 1, words) for words in far_from_donors(table)]
    order = [c for c in persons.columns if c in made.columns]
    order += [c for c in made.columns if c not in order]
    return Donated(made.select(order), homes, table, tuple(notes))


def donate(
    recipients: pl.DataFrame,
    donors: pl.DataFrame,
    variable: str,
    cells: Sequence[str] | None = None,
    seed: int = 0,
    *,
    min_donors: int = 10,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``recipients`` with ``variable`` filled from ``donors`` for persons of 15 or more (null
    below), and counted notes: one column by the draw of ``hot_deck.py``. ``cells``: those of
    unemployment compensation.

    Raises RecordsError if the donors know nothing of ``variable``, or a trait is not a column of
    both tables.
    """
    rules = load_donation()
    item = DonationItem(
        name=variable,
        level="person",
        columns=(variable,),
        universe=f"age >= {MIN_AGE}",
        cells=tuple(rules.item(UNEMPLOYMENT).cells if cells is None else cells),
        min_donors=min_donors,
        why="asked for by the caller and not by a profile",
    )
    given = give_item(item, recipients, donors, rules.traits, seed)
    if not given.columns:
        raise RecordsError(
            f"No donor has {variable}",
            where=f"donation of {variable}",
            expected="a survey that asks for it",
            remedy="Use the documented proxy instead",
        )
    columns = recipients.columns
    result = recipients.drop(variable, strict=False).with_columns(given.values[variable])
    return result.select([*columns] + [variable] * (variable not in columns)), given.notes


def restated(
    lenders: Lenders, items: Sequence[DonationItem], factors: Mapping[str, float]
) -> Lenders:
    """The donors' amounts times the factor of their column (``factors``, by the amount of the
    records whose series carries it), so that they are dollars of the records' income year. An item
    whose series is not there stays, and is named.
    """
    carried = {c: item.carried_as for item in items for c in item.columns if item.carried_as}
    series = {**{name: name for name in COMPONENTS}, **carried}
    known = {column: factors[name] for column, name in series.items() if name in factors}
    notes = [
        SourceNote("donation_not_restated", 1, f"{column}: the profile has no series for {name}")
        for column, name in carried.items()
        if name not in factors
    ]

    def times(table: pl.DataFrame) -> pl.DataFrame:
        return table.with_columns(
            pl.col(c) * f for c, f in known.items() if c in table.columns and c in _DOLLARS
        )

    homes = lenders.households
    return Lenders(times(lenders.persons), None if homes is None else times(homes), tuple(notes))


_DOLLARS = frozenset((*AMOUNT_ITEMS, *COMPONENTS))


def _weighted(persons: pl.DataFrame, column: str) -> tuple[float, float]:
    """Weighted receivers and dollars."""
    receiving = persons.filter(pl.col(column) > 0).sort(_KEYS)
    weight = receiving["design_weight"]
    return series_total(weight), series_total(weight * receiving[column])


def _receipt(item: DonationItem, homes: pl.DataFrame) -> dict[str, tuple[float, None]]:
    """What the records themselves tell of an item given an answer: who says yes, no dollars."""
    if not item.given or homes[item.given].null_count() == homes.height:
        return {}
    receiving = homes.filter(item.given).sort("household_id")
    return {c: (series_total(receiving["design_weight"]), None) for c in item.columns}


def _with_values(table: pl.DataFrame, given: Given) -> pl.DataFrame:
    """``table`` with the item's columns and the origin of each."""
    if not given.columns:
        return table
    origin = origins(given)
    return table.with_columns(
        *(given.values[c] for c in given.columns),
        *(origin.alias(f"{c}_origin") for c in given.columns),
    )


def with_household(persons: pl.DataFrame) -> pl.DataFrame:
    """Persons with what their household tells: ``children_in_household`` (persons under 18 other
    than householder and spouse), ``full_time_in_household``.
    """
    child = (pl.col("age") < 18) & ~pl.col("relationship").is_in(["reference_person", "spouse"])
    full_time = pl.col("hours_worked").fill_null(0) >= FULL_TIME
    facts = persons.group_by("household_id").agg(
        children_in_household=child.sum(), full_time_in_household=full_time.any()
    )
    return persons.join(facts, on="household_id", how="left", maintain_order="left")


def with_householder(persons: pl.DataFrame, households: pl.DataFrame) -> pl.DataFrame:
    """Households with what their persons imply (``units.py``), and the poverty ratio of the
    householder, in the order given.
    """
    implied = build_units(persons, households).households
    head = persons.filter(pl.col("relationship") == "reference_person").select(
        "household_id", householder_poverty_ratio="poverty_ratio"
    )
    facts = implied.select(
        "household_id", *(c for c in implied.columns if c not in households.columns)
    )
    return households.join(facts, on="household_id", how="left", maintain_order="left").join(
        head, on="household_id", how="left", maintain_order="left"
    )


def _lent_households(lenders: Lenders, items: Sequence[DonationItem]) -> pl.DataFrame:
    if lenders.households is None:
        raise RecordsError(
            "There are no households of the donor survey",
            where=f"donation of {', '.join(item.name for item in items)}",
            expected="persons and households of the survey",
            remedy="Materialise the donor's households too",
        )
    return lenders.households


def proxy_unemployment_compensation(
    persons: pl.DataFrame,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """ACS persons with ``unemployment_compensation`` by proxy, when no donor survey is at hand, and
    counted notes.

    Proxy: ``other_income`` of persons of 16 to 64 who are unemployed or worked 1 to 49 weeks in the
    year; zero for other persons of 15 or more; null below. ``other_income`` also holds veterans'
    payments, child support and alimony, so the proxy is too wide there, and it misses recipients
    who worked 50 weeks or more or none. ``other_income`` itself is left as published: do not add
    the two.
    """
    between = (pl.col("weeks_worked") >= 1) & (pl.col("weeks_worked") < 50)
    likely = pl.col("age").is_between(16, 64) & ((pl.col("employment") == "unemployed") | between)
    value = (
        pl.when(pl.col("age") < MIN_AGE)
        .then(None)
        .when(likely.fill_null(False))
        .then(pl.col("other_income").fill_null(0.0))
        .otherwise(0.0)
    )
    result = persons.with_columns(value.cast(pl.Float64).alias(UNEMPLOYMENT))
    receiving = result.filter(pl.col(UNEMPLOYMENT) > 0)
    dollars = series_total(receiving["design_weight"] * receiving[UNEMPLOYMENT])
    detail = (
        f"persons given other_income as unemployment compensation; weighted {dollars:,.0f} dollars"
    )
    note = SourceNote("unemployment_compensation_proxy", receiving.height, detail)
    return result, (note,)
