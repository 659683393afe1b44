"""One item lent by another survey: who may give, who takes, and what a donor's answer becomes.

Belongs here: universes, parts of a reported total, items given a reported answer, the origin of
each value. Does not belong here: the draw itself (``hot_deck.py``), the order of the items
(``donation.py``), sums before and after (``donation_table.py``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.ordered_sums import sum_across
from pipeline.records.hot_deck import DEPTH, DONOR, WEIGHT, draw_donors, require_traits, trait_text
from pipeline.sources.base import SourceNote
from pipeline.specs.donation import DonationItem, Trait

TOTAL, SETTLED, INSIDE = "__total", "__settled", "__inside"
"""Of a record: the amount that its parts add up to at most; whether its own survey settles the
item (parts of nothing, an answer no); whether it is in the item's universe."""
REPORTED, LENT = "reported", "donated"


@dataclass(frozen=True, eq=False)
class Given:
    """What an item gave: ``columns`` of it that the donors' file has, ``absent`` ones.

    ``values``: the item's keys, its columns (null outside the universe), WEIGHT, TOTAL, INSIDE,
    SETTLED, DEPTH (null where nobody gave) and the answer it is given, a row per record.
    ``known``: donors in the universe with WEIGHT, TOTAL and the columns. ``cells``: the traits
    used.
    """

    item: DonationItem
    columns: tuple[str, ...]
    absent: tuple[str, ...]
    values: pl.DataFrame
    known: pl.DataFrame
    cells: tuple[str, ...]
    notes: tuple[SourceNote, ...]


def _of(item: DonationItem, of_records: bool) -> pl.Expr:
    """The total that the item's columns are parts of; null for an item that is no part."""
    if item.parts_of is None:
        return pl.lit(None, dtype=pl.Float64)
    names = item.parts_of.records if of_records else item.parts_of.donors
    whole = sum_across([pl.lit(0.0), *names])
    if of_records and item.parts_of.less:
        whole = (whole - sum_across([pl.lit(0.0), *item.parts_of.less])).clip(0.0)
    return whole


def _inside(table: pl.DataFrame, item: DonationItem) -> pl.DataFrame:
    inside = pl.sql_expr(item.universe).fill_null(False)
    return table.with_columns(inside.alias(INSIDE))


def give_item(
    item: DonationItem,
    recipients: pl.DataFrame,
    donors: pl.DataFrame,
    traits: Mapping[str, Trait],
    seed: int,
) -> Given:
    """The item's values for ``recipients``, both tables with the facts that its cells need.

    A column that no donor has is left out and named; an item without any donor gives nothing.
    Raises RecordsError if a table lacks a trait.
    """
    present = [c for c in item.columns if c in donors.columns and donors[c].count() > 0]
    absent = tuple(c for c in item.columns if c not in present)
    known = _known(item, donors, present)
    taking = _inside(recipients, item).with_columns(_of(item, True).alias(TOTAL))
    taking = taking.with_columns(_settled(item, taking).alias(SETTLED))
    notes = _absences(item, absent)
    if not present or known.is_empty():
        empty = taking.select(*_kept(item), pl.lit(None, dtype=pl.Int32).alias(DEPTH))
        return Given(item, (), item.columns, empty, known.clear(), (), tuple(notes))
    for table, who in ((recipients, "recipients"), (donors, "donors")):
        require_traits(table, who, item.cells, traits, f"donation of {item.name}")
    cells, untold = _told_cells(item, taking, known, traits)
    notes += untold
    answers = _shares(item, known, present)
    drawn = [
        _matched(item, people, answers.filter(who), present, cells, traits, seed)
        for people, who in _draws(item, taking)
        if people.height
    ]
    values = _valued(item, taking, present, drawn, answers)
    notes += _counted(item, values, cells, known.height)
    return Given(item, tuple(present), absent, values, known, cells, tuple(notes))


def _kept(item: DonationItem) -> list[str]:
    return [*item.keys, WEIGHT, TOTAL, INSIDE, SETTLED, *([item.given] if item.given else [])]


def _known(item: DonationItem, donors: pl.DataFrame, present: Sequence[str]) -> pl.DataFrame:
    """Donors of the item's universe who answered, with TOTAL above zero where there is one."""
    asked = [c for c in (*present, item.given) if c]
    answered = [pl.col(c).is_not_null() for c in asked]
    known = _inside(donors, item).filter(INSIDE, pl.col(WEIGHT) > 0, *answered)
    if item.parts_of is None:
        return known.with_columns(pl.lit(None, dtype=pl.Float64).alias(TOTAL))
    return known.with_columns(_of(item, False).alias(TOTAL)).filter(pl.col(TOTAL) > 0)


def _settled(item: DonationItem, taking: pl.DataFrame) -> pl.Expr:
    if item.parts_of is not None:
        return pl.col(INSIDE) & ~(pl.col(TOTAL) > 0)
    if item.given:
        return pl.col(INSIDE) & pl.col(item.given).not_().fill_null(False)
    return pl.lit(False)


def _told_cells(
    item: DonationItem, taking: pl.DataFrame, known: pl.DataFrame, traits: Mapping[str, Trait]
) -> tuple[tuple[str, ...], list[SourceNote]]:
    """The cells without traits that one of the surveys tells of nobody, and a note of each."""
    told, notes = [], []
    people = taking.filter(INSIDE)
    for cell in item.cells:
        text = trait_text(cell, traits)
        both = [table.select((text != "none").any()).item() for table in (people, known)]
        if all(both) or people.is_empty():
            told.append(cell)
            continue
        who = "records" if not both[0] else "donors"
        detail = f"{item.name} is donated without {cell}, which the {who} do not tell of anybody"
        notes.append(SourceNote("donation_trait_unknown", 1, detail))
    return tuple(told), notes


