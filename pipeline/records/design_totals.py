"""What the records add up to before calibration, each record counted with its own design weight.

Belongs here: which weight belongs to which record, and the weighted sum. Does not belong here: how
a variable is evaluated (``expressions.py``), the gap to a target
(``pipeline/targets/concept_gap.py``), or the prior of a unit (``pipeline/weights/candidates.py``).

    total[v] = sum over rows r of table over_v
               of  [where_v(r) is true] * value_v(r) * design_weight(r)

A survey weights persons and households apart: with the householder's weight on everybody, the
persons of the 2018 ACS of Rhode Island would count 6 per cent fewer than the survey says. Persons
have their person weight, households (and group-quarters persons as units of one) the household
weight, tax units the person weight of their primary person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pipeline.errors import RecordsError
from pipeline.records.expressions import VariableLike, measure
from pipeline.sources.base import SourceNote

DESIGN_WEIGHT = "design_weight"
TOTALS_SCHEMA: dict[str, pl.DataType] = {
    "variable": pl.String(),
    "domain": pl.String(),
    "total": pl.Float64(),
}


@dataclass(frozen=True)
class _Weighted:
    """A variable whose value is multiplied by the design weight of the row."""

    variable: str
    domain: str
    over: str | None
    where: str | None
    value: str
    not_expressible: str


def design_totals(
    tables: Mapping[str, pl.DataFrame], variables: Sequence[VariableLike]
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Design-weighted totals of one state: TOTALS_SCHEMA in the order given, without the variables
    these records cannot express; and counted notes.

    ``tables``: ``persons`` (household_id, person_number, design_weight), ``households``
    (household_id, design_weight), ``tax_units`` (household_id, primary_person). Raises RecordsError
    where a record has no design weight, and what ``measure`` raises.
    """
    weighted = [_weighted(variable) for variable in variables]
    # Sorted, so that floating-point sums do not depend on row order.
    measured = measure(
        with_design_weights(tables), weighted, tables["households"]["household_id"].sort()
    )
    keys = {name: TOTALS_SCHEMA[name] for name in ("variable", "domain")}
    names = pl.DataFrame(list(measured.expressible), schema=keys, orient="row")
    totals = pl.Series(measured.matrix.sum(axis=0), dtype=pl.Float64)
    return names.with_columns(total=totals), measured.notes


def _weighted(variable: VariableLike) -> _Weighted:
    value = "1" if variable.value in (None, "") else variable.value
    return _Weighted(
        variable.variable,
        variable.domain,
        variable.over,
        variable.where,
        f"({value}) * {DESIGN_WEIGHT}",
        getattr(variable, "not_expressible", "") or "",
    )


def with_design_weights(tables: Mapping[str, pl.DataFrame]) -> dict[str, pl.DataFrame]:
    """The three tables with the column ``design_weight``, a tax unit's from its primary person.
    Raises RecordsError naming a record without one.
    """
    persons = tables["persons"]
    primary = persons.select("household_id", DESIGN_WEIGHT, primary_person="person_number")
    keys = ["household_id", "primary_person"]
    weighted = {
        "persons": persons,
        "households": tables["households"],
        "tax_units": tables["tax_units"].join(primary, on=keys, how="left", maintain_order="left"),
    }
    for name, table in weighted.items():
        if table[DESIGN_WEIGHT].null_count():
            bare = table.filter(pl.col(DESIGN_WEIGHT).is_null())
            raise RecordsError(
                f"{bare.height:,} rows of {name} have no design weight",
                where=f"household {bare['household_id'].sort()[0]}",
                expected=(
                    "a weight for every person and household, and a primary person in every tax"
                    " unit"
                ),
                remedy="Build the three tables from the same persons",
            )
    return weighted
