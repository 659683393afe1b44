"""What the survey itself says: totals of every measured variable by design weights, with the
standard error that its replicate weights give.

Belongs here: estimates of a state and its PUMAs. Does not belong here: totals without an error, at
the state alone (``design_totals.py``), how a variable is evaluated (``expressions.py``), or what a
calibration makes of an estimate (``pipeline/targets``).

Each record counts with its own weight, as in ``design_totals.py``. With w_i the design weight,
w_i^r the r-th replicate weight and x_i what row i adds to a variable:

    estimate       = sum over i of w_i x_i
    standard_error = sqrt( 4 / 80 * sum over r of ( sum over i of w_i^r x_i - estimate )^2 )

and, carried to the target year, the same with each weight times the row's growth since the survey
(``growth.py``): ``carried`` and ``carried_standard_error``.

Reference: US Census Bureau, *PUMS Accuracy of the Data (2018)*; Fay and Train (1995), successive
difference replication. Amounts are dollars of the target year, counts are persons, households and
returns, of the survey's year and of the target year.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import polars as pl

from calibration_core.common.threads import one_thread
from pipeline.errors import RecordsError
from pipeline.records.design_totals import DESIGN_WEIGHT, with_design_weights
from pipeline.records.expressions import VariableLike, measure
from pipeline.records.growth import Growth
from pipeline.sources.base import SourceNote, merged_notes
from pipeline.sources.microdata.replicates import HOUSEHOLD, REPLICATES
from pipeline.vocabulary import PUMA, STATE, TARGET_KEY

ESTIMATE_SCHEMA: dict[str, pl.DataType] = {
    "level": pl.String(),
    "geoid": pl.String(),
    "variable": pl.String(),
    "domain": pl.String(),
    "unit": pl.String(),
    "estimate": pl.Float64(),
    "standard_error": pl.Float64(),
    "carried": pl.Float64(),
    "carried_standard_error": pl.Float64(),
    "records": pl.Int64(),
}

REPLICATE_FACTOR = 4.0 / len(REPLICATES)
"""Of the sum of squared deviations of the replicates."""

_TABLES = {
    "persons": ("household_id", "person_number"),
    "households": ("household_id",),
    "tax_units": ("household_id", "tax_unit"),
}
# Variables evaluated at a time, so that rows x variables stays small where a state is large.
_BLOCK = 24


class EstimatedVariable(VariableLike, Protocol):
    """What an estimate needs of a variable's specification: its unit as well."""

    @property
    def unit(self) -> str: ...


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one record table: weights (rows, 1 + replicates), growth of each row (rows,) or None,
    and the area of each row."""

    table: pl.DataFrame
    weights: np.ndarray
    growth: np.ndarray | None
    areas: tuple[tuple[str, str, np.ndarray], ...]


def survey_estimates(
    tables: Mapping[str, pl.DataFrame],
    replicates: pl.DataFrame | None,
    variables: Sequence[EstimatedVariable],
    state_fips: str,
    growth: Growth | None = None,
) -> tuple[pl.DataFrame, tuple[SourceNote, ...]]:
    """Estimates of a state and each of its PUMAs: ESTIMATE_SCHEMA sorted by level and key.

    Parameters
    ----------
    tables : the record tables ``persons``, ``households`` (with ``puma``) and ``tax_units``.
    replicates : REPLICATE_SCHEMA of ``sources/microdata/replicates.py``; without rows, or None,
        ``standard_error`` is null, which is noted.
    variables : what to estimate; those that the records cannot express are left out and noted.
    growth : of the state's persons, of ``population_growth``; None, and nothing is carried:
        ``carried`` is null.

    ``records`` counts the rows, unweighted, that add something other than zero. Raises RecordsError
    where a row has no weight or no replicate weights, and what ``measure`` raises.
    """
    weighted = with_design_weights(tables)
    known = replicates is not None and replicates.height > 0
    notes: list[SourceNote] = list(growth.notes) if growth is not None else []
    if not known:
        detail = "the survey's files hold no replicate weights: standard errors are unknown"
        notes.append(SourceNote("replicate_weights_absent", tables["persons"].height, detail))
    wanted = sorted(variables, key=lambda v: (v.variable, v.domain))
    pieces = []
    left_out = [f"{v.variable}/{v.domain}" for v in wanted if v.over is None]
    for over in _TABLES:
        own = [variable for variable in wanted if variable.over == over]
        rows = _rows(over, weighted, replicates if known else None, state_fips, growth)
        pieces += [
            piece
            for start in range(0, len(own), _BLOCK)
            for piece in _block(rows, over, own[start : start + _BLOCK], notes, left_out)
        ]
    if left_out:
        detail = f"variables that these records cannot express: {', '.join(sorted(left_out))}"
        notes.append(SourceNote("not_estimated", len(left_out), detail))
    made = pl.concat([pl.DataFrame(schema=ESTIMATE_SCHEMA), *pieces])
    return made.sort(TARGET_KEY), merged_notes(notes)


def _rows(
    over: str,
    tables: Mapping[str, pl.DataFrame],
    replicates: pl.DataFrame | None,
    fips: str,
    growth: Growth | None,
) -> _Rows:
    """Rows of one table, sorted by key: floating-point sums do not depend on row order."""
    table = tables[over].sort(_TABLES[over])
    weights = table[DESIGN_WEIGHT].to_numpy().astype(np.float64)[:, None]
    if replicates is not None:
        weights = np.hstack([weights, _replicates_of(over, table, replicates)])
    place = tables["households"].select("household_id", own_puma="puma")
    puma = table.select("household_id").join(
        place, on="household_id", how="left", maintain_order="left"
    )["own_puma"]
    everywhere = np.ones(table.height, dtype=bool)
    areas = [(STATE, fips, everywhere)]
    areas += [
        (PUMA, code, (puma == code).fill_null(False).to_numpy())
        for code in sorted(puma.drop_nulls().unique())
    ]
    ids = pl.Series("household_id", [f"{i:010d}" for i in range(table.height)], dtype=pl.String)
    # Each row its own unit: what a row adds is wanted, not what its household adds.
    grown = None if growth is None else growth.of(over, table, tables["persons"])
    return _Rows(table.with_columns(ids), weights, grown, tuple(areas))


def _replicates_of(over: str, table: pl.DataFrame, replicates: pl.DataFrame) -> np.ndarray:
    """(rows, 80): a household's own, a person's own, or those of a tax unit's primary person."""
    number = {
        "persons": pl.col("person_number"),
        "households": pl.lit(HOUSEHOLD),
        "tax_units": pl.col("primary_person"),
    }[over]
    keys = table.select("household_id", person_number=number.cast(pl.Int32))
    found = keys.join(
        replicates, on=["household_id", "person_number"], how="left", maintain_order="left"
    )
    if bare := found[REPLICATES[0]].null_count():
        first = found.filter(pl.col(REPLICATES[0]).is_null())["household_id"][0]
        raise RecordsError(
            f"{bare:,} rows of {over} have no replicate weights",
            where=f"household {first}",
            expected="replicate weights for every person and household",
            remedy="Build records and replicate weights from the same files",
        )
    return found.select(REPLICATES).to_numpy().astype(np.float64)


