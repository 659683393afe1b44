"""The draw of donors: who lends whole answers to whom, within cells that collapse where thin.

Belongs here: traits as text, cells, the weighted systematic draw, its order. Does not belong here:
which items are lent and what becomes of an answer (``donated_items.py``).

Within a cell donors are sorted by their answers and laid along (0, 1) by weight; recipients, in an
order drawn from (seed, name, key), are laid along (0, 1) by weight, and each takes the answers of
the donor at his midpoint. Shares and distributions of the donors' cell are so preserved to within
one recipient's weight, and nothing depends on the order of rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from pipeline.errors import RecordsError
from pipeline.specs.donation import Trait

DONOR, DEPTH = "donor_row", "cell_depth"
WEIGHT = "design_weight"
_ORDER, _PREFIX = "__order", "trait_"
_LEAST_WEIGHT = 1e-9
"""A recipient of weight zero still needs a place on the line."""


def trait_text(name: str, traits: Mapping[str, Trait]) -> pl.Expr:
    """A trait as text: the class of a declared one, else a column by its own name; null is a class,
    ``none``.
    """
    trait = traits.get(name)
    if trait is None:
        return pl.col(name).cast(pl.String).fill_null("none")
    value = pl.col(trait.column).cast(pl.Float64)
    if trait.null_as is not None:
        value = value.fill_null(trait.null_as)
    # Added up and not summed across, so that a null stays one.
    reached = pl.lit(0)
    for limit in trait.breaks:
        reached = reached + (value >= limit).cast(pl.Int32)
    return reached.cast(pl.String).fill_null("none")


def require_traits(
    table: pl.DataFrame, who: str, cells: Sequence[str], traits: Mapping[str, Trait], where: str
) -> None:
    """Raises RecordsError naming the columns of ``cells`` that a table lacks."""
    needed = {root for cell in cells for root in trait_text(cell, traits).meta.root_names()}
    if missing := sorted(needed - set(table.columns)):
        raise RecordsError(
            f"The {who} have no column {', '.join(missing)}",
            where=where,
            expected="the traits of the cells in both surveys",
            remedy="Choose other cells",
        )


def draw_donors(
    recipients: pl.DataFrame,
    donors: pl.DataFrame,
    *,
    name: str,
    keys: Sequence[str],
    cells: Sequence[str],
    traits: Mapping[str, Trait],
    answers: Sequence[str],
    seed: int,
    min_donors: int = 10,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Whose answers each recipient takes: ``keys``, DONOR (row of the second table), DEPTH (traits
    of the cell that was drawn from, fewer than ``cells`` where it was collapsed); and the donors
    in the order of their ``answers``.

    Both tables have ``keys``, WEIGHT and the traits' columns; the donors, of which there is at
    least one, ``answers``. A cell with fewer than ``min_donors`` donors is collapsed by dropping
    traits from the end of ``cells``. Raises RecordsError if a table lacks a trait.
    """
    for table, who in ((recipients, "recipients"), (donors, "donors")):
        require_traits(table, who, cells, traits, f"donation of {name}")
    text = [trait_text(cell, traits).alias(_PREFIX + cell) for cell in cells]
    source = donors.sort(*answers, *keys)
    giving = source.select(WEIGHT, *text).with_row_index(DONOR)
    taking = recipients.select(*keys, WEIGHT, *text)
    taking = taking.with_columns(_order(taking, name, keys, seed).alias(_ORDER)).sort(_ORDER, *keys)
    pending, filled = taking, []
    for depth in range(len(cells), -1, -1):
        by = [_PREFIX + cell for cell in cells[:depth]]
        ready, pending = _split(pending, giving, by, min_donors if depth else 1)
        if ready.height:
            drawn = _fill(ready, giving, by).select(*keys, DONOR)
            filled.append(drawn.with_columns(pl.lit(depth, dtype=pl.Int32).alias(DEPTH)))
    if not filled:
        nobody = taking.select(*keys, pl.lit(0, dtype=pl.UInt32).alias(DONOR))
        return nobody.with_columns(pl.lit(0, dtype=pl.Int32).alias(DEPTH)), source
    return pl.concat(filled), source


def _order(table: pl.DataFrame, name: str, keys: Sequence[str], seed: int) -> pl.Series:
    """A pseudo-random 64-bit number per row that depends on nothing but the seed, the name and the
    row's key.
    """
    prefix = f"{seed}|{name}|".encode()
    digests = [
        int.from_bytes(
            hashlib.blake2b(prefix + "|".join(map(str, row)).encode(), digest_size=8).digest(),
            "big",
        )
        for row in table.select(keys).iter_rows()
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
    """Add DONOR by the systematic draw within the cells of ``by``."""
    parts: dict[tuple[object, ...], pl.DataFrame] = {(): ready}
    sources: dict[tuple[object, ...], pl.DataFrame] = {(): giving}
    if by:
        parts = ready.partition_by(by, as_dict=True, maintain_order=True)
        sources = giving.partition_by(by, as_dict=True, maintain_order=True)
    result = []
    for cell, takers in parts.items():
        source = sources[cell]
        weight = np.maximum(takers[WEIGHT].to_numpy(), _LEAST_WEIGHT)
        place = (np.cumsum(weight) - weight / 2) / weight.sum()
        reach = np.cumsum(source[WEIGHT].to_numpy())
        chosen = np.minimum(np.searchsorted(reach / reach[-1], place, side="left"), len(reach) - 1)
        result.append(takers.with_columns(source[DONOR].gather(chosen)))
    return pl.concat(result)
