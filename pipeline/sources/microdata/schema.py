"""The two tables every survey leaves its reader as, and the checks on their values.

Belongs here: the schemas of persons and households, the vocabularies of their coded columns, the
container a reader returns, and the checks between the two tables. Does not belong here: any one
survey's codes (``acs_pums.py``, ``cps_asec.py``) or attributes derived for targets
(``pipeline/records/units.py``).
"""

from __future__ import annotations

from dataclasses import dataclass

import dataframely as dy
import polars as pl

from pipeline.errors import RecordsError, SourceValueError
from pipeline.sources.base import SourceNote
from pipeline.sources.files import FileProvenance

SEX = ("male", "female")
RELATIONSHIP = (
    "reference_person",
    "spouse",
    "unmarried_partner",
    "child",
    "grandchild",
    "other_relative",
    "nonrelative",
    "gq_institutional",
    "gq_noninstitutional",
)
MARITAL_STATUS = ("married", "widowed", "divorced", "separated", "never_married")
RACE = ("white", "black", "aian", "asian", "nhpi", "other", "two_or_more")
SCHOOL = ("not_enrolled", "preschool", "kindergarten", "grades_1_8", "grades_9_12", "college")
EMPLOYMENT = ("employed", "unemployed", "armed_forces", "not_in_labor_force")
CLASS_OF_WORKER = ("private", "government", "self_employed", "unpaid_family")
COMMUTE = ("drove_alone", "carpooled", "public_transit", "walked", "other_means", "worked_home")
MOVED = ("same_house", "different_house_us", "abroad")
TENURE = ("owner", "renter")

AMOUNTS = (
    "wages",
    "self_employment",
    "investment_income",
    "social_security",
    "ssi",
    "public_assistance",
    "retirement",
    "other_income",
    "unemployment_compensation",
    "total_income",
)
"""Person columns in annual dollars of the survey's income year; null where it does not ask."""

COMPONENTS = tuple(name for name in AMOUNTS if name != "total_income")
"""The amounts that add up to ``total_income``.

In the ACS ``other_income`` contains unemployment compensation.
"""

ALIGNED_AMOUNTS = ("capital_gains", "partnership")
"""Amounts that no survey read here asks for: persons of record tables, and tax units, have them
where the profile's steps put them there (``pipeline/records/align.py``)."""


def _one_of(values: tuple[str, ...], nullable: bool = False) -> dy.String:
    return dy.String(
        nullable=nullable, check={"vocabulary": lambda column: column.is_in(list(values))}
    )


def _amount() -> dy.Float64:
    return dy.Float64(nullable=True)


class PersonTable(dy.Schema):
    """One row per person. Key: (household_id, person_number). Amounts in dollars of the survey's
    income year, signed.
    """

    household_id = dy.String(primary_key=True, min_length=1)
    person_number = dy.Int32(primary_key=True, min=1)
    source = dy.String(min_length=1)
    state_fips = dy.String(regex=r"^\d{2}$")
    puma = dy.String(nullable=True, regex=r"^\d{7}$")
    county_fips = dy.String(nullable=True, regex=r"^\d{5}$")
    is_group_quarters = dy.Bool()
    design_weight = dy.Float64(min=0.0)
    age = dy.Int32(min=0, max=120)
    sex = _one_of(SEX)
    relationship = _one_of(RELATIONSHIP)
    marital_status = _one_of(MARITAL_STATUS)
    race = _one_of(RACE)
    hispanic = dy.Bool()
    education = dy.Int32(nullable=True, min=1, max=24)
    school = _one_of(SCHOOL, nullable=True)
    employment = _one_of(EMPLOYMENT, nullable=True)
    at_work = dy.Bool(nullable=True)
    class_of_worker = _one_of(CLASS_OF_WORKER, nullable=True)
    commute = _one_of(COMMUTE, nullable=True)
    disability = dy.Bool(nullable=True)
    veteran = dy.Bool(nullable=True)
    foreign_born = dy.Bool(nullable=True)
    citizen = dy.Bool(nullable=True)
    naturalized = dy.Bool(nullable=True)
    other_language = dy.Bool(nullable=True)
    moved = _one_of(MOVED, nullable=True)
    gave_birth = dy.Bool(nullable=True)
    poverty_ratio = dy.Int32(nullable=True, min=0, max=501)
    weeks_worked = dy.Int32(nullable=True, min=0, max=52)
    hours_worked = dy.Int32(nullable=True, min=0, max=99)
    wages = dy.Float64(nullable=True, min=0.0)
    self_employment = _amount()
    investment_income = _amount()
    social_security = dy.Float64(nullable=True, min=0.0)
    ssi = dy.Float64(nullable=True, min=0.0)
    public_assistance = dy.Float64(nullable=True, min=0.0)
    retirement = dy.Float64(nullable=True, min=0.0)
    other_income = dy.Float64(nullable=True, min=0.0)
    unemployment_compensation = dy.Float64(nullable=True, min=0.0)
    total_income = _amount()

    @dy.rule()
    def group_quarters_relationship(cls) -> pl.Expr:
        """A person is in group quarters exactly if his relationship says so."""
        return pl.col("is_group_quarters") == pl.col("relationship").str.starts_with("gq_")

    @dy.rule()
    def naturalized_are_foreign_born_citizens(cls) -> pl.Expr:
        return ~pl.col("naturalized") | (pl.col("citizen") & pl.col("foreign_born"))


