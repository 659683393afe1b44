"""Totals of the known population behind the SYNTHETIC sample, so that weights can be judged against
the truth.

Belongs here: truth totals by area and variable. Does not belong here: making the population
(``pipeline/sample``), or anything for profiles of real files, whose truth nobody knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.records.expressions import measure
from pipeline.records.units import build_units
from pipeline.specs.variables import Variable
from pipeline.vocabulary import GEOID_LENGTH, LEVELS


def truth_totals(data_dir: Path, variables: Sequence[Variable], state_fips: str) -> pl.DataFrame:
    """Totals of every variable in the state, its counties and its tracts: ``level, geoid, variable,
    domain, truth``.

    Everybody counts where he lives, tax units too (the IRS counts them at the address on the
    return). Variables the population cannot express are left out. Raises StoreError if the sample's
    truth tables are missing.
    """
    from pipeline.sample.generate import read_truth

    truth = read_truth(data_dir)
    home = (
        truth.households.filter(pl.col("state_fips") == state_fips)
        .select("household_id", "tract")
        .sort("household_id")
    )
    persons, households, tax_units = (
        table.join(home, on="household_id", how="semi", maintain_order="left")
        for table in (truth.persons, truth.households, truth.tax_units)
    )
    units = build_units(persons, households)
    measured = measure(
        {"persons": units.persons, "households": units.households, "tax_units": tax_units},
        variables,
        home["household_id"],
    )
    pieces = []
    for level in LEVELS[1:]:
        geoids = home["tract"].str.head(GEOID_LENGTH[level])
        areas = geoids.unique().sort()
        index = geoids.replace_strict(
            areas, pl.int_range(len(areas), eager=True), return_dtype=pl.Int64
        ).to_numpy()
        totals = np.zeros((len(areas), len(measured.expressible)))
        np.add.at(totals, index, measured.matrix)
        area, key = np.divmod(np.arange(totals.size), max(totals.shape[1], 1))
        pieces.append(
            pl.DataFrame(
                {
                    "level": [level] * totals.size,
                    "geoid": areas.gather(area),
                    "variable": [measured.expressible[i][0] for i in key],
                    "domain": [measured.expressible[i][1] for i in key],
                    "truth": totals.ravel(),
                },
                schema_overrides={"level": pl.String, "variable": pl.String, "domain": pl.String},
            )
        )
    return pl.concat(pieces)