def _shares(item: DonationItem, known: pl.DataFrame, present: Sequence[str]) -> pl.DataFrame:
    """Donors with their answers; of parts, with the share up to and with each, of 0 to 1."""
    if item.parts_of is None:
        return known
    reached = []
    for count in range(1, len(present) + 1):
        upto = sum_across([pl.lit(0.0), *present[:count]]) / pl.col(TOTAL)
        reached.append(upto.clip(0.0, 1.0).alias(present[count - 1]))
    shares = known.with_columns(reached)
    return shares.with_columns(pl.lit(1.0).alias(present[-1])) if _whole(item, present) else shares


def _whole(item: DonationItem, present: Sequence[str]) -> bool:
    """Whether the columns that are there add up to the total."""
    return (
        item.parts_of is not None and item.parts_of.complete and len(present) == len(item.columns)
    )


def _draws(item: DonationItem, taking: pl.DataFrame) -> list[tuple[pl.DataFrame, pl.Expr]]:
    """Who takes, and which donors may give: those who say yes give to those who say yes."""
    people = taking.filter(INSIDE, ~pl.col(SETTLED))
    if not item.given:
        return [(people, pl.lit(True))]
    yes = pl.col(item.given).fill_null(False)
    return [(people.filter(yes), yes), (people.filter(~yes), pl.lit(True))]


def _matched(
    item: DonationItem,
    people: pl.DataFrame,
    answers: pl.DataFrame,
    present: Sequence[str],
    cells: Sequence[str],
    traits: Mapping[str, Trait],
    seed: int,
) -> pl.DataFrame:
    """Keys, the donor's answers and DEPTH of ``people``; no rows where nobody can give."""
    if answers.is_empty():
        nobody = people.clear().select(*item.keys)
        return nobody.with_columns(
            *(pl.lit(None, dtype=answers[c].dtype).alias(c) for c in present),
            pl.lit(None, dtype=pl.Int32).alias(DEPTH),
        )
    drawn, source = draw_donors(
        people,
        answers,
        name=item.name,
        keys=item.keys,
        cells=cells,
        traits=traits,
        answers=present,
        seed=seed,
        min_donors=item.min_donors,
    )
    return drawn.select(*item.keys, *(source[c].gather(drawn[DONOR]) for c in present), DEPTH)


def _valued(
    item: DonationItem,
    taking: pl.DataFrame,
    present: Sequence[str],
    drawn: list[pl.DataFrame],
    answers: pl.DataFrame,
) -> pl.DataFrame:
    """``Given.values``: shares become dollars, a settled item becomes nought."""
    base = taking.select(*_kept(item))
    if drawn:
        values = base.join(pl.concat(drawn), on=item.keys, how="left", maintain_order="left")
    else:
        empty = [pl.lit(None, dtype=answers[c].dtype).alias(c) for c in present]
        values = base.with_columns(*empty, pl.lit(None, dtype=pl.Int32).alias(DEPTH))
    if item.parts_of is not None:
        before = [pl.lit(0.0), *(pl.col(c) * pl.col(TOTAL) for c in present[:-1])]
        parts = [
            (pl.col(c) * pl.col(TOTAL) - less).clip(0.0).alias(c)
            for c, less in zip(present, before, strict=True)
        ]
        values = values.with_columns(parts)
    none = [
        pl.when(SETTLED).then(pl.lit(0).cast(values[c].dtype)).otherwise(c).alias(c)
        for c in present
    ]
    return values.with_columns(none)


def _absences(item: DonationItem, absent: Sequence[str]) -> list[SourceNote]:
    if not absent:
        return []
    detail = f"columns of {item.name} that the donor's file does not have: {', '.join(absent)}"
    return [SourceNote("donation_absent", len(absent), detail)]


def _counted(
    item: DonationItem, values: pl.DataFrame, cells: Sequence[str], donors: int
) -> list[SourceNote]:
    """Notes: records by the cells they were drawn from, those without a donor, and receivers."""
    notes = []
    counts = dict(values.drop_nulls(DEPTH).group_by(DEPTH).len().iter_rows())
    for depth in sorted(counts, reverse=True):
        words = " x ".join(cells[:depth]) or "no cells"
        code = "donated" if depth == len(cells) else "donated_collapsed"
        notes.append(SourceNote(code, counts[depth], f"{item.name} donated within {words}"))
    if lonely := values.filter(INSIDE, ~pl.col(SETTLED), pl.col(DEPTH).is_null()).height:
        notes.append(SourceNote("donation_without_donor", lonely, f"{item.name} from nobody"))
    for column in (c for c in item.columns if c in values.columns):
        receiving = values.filter(pl.col(column).cast(pl.Float64).fill_null(0.0) > 0).height
        detail = f"{item.level}s with {column} after donation from {donors:,} donors"
        notes.append(SourceNote("receivers", receiving, detail))
    return notes


def origins(given: Given) -> pl.Series:
    """``donated`` where another survey gave the item, ``reported`` where the record's own survey
    settles it, null outside its universe.
    """
    return given.values.select(
        pl.when(pl.col(DEPTH).is_not_null())
        .then(pl.lit(LENT))
        .when(SETTLED)
        .then(pl.lit(REPORTED))
        .otherwise(pl.lit(None, dtype=pl.String))
        .alias("origin")
    )["origin"]
