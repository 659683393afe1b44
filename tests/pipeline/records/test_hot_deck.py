"""The draw of donors, by hand: who lends to whom, whole records, collapsed cells, no row order."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.hot_deck import DEPTH, DONOR, draw_donors, trait_text
from pipeline.specs.donation import Trait

TRAITS = {"age_class": Trait(column="age", breaks=(20, 40), null_as=None)}
RULES = {"name": "item", "keys": ["household_id"], "traits": TRAITS, "seed": 1}


def table(rows: list[tuple], *answers: str) -> pl.DataFrame:
    names = ["household_id", "design_weight", "sex", "age", *answers]
    return pl.DataFrame(rows, schema=names, orient="row", infer_schema_length=None)


def taken(recipients: pl.DataFrame, donors: pl.DataFrame, *answers: str, **more) -> pl.DataFrame:
    rules = {**RULES, "cells": ("sex",), "min_donors": 1, **more}
    drawn, source = draw_donors(recipients, donors, answers=answers, **rules)
    lent = [source[name].gather(drawn[DONOR]) for name in answers]
    return drawn.with_columns(lent).sort("household_id")


DONORS = table(
    [
        ("d1", 2.0, "m", 30, 0.0, False),
        ("d2", 1.0, "m", 30, 100.0, True),
        ("d3", 1.0, "m", 30, 200.0, False),
        ("d4", 5.0, "f", 30, 900.0, True),
    ],
    "amount",
    "flag",
)


def test_midpoints_of_equal_recipients_meet_donors_by_weight():
    """Men lie at 1/8, 3/8, 5/8, 7/8; donors reach to 1/2, 3/4 and 1."""
    men = table([(f"r{i}", 7.0, "m", 50) for i in range(4)])
    women = table([(f"w{i}", 7.0, "f", 50) for i in range(2)])
    found = taken(pl.concat([men, women]), DONORS, "amount", "flag")
    of_men = found.filter(pl.col("household_id").str.starts_with("r"))
    assert sorted(of_men["amount"]) == [0.0, 0.0, 100.0, 200.0]
    assert (
        found.filter(pl.col("household_id").str.starts_with("w"))["amount"].to_list() == [900.0] * 2
    )


def test_weights_of_recipients_are_places_on_the_line():
    """A recipient of three quarters of the weight has his midpoint at 3/8 or 5/8, the other at 7/8
    or 1/8: by the order drawn from seed, name and key."""
    both = table([("big", 3.0, "m", 50), ("small", 1.0, "m", 50)])
    found = dict(taken(both, DONORS, "amount").select("household_id", "amount").iter_rows())
    assert found in ({"big": 0.0, "small": 200.0}, {"big": 100.0, "small": 0.0})
    again = dict(
        taken(both.reverse(), DONORS, "amount").select("household_id", "amount").iter_rows()
    )
    assert again == found


def test_one_donor_gives_all_answers():
    men = table([(f"r{i:02d}", 1.0, "m", 50) for i in range(40)])
    pairs = taken(men, DONORS, "amount", "flag").select("amount", "flag").unique().rows()
    assert set(pairs) == {(0.0, False), (100.0, True), (200.0, False)}


def test_nothing_hangs_on_the_order_of_rows_and_the_seed_decides():
    donors = table([(f"d{i}", 1.0 + i % 3, "m", i, float(i % 7)) for i in range(90)], "amount")
    men = table([(f"r{i}", 1.0 + i % 4, "m", i) for i in range(70)])
    first = taken(men, donors, "amount")
    assert taken(men.reverse(), donors.sample(fraction=1, shuffle=True, seed=3), "amount").equals(
        first
    )
    assert not taken(men, donors, "amount", seed=2).equals(first)
    assert not taken(men, donors, "amount", name="another").equals(first)


def test_thin_cells_give_up_their_last_trait_first():
    donors = table(
        [(f"a{i}", 1.0, "m", 30, 1.0) for i in range(5)] + [("b", 1.0, "m", 60, 2.0)], "amount"
    )
    people = table([("r1", 1.0, "m", 30), ("r2", 1.0, "m", 70), ("r3", 1.0, "x", 30)])
    found = taken(people, donors, "amount", cells=("sex", "age_class"), min_donors=3)
    assert dict(found.select("household_id", DEPTH).iter_rows()) == {"r1": 2, "r2": 1, "r3": 0}


def test_classes_of_a_number_and_a_null():
    frame = pl.DataFrame({"age": [5, 20, 39, 40, None]})
    plain = frame.select(trait_text("age_class", TRAITS)).to_series().to_list()
    assert plain == ["0", "1", "1", "2", "none"]
    filled = {"age_class": Trait(column="age", breaks=(20, 40), null_as=25)}
    assert frame.select(trait_text("age_class", filled)).to_series().to_list()[-1] == "1"
    assert frame.select(trait_text("age", TRAITS)).to_series().to_list()[-2:] == ["40", "none"]


def test_a_trait_that_a_table_lacks_is_named_with_the_table():
    with pytest.raises(RecordsError, match="donors have no column region") as caught:
        people = table([("r1", 1.0, "m", 30)]).with_columns(region=pl.lit("a"))
        taken(people, DONORS, "amount", cells=("region",))
    assert "donation of item" in str(caught.value)
