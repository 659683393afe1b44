"""Households of the PUMS: from the housing file, or rebuilt from person records without one.

Belongs here: columns of the housing file, vacant units, units of group quarters, and that both
files hold the same households. Does not belong here: persons (``acs_pums.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.errors import RecordsError
from pipeline.ordered_sums import sum_in_order
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.columns import SurveyColumns, yes_no


def read_households(
    columns: SurveyColumns, persons: pl.DataFrame, source: str, year: int, notes: list[SourceNote]
) -> pl.DataFrame:
    """Households from the housing file; group-quarters persons get units of their own, vacant units
    are counted and left out.
    """
    _one_reference_person(persons, columns.label)
    columns.require_each_once("SERIALNO")
    kind = columns.first_of("TYPE", "TYPEHUGQ")
    is_unit = columns.coded(kind, yes_no([1], [2, 3]), dtype=pl.Boolean, nullable=False)
    size = columns.integer("NP", low=0, high=99, nullable=False)
    weight = columns.number("WGTP", low=0, nullable=False)
    vacant = is_unit & (size == 0)
    shares = f"weight {weight.filter(vacant).sum():,.0f} of {weight.sum():,.0f} housing units"
    detail = f"vacant housing units left out; {shares}"
    notes.append(SourceNote("vacant", int(vacant.sum()), detail))
    factor = columns.integer("ADJINC", nullable=False).cast(pl.Float64) / 1e6
    read = pl.DataFrame(
        {
            "household_id": f"acs{year}-" + columns.text("SERIALNO"),
            "design_weight": weight,
            "persons": size,
            "tenure": columns.coded("TEN", {1: "owner", 2: "owner", 3: "renter", 4: "renter"}),
            "household_income": columns.number("HINCP") * factor,
            "food_stamps": columns.coded("FS", yes_no([1], [2]), dtype=pl.Boolean),
        }
    ).filter(is_unit & ~vacant)
    place = persons.group_by("household_id").agg(
        pl.col("state_fips", "puma", "county_fips", "is_group_quarters").first()
    )
    units = read.join(place, on="household_id", how="left").with_columns(source=pl.lit(source))
    empty = units.filter(pl.col("is_group_quarters").is_null())["household_id"].sort()
    members = persons.filter(~pl.col("is_group_quarters"))
    homeless = members.join(read, on="household_id", how="anti")["household_id"].sort()
    if len(empty) or len(homeless):
        raise RecordsError(
            f"{len(empty):,} occupied housing units have no persons, and"
            f" {len(homeless):,} persons have no housing unit",
            where=f"{columns.label}, household {(empty if len(empty) else homeless)[0]}",
            expected="the same serial numbers in the person and the housing file",
            remedy="Take both files of the same state, year and edition",
        )
    group_quarters = rebuild_households(persons.filter("is_group_quarters"), columns.label)
    return pl.concat([units.select(group_quarters.columns), group_quarters])


def rebuild_households(persons: pl.DataFrame, where: str) -> pl.DataFrame:
    """Households from person records alone: weight PWGTP of the reference person, income the sum of
    the members' total income.
    """
    _one_reference_person(persons, where)
    head = (pl.col("relationship") == "reference_person") | pl.col("is_group_quarters")
    return persons.group_by("household_id").agg(
        pl.col("source", "state_fips", "puma", "county_fips", "is_group_quarters").first(),
        pl.col("design_weight").filter(head).first(),
        pl.len().cast(pl.Int32).alias("persons"),
        pl.lit(None, dtype=pl.String).alias("tenure"),
        pl.when(~pl.col("is_group_quarters").first())
        .then(sum_in_order("total_income", "person_number"))
        .alias("household_income"),
        pl.lit(None, dtype=pl.Boolean).alias("food_stamps"),
    )


def _one_reference_person(persons: pl.DataFrame, where: str) -> None:
    counts = (
        persons.filter(~pl.col("is_group_quarters"))
        .group_by("household_id")
        .agg((pl.col("relationship") == "reference_person").sum().alias("heads"))
    )
    wrong = counts.filter(pl.col("heads") != 1).sort("household_id")
    if wrong.height:
        raise RecordsError(
            f"{wrong.height:,} households have no reference person or several; the first has"
            f" {wrong['heads'][0]}",
            where=f"{where}, household {wrong['household_id'][0]}",
            expected="exactly one person with RELP 0 or RELSHIPP 20 in each housing unit",
            remedy="The file was cut or edited: download it again",
        )