class HouseholdTable(dy.Schema):
    """One row per household, and one per person in group quarters. Key: household_id.
    ``household_income`` in dollars, signed.
    """

    household_id = dy.String(primary_key=True, min_length=1)
    source = dy.String(min_length=1)
    state_fips = dy.String(regex=r"^\d{2}$")
    puma = dy.String(nullable=True, regex=r"^\d{7}$")
    county_fips = dy.String(nullable=True, regex=r"^\d{5}$")
    is_group_quarters = dy.Bool()
    design_weight = dy.Float64(min=0.0)
    persons = dy.Int32(min=1)
    tenure = _one_of(TENURE, nullable=True)
    household_income = _amount()
    food_stamps = dy.Bool(nullable=True)

    @dy.rule()
    def group_quarters_are_single(cls) -> pl.Expr:
        return ~pl.col("is_group_quarters") | (
            (pl.col("persons") == 1)
            & pl.col("household_income").is_null()
            & pl.col("tenure").is_null()
        )

    @dy.rule()
    def county_lies_in_state(cls) -> pl.Expr:
        return pl.col("county_fips").str.head(2) == pl.col("state_fips")


@dataclass(frozen=True)
class Microdata:
    """What a microdata reader returns.

    ``persons`` and ``households`` obey the schemas above and are sorted by their keys.
    ``replicate_weights`` (``replicates.py``) is null where the survey publishes none.
    ``provenance`` names every file read; ``notes`` are counted facts.
    """

    persons: pl.DataFrame
    households: pl.DataFrame
    provenance: tuple[FileProvenance, ...]
    notes: tuple[SourceNote, ...]
    replicate_weights: pl.DataFrame | None = None


def check_table(frame: pl.DataFrame, schema: type[dy.Schema], where: str) -> pl.DataFrame:
    """Return ``frame`` with exactly the schema's columns, in order. Raises SourceValueError naming
    the rules broken and the first record that breaks each.
    """
    names = list(schema.columns())
    try:
        selected = frame.select(names)
        good, failure = schema.filter(selected, cast=False)
    except (dy.exc.SchemaError, pl.exceptions.ColumnNotFoundError) as error:
        raise SourceValueError(
            f"A {schema.__name__} has wrong columns: {error}",
            where=where,
            expected=f"the columns of {schema.__name__}",
            remedy="This is a fault of the reader: report it",
        ) from error
    counts = failure.counts()
    if not counts:
        return good
    invalid = failure.invalid()
    broken = "; ".join(f"{rule} ({count:,} records)" for rule, count in sorted(counts.items()))
    first = invalid.select(
        pl.col("household_id", *(["person_number"] if "person_number" in names else []))
    ).row(0)
    raise SourceValueError(
        f"{invalid.height:,} records of {schema.__name__} break these rules: {broken}",
        where=f"{where}, first at household {' person '.join(map(str, first))}",
        expected="values inside the published ranges and code lists",
        remedy=(
            "Compare the file with the publisher's data dictionary for this vintage; a changed code"
            " needs a change in data_specs or the reader"
        ),
    )


def check_microdata(
    persons: pl.DataFrame,
    households: pl.DataFrame,
    where: str,
    schemas: tuple[type[PersonTable], type[HouseholdTable]] = (PersonTable, HouseholdTable),
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Check both tables against ``schemas`` and that they belong together; returns them sorted by
    key.

    Raises RecordsError if there are no records, a person has no household, a household no persons,
    or the stated size is not the number of persons.
    """
    if persons.is_empty() or households.is_empty():
        raise RecordsError(
            "There are no records",
            where=where,
            expected="at least one person and one household",
            remedy="Check the state asked for and the file",
        )
    persons = check_table(persons, schemas[0], where).sort("household_id", "person_number")
    households = check_table(households, schemas[1], where).sort("household_id")
    sizes = persons.group_by("household_id").len("found")
    both = households.join(sizes, on="household_id", how="full", coalesce=True)
    wrong = both.filter(
        pl.col("persons").is_null()
        | pl.col("found").is_null()
        | (pl.col("persons") != pl.col("found"))
    ).sort("household_id")
    if wrong.height:
        row = wrong.row(0, named=True)
        raise RecordsError(
            f"{wrong.height:,} households do not agree with their persons; the first states"
            f" {row['persons']} persons and has {row['found']}",
            where=f"{where}, household {row['household_id']}",
            expected=(
                "every person in exactly one household, and as many persons as the household record"
                " states"
            ),
            remedy=(
                "Person and housing file must be of the same state, vintage and edition: download"
                " both again"
            ),
        )
    return persons, households
