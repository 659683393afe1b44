"""The table ``record_donation``: what donors and records hold of each donated column.

Belongs here: weighted receivers and dollars before and after, what is too far from the donors. Does
not belong here: who gives what (``donated_items.py``), or how the table is shown
(``pipeline/reports/donation.py``).
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from pipeline.ordered_sums import series_total
from pipeline.records.donated_items import DEPTH, INSIDE, SETTLED, TOTAL, Given
from pipeline.records.hot_deck import WEIGHT
from pipeline.specs.donation import DonationLimits

DONATED, ABSENT = STATUSES = ("donated", "absent")
"""``absent``: the donor's file does not have the column, so the records have none."""

DONATION_SCHEMA: dict[str, pl.DataType] = {
    "item": pl.String(),
    "column": pl.String(),
    "level": pl.String(),
    "status": pl.String(),
    "donors": pl.Int64(),
    "recipients": pl.Int64(),
    "settled": pl.Int64(),
    "collapsed": pl.Int64(),
    **{
        f"{who}_{what}": pl.Float64()
        for who in ("nation", "state", "after")
        for what in ("universe", "base", "receiving", "dollars")
    },
    "before_receiving": pl.Float64(),
    "before_dollars": pl.Float64(),
    "receiving_gap": pl.Float64(),
    "dollars_gap": pl.Float64(),
    "far": pl.Boolean(),
}
DOLLARS = tuple(name for name in DONATION_SCHEMA if name.endswith(("_dollars", "_base")))
"""Columns that are carried to the target year, where the row is of dollars."""
Before = Mapping[str, tuple[float, float | None]]
"""Weighted receivers and dollars of a column without a donor, by column."""


def rows_of(
    given: Given, state_fips: str | None, before: Before, limits: DonationLimits
) -> pl.DataFrame:
    """A row per column of the item (DONATION_SCHEMA), by design weights.

    ``nation_*`` and ``state_*`` are what the donor survey says of its own universe, there and in
    the state (null without one); ``after_*`` what records hold. Universes are those in which both
    stand alike: who has the whole, for parts of it; who says yes, for an item given an answer that
    the records know. ``*_base``: what dollars are
    compared by, the dollars of the whole for parts, the persons or households of the universe for
    others. The gaps are after / nation - 1, of receivers per universe and dollars per base.
    """
    item = given.item
    # Sums run in the order of keys, so that no bit hangs on the order of rows.
    asked, nation = given.values.filter(INSIDE).sort(item.keys), given.known.sort(item.keys)
    people = asked
    if item.parts_of is not None:
        # Parts of nothing have no counterpart among the donors.
        people = asked.filter(~pl.col(SETTLED))
    elif item.given and asked.filter(item.given).height:
        people, nation = asked.filter(item.given), nation.filter(item.given)
    near = nation.filter(state_fips=state_fips) if state_fips else nation.clear()
    rows = []
    for column in item.columns:
        row: dict[str, object] = {
            "item": item.name,
            "column": column,
            "level": item.level,
            "status": DONATED if column in given.columns else ABSENT,
            "donors": given.known.height,
            "recipients": 0,
            "settled": asked.filter(SETTLED).height,
            "collapsed": 0,
            "far": False,
        }
        if column in before:
            row["before_receiving"], row["before_dollars"] = before[column]
        if column in given.columns:
            took = asked.drop_nulls(DEPTH)
            row["recipients"] = took.height
            row["collapsed"] = took.filter(pl.col(DEPTH) < len(given.cells)).height
            row |= _sums("nation", nation, column)
            row |= _sums("state", near, column) if state_fips else {}
            row |= _sums("after", people, column)
            row |= _gaps(row, people, column, limits)
        rows.append(row)
    return pl.DataFrame(rows, schema=DONATION_SCHEMA)


def _sums(who: str, table: pl.DataFrame, column: str) -> dict[str, float | None]:
    weight, value = table[WEIGHT], table[column].cast(pl.Float64).fill_null(0.0)
    universe = series_total(weight)
    whole = table[TOTAL]
    part = whole.null_count() < table.height
    dollars = table[column].dtype != pl.Boolean
    return {
        f"{who}_universe": universe,
        f"{who}_base": series_total(weight * whole) if part else universe,
        f"{who}_receiving": series_total(weight.filter(value > 0)),
        f"{who}_dollars": series_total(weight * value) if dollars else None,
    }


def _gaps(
    row: Mapping[str, object], people: pl.DataFrame, column: str, limits: DonationLimits
) -> dict[str, object]:
    found: dict[str, object] = {}
    receivers = people.filter(pl.col(column).cast(pl.Float64).fill_null(0.0) > 0).height
    for what, by, limit in (
        ("receiving", "universe", limits.receiving),
        ("dollars", "base", limits.dollars),
    ):
        nation, after = (_ratio(row, who, what, by) for who in ("nation", "after"))
        if nation and after is not None:
            gap = after / nation - 1.0
            found[f"{what}_gap"] = gap
            if receivers >= limits.least_receivers and abs(gap) > limit:
                found["far"] = True
    return found


def _ratio(row: Mapping[str, object], who: str, what: str, by: str) -> float | None:
    amount, base = row.get(f"{who}_{what}"), row.get(f"{who}_{by}")
    if not isinstance(amount, float) or not isinstance(base, float) or base <= 0:
        return None
    return amount / base


def carried(table: pl.DataFrame, factors: Mapping[str, float]) -> pl.DataFrame:
    """The table with dollars of each item multiplied by its factor (1 where it has none); bases
    that are no dollars stay.
    """
    factor = pl.col("item").replace_strict(factors, default=1.0, return_dtype=pl.Float64)
    headcount = {
        f"{who}_base": pl.col(f"{who}_base") == pl.col(f"{who}_universe")
        for who in ("nation", "state", "after")
    }
    return table.with_columns(
        pl.when(headcount.get(name, pl.lit(False)))
        .then(name)
        .otherwise(pl.col(name) * factor)
        .alias(name)
        for name in DOLLARS
    )


def far_from_donors(table: pl.DataFrame) -> list[str]:
    """A sentence per row that is marked ``far``."""
    found = []
    for row in table.filter("far").iter_rows(named=True):
        gaps = [
            f"{words} differ by {row[name]:+.0%}"
            for name, words in (
                ("receiving_gap", f"{row['level']}s who receive"),
                ("dollars_gap", "dollars"),
            )
            if row[name] is not None
        ]
        found.append(
            f"{row['column']} is far from the donors of the nation: {', '.join(gaps)}"
            f" ({row['after_receiving']:,.0f} of {row['after_universe']:,.0f} receive;"
            f" donors {row['nation_receiving']:,.0f} of {row['nation_universe']:,.0f})"
        )
    return found
