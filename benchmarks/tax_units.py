"""Tax units before any calibration against the IRS: returns by filing status, state by state.

    python -m benchmarks.tax_units --data DIR [--profile counties_2018]

Survey persons of each state of the profile become tax units by the rule of
``pipeline/records/tax_units.py``, weighted by the primary person, in the dollars and under the law
of the records' own year. A line per state says how far returns by status are from Historic Table 2
of that year, and what the rule leaves aside: units that file nothing, units with children that file
nothing, single returns of partners in a household with two or more of its children, and dependents'
own returns. ``docs/records_aligned.md`` quotes it.

Belongs here: that comparison and its table. Does not belong here: the rule, or alignment.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from pipeline.records.donation import proxy_unemployment_compensation
from pipeline.records.tax_units import build_tax_units
from pipeline.sources.of_profile import read_survey
from pipeline.sources.registry import read_source
from pipeline.specs.catalog import load_catalog
from pipeline.specs.profiles import Profile
from pipeline.specs.states import state_of

STATUSES = {"single": "MARS1", "joint": "MARS2", "head_of_household": "MARS4"}
SOURCE = "irs_historic_table_2"
COLUMNS = (
    *("state", "returns", "single", "joint", "head_of_household", "other", "individuals"),
    *("no_return", "heads_without_return", "partners_of_parents", "dependents_own"),
)


def units_of(profile: Profile, data: Path, postal: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Tax units of one state with ``weight``, and its persons."""
    survey = read_survey(profile, data, postal)
    persons, _ = proxy_unemployment_compensation(survey.persons)
    units, _ = build_tax_units(persons, profile.records.income_year)
    weight = persons.select(
        "household_id",
        primary_person="person_number",
        weight="design_weight",
        relationship="relationship",
    )
    return units.join(weight, on=["household_id", "primary_person"], how="left"), persons


def compared(units: pl.DataFrame, persons: pl.DataFrame, irs: dict[str, float]) -> dict[str, float]:
    """Differences from the IRS (relative), and shares of what the rule leaves aside."""

    def held(condition: pl.Expr, value: pl.Expr | None = None) -> float:
        counted = units.filter(condition)
        amount = pl.col("weight") if value is None else pl.col("weight") * value
        return float(counted.select(amount.sum()).item() or 0.0)

    files, status = pl.col("is_filer"), pl.col("filing_status")
    returns = held(files)
    named = sum(irs[column] for column in STATUSES.values())
    other = held(files & ~status.is_in(list(STATUSES)))
    own = (pl.col("relationship") == "child") & (pl.col("age") < 19)
    parents = persons.filter(own).group_by("household_id").len().filter(pl.col("len") >= 2)
    partner = (pl.col("relationship") == "unmarried_partner") & pl.col("household_id").is_in(
        parents["household_id"].implode()
    )
    return {
        "returns": returns / irs["N1"] - 1,
        **{
            name: held(files & (status == name)) / irs[column] - 1
            for name, column in STATUSES.items()
        },
        "other": other / (irs["N1"] - named) - 1,
        "individuals": held(files, pl.col("individuals")) / irs["N2"] - 1,
        "no_return": held(~files) / held(pl.lit(True)),
        "heads_without_return": held(~files & (status == "head_of_household")) / irs["MARS4"],
        "partners_of_parents": held(files & (status == "single") & partner) / irs["MARS4"],
        "dependents_own": held(files & pl.col("is_dependent_return")) / returns,
    }


def table(profile: Profile, data: Path) -> pl.DataFrame:
    """COLUMNS, a row per state of the profile."""
    spec = load_catalog().sources[SOURCE]
    published = read_source(spec, str(profile.records.income_year), data).frame
    rows = []
    for postal in profile.states:
        own = published.filter(
            (pl.col("geoid") == state_of(postal).fips) & (pl.col("stratum") == "0")
        )
        irs = dict(own.select("column", "estimate").iter_rows())
        rows.append({"state": postal, **compared(*units_of(profile, data, postal), irs)})
    return pl.DataFrame(rows).select(COLUMNS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--profile", default="counties_2018")
    asked = parser.parse_args()
    found = table(load_catalog().profile(asked.profile), asked.data)
    print(" ".join(f"{name:>20}" for name in COLUMNS))
    for row in found.iter_rows(named=True):
        print(" ".join(f"{row[n]:>20}" if n == "state" else f"{row[n]:>+20.1%}" for n in COLUMNS))


if __name__ == "__main__":
    main()
