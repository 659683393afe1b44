"""Replicate weights of a survey's persons and households, in one table by state.

Belongs here: the columns of that table, and reading them from files of the PUMS. Does not belong
here: estimates and their standard errors (``pipeline/records/survey_estimates.py``).

A row is a person, or with ``person_number`` 0 the household itself: WGTP1 to WGTP80 where there is
a housing file, else, as with the design weight, those of the reference person. A person in group
quarters is a household of one with the person's weights. Replicate weights may be zero or negative.

    variance of an estimate = 4 / 80 * sum over the replicates of (replicate estimate - estimate)^2

Reference: US Census Bureau, *PUMS Accuracy of the Data (2018)*, successive difference replication.
"""

from __future__ import annotations

import polars as pl

from pipeline.errors import RecordsError, SourceLayoutError
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata import acs_pums_codes as codes
from pipeline.sources.microdata.columns import SurveyColumns

HOUSEHOLD = 0
"""``person_number`` of a household's own row."""

REPLICATES = tuple(f"replicate_{i}" for i in range(1, 81))
_KEYS = ("household_id", "person_number")
REPLICATE_SCHEMA: dict[str, pl.DataType] = {
    "household_id": pl.String(),
    "person_number": pl.Int32(),
    **{name: pl.Int32() for name in REPLICATES},
}


def no_replicates() -> pl.DataFrame:
    """The table of a survey that publishes no replicate weights: no rows."""
    return pl.DataFrame(schema=REPLICATE_SCHEMA)


def replicate_weights(
    columns: SurveyColumns,
    persons: pl.DataFrame,
    housing: SurveyColumns | None,
    year: int,
    notes: list[SourceNote],
) -> pl.DataFrame | None:
    """REPLICATE_SCHEMA sorted by key, or None, which is noted, where a file has no such columns.

    ``persons``: in the order of ``columns``. Raises SourceLayoutError if only some of the 80
    columns are there, SourceValueError for one that is no whole number, RecordsError if a household
    of the person file has no replicate weights in the housing file.
    """
    files = [(columns, codes.PERSON_REPLICATES)]
    if housing is not None:
        files.append((housing, codes.HOUSING_REPLICATES))
    for file, names in files:
        if not _has_all(file, names):
            detail = f"{file.label} has no {names[0]} to {names[-1]}: no standard errors"
            notes.append(SourceNote("replicate_weights_absent", persons.height, detail))
            return None
    of_persons = persons.select(*_KEYS, "relationship", "is_group_quarters").with_columns(
        _values(columns, codes.PERSON_REPLICATES)
    )
    head = (pl.col("relationship") == "reference_person") | pl.col("is_group_quarters")
    if housing is not None:
        head = pl.col("is_group_quarters")
    own = of_persons.filter(head).with_columns(
        pl.lit(HOUSEHOLD, dtype=pl.Int32).alias("person_number")
    )
    parts = [of_persons, own]
    if housing is not None:
        parts.append(_of_households(housing, persons, year))
    return pl.concat([part.select(list(REPLICATE_SCHEMA)) for part in parts]).sort(_KEYS)


def _has_all(columns: SurveyColumns, names: tuple[str, ...]) -> bool:
    """Whether all are there; none is an answer too, some are a fault."""
    absent = [name for name in names if not columns.has(name)]
    if absent and len(absent) < len(names):
        raise SourceLayoutError(
            f"{len(absent)} of {len(names)} columns of replicate weights are missing:"
            f" {', '.join(absent[:3])}",
            where=columns.label,
            expected=f"{names[0]} to {names[-1]}, or none of them",
            remedy="Download the full file",
        )
    return not absent


def _values(columns: SurveyColumns, names: tuple[str, ...]) -> list[pl.Series]:
    return [
        columns.integer(name, nullable=False).alias(renamed)
        for name, renamed in zip(names, REPLICATES, strict=True)
    ]


def _of_households(housing: SurveyColumns, persons: pl.DataFrame, year: int) -> pl.DataFrame:
    """Rows of the households of ``persons``, from the housing file."""
    rows = pl.DataFrame({"household_id": f"acs{year}-" + housing.text("SERIALNO")}).with_columns(
        *_values(housing, codes.HOUSING_REPLICATES),
        pl.lit(HOUSEHOLD, dtype=pl.Int32).alias("person_number"),
    )
    wanted = persons.filter(~pl.col("is_group_quarters")).select("household_id").unique()
    found = wanted.join(rows, on="household_id", how="inner")
    if found.height != wanted.height:
        bare = wanted.join(rows, on="household_id", how="anti")["household_id"].sort()
        raise RecordsError(
            f"{len(bare):,} households have no replicate weights in the housing file",
            where=f"{housing.label}, household {bare[0]}",
            expected="the same serial numbers in the person and the housing file",
            remedy="Take both files of the same state, year and edition",
        )
    return found
