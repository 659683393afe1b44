"""The hot deck keeps shares and amounts, depends on nothing but seed and keys, and says what it
collapsed.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.donation import donate, proxy_unemployment_compensation
from pipeline.sources.microdata.acs_pums import read_pums


def crowd(
    make: Callable,
    count: int,
    *,
    prefix: str,
    amount: Callable[[int], float | None] | None = None,
    **traits: object,
) -> pl.DataFrame:
    """``count`` single adults; every third worked 20 weeks, the rest all year."""
    homes = {
        f"{prefix}{i:04d}": [
            {
                "weeks_worked": 20 if i % 3 == 0 else 50,
                "unemployment_compensation": amount(i) if amount else None,
                "age": 20 + i % 40,
                **traits,
            }
        ]
        for i in range(count)
    }
    return make(homes)[0]


def paid(i: int) -> float:
    """Half of those who worked part of the year receive 1,000 to 3,000 dollars; nobody
    else does.
    """
    return 1000.0 + (i % 9) * 250.0 if i % 6 == 0 else 0.0


def test_shares_and_amounts_of_each_cell_are_preserved(make: Callable) -> None:
    donors, recipients = crowd(make, 900, prefix="d", amount=paid), crowd(make, 600, prefix="r")
    filled, notes = donate(
        recipients, donors, "unemployment_compensation", ("weeks_class",), seed=1
    )
    part = filled.filter(pl.col("weeks_worked") == 20)["unemployment_compensation"]
    given = donors.filter(pl.col("weeks_worked") == 20)["unemployment_compensation"]
    assert abs((part > 0).mean() - (given > 0).mean()) <= 1 / len(part)
    assert part.mean() == pytest.approx(given.mean(), rel=0.01)
    assert filled.filter(pl.col("weeks_worked") == 50)["unemployment_compensation"].sum() == 0
    assert {note.code: note.count for note in notes} == {"donated": 600, "receivers": 100}


def test_weights_of_donors_count(make: Callable) -> None:
    donors = pl.concat(
        [
            make(
                {f"a{i:03d}": [{"unemployment_compensation": 0.0}] for i in range(50)}, weight=30.0
            )[0],
            make(
                {f"b{i:03d}": [{"unemployment_compensation": 900.0}] for i in range(50)},
                weight=10.0,
            )[0],
        ]
    )
    filled, _ = donate(
        crowd(make, 400, prefix="r"), donors, "unemployment_compensation", ("sex",), seed=0
    )
    assert (filled["unemployment_compensation"] > 0).sum() == pytest.approx(100, abs=1)


def test_seed_and_keys_decide_not_row_order(make: Callable) -> None:
    donors, recipients = crowd(make, 300, prefix="d", amount=paid), crowd(make, 300, prefix="r")
    first, _ = donate(recipients, donors, "unemployment_compensation", seed=5)
    shuffled, _ = donate(
        recipients.reverse(),
        donors.sample(fraction=1.0, shuffle=True, seed=2),
        "unemployment_compensation",
        seed=5,
    )
    other, _ = donate(recipients, donors, "unemployment_compensation", seed=6)
    assert shuffled.sort("household_id").equals(first.sort("household_id"))
    assert not other.equals(first)
    assert (
        first["household_id"].to_list() == recipients["household_id"].to_list()
        and first.columns == recipients.columns
    )


def test_thin_cells_collapse_from_the_end_and_are_counted(make: Callable) -> None:
    donors = crowd(make, 60, prefix="d", amount=paid, sex="male")
    recipients = pl.concat(
        [crowd(make, 30, prefix="m", sex="male"), crowd(make, 30, prefix="f", sex="female")]
    )
    filled, notes = donate(
        recipients, donors, "unemployment_compensation", ("weeks_class", "sex"), seed=0
    )
    assert filled["unemployment_compensation"].null_count() == 0
    assert [(note.code, note.count) for note in notes if note.code.startswith("donated")] == [
        ("donated", 30),
        ("donated_collapsed", 30),
    ]
    nobody, notes = donate(
        recipients, donors, "unemployment_compensation", ("weeks_class",), seed=0, min_donors=1000
    )
    assert (
        notes[0].detail == "unemployment_compensation donated within no cells"
        and nobody["unemployment_compensation"].null_count() == 0
    )


def test_children_get_nothing_and_a_missing_donor_or_trait_is_refused(make: Callable) -> None:
    recipients = make({"a": [{}, {"age": 14}]})[0]
    donors = crowd(make, 30, prefix="d", amount=paid)
    filled, _ = donate(recipients, donors, "unemployment_compensation")
    assert filled["unemployment_compensation"].is_null().to_list() == [False, True]
    with pytest.raises(RecordsError, match="No donor has"):
        donate(recipients, crowd(make, 5, prefix="d"), "unemployment_compensation")
    with pytest.raises(RecordsError, match="no column region"):
        donate(recipients, donors, "unemployment_compensation", ("region",))


@pytest.mark.parametrize(
    ("person", "expected"),
    [
        ({"employment": "unemployed", "weeks_worked": 0}, 800.0),
        ({"weeks_worked": 30}, 800.0),
        ({"weeks_worked": 50}, 0.0),
        ({"weeks_worked": 0, "employment": "not_in_labor_force"}, 0.0),
        ({"weeks_worked": 30, "age": 65}, 0.0),
        ({"weeks_worked": None, "age": 15, "employment": None}, 0.0),
    ],
)
def test_the_proxy_takes_other_income_of_those_with_interrupted_work(
    make: Callable, person: dict[str, object], expected: float
) -> None:
    filled, (note,) = proxy_unemployment_compensation(
        make({"a": [{"other_income": 800.0, **person}, {"age": 9}]})[0]
    )
    assert filled["unemployment_compensation"].to_list() == [expected, None]
    assert (
        filled["other_income"][0] == 800.0
        and note.count == (expected > 0)
        and note.code == "unemployment_compensation_proxy"
    )


def test_the_proxy_on_rhode_island(realdata: Path) -> None:
    """153.8 million dollars on returns of 2018 (Historic Table 2, A02300): the proxy finds about
    seven tenths of it.
    """
    persons = read_pums(
        realdata / "acs_pums/2018_1yr/csv_pri.zip", year=2018, state_fips="44"
    ).persons
    filled, _ = proxy_unemployment_compensation(persons)
    assert (
        0.6
        < (filled["design_weight"] * filled["unemployment_compensation"].fill_null(0.0)).sum()
        / 153_839_000
        < 0.85
    )
