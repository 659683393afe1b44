"""Expressions to matrix: known sums, null rules, refusals, independence of order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import RecordsError, TargetError
from pipeline.records.expressions import measure


@dataclass(frozen=True)
class Variable:
    variable: str
    over: str | None = "persons"
    where: str | None = None
    value: object = None
    domain: str = "total"
    not_expressible: str = ""


TABLES = {
    "persons": pl.DataFrame(
        {
            "household_id": ["b", "a", "b", "c"],
            "person_number": [2, 1, 1, 1],
            "age": [10, 40, 70, None],
            "sex": ["male", "female", "female", "male"],
            "hispanic": [True, False, None, False],
            "wages": [None, 100.0, 50.0, 7.0],
            "unknown": pl.Series([None] * 4, dtype=pl.Float64),
        }
    ),
    "households": pl.DataFrame(
        {
            "household_id": ["a", "b", "c"],
            "income": [1.0, 2.0, None],
            "is_group_quarters": [False, False, True],
        }
    ),
}
IDS = ["c", "a", "b"]


@pytest.mark.parametrize(
    ("variable", "expected"),
    [
        pytest.param(Variable("n"), [1, 1, 2], id="count"),
        pytest.param(Variable("n", where="age >= 18"), [0, 1, 1], id="null-condition-is-false"),
        pytest.param(
            Variable("n", where="age BETWEEN 10 AND 40 AND sex IN ('male', 'female')"),
            [0, 1, 1],
            id="between-in",
        ),
        pytest.param(Variable("n", where="NOT hispanic"), [1, 1, 0], id="not-null-is-null"),
        pytest.param(Variable("n", where="hispanic"), [0, 0, 1], id="boolean-column"),
        pytest.param(Variable("n", where="TRUE"), [1, 1, 2], id="constant-condition"),
        pytest.param(Variable("usd", value="wages"), [7, 100, 50], id="sum"),
        pytest.param(
            Variable("usd", value="CASE WHEN sex = 'male' THEN 2 ELSE 0.5 END"),
            [2, 0.5, 2.5],
            id="case",
        ),
        pytest.param(
            Variable("usd", value="COALESCE(wages, 0) / 2 + 1"), [4.5, 51, 27], id="arithmetic"
        ),
        pytest.param(
            Variable("usd", value="age / 3.0", where="age > 60"),
            [0, 0, 70 / 3],
            id="division-of-an-integer-keeps-all-digits",
        ),
        pytest.param(
            Variable("n", value="hispanic", where="hispanic IS NOT NULL"),
            [0, 0, 1],
            id="boolean-value",
        ),
        pytest.param(
            Variable("n", over="households", where="NOT is_group_quarters"),
            [0, 1, 1],
            id="households",
        ),
    ],
)
def test_known_sums_in_the_order_of_the_ids(variable: Variable, expected: list[float]) -> None:
    measured = measure(TABLES, [variable], IDS)
    assert measured.matrix.dtype == np.float64 and measured.household_ids == ("c", "a", "b")
    assert measured.column(variable.variable, "total").tolist() == expected


def test_null_values_are_counted_only_where_the_condition_holds() -> None:
    everyone, adults = (
        measure(TABLES, [Variable("usd", value="wages")], IDS),
        measure(TABLES, [Variable("usd", value="wages", where="age >= 18")], IDS),
    )
    assert [note.count for note in everyone.notes] == [1] and "usd / total" in everyone.notes[
        0
    ].detail
    assert adults.notes == ()


def test_a_wholly_null_column_makes_a_variable_inexpressible_not_wrong() -> None:
    measured = measure(
        TABLES,
        [
            Variable("n"),
            Variable("usd", value="unknown"),
            Variable("m", where="unknown > 0 AND age > 3"),
            Variable("k", where="age > 3"),
        ],
        IDS,
    )
    assert measured.expressible == (("n", "total"), ("k", "total")) and measured.matrix.shape == (
        3,
        2,
    )
    assert [(item.variable, item.column) for item in measured.inexpressible] == [
        ("usd", "unknown"),
        ("m", "unknown"),
    ]
    assert "null for every record" in measured.inexpressible[0].reason


def test_a_variable_declared_inexpressible_keeps_its_reason() -> None:
    measured = measure(
        TABLES,
        [
            Variable("gains", over=None, not_expressible="surveys do not ask for capital gains"),
            Variable("n", where="true", value="1"),
        ],
        IDS,
    )
    assert measured.inexpressible[
        0
    ].reason == "surveys do not ask for capital gains" and measured.expressible == (("n", "total"),)


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        pytest.param(
            Variable("usd", value="wage"),
            "'wage', which table persons does not have; the nearest is 'wages'",
            id="unknown-column",
        ),
        pytest.param(
            Variable("usd", where="agee > 3"), "the nearest is 'age'", id="unknown-column-in-where"
        ),
        pytest.param(Variable("usd", over="people"), "measured over 'people'", id="unknown-table"),
        pytest.param(Variable("usd", where="age >"), "does not parse", id="syntax"),
        pytest.param(Variable("usd", where="age"), "of type Float64", id="condition-not-boolean"),
        pytest.param(Variable("usd", value="sex"), "of type String", id="value-not-a-number"),
        pytest.param(Variable("usd", where="sex > 3"), "usd / total", id="types"),
        pytest.param(
            Variable("usd", value="1.0 / (age - age)"), "not finite", id="division-by-zero"
        ),
    ],
)
def test_refusals_name_the_variable(variable: Variable, words: str) -> None:
    with pytest.raises(TargetError) as caught:
        measure(TABLES, [Variable("fine"), variable], IDS)
    assert words in str(caught.value) and "usd" in str(caught.value)


def test_units_must_cover_the_tables_and_be_unique() -> None:
    with pytest.raises(RecordsError, match="household c"):
        measure(TABLES, [Variable("n")], ["a", "b"])
    with pytest.raises(RecordsError, match="repeated"):
        measure(TABLES, [Variable("n")], ["a", "a", "b", "c"])


def test_a_unit_without_rows_contributes_nothing() -> None:
    assert measure(
        TABLES, [Variable("n"), Variable("h", over="households")], ["a", "b", "c", "d"]
    ).matrix[3].tolist() == [0.0, 0.0]


@given(st.permutations(range(9)))
def test_row_order_changes_no_bit(order: list[int]) -> None:
    table = pl.DataFrame(
        {
            "household_id": list("aabbbbccc"),
            "person_number": [1, 2, 1, 2, 3, 4, 1, 2, 3],
            "x": [0.1, 0.2, 0.3, 1e16, -1e16, 0.7, 3.3, 1e-9, 5.5],
        }
    )
    variables = [Variable("x", value="x"), Variable("n", where="x > 0.25")]
    plain = measure({"persons": table}, variables, list("abc")).matrix
    assert np.array_equal(measure({"persons": table[order]}, variables, list("abc")).matrix, plain)


def test_many_variables_over_three_tables_sum_to_the_table_totals(make: Callable) -> None:
    persons, households = make(
        {
            f"h{i:03d}": [{"age": 20 + i % 60, "wages": float(i)}, {"age": i % 18}]
            for i in range(100)
        }
    )
    variables = [
        Variable("persons", where=f"age BETWEEN {low} AND {low + 9}", domain=str(low))
        for low in range(0, 100, 10)
    ]
    measured = measure(
        {"persons": persons, "households": households}, variables, households["household_id"]
    )
    assert measured.matrix.sum() == persons.height and (measured.matrix.sum(axis=1) == 2).all()
