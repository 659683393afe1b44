"""What each unit contributes to each variable: SQL expressions of data_specs turned into one
matrix.

Belongs here: parsing and checking ``where`` and ``value``, null rules, the sum to the unit. Does
not belong here: which variables exist (``data_specs/variables``), targets, or weights.

    contribution[h, v] = sum over rows r of table over_v with household_id h of  [where_v(r) is
    true] * value_v(r)
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from pipeline.errors import RecordsError, TargetError
from pipeline.sources.base import SourceNote

_TIE_BREAKS = ("person_number", "tax_unit")


class VariableLike(Protocol):
    """What ``measure`` needs of a variable's specification."""

    @property
    def variable(self) -> str: ...
    @property
    def domain(self) -> str: ...
    @property
    def over(self) -> str | None: ...
    @property
    def where(self) -> str | None: ...
    @property
    def value(self) -> object: ...


@dataclass(frozen=True)
class Inexpressible:
    """A variable that these records cannot express: a ``column`` it needs is null for every record
    of the table, or its specification says so (column "").
    """

    variable: str
    domain: str
    column: str
    reason: str


@dataclass(frozen=True)
class Measured:
    """``matrix`` float64 (H, V): row h is household_ids[h], column v is expressible[v] = (variable,
    domain), in the order given.

    ``inexpressible`` lists the variables left out, with the reason; ``notes`` count null values
    taken as zero.
    """

    matrix: np.ndarray
    household_ids: tuple[str, ...]
    expressible: tuple[tuple[str, str], ...]
    inexpressible: tuple[Inexpressible, ...]
    notes: tuple[SourceNote, ...]

    def column(self, variable: str, domain: str) -> np.ndarray:
        """Contributions of one variable, shape (H,)."""
        return self.matrix[:, self.expressible.index((variable, domain))]


@dataclass(frozen=True)
class _Parsed:
    position: int
    name: str
    condition: pl.Expr | None
    value: pl.Expr


def measure(
    tables: Mapping[str, pl.DataFrame],
    variables: Sequence[VariableLike],
    household_ids: Sequence[str] | pl.Series,
) -> Measured:
    """Contributions of every unit in ``household_ids`` (any order, each once) to every variable.

    A null condition counts as false. A null value where the condition holds counts as zero and is
    noted; elsewhere it is ignored. Booleans count as 0 and 1. A column that is null for every
    record of its table makes the variable inexpressible: it is reported, not an error.

    Raises TargetError for an unknown table or column, an expression that does not parse, a
    condition that is not true/false, or a value that is not a number; RecordsError if a table has a
    household that is not in ``household_ids``, or that list repeats one.
    """
    ids = pl.Series("household_id", household_ids, dtype=pl.String)
    if ids.n_unique() != len(ids):
        raise RecordsError(
            "A household id is repeated",
            where=str(ids.filter(ids.is_duplicated())[0]),
            expected="each unit once",
            remedy="Pass the ids of the units table",
        )
    # SQL literals such as 3.0 are decimals: with an integer column polars would compute to six
    # digits only. Whole numbers are exact as floats.
    floating = {
        name: table.with_columns(pl.selectors.integer().cast(pl.Float64))
        for name, table in tables.items()
    }
    index = pl.DataFrame({"household_id": ids}).with_row_index("__unit")
    parsed: dict[str, list[_Parsed]] = {}
    inexpressible: list[Inexpressible] = []
    expressible: list[tuple[str, str]] = []
    empty_columns: dict[str, set[str]] = {}
    for spec in variables:
        if spec.over is None:
            reason = (
                getattr(spec, "not_expressible", "") or "the specification names no record table"
            )
            inexpressible.append(Inexpressible(spec.variable, spec.domain, "", reason))
            continue
        item, missing = _parse(spec, floating, empty_columns)
        if missing is not None:
            inexpressible.append(missing)
            continue
        parsed.setdefault(spec.over, []).append(_Parsed(len(expressible), *item))
        expressible.append((spec.variable, spec.domain))
    matrix = np.zeros((len(ids), len(expressible)), dtype=np.float64)
    notes: list[SourceNote] = []
    for over in sorted(parsed):
        notes += _accumulate(floating[over], over, parsed[over], index, matrix)
    return Measured(
        matrix, tuple(ids.to_list()), tuple(expressible), tuple(inexpressible), tuple(notes)
    )


def _accumulate(
    table: pl.DataFrame, over: str, items: list[_Parsed], index: pl.DataFrame, matrix: np.ndarray
) -> list[SourceNote]:
    """Evaluate all expressions of one table in one pass and add them up by unit."""
    if table.is_empty():
        return []
    located = table.join(index, on="household_id", how="left", maintain_order="left")
    if located["__unit"].null_count():
        stray = located.filter(pl.col("__unit").is_null())["household_id"][0]
        raise RecordsError(
            f"Table {over} has a household that is not a unit",
            where=f"household {stray}",
            expected="units only",
            remedy="Build all tables from the same units",
        )
    # Sorted within the unit too, so that floating-point sums do not depend on row order.
    ordered = located.sort("__unit", *(name for name in _TIE_BREAKS if name in table.columns))
    columns = []
    for item in items:
        value = item.value.cast(pl.Float64)
        contribution = (
            value if item.condition is None else pl.when(item.condition).then(value).otherwise(0.0)
        )
        columns.append(contribution.alias(str(item.position)))
    try:
        evaluated = ordered.select(columns)
    except pl.exceptions.PolarsError:
        _explain(ordered, items)
        raise
    if evaluated.height != ordered.height:  # only constants were asked for: one row stands for all
        evaluated = ordered.select(pl.col("__unit"), *columns).drop("__unit")
    notes = []
    nulls = evaluated.null_count().row(0)
    for item, count in zip(items, nulls, strict=True):
        if count:
            notes.append(
                SourceNote(
                    "null_value_taken_as_zero",
                    int(count),
                    f"{item.name}: rows of {over} that meet the condition but have no value",
                )
            )
    values = evaluated.fill_null(0.0).to_numpy()
    units = ordered["__unit"].to_numpy()
    if not np.isfinite(values).all():
        bad = items[int(np.argwhere(~np.isfinite(values))[0, 1])]
        raise TargetError(
            f"{bad.name} gives a value that is not finite",
            where=f"over {over}",
            expected="finite numbers",
            remedy="Guard a division against zero with CASE WHEN",
        )
    starts = np.flatnonzero(np.r_[True, units[1:] != units[:-1]])
    matrix[np.ix_(units[starts], [item.position for item in items])] = np.add.reduceat(
        values, starts, axis=0
    )
    return notes