def _block(
    rows: _Rows,
    over: str,
    variables: Sequence[EstimatedVariable],
    notes: list[SourceNote],
    left_out: list[str],
) -> Iterator[pl.DataFrame]:
    """One piece of the table per area; notes and variables left out are added to the two lists."""
    measured = measure({over: rows.table}, variables, rows.table["household_id"])
    notes += measured.notes
    left_out += [f"{x.variable}/{x.domain}" for x in measured.inexpressible]
    unit = {(v.variable, v.domain): v.unit for v in variables}
    keys = measured.expressible
    for level, geoid, inside in rows.areas:
        added = measured.matrix[inside]
        with one_thread():
            totals = added.T @ rows.weights[inside]
            carried = None
            if rows.growth is not None:
                carried = (added * rows.growth[inside, None]).T @ rows.weights[inside]
        yield pl.DataFrame(
            {
                "level": [level] * len(keys),
                "geoid": [geoid] * len(keys),
                "variable": [key[0] for key in keys],
                "domain": [key[1] for key in keys],
                "unit": [unit[key] for key in keys],
                "estimate": totals[:, 0],
                "standard_error": _standard_error(totals),
                "carried": _null(keys) if carried is None else carried[:, 0],
                "carried_standard_error": (
                    _null(keys) if carried is None else _standard_error(carried)
                ),
                "records": np.count_nonzero(added, axis=0),
            },
            schema=ESTIMATE_SCHEMA,
        )


def _standard_error(totals: np.ndarray) -> pl.Series:
    """Of the first column of ``totals`` (variables, 1 + replicates); null without replicates."""
    if totals.shape[1] == 1:
        return _null(totals)
    deviations = totals[:, 1:] - totals[:, :1]
    return pl.Series(np.sqrt(REPLICATE_FACTOR * (deviations**2).sum(axis=1)))


def _null(like: Sized) -> pl.Series:
    return pl.Series([None] * len(like), dtype=pl.Float64)
