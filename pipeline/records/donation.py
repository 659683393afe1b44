"""Filling a column one survey lacks from another survey, or from a documented proxy.

Belongs here: the cell hot deck, its cells and their collapsing, the proxy for unemployment
compensation. Does not belong here: reading either survey, or using the filled column.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import polars as pl

from pipeline.errors import RecordsError
from pipeline.ordered_sums import series_total
from pipeline.sources.base import SourceNote

DEFAULT_CELLS = ("weeks_class", "employment", "age_group", "sex")
"""Cells by importance; when a cell has too few donors, the last trait is dropped first."""
MIN_AGE = 15
_AGE_BREAKS = (25, 35, 45, 55, 65)


def cell_trait(name: str) -> pl.Expr:
    """A trait of persons as text: weeks_class (0, 1-26, 27-49, 50-52), age_group, or any column by
    its name.
    """
    weeks = pl.col("weeks_worked").fill_null(0)
    if name == "weeks_class":
        return (
            pl.when(weeks == 0)
            .then(pl.lit("0"))
            .when(weeks < 27)
            .then(pl.lit("1-26"))
            .when(weeks < 50)
            .then(pl.lit("27-49"))
            .otherwise(pl.lit("50-52"))
        )
    if name == "age_group":
        return pl.sum_horizontal(
            (pl.col("age") >= limit).cast(pl.Int32) for limit in _AGE_BREAKS
        ).cast(pl.String)
    return pl.col(name).cast(pl.String).fill_null("none")


def donate(
    recipients: pl.DataFrame,
    donors: pl.DataFrame,
    variable: str,
    cells: Sequence[str] = DEFAULT_CELLS,
    seed: int = 0,
    *,
    min_donors: int = 10,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``recipients`` with ``variable`` filled from ``donors`` for persons of 15 or more (null
    below), and counted notes.

    Weighted systematic hot deck: within a cell donors are sorted by amount and laid along (0, 1) by
    weight; recipients, in an order drawn from (seed, variable, household_id, person_number), are
    laid along (0, 1) by weight, and each takes the amount at his midpoint. The share of receivers
    and the distribution of amounts of the donors' cell are so preserved to within one recipient's
    weight. Nothing depends on row order. A cell with fewer than ``min_donors`` donors is collapsed
    by dropping traits from the end of ``cells``.

    Raises RecordsError if the donors know nothing of ``variable``, or a trait is not a column of
    both tables.
    """
    traits = {name: cell_trait(name) for name in cells}
    for table, who in ((recipients, "recipients"), (donors, "donors")):
        missing = sorted(
            {root for trait in traits.values() for root in trait.meta.root_names()}
            - set(table.columns)
        )
        if missing:
            raise RecordsError(
                f"The {who} have no column {', '.join(missing)}",
                where=f"donation of {variable}",
                expected="the traits of the cells in both surveys",
                remedy="Choose other cells",
            )
    known = (
        donors.filter(
            (pl.col("age") >= MIN_AGE)
            & pl.col(variable).is_not_null()
            & (pl.col("design_weight") > 0)
        )
        if variable in donors.columns
        else donors.clear()
    )
    if known.is_empty():
        raise RecordsError(
            f"No donor has {variable}",
            where=f"donation of {variable}",
            expected="a survey that asks for it",
            remedy="Use the documented proxy instead",
        )
    keys = ["household_id", "person_number"]
    giving = known.select(
        *keys,
        "design_weight",
        pl.col(variable).alias("amount"),
        *(trait.alias(f"trait_{name}") for name, trait in traits.items()),
    )
    taking = recipients.filter(pl.col("age") >= MIN_AGE).select(
        *keys, "design_weight", *(trait.alias(f"trait_{name}") for name, trait in traits.items())
    )
    taking = taking.with_columns(_order(taking, variable, seed).alias("order")).sort("order", *keys)
    pending = taking
    filled: list[pl.DataFrame] = []
    notes: list[SourceNote] = []
    for depth in range(len(cells), -1, -1):
        by = [f"trait_{name}" for name in list(cells)[:depth]]
        ready, pending = _split(pending, giving, by, min_donors if depth else 1)
        if ready.height:
            filled.append(_fill(ready, giving, by).select(*keys, pl.col("amount").alias(variable)))
            words = " x ".join(list(cells)[:depth]) or "no cells"
            notes.append(
                SourceNote(
                    "donated" if depth == len(cells) else "donated_collapsed",
                    ready.height,
                    f"{variable} donated within {words}",
                )
            )
    given = (
        pl.concat(filled)
        if filled
        else taking.select(*keys, pl.lit(None, dtype=pl.Float64).alias(variable))
    )
    result = recipients.drop(variable, strict=False).join(
        given, on=keys, how="left", maintain_order="left"
    )
    result = result.select(
        recipients.columns if variable in recipients.columns else [*recipients.columns, variable]
    )
    receiving = result.filter(pl.col(variable).fill_null(0.0) > 0).height
    notes.append(
        SourceNote(
            "receivers",
            receiving,
            f"persons with {variable} after donation from {known.height:,} donors",
        )
    )
    return result, tuple(notes)


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
    result = persons.with_columns(value.cast(pl.Float64).alias("unemployment_compensation"))
    receiving = result.filter(pl.col("unemployment_compensation") > 0)
    dollars = series_total(receiving["design_weight"] * receiving["unemployment_compensation"])
    detail = (
        f"persons given other_income as unemployment compensation; weighted {dollars:,.0f} dollars"
    )
    note = SourceNote("unemployment_compensation_proxy", receiving.height, detail)
    return result, (note,)


def _order(people: pl.DataFrame, variable: str, seed: int) -> pl.Series:
    """A pseudo-random 64-bit number per person that depends on nothing but the seed, the variable
    and the person's key.
    """
    prefix = f"{seed}|{variable}|".encode()
    digests = [
        int.from_bytes(
            hashlib.blake2b(prefix + f"{household}|{number}".encode(), digest_size=8).digest(),
            "big",
        )
        for household, number in people.select("household_id", "person_number").iter_rows()
    ]
    return pl.Series(digests, dtype=pl.UInt64)


def _split(
    pending: pl.DataFrame, giving: pl.DataFrame, by: list[str], least: int
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Recipients whose cell has enough donors, and the rest."""
    if not by:
        return pending, pending.clear()
    rich = giving.group_by(by).len().filter(pl.col("len") >= least)
    return pending.join(rich, on=by, how="semi", maintain_order="left"), pending.join(
        rich, on=by, how="anti", maintain_order="left"
    )


def _fill(ready: pl.DataFrame, giving: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Add ``amount`` by the systematic draw within the cells of ``by``."""
    parts = ready.partition_by(by, as_dict=True, maintain_order=True) if by else {(): ready}
    sources = (
        giving.sort("amount", "household_id", "person_number").partition_by(
            by, as_dict=True, maintain_order=True
        )
        if by
        else {(): giving.sort("amount")}
    )
    result = []
    for cell in sorted(parts):
        takers, source = parts[cell], sources[cell]
        # A recipient of weight zero still needs a place on the line.
        weight = np.maximum(takers["design_weight"].to_numpy(), 1e-9)
        place = (np.cumsum(weight) - weight / 2) / weight.sum()
        reach = np.cumsum(source["design_weight"].to_numpy())
        chosen = np.minimum(np.searchsorted(reach / reach[-1], place, side="left"), len(reach) - 1)
        result.append(takers.with_columns(source["amount"].gather(chosen).alias("amount")))
    return pl.concat(result)
