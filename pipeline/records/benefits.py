"""Step ``ssa_benefits``: Social Security and SSI of persons as the Social Security Administration
counts them.

Belongs here: the odds of receiving from what the survey says of people alike, and the walk through
amounts and groups. Does not belong here: the draw itself (``participation.py``) or the groups and
their controls (``data_specs/alignment.yaml``).

What is done about the difference of concept: the survey asks persons of 15 and over for what they
received in the last twelve months, from memory; SSA counts everybody in payment in December.
Children get benefits here. Title II (Social Security) and Title XVI (SSI) are confused by
respondents: who is taken out of SSI is the first to be added to Social Security, with the amount he
reported. Persons in institutions receive both in either source and are treated like others.
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.records.controls import Controls
from pipeline.records.participation import aligned_receipt, draws
from pipeline.sources.base import SourceNote
from pipeline.specs.alignment import Benefit, BenefitGroup, Trait

PRIOR_RECORDS = 10.0
"""Records of the group's mean that a cell's rate is shrunk by; it keeps odds finite and thin cells
near the mean. No source: any small number does."""


def align_benefits(
    persons: pl.DataFrame, benefits: tuple[Benefit, ...], controls: Controls, seed: int, state: str
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """``persons`` (sorted by key) with ``ssi`` and ``social_security`` aligned, and counted notes.

    A group with a withheld control stays as reported, and is noted.
    """
    notes: list[SourceNote] = []
    reported = persons
    for benefit in benefits:
        losers = None if benefit.first is None else _lost(reported, persons, benefit.first)
        for group in benefit.groups:
            what = f"{state}|{benefit.amount}|{group.name}"
            persons, more = _group(persons, reported, benefit, group, controls, losers, seed, what)
            notes += more
    return persons, tuple(notes)


def _lost(before: pl.DataFrame, after: pl.DataFrame, amount: str) -> np.ndarray:
    """What each person reported of ``amount`` and no longer has, dollars."""
    was, now = (t[amount].fill_null(0.0).to_numpy() for t in (before, after))
    return np.where(now > 0, 0.0, was)


def _group(
    persons: pl.DataFrame,
    reported: pl.DataFrame,
    benefit: Benefit,
    group: BenefitGroup,
    controls: Controls,
    losers: np.ndarray | None,
    seed: int,
    what: str,
) -> tuple[pl.DataFrame, list[SourceNote]]:
    name = f"{benefit.amount} {group.name}"
    count, dollars = controls.figure(group.persons), controls.figure(group.dollars)
    if count is None or dollars is None:
        return persons, [SourceNote("control_withheld", 1, f"{name}: left as reported")]
    inside = _where(persons, group.where)
    at = np.flatnonzero(inside & (persons["design_weight"].to_numpy() > 0))
    amount = persons[benefit.amount].fill_null(0.0).to_numpy().copy()
    weight = persons["design_weight"].to_numpy()
    base = inside if group.rates_from is None else _where(persons, group.rates_from)
    odds = _odds(reported, benefit.amount, group.traits, base)
    giving = np.flatnonzero(base & (reported[benefit.amount].fill_null(0.0).to_numpy() > 0))
    source = reported[benefit.amount].fill_null(0.0).to_numpy()
    keys = persons.select("household_id", "person_number")[at]
    found = aligned_receipt(
        amount[at],
        weight[at],
        odds[at],
        draws(keys, seed, f"{what}|who"),
        draws(keys, seed, f"{what}|amount"),
        (count, dollars),
        offered=None if losers is None else losers[at],
        pool=(source[giving], weight[giving]),
    )
    amount[at] = found.amount
    known = persons[benefit.amount].is_not_null().to_numpy() | (amount != 0)
    column = pl.Series(benefit.amount, np.where(known, amount, np.nan)).fill_nan(None)
    words = (
        f"{name}: {found.added:,} persons added, {found.taken_out:,} taken out, amounts times"
        f" {found.factor:.3f}"
    )
    notes = [SourceNote("benefits_aligned", found.added + found.taken_out, words)]
    if found.short > 0:
        lacking = f"{name}: persons counted by SSA that no record of the group is left for"
        notes.append(SourceNote("control_out_of_reach", round(found.short), lacking))
    return persons.with_columns(column), notes


def _where(persons: pl.DataFrame, condition: str) -> np.ndarray:
    return persons.select(pl.sql_expr(condition).fill_null(False).alias("x"))["x"].to_numpy()


def _odds(
    persons: pl.DataFrame, amount: str, traits: tuple[Trait, ...], base: np.ndarray
) -> np.ndarray:
    """Odds p / (1 - p) of every person: p is the share of receivers in his cell of ``base``, of
    design-weighted records, shrunk to the share of all ``base`` by PRIOR_RECORDS.
    """
    cell = [_trait(name, amount).cast(pl.String) for name in traits]
    told = persons.select(
        "design_weight",
        receives=(pl.col(amount).fill_null(0.0) > 0).cast(pl.Float64),
        base=pl.Series(base),
        cell=pl.concat_str(cell, separator="|"),
    ).with_row_index("row")
    asked = told.filter("base")
    weight = pl.col("design_weight")
    total = float(asked["design_weight"].sum())
    mean = float((asked["design_weight"] * asked["receives"]).sum()) / max(total, 1.0)
    mean = min(max(mean, 1e-3), 1 - 1e-3)
    cells = (
        asked.sort("row")
        .group_by("cell", maintain_order=True)
        .agg(
            records=pl.len().cast(pl.Float64),
            share=(weight * pl.col("receives")).sum() / weight.sum().clip(1e-9),
        )
    )
    rate = (pl.col("records") * pl.col("share") + PRIOR_RECORDS * mean) / (
        pl.col("records") + PRIOR_RECORDS
    )
    joined = told.join(cells.select("cell", rate=rate), on="cell", how="left").sort("row")
    p = np.clip(joined["rate"].fill_null(mean).to_numpy(), 1e-4, 1 - 1e-4)
    return p / (1 - p)


def _trait(name: Trait, amount: str) -> pl.Expr:
    """A trait as text: see ``docs/records_aligned.md``."""
    over = "household_id"
    gets = (pl.col(amount).fill_null(0.0) > 0) & (pl.col("age") >= 18)
    poverty = pl.col("poverty_ratio")
    return {
        "age_band": pl.col("age") // 5,
        "disability": pl.col("disability").fill_null(False),
        "poverty": pl.when(poverty < 100).then(0).when(poverty < 200).then(1).otherwise(2),
        "work": (pl.col("employment") == "employed").fill_null(False),
        "family_receives": ((gets.sum().over(over) - gets.cast(pl.UInt32)) > 0),
        "one_parent": ~(pl.col("relationship") == "spouse").any().over(over),
    }[name]
