"""Checks across the areas of one file: parts against the row of their whole, names against codes,
margins beside estimates.

Belongs here: those three. Does not belong here: two files against each other (``agreements.py``).
"""

from __future__ import annotations

import re

import polars as pl

from pipeline.checks.results import Measured, named, worst_rows
from pipeline.checks.rows import OUTLYING, Found
from pipeline.specs.checks import AreaRule, MarginRule
from pipeline.specs.states import ALL_AREAS
from pipeline.vocabulary import GEOID_LENGTH, STATE, TRACT

_TRACT_NUMBER = re.compile(r"Tract (\d{1,4})(?:\.(\d{1,2}))?\b", re.IGNORECASE)
NAMES = {state.fips: state.name for state in ALL_AREAS}
_FIPS = {state.name.lower(): state.fips for state in ALL_AREAS}
_SAID = "(SYNTHETIC)"


def areas(frame: pl.DataFrame, rule: AreaRule) -> Found:
    """Sums of parts against the row of the whole, by column and class."""
    length = GEOID_LENGTH[rule.above]
    counted = frame.filter(
        pl.col("column").str.contains(f"^(?:{rule.columns})$")
        & ~pl.col("column").str.contains(f"^(?:{rule.but})$")
    )
    key = ["above", "column", "stratum"]
    below = (
        counted.filter(
            pl.col("level").is_in(rule.levels)
            & (pl.lit(rule.outlying) | ~pl.col("geoid").str.slice(0, 2).is_in(OUTLYING))
        )
        .with_columns(above=pl.col("geoid").str.slice(0, length))
        .group_by(key)
        .agg(
            parts=pl.col("estimate").sum(),
            count=pl.len(),
            withheld=pl.col("estimate").is_null().sum(),
            least=pl.col("estimate").min(),
        )
    )
    whole = counted.filter((pl.col("level") == rule.above) & pl.col("estimate").is_not_null())
    made = (
        whole.select("level", pl.col("geoid").alias("above"), "column", "stratum", "estimate")
        .join(below, on=key)
        .join(_mean_amounts(frame, rule), on=key, how="left")
        .with_columns(geoid=pl.col("above"), gap=pl.col("parts") - pl.col("estimate"))
        .with_columns(
            number=_gap(rule),
            threshold=rule.slack * pl.col("count").sqrt() + rule.share * pl.col("estimate").abs(),
        )
    )
    return made.height, [
        Measured.of(
            row,
            row["column"],
            f"{named(row)}, {row['column']}",
            f"{row['count']} areas of level {rule.levels[0]} add up to {row['parts']:,.0f}, the row"
            f" of the whole is {row['estimate']:,.0f}",
        )
        for row in worst_rows(made)
    ]


def _mean_amounts(frame: pl.DataFrame, rule: AreaRule) -> pl.DataFrame:
    """``mean`` by whole, column and class: an amount of the IRS per return that has it."""
    rows = frame.filter((pl.col("level") == rule.above) & pl.col("estimate").is_not_null())
    rows = rows.select(
        pl.col("geoid").alias("above"), "column", "stratum", pl.col("estimate").alias("figure")
    )
    counts = rows.with_columns(
        column=pl.col("column").str.replace("^N1$", "N00100").str.replace("^N", "A")
    )
    both = rows.filter(pl.col("column").str.contains(r"^A\d{5}$")).join(
        counts, on=["above", "column", "stratum"], suffix="_count"
    )
    return both.filter(pl.col("figure_count") > 0).select(
        "above", "column", "stratum", mean=pl.col("figure").abs() / pl.col("figure_count")
    )


def _gap(rule: AreaRule) -> pl.Expr:
    """The gap, less what withheld parts excuse of a column that cannot be negative."""
    gap, missing = pl.col("gap"), pl.col("withheld")
    if rule.withheld is None:
        excused = gap.abs()
    else:
        each = pl.when(pl.col("mean").is_null()).then(1.0).otherwise(AMOUNT_TIMES * pl.col("mean"))
        excused = missing * rule.withheld * each
    short = pl.when(gap < 0).then((gap.abs() - excused).clip(0)).otherwise(gap)
    signed = (pl.col("least") < 0) | (pl.col("estimate") < 0)
    by_withheld = pl.when(signed).then(0.0).otherwise(short)
    return pl.when(missing > 0).then(by_withheld).otherwise(gap.abs())


# Of a withheld cell's amount per return: ten times the state's mean was the most in 2012.
AMOUNT_TIMES = 10.0


def names_fit(frame: pl.DataFrame) -> Found:
    """Names of states and numbers of tracts against the codes beside them."""
    seen = frame.select("level", "geoid", "name").drop_nulls().unique()
    judged, wrong = 0, []
    for level, geoid, name in sorted(seen.iter_rows()):
        said = _contradiction(level, geoid, name.replace(_SAID, ""))
        judged += said is not None
        if said:
            wrong.append(
                Measured(1.0, 0.0, geoid, "name", f"{level} {geoid}", f"is named {name!r}; {said}")
            )
    return judged, wrong


def _contradiction(level: str, geoid: str, name: str) -> str | None:
    """Why the name is not that of the code; "" where it is, None where it says nothing."""
    if level == TRACT:
        match = _TRACT_NUMBER.search(name)
        if match is None:
            return None
        number = f"{int(match[1]):04d}{(match[2] or '').ljust(2, '0')}"
        if number != geoid[5:]:
            return f"its code ends in {geoid[5:]}"
    # "Washington" alone is a county of that name; "Washington, Oregon" says its state.
    if level == STATE or re.search("[,;]", name):
        return _of_state(geoid[:2], name, level)
    return None


def _of_state(fips: str, name: str, level: str) -> str | None:
    """A name that ends in, or is, another state's."""
    last = re.split(r"[,;]", name)[-1].strip() if level != STATE else name.strip()
    found = _FIPS.get(last.lower())
    if found is None:
        return None
    return "" if found == fips else f"its code is of {NAMES.get(fips, fips)}"


def margins(frame: pl.DataFrame, rule: MarginRule) -> Found:
    """The share of areas whose margin is over so many times the estimate, by column."""
    made = (
        frame.filter(
            pl.col("column").str.contains(f"^(?:{rule.columns})$")
            & ~pl.col("column").str.contains(f"^(?:{rule.but})$")
            & pl.col("margin_of_error").is_not_null()
            & (pl.max_horizontal("estimate", "margin_of_error") >= rule.at_least)
        )
        .group_by("level", "column")
        .agg(n=pl.len(), over=(pl.col("margin_of_error") > rule.times * pl.col("estimate")).sum())
        .filter(pl.col("n") >= MARGIN_AREAS)
        .with_columns(
            geoid=pl.lit(""),
            stratum=pl.lit(""),
            number=pl.col("over") / pl.col("n"),
            threshold=pl.lit(rule.share_above),
        )
    )
    return int(made["n"].sum() or 0), [
        Measured.of(
            row,
            row["column"],
            f"level {row['level']}, {row['column']}",
            f"{row['over']} of {row['n']} margins are over {rule.times:g} times their estimate",
        )
        for row in worst_rows(made)
    ]


# Of fewer areas a share says nothing.
MARGIN_AREAS = 3
