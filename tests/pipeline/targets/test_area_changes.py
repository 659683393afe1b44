"""Areas that were divided anew, states that a publication leaves out, tracts of water."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import TargetError
from pipeline.specs.area_changes import AreaChange, load_area_changes
from pipeline.targets.build import BuiltTargets
from pipeline.weights.areas import owned
from pipeline.weights.places import Places
from tests.pipeline.targets.target_rows import row, table
from tests.pipeline.targets.toy_tables import build, cells

ITEMS = [{"variable": "persons", "domain": "total", "column": "A"}]
ALASKA, CONNECTICUT, BEDFORD = ("02261",), ("09001", "09003"), ("51019", "51515")


@pytest.mark.parametrize(
    ("held", "year", "kept"),
    [
        (["02020", *ALASKA], 2022, ["02020"]),
        (["02020", *ALASKA], 2018, ["02020", *ALASKA]),
        (["02020", "02063", "02066"], 2018, ["02020"]),
        (["02020", "02063", "02066"], 2022, ["02020", "02063", "02066"]),
        ([*CONNECTICUT], 2022, []),
        (["09110", "09120"], 2022, ["09110", "09120"]),
        ([*BEDFORD, "51001"], 2018, ["51001"]),
        (["51019", "51001"], 2018, ["51001", "51019"]),
        ([*BEDFORD, "51001"], 2012, ["51001", *BEDFORD]),
    ],
    ids=["Alaska", "before", "not yet", "since", "CT", "regions", "merged", "since merged", "then"],
)
def test_figures_of_areas_that_the_year_does_not_know_are_left_out_and_told(held, year, kept):
    frame = cells(*((code, "A", 1.0, 1.0) for code in held))
    made = build(ITEMS, frame, levels=("county",), state=None, target_year=year)
    assert made.frame["geoid"].to_list() == kept
    left = [note.count for note in made.notes if note.code == "divided_anew"]
    assert sum(left) == len(held) - len(kept)


def test_one_area_for_one_is_no_new_division():
    with pytest.raises(ValueError, match="new code"):
        AreaChange(name="x", year=2015, old=("46113",), new=("46102",))
    assert len(load_area_changes().changes) >= 3


def test_a_state_that_a_publication_leaves_out_is_told_and_another_is_an_error():
    frame, why = cells(("44001", "A", 1.0, 1.0)), {"11": "no sheet"}

    def of(state: str) -> BuiltTargets:
        return build(ITEMS, frame, levels=("county",), state=state, states_without=why)

    made = of("11")
    assert made.frame.is_empty() and any("no sheet" in note.detail for note in made.notes)
    with pytest.raises(TargetError, match="no county rows for state 10"):
        of("10")


LIST = pl.DataFrame(
    {
        "state_fips": ["10"] * 4,
        "county_fips": ["10001", "10001", "10001", "10003"],
        "tract": ["10001000100", "10001980000", "10001990000", "10003990100"],
        "puma": ["1000100"] * 4,
    }
)


def test_water_that_no_table_has_is_no_area():
    named = table(row("10001000100", 5.0), row("10001980000", 0.0))
    assert owned(LIST, named)["tract"].to_list() == ["10001000100", "10001980000"]
    # A table that states nobody there keeps it.
    with_water = table(row("10001000100", 5.0), row("10001990000", 0.0))
    assert "10001990000" in owned(LIST, with_water)["tract"].to_list()
    # A tract of people that no table has stays, and is an error of reconciliation.
    assert "10001980000" in owned(LIST, with_water)["tract"].to_list()
    # Without tracts nothing is said of them.
    assert owned(LIST, table(row("10001", 5.0))).height == 4


def test_pumas_of_counties_divided_anew_are_placed_by_numbers_of_tracts():
    """Tract 0101.01 kept its number, 0200 was split into 0200.01 and 0200.02, 0300 went."""
    old = pl.DataFrame(
        {
            "state_fips": "09",
            "county_fips": ["09001", "09001", "09001"],
            "tract": ["09001010101", "09001020000", "09001030000"],
            "puma": ["0900100", "0900200", "0900200"],
        }
    )
    new = pl.DataFrame(
        {
            "state_fips": "09",
            "county_fips": ["09110", "09120", "09120"],
            "tract": ["09110010101", "09120020001", "09120020002"],
            "puma": ["0920100", "0920200", "0920200"],
        }
    )
    places = Places(new, old, "county", 0.0)
    people = pl.DataFrame({"area": ["09110", "09120"], "population": [10.0, 30.0]})
    pumas = ["0900100", "0900200"]
    shares = places.shares(pumas, people, places.local(pumas, people))
    found = {(r["area"], r["puma"]): r["share"] for r in shares.iter_rows(named=True)}
    assert found["09110", "0900100"] == 1.0 and found["09120", "0900200"] == 1.0
    assert found["09120", "0900100"] == 0.0
