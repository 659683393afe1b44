"""How well the nation's targets are met by the states' weights together.

Belongs here: adding up the states' fitted values, and the table of all states. Does not belong
here: measures of fit (``fit.py``) or solving: no step fits the nation itself, it is reached because
reconciled state targets add up to it.
"""

from __future__ import annotations

from collections.abc import Mapping

import polars as pl

from pipeline.ordered_sums import sum_in_order
from pipeline.reports.fit import summary_by, weight_summary
from pipeline.vocabulary import CALIBRATE, NATION, STATE, VARIABLE_KEY, is_area


def national_fits(national_targets: pl.DataFrame, fits: Mapping[str, pl.DataFrame]) -> pl.DataFrame:
    """Nation rows with ``fitted`` and ``fitted_dense`` (sums over states), ``states_needed``,
    ``states_fitted`` and ``not_fitted_reason``.

    Parameters
    ----------
    national_targets : target table of the nation and all its states; a nation's target is needed
        from every state with a row of it.
    fits : by state FIPS, the state's target table with columns ``fitted`` and ``fitted_dense``.

    A target is fitted only where every state it sums over has weights that fit it: a partial sum
    looks right and is wrong.
    """
    nation = national_targets.filter(pl.col("level") == NATION)
    needed = (
        national_targets.filter(pl.col("level") == STATE)
        .group_by(VARIABLE_KEY)
        .agg(pl.len().cast(pl.Int64).alias("states_needed"))
    )
    parts = [
        frame.filter(is_area(STATE, fips) & pl.col("fitted").is_not_null()).select(
            *VARIABLE_KEY, "fitted", "fitted_dense", _state=pl.lit(fips)
        )
        for fips, frame in sorted(fits.items())
    ]
    schema = {
        "variable": pl.String,
        "domain": pl.String,
        "fitted": pl.Float64,
        "fitted_dense": pl.Float64,
        "_state": pl.String,
    }
    sums = (
        pl.concat(parts or [pl.DataFrame(schema=schema)])
        .group_by(VARIABLE_KEY, maintain_order=True)
        .agg(
            sum_in_order("fitted", "_state"),
            sum_in_order("fitted_dense", "_state"),
            pl.len().cast(pl.Int64).alias("states_fitted"),
        )
    )
    joined = nation.join(needed, on=VARIABLE_KEY, how="left", maintain_order="left").join(
        sums, on=VARIABLE_KEY, how="left", maintain_order="left"
    )
    joined = joined.with_columns(pl.col("states_needed", "states_fitted").fill_null(0))
    whole = (pl.col("states_fitted") == pl.col("states_needed")) & (pl.col("states_needed") > 0)
    reason = (
        pl.when(whole)
        .then(pl.lit(""))
        .when(pl.col("role") != CALIBRATE)
        .then(pl.concat_str([pl.col("role"), pl.lit(": "), pl.col("reason").fill_null("")]))
        .otherwise(
            pl.format(
                "the nation is reached through its states: {} of {} have weights that fit it",
                "states_fitted",
                "states_needed",
            )
        )
    )
    return joined.with_columns(
        pl.when(whole).then("fitted"),
        pl.when(whole).then("fitted_dense"),
        reason.alias("not_fitted_reason"),
    )


def states_table(states: Mapping[str, tuple[pl.DataFrame, pl.DataFrame]]) -> pl.DataFrame:
    """``state, level``, then fit and weight figures: a row per state and level.

    ``states`` : by postal code, the state's fit report and its weights table.
    """
    rows = []
    for postal, (fit, weights) in states.items():
        figures = {name: pl.lit(value) for name, value in weight_summary(weights).items()}
        rows.append(summary_by(fit, "fitted").with_columns(state=pl.lit(postal), **figures))
    none = {"state": pl.String, "level": pl.String, "median_are": pl.Float64}
    table = pl.concat(rows, how="vertical_relaxed") if rows else pl.DataFrame(schema=none)
    first = ["state", "level"]
    return table.select(*first, *(name for name in table.columns if name not in first))
