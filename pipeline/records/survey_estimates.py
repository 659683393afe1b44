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
from typing import NamedTuple, Protocol

import numpy as np
import polars as pl

from calibration_core.common.threads import one_thread
from pipeline.errors import RecordsError
from pipeline.records.design_totals import DESIGN_WEIGHT, with_design_weights
from pipeline.records.expressions import VariableLike, columns_read, measure
from pipeline.records.growth import Growth
from pipeline.sources.base import SourceNote, merged_notes
from pipeline.sources.microdata.replicates import HOUSEHOLD, REPLICATES
from pipeline.vocabulary import PUMA, STATE, TARGET_KEY, Key

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
_PLACE = "__puma"


class EstimatedVariable(VariableLike, Protocol):
    """What an estimate needs of a variable's specification: its unit as well."""

    @property
    def unit(self) -> str: ...


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows of one record table, PUMA after PUMA: design weights (rows,), replicate weights (rows,
    80) or None, growth of each row (rows,) or None; ``parts``: the code and rows of each PUMA, ""
    of rows without one."""

    table: pl.DataFrame
    weight: np.ndarray
    replicates: np.ndarray | None
    growth: np.ndarray | None
    parts: tuple[tuple[str, slice], ...]
    fips: str

    def weights(self, rows: slice) -> np.ndarray:
        """(rows here, 1 + replicates) float64."""
        own = self.weight[rows, None]
        if self.replicates is None:
            return own
        return np.hstack([own, self.replicates[rows]])


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
        read = columns_read(own)
        rows = _rows(over, weighted, replicates if known else None, state_fips, growth, read)
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
    read: set[str] | None,
) -> _Rows:
    """Rows of one table, sorted by PUMA and key: floating-point sums do not depend on row order.
    ``read``: columns that are needed beside the keys; None, or where one is not there: all.
    """
    place = tables["households"].select("household_id", pl.col("puma").fill_null("").alias(_PLACE))
    table = tables[over]
    if read is not None and read <= set(table.columns):
        keys = {*_TABLES[over], DESIGN_WEIGHT, "primary_person"}
        table = table.select(name for name in table.columns if name in keys | read)
    table = table.join(place, on="household_id", how="left").sort(_PLACE, *_TABLES[over])
    weight = table[DESIGN_WEIGHT].to_numpy().astype(np.float64)
    known = None if replicates is None else _replicates_of(over, table, replicates)
    lengths = table.group_by(_PLACE).len().sort(_PLACE)
    ends = lengths["len"].cum_sum().to_list()
    pumas = zip(lengths[_PLACE], [0, *ends], ends, strict=False)
    parts = tuple((code, slice(begin, end)) for code, begin, end in pumas)
    table = table.drop(_PLACE)
    ids = pl.Series("household_id", [f"{i:010d}" for i in range(table.height)], dtype=pl.String)
    # Each row its own unit: what a row adds is wanted, not what its household adds.
    grown = None if growth is None else growth.of(over, table, tables["persons"])
    return _Rows(table.with_columns(ids), weight, known, grown, parts, fips)


def _replicates_of(over: str, table: pl.DataFrame, replicates: pl.DataFrame) -> np.ndarray:
    """(rows, 80) int32: a household's own, a person's own, or a tax unit's primary person's."""
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
    return found.select(REPLICATES).to_numpy(order="c")


def _block(
    rows: _Rows,
    over: str,
    variables: Sequence[EstimatedVariable],
    notes: list[SourceNote],
    left_out: list[str],
) -> Iterator[pl.DataFrame]:
    """One piece of the table per area; notes and variables left out are added to the two lists.
    The state's totals are the sums of its PUMAs', in their order."""
    measured = measure({over: rows.table}, variables, rows.table["household_id"])
    notes += measured.notes
    left_out += [f"{x.variable}/{x.domain}" for x in measured.inexpressible]
    unit = {(v.variable, v.domain): v.unit for v in variables}
    keys = measured.expressible
    whole = _Sums.none(len(keys), 1 if rows.replicates is None else 1 + len(REPLICATES))
    for code, here in rows.parts:
        added, weights = measured.values[here], rows.weights(here)
        grown = np.ones(len(added)) if rows.growth is None else rows.growth[here]
        with one_thread():
            carried = (added * grown[:, None]).T @ weights
            sums = _Sums(added.T @ weights, carried, np.count_nonzero(added, axis=0))
        whole = _Sums(*(a + b for a, b in zip(whole, sums, strict=True)))
        if code:
            yield _piece(PUMA, code, keys, unit, sums, rows.growth is not None)
    yield _piece(STATE, rows.fips, keys, unit, whole, rows.growth is not None)


class _Sums(NamedTuple):
    """(variables, 1 + replicates) totals, the same carried to the target year, and (variables,)
    rows that add something."""

    totals: np.ndarray
    carried: np.ndarray
    records: np.ndarray

    @classmethod
    def none(cls, variables: int, weights: int) -> _Sums:
        shape = (variables, weights)
        return cls(np.zeros(shape), np.zeros(shape), np.zeros(variables, dtype=np.int64))


def _piece(
    level: str,
    geoid: str,
    keys: Sequence[Key],
    unit: Mapping[Key, str],
    sums: _Sums,
    is_carried: bool,
) -> pl.DataFrame:
    """ESTIMATE_SCHEMA of one area."""
    return pl.DataFrame(
        {
            "level": [level] * len(keys),
            "geoid": [geoid] * len(keys),
            "variable": [key[0] for key in keys],
            "domain": [key[1] for key in keys],
            "unit": [unit[key] for key in keys],
            "estimate": sums.totals[:, 0],
            "standard_error": _standard_error(sums.totals),
            "carried": sums.carried[:, 0] if is_carried else _null(keys),
            "carried_standard_error": _standard_error(sums.carried) if is_carried else _null(keys),
            "records": sums.records,
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
