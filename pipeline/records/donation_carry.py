"""Donated dollars of another year, and parts of an amount that is aligned later.

Belongs here: carrying donated columns by the series of the amount they go with, parts that follow
their whole. Does not belong here: the draw (``hot_deck.py``), carrying the survey's own amounts
(``uprating.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from pipeline.ordered_sums import sum_across
from pipeline.records.donation_table import carried
from pipeline.records.uprating import APPLIED_SCHEMA, AmountFactor
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import COMPONENTS
from pipeline.specs.donation import DonationItem

_WAS, _IS = "__was", "__is"


def carry_donated(
    tables: Mapping[str, pl.DataFrame],
    table: pl.DataFrame,
    items: Sequence[DonationItem],
    factors: Mapping[str, AmountFactor],
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame, pl.DataFrame]:
    """``persons`` and ``households`` with donated dollars times the factor of the amount that each
    item is ``carried_as``; what was applied (APPLIED_SCHEMA); and ``record_donation`` in the same
    dollars. Components of income were carried with the survey's own amounts.
    """
    made, applied, by_item = dict(tables), [], {}
    for item in items:
        factor = factors.get(item.carried_as)
        if factor is None:
            continue
        by_item[item.name] = factor.value
        name = "persons" if item.level == "person" else "households"
        present = [c for c in item.columns if c in made[name].columns and c not in COMPONENTS]
        dollars = [c for c in present if made[name][c].dtype == pl.Float64]
        for column in dollars:
            receiving = made[name].filter(pl.col(column) > 0).height
            row = (column, factor.value, factor.rule, factor.source, receiving)
            applied.append(dict(zip(APPLIED_SCHEMA, row, strict=True)))
        made[name] = made[name].with_columns(pl.col(c) * factor.value for c in dollars)
    return made, pl.DataFrame(applied, schema=APPLIED_SCHEMA), carried(table, by_item)


def follow_totals(
    before: pl.DataFrame, after: pl.DataFrame, items: Sequence[DonationItem]
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Persons after the steps of alignment, with parts times what their whole was multiplied by, so
    that they still add up to it; notes count persons whose whole was nothing before and so has no
    parts.
    """
    made, notes = after, []
    keys = ["household_id", "person_number"]
    for item in items:
        parts = [c for c in item.columns if c in after.columns and c not in COMPONENTS]
        if item.parts_of is None or not parts:
            continue
        whole = sum_across([pl.lit(0.0), *item.parts_of.records])
        was = before.select(*keys, whole.alias(_WAS))
        told = made.with_columns(whole.alias(_IS)).join(
            was, on=keys, how="left", maintain_order="left"
        )
        changed = pl.col(_IS) != pl.col(_WAS)
        lonely = told.filter(changed, pl.col(_WAS) == 0).height
        if lonely:
            detail = f"persons given {' and '.join(item.parts_of.records)} later, without parts"
            notes.append(SourceNote("donation_without_parts", lonely, detail))
        times = pl.when(changed & (pl.col(_WAS) != 0)).then(pl.col(_IS) / pl.col(_WAS)).otherwise(1)
        made = told.with_columns(pl.col(c) * times for c in parts).drop(_IS, _WAS)
    return made, tuple(notes)
