"""Known totals of the sample: what its files add up to, in the form of
``data_specs/known_totals.yaml``.

Belongs here: that file. Does not belong here: the published series, or comparing.
"""

from __future__ import annotations

import polars as pl
import yaml

from pipeline.sample.estimates import YEARS, county_estimates, state_controls
from pipeline.sample.files import Folder
from pipeline.sample.population import Population
from pipeline.specs.known_totals import FILE

SOURCE = "SYNTHETIC: the population that the sample's files were drawn from"
# Tables of samples differ from the truth by what a sample of such a size does: RI of the sample
# (16,590 households) by 1 %, the DE of tests (545 households) by 7.5 %. Returns are rounded to 10
# in every cell.
SAMPLED, ROUNDED = 2.5, 0.02


def write_known_totals(folder: Folder, population: Population, tax_units: pl.DataFrame) -> None:
    """``known_totals.yaml``, which readers take in place of the published totals."""
    settings = population.settings
    postal = {state.fips: state.postal for state in settings.states}
    year, last = str(settings.year), str(YEARS[-1])
    estimates = county_estimates(population)
    latest = {
        name: float(sum(v[-1] for county, v in estimates.items() if county[:2] == fips))
        for fips, name in postal.items()
    }
    people = {postal[fips]: float(n) for fips, n in state_controls(population).items()}
    held, state = population.by_tract(population.is_household), population.geography.state
    households = {name: float(held[state == fips].sum()) for fips, name in postal.items()}
    filers = tax_units.filter("is_filer").group_by(pl.col("filing_tract").str.slice(0, 2)).len()
    returns = {postal[fips]: float(n) for fips, n in sorted(filers.iter_rows())}
    sampled = round(SAMPLED / min(households.values()) ** 0.5, 3)
    series = {
        "acs1_population": _series("persons", 0.0, {year: people}),
        "acs1_households": _series("households", sampled, {year: households}),
        "acs5_population": _series("persons", sampled, {year: people}),
        "acs5_households": _series("households", sampled, {year: households}),
        "pep_population": _series("persons", 0.0, {last: latest}),
        "irs_returns": _series("returns", ROUNDED, {year: returns}),
        "irs_county_returns": _series("returns", ROUNDED, {year: returns}),
        "county_count": _series("areas", 0.0, {"2020": _counties(population)}),
    }
    folder.text(FILE, "# SYNTHETIC\n" + yaml.safe_dump(series, sort_keys=False))


def _counties(population: Population) -> dict[str, float]:
    settings = population.settings
    return {
        s.postal: float(sum(c.fips[:2] == s.fips for c in settings.counties))
        for s in settings.states
    }


def _series(unit: str, tolerance: float, years: dict[str, dict[str, float]]) -> dict[str, object]:
    whole = {year: {**areas, "US": sum(areas.values())} for year, areas in years.items()}
    return {"unit": unit, "tolerance": tolerance, "source": SOURCE, "years": whole}
