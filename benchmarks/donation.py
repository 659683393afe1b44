"""Donation from the CPS against the truth, on the SYNTHETIC sample, whose people are all known.

    python -m benchmarks.donation [--share 0.9] [--scale 1] [--item N]

The sample's whole population of each state borrows every item from the sample's CPS ASEC, read as
Census publishes it. A line per column and state says how far receivers and dollars are from what
the population really has, and how far the CPS itself is: an error of donation is what remains where
the donors are many (``--share`` of households that answer the CPS; the sample's own is 0.035).
``--item N`` prints only columns of the item N. ``docs/records_aligned.md`` quotes it.

Belongs here: that comparison and its table. Does not belong here: the draw, or the sample.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl

from pipeline.records.donation import Lenders, donate_items
from pipeline.sample.cps import write_cps
from pipeline.sample.files import Folder
from pipeline.sample.lent_items import lent_items
from pipeline.sample.population import (
    Population,
    build_population,
    canonical_households,
    canonical_persons,
)
from pipeline.sample.settings import SampleSettings, load_settings
from pipeline.sources.microdata.cps_asec import read_asec
from pipeline.sources.microdata.schema import HouseholdTable, PersonTable
from pipeline.specs.donation import ALL, load_donation

SCHEMA = {
    "item": pl.String,
    "column": pl.String,
    "state": pl.String,
    "receiving": pl.Float64,
    "dollars": pl.Float64,
    "cps_receiving": pl.Float64,
    "cps_dollars": pl.Float64,
}
ALTERNATIVE = "other_income_with_unemployment"
_UNEMPLOYMENT = "unemployment_compensation"
_MIN_AGE = 15


def settings_of(scale: float, share: float) -> SampleSettings:
    """The sample at ``scale`` with a CPS that ``share`` of households answer."""
    settings = load_settings()
    surveys = dict(settings.surveys)
    surveys["cps"] = surveys["cps"].model_copy(update={"share": share})
    return settings.model_copy(update={"surveys": surveys, "scale": scale})


def held_out(settings: SampleSettings, items: Sequence[str] = ALL, seed: int = 1) -> pl.DataFrame:
    """Relative errors (SCHEMA) of receivers and dollars after donation, and of the CPS itself;
    null where nobody has the column."""
    population = build_population(settings)
    with tempfile.TemporaryDirectory() as name:
        write_cps(Folder(Path(name)), population)
        year = settings.year + 1
        survey = read_asec(Path(name) / f"cps/asecpub{year % 100:02d}csv.zip", year=year)
    lenders = Lenders(survey.persons, survey.households)
    persons, homes = _asked_by_the_acs(population)
    rows = []
    for state in settings.states:
        own = (table.filter(state_fips=state.fips) for table in (persons, homes))
        made = donate_items(*own, lenders, load_donation().chosen(items), seed)
        truth = _truth(population, state.fips)
        for row in made.table.iter_rows(named=True):
            real = truth[row["column"]]
            rows.append(
                {
                    "item": row["item"],
                    "column": row["column"],
                    "state": state.postal,
                    "receiving": _error(row["after_receiving"], real[0]),
                    "dollars": _error(row["after_dollars"], real[1]),
                    "cps_receiving": _error(row["state_receiving"], real[0]),
                    "cps_dollars": _error(row["state_dollars"], real[1]),
                }
            )
    return pl.DataFrame(rows, schema=SCHEMA)


def _asked_by_the_acs(population: Population) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Everybody, as the ACS would have them: other income holds unemployment compensation."""
    persons = canonical_persons(population).with_columns(
        pl.col("other_income") + pl.col(_UNEMPLOYMENT),
        pl.lit(None, dtype=pl.Float64).alias(_UNEMPLOYMENT),
    )
    homes = canonical_households(population)
    return persons.select(list(PersonTable.columns())), homes.select(list(HouseholdTable.columns()))


def _truth(population: Population, fips: str) -> dict[str, tuple[float, float]]:
    """Receivers and dollars of every item in a state."""
    lent = lent_items(population)
    units = population.geography.state[population.unit_tract] == fips
    people = units[population.skeleton.unit]
    adults = people & (population.persons["age"] >= _MIN_AGE)
    amounts = {**lent.persons, _UNEMPLOYMENT: population.persons[_UNEMPLOYMENT]}
    found = {}
    for name, values in amounts.items():
        own = values[people if values.dtype == np.bool_ else adults]
        found[name] = (float(np.count_nonzero(own)), float(own.sum()))
    for name, values in lent.units.items():
        found[name] = (float(np.count_nonzero(values[units])), float(values[units].sum()))
    return found


def _error(value: float | None, real: float) -> float | None:
    return None if value is None or real == 0 else value / real - 1.0


def main(arguments: list[str] | None = None) -> None:
    """Print the table of both ways to donate other income."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--share", type=float, default=0.9)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--item", default="", help="only this item")
    given = parser.parse_args(arguments)
    settings = settings_of(given.scale, given.share)
    table = pl.concat([held_out(settings), held_out(settings, [ALTERNATIVE])])
    if given.item:
        table = table.filter(item=given.item)
    with pl.Config(tbl_rows=-1, tbl_width_chars=120, float_precision=3):
        print(table)


if __name__ == "__main__":
    main()
