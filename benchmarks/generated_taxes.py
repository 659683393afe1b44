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
    its households do. Who files from elsewhere than his home does so from any county, a large one
    more likely.
    """
    units = build_tax_units(population)
    record = units["household_id"].str.slice(6).cast(pl.Int64) - 1
    away = pl.col("tract") != pl.col("filing_tract")
    units = units.with_columns(record=record, away=away).drop(*_UNUSED, "county_fips")
    lives, g = population.residence, population.geography
    counties, of_tract = np.unique(g.county, return_inverse=True)
    place, at = np.unique(lives.unit * len(counties) + of_tract[lives.tract], return_inverse=True)
    times = np.bincount(at, weights=lives.times).astype(np.int64)
    there = _rows(counties, place // len(counties), place % len(counties), times)
    at_home = units.filter(~pl.col("away")).join(there, on="record", maintain_order="left_right")

    moved = units.filter("away").with_row_index("place")
    chance = np.bincount(of_tract, weights=population.by_tract(population.is_household))
    rng = population.settings.stream("filing")
    count = population.residence.by_unit[moved["record"].to_numpy()].astype(np.int64)
    drawn = rng.multinomial(count, chance / chance.sum())
    who, where = np.nonzero(drawn)
    elsewhere = _rows(counties, who, where, drawn[who, where]).rename({"record": "place"})
    elsewhere = elsewhere.with_columns(pl.col("place").cast(pl.UInt32))
    spread = moved.join(elsewhere, on="place", maintain_order="left_right")
    return pl.concat([at_home, spread.select(at_home.columns)]).drop("record", "away")


def _rows(
    counties: np.ndarray, record: np.ndarray, county: np.ndarray, times: np.ndarray
) -> pl.DataFrame:
    named = pl.Series(counties).gather(county)
    return pl.DataFrame({"record": record, "county_fips": named, "times": times})
