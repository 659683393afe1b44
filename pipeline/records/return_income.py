"""Steps ``taxable_wages`` and ``return_income``: what returns show of wages, pensions, business and
investment, and the capital gains and partnership income that surveys do not ask for.

Belongs here: changes of persons' amounts such that filers' totals, or totals by class of adjusted
gross income, are the published ones. Does not belong here: classes from 500,000 dollars
(``top_tail.py``), who files (``tax_units.py``), controls (``data_specs/alignment.yaml``).

* *Wages*: w - d (min(w, up_to) - from)+ for every person, with d such that filers total the
  control.
* *Retirement*: times one number a state, such that filers total the control.
* *Two sources asked as one* (business and partnership; interest, dividends, rent and capital
  gains). In a class k the survey holds S, the IRS O of its own and X of the other. What S has
  beyond O, but no more than X, is moved from persons drawn by key, whole amounts and one part. What
  X then lacks is donated to other returns. A donation of a dollars goes to a return that lies in
  class k with it, so that dollars by class are met and not only ordered. Amounts donated are
  quantiles of an exponential distribution of the class's mean: classes publish counts and sums,
  and nothing of the shape.
* Classes in which X is not above zero (net losses) get nothing, and say so.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl

from pipeline.records.controls import Controls
from pipeline.records.participation import draws
from pipeline.records.return_places import Returns
from pipeline.records.tax_units import TAXABLE_WAGES
from pipeline.sources.base import SourceNote
from pipeline.specs.alignment import LOWER_CLASSES, Alignment, IncomeRule, SourceSplit, WageRule

Rebuild = Callable[[pl.DataFrame], Returns]
"""From persons to their returns, under the rules of the target year."""
ROUNDS = 4
"""Times a state's number is solved: it moves a few units over the filing threshold. Rhode Island:
1e-3 off after one, below 1e-6 after four."""


def align_wages(
    persons: pl.DataFrame, rule: WageRule, controls: Controls, returns_of: Rebuild
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``persons`` with ``taxable_wages``, and a note. Wages as published or above stay as they are,
    for no exclusion explains them.
    """
    wanted = controls.figure(rule.dollars)
    wages = persons["wages"].to_numpy()
    band = np.clip(np.minimum(np.nan_to_num(wages), rule.up_to) - rule.start, 0.0, None)
    share, made = 0.0, persons.with_columns(pl.col("wages").alias(TAXABLE_WAGES))
    for _ in range(ROUNDS):
        if wanted is None:
            break
        returns = returns_of(made)
        counted = float((returns.weight_of_person * band).sum())
        held = float((returns.weight_of_person * np.nan_to_num(wages)).sum())
        share = min(max((held - wanted) / counted, 0.0), 1.0) if counted > 0 else 0.0
        made = made.with_columns(pl.Series(TAXABLE_WAGES, wages - share * band).fill_nan(None))
    words = (
        f"of wages between {rule.start:,.0f} and {rule.up_to:,.0f} dollars {share:.1%} taken as"
        " excluded from returns"
    )
    return made, (SourceNote("wages_excluded", int((band > 0).sum()) if share else 0, words),)


