"""A maker of person and household tables that obey the schemas, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable

import polars as pl
import pytest

from pipeline.sources.microdata.schema import AMOUNTS, HouseholdTable, PersonTable, check_microdata

Tables = tuple[pl.DataFrame, pl.DataFrame]


def _make(
    homes: dict[str, list[dict[str, object]]], *, source: str = "acs_pums_1yr", weight: float = 10.0
) -> Tables:
    """Households by id, each a list of persons given by what differs from an unmarried reference
    person of 40 without income.
    """
    persons, households = [], []
    for household_id, members in homes.items():
        rows = []
        for number, member in enumerate(members, 1):
            relationship = member.get(
                "relationship", "reference_person" if number == 1 else "child"
            )
            age = member.get("age", 40)
            amounts = {
                name: 0.0 if age >= 15 and name != "unemployment_compensation" else None
                for name in AMOUNTS
            }
            row = {
                "household_id": household_id,
                "person_number": number,
                "source": source,
                "state_fips": "44",
                "puma": "4400101",
                "county_fips": None,
                "is_group_quarters": str(relationship).startswith("gq_"),
                "design_weight": weight,
                "age": 40,
                "sex": "male",
                "relationship": relationship,
                "marital_status": "never_married",
                "race": "white",
                "hispanic": False,
                "education": 16,
                "school": "not_enrolled",
                "employment": "employed" if age >= 16 else None,
                "at_work": True if age >= 16 else None,
                "class_of_worker": None,
                "commute": None,
                "disability": False,
                "veteran": False,
                "foreign_born": False,
                "citizen": True,
                "naturalized": False,
                "other_language": False,
                "moved": "same_house",
                "gave_birth": None,
                "poverty_ratio": 300,
                "weeks_worked": 50 if age >= 16 else None,
                "hours_worked": 40 if age >= 16 else None,
                **amounts,
                **member,
            }
            parts = [
                name
                for name in AMOUNTS
                if name not in ("total_income", "unemployment_compensation")
            ]
            if "total_income" not in member and age >= 15:
                row["total_income"] = sum(row[name] or 0.0 for name in parts)
            rows.append(row)
        group_quarters = rows[0]["is_group_quarters"]
        persons += rows
        households.append(
            {
                "household_id": household_id,
                "source": source,
                "state_fips": "44",
                "puma": "4400101",
                "county_fips": None,
                "is_group_quarters": group_quarters,
                "design_weight": weight,
                "persons": len(rows),
                "tenure": None if group_quarters else "owner",
                "household_income": (
                    None
                    if group_quarters
                    else float(sum(row["total_income"] or 0.0 for row in rows))
                ),
                "food_stamps": None,
            }
        )
    people = pl.DataFrame(
        persons, schema={name: column.dtype for name, column in PersonTable.columns().items()}
    )
    units = pl.DataFrame(
        households, schema={name: column.dtype for name, column in HouseholdTable.columns().items()}
    )
    return check_microdata(people, units, "test")


@pytest.fixture
def make() -> Callable[..., Tables]:
    return _make