def _explain(table: pl.DataFrame, items: list[_Parsed]) -> None:
    """Find the variable whose expression cannot be evaluated. Raises TargetError naming it."""
    for item in items:
        try:
            table.head(1).select(
                item.value.cast(pl.Float64)
                if item.condition is None
                else pl.when(item.condition).then(item.value.cast(pl.Float64))
            )
        except pl.exceptions.PolarsError as error:
            raise TargetError(
                f"The expression of {item.name} cannot be evaluated: {str(error).splitlines()[0]}",
                where=f"variable {item.name}",
                expected="a condition that is true or false, and a value that is a number",
                remedy="Mend `where` or `value` in data_specs/variables",
            ) from error


def _parse(
    spec: VariableLike, tables: Mapping[str, pl.DataFrame], empty_columns: dict[str, set[str]]
) -> tuple[tuple[str, pl.Expr | None, pl.Expr], Inexpressible | None]:
    name = f"{spec.variable} / {spec.domain}"
    if spec.over not in tables:
        raise TargetError(
            f"{name} is measured over {spec.over!r}",
            where=f"variable {name}",
            expected=f"one of {', '.join(sorted(tables))}",
            remedy="Mend `over` in data_specs/variables",
        )
    table = tables[spec.over]
    if "household_id" not in table.columns:
        raise RecordsError(
            f"Table {spec.over} has no household_id",
            where=spec.over,
            expected="the key of the unit in every table",
            remedy="Build the table from units",
        )
    if spec.over not in empty_columns:
        counts = table.null_count().row(0)
        empty_columns[spec.over] = {
            column
            for column, count in zip(table.columns, counts, strict=True)
            if table.height and count == table.height
        }
    where = str(spec.where).strip() if spec.where not in (None, "") else None
    text = "1" if spec.value in (None, "") else str(spec.value)
    condition = _sql(where, "where", name) if where else None
    value = _sql(text, "value", name)
    used = [
        *(condition.meta.root_names() if condition is not None else []),
        *value.meta.root_names(),
    ]
    for column in used:
        if column not in table.columns:
            near = difflib.get_close_matches(column, table.columns, n=1, cutoff=0.4)
            raise TargetError(
                f"{name} uses column {column!r}, which table {spec.over} does not have"
                + (f"; the nearest is {near[0]!r}" if near else ""),
                where=f"variable {name}",
                expected=f"columns of {spec.over}",
                remedy=(
                    "Mend the expression in data_specs/variables; text values stand in single"
                    " quotes"
                ),
            )
    absent = sorted(set(used) & empty_columns[spec.over])
    if absent:
        return (name, condition, value), Inexpressible(
            spec.variable,
            spec.domain,
            absent[0],
            f"column {', '.join(absent)} of {spec.over} is null for every record of this source",
        )
    for expression, part, good in ((condition, "where", _is_boolean), (value, "value", _is_number)):
        if expression is not None:
            _check_type(expression, part, good, table, name)
    return (name, condition, value), None


def _sql(text: str, part: str, name: str) -> pl.Expr:
    try:
        return pl.sql_expr(text)
    except (pl.exceptions.PolarsError, ValueError) as error:
        raise TargetError(
            f"`{part}` of {name} does not parse: {str(error).splitlines()[0]}",
            where=f"variable {name}, {part}: {text}",
            expected="an SQL expression over the table's columns",
            remedy="Mend the expression in data_specs/variables",
        ) from error


def _is_boolean(dtype: pl.DataType) -> bool:
    return dtype == pl.Boolean


def _is_number(dtype: pl.DataType) -> bool:
    return dtype.is_numeric() or dtype == pl.Boolean


def _check_type(
    expression: pl.Expr, part: str, good: object, table: pl.DataFrame, name: str
) -> None:
    where = f"variable {name}, {part}"
    try:
        dtype = table.lazy().select(expression.alias("x")).collect_schema()["x"]
    except pl.exceptions.PolarsError as error:
        raise TargetError(
            f"`{part}` of {name} cannot be evaluated: {str(error).splitlines()[0]}",
            where=where,
            expected="operands of one type",
            remedy="Mend the expression in data_specs/variables",
        ) from error
    if not good(dtype):
        expected = "a condition that is true or false" if part == "where" else "a number"
        raise TargetError(
            f"`{part}` of {name} is of type {dtype}",
            where=where,
            expected=expected,
            remedy="Mend the expression in data_specs/variables",
        )
