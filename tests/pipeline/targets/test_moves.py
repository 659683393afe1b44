"""A state stops where reconciliation would move a figure further than its errors allow."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import TargetError
from pipeline.specs.profiles import AcceptedMove
from pipeline.targets.moves import moved, refuse_large_moves
from tests.pipeline.targets.target_rows import row, table

FAR = row("16077", 4120.0, published_value=1209.0, published_standard_error=105.0, domain="old")
NEAR = row("16001", 60_400.0, published_value=60_097.0, published_standard_error=100.0)
STATE = row("16", 279_441.0, domain="old")


def accepted(**parts: object) -> AcceptedMove:
    why = "the two tables count another thing, see the note of 2018"
    return AcceptedMove(
        **{"level": "county", "variable": "persons", "domain": "old", "reason": why} | parts
    )


def test_a_far_move_stops_the_state_and_names_both_sources() -> None:
    with pytest.raises(TargetError) as caught:
        refuse_large_moves(table(FAR, NEAR, STATE), (), "ID")
    words = str(caught.value)
    assert "1 figures of ID" in words and "+27.7 standard errors" in words
    assert "county 16077 persons/old 1,209 to 4,120" in words
    assert "county table, county 16077" in words and "state (state table)" in words
    assert "accepted_moves" in words


@pytest.mark.parametrize("geoids", [(), ("16077",)], ids=["every area", "this area"])
def test_a_move_accepted_by_name_and_reason_passes(geoids: tuple[str, ...]) -> None:
    refuse_large_moves(table(FAR, NEAR, STATE), (accepted(geoids=geoids),), "ID")


@pytest.mark.parametrize(
    "other",
    [{"geoids": ("16001",)}, {"domain": "young"}, {"level": "tract"}],
    ids=["another area", "another domain", "another level"],
)
def test_what_was_accepted_elsewhere_does_not_count(other: dict) -> None:
    with pytest.raises(TargetError, match="16077"):
        refuse_large_moves(table(FAR, STATE), (accepted(**other),), "ID")


def test_an_exact_figure_may_not_move_at_all_and_validation_may() -> None:
    exact = row("16077", 1210.0, published_value=1209.0, published_standard_error=0.0)
    with pytest.raises(TargetError, match="an exact figure"):
        refuse_large_moves(table(exact), (), "ID")
    refuse_large_moves(table(FAR | {"role": "validation", "reason": "why"}), (), "ID")


def test_carrying_and_concept_count_among_the_errors_of_a_move() -> None:
    rows = table(FAR | {"concept_error": 1000.0}, NEAR)
    found = moved(rows)
    assert found["geoid"].to_list() == ["16001", "16077"]
    assert found["adjustment_in_standard_errors"][1] == pytest.approx(2911 / (105**2 + 1e6) ** 0.5)
    assert moved(rows.with_columns(published_standard_error=pl.lit(1e4))).is_empty()
