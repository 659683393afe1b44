"""What each step that aligns records moves after calibration: steps on and off, all else the same.

    python -m benchmarks.alignment --data DIR [--profile rhode_island] [--state RI]
    python -m benchmarks.alignment --data DIR --records VT DE WY

For no step, and for the steps of ``data_specs/alignment.yaml`` one more at a time: dense weights,
and what they give for figures that no step aims at, against the survey's own total, for figures of
SSA and the IRS, against these, and for tract columns that nobody was told.
``docs/records_aligned.md`` quotes it. A state takes minutes for each line. With ``--records``
nothing is calibrated: the records of each state named, under the profile's rules, before and after
all steps, against the published figures.

Belongs here: those runs and that table. Does not belong here: the steps, or how weights compare.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import polars as pl

from benchmarks.state import LoadedState, load_state
from benchmarks.untold_columns import errors_of, overall, written_out
from benchmarks.untold_measures import untold_columns
from calibration_core.common.area_weights import AreaWeights
from pipeline import steps
from pipeline.records.assemble import assemble_records
from pipeline.reports.alignment import with_gaps
from pipeline.sources.of_profile import read_survey, read_tables
from pipeline.specs.alignment import STEPS
from pipeline.specs.catalog import load_catalog
from pipeline.specs.states import state_of
from pipeline.vocabulary import POPULATION, STATE, is_area, is_variable
from pipeline.weights.table import stored_dense

FILED = "case when is_filer then {} else 0 end"
# Name: table, value by row, and the official figure where there is one.
FIGURES: dict[str, tuple[str, str, tuple[str, str] | None]] = {
    "wages of persons": ("persons", "wages", None),
    "persons with wages over 100,000": ("persons", "wages > 100000", None),
    "investment income, reported": ("persons", "investment_income", None),
    "retirement income, reported": ("persons", "retirement", None),
    "self-employment, reported": ("persons", "self_employment", None),
    "total income": ("persons", "total_income", None),
    "employed": ("persons", "employment = 'employed'", None),
    "veterans": ("persons", "veteran", None),
    "disabled": ("persons", "disability", None),
    "poor": ("persons", "poverty_ratio < 100", None),
    "couples with own children": (
        "households",
        "household_type = 'married_couple' and own_children_under_18 > 0",
        None,
    ),
    "AGI": ("tax_units", FILED.format("agi"), ("usd_agi", "total")),
    "AGI of a million and more": (
        "tax_units",
        "case when is_filer and agi_class = '10' then agi else 0 end",
        ("usd_agi", "agi_1000000_plus"),
    ),
    "taxable Social Security": (
        "tax_units",
        FILED.format("taxable_social_security"),
        ("usd_taxable_social_security", "total"),
    ),
    "Social Security, persons": ("persons", "social_security > 0", ("persons", "oasdi")),
    "Social Security, dollars": ("persons", "social_security", ("usd_oasdi", "total")),
    "SSI, persons": ("persons", "ssi > 0", ("persons", "ssi")),
    "SSI, dollars": ("persons", "ssi", ("usd_ssi", "total")),
}


HELD_OUT = "held-out columns / PUMA's share"


def relative(state: LoadedState, weight: pl.DataFrame, fips: str) -> dict[str, float]:
    """Each figure's difference from the official one, else from the survey's own total."""
    own = state.inputs.national.filter(is_area(STATE, fips))
    rows = own.select("variable", "domain", "published_value").iter_rows()
    official = {(variable, domain): value for variable, domain, value in rows}
    records = state.inputs.records
    growth = official[POPULATION] / records["persons"]["design_weight"].sum()
    found = {}
    for name, (table, value, key) in FIGURES.items():
        column = f"{value}_reported" if name.endswith("reported") else value
        if column not in records[table].columns and name.endswith("reported"):
            column = value
        rows = records[table].join(weight, on="household_id", how="left")
        amount = pl.sql_expr(column).cast(pl.Float64).fill_null(0.0)
        held = rows.select((amount * pl.col("dense").fill_null(0.0)).sum()).item()
        if key is not None:
            found[name] = held / official[key] - 1
        else:
            designed = rows.select((amount * pl.col("design_weight")).sum()).item()
            found[name] = held / (designed * growth) - 1
    return found


BEFORE_CALIBRATION = (
    ("usd_agi", "total"),
    ("usd_agi", "agi_1000000_plus"),
    ("usd_wages", "total"),
    ("usd_self_employment", "total"),
    ("usd_investment", "total"),
    ("usd_taxable_social_security", "total"),
    ("returns", "with_taxable_social_security"),
)


def held_out(state: LoadedState, dense: AreaWeights, data: Path) -> float:
    """Error of the tract columns that nobody was told, over that of the PUMA's share: the geometric
    mean over the columns of ``untold_columns.yaml``."""
    columns, _ = untold_columns(state, data)
    errors = {
        "PUMA": [column.rmse(column.of_puma) for column in columns],
        "dense": errors_of(columns, written_out(dense)),
    }
    return overall(columns, errors)["dense"]["against PUMA"]


def records_of(profile_id: str, data: Path, postals: list[str]) -> None:
    """Print the records of each state before the first and after the last step."""
    catalog = load_catalog()
    profile = catalog.profile(profile_id)
    tables = read_tables(catalog, profile, profile.states[0], data)
    national = steps.national_targets(catalog, profile, tables)[1].frame
    for postal in postals:
        survey = read_survey(profile, data, postal)
        made = assemble_records(catalog, profile, survey.persons, survey.households, None, national)
        for key in BEFORE_CALIBRATION:
            rows = with_gaps(made.alignment).filter(is_variable(key))
            first, last = rows["gap_before"][0], rows["gap_after"][-1]
            print(f"{postal}  {'/'.join(key):<40} {first:>+8.1%} {last:>+8.1%}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--profile", default="rhode_island")
    parser.add_argument("--state", default="RI")
    parser.add_argument("--records", nargs="+", metavar="STATE")
    asked = parser.parse_args()
    if asked.records:
        records_of(asked.profile, asked.data, asked.records)
        return
    lines = {}
    for count in range(len(STEPS) + 1):
        state = load_state(asked.profile, asked.state, asked.data, STEPS[:count])
        dense, _ = steps.dense_weights(state.ready)
        sums = stored_dense(state.ready, dense).by_record()
        weight = pl.DataFrame({"household_id": state.ready.units["household_id"], "dense": sums})
        name = STEPS[count - 1] if count else "none"
        lines[name] = relative(state, weight, state_of(asked.state).fips)
        lines[name]["records' ESS"] = float(sums.sum() ** 2 / np.square(sums).sum())
        lines[name][HELD_OUT] = held_out(state, stored_dense(state.ready, dense), asked.data)
        print(f"{name} done", flush=True)
    print(" " * 34 + "".join(f"{name:>15}" for name in lines))
    forms = dict.fromkeys(FIGURES, "+15.1%") | {"records' ESS": "15,.0f", HELD_OUT: "15.3f"}
    for figure, form in forms.items():
        print(f"{figure:<34}" + "".join(f"{line[figure]:>{form}}" for line in lines.values()))


if __name__ == "__main__":
    main()
