"""The words that every part of the pipeline shares: levels, keys of targets, units, roles, names of
columns.

Belongs here: names and constants that two or more folders of ``pipeline`` must spell alike, and the
few one-line rules that go with them. Does not belong here: what a spec file may say
(``pipeline/specs``), schemas of whole tables, or code that reads or makes a table.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import polars as pl

Level = Literal["nation", "state", "county", "tract"]
Unit = Literal["persons", "households", "returns", "usd"]
Key = tuple[str, str]

NATION, STATE, COUNTY, TRACT = LEVELS = get_args(Level)
"""Levels of the geography, coarsest first."""

LEVEL_RANK = {level: rank for rank, level in enumerate(LEVELS)}
"""0 for the nation and so on: what tables are sorted by."""

PUMA = "puma"
"""Public use microdata areas: the level of survey estimates below the state, and the column that
holds a record's. They cross counties, so they are no level of the geography."""

GEOID_LENGTH = {NATION: 0, STATE: 2, COUNTY: 5, TRACT: 11}
"""Characters of a GEOID at each level; an area's GEOID begins with that of every area above it."""

AREA_COLUMN = {STATE: "state_fips", COUNTY: "county_fips", TRACT: "tract"}
"""The column of the geography table that holds the GEOID of each level."""

SUMMARY_LEVELS = {"010": NATION, "040": STATE, "050": COUNTY, "140": TRACT}
"""Census Bureau summary levels that we use: first three characters of a GEO_ID, column SUMLEV."""

TARGET_KEY = ("level", "geoid", "variable", "domain")
"""What names a target: no two rows of a target table agree in these four columns."""

VARIABLE_KEY = ("variable", "domain")
"""What names a variable: the measure and the subset of it."""

POPULATION: Key = ("persons", "total")
"""Total persons: prior weights and design weights are scaled to it."""

CALIBRATE, VALIDATION, DROPPED, EVIDENCE = ROLES = (
    *("calibrate", "validation", "dropped", "evidence"),
)
"""What becomes of a target: it is fitted, only compared with, or out of reach of these records; or
it is no published target, but the survey's own estimate, held to softly."""

FITTED_ROLES = (CALIBRATE, EVIDENCE)
"""Roles of rows that weights are fitted to."""

USD = "usd"
SMALLEST = {"persons": 1.0, "households": 1.0, "returns": 1.0, USD: 1000.0}
"""The least amount that counts, by unit: one person, household or return, or 1,000 dollars (the
amount that the IRS and the ACS print dollars in). No scale of a loss is smaller, and no relative
error is taken of a target below it."""

SIGNED_UNITS = frozenset({USD})
"""Units in which a total may be negative: a loss is a negative income. Counts cannot be."""

DESIGN_SEPARATOR = "|"
"""Between measure and domain in the name of a column of contributions: ``persons|age_65_plus``."""

DENSE, SELECTED, WEIGHTS = "dense_weights", "selected_pairs", "weights"
"""Stored tables that a later step reads back as arrays."""


def design_column(key: Iterable[str]) -> str:
    """Name of the column of ``candidate_units`` that holds what a unit adds to a variable."""
    return DESIGN_SEPARATOR.join(key)


def key_of(column: str) -> Key:
    """The variable (measure, domain) that a column of contributions belongs to."""
    variable, _, domain = column.partition(DESIGN_SEPARATOR)
    return variable, domain


def design_columns(columns: Iterable[str]) -> list[str]:
    """Those of ``columns`` that hold contributions, in their order."""
    return [column for column in columns if DESIGN_SEPARATOR in column]


def levels_below(level: str, levels: Iterable[str] = LEVELS) -> list[str]:
    """Those of ``levels`` that are finer than ``level``, coarsest first."""
    return [name for name in levels if LEVEL_RANK[name] > LEVEL_RANK[level]]


def is_variable(key: Key) -> pl.Expr:
    """Rows of a target table that state the variable ``key``."""
    return (pl.col("variable") == key[0]) & (pl.col("domain") == key[1])


def is_water(tract: str) -> pl.Expr:
    """Tracts that are water only, by the code in the column ``tract``: numbers from 9900 on
    (https://www.census.gov/programs-surveys/geography/about/glossary.html, census tract).
    """
    return pl.col(tract).str.slice(5, 2) == "99"


def is_area(level: str, geoid: str) -> pl.Expr:
    """Rows of a target table that speak of one area."""
    return (pl.col("level") == level) & (pl.col("geoid") == geoid)
