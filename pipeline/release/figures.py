"""The figures of a set of tables: what its weights say of every variable, area by area.

A state's figures are those of its bystander report, which measures every variable, told or not;
figures of counties and tracts are those of its fit report. The nation is the sum of states.

Belongs here: one long table of these. Does not belong here: comparing two (``diff.py``).
"""

from __future__ import annotations

import polars as pl

from pipeline.ordered_sums import sum_in_order
from pipeline.release.contents import BYSTANDERS, FIT, TableSet
from pipeline.reports.bystander_schema import STATUSES, TOLD
from pipeline.specs.states import state_of
from pipeline.vocabulary import (
    CALIBRATE,
    EVIDENCE,
    LEVEL_RANK,
    NATION,
    STATE,
    TARGET_KEY,
    VARIABLE_KEY,
)

FIGURES: dict[str, pl.DataType] = {
    **dict.fromkeys(TARGET_KEY, pl.String()),
    **dict.fromkeys(("family", "unit", "kind"), pl.String()),
    "figure": pl.Float64(),
    "target": pl.Float64(),
    "concept_error": pl.Float64(),
    "standard_error": pl.Float64(),
    "records": pl.Int64(),
}
"""``figure``: what the weights give; ``target``: what they should, where a target is fitted;
``kind``: the status of the bystander report; ``standard_error``: of the survey, states only."""

KIND_RANK = {kind: rank for rank, kind in enumerate(STATUSES)}
_ADDED = ("figure", "target")


def figures(tables: TableSet) -> pl.DataFrame:
    """Rows of FIGURES of all states of ``tables`` and of the nation, sorted."""
    parts = [frame for state in tables.states for frame in _of_state(tables, state)]
    states = pl.concat([pl.DataFrame(schema=FIGURES), *parts])
    both = pl.concat([_nation(states, len(tables.states)), states])
    return both.sort(
        pl.col("level").replace_strict(LEVEL_RANK, default=9, return_dtype=pl.Int64),
        *TARGET_KEY[1:],
    )


def _of_state(tables: TableSet, state: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    fit, report = tables.table(FIT, state), tables.table(BYSTANDERS, state)
    family_of = fit.group_by(VARIABLE_KEY).agg(pl.col("family").min())
    fitted = fit.filter((pl.col("role") == CALIBRATE) & pl.col("fitted").is_not_null())
    own = fitted.filter(pl.col("level") == STATE)
    targets = own.select(*VARIABLE_KEY, target="value", concept_error="concept_error")
    measured = (
        report.filter(pl.col("selected").is_not_null())
        .join(targets, on=VARIABLE_KEY, how="left")
        .join(family_of, on=VARIABLE_KEY, how="left")
    )
    whole = _shaped(
        measured.with_columns(
            level=pl.lit(STATE),
            geoid=pl.lit(state_of(state).fips),
            kind=pl.col("status"),
            figure=pl.col("selected"),
            family=pl.col("family").fill_null(pl.col("variable")),
        )
    )
    below = _shaped(
        fitted.filter(pl.col("level") != STATE).with_columns(
            kind=pl.lit(TOLD),
            figure=pl.col("fitted"),
            target=pl.col("value"),
            standard_error=pl.lit(None),
            records=pl.lit(None),
        )
    )
    return whole, below


def _shaped(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.select(pl.col(name).cast(dtype) for name, dtype in FIGURES.items())


def _nation(states: pl.DataFrame, count: int) -> pl.DataFrame:
    """Sums over states. A target of the nation is there where every state has one; standard errors
    add in quadrature.
    """
    own = states.filter(pl.col("level") == STATE)
    every = pl.col("target").is_not_null().sum() == count
    squares = (pl.col("standard_error") ** 2).alias("standard_error")
    sums = (
        own.with_columns(squares)
        .group_by(VARIABLE_KEY, maintain_order=True)
        .agg(
            pl.col("family", "unit").first(),
            _strictest("kind"),
            *(sum_in_order(name, "geoid") for name in (*_ADDED, "standard_error")),
            pl.col("concept_error").max(),
            pl.col("records").sum(),
            every.alias("_every"),
        )
    )
    named = sums.with_columns(
        level=pl.lit(NATION),
        geoid=pl.lit(""),
        target=pl.when("_every").then("target"),
        standard_error=pl.col("standard_error").sqrt(),
    )
    return _shaped(named)


def _strictest(column: str) -> pl.Expr:
    """Of several statuses the one that asks most: told before implied, observed, untold."""
    rank = pl.col(column).replace_strict(KIND_RANK, default=len(STATUSES), return_dtype=pl.Int64)
    return pl.col(column).sort_by(rank).first()


def target_values(tables: TableSet) -> pl.DataFrame:
    """TARGET_KEY, ``family``, ``unit``, ``value``, ``fitted``, ``role``, ``source`` of every
    published target of the states, fitted or not.
    """
    columns = (*TARGET_KEY, "family", "unit", "value", "fitted", "role", "source")
    parts = [
        tables.table(FIT, state).filter(pl.col("role") != EVIDENCE).select(columns)
        for state in tables.states
    ]
    return pl.concat(parts)
