"""Items of persons and households: parts of a whole, given answers, what is absent, origins."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from pipeline.errors import RecordsError
from pipeline.records.donation import Lenders, donate_items, restated
from pipeline.records.donation_carry import carry_donated, follow_totals
from pipeline.records.uprating import AmountFactor
from pipeline.sources.microdata.donor_schema import (
    OTHER_INCOME_PARTS,
    RETIREMENT_PARTS,
    DonorHouseholdTable,
    DonorPersonTable,
)
from pipeline.specs.donation import load_donation

RULES = load_donation()
WITH_OTHER = ("unemployment_compensation", "other_income")
PARTS = ("child_support", "veterans_payments", "workers_compensation")


def survey(make: Callable, count: int, prefix: str, person: Callable, home: Callable | None = None):
    """``count`` households of one person each."""
    persons, homes = make({f"{prefix}{i:04d}": [person(i)] for i in range(count)})
    if home is not None:
        columns = pl.DataFrame([home(i) for i in range(count)], infer_schema_length=None)
        homes = homes.with_columns(columns.get_columns())
    return persons, homes


def lent(tables, person: Callable | None = None, home: Callable | None = None) -> Lenders:
    """Donors with every item, as the reader gives them."""
    persons, homes = tables
    for schema, make, at in ((DonorPersonTable, person, 0), (DonorHouseholdTable, home, 1)):
        table = (persons, homes)[at]
        own = [make(i) if make else {} for i in range(table.height)]
        new = {
            name: pl.Series(name, [row.get(name) for row in own], dtype=column.dtype)
            for name, column in schema.columns().items()
            if name not in table.columns or name in (own[0] if own else {})
        }
        if at == 0:
            persons = table.with_columns(new.values())
        else:
            homes = table.with_columns(new.values())
    return Lenders(persons, homes)


def donated(tables, lenders: Lenders, *names: str, seed: int = 1):
    return donate_items(*tables, lenders, RULES.chosen(names), seed)


def split(i: int) -> dict[str, float]:
    """Other income of 1,000 dollars: child support of the first third, half and half of the
    second, of no named kind of the third."""
    shares = [(1000.0, 0.0), (500.0, 500.0), (0.0, 0.0)][i % 3]
    return {**dict.fromkeys(OTHER_INCOME_PARTS, 0.0), **dict(zip(PARTS[:2], shares, strict=True))}


def test_parts_of_other_income_never_exceed_it_and_are_shares_of_the_donors(make):
    donors = lent(survey(make, 300, "d", lambda i: {"other_income": 1000.0}), split)
    people = survey(make, 90, "r", lambda i: {"other_income": 100.0 * (i % 3)})
    found = donated(people, donors, *WITH_OTHER).persons
    total = found.select(pl.sum_horizontal(OTHER_INCOME_PARTS)).to_series()
    assert (total <= found["other_income"] + 1e-9).all() and total.sum() > 0
    having = found.filter(pl.col("other_income") > 0)
    assert having["child_support"].sum() == pytest.approx(
        0.5 * having["other_income"].sum(), rel=0.1
    )
    assert having["alimony"].sum() == 0
    nothing = found.filter(pl.col("other_income") == 0)
    assert nothing["child_support"].to_list() == [0.0] * 30
    assert set(nothing["child_support_origin"]) == {"reported"}
    assert set(having["child_support_origin"]) == {"donated"}


def test_parts_leave_room_for_unemployment_compensation_donated_before(make):
    donors = lent(
        survey(
            make, 60, "d", lambda i: {"other_income": 1000.0, "unemployment_compensation": 300.0}
        ),
        lambda i: {**split(0), "unemployment_compensation": 300.0},
    )
    people = survey(make, 20, "r", lambda i: {"other_income": 400.0 if i % 2 else 200.0})
    found = donated(people, donors, "unemployment_compensation", "other_income").persons
    assert found["unemployment_compensation"].to_list() == [300.0] * 20
    assert found["child_support"].to_list() == [0.0, 100.0] * 10


def test_unemployment_compensation_as_a_part_has_its_share_and_needs_other_income(make):
    donors = lent(
        survey(
            make, 60, "d", lambda i: {"other_income": 250.0, "unemployment_compensation": 750.0}
        ),
        lambda i: {**split(2), "child_support": 250.0, "unemployment_compensation": 750.0},
    )
    people = survey(make, 20, "r", lambda i: {"other_income": 80.0 * (i % 2)})
    made = donated(people, donors, "other_income_with_unemployment")
    assert made.persons["unemployment_compensation"].to_list() == [0.0, 60.0] * 10
    assert made.persons["child_support"].to_list() == [0.0, 20.0] * 10
    assert "unemployment_compensation_proxy" not in {note.code for note in made.notes}


def pension(i: int) -> dict[str, float]:
    shares = [(0.7, 0.0, 0.3), (0.0, 0.0, 1.0), (1 / 3, 1 / 3, 1 / 3)][i % 3]
    named = dict(zip(RETIREMENT_PARTS[:3], (share * 9000.0 for share in shares), strict=True))
    return {**dict.fromkeys(RETIREMENT_PARTS, 0.0), **named}


def test_parts_of_retirement_add_up_to_what_the_survey_reports(make):
    donors = lent(survey(make, 300, "d", lambda i: {"retirement": 9000.0, "age": 70}), pension)
    amount = {i: 137.0 + 1_111.1 * i for i in range(80)}
    people = survey(make, 80, "r", lambda i: {"retirement": amount[i], "age": 66})
    found = donated(people, donors, "retirement").persons
    total = found.select(pl.sum_horizontal(RETIREMENT_PARTS)).to_series()
    assert total.to_list() == pytest.approx(list(amount.values()), rel=1e-12)
    assert found["annuities"].sum() == pytest.approx(found["retirement"].sum() / 9, rel=0.3)


def test_parts_follow_their_whole_when_a_step_aligns_it(make):
    donors = lent(survey(make, 30, "d", lambda i: {"retirement": 9000.0}), pension)
    before = donated(
        survey(make, 9, "r", lambda i: {"retirement": 900.0 * (i > 0)}), donors, "retirement"
    ).persons
    after = before.with_columns(pl.col("retirement") * 1.75 + (pl.col("household_id") == "r0000"))
    found, (note,) = follow_totals(before, after, RULES.chosen(["retirement"]))
    total = found.select(pl.sum_horizontal(RETIREMENT_PARTS)).to_series()
    assert total.to_list()[1:] == pytest.approx(found["retirement"].to_list()[1:])
    assert (note.code, note.count) == ("donation_without_parts", 1)
    assert found.columns == after.columns


def covered(i: int) -> dict[str, object]:
    """Those over 64 have Medicare, every second of the others nothing."""
    old = i % 4 == 0
    flags = {"medicare": old, "health_insurance": old or i % 2 == 1, "public_insurance": old}
    rest = ("private_insurance", "employer_insurance", "marketplace_insurance", "medicaid")
    return {**flags, **dict.fromkeys(rest, not old and i % 2 == 1)}


def test_flags_come_together_from_one_donor_and_infants_have_them_too(make):
    ages = lambda i: {"age": 70 if i % 4 == 0 else 30}  # noqa: E731
    donors = lent(survey(make, 400, "d", ages), covered)
    people = survey(make, 100, "r", ages)
    found = donated(people, donors, "health_insurance").persons
    assert found.filter(pl.col("age") == 70)["medicare"].all()
    assert not found.filter(pl.col("age") == 30)["medicare"].any()
    assert (found["private_insurance"] == found["employer_insurance"]).all()
    assert (found["health_insurance"] | ~found["private_insurance"]).all()
    assert (
        found["health_insurance"].dtype == pl.Boolean and found["medicare_origin"].null_count() == 0
    )


def stamps(i: int) -> dict[str, object]:
    yes = i % 5 == 0
    return {"food_stamps": yes, "snap_benefits": 2400.0 if yes else 0.0}


def test_snap_goes_to_households_that_report_it_and_to_no_other(make):
    donors = lent(survey(make, 200, "d", lambda i: {}, stamps), home=stamps)
    homes = survey(make, 60, "r", lambda i: {}, lambda i: {"food_stamps": i % 2 == 0})
    made = donated(homes, donors, "snap")
    assert made.households["snap_benefits"].to_list() == [2400.0, 0.0] * 30
    assert made.households["snap_benefits_origin"].to_list() == ["donated", "reported"] * 30
    (row,) = made.table.to_dicts()
    assert (row["after_receiving"], row["after_universe"]) == (300.0, 300.0)
    assert row["before_receiving"] == 300.0 and row["before_dollars"] is None
    assert row["nation_universe"] == 400.0 and row["receiving_gap"] == 0.0


def test_where_the_answer_is_not_known_it_comes_with_the_item(make):
    donors = lent(survey(make, 200, "d", lambda i: {}, stamps), home=stamps)
    homes = survey(make, 50, "r", lambda i: {})
    made = donated(homes, donors, "snap")
    assert (made.households["snap_benefits"] > 0).sum() == pytest.approx(10, abs=1)
    assert made.households["food_stamps"].null_count() == 50
    (row,) = made.table.to_dicts()
    assert row["nation_receiving"] / row["nation_universe"] == pytest.approx(0.2)
    assert row["before_receiving"] is None and row["settled"] == 0


def test_a_trait_that_the_records_do_not_know_is_left_out_and_named(make):
    def aid(i: int) -> dict[str, object]:
        return {"public_housing": i % 10 == 0, "rent_subsidy": False, "food_stamps": i % 5 == 0}

    donors = lent(survey(make, 300, "d", lambda i: {}, aid), home=aid)
    people, homes = survey(make, 40, "r", lambda i: {})
    blind = homes.with_columns(pl.lit(None, dtype=pl.String).alias("tenure"))
    made = donated((people, blind), donors, "housing_aid")
    named = [note.detail for note in made.notes if note.code == "donation_trait_unknown"]
    assert [detail.split(" without ")[1].split(",")[0] for detail in named] == [
        *("tenure", "food_stamps")
    ]
    assert "which the records do not tell" in named[0]
    assert made.households["public_housing"].sum() == pytest.approx(4, abs=1)


def test_columns_that_the_file_lacks_are_named_and_the_others_are_given(make):
    def known(i: int) -> dict[str, float | None]:
        return {name: None if name == "alimony" else 0.0 for name in OTHER_INCOME_PARTS}

    donors = lent(survey(make, 60, "d", lambda i: {"other_income": 10.0}), known)
    people = survey(make, 9, "r", lambda i: {"other_income": 10.0})
    made = donated(people, donors, *WITH_OTHER, "health_insurance")
    assert "alimony" not in made.persons.columns and "child_support" in made.persons.columns
    absent = [note.detail for note in made.notes if note.code == "donation_absent"]
    assert absent[1] == "columns of other_income that the donor's file does not have: alimony"
    assert absent[0].endswith(": unemployment_compensation") and "medicaid" in absent[2]
    status = dict(made.table.select("column", "status").iter_rows())
    assert (status["alimony"], status["medicaid"], status["child_support"]) == (
        *("absent", "absent"),
        "donated",
    )
    assert not made.table["far"].any()


def test_without_unemployment_compensation_among_the_items_the_proxy_stands_in(make):
    donors = lent(survey(make, 30, "d", lambda i: {"retirement": 9000.0}), pension)
    people = survey(make, 4, "r", lambda i: {"other_income": 800.0, "weeks_worked": 30})
    made = donated(people, donors, "retirement")
    assert made.persons["unemployment_compensation"].to_list() == [800.0] * 4
    assert "unemployment_compensation_proxy" in {note.code for note in made.notes}
    assert made.persons.columns[: people[0].width] == people[0].columns


def test_no_result_hangs_on_the_order_of_rows(make):
    def aid(i: int) -> dict[str, object]:
        energy = i % 6 == 0
        return {"energy_assistance": energy, "energy_benefits": 10.0 * (i % 9) * energy}

    lenders = lent(
        survey(make, 200, "d", lambda i: {"retirement": 9000.0, "age": 50 + i % 30}, stamps),
        pension,
        lambda i: {**stamps(i), **aid(i)},
    )
    people, homes = survey(make, 80, "r", lambda i: {"retirement": 100.0 * (i % 9), "age": 60})
    names = ("retirement", "snap", "energy_aid")
    first = donated((people, homes), lenders, *names)
    other = Lenders(lenders.persons.reverse(), lenders.households.sample(fraction=1, shuffle=True))
    again = donated((people.reverse(), homes.reverse()), other, *names)
    assert again.persons.sort("household_id").equals(first.persons)
    assert again.households.sort("household_id").equals(first.households)
    assert again.table.equals(first.table)
    assert not donated((people, homes), lenders, *names, seed=2).persons.equals(first.persons)


def test_items_of_households_need_the_donors_households(make):
    with pytest.raises(RecordsError, match="no households of the donor survey"):
        tables = survey(make, 3, "r", lambda i: {})
        donated(tables, Lenders(lent(survey(make, 3, "d", lambda i: {})).persons), "snap")


def test_donors_of_another_year_are_restated_and_carried_with_their_amount(make):
    lenders = lent(survey(make, 20, "d", lambda i: {"retirement": 9000.0}, stamps), pension, stamps)
    items = RULES.chosen(["retirement", "snap"])
    back = restated(lenders, items, {"retirement": 0.5})
    assert back.persons["retirement"][0] == 4500.0
    assert back.persons["pensions"][0] == pytest.approx(3150.0)
    assert back.households["snap_benefits"][0] == 2400.0
    (note,) = back.notes
    assert note.detail == "snap_benefits: the profile has no series for public_assistance"
    made = donated(
        survey(make, 6, "r", lambda i: {"retirement": 100.0}, lambda i: {"food_stamps": True}),
        *(back, "retirement", "snap"),
    )
    tables = {"persons": made.persons, "households": made.households}
    factors = {"retirement": AmountFactor(2.0, "cpi 2018 -> 2022", "here")}
    carried, applied, table = carry_donated(tables, made.table, items, factors)
    total = carried["persons"].select(pl.sum_horizontal(RETIREMENT_PARTS)).to_series()
    assert total.to_list() == pytest.approx([200.0] * 6)
    assert carried["households"]["snap_benefits"].to_list() == [2400.0] * 6
    assert applied["column"].to_list() == list(RETIREMENT_PARTS)
    was, now = (t.filter(column="pensions").to_dicts()[0] for t in (made.table, table))
    for name in ("nation_dollars", "nation_base", "after_dollars", "after_base"):
        assert now[name] == pytest.approx(2.0 * was[name])
    assert (
        now["dollars_gap"] == was["dollars_gap"] and now["after_universe"] == was["after_universe"]
    )
