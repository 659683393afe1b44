"""What each unit contributes to each variable: SQL expressions of data_specs turned into one
matrix.

Belongs here: parsing and checking ``where`` and ``value``, null rules, the sum to the unit. Does
not belong here: which variables exist (``data_specs/variables``), targets, or weights.

    contribution[h, v] = sum over rows r of table over_v with household_id h
                         of  [where_v(r) is true] * value_v(r)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import polars as pl

from calibration_core.common.columns import Columns, column_sums, narrowed
from pipeline.errors import RecordsError, TargetError
from pipeline.sources.base import SourceNote
from pipeline.sources.microdata.schema import ALIGNED_AMOUNTS

_TIE_BREAKS = ("person_number", "tax_unit")
# Variables evaluated together, so that rows x variables stays small where a state is large.
_TOGETHER = 24


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
    """``values`` (H, V): row h is household_ids[h], column v is expressible[v] = (variable,
    domain), in the order given; ``matrix`` is the same as one array, where it is small.

    ``inexpressible`` lists the variables left out, with the reason; ``notes`` count null values
    taken as zero.
    """

    values: Columns
    household_ids: tuple[str, ...]
    expressible: tuple[tuple[str, str], ...]
    inexpressible: tuple[Inexpressible, ...]
    notes: tuple[SourceNote, ...]

    @cached_property
    def matrix(self) -> np.ndarray:
        """(H, V) float64."""
        return np.asarray(self.values)

    def totals(self, weights: np.ndarray) -> np.ndarray:
        """(V,) float64: sums by weights (H,), some rows after others; (n, V) by weights (n, H)."""
        found = column_sums(np.atleast_2d(weights), self.values)
        return found if weights.ndim > 1 else found[0]

    def column(self, variable: str, domain: str) -> np.ndarray:
        """Contributions of one variable, shape (H,)."""
        return self.values[:, self.expressible.index((variable, domain))]


@dataclass(frozen=True)
class _Parsed:
    """Both expressions of one variable; ``name`` for messages. No condition: every row counts."""

    name: str
    condition: pl.Expr | None
    value: pl.Expr

    @property
    def contribution(self) -> pl.Expr:
        """The value where the condition holds, else zero; float64."""
        value = self.value.cast(pl.Float64)
        return value if self.condition is None else pl.when(self.condition).then(value).otherwise(0)

    @property
    def columns(self) -> list[str]:
        """Columns that either expression reads."""
        asked = self.condition.meta.root_names() if self.condition is not None else []
        return [*asked, *self.value.meta.root_names()]


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
    # What expressions are checked against: the columns and their types.
    shells = {name: _floating(table.head(0)) for name, table in tables.items()}
    unknown = {name: _unknown_columns(table) for name, table in tables.items()}
    index = pl.DataFrame({"household_id": ids}).with_row_index("__unit")
    parsed: dict[str, dict[int, _Parsed]] = {}
    inexpressible: list[Inexpressible] = []
    expressible: list[tuple[str, str]] = []
    for spec in variables:
        if spec.over is None:
            said = getattr(spec, "not_expressible", "")
            reason = said or "the specification names no record table"
            inexpressible.append(Inexpressible(spec.variable, spec.domain, "", reason))
            continue
        item = _parse(spec, spec.over, shells)
        if absent := sorted(unknown[spec.over].intersection(item.columns)):
            names = f"column {', '.join(absent)} of {spec.over}"
            reason = f"{names} is null for every record of this source"
            if not set(absent) <= set(shells[spec.over].columns):
                reason = f"{names} is there only where the profile aligns records"
            inexpressible.append(Inexpressible(spec.variable, spec.domain, absent[0], reason))
            continue
        _check_types(item, shells[spec.over])
        parsed.setdefault(spec.over, {})[len(expressible)] = item
        expressible.append((spec.variable, spec.domain))
    columns: dict[int, np.ndarray] = {}
    notes: list[SourceNote] = []
    for over in sorted(parsed):
        notes += _accumulate(tables[over], over, parsed[over], index, columns)
    nothing, units = np.zeros(len(ids), dtype=np.uint8), tuple(ids.to_list())
    values = Columns.of([columns.get(i, nothing) for i in range(len(expressible))], len(ids))
    return Measured(values, units, tuple(expressible), tuple(inexpressible), tuple(notes))


def _floating(table: pl.DataFrame) -> pl.DataFrame:
    """SQL literals such as 3.0 are decimals: with an integer column polars would compute to six
    digits only. Whole numbers are exact as floats."""
    return table.with_columns(pl.selectors.integer().cast(pl.Float64))


def columns_read(variables: Sequence[VariableLike]) -> set[str] | None:
    """Names of the columns that the expressions read; None if one does not parse."""
    texts = [str(t) for v in variables for t in (v.where, v.value) if t not in (None, "")]
    try:
        return {name for text in texts for name in pl.sql_expr(text).meta.root_names()}
    except (pl.exceptions.PolarsError, ValueError):
        return None


def _unknown_columns(table: pl.DataFrame) -> set[str]:
    """Columns that are null for every record, and amounts that only alignment would have added."""
    without = set(ALIGNED_AMOUNTS) - set(table.columns)
    if table.is_empty():
        return without
    return without | {name for name in table.columns if table[name].null_count() == table.height}


def _accumulate(
    table: pl.DataFrame,
    over: str,
    items: Mapping[int, _Parsed],
    index: pl.DataFrame,
    columns: dict[int, np.ndarray],
) -> list[SourceNote]:
    """Evaluate the expressions of one table, some at a time, and add them up by unit; ``items`` by
    the place in ``columns`` that each fills, (units,) uint8 or float64.
    """
    if table.is_empty():
        return []
    ties = [name for name in _TIE_BREAKS if name in table.columns]
    read = {name for item in items.values() for name in item.columns}
    needed = dict.fromkeys(["household_id", *ties, *sorted(read)])
    table = table.select(list(needed))
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
    ordered = _floating(located.sort("__unit", *ties).drop("household_id"))
    unit, listed = located["__unit"].sort().to_numpy(), list(items.items())
    starts = np.flatnonzero(np.r_[True, unit[1:] != unit[:-1]])
    rows, notes = _Rows(ordered, over, unit[starts], starts), []
    for begin in range(0, len(listed), _TOGETHER):
        some = dict(listed[begin : begin + _TOGETHER])
        sums, found = rows.sums(some)
        notes += found
        for place, added in zip(some, sums.T, strict=True):
            whole = np.zeros(len(index))
            whole[rows.unit] = added
            columns[place] = narrowed(whole)
    return notes


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one record table, sorted by unit: the units that have any, and where theirs begin."""

    table: pl.DataFrame
    over: str
    unit: np.ndarray
    starts: np.ndarray

    def sums(self, items: Mapping[int, _Parsed]) -> tuple[np.ndarray, list[SourceNote]]:
        """What the expressions add up to in each unit, (units here, items) float64; notes."""
        columns = [item.contribution.alias(str(position)) for position, item in items.items()]
        try:
            # The unit is asked for too: where only constants are, one row would stand for all.
            evaluated = self.table.select("__unit", *columns).drop("__unit")
        except pl.exceptions.PolarsError:
            _explain(self.table, items.values())
            raise
        detail = f"rows of {self.over} that meet the condition but have no value"
        notes = [
            SourceNote("null_value_taken_as_zero", int(count), f"{item.name}: {detail}")
            for item, count in zip(items.values(), evaluated.null_count().row(0), strict=True)
            if count
        ]
        values = evaluated.fill_null(0.0).to_numpy()
        if not np.isfinite(values).all():
            bad = list(items.values())[int(np.argwhere(~np.isfinite(values))[0, 1])]
            raise TargetError(
                f"{bad.name} gives a value that is not finite",
                where=f"over {self.over}",
                expected="finite numbers",
                remedy="Guard a division against zero with CASE WHEN",
            )
        return np.add.reduceat(values, self.starts, axis=0), notes


