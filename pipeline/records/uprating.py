"""Carrying the records' dollar amounts to another year by stated factors.

Belongs here: multiplying amounts, keeping totals and household sums consistent, listing what was
applied. Does not belong here: where a factor comes from (``data_specs/factors``), carrying targets,
or tax units (build those after uprating).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pipeline.errors import TargetError
from pipeline.ordered_sums import sum_across, sum_in_order
from pipeline.records.units import amount_sums
from pipeline.sources.microdata.schema import COMPONENTS


@dataclass(frozen=True)
class AmountFactor:
    """``value`` multiplies an amount; ``rule`` names how it was found (``cpi_u 2018 -> 2022``),
    ``source`` the publication.
    """

    value: float
    rule: str = ""
    source: str = ""


APPLIED_SCHEMA = {
    "column": pl.String,
    "factor": pl.Float64,
    "rule": pl.String,
    "source": pl.String,
    "persons": pl.Int64,
}


def uprate(
    tables: Mapping[str, pl.DataFrame], factors: Mapping[str, AmountFactor | float]
) -> tuple[dict[str, pl.DataFrame], pl.DataFrame]:
    """New tables with amounts multiplied, and the list of what was applied: column, factor, rule,
    source, persons (with a nonzero amount).

    ``factors`` has components of income only (COMPONENTS). ``total_income`` changes by the sum of
    the changes of its components, ``household_income`` by its members' changes, and ``aggregate_*``
    are summed anew, so that all stay consistent. ``poverty_ratio`` stays: threshold and income are
    both carried. The tables given are not changed. A tax_units table is refused. Raises TargetError
    for an unknown column, a factor that is not finite and positive, or missing persons.
    """
    where = "factors for the records"
    if "persons" not in tables:
        raise TargetError(
            "There is no persons table to uprate",
            where=where,
            expected="tables with persons",
            remedy="Pass the unit tables",
        )
    if "tax_units" in tables:
        raise TargetError(
            "Tax units cannot be uprated",
            where=where,
            expected="persons and households",
            remedy="Uprate first, then build tax units with the target year's rules",
        )
    stated = {
        name: factor if isinstance(factor, AmountFactor) else AmountFactor(float(factor))
        for name, factor in factors.items()
    }
    unknown = sorted(set(stated) - set(COMPONENTS))
    if unknown:
        raise TargetError(
            f"Factors are given for {', '.join(unknown)}",
            where=where,
            expected=f"components of income: {', '.join(COMPONENTS)}",
            remedy="Totals follow their components",
        )
    for name, factor in stated.items():
        if not (math.isfinite(factor.value) and factor.value > 0):
            raise TargetError(
                f"The factor of {name} is {factor.value}",
                where=where,
                expected="a finite positive number",
                remedy="Check the published series it comes from",
            )
    persons = tables["persons"]
    chosen = {name: stated[name] for name in COMPONENTS if name in stated}
    change = sum_across(
        [
            pl.lit(0.0),
            *(
                pl.col(name) * (factor.value - 1.0)
                for name, factor in chosen.items()
                if _in_total(name, persons)
            ),
        ]
    )
    changed = persons.with_columns(change.alias("__change"))
    carried = changed.with_columns(
        *((pl.col(name) * factor.value).alias(name) for name, factor in chosen.items()),
        pl.col("total_income") + pl.col("__change"),
    )
    result = {**tables, "persons": carried.drop("__change")}
    if "households" in tables:
        result["households"] = _households(tables["households"], carried)
    applied = pl.DataFrame(
        [
            {
                "column": name,
                "factor": factor.value,
                "rule": factor.rule,
                "source": factor.source,
                "persons": persons.filter(pl.col(name).fill_null(0.0) != 0).height,
            }
            for name, factor in chosen.items()
        ],
        schema=APPLIED_SCHEMA,
    )
    return result, applied


def _in_total(name: str, persons: pl.DataFrame) -> bool:
    """Unemployment compensation is part of ``other_income`` in the ACS, where a proxy or a donated
    amount must not count twice.
    """
    if name != "unemployment_compensation":
        return True
    return bool((persons["source"].str.starts_with("cps")).all())


def _households(households: pl.DataFrame, persons: pl.DataFrame) -> pl.DataFrame:
    changes = (
        persons.sort("household_id", "person_number")
        .group_by("household_id", maintain_order=True)
        .agg(sum_in_order("__change", "person_number"))
    )
    result = households.join(
        changes, on="household_id", how="left", maintain_order="left"
    ).with_columns(pl.col("household_income") + pl.col("__change").fill_null(0.0))
    rebuilt = amount_sums(persons)
    present = [
        name
        for name in rebuilt.columns
        if name.startswith("aggregate_") and name in households.columns
    ]
    if present:
        result = result.drop(present).join(
            rebuilt.select("household_id", *present),
            on="household_id",
            how="left",
            maintain_order="left",
        )
    return result.select(households.columns)