def align_income(
    persons: pl.DataFrame,
    alignment: Alignment,
    controls: Controls,
    returns_of: Rebuild,
    seed: int,
    state: str,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``persons`` (sorted by key) with retirement, self-employment and investment income aligned,
    and with ``partnership`` and ``capital_gains``; and counted notes.
    """
    rule = alignment.income
    made, note = _retirement(persons, rule, controls, returns_of)
    made = with_amounts(made, [split.to for split in rule.sources])
    notes = [note]
    for split in rule.sources:
        made = _move(made, split, alignment, controls, returns_of, seed, state, notes)
    for split in rule.sources:
        made = _donate(made, split, alignment, controls, returns_of, seed, state, notes)
    return made, tuple(notes)


def with_amounts(persons: pl.DataFrame, names: list[str]) -> pl.DataFrame:
    """``persons`` with a column of zeros for each of ``names`` it lacks."""
    zero = pl.lit(0.0)
    return persons.with_columns(zero.alias(n) for n in names if n not in persons.columns)


def _retirement(
    persons: pl.DataFrame, rule: IncomeRule, controls: Controls, returns_of: Rebuild
) -> tuple[pl.DataFrame, SourceNote]:
    wanted, factor, made = controls.figure(rule.retirement), 1.0, persons
    amount = persons["retirement"].to_numpy()
    for _ in range(ROUNDS):
        if wanted is None:
            break
        held = float((returns_of(made).weight_of_person * np.nan_to_num(amount)).sum())
        factor = wanted / held if held > 0 else 1.0
        made = made.with_columns(pl.Series("retirement", amount * factor).fill_nan(None))
    count = int((np.nan_to_num(amount) > 0).sum())
    return made, SourceNote("retirement_scaled", count, f"retirement times {factor:.3f}")


def _move(
    persons: pl.DataFrame,
    split: SourceSplit,
    alignment: Alignment,
    controls: Controls,
    returns_of: Rebuild,
    seed: int,
    state: str,
    notes: list[SourceNote],
) -> pl.DataFrame:
    """Move what the survey holds of ``split.source`` beyond the IRS's own to ``split.to``."""
    returns = returns_of(persons)
    source, to = (persons[n].fill_null(0.0).to_numpy().copy() for n in (split.source, split.to))
    weight = returns.weight_of_person
    race = draws(persons, seed, f"{state}|{split.to}|moved")
    touched = 0
    for name in LOWER_CLASSES:
        own = controls.figure(split.own, alignment.classes[name])
        other = controls.figure(split.dollars, alignment.classes[name])
        if own is None or other is None:
            continue
        inside = returns.class_of_person == int(name)
        left = min(float((weight * source)[inside].sum()) - own, other)
        holders = np.flatnonzero(inside & (source > 0) & (weight > 0))
        for at in holders[np.argsort(race[holders], kind="stable")]:
            if left <= 0:
                break
            part = min(source[at], left / weight[at])
            source[at], to[at] = source[at] - part, to[at] + part
            left -= part * weight[at]
            touched += 1
    words = f"{split.source} taken to be {split.to}"
    notes.append(SourceNote("income_moved", touched, words))
    known = persons[split.source].is_not_null()
    kept = pl.Series(split.source, np.where(known.to_numpy(), source, np.nan)).fill_nan(None)
    return persons.with_columns(kept, pl.Series(split.to, to))


def _donate(
    persons: pl.DataFrame,
    split: SourceSplit,
    alignment: Alignment,
    controls: Controls,
    returns_of: Rebuild,
    seed: int,
    state: str,
    notes: list[SourceNote],
) -> pl.DataFrame:
    """Give returns what is still lacking of ``split.to`` in each class, lowest class last."""
    returns = returns_of(persons)
    given = np.zeros(returns.size)
    race = draws(returns.keys, seed, f"{state}|{split.to}|donated")
    # A return that holds donated or moved income stays in its class: what it holds was counted
    # there. A second donation would take the first elsewhere.
    free = ~returns.holds(("partnership", "capital_gains")) & ~returns.dependent
    count = 0
    for name in reversed(LOWER_CLASSES):
        domain = alignment.classes[name]
        dollars, receivers = (controls.figure(c, domain) for c in (split.dollars, split.returns))
        if dollars is None or receivers is None or dollars <= 0:
            words = f"{split.to}, class {name}: no gain to donate, left as it is"
            notes.append(SourceNote("class_without_donation", 1, words))
            continue
        inside = returns.class_number == int(name)
        held = float((returns.weight * (returns.amount(split.to) + given))[inside].sum())
        has = inside & (returns.amount(split.to) + given > 0)
        lacking = dollars - held
        wanted = receivers - float(returns.weight[has].sum())
        if lacking <= 0:
            continue
        places = returns.landing(
            int(name), lacking, max(wanted, returns.typical_weight), free & (given == 0), race
        )
        given[places.rows] += places.amounts
        count += len(places.rows)
        if places.lacking > 0:
            words = f"{split.to}, class {name}: dollars that no return could take and stay in class"
            notes.append(SourceNote("donation_out_of_reach", round(places.lacking), words))
    notes.append(SourceNote("income_donated", count, f"returns given {split.to}"))
    return returns.pay(persons, split.to, given)
