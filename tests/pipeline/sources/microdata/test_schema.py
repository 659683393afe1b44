"""The schemas of persons and households check values, not only types."""

from __future__ import annotations

import polars as pl
import pytest

from pipeline.errors import RecordsError, SourceValueError
from pipeline.sources.microdata.schema import (
    HouseholdTable,
    PersonTable,
    check_microdata,
    check_table,
)

HOUSEHOLD = {
    "household_id": "h",
    "source": "s",
    "state_fips": "44",
    "puma": "4400101",
    "county_fips": None,
    "is_group_quarters": False,
    "design_weight": 1.0,
    "persons": 1,
    "tenure": "owner",
    "household_income": 5.0,
    "food_stamps": None,
}
PERSON = {
    **dict.fromkeys(PersonTable.columns()),
    "household_id": "h",
    "person_number": 1,
    "source": "s",
    "state_fips": "44",
    "is_group_quarters": False,
    "design_weight": 1.0,
    "age": 30,
    "sex": "male",
    "relationship": "reference_person",
    "marital_status": "married",
    "race": "white",
    "hispanic": False,
    "foreign_born": False,
    "citizen": True,
    "naturalized": False,
}


def table(schema: type, *rows: dict[str, object]) -> pl.DataFrame:
    return pl.DataFrame(
        list(rows), schema={name: column.dtype for name, column in schema.columns().items()}
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param({"sex": "Male"}, "sex|check__vocabulary", id="vocabulary"),
        pytest.param({"age": -1}, "age|min", id="age"),
        pytest.param({"state_fips": "4"}, "state_fips|regex", id="fips-without-leading-zero"),
        pytest.param({"puma": "00101"}, "puma|regex", id="puma-without-state"),
        pytest.param({"design_weight": float("nan")}, "design_weight", id="nan-weight"),
        pytest.param({"wages": -1.0}, "wages|min", id="negative-wages"),
        pytest.param({"education": 25}, "education|max", id="education"),
        pytest.param({"poverty_ratio": 502}, "poverty_ratio|max", id="poverty"),
        pytest.param(
            {"relationship": "gq_institutional"}, "group_quarters_relationship", id="group-quarters"
        ),
        pytest.param(
            {"naturalized": True, "foreign_born": True, "citizen": False},
            "naturalized_are",
            id="naturalized-not-citizen",
        ),
        pytest.param({"race": None}, "race|nullability", id="null"),
    ],
)
def test_a_person_that_breaks_a_rule_is_named(change: dict[str, object], rule: str) -> None:
    with pytest.raises(SourceValueError) as caught:
        check_table(table(PersonTable, {**PERSON, **change}), PersonTable, "file.csv")
    assert (
        rule in str(caught.value)
        and "household h person 1" in str(caught.value)
        and "file.csv" in str(caught.value)
    )


@pytest.mark.parametrize(
    ("change", "rule"),
    [
        pytest.param(
            {"is_group_quarters": True}, "group_quarters_are_single", id="income-in-group-quarters"
        ),
        pytest.param(
            {"county_fips": "09001"}, "county_lies_in_state", id="county-of-another-state"
        ),
        pytest.param({"tenure": "owned"}, "tenure|check__vocabulary", id="tenure"),
        pytest.param({"persons": 0}, "persons|min", id="empty"),
    ],
)
def test_a_household_that_breaks_a_rule_is_named(change: dict[str, object], rule: str) -> None:
    with pytest.raises(SourceValueError, match=rule.replace("|", r"\|")):
        check_table(table(HouseholdTable, {**HOUSEHOLD, **change}), HouseholdTable, "file.csv")


def test_duplicate_keys_missing_columns_and_tables_that_disagree() -> None:
    with pytest.raises(SourceValueError, match="primary_key"):
        check_table(table(HouseholdTable, HOUSEHOLD, HOUSEHOLD), HouseholdTable, "f")
    with pytest.raises(SourceValueError, match="tenure"):
        check_table(table(HouseholdTable, HOUSEHOLD).drop("tenure"), HouseholdTable, "f")
    persons, households = table(PersonTable, PERSON), table(HouseholdTable, HOUSEHOLD)
    with pytest.raises(RecordsError, match="states 2 persons and has 1"):
        check_microdata(
            persons, households.with_columns(pl.lit(2, dtype=pl.Int32).alias("persons")), "f"
        )
    with pytest.raises(RecordsError, match="no records"):
        check_microdata(persons.clear(), households.clear(), "f")


def test_good_tables_come_back_sorted_with_the_columns_in_order() -> None:
    second = {**PERSON, "person_number": 2, "relationship": "child"}
    persons, households = check_microdata(
        table(PersonTable, second, PERSON).with_columns(pl.lit(1).alias("extra")),
        table(HouseholdTable, {**HOUSEHOLD, "persons": 2}),
        "f",
    )
    assert persons.columns == list(PersonTable.columns()) and persons[
        "person_number"
    ].to_list() == [1, 2]
    assert households["household_id"].to_list() == ["h"]
