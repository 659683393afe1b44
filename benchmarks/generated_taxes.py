"""Tax returns of a made-up state, where the households live that file them.

Belongs here: spreading the records' tax units over counties. Does not belong here: tax law
(``pipeline/sample/taxes.py``), publishing (``pipeline/sample/irs.py``).
"""

from __future__ import annotations

import numpy as np
import polars as pl

from pipeline.sample.population import Population
from pipeline.sample.taxes import build_tax_units

# Names of places and households, which no published table of returns holds but by county.
_UNUSED = ("household_id", "tract", "filing_tract")


def spread_tax_units(population: Population) -> pl.DataFrame:
    """Tax units by county with ``times``, how many there are of each: those of a record live where
    its households do. Who files from elsewhere than his home does so in the county drawn for him.
    """
    units = build_tax_units(population)
    record = units["household_id"].str.slice(6).cast(pl.Int64) - 1
    units = units.with_columns(
        record=record, elsewhere=pl.col("tract") != pl.col("filing_tract")
    ).drop(_UNUSED)
    lives, g = population.residence, population.geography
    counties, of_tract = np.unique(g.county, return_inverse=True)
    place, at = np.unique(lives.unit * len(counties) + of_tract[lives.tract], return_inverse=True)
    there = pl.DataFrame(
        {
            "record": place // len(counties),
            "county": pl.Series(counties).gather(place % len(counties)),
            "times": np.bincount(at, weights=lives.times).astype(np.int64),
        }
    )
    whole = there.group_by("record").agg(pl.col("times").sum())
    at_home = (
        units.filter(~pl.col("elsewhere"))
        .join(there, on="record", how="inner", maintain_order="left_right")
        .with_columns(county_fips=pl.col("county"))
        .drop("county")
    )
    away = units.filter("elsewhere").join(whole, on="record", how="inner", maintain_order="left")
    return pl.concat([at_home, away.select(at_home.columns)]).drop("record", "elsewhere")
