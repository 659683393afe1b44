"""Schemas of the tables that leave a reader; values are checked, not only types.

Belongs here: dataframely schemas and the conversion of a broken rule into a SourceValueError.
Does not belong here: reading (the readers beside this module), or microdata (a schema module of
their own).
"""

from __future__ import annotations

from typing import TypeVar

import dataframely as dy
import polars as pl

from pipeline.errors import SourceValueError
from pipeline.specs.states import BY_FIPS
from pipeline.vocabulary import GEOID_LENGTH, LEVELS

PUBLISHED_LEVELS = (*LEVELS, "zip", "other")
STATUSES = ("published", "suppressed", "controlled", "not_available")
PUBLISHED_GEOID_LENGTH = {**GEOID_LENGTH, "zip": 5}
_KNOWN_FIPS = sorted(BY_FIPS)


class PublishedTable(dy.Schema):
    """One row per published cell.

    ``source, vintage``: id and data year of the publication. ``level, geoid, name``: the area.
    ``column``: the publisher's column. ``stratum``: "" or a class within the area. ``estimate,
    margin_of_error``: plain units, the margin at 90 %. ``status``: published, suppressed,
    controlled (no sampling error by design), not_available. ``row``: 1-based line of the file.
    ``file, sha256``: file (and member) and the digest of the file as read.
    """

    source = dy.String(min_length=1)
    vintage = dy.String(regex=r"^\d{4}$")
    level = dy.String(check=lambda column: column.is_in(PUBLISHED_LEVELS))
    geoid = dy.String()
    name = dy.String(nullable=True)
    column = dy.String(min_length=1)
    stratum = dy.String()
    estimate = dy.Float64(nullable=True, allow_inf=False, allow_nan=False)
    margin_of_error = dy.Float64(nullable=True, min=0, allow_inf=False, allow_nan=False)
    status = dy.String(check=lambda column: column.is_in(STATUSES))
    row = dy.Int64(min=1)
    file = dy.String(min_length=1)
    sha256 = dy.String(min_length=64, max_length=64)

    @dy.rule()
    def geoid_has_the_length_of_its_level(cls) -> pl.Expr:
        level = pl.col("level")
        wanted = level.replace_strict(PUBLISHED_GEOID_LENGTH, default=None, return_dtype=pl.UInt32)
        digits = pl.col("geoid").str.contains(r"^\d*$") | (level == "other")
        return (wanted.is_null() | (pl.col("geoid").str.len_chars() == wanted)) & digits

    @dy.rule()
    def geoid_begins_with_a_known_state(cls) -> pl.Expr:
        located = pl.col("level").is_in(["state", "county", "tract"])
        return ~located | pl.col("geoid").str.slice(0, 2).is_in(_KNOWN_FIPS)

    @dy.rule()
    def estimate_agrees_with_status(cls) -> pl.Expr:
        present = pl.col("status").is_in(["published", "controlled"])
        return present == pl.col("estimate").is_not_null()

    @dy.rule()
    def margin_only_beside_an_estimate(cls) -> pl.Expr:
        return pl.col("margin_of_error").is_null() | pl.col("estimate").is_not_null()

    @dy.rule()
    def cell_is_unique(cls) -> pl.Expr:
        # One struct key, not three columns over a window: it is several times faster on half a
        # million cells.
        return pl.struct("level", "geoid", "column", "stratum").is_unique()


class TractPumaTable(dy.Schema):
    """One row per tract: ``state_fips`` (2), ``county_fips`` (5), ``tract`` (11), ``puma`` (7:
    state and PUMA).
    """

    state_fips = dy.String(regex=r"^\d{2}$")
    county_fips = dy.String(regex=r"^\d{5}$")
    tract = dy.String(regex=r"^\d{11}$")
    puma = dy.String(regex=r"^\d{7}$")

    @dy.rule()
    def state_is_known(cls) -> pl.Expr:
        return pl.col("state_fips").is_in(_KNOWN_FIPS)

    @dy.rule()
    def codes_nest_in_the_state(cls) -> pl.Expr:
        state = pl.col("state_fips")
        return (
            (pl.col("county_fips").str.slice(0, 2) == state)
            & (pl.col("tract").str.slice(0, 5) == pl.col("county_fips"))
            & (pl.col("puma").str.slice(0, 2) == state)
        )

    @dy.rule()
    def tract_is_unique(cls) -> pl.Expr:
        return pl.col("tract").is_unique()


AnySchema = TypeVar("AnySchema", bound=dy.Schema)


def validated(frame: pl.DataFrame, schema: type[AnySchema], where: str) -> pl.DataFrame:
    """``frame`` cast and checked against ``schema``.

    Raises SourceValueError with the number of rows that break each rule and one example row.
    """
    try:
        cast = frame.select(
            [pl.col(name).cast(kind.dtype) for name, kind in schema.columns().items()]
        )
    except (pl.exceptions.PolarsError, TypeError) as error:
        raise SourceValueError(
            f"The table that was read has not the columns or types of {schema.__name__}: {error}",
            where=where,
            expected=", ".join(schema.columns()),
            remedy="This is a fault of the reader or of its spec; report it with the file's name",
        ) from error
    good, failure = schema.filter(cast)
    counts = failure.counts()
    if counts:
        broken = ", ".join(
            f"{rule.replace('|', ': ')} ({count:,} rows)" for rule, count in sorted(counts.items())
        )
        example = failure.invalid().row(0, named=True)
        raise SourceValueError(
            f"The table that was read breaks {len(counts)} rule(s): {broken}; for example"
            f" {_shown(example)}",
            where=where,
            expected=f"values that satisfy {schema.__name__}",
            remedy=(
                "Look at that row of the file; if the publisher changed a code, add it to the"
                " source's YAML"
            ),
        )
    return good


def _shown(row: dict[str, object]) -> str:
    hidden = {"sha256", "vintage", "source"}
    return ", ".join(f"{key}={value!r}" for key, value in row.items() if key not in hidden)
