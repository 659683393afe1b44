"""States of any size in the publishers' formats, to try out size without anybody's files.

    python -m benchmarks.generate_state CA --tracts 9129 --pumas 265 --records 750000 --out DIR
    python -m benchmarks.generate_state CA RI VT --scale 0.1 --out DIR
    python -m benchmarks.generate_state --nation --scale 0.1 --out DIR
    geocal run --profile generated --specs DIR/specs --data DIR --states CA

Everything is SYNTHETIC: only the numbers of tracts, PUMAs and counties are real
(``generated_states.yaml``). The files are those of the ``sample`` profile. A state that is made
again, or added, joins those that the folder holds.

Belongs here: the command and the order of the files. Does not belong here: the size and plan of a
state (``generated_settings.py``), where its households live (``generated_residence.py``), what is
common to the states of a folder (``generated_folder.py``), formats (``pipeline/sample``).
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.generated_folder import PROFILE, finish_folder, note_size, part_folder
from benchmarks.generated_residence import MadeUp, build_state
from benchmarks.generated_settings import (
    Size,
    facts,
    first_cps_number,
    serial_numbers,
    settings_of,
    size_of,
)
from benchmarks.generated_taxes import spread_tax_units
from calibration_core.errors import GeocalError
from pipeline.sample.acs_files import write_acs_tables
from pipeline.sample.census2020 import write_census2020
from pipeline.sample.cps import write_cps
from pipeline.sample.estimates import (
    YEARS,
    state_controls,
    write_county_estimates,
    write_tract_puma,
)
from pipeline.sample.files import Folder
from pipeline.sample.irs import write_county, write_historic_table_2
from pipeline.sample.population import Population
from pipeline.sample.pums import integer_weights, write_pums
from pipeline.sample.ssa import oasdi_sheets, ssi_sheets
from pipeline.sample.surveys import Draw, one_year_draw, tract_survey


def write_state(out: Path, made: MadeUp, size: Size) -> None:
    """Every file of one state: its own in ``out``, national ones, in which it is the nation, in
    its part.
    """
    population, settings = made.population, made.population.settings
    part = part_folder(out, size.postal)
    shutil.rmtree(part, ignore_errors=True)
    folder, own = Folder(part), Folder(out)
    controls = state_controls(population)
    one_year = _whole_weights(one_year_draw(population, controls), population, controls)
    write_acs_tables(folder, population, tract_survey(population), one_year)
    write_census2020(folder, population)
    tracts = f"acs_tables/{size.postal.lower()}_tracts"
    shutil.rmtree(out / tracts, ignore_errors=True)
    (out / tracts).parent.mkdir(parents=True, exist_ok=True)
    (part / tracts).rename(out / tracts)
    write_pums(own, population, made.weight, controls, serial_numbers(size, settings))
    write_cps(folder, population, first_cps_number(size))
    returns = spread_tax_units(population)
    write_historic_table_2(folder, returns, settings)
    write_county(folder, returns, settings)
    for name, sheets, title in (
        ("ssi", ssi_sheets, "SSI Recipients"),
        ("oasdi", oasdi_sheets, "OASDI Beneficiaries"),
    ):
        titled = f"{title} by State and County, {settings.year} {settings.label}"
        content = json.dumps({"title": titled, "sheets": sheets(population)})
        folder.text(f"ssa/{name}_sc{settings.year % 100:02d}.json", content)
    write_county_estimates(folder, population)
    # Another vintage of the same, which no target is made of: growth is compared with it.
    write_county_estimates(folder, population, YEARS[:-1])
    write_tract_puma(folder, population)


def _whole_weights(drawn: Draw, population: Population, controls: dict[str, int]) -> Draw:
    """The survey with whole weights, as the Bureau's are: a state's classes add up exactly, and so
    do the nation's.
    """
    answers = np.flatnonzero(drawn.weight > 0)
    size = population.unit_size[population.residence.unit[answers]]
    (total,) = controls.values()
    weight = np.zeros(len(drawn.weight))
    weight[answers] = integer_weights(drawn.weight[answers], size, total)
    return Draw(weight, drawn.copies)


def generate(sizes: list[Size], out: Path, pairs: int) -> None:
    """Make the states, then the national files of all that ``out`` holds; says each one's size."""
    for size in sizes:
        began = time.perf_counter()
        made = build_state(settings_of(size))
        write_state(out, made, size)
        lives = made.population.residence
        counts = {
            "household_records": int(made.population.is_household.sum()),
            "person_records": len(made.population.skeleton.unit),
            "households_and_residents_of_group_quarters": int(lives.times.sum()),
            "pairs_of_record_and_tract": len(lives.unit),
        }
        note_size(out, size, counts)
        print(
            f"{size.postal} (SYNTHETIC): {size.tracts:,} tracts, {size.pumas:,} PUMAs, "
            + ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
            + f"; {time.perf_counter() - began:.0f} s, {_peak_gb():.1f} GB at most",
            flush=True,
        )
    began = time.perf_counter()
    states = finish_folder(out, pairs)
    seconds = time.perf_counter() - began
    print(f"National files of {len(states)} states: {seconds:.0f} s, {_peak_gb():.1f} GB at most")
    print(f"geocal run --profile {PROFILE} --specs {out}/specs --data {out}")


def _peak_gb() -> float:
    """Largest memory of this process so far, in 2^30 bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**30 if sys.platform == "darwin" else 2**20)


def main(arguments: list[str] | None = None) -> int:
    """The command; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.generate_state", description="SYNTHETIC states of any size."
    )
    parser.add_argument("states", nargs="*", metavar="STATE", help="postal codes")
    parser.add_argument("--nation", action="store_true", help="the 50 states and DC")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR")
    parser.add_argument("--tracts", type=int, help="of each state; default: as many as it has")
    parser.add_argument("--pumas", type=int, help="of each state; default: by its tracts")
    parser.add_argument("--records", type=int, help="household records of each state")
    parser.add_argument("--scale", type=float, default=1.0, help="times the real number of tracts")
    parser.add_argument("--pairs", type=int, default=60, help="pairs per tract in the profile")
    parser.add_argument("--seed", type=int, default=20240711)
    asked = parser.parse_args(arguments)
    states = list(facts().states) if asked.nation else asked.states
    if not states:
        parser.error("name states, or --nation")
    try:
        sizes = [
            size_of(
                postal,
                tracts=asked.tracts,
                pumas=asked.pumas,
                records=asked.records,
                scale=asked.scale,
                seed=asked.seed,
            )
            for postal in states
        ]
        generate(sizes, asked.out, asked.pairs)
    except GeocalError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
