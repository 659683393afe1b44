"""Units that get weights, and the household attributes that targets ask for.

Belongs here: attributes of a household that follow from its persons, as ACS tables define them.
Does not belong here: tax units (``tax_units.py``), carrying amounts to another year
(``uprating.py``), or anything about targets.

A unit is a household, or one person in group quarters. Units of group quarters have
``is_group_quarters`` true and null in ``household_type``, ``is_family``, ``living_alone`` and
``cohabiting``, so that no household target counts them by these.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import polars as pl

from pipeline.errors import RecordsError
from pipeline.ordered_sums import sum_in_order
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import AMOUNTS, HouseholdTable, PersonTable

IS_HOUSEHOLDER = (pl.col("relationship") == "reference_person") | pl.col("is_group_quarters")
"""Persons who stand for their unit: householders, and each person in group quarters."""

HOUSEHOLD_TYPES = ("married_couple", "male_householder", "female_householder")
RELATIVES = ("spouse", "child", "grandchild", "other_relative")
_SHORT = {"investment_income": "investment", "unemployment_compensation": "unemployment"}


@dataclass(frozen=True)
class Units:
    """``households`` (sorted by household_id) and ``persons`` (by household_id, person_number),
    with what ``build_units`` adds; ``notes`` are counted facts.
    """

    households: pl.DataFrame
    persons: pl.DataFrame
    notes: tuple[SourceNote, ...] = field(default=())


def build_units(persons: pl.DataFrame, households: pl.DataFrame) -> Units:
    """Add to each household what its persons imply.

    ``household_type``: married_couple if a spouse of the householder is present, else by the
    householder's sex. ``cohabiting``: an unmarried partner is present and no spouse.
    ``living_alone``: one person. ``is_family``: a relative of the householder is present.
    ``children_under_18``: all persons under 18 who are not householder or spouse;
    ``own_children_under_18``: sons and daughters (biological, adopted, step); ``persons_60_plus``,
    ``persons_65_plus``, ``adults``, ``workers`` (employed or armed forces), ``earners`` (with
    earnings). ``householder_age``, ``householder_sex``, ``householder_race``,
    ``householder_hispanic``. ``aggregate_<amount>``: sum over members, dollars; null where no
    member was asked. ``any_<amount>``: some member has a nonzero amount, a loss included; also
    ``any_earnings`` (wages or self-employment). ``any_investment`` and ``any_unemployment`` drop
    the second word. Columns of the households beyond HouseholdTable are kept, and stand last.

    Raises RecordsError if a household has no person at its head, or the tables do not belong
    together.
    """
    people = persons.select(
        list(PersonTable.columns()) + [c for c in persons.columns if c not in PersonTable.columns()]
    ).sort("household_id", "person_number")
    base = households.select(list(HouseholdTable.columns())).sort("household_id")
    derived = _attributes(people)
    joined = base.join(
        derived, on="household_id", how="left", validate="1:1", maintain_order="left"
    )
    strays = people.join(base, on="household_id", how="anti")
    if joined["heads"].null_count() or strays.height:
        first = (
            joined.filter(pl.col("heads").is_null()) if joined["heads"].null_count() else strays
        )["household_id"][0]
        raise RecordsError(
            "Persons and households do not belong together",
            where=f"household {first}",
            expected="the tables of one reader",
            remedy="Materialise both tables again",
        )
    headless = joined.filter(~pl.col("is_group_quarters") & (pl.col("heads") != 1))
    if headless.height:
        raise RecordsError(
            f"{headless.height:,} households do not have exactly one householder",
            where=f"household {headless['household_id'][0]}",
            expected="one person with relationship reference_person",
            remedy="Materialise the microdata again; see the reader's notes",
        )
    household = ~pl.col("is_group_quarters")
    kind = (
        pl.when("spouse_present")
        .then(pl.lit("married_couple"))
        .otherwise(pl.col("householder_sex") + "_householder")
    )
    result = joined.with_columns(
        pl.when(household).then(kind).alias("household_type"),
        pl.when(household)
        .then(pl.col("partner_present") & ~pl.col("spouse_present"))
        .alias("cohabiting"),
        pl.when(household).then(pl.col("persons") == 1).alias("living_alone"),
        pl.when(household).then("relative_present").alias("is_family"),
    ).drop("heads", "spouse_present", "partner_present", "relative_present")
    more = [c for c in households.columns if c not in HouseholdTable.columns()]
    if more:
        own = households.select("household_id", *more)
        result = result.join(own, on="household_id", how="left", maintain_order="left")
    return Units(result, people, _notes(result))


def amount_sums(persons: pl.DataFrame) -> pl.DataFrame:
    """household_id and, per amount, ``aggregate_<amount>`` and ``any_<amount>``; sums run in person
    order, so they do not depend on row order.
    """
    ordered = persons.sort("household_id", "person_number")
    sums = [
        pl.when(pl.col(name).count() > 0)
        .then(sum_in_order(name, "person_number"))
        .alias(f"aggregate_{name}")
        for name in AMOUNTS
    ]
    anys = [
        pl.when(pl.col(name).count() > 0)
        .then((pl.col(name) != 0).any())
        .alias(f"any_{_SHORT.get(name, name)}")
        for name in AMOUNTS
        if name != "total_income"
    ]
    earnings = (
        ((pl.col("wages").fill_null(0) != 0) | (pl.col("self_employment").fill_null(0) != 0))
        .any()
        .alias("any_earnings")
    )
    return ordered.group_by("household_id", maintain_order=True).agg(*sums, *anys, earnings)


def _attributes(people: pl.DataFrame) -> pl.DataFrame:
    relationship, head = pl.col("relationship"), IS_HOUSEHOLDER
    child = (pl.col("age") < 18) & ~relationship.is_in(["reference_person", "spouse"])

    def count(condition: pl.Expr, name: str) -> pl.Expr:
        return condition.sum().cast(pl.Int32).alias(name)

    earner = (pl.col("wages").fill_null(0) != 0) | (pl.col("self_employment").fill_null(0) != 0)
    table = people.group_by("household_id", maintain_order=True).agg(
        head.sum().alias("heads"),
        (relationship == "spouse").any().alias("spouse_present"),
        (relationship == "unmarried_partner").any().alias("partner_present"),
        relationship.is_in(list(RELATIVES)).any().alias("relative_present"),
        *(
            pl.col(name).filter(head).first().alias(f"householder_{name}")
            for name in ("age", "sex", "race", "hispanic")
        ),
        count(child, "children_under_18"),
        count((pl.col("age") < 18) & (relationship == "child"), "own_children_under_18"),
        count(pl.col("age") >= 18, "adults"),
        count(pl.col("age") >= 60, "persons_60_plus"),
        count(pl.col("age") >= 65, "persons_65_plus"),
        count(pl.col("employment").is_in(["employed", "armed_forces"]), "workers"),
        count(earner, "earners"),
    )
    return table.join(
        amount_sums(people), on="household_id", how="left", validate="1:1", maintain_order="left"
    )


def _notes(households: pl.DataFrame) -> tuple[SourceNote, ...]:
    asked = households.filter(~pl.col("is_group_quarters"))
    gap = asked.filter(
        (pl.col("household_income") - pl.col("aggregate_total_income")).abs() > 1.0
    ).height
    notes = [
        SourceNote("households", asked.height, "units that are households"),
        SourceNote(
            "group_quarters",
            households.height - asked.height,
            "units that are one person in group quarters",
        ),
    ]
    if gap:
        notes.append(
            SourceNote(
                "household_income_differs",
                gap,
                "households whose income as published is not the sum of their members' total"
                " income",
            )
        )
    return tuple(notes)