def _explain(table: pl.DataFrame, items: Iterable[_Parsed]) -> None:
    """Find the variable whose expression cannot be evaluated. Raises TargetError naming it."""
    for item in items:
        try:
            table.head(1).select(item.contribution)
        except pl.exceptions.PolarsError as error:
            raise TargetError(
                f"The expression of {item.name} cannot be evaluated: {str(error).splitlines()[0]}",
                where=f"variable {item.name}",
                expected="a condition that is true or false, and a value that is a number",
                remedy="Mend `where` or `value` in data_specs/variables",
            ) from error


def _parse(spec: VariableLike, over: str, tables: Mapping[str, pl.DataFrame]) -> _Parsed:
    """Both expressions over an existing table's own columns. Raises TargetError, RecordsError."""
    name = f"{spec.variable} / {spec.domain}"
    if over not in tables:
        raise TargetError(
            f"{name} is measured over {over!r}",
            where=f"variable {name}",
            expected=f"one of {', '.join(sorted(tables))}",
            remedy="Mend `over` in data_specs/variables",
        )
    known = tables[over].columns
    if "household_id" not in known:
        raise RecordsError(
            f"Table {over} has no household_id",
            where=over,
            expected="the key of the unit in every table",
            remedy="Build the table from units",
        )
    where = str(spec.where).strip() if spec.where not in (None, "") else None
    text = "1" if spec.value in (None, "") else str(spec.value)
    condition = _sql(where, "where", name) if where else None
    item = _Parsed(name, condition, _sql(text, "value", name))
    for column in item.columns:
        if column not in known and column not in ALIGNED_AMOUNTS:
            near = difflib.get_close_matches(column, known, n=1, cutoff=0.4)
            raise TargetError(
                f"{name} uses column {column!r}, which table {over} does not have"
                + (f"; the nearest is {near[0]!r}" if near else ""),
                where=f"variable {name}",
                expected=f"columns of {over}",
                remedy=(
                    "Mend the expression in data_specs/variables; text values stand in single"
                    " quotes"
                ),
            )
    return item


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


def _check_types(item: _Parsed, table: pl.DataFrame) -> None:
    """Raises TargetError unless the condition is true or false and the value a number."""
    if item.condition is not None:
        kind = _type_of(item.condition, "where", table, item.name)
        _require_type(kind == pl.Boolean, "where", kind, item.name)
    kind = _type_of(item.value, "value", table, item.name)
    _require_type(kind.is_numeric() or kind == pl.Boolean, "value", kind, item.name)


def _type_of(expression: pl.Expr, part: str, table: pl.DataFrame, name: str) -> pl.DataType:
    try:
        return table.lazy().select(expression.alias("x")).collect_schema()["x"]
    except pl.exceptions.PolarsError as error:
        raise TargetError(
            f"`{part}` of {name} cannot be evaluated: {str(error).splitlines()[0]}",
            where=f"variable {name}, {part}",
            expected="operands of one type",
            remedy="Mend the expression in data_specs/variables",
        ) from error


def _require_type(good: bool, part: str, kind: pl.DataType, name: str) -> None:
    if not good:
        raise TargetError(
            f"`{part}` of {name} is of type {kind}",
            where=f"variable {name}, {part}",
            expected="a condition that is true or false" if part == "where" else "a number",
            remedy="Mend the expression in data_specs/variables",
        )
