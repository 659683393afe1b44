"""Step ``top_tail``: adjusted gross income of the highest returns, which survey top codes cut off.

Belongs here: which returns stand for the classes from 500,000 dollars, what they are raised (or
lowered) to, and of which amounts the difference is made. Does not belong here: the distribution
(``pareto.py``), classes below (``return_income.py``), controls (``data_specs/alignment.yaml``).

Returns are ranked by the AGI they have; ties by key. The first of them, as many as the IRS counts
in the highest class (in design weights), stand for it, the next for the class below. Within a
class the rank is kept: a return of weight w takes the mean of its own part, w wide, of a Pareto
distribution that has the class's count and sum. The class's dollars are so exact, and its returns
to within half a weight.

What a return lacks is made of the amounts that the class lacks, in the class's proportions: wages,
business, investment, capital gains, partnership. It goes to the primary person; amounts of the
survey stay what they are. A return above its place is lowered: its members' amounts above zero are
multiplied by one number. All these returns have the same mix in a class: no table says more.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.records.controls import Controls
from pipeline.records.pareto import pareto_index, part_means
from pipeline.records.participation import nearest_prefix
from pipeline.records.return_income import Rebuild, with_amounts
from pipeline.records.return_places import Returns
from pipeline.records.tax_rules import AGI_CLASS_STARTS
from pipeline.records.tax_units import TAXABLE_WAGES
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import ALIGNED_AMOUNTS
from pipeline.specs.alignment import TOP_CLASSES, Alignment, Control, TailRule

_LOWERED = (TAXABLE_WAGES, "self_employment", "investment_income", "retirement", *ALIGNED_AMOUNTS)


def add_top_tail(
    persons: pl.DataFrame, alignment: Alignment, controls: Controls, returns_of: Rebuild
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``persons`` (sorted by key) whose returns have the top classes' counts and sums, with
    ``taxable_wages``, ``capital_gains`` and ``partnership``; and counted notes.
    """
    made = with_amounts(persons, list(ALIGNED_AMOUNTS))
    if TAXABLE_WAGES not in made.columns:
        made = made.with_columns(pl.col("wages").alias(TAXABLE_WAGES))
    returns = returns_of(made)
    ranked = (
        returns.table.select("agi", "household_id", "primary_person")
        .with_row_index("row")
        .sort("agi", "household_id", "primary_person", descending=[True, False, False])
    )["row"].to_numpy()
    notes: list[SourceNote] = []
    begun = 0
    for name in reversed(TOP_CLASSES):
        rows, target, more = _places(name, ranked[begun:], returns, alignment, controls)
        notes.append(more)
        if len(rows):
            made = _filled(made, returns, rows, target, name, alignment, controls)
        begun += len(rows)
    return made, tuple(notes)


def _places(
    name: str, ranked: np.ndarray, returns: Returns, alignment: Alignment, controls: Controls
) -> tuple[np.ndarray, np.ndarray, SourceNote]:
    """Returns of a class, the AGI each is to have, and a note."""
    rule, domain = alignment.tail, alignment.classes[name]
    count, dollars = (
        controls.figure(Control(plus=(figure,)), domain) for figure in (rule.returns, rule.dollars)
    )
    low, high = (*AGI_CLASS_STARTS, np.inf)[int(name) - 2 : int(name)]
    if not count or not dollars:
        note = SourceNote("control_withheld", 1, f"class {name}: left as it is")
        return ranked[:0], np.zeros(0), note
    rows = ranked[: nearest_prefix(returns.weight[ranked], count)]
    weight = returns.weight[rows]
    if not len(rows):
        note = SourceNote("class_without_records", 1, f"class {name}: no record is so light")
        return rows, np.zeros(0), note
    index = pareto_index(low, high, dollars / count)
    shares = np.concatenate(([0.0], np.cumsum(weight) / weight.sum()))
    target = part_means(low, high, index, shares)
    # The records of a class count a little more or less than it; above its lower end their dollars
    # are scaled to the class's.
    above = dollars - low * weight.sum()
    beyond = float((weight * (target - low)).sum())
    if above > 0 and beyond > 0:
        target = low + (target - low) * (above / beyond)
    words = f"class {name}: returns on a Pareto tail of index {index:.3f}"
    return rows, target, SourceNote("tail_fitted", len(rows), words)


def _filled(
    persons: pl.DataFrame,
    returns: Returns,
    rows: np.ndarray,
    target: np.ndarray,
    name: str,
    alignment: Alignment,
    controls: Controls,
) -> pl.DataFrame:
    """``persons`` with the returns of ``rows`` at ``target`` dollars of AGI."""
    weight = returns.weight[rows]
    gap = target - returns.amount("agi")[rows]
    persons = _lowered(persons, returns, rows, np.minimum(gap, 0.0))
    raised = np.maximum(gap, 0.0)
    for amount, share in _mix(alignment.tail, returns, rows, weight, name, alignment, controls):
        given = np.zeros(returns.size)
        given[rows] = raised * share
        persons = returns.pay(persons, amount, given)
    return persons


def _mix(
    rule: TailRule,
    returns: Returns,
    rows: np.ndarray,
    weight: np.ndarray,
    name: str,
    alignment: Alignment,
    controls: Controls,
) -> list[tuple[str, float]]:
    """Amounts and their shares of what is added in a class: what the class lacks of each."""
    lacks = {}
    for amount, control in rule.amounts.items():
        wanted = controls.figure(control, alignment.classes[name])
        column = "wages" if amount == TAXABLE_WAGES else amount
        held = float((weight * returns.amount(column)[rows]).sum())
        lacks[amount] = max((wanted or 0.0) - held, 0.0)
    total = sum(lacks.values())
    if total <= 0:
        return [("capital_gains", 1.0)]
    return [(amount, lack / total) for amount, lack in lacks.items()]


def _lowered(
    persons: pl.DataFrame, returns: Returns, rows: np.ndarray, change: np.ndarray
) -> pl.DataFrame:
    """Amounts above zero of the members, times one number a return, so that it falls by
    ``change``.
    """
    at = returns.of_person
    positive = np.zeros(returns.size)
    columns = {n: persons[n].fill_null(0.0).to_numpy() for n in _LOWERED}
    member = at >= 0
    for values in columns.values():
        np.add.at(positive, at[member], np.clip(values[member], 0.0, None))
    factor = np.ones(returns.size)
    held = positive[rows]
    factor[rows] = np.where(held > 0, np.clip(1.0 + change / np.maximum(held, 1.0), 0.0, 1.0), 1.0)
    by_person = np.where(member, factor[at], 1.0)
    if (by_person == 1.0).all():
        return persons
    return persons.with_columns(
        pl.when((pl.col(n) > 0) & (pl.Series(by_person) != 1.0))
        .then(pl.col(n) * pl.Series(by_person))
        .otherwise(pl.col(n))
        .alias(n)
        for n in columns
    )
